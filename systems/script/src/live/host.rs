//! What a script reaches in the frame: the world as it stands, and lists for what comes after.

use kaos_kernel::op::{OpRow, Payload};
use kaos_kernel::prelude::*;
use kaos_kernel::script::{Command, Env};
use kaos_kernel::send::Broadcast;

use crate::functions::{FunctionHost, WAITS, parse_request};
use crate::host::{self, Host, Raised};
use crate::library::Library;
use crate::value::Value;

/// Broadcasts of one callback: they wait outside of the machine's memory limit until the stage ends.
const BROADCASTS_MAX: usize = 4096;

/// Their data in one callback, in bytes.
const BROADCAST_BYTES_MAX: usize = 4 << 20;

/// Commands of one callback.
const COMMANDS_MAX: usize = 1024;

/// Their requests in one callback, in bytes of memory, about: they wait outside of the machine's limit too.
const COMMAND_BYTES_MAX: usize = 4 << 20;

/// The frame's [`Env`] as a running script's host, for one callback.
pub(super) struct FrameHost<'a, 'w> {
    env: &'a mut Env<'w>,
    library: &'a Library,
    source: &'a str,
    /// What this callback has broadcast and ordered so far.
    broadcasts: usize,
    broadcast_bytes: usize,
    commands: usize,
    command_bytes: usize,
}

impl<'a, 'w> FrameHost<'a, 'w> {
    pub(super) fn new(env: &'a mut Env<'w>, library: &'a Library, source: &'a str) -> Self {
        FrameHost { env, library, source, broadcasts: 0, broadcast_bytes: 0, commands: 0, command_bytes: 0 }
    }
}

impl Host for FrameHost<'_, '_> {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.env.now_ms).unwrap_or(i64::MAX)
    }

    fn log(&mut self, level: Level, line: &str) {
        self.env.log(level, self.source, line);
    }

    fn broadcast(&mut self, broadcast: host::Broadcast<'_>) -> Result<(), String> {
        self.broadcasts += 1;
        self.broadcast_bytes += broadcast.data.len();
        if self.broadcasts > BROADCASTS_MAX || self.broadcast_bytes > BROADCAST_BYTES_MAX {
            return Err(format!(
                "one callback may broadcast {BROADCASTS_MAX} times and {} MiB: send less, or in the next tick",
                BROADCAST_BYTES_MAX >> 20
            ));
        }
        let room = broadcast.room.parse::<RoomId>().map_err(|error| error.to_string())?;
        self.env.broadcasts.push(Broadcast {
            room,
            sender: broadcast.sender.map(SessionId),
            op: broadcast.op,
            data: Bytes::copy_from_slice(broadcast.data),
            to: broadcast.to.map(|sessions| sessions.iter().map(|id| SessionId(*id)).collect()),
            reliable: broadcast.reliable,
        });
        Ok(())
    }

    fn call(&mut self, function: usize, arguments: Vec<Value>, fuel: &mut i64) -> Result<Vec<Value>, Raised> {
        let library = self.library;
        library.functions.call(self, function, arguments, fuel)
    }
}

impl FunctionHost for FrameHost<'_, '_> {
    fn dice(&mut self) -> &mut Dice {
        self.env.dice
    }

    fn may_wait(&self) -> bool {
        false
    }

    fn op(&mut self, row: &OpRow, mut request: Value, _: &mut i64) -> Result<Value, Raised> {
        self.env.caller.allowed(row.op.auth).map_err(|fault| fault.message.into_owned())?;
        let mut drawn = Value::Nil;
        if let (Some(field), ScriptUse::Command, Value::Map(fields)) =
            (row.op.draws, row.op.script, &mut request)
        {
            drawn = Value::text(self.env.dice.uuid().hyphenated().to_string());
            fields.insert(field.to_owned(), drawn.clone());
        }
        let weight = request.weight();
        let request = parse_request(&self.library.matches, row, request)?;
        match row.op.script {
            ScriptUse::Read => {
                let reply = row.read(self.env.world, &self.env.caller, request).map_err(Raised::of)?;
                to_value(&*reply).map_err(Raised::from)
            }
            ScriptUse::Command => {
                self.commands += 1;
                self.command_bytes += weight;
                if self.commands > COMMANDS_MAX || self.command_bytes > COMMAND_BYTES_MAX {
                    return Err(Raised::from(format!(
                        "one callback may give {COMMANDS_MAX} commands and {} MiB: go on in the next tick",
                        COMMAND_BYTES_MAX >> 20
                    )));
                }
                self.env.commands.push(Command { op: row.id, request });
                Ok(drawn)
            }
            ScriptUse::Wait | ScriptUse::Rpc | ScriptUse::Broadcast | ScriptUse::Never => Err(WAITS.into()),
        }
    }
}

/// What an operation answered, as scripts see it.
///
/// # Errors
/// A sentence: it cannot be written as JSON.
pub(super) fn to_value(reply: &dyn Payload) -> Result<Value, String> {
    serde_json::to_value(reply).map(|json| Value::from_json(&json)).map_err(|error| error.to_string())
}
