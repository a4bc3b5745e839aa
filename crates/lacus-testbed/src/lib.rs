//! The servers that tests, the demo and the benches run against.
//!
//! [`S3Server`] is a real S3 server: `s3s-fs` behind hyper on a loopback port, which checks signatures. [`Faults`] stand in front of
//! it: 503, slow, truncated and reset answers, a changed entity tag, for the requests that a test names.

mod faults;
mod server;

pub use faults::{Fault, Faults};
pub use server::{ACCESS_KEY, S3Server, SECRET_KEY, TestbedError};
