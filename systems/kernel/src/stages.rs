//! The kernel's part of each stage, one file each. `Core::Match` is in kaos-rooms.

pub(crate) mod flush;
pub(crate) mod hooks;
pub(crate) mod ingest;
pub(crate) mod route;
pub(crate) mod serve;
