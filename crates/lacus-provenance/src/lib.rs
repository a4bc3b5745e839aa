//! What an answer was computed from: the record that comes with it, the hash of its rows, and what of both is the same later.
//!
//! ```text
//! batches -> Digest -> Record -> kept, sent, exported, cited
//!                         \-> asked again -> Comparison
//! ```

mod catalog;
mod compare;
mod digest;
mod export;
mod kept;
mod record;

pub use catalog::{CatalogColumn, CatalogDataset, CatalogForm, CatalogTable, LakeCatalog};
pub use compare::{Comparison, Verdict};
pub use digest::Digest;
pub use export::{Form, citation};
pub use kept::{Kept, read};
pub use record::{Column, Dataset, FORM, FileRead, FloatSums, Parameter, Record, ResultHash, SINGLE_TOLERANCE, SiteQuery, TOLERANCE, time};
