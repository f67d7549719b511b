//! What a call costs its caller, and who pays.

use super::Payload;

/// The price of a call, in messages of the caller's budget.
///
/// A session pays from `limit.session_messages`, a caller over HTTP from its address's `limit.address_calls`. What scripts, the
/// server and plugins call costs nothing here: a script pays with fuel.
#[derive(Clone, Copy, Debug)]
pub struct Price {
    /// Taken before the call begins; a caller that has not so much is refused with `rate_limited`. At least 1.
    pub before: u32,
    /// Taken when the reply is there, whatever the caller has: for what a call has looked at. A caller that is in debt waits.
    pub after: Option<fn(&dyn Payload) -> u32>,
}

impl Price {
    /// The same for every call.
    pub fn fixed(messages: u32) -> Self {
        Price { before: messages.max(1), after: None }
    }

    /// So much for any call, and what the function says of the reply.
    pub fn and_after(before: u32, after: fn(&dyn Payload) -> u32) -> Self {
        Price { before: before.max(1), after: Some(after) }
    }
}
