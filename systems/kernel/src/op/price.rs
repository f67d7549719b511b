//! What a call costs its caller.

use std::fmt;

use super::Payload;

/// The price of a call, in messages of the caller's budget.
///
/// A session pays from `limit.session_messages`, a caller over HTTP from the `limit.address_calls` of its address.
/// Calls by scripts, plugins and the server are free: a script pays with fuel. So an operation that no client may call
/// needs no price.
///
/// The price of the request is due before the call begins: a caller who cannot pay is refused with `rate_limited`. It
/// is capped at a burst, so that the most expensive call passes when the budget is full. The price of the reply is
/// charged afterwards in any case: a caller in debt has to wait until it is paid off. A handler can charge more with
/// [`Call::charge`](crate::call::Call::charge).
#[derive(Clone, Copy, Debug)]
pub struct Price {
    /// Charged before the request is read.
    fixed: u32,
    /// The price of the request in total; `fixed` is the least.
    request: Option<fn(&dyn Payload) -> u32>,
    /// The price of the reply, charged afterwards.
    reply: Option<fn(&dyn Payload) -> u32>,
}

impl Price {
    /// The same price for every call. 0 counts as 1.
    pub fn fixed(messages: u32) -> Self {
        Price { fixed: messages.max(1), request: None, reply: None }
    }

    /// A price that depends on the request, such as on the length of a list. 0 counts as 1. A request that cannot be
    /// read costs 1.
    pub fn of(request: fn(&dyn Payload) -> u32) -> Self {
        Price { fixed: 1, request: Some(request), reply: None }
    }

    /// Adds a price that depends on the reply, such as on the number of results. It is charged after the call; a
    /// refusal costs nothing more.
    pub fn and_after(mut self, reply: fn(&dyn Payload) -> u32) -> Self {
        self.reply = Some(reply);
        self
    }

    /// The messages charged before the request is read.
    pub(crate) fn unread(&self) -> u32 {
        self.fixed
    }

    /// The messages charged before the call begins, in total: [`Price::unread`] is included.
    pub(crate) fn of_request(&self, request: &dyn Payload) -> u32 {
        self.request.map_or(self.fixed, |price| price(request).max(self.fixed))
    }

    /// The messages charged after the call, for its reply.
    pub(crate) fn of_reply(&self, reply: &dyn Payload) -> u32 {
        self.reply.map_or(0, |price| price(reply))
    }
}

/// `1`, `1 and by request`, `1 and by reply`, `1 and by request and reply`.
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
