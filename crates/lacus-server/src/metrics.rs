//! The metrics of a server in the text format of Prometheus: a view of what the engine knows, made anew for each question.

use std::fmt::{self, Display, Formatter};
use std::time::{SystemTime, UNIX_EPOCH};

use lacus::{Durations, Engine, Operation, Totals};

/// The type of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is told at one moment.
pub(crate) struct Metrics {
    totals: Totals,
    began: SystemTime,
}

impl Metrics {
    /// The metrics of `engine`, in a process that began at `began`.
    pub(crate) fn of(engine: &Engine, began: SystemTime) -> Self {
        Self { totals: engine.totals(), began }
    }
}

impl Display for Metrics {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        head(out, "lacus_build_info", "gauge", "The version that runs; always 1.")?;
        writeln!(out, "lacus_build_info{{version={}}} 1", Quoted(Engine::version()))?;
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        one(out, "process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.", began)?;
        head(out, "lacus_queries_total", "counter", "Queries that ended, by how.")?;
        for (outcome, count) in Totals::OUTCOMES.iter().zip(totals.ended) {
            writeln!(out, "lacus_queries_total{{outcome={}}} {count}", Quoted(outcome))?;
        }
        one(out, "lacus_queries_running", "gauge", "Queries that run now.", totals.running)?;
        one(out, "lacus_queries_queued", "gauge", "Queries that wait for their turn.", totals.queued)?;
        durations(out, &totals.durations)?;
        one(out, "lacus_query_rows_total", "counter", "Rows that queries handed out.", totals.rows)?;
        stores(out, totals)?;
        one(out, "lacus_memory_reserved_bytes", "gauge", "Memory that operators of queries hold.", totals.memory_reserved)?;
        one(out, "lacus_memory_limit_bytes", "gauge", "Memory that they may hold together.", totals.memory_limit)?;
        one(out, "lacus_spill_bytes_total", "counter", "Bytes that queries wrote to the spill folder.", totals.spilled)
    }
}

fn durations(out: &mut Formatter<'_>, durations: &Durations) -> fmt::Result {
    let name = "lacus_query_duration_seconds";
    head(out, name, "histogram", "How long queries took from their text to their end, waiting included.")?;
    let mut below = 0;
    for (bound, count) in Durations::BOUNDS.iter().zip(durations.counts) {
        below += count;
        writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {below}")?;
    }
    let all: u64 = durations.counts.iter().sum();
    writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {all}")?;
    writeln!(out, "{name}_sum {}\n{name}_count {all}", durations.sum.as_secs_f64())
}

fn stores(out: &mut Formatter<'_>, totals: &Totals) -> fmt::Result {
    head(out, "lacus_store_requests_total", "counter", "Requests that queries sent to stores, not counting retries.")?;
    for reads in &totals.stores {
        for (operation, count) in Operation::ALL.iter().zip(reads.operations) {
            let (store, operation) = (Quoted(&reads.store), Quoted(operation.name()));
            writeln!(out, "lacus_store_requests_total{{store={store},operation={operation}}} {count}")?;
        }
    }
    head(out, "lacus_store_read_bytes_total", "counter", "Bytes of bodies that queries received from stores.")?;
    totals
        .stores
        .iter()
        .try_for_each(|reads| writeln!(out, "lacus_store_read_bytes_total{{store={}}} {}", Quoted(&reads.store), reads.bytes))
}

/// A metric of one number.
fn one(out: &mut Formatter<'_>, name: &str, kind: &str, help: &str, value: impl Display) -> fmt::Result {
    head(out, name, kind, help)?;
    writeln!(out, "{name} {value}")
}

fn head(out: &mut Formatter<'_>, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// The value of a label.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn labels_are_quoted() {
        assert_eq!(Quoted("a\"b\\c\n").to_string(), r#""a\"b\\c\n""#);
    }
}
