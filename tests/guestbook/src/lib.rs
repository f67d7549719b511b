//! A guestbook: whoever plays leaves a line to another user, who hears of it.
//!
//! It is a feature from outside, in a crate that knows `kaosnet` alone, and brings all that a feature can: operations with
//! routes, an event, a setting, a job, and what follows from sessions that end. The test beside it drives it through every
//! door.

use std::collections::BTreeMap;

use kaosnet::prelude::*;
use serde::{Deserialize, Serialize};

settings! {
    /// The guestbook.
    pub struct GuestbookSettings in "guestbook" {
        /// Lines that are kept; the oldest goes.
        lines_max: usize = 100, in 1..=10_000, unit "lines", shown to scripts;
        /// A word that no line may have.
        rude: String = "zounds".to_owned();
    }
}

/// The guestbook.
pub struct Guestbook;

impl Plugin for Guestbook {
    fn build(&self, app: &mut App) {
        app.settings::<GuestbookSettings>();
        let rude = app.world().resource::<GuestbookSettings>().rude.clone();
        app.init_resource::<Book>()
            .event::<Signed>(Event::new("guestbook.signed").about("Somebody left a line for you."))
            .pool(Pool::new(ReadLine::POOL).threads(1).queue(16))
            .job_with(move |_| Ok(Reader { rude: rude.clone() }), read_line, |_| ())
            .op(
                Op::new("guestbook.sign")
                    .about("Leaves a line for a user.")
                    .rest("POST /v1/guestbook")
                    .script(ScriptUse::Wait)
                    .args(&["to", "line"])
                    .price(2),
                sign,
            )
            .read_op(
                Op::new("guestbook.list")
                    .about("Lists the newest lines.")
                    .rest("GET /v1/guestbook")
                    .rest("POST /v1/guestbook/search")
                    .price(1),
                list,
            )
            .read_op(Op::new("guestbook.count").about("Counts lines and those who left.").server(), count)
            .add_systems(Frame, count_those_who_leave.in_set(Stage::Match).run_if(every_ms(1000)));
    }
}

#[derive(Resource, Default)]
struct Book {
    lines: Vec<Line>,
    left: BTreeMap<String, u32>,
}

/// A line of the book.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// The user who left it; empty: a script.
    pub from: String,
    /// The user for whom it is.
    pub to: String,
    /// What it says.
    pub line: String,
}

/// The event: a line was left.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Signed(pub Line);

/// A line to be left.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Sign {
    /// For whom.
    #[schemars(length(min = 1, max = 64))]
    pub to: String,
    /// What it says.
    #[schemars(length(max = 200))]
    pub line: String,
}

/// What became of it.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Left {
    /// Sessions that heard of it at once.
    pub heard: usize,
}

/// Reads a line as somebody who takes their time would.
#[derive(Serialize, Deserialize)]
struct ReadLine(String);

impl Job for ReadLine {
    type Out = bool;
    const NAME: &'static str = "guestbook.read_line";
    const POOL: &'static str = "readers";
}

/// What a reading thread keeps.
struct Reader {
    rude: String,
}

/// On a thread of its own, where it may take as long as it likes.
fn read_line(reader: &mut Reader, job: ReadLine, cx: &mut JobContext<'_>) -> Result<bool, Fault> {
    // It asks the frame, as a job may.
    let rooms = cx.ask("room.list", Bytes::from_static(b"{}"))?;
    let polite = !job.0.contains(&reader.rude);
    if !polite {
        cx.log(Level::Info, "guestbook", "a rude line was not taken");
    }
    Ok(polite && rooms.starts_with(b"["))
}

async fn sign(cx: Call, request: Sign) -> Result<Left, Fault> {
    let polite = cx.job(ReadLine(request.line.clone())).await?;
    if !polite {
        return Err(Fault::new(FaultKind::Precondition, "the guestbook takes polite lines only"));
    }
    cx.with(|world| {
        let from = cx.caller().identity(world).map(|identity| identity.user_id.clone()).unwrap_or_default();
        let line = Line { from, to: request.to, line: request.line };
        let lines_max = world.resource::<GuestbookSettings>().lines_max;
        let mut book = world.resource_mut::<Book>();
        book.lines.push(line.clone());
        let over = book.lines.len().saturating_sub(lines_max);
        book.lines.drain(..over);
        let pushed = push(world, &Target::User(line.to.clone()), Signed(line))?;
        Ok(Left { heard: pushed.sessions })
    })
}

/// What is asked of the list.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Search {
    /// Lines for this user.
    pub to: Option<String>,
    /// Lines at most.
    #[schemars(range(min = 1, max = 50))]
    pub limit: Option<usize>,
}

fn list(world: &World, _: &Caller, search: Search) -> Result<Vec<Line>, Fault> {
    let lines = world.resource::<Book>().lines.iter().rev();
    let found = lines.filter(|line| search.to.as_ref().is_none_or(|to| *to == line.to));
    Ok(found.take(search.limit.unwrap_or(10)).cloned().collect())
}

/// What the book counts.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// Lines in it.
    pub lines: usize,
    /// Sessions that ended, by why.
    pub left: BTreeMap<String, u32>,
}

fn count(world: &World, _: &Caller, (): ()) -> Result<Count, Fault> {
    let book = world.resource::<Book>();
    Ok(Count { lines: book.lines.len(), left: book.left.clone() })
}

fn count_those_who_leave(mut ends: FactReader<SessionEnding>, mut book: ResMut<Book>) {
    for end in ends.read() {
        *book.left.entry(end.reason.to_owned()).or_default() += 1;
    }
}
