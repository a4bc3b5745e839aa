//! SQL in, one stream out.
//!
//! ```text
//! text -> Engine::query -> plan -> TableProvider::scan -> partitions -> batches -> one stream
//! ```
//!
//! The life of a query, one module a step:
//!
//! 1. `statement` reads the text: one statement, `?` numbered by position;
//! 2. `calls` opens `read_parquet('...')` and its kind;
//! 3. `catalog` resolves the names that the query uses, and no others; `planner` plans over them;
//!    `spelling` finds columns whose names were written without quotes;
//! 4. `ddl` applies commands; everything else becomes a [`Query`] with a known schema;
//! 5. `copy` hands the rows of `COPY ... TO` to what keeps them, `writes` those of statements that make and change tables;
//! 6. `query` runs it: it waits its turn, has a deadline and a share of the memory (`memory`), and is cancelled by drop or by KILL;
//!    `watched` ends what compares every row with every row; `activity` holds its record, of which `system` makes a table and `totals` sums.
//!
//! `client` is what a client keeps between its queries, of which `current` tells SQL; `settings` holds the defaults of a session, each with its reason; `information_schema` and `describe` say what there is;
//! `units` tells the units of what a plan gives, and what it brings together that has different ones; `view` is a view as a table;
//! `explain` adds what was read to EXPLAIN; `estimate` tells what a plan will read; `functions` holds what SQL may call.

mod access;
mod activity;
mod calls;
mod catalog;
mod client;
mod copy;
mod current;
mod ddl;
mod describe;
mod engine;
mod estimate;
mod explain;
mod functions;
mod information_schema;
mod lake_file;
mod like;
mod limits;
mod literals;
mod memory;
mod metered;
mod planner;
mod progress;
mod provenance;
mod query;
mod repeated;
mod rules;
mod runtime;
mod session;
mod settings;
mod share;
mod slots;
mod spelling;
mod spill;
mod statement;
mod summarize;
mod system;
mod totals;
mod units;
mod view;
mod watched;
mod writes;

pub use access::{Decided, Rights};
pub use catalog::{TableEntry, TableKind};
pub use client::Session;
pub use engine::{AccessReport, Engine, EngineBuilder, Ingest, Prepared};
pub use estimate::{Estimate, ScanEstimate};
pub use functions::{Function, FunctionKind};
pub use lake_file::{LakeContent, LakeFile};
pub use limits::Limits;
pub use metered::{batch_bytes, column_bytes};
pub use progress::{Progress, QueryProgress};
pub use provenance::{Provenance, parameters_of};
pub use query::{Query, ResultStream};
pub use rules::RULES;
pub use runtime::runtime;
pub use settings::MAIN;
pub use share::{aside, wanted};
pub use statement::{check_query, named_parameters, split};
pub use totals::{Durations, Totals};
pub use units::UnitRules;
