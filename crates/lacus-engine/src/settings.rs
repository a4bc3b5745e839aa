//! The defaults of a session, each with its reason.

use datafusion::prelude::SessionConfig;

/// The default schema of a lake.
pub(crate) const MAIN: &str = "main";
/// The schema of tables about the lake itself.
pub(crate) const SYSTEM: &str = "system";

/// More partitions than cores pay as long as there are few cores.
const FEW_CORES: usize = 8;

pub(crate) fn session_config(lake: &str) -> SessionConfig {
    let mut config = SessionConfig::new()
        // Names resolve through our own catalog, which opens a dataset when a query asks for it, so DataFusion's stays empty.
        .with_default_catalog_and_schema(lake, MAIN)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(partitions())
        // Row counts and ranges of files decide which side of a join is built.
        .with_collect_statistics(true);
    let options = config.options_mut();
    // Decoding filter columns first loses 11% on TPC-H as DataFusion 55 does it.
    options.execution.parquet.pushdown_filters = false;
    // Field metadata holds units and descriptions.
    options.execution.parquet.skip_metadata = false;
    // A scan shows all of its files in EXPLAIN as a count; names of the first few are enough.
    options.explain.show_schema = false;
    config
}

/// Two partitions a core where cores are few: one decodes while the other waits for its page. On many cores the exchange between
/// partitions costs more than it hides. `benches/README.md` says what was measured.
fn partitions() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores <= FEW_CORES { cores * 2 } else { cores }
}
