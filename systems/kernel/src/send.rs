//! What leaves by itself: messages, events, room data and kicks, asked for from anywhere and done in a fixed order.
//!
//! `outbox` is the messages of a frame; `push` sends events to a `target`, `broadcast` room data, `kick` closes sessions.
//! What systems want is collected in `asked`: kicks and events leave in Flush, broadcasts at the end of Match.

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
pub use outbox::{Outbox, post, room_data};
pub(crate) use push::deliver_pushes;
pub use push::{Push, Pushed, push, push_json, write};
pub use target::{Resolve, Target, Targets};
