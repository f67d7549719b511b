//! Rooms with a runtime that breaks: what panics in a match or hook ends that room or call, and no other.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use kaos_kernel::event::EventRow;
use kaos_kernel::ids::{PeerId, Ticket};
use kaos_kernel::input::{Body, Boot, Claim, Door, Input};
use kaos_kernel::op::{OpRow, Payload};
use kaos_kernel::output::Outputs;
use kaos_kernel::prelude::*;
use kaos_kernel::script::{
    Admission, Batch, Command, Env, HookContext, Match, MatchError, MatchErrorKind, MatchSeed, OpenedMatch,
    ScriptHost, Scripts, Summary, TickOutcome,
};
use kaos_kernel::server::{Build, Server};
use serde_json::{Value as Json, json};

use crate::members::join;
use crate::{DueRooms, Matches, RoomClosed, Rooms, Spec, close_room, create_room};

/// A runtime that panics where its module says.
struct Breaking;

struct Game {
    breaks: String,
    ticks: u64,
}

impl Game {
    fn may_break(&self, callback: &str) {
        assert_ne!(self.breaks, callback, "a defect of the runtime");
    }
}

impl Scripts for Breaking {
    fn summary(&self) -> Summary {
        let matches = [
            "match_init",
            "match_join_attempt",
            "match_signal",
            "match_loop",
            "memory",
            "sound",
            "bad_label",
        ];
        Summary {
            matches: matches.map(str::to_owned).into(),
            before: ["room_list".to_owned()].into(),
            ..Summary::default()
        }
    }

    fn open(
        &mut self,
        env: &mut Env<'_>,
        module: &str,
        _: MatchSeed,
        _: &Json,
    ) -> Result<OpenedMatch, MatchError> {
        let game = Game { breaks: module.to_owned(), ticks: 0 };
        game.may_break("match_init");
        if module == "bad_label" {
            let op = env.ops.by_name("room.create").expect("registered").id;
            env.commands.push(Command { op, request: Box::new(crate::ops::create::Create::default()) });
        }
        let label = if module == "bad_label" { json!(7) } else { json!("") };
        Ok(OpenedMatch { game: Box::new(game), tick_rate: 10, label, max_players: None })
    }

    fn before(
        &mut self,
        _: &mut Env<'_>,
        _: &OpRow,
        _: &HookContext,
        _: Box<dyn Payload>,
    ) -> Result<Box<dyn Payload>, Fault> {
        panic!("a defect of the runtime")
    }

    fn after(
        &mut self,
        _: &mut Env<'_>,
        _: &OpRow,
        _: &HookContext,
        _: &Json,
        _: Result<&dyn Payload, &Fault>,
    ) {
    }

    fn heard(&mut self, _: &mut Env<'_>, _: &EventRow, _: &HookContext, _: &Target, _: &Json) {}

    fn hash(&mut self) -> u64 {
        0
    }
}

impl Match for Game {
    fn join_attempt(&mut self, _: &mut Env<'_>, _: &PresenceInfo, _: &Json) -> Result<Admission, MatchError> {
        self.may_break("match_join_attempt");
        if self.breaks == "memory" {
            let (callback, kind) = ("match_join_attempt", MatchErrorKind::Memory);
            return Err(MatchError::new(callback, kind, "not enough memory"));
        }
        Ok(Admission::Yes)
    }

    fn tick(&mut self, _: &mut Env<'_>, batch: &Batch<'_>) -> TickOutcome {
        self.may_break("match_loop");
        self.ticks += u64::from(batch.tick.is_some());
        TickOutcome::default()
    }

    fn signal(&mut self, _: &mut Env<'_>, data: &Json) -> Result<Json, MatchError> {
        self.may_break("match_signal");
        Ok(data.clone())
    }

    fn terminate(&mut self, _: &mut Env<'_>, _: u32) -> Result<(), MatchError> {
        Ok(())
    }

    fn set_label(&mut self, _: &Json) {}

    fn hash(&mut self) -> u64 {
        self.ticks
    }

    fn state(&mut self) -> Json {
        json!(self.ticks)
    }

