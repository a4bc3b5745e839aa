//! The one adapter from stored grids to tables.
//!
//! ```text
//! container -> arrays -> tables (one per set of dimensions) -> boxes -> chunks -> few requests -> decoded cells -> rows
//! ```
//!
//! A format says what a container holds and how its chunks are read: [`Format`], [`Opener`], [`GridStore`]. Everything else is here,
//! once for all formats, one module a stage:
//!
//! * `container`, `element`: what arrays are, and how bytes become Arrow arrays;
//! * `mapping`: arrays to tables; `union`: tables of many containers to one;
//! * `cf`: what attributes say that numbers mean;
//! * `selection`: predicates on coordinates to indices, indices to boxes;
//! * `fetch`, `chunks`: places of chunks to few requests, bytes to decoded cells;
//! * `gather`, `scan`: cells of boxes to rows; `coordinate_groups`, `runs`: cells to groups of coordinates, without rows;
//! * `index`, `differences`: what is known of many files, and what they disagree about.
//!
//! [`conformance`] holds the checks that a format runs in its own tests.
//!
//! The other way, for `COPY ... TO`: `grid` puts rows into cells, `variable` says by CF what their numbers mean, `sink` hands both to
//! the [`GridWriter`] of a format.

mod cf;
mod chunks;
pub mod conformance;
mod container;
mod coordinate_groups;
mod differences;
mod element;
mod expansion;
mod fetch;
mod file_columns;
mod format;
mod gather;
mod grid;
mod index;
mod mapping;
mod members;
mod metadata_tables;
mod references;
mod runs;
mod scan;
mod selection;
mod sink;
mod slabs;
mod source;
mod table;
mod tiles;
mod union;
mod variable;
mod writer;

pub use cf::{Calendar, Date, TimeUnit, iso_text};
pub use container::{ArrayMeta, Attributes, Container, Dimension, Group, Missing, groups_upward, joined_path};
pub use coordinate_groups::GroupByCoordinates;
pub use differences::DIFFERENCES;
pub use element::{Element, Heap, Member, NoHeap, Order, Padding};
pub use format::{Format, GridStore, Opener, Place, Source};
pub use mapping::{CALENDAR_KEY, TIME_UNITS_KEY};
pub use metadata_tables::{ARRAYS, ATTRIBUTES};
pub use sink::ArraySink;
pub use slabs::{slab_extent, slab_range};
pub use source::ArraySource;
pub use variable::Variable;
pub use writer::{GridLayout, GridValues, GridWriter, number_bytes};
