//! Tables that SQL makes and changes, in a store of the lake.
//!
//! Each table is a Delta table in a folder of its own: Parquet files that are never changed, and a log whose next entry can be written once.
//! Which folder a name means stands in the catalog, whose next version can be written once, too. So each change is one step, for readers and
//! for writers on any machine, and what a process had begun when it was killed is seen by nobody and swept up later.
//!
//! * `place` is the place for tables; `catalog` knows their names;
//! * `delta` reads and writes logs; `ordered` lists as the kernel of Delta wants it;
//! * `types` tells the columns of a table from those of its files; `write` makes the files; `table` reads them;
//! * `upkeep` merges small files, sums logs up, and sweeps away what nobody uses.

mod catalog;
mod delta;
mod ordered;
mod place;
mod table;
mod types;
mod upkeep;
mod write;

pub use place::LakeTables;
