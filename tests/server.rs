//! The whole server on virtual time: sessions, rooms, calls, scripts, each from a seed and replayed.

mod calls;
mod events;
mod faces;
mod facts;
mod faults;
mod frames;
mod hostile;
mod jobs;
mod panics;
mod plugins;
mod races;
mod refusals;
mod rooms;
mod samples;
mod sessions;
mod tables;
