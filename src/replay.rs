//! Replay: makes a journaled run again and compares what it comes to.

use std::collections::BTreeSet;

use kaos_kernel::input::Input;
use kaos_kernel::journal::{Header, JournalError, Reader, Record};
use kaos_kernel::output::Outputs;
use kaos_kernel::server::Server;
use kaos_kernel::settings::Settings;

/// What a replay ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    /// Frames that ran.
    pub frames: u64,
    /// Inputs.
    pub inputs: u64,
    /// Checks that were compared.
    pub checks: u64,
    /// The last frame.
    pub last_frame: u64,
    /// The hash of all outputs.
    pub outputs_hash: u64,
    /// The hash of the state at the end.
    pub state_hash: u64,
}

/// Why a replay is not equal, or could not be made.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The server is another than the one that wrote the journal.
    #[error("this journal was written with another {what}: it had {had}, this server has {has}")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// The journal's.
        had: String,
        /// The server's.
        has: String,
    },
    /// The first check that differs.
    #[error(
        "frame {frame}: the {what} differs: expected {expected:016x}, came {came:016x} (the last equal check was at frame {equal_until})"
    )]
    Differs {
        /// The frame of the check.
        frame: u64,
        /// `outputs` or `state`.
        what: &'static str,
        /// In the journal.
        expected: u64,
        /// Now.
        came: u64,
        /// The frame of the check before.
        equal_until: u64,
    },
    /// A frame number that does not grow.
    #[error("the journal is out of order: frame {frame} comes after frame {after}")]
    OutOfOrder {
        /// The frame.
        frame: u64,
        /// The one before.
        after: u64,
    },
}

/// Makes the run of a journal again on a fresh server: frames that were due, frames that had inputs, and
/// compares outputs and state at every check.
///
/// # Errors
/// The first thing that differs.
pub fn replay(journal: &[u8], mut server: Server) -> Result<Replayed, ReplayError> {
    let (header, records) = Reader::new(journal)?;
    fits(&header, server.header())?;
    let mut run = Run { outputs: Outputs::default(), done: Replayed::default(), next: 0 };
    let mut equal_until = 0;
    for record in records {
        match record? {
            Record::Frame { frame, after, mut inputs } => {
                if frame < run.next {
                    return Err(ReplayError::OutOfOrder { frame, after: run.next.saturating_sub(1) });
                }
                run.due_before(&mut server, after.saturating_add(1).min(frame));
                run.frame(&mut server, frame, &mut inputs);
            }
            Record::Check { frame, outputs_hash, state_hash } => {
                run.due_before(&mut server, frame.saturating_add(1));
                let state = server.state_hash();
                let outputs = server.outputs_hash();
                for (what, expected, came) in
                    [("outputs", outputs_hash, outputs), ("state", state_hash, state)]
                {
                    if expected != came {
                        return Err(ReplayError::Differs { frame, what, expected, came, equal_until });
                    }
                }
                equal_until = frame;
                run.done.checks += 1;
            }
        }
    }
    run.done.outputs_hash = server.outputs_hash();
    run.done.state_hash = server.state_hash();
    Ok(run.done)
}

struct Run {
    outputs: Outputs,
    done: Replayed,
    next: u64,
}

impl Run {
    fn frame(&mut self, server: &mut Server, frame: u64, inputs: &mut Vec<Input>) {
        self.done.frames += 1;
        self.done.inputs += inputs.len() as u64;
        self.done.last_frame = frame;
        self.next = frame.saturating_add(1);
        server.frame(frame, inputs, &mut self.outputs);
    }

    /// Frames that ran since they were due and had no input are not in the journal: the server knows them.
    fn due_before(&mut self, server: &mut Server, frame: u64) {
        while let Some(due) = server.due().map(|due| due.max(self.next)).filter(|due| *due < frame) {
            self.frame(server, due, &mut Vec::new());
        }
    }
}

fn fits(had: &Header, has: &Header) -> Result<(), ReplayError> {
    let differs = |what, had: String, has: String| Err(ReplayError::Foreign { what, had, has });
    if had.version != has.version {
        return differs("version", had.version.clone(), has.version.clone());
    }
    if had.quantum_us != has.quantum_us {
        return differs("frame length", format!("{} µs", had.quantum_us), format!("{} µs", has.quantum_us));
    }
    if had.scripts_hash != has.scripts_hash {
        return differs(
            "scripts",
            format!("{:016x}", had.scripts_hash),
            format!("{:016x}", has.scripts_hash),
        );
    }
    if had.ops != has.ops {
        return differs("operations", had.ops.join(" "), has.ops.join(" "));
    }
    if had.settings != has.settings {
        let (had, has) = different_settings(&had.settings, &has.settings);
        return differs("setting", had, has);
    }
    Ok(())
}

/// The keys that are not the same, with their values: of two headers, which hold every key.
fn different_settings(had: &str, has: &str) -> (String, String) {
    let read = |text| serde_json::from_str::<Settings>(text);
    let (Ok(had), Ok(has)) = (read(had), read(has)) else { return (had.to_owned(), has.to_owned()) };
    let keys: BTreeSet<&str> = had.iter().chain(has.iter()).map(|(key, _)| key).collect();
    let keys: Vec<&str> = keys.into_iter().filter(|key| had.get(key) != has.get(key)).collect();
    let list = |settings: &Settings| {
        let value = |key: &&str| match settings.get(key) {
            Some(value) => format!("`{key}` {value}"),
            None => format!("no `{key}`"),
        };
        keys.iter().map(value).collect::<Vec<_>>().join(", ")
    };
    (list(&had), list(&has))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_other_settings_only_those_that_differ_are_told() {
        let had = r#"{"node":"a","room.empty_ms":5,"shop.opens":8}"#;
        let has = r#"{"node":"a","room.empty_ms":6}"#;
        let header = |settings: &str| Header {
            version: String::new(),
            quantum_us: 500,
            settings: settings.to_owned(),
            scripts_hash: 0,
            ops: Vec::new(),
        };
        assert_eq!(fits(&header(had), &header(had)), Ok(()));
        let error = fits(&header(had), &header(has)).expect_err("they differ").to_string();
        assert_eq!(
            error,
            "this journal was written with another setting: it had `room.empty_ms` 5, `shop.opens` 8, this server has \
             `room.empty_ms` 6, no `shop.opens`"
        );
    }
}