    fn memory_bytes(&mut self) -> usize {
        0
    }
}

struct Kit {
    server: Server,
    frame: u64,
    outputs: Outputs,
    session: SessionId,
}

fn kit() -> Kit {
    let server = Server::build(Build::default(), |app| {
        app.add_plugins(Rooms);
        app.insert_non_send(ScriptHost(Box::new(Breaking)));
    });
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    let mut kit = Kit { server, frame: 0, outputs: Outputs::default(), session: SessionId(0) };
    let peer = PeerId { slot: 0, generation: 1 };
    let claim = Claim::Anonymous { name: "ada".into() };
    kit.run(vec![
        Input::Boot(Boot { seed: 1, wall_ms: 1_700_000_000_000, node: 1 }),
        Input::Open { peer, door: Door::Memory, address: Ipv4Addr::LOCALHOST.into() },
        Input::Start { peer, claim, fresh: [1; 16], vars: BTreeMap::new() },
    ]);
    let first = kit.server.world().resource::<SessionIndex>().iter().next();
    kit.session = first.expect("started").0;
    kit
}

impl Kit {
    fn run(&mut self, mut inputs: Vec<Input>) {
        self.server.frame(self.frame, &mut inputs, &mut self.outputs);
        self.frame += 1;
    }

    fn room(&mut self, module: &str) -> Result<RoomId, Fault> {
        let spec = Spec { module: module.to_owned(), ends_empty: true, ..Spec::default() };
        create_room(self.server.world(), spec)
    }

    fn exists(&mut self, id: RoomId) -> bool {
        self.server.world().room(id).is_some()
    }

    fn call(&mut self, op: &str, body: &Json) -> Option<Result<bytes::Bytes, Fault>> {
        let body = Body::Json(body.to_string().into());
        let address = Ipv4Addr::LOCALHOST.into();
        let identity = Some(kaos_kernel::input::Identity::default());
        self.run(vec![Input::Call { ticket: Ticket(2), op: op.into(), identity, address, body }]);
        self.outputs.replies.pop().map(|reply| reply.result)
    }
}

#[test]
fn a_match_that_panics_in_any_callback_ends_alone() {
    for breaks in ["match_join_attempt", "match_loop", "memory"] {
        let mut kit = kit();
        let (sound, broken) = (kit.room("sound").expect("made"), kit.room(breaks).expect("made"));
        let session = kit.session;
        let joined = join(kit.server.world(), session, broken, &json!({}));
        assert_eq!(joined.is_err(), breaks != "match_loop", "{breaks}");
        for _ in 0..1000 {
            kit.run(Vec::new());
        }
        assert!(!kit.exists(broken), "{breaks}: its room is over");
        assert!(kit.exists(sound));
        let ticks = crate::match_state(kit.server.world(), sound);
        assert!(ticks.and_then(|ticks| ticks.as_u64()).is_some_and(|ticks| ticks >= 4), "{breaks}");
    }
}

#[test]
fn a_match_that_cannot_begin_leaves_nothing_and_what_it_ordered_is_not_done() {
    for module in ["match_init", "bad_label"] {
        let mut kit = kit();
        let before = kit.server.population();
        kit.room(module).expect_err("it cannot begin");
        kit.run(Vec::new());
        kit.run(Vec::new());
        assert_eq!(kit.server.population(), before, "{module}");
        let world = kit.server.world();
        assert!(world.get_non_send::<Matches>().is_some_and(|matches| matches.by_room.is_empty()));
        kit.room("sound").expect("the runtime is still there");
    }
}

#[test]
fn a_hook_that_panics_refuses_its_call_and_the_server_goes_on() {
    let mut kit = kit();
    for _ in 0..2 {
        let refused = kit.call("room.list", &json!({})).expect("answered").expect_err("a defect");
        assert_eq!(refused.kind, FaultKind::Internal);
    }
    let gone = kit.call("room.get", &json!({ "room_id": RoomId(kaos_kernel::ids::Uuid::nil()) }));
    assert_eq!(gone.expect("answered").expect_err("no such room").kind, FaultKind::NotFound);
}

#[test]
fn a_room_that_is_over_leaves_nothing_on_the_agenda() {
    let mut kit = kit();
    for late in [0, 700] {
        let id = kit.room("sound").expect("made");
        kit.run(Vec::new());
        // A late runner: the next tick is entered for the next frame and not for when it was due.
        kit.frame += late;
        kit.run(Vec::new());
        close_room(kit.server.world(), id, RoomClosed::well("ended", ""));
        let due = kit.server.world().resource::<DueRooms>();
        assert!(due.ticks.is_empty() && due.empty.is_empty() && due.events.is_empty());
    }
}
