//! Other engines: the Flight SQL client that the command line, Python and tests share, and servers whose tables are queried where they are: sites, and what
//! else is a [`Server`].
//!
//! ```no_run
//! # async fn run() -> lacus_core::Result<()> {
//! use futures::TryStreamExt;
//! let remote = lacus_remote::Remote::connect("grpc://127.0.0.1:50051").await?;
//! let batches: Vec<_> = remote.query("SELECT count(*) FROM shots", &[]).await?.stream()?.try_collect().await?;
//! # Ok(())
//! # }
//! ```

mod address;
mod client;
mod site;
mod status;

pub use address::{check_address, login_name};
pub use client::{Remote, RemoteProvenance, RemoteQuery, RemoteStream};
pub use lacus_identity::{Hub, HubSpec, LoginSpec, Logins};
pub use site::{
    Batches, Dialect, FlightSite, Health, Server, SiteSpec, Stored, Told, Traffic, named, server_table, site_rules, sketch_functions,
    within,
};
pub use status::from_status;
