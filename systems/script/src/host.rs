//! What a script can reach while it runs: the host's side of `kaos.*`, whatever the runtime.

use kaos_kernel::fault::{Fault, FaultKind};
use kaos_kernel::output::Level;

use crate::value::Value;

/// The world as a running script sees it. One is lent to a virtual machine for the length of one call.
///
/// An `Err` is raised in the script, with the name of the function and the script's line before it.
pub trait Host {
    /// Unix time of the frame, in milliseconds: `kaos.time_now()`.
    fn now_ms(&self) -> i64;

    /// One line for the log: `kaos.logger_*` and `print`. At most [`LOG_BYTES_MAX`] bytes and
    /// [`LOG_LINES_MAX`] lines in one call; the rest is counted and named in a last line.
    fn log(&mut self, level: Level, line: &str);

    /// `kaos.broadcast`, the hot path.
    ///
    /// # Errors
    /// A sentence: what was refused and why.
    fn broadcast(&mut self, broadcast: Broadcast<'_>) -> Result<(), String>;

    /// Every other function: `function` is its place in the list that the machine was made with, and what comes back are
    /// its results. `fuel` is what the running call has left; what the host takes from it is charged to the call.
    ///
    /// # Errors
    /// A sentence: what was refused and why.
    fn call(&mut self, function: usize, arguments: Vec<Value>, fuel: &mut i64) -> Result<Vec<Value>, Raised>;
}

/// A host for loading: scripts can register, and nothing else is there yet. What they log is dropped, since a file is
/// loaded once for each machine.
#[derive(Debug)]
pub struct Loading;

impl Host for Loading {
    fn now_ms(&self) -> i64 {
        0
    }

    fn log(&mut self, _: Level, _: &str) {}

    fn broadcast(&mut self, _: Broadcast<'_>) -> Result<(), String> {
        Err("cannot be called while scripts are loaded: there are no rooms yet".to_owned())
    }

    fn call(&mut self, _: usize, _: Vec<Value>, _: &mut i64) -> Result<Vec<Value>, Raised> {
        Err("cannot be called while scripts are loaded: call it in a function".into())
    }
}

/// What a function of the host raises in a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raised {
    /// The sentence that the script sees, after its line and the name of the function.
    pub text: String,
    /// The refusal of an operation. When it passes through the script, whoever asked the script is told this.
    pub fault: Option<Fault>,
}

impl Raised {
    /// Of an operation that refused. A defect stays one: it is not for whoever asked.
    pub fn of(fault: Fault) -> Self {
        let refusal = FaultKind::OF_REQUESTS.contains(&fault.kind);
        Raised { text: fault.message.clone().into_owned(), fault: refusal.then_some(fault) }
    }
}

impl From<String> for Raised {
    fn from(text: String) -> Self {
        Raised { text, fault: None }
    }
}

impl From<&str> for Raised {
    fn from(text: &str) -> Self {
        Raised::from(text.to_owned())
    }
}

/// Bytes of one line for the log; the rest is cut.
pub const LOG_BYTES_MAX: usize = 4096;

/// Lines for the log that one call into a script may write.
pub const LOG_LINES_MAX: u32 = 100;

/// One broadcast, borrowed from the script's strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broadcast<'a> {
    /// The room's id, as the script gave it.
    pub room: &'a str,
    /// In whose name; `None`: the server's.
    pub sender: Option<u64>,
    /// The game's own bytes.
    pub data: &'a [u8],
    /// To which sessions; `None`: all members.
    pub to: Option<&'a [u64]>,
    /// The game's own number, 0 when the script gave none.
    pub op: u8,
    /// Must it arrive? True when the script did not say.
    pub reliable: bool,
}

/// Someone in a room, as scripts see them, borrowed from the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence<'a> {
    /// Shown as 16 hex digits.
    pub session_id: u64,
    /// The account; empty for an anonymous session.
    pub user_id: &'a str,
    /// The name.
    pub username: &'a str,
    /// The seat: the sender index in room data.
    pub index: u16,
    /// When leaving: one word that says why.
    pub reason: Option<&'a str>,
}

/// One message for a match, borrowed from the room's inbox.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Who sent it; `None`: the server.
    pub sender: Option<Presence<'a>>,
    /// The game's own number.
    pub op: u8,
    /// The game's own bytes.
    pub data: &'a [u8],
    /// The tick in which it came.
    pub tick: i64,
}

/// A session id as scripts see it: 16 hex digits.
pub fn session_text(id: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|i| DIGITS[(id >> (60 - 4 * i)) as usize & 15])
}

/// Reads what [`session_text`] wrote; capitals are accepted.
pub fn parse_session(text: &[u8]) -> Option<u64> {
    if text.len() != 16 {
        return None;
    }
    text.iter().try_fold(0_u64, |id, digit| Some(id << 4 | u64::from((*digit as char).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_go_round() {
        for id in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(parse_session(&session_text(id)), Some(id));
        }
        assert_eq!(session_text(0xab), *b"00000000000000ab");
        assert_eq!(parse_session(b"00000000000000AB"), Some(0xab));
        for wrong in [&b"ab"[..], b"00000000000000ag", b"000000000000000000ab", b"+0000000000000ab"] {
            assert_eq!(parse_session(wrong), None);
        }
    }
}
