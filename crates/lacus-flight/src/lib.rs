//! Arrow Flight SQL over an engine.
//!
//! A statement is planned once, at `GetFlightInfo`; its plan is kept under a random handle, and `DoGet` runs that plan once. A command
//! (`CREATE`, `DROP`) runs at `GetFlightInfo`, because clients need not fetch its result.
//!
//! * `access` finds out who calls, `sessions` what the caller keeps between calls, `session_options` changes it;
//! * `ingest` writes what clients send;
//! * `wire` is the one function behind advertised, prepared and streamed schemas;
//! * `encode` splits batches by their encoded size;
//! * `handles` keeps plans and prepared statements, bounded in number and time, `running` what is being fetched, so that it can be cancelled;
//! * `spool` computes results while nobody fetches them, for `PollFlightInfo`;
//! * `metadata`, `keys`, `sql_info` and `xdbc` answer what drivers ask about tables, the server and its types;
//! * `status` is the one place where an error becomes a gRPC status.

mod access;
mod bind;
mod command;
mod encode;
mod handles;
mod incoming;
mod ingest;
mod keys;
mod metadata;
mod running;
mod service;
mod session_options;
mod sessions;
mod spool;
mod sql_info;
mod status;
mod wire;
mod wrapper;
mod xdbc;

pub use access::{Callers, Gate, User, check_hash, hash_password};
pub use sessions::{Certified, Connection};
pub use status::{ERROR_CODE_HEADER, to_status};
pub use wrapper::{LacusFlight, flight_service};
