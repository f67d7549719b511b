//! The stacks, each in a file: how to call it, with which settings, and what it lacks.

pub(crate) mod enet;
pub(crate) mod kcp;
pub(crate) mod ours;
pub(crate) mod quinn;
pub(crate) mod raw;
pub(crate) mod renet;
