//! Lacus: a columnar query engine for science data that stays where it is.
//!
//! A *lake* is a catalog of datasets; a *dataset* lies in a *store*: a bucket, or a folder of this machine or of a parallel file
//! system. Datasets are tables, SQL is the question, and the answer is one stream of Arrow batches.
//!
//! ```no_run
//! use lacus::{Principal, TryStreamExt};
//!
//! # async fn run() -> lacus::Result<()> {
//! let engine = lacus::open(None)?; // finds `lacus.toml` from the working folder upward, or works without one
//! let query = engine.query("SELECT count(*) FROM 'shots/*.parquet' WHERE shot > $1", &[500_i64.into()], &Principal::owner()).await?;
//! let batches: Vec<_> = query.stream()?.try_collect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | opening a lake | [`open`], [`Config`] |
//! | asking | [`Engine::query`], [`Query`], [`ResultStream`] |
//! | bringing tables, functions and stores of your own | [`Engine::builder`], [`Engine::register_function`], [`register_defaults`], [`Stores::add`]; `examples/embed.rs` |
//! | making and filling tables | SQL; [`Engine::ingest`]; [`Session`] for what lasts longer than one query |
//! | adding a kind of dataset, of kept results, or a place for tables | [`Source`], [`Sink`], [`Tables`] |
//! | what went wrong | [`Error`], [`Kind`] |
//!
//! Dropping a [`ResultStream`] cancels its query. Every query has a deadline and shares a memory limit: [`Limits`].

mod config;
mod defaults;

/// One option of the lake file, as the reference documents it.
pub use config::OptionDoc;
/// The configuration of a lake, resolved from its file and the environment.
pub use config::{AgentsSpec, Config, FILE_NAME, duration, reference};
/// DataFusion, in the version that the engine is built on: table providers and functions of your own are its traits.
pub use datafusion;
/// Arrow, in the version that the engine speaks.
pub use datafusion::arrow;
/// A parameter of a query.
pub use datafusion::common::ScalarValue;
pub use defaults::{open, register_defaults};
/// For `try_collect` and `try_next` on a [`ResultStream`].
pub use futures::TryStreamExt;
pub use lacus_audit::{Audit, Verified, WhenFull, verify};
pub use lacus_core::{
    AgentLimits, Bearer, Classification, ColumnSpec, DatasetName, DatasetSpec, Error, FileStamp, IfExists, IndexProgress, IndexStatus,
    Kind, Location, NOTICES_KEY, OptionValue, Principal, PrincipalKind, ReferenceFiles, ReferenceForm, Result, Rows, Secret, Sink, Source,
    StoreName, TableInfo, TableName, Tables, Tokens, TraceParent, WriteSpec, description_of, nearest, notices_of, unit_of,
};
pub use lacus_engine::{
    AccessReport, Decided, Durations, Engine, EngineBuilder, Function, Ingest, LakeContent, LakeFile, Limits, Prepared, Progress,
    Provenance, Query, QueryProgress, RULES, ResultStream, Session, TableEntry, TableKind, Totals, aside, check_query, named_parameters,
    parameters_of, runtime, split, wanted,
};
pub use lacus_identity::{CertificateName, CertificateSpec, IssuerSpec, Issuers};
pub use lacus_policy::{Policy, PolicyFile, Privilege, Rule};
pub use lacus_provenance::{
    CatalogColumn, CatalogDataset, CatalogForm, CatalogTable, Comparison, Form, Kept, LakeCatalog, Record as ProvenanceRecord, Verdict,
    citation,
};
pub use lacus_storage::{
    AzureCredentials, AzureSpec, CacheSpec, CacheStatus, Credentials, GoogleCredentials, GoogleSpec, Listing, Network, Operation, Place,
    S3Spec, SftpSpec, StoreReads, StoreSpec, Stores, Unnamed, WebCredentials, WebSpec, masked,
};
/// The trait of stores that a program brings.
pub use object_store;
