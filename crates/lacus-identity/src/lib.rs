//! Whom tokens stand for: keys that a lake gives out to programs and to people.
//!
//! A key is `lacus_ID_SECRET`. The file of keys holds the SHA-256 of the secret, which is 256 random bits, so that nobody who reads the file
//! can call by it; a slow hash would add nothing.

mod keys;

pub use keys::{Key, KeyFile, NewKey};
