//! A real server on real sockets, with the real client: what virtual time cannot show.

mod doors;
mod faces;
mod journal;
mod resume;
pub(crate) mod running;
pub(crate) mod urls;
