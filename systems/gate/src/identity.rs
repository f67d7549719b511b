//! Who somebody is: the keys that prove it, and what a token claims.

pub mod credential;
pub mod credentials;
pub mod keys;
