//! What the server sends or closes unprompted: messages, events, room data and kicks, requested from anywhere and
//! carried out in a fixed order.
//!
//! `outbox` has the messages of a frame. `push` sends events to a `target`, and `hooked` keeps those that scripts have
//! a hook for. `broadcast` sends room data, and `kick` closes sessions. `asked` collects what systems request: kicks
//! and events are carried out in Flush, broadcasts at the end of `Core::Match`.

mod asked;
mod broadcast;
mod hooked;
mod kick;
mod outbox;
mod push;
mod target;

pub(crate) use asked::Asked;
pub use broadcast::{Broadcast, Broadcasts, take_broadcasts};
pub(crate) use hooked::{EventHooks, HOOKED_MAX, HookedEvent};
pub use kick::{Kicks, kicked};
pub(crate) use outbox::Addressed;
pub use outbox::{Outbox, post, room_data};
pub(crate) use push::deliver_pushes;
pub use push::{Push, Pushed, push, push_json, write};
pub use target::{Resolve, Target, Targets};
