//! Calls as files: who calls what, and what comes of it, the same over every door that reaches the operation.
//!
//! A file of `tests/data/calls` has the cases of one noun. Each case runs on a server of its own, once for each [`Door`] that
//! reaches one of its operations; the steps that a door does not reach are then made by a session. What differs by design
//! stands in the file, in a line that begins with `over`. `UPDATE=1` writes the expected lines anew, from what came over the
//! first door.

mod doors;
mod file;
mod kit;
mod live;
mod pattern;

use std::path::Path;

use kaosnet::testing::Setup;

use doors::{Door, Stage};
use file::{Answer, Case, File, Step};
use pattern::Bound;

/// The folder of the cases, and of the scripts of their server.
fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/calls")
}

fn setup() -> Setup {
    kaosnet::testing::server(folder().join("scripts"))
}

#[test]
fn a_call_has_the_same_answer_over_every_door() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut paths: Vec<_> = std::fs::read_dir(folder())
        .expect("a folder")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    paths.sort();
    let mut wrong = Vec::new();
    let mut cases = 0;
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("readable");
        let mut file = File::read(&text).unwrap_or_else(|error| panic!("{name}:{error}"));
        for case in &mut file.cases {
            cases += 1;
            let mut run = Run { update, wrong: Vec::new(), before: vec![None; case.steps.len()] };
            Door::ALL.into_iter().for_each(|door| run.over(case, door));
            wrong.extend(run.wrong.into_iter().map(|sentence| format!("{name}:{sentence}")));
        }
        if update {
            std::fs::write(&path, file.write()).expect("written");
        }
    }
    assert!(cases >= 10, "{cases} cases");
    assert!(wrong.is_empty(), "\n\n{}\n\nUPDATE=1 writes what came\n", wrong.join("\n\n"));
}

/// The runs of one case.
struct Run {
    update: bool,
    wrong: Vec<String>,
    /// With `UPDATE`: what stood there of each step that has its expectation anew.
    before: Vec<Option<Vec<(Door, Answer)>>>,
}

impl Run {
    fn over(&mut self, case: &mut Case, door: Door) {
        let mut stage = Stage::start(door);
        if !case.steps.iter().any(|step| stage.reaches(step, &step.request)) {
            return;
        }
        let mut bound = Bound::default();
        for (at, step) in case.steps.iter_mut().enumerate() {
            let place = format!("{}: {} over {}", step.line, step.op, door.name());
            let request = match bound.fill(&step.request) {
                Ok(request) => request,
                Err(unknown) => {
                    self.wrong.push(format!("{place}: nothing before it is called <{unknown}>"));
                    return;
                }
            };
            let reached = stage.reaches(step, &request);
            let Some(came) = stage.answer(step, &request) else { continue };
            if self.update {
                self.rewrite(at, step, reached.then_some(door), &came, &mut bound);
                continue;
            }
            let own = step.over.iter().find(|(of, _)| reached && *of == door).map(|(_, answer)| answer);
            let expected = own.unwrap_or(&step.expected);
            if let Err(why) = came.fits(expected, &step.op, &mut bound) {
                self.wrong.push(format!("{place}: {why}\nexpected {expected}\n    came {came}"));
            }
        }
        stage.end();
    }

    /// Makes a step expect what came: of the first door as what holds for all, of others only what differs. `door` is the
    /// one that the step was made through, if it is the one of the run. Names that stood there stay.
    fn rewrite(&mut self, at: usize, step: &mut Step, door: Option<Door>, came: &Answer, bound: &mut Bound) {
        let Some(before) = &self.before[at] else {
            self.before[at] = Some(std::mem::take(&mut step.over));
            step.expected = came.named(&step.op, Some(&step.expected), bound);
            return;
        };
        let differs = came.fits(&step.expected, &step.op, bound).is_err();
        if let Some(door) = door.filter(|_| differs) {
            let old = before.iter().find(|(of, _)| *of == door).map(|(_, answer)| answer);
            step.over.push((door, came.named(&step.op, old, bound)));
        }
    }
}

impl Answer {
    /// This answer as it is written into a file: what differs from run to run has a name.
    fn named(&self, op: &str, old: Option<&Answer>, bound: &mut Bound) -> Answer {
        match (self, old) {
            (Answer::Reply(came), Some(Answer::Reply(old))) => Answer::Reply(bound.name(came, Some(old), "")),
            (Answer::Reply(came), _) => Answer::Reply(bound.name(came, None, "")),
            (Answer::Refused { .. }, Some(old)) if self.fits(old, op, bound).is_ok() => old.clone(),
            (Answer::Refused { name, sentence }, _) => {
                Answer::Refused { name: name.clone(), sentence: bound.name_in(sentence) }
            }
        }
    }

    /// Is it the one that was expected?
    ///
    /// # Errors
    /// The first place that differs.
    fn fits(&self, expected: &Answer, op: &str, bound: &mut Bound) -> Result<(), String> {
        match (expected, self) {
            (Answer::Reply(expected), Answer::Reply(came)) => bound.fits(expected, came, ""),
            (Answer::Refused { name: Some(name), .. }, Answer::Refused { name: Some(came), .. })
                if name != came =>
            {
                Err("another name".to_owned())
            }
            (Answer::Refused { sentence: expected, .. }, Answer::Refused { name, sentence: came }) => {
                // A script knows the function that it called, which its sentence begins with.
                let own = expected.strip_prefix(&format!("{op}: ")).filter(|_| name.is_none());
                let same = bound.text_fits(own.unwrap_or(expected), came);
                if same { Ok(()) } else { Err("another sentence".to_owned()) }
            }
            (Answer::Reply(_), Answer::Refused { .. }) => Err("a refusal instead of a reply".to_owned()),
            (Answer::Refused { .. }, Answer::Reply(_)) => Err("a reply instead of a refusal".to_owned()),
        }
    }
}
