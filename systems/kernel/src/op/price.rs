//! What a call costs its caller, and who pays.

use std::fmt;

use super::Payload;

/// The price of a call, in messages of the caller's budget.
///
/// A session pays from `limit.session_messages`, a caller over HTTP from its address's `limit.address_calls`. What scripts,
/// the server and plugins call costs nothing here: a script pays with fuel. So an operation that no client may call needs
/// no price.
///
/// What is taken before a call begins has to be there, or the call is refused with `rate_limited`; it is never more than
/// a burst, so that the dearest call passes when nothing else is asked for. What is taken afterwards is taken whatever the
/// caller has: a caller in debt waits until it is paid off. For what only the handler finds out there is
/// [`Call::charge`](crate::call::Call::charge).
#[derive(Clone, Copy, Debug)]
pub struct Price {
    /// Taken before the request is read.
    fixed: u32,
    /// What the request costs in all, when that is more than `fixed`.
    request: Option<fn(&dyn Payload) -> u32>,
    /// Taken afterwards, when there is a reply.
    reply: Option<fn(&dyn Payload) -> u32>,
}

impl Price {
    /// The same for every call. At least 1.
    pub fn fixed(messages: u32) -> Self {
        Price { fixed: messages.max(1), request: None, reply: None }
    }

    /// What the function says of the request: for a call whose work shows in what is asked, such as in the length of a
    /// list. At least 1, and 1 for a request that cannot be read.
    pub fn of(request: fn(&dyn Payload) -> u32) -> Self {
        Price { fixed: 1, request: Some(request), reply: None }
    }

    /// And afterwards what the function says of the reply: for a call whose work shows in what it found. A refusal costs
    /// nothing more.
    pub fn and_after(mut self, reply: fn(&dyn Payload) -> u32) -> Self {
        self.reply = Some(reply);
        self
    }

    /// Taken before the request is read.
    pub(crate) fn unread(&self) -> u32 {
        self.fixed
    }

    /// Taken before the call begins, in all.
    pub(crate) fn of_request(&self, request: &dyn Payload) -> u32 {
        self.request.map_or(self.fixed, |price| price(request).max(self.fixed))
    }

    /// Taken afterwards.
    pub(crate) fn of_reply(&self, reply: &dyn Payload) -> u32 {
        self.reply.map_or(0, |price| price(reply))
    }
}

/// `1`, `1 and by request`, `1 and by reply`.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fixed)?;
        match (self.request, self.reply) {
            (None, None) => Ok(()),
            (Some(_), None) => f.write_str(" and by request"),
            (None, Some(_)) => f.write_str(" and by reply"),
            (Some(_), Some(_)) => f.write_str(" and by request and reply"),
        }
    }
}

/// [`Price::fixed`].
impl From<u32> for Price {
    fn from(messages: u32) -> Self {
        Price::fixed(messages)
    }
}
