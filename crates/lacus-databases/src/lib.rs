//! Databases of labs: PostgreSQL, MySQL, MariaDB and SQLite. Their tables stand in catalogs and are queried where they are; how a statement is
//! made of a plan is what [`lacus_remote`] does for all servers.
//!
//! ```text
//! Database (a Site) -> Driver: what a table is (`postgres`, `mysql`, `sqlite`) -> lacus_remote::server_table
//! SiteExec -> Driver::ask: a statement -> rows as the wire has them -> `values` -> batches
//! ```

mod database;
mod mysql;
mod postgres;
mod reading;
mod sqlite;
mod tls;
mod values;

pub use database::{Database, DatabaseSpec, check_url};
