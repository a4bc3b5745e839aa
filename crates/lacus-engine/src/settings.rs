//! The defaults of a session, each with its reason.

use std::any::Any;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionConfig;
use lacus_core::{Error, Kind};

use crate::units::UnitRules;

/// The default schema of a lake.
pub const MAIN: &str = "main";
/// The schema of tables about the lake itself.
pub(crate) const SYSTEM: &str = "system";

/// Up to so many bytes, or rows where nobody knows bytes, the smaller side of a join is one table: `benches/README.md` says what was measured.
const ONE_TABLE: usize = 32 << 20;
const ONE_TABLE_ROWS: usize = 1 << 20;

/// Memory of a sort for merging what it has spilled, where there is enough; and how many sorts a partition has at most, about.
const MERGE: usize = 10 << 20;
const SORTS: usize = 8;

/// More partitions than cores pay as long as there are few cores: how many a core has where there are so many cores at most.
const A_CORE: [(usize, usize); 2] = [(2, 3), (8, 2)];

/// Keys of a join that lie in a range of so many at most are found by their place in it rather than by a hash table: 4 MiB.
const KEYS: usize = 1 << 20;
/// Bytes of the memory limit for each key of such a range.
const MEMORY_OF_KEY: usize = 4096;
/// Where there is so much memory, a wider range is one as well if so many of its keys are there: a row takes up to 800 bytes then.
const MUCH_MEMORY: usize = 8 << 30;
const KEYS_THERE: f64 = 0.005;

/// The settings of a session that are ours, `lacus.NAME`.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnSettings {
    pub(crate) units: UnitRules,
}

impl OwnSettings {
    /// Those of a session.
    pub(crate) fn of(options: &ConfigOptions) -> Self {
        options.extensions.get::<Self>().cloned().unwrap_or_default()
    }
}

impl ConfigExtension for OwnSettings {
    const PREFIX: &'static str = "lacus";
}

impl ExtensionOptions for OwnSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DataFusionError> {
        match key {
            "units" => self.units = value.parse()?,
            _ => return Err(Error::new(Kind::InvalidQuery, format!("no setting `lacus.{key}`")).into()),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let description = "What becomes of a query that brings numbers of different units together: `warn` or `strict`";
        vec![ConfigEntry { key: "lacus.units".to_owned(), value: Some(self.units.to_string()), description }]
    }
}

/// The defaults of a session, and nothing else.
pub(crate) fn options() -> ConfigOptions {
    let mut options = ConfigOptions::default();
    options.extensions.insert(OwnSettings::default());
    options
}

pub(crate) fn session_config(lake: &str, memory: usize, units: UnitRules) -> SessionConfig {
    let mut config = SessionConfig::new()
        // Names resolve through our own catalog, which opens a dataset when a query asks for it, so DataFusion's stays empty.
        .with_default_catalog_and_schema(lake, MAIN)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(partitions())
        // Row counts and ranges of files decide which side of a join is built.
        .with_collect_statistics(true);
    let options = config.options_mut();
    options.extensions.insert(OwnSettings { units });
    options.execution.perfect_hash_join_small_build_threshold =
        (memory / MEMORY_OF_KEY).clamp(options.execution.perfect_hash_join_small_build_threshold, KEYS);
    if memory >= MUCH_MEMORY {
        options.execution.perfect_hash_join_min_key_density = KEYS_THERE;
    }
    // Decoding filter columns first loses 11% on TPC-H as DataFusion 55 does it.
    options.execution.parquet.pushdown_filters = false;
    // Field metadata holds units and descriptions.
    options.execution.parquet.skip_metadata = false;
    // One table for all partitions of the other side saves an exchange of both; beyond this it would be copied by too many readers.
    options.optimizer.hash_join_single_partition_threshold = ONE_TABLE;
    options.optimizer.hash_join_single_partition_threshold_rows = ONE_TABLE_ROWS;
    // What each sort keeps free for merging what it has spilled must leave room to sort in.
    options.execution.sort_spill_reservation_bytes = (memory / partitions() / SORTS).min(MERGE);
    // `IS TRUE` is never unknown in a logical plan, and may be in what DataFusion makes of it: shared by aggregates it would fail the query.
    options.execution.skip_physical_aggregate_schema_check = true;
    // A scan shows all of its files in EXPLAIN as a count; names of the first few are enough.
    options.explain.show_schema = false;
    config
}

/// More partitions than cores where these are few: one decodes while the other waits for its page. On many cores the exchange between
/// partitions costs more than it hides. `benches/README.md` says what was measured.
fn partitions() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let a_core = A_CORE.iter().find(|(most, _)| cores <= *most).map_or(1, |(_, a_core)| *a_core);
    cores * a_core
}
