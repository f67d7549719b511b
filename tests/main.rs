//! The tests of the repository as a whole, in one binary: one line for each subject.

mod cases;
mod cli;
mod live;
mod server;
mod tidy;
