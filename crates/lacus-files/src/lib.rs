//! Parquet, CSV, TSV, JSON lines, Arrow IPC, Avro and ORC files as tables: all but ORC through DataFusion's own readers.
//!
//! A dataset is opened in the steps that the modules are named after:
//!
//! 1. the location becomes a list of objects (`lacus-storage`);
//! 2. `format` picks the reader by declaration or by the endings of the files;
//! 3. `partitions` finds the columns that stand in the paths (`year=2024/`);
//! 4. `union` makes one schema of the schemas of all files, or names the file that disagrees;
//! 5. `layout` groups files whose readers go by position, so that columns are matched by name;
//! 6. `table` scans: it prunes files by their partition values, attaches statistics and groups files for the cores.
//!
//! `ahead` has Parquet of remote stores read ahead; `decimals` has fixed-length decimals of Parquet read as bytes; `named` stands around every reader, so that EXPLAIN shows the selection and an error
//! names its file; `compressed` lets text files be packed; `kept` holds decoded columns of Parquet, which `kept_scan` serves; `orc` reads
//! ORC; `sink` writes what COPY keeps.

mod ahead;
mod compressed;
mod decimals;
mod format;
mod kept;
mod kept_scan;
mod layout;
mod named;
mod orc;
mod partitions;
mod sink;
mod source;
mod table;
mod union;

pub use sink::FilesSink;
pub use source::FilesSource;
