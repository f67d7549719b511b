//! The tests of the repository as a whole, in one binary: one line for each subject.

mod live;
mod server;
mod tidy;
