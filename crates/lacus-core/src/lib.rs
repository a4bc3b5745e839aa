//! What a dataset is.
//!
//! This crate holds the words that every other crate of Lacus speaks, and nothing that opens a byte:
//!
//! * [`Error`] and [`Kind`]: the one error type, with context, hint and source;
//! * [`StoreName`], [`DatasetName`] and [`nearest`]: names that were checked at the door;
//! * [`Location`]: where a dataset lies, as a person writes it;
//! * [`DatasetSpec`]: what a person says about a dataset;
//! * [`Source`]: the trait that turns a specification into a table;
//! * [`Sink`]: the trait that keeps a result;
//! * [`Tables`]: the trait of a place for tables that SQL makes;
//! * [`Site`]: the trait of another engine, whose tables stand in a catalog;
//! * [`fit_columns`], [`fit_batch`]: rows in the columns of the table that takes them;
//! * [`Principal`]: on whose behalf a query runs; [`Tokens`]: who says whom a token stands for;
//!   [`Classification`]: how far data may be given to others; [`Secret`]: what never shows itself;
//! * [`AgentLimits`]: what an agent may ask for at most;
//! * [`Notices`]: what a query wants its reader to know beside the rows; [`Remotes`]: for whom it waits.
//!
//! An extension needs only this crate and DataFusion's table traits.

mod agents;
pub mod amount;
mod bearer;
mod classification;
mod classify;
mod error;
mod fit;
mod hex;
mod location;
mod metadata;
mod name;
mod notices;
mod partitions;
mod principal;
mod references;
mod remotes;
mod secret;
mod sink;
mod site;
mod source;
mod spec;
mod stamp;
mod tables;
mod trace_parent;
mod types;
mod wanted;

pub use agents::AgentLimits;
pub use bearer::{Bearer, Tokens};
pub use classification::Classification;
pub use error::{Error, Kind, Result};
pub use fit::{fit_batch, fit_columns};
pub use hex::hex;
pub use location::{Location, RESERVED_STORE_NAMES};
pub use metadata::{DESCRIPTION_KEY, UNIT_KEY, describe_field, description_of, text_length, unit_of, with_text_length};
pub use name::{DatasetName, StoreName, nearest};
pub use notices::{NOTICES_KEY, Notices, notices_of};
pub use partitions::Partitions;
pub use principal::{Principal, PrincipalKind};
pub use references::{ReferenceFiles, ReferenceForm};
pub use remotes::{Remotes, Waiting};
pub use secret::Secret;
pub use sink::{Rows, Sink, WriteSpec};
pub use site::{Site, SiteStatus, SpreadSpec};
pub use source::{IndexProgress, IndexStatus, Source, TableInfo};
pub use spec::{ColumnSpec, DatasetSpec, ForeignKey, OptionValue};
pub use stamp::FileStamp;
pub use tables::{IfExists, TableName, Tables};
pub use trace_parent::TraceParent;
pub use types::{wider_field, wider_type};
pub use wanted::{check_wanted, know_wanted};
