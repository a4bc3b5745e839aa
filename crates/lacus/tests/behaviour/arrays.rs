//! Arrays: what is pruned, what is read, what is refused, what the client is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lacus::object_store::ObjectStoreExt;
use lacus::{Kind, Limits, Place, Principal, StoreName, StoreSpec, notices_of};
use lacus_testbed::S3Server;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{TestResult, ask, bucket, engine, failure, limited};

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/arrays")
}

async fn server() -> Result<S3Server, Box<dyn std::error::Error + Send + Sync>> {
    let server = S3Server::start().await?;
    server.put_folder("data", "", &testdata()).await?;
    Ok(server)
}

async fn explained(engine: &lacus::Engine, sql: &str) -> lacus::Result<String> {
    ask(engine, &format!("EXPLAIN ANALYZE {sql}")).await
}

/// Filters on coordinates select chunks, exactly: no filter is left above the scan, and only chunks with a selected cell are read.
#[tokio::test(flavor = "multi_thread")]
async fn coordinates_select_chunks() -> TestResult {
    let server = server().await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let filter = "lat > 0 AND lon BETWEEN 30 AND 60 AND time >= '2002-06-01'";
    let plan = explained(&engine, &format!("SELECT \"T2M\" FROM 'lab:climate.nc' WHERE {filter}")).await?;
    assert!(plan.contains("chunks=2/30, rows=42") && plan.contains("chunks_decoded=2") && !plan.contains("FilterExec"), "{plan}");
    let limited = explained(&engine, "SELECT \"T2M\" FROM 'lab:climate.nc' LIMIT 3").await?;
    assert!(limited.contains("fetch=3") && limited.contains("chunks_decoded=1,"), "{limited}");
    Ok(())
}

/// The number of rows and the bounds of coordinates are known without the data.
#[tokio::test(flavor = "multi_thread")]
async fn counts_and_bounds_come_from_metadata() -> TestResult {
    let server = server().await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    for (sql, answer) in [
        ("SELECT count(*) FROM 'lab:climate.nc'", "1728"),
        ("SELECT count(*) FROM 'lab:climate.nc' WHERE lat > 20", "576"),
        ("SELECT min(lat), max(lat) FROM 'lab:climate.nc'", "-75.0,75.0"),
    ] {
        let plan = explained(&engine, sql).await?;
        assert!(plan.contains("PlaceholderRowExec"), "{sql}: {plan}");
        assert_eq!(ask(&engine, sql).await?, answer);
    }
    // Of the first few rows nothing is known.
    for (sql, answer) in [
        ("SELECT count(*) FROM (SELECT * FROM 'lab:climate.nc' LIMIT 5)", "5"),
        ("SELECT min(lat), max(lat) FROM (SELECT lat FROM 'lab:climate.nc' LIMIT 1)", "75.0,75.0"),
        ("SELECT count(*) FROM (SELECT * FROM 'lab:climate.nc' WHERE lat > 0 LIMIT 7 OFFSET 3)", "7"),
    ] {
        assert_eq!(ask(&engine, sql).await?, answer, "{sql}");
    }
    Ok(())
}

/// Each file has its own coordinates, also where two are looked at one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_one_layout_keep_their_coordinates() -> TestResult {
    let server = server().await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    for _ in 0..2 {
        assert_eq!(ask(&engine, "SELECT min(x), max(x) FROM 'lab:packed-*.nc'").await?, "10,24");
        assert_eq!(ask(&engine, "SELECT count(*), min(x), max(v) FROM 'lab:packed-*.nc' WHERE x > 14").await?, "5,20,25.0");
    }
    Ok(())
}

/// A second query over an unchanged file reads none of its metadata.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_read_once() -> TestResult {
    let server = server().await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let sql = "SELECT sum(\"T2M\") FROM 'lab:climate.nc' WHERE time < '2001-02-01'";
    let bytes = |plan: &str| -> Option<u64> { plan.rsplit_once("bytes_read=")?.1.trim().trim_end_matches('"').parse().ok() };
    let first = bytes(&explained(&engine, sql).await?).ok_or("no bytes")?;
    let second = bytes(&explained(&engine, sql).await?).ok_or("no bytes")?;
    assert!(second < 2000 && second < first / 10, "{first} bytes, then {second}");
    Ok(())
}

/// Asking whether a file is there reads none of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_asked_about_is_not_counted() -> TestResult {
    let file = testdata().join("climate.nc");
    let plan = explained(&engine(Vec::new())?, &format!("SELECT lat FROM '{}'", file.display())).await?;
    assert!(plan.contains(&format!("bytes_read={}", std::fs::metadata(&file)?.len())), "{plan}");
    Ok(())
}

/// Pruning never changes an answer: the same rows come when the filter can't be decided by coordinates.
#[tokio::test(flavor = "multi_thread")]
async fn pruned_answers_are_those_of_a_whole_scan() -> TestResult {
    let server = server().await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let mut random = StdRng::seed_from_u64(17);
    for file in ["climate.nc", "weather2.zarr", "weather3.zarr"] {
        let value = if file == "climate.nc" { "\"T2M\"" } else { "rain" };
        for _ in 0..12 {
            let (south, west) = (random.random_range(-80..80), random.random_range(0..360));
            let (height, width) = (random.random_range(0..90), random.random_range(0..200));
            let hour = random.random_range(0..48);
            let filters = [
                format!("lat BETWEEN {south} AND {}", south + height),
                format!("(lon < {west} OR lon > {})", west + width),
                format!("date_part('hour', time) <> {hour}"),
                "lat IN (75, 15, 45, 40, 30)".to_owned(),
            ];
            let wanted: Vec<&String> = filters.iter().filter(|_| random.random_bool(0.6)).collect();
            let pruned = wanted.iter().map(|filter| filter.as_str()).chain(["true"]).collect::<Vec<_>>().join(" AND ");
            // A value that is random to the planner keeps the filter above the scan.
            let whole = wanted.iter().map(|filter| format!("({filter} AND random() < 2)")).chain(["true".to_owned()]).collect::<Vec<_>>();
            let answer = |filter: &str| {
                format!("SELECT count(*), count({value}), sum({value}), min(lat), max(lon), min(time) FROM 'lab:{file}' WHERE {filter}")
            };
            let (left, right) = (ask(&engine, &answer(&pruned)).await?, ask(&engine, &answer(&whole.join(" AND "))).await?);
            assert_eq!(rounded(&left), rounded(&right), "{file}: {pruned}");
        }
    }
    Ok(())
}

/// Groups of coordinates are places, not hashed values; the answers are those of any other grouping.
#[tokio::test(flavor = "multi_thread")]
async fn groups_of_coordinates_are_those_of_any_grouping() -> TestResult {
    let server = server().await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let cases = [
        ("climate.nc", "\"T2M\"", "lat", "true"),
        ("climate.nc", "\"T2M\"", "lon, lat", "time > '2001-03-01' AND lat < 40"),
        ("climate.nc", "\"T2M\"", "date_part('month', time)", "\"T2M\" > 280"),
        ("climate.nc", "\"T2M\"", "date_part('year', time), lat > 0, height", "lon <> 60"),
        ("climate.nc", "\"T2M\"", "lat", "lat > 100"),
        ("weather2.zarr", "rain", "lat", "lon < 200"),
        ("weather3.zarr", "rain", "date_trunc('day', time), abs(lat - 45) < 8", "true"),
        ("swath.nc", "radiance", "line, band", "latitude > 48"),
        // Several files: one of them lacks a column, and days have hours in common.
        ("day-*.nc", "t", "date_part('hour', time)", "true"),
        ("day-*.nc", "rh", "level", "level > 600"),
        ("packed-*.nc", "v", "x > 12", "true"),
        ("calendar-*.nc", "v", "time > '2000-02-30'", "true"),
    ];
    let mut replaced = 0;
    for (file, value, by, filter) in cases {
        let sql = |groups: &str| {
            let aggregates =
                format!("count(*), count({value}), sum({value}), avg({value} * 2), min({value}), max({value}), stddev({value})");
            format!("SELECT {by}, {aggregates} FROM 'lab:{file}' WHERE {filter} GROUP BY {groups}")
        };
        let sorted = |answer: String| {
            let mut rows: Vec<Vec<String>> = answer.lines().map(rounded).collect();
            rows.sort();
            rows
        };
        // A key that is random to the planner keeps the grouping by values.
        let by_values = sorted(ask(&engine, &sql(&format!("{by}, random() < 2"))).await?);
        assert_eq!(sorted(ask(&engine, &sql(by)).await?), by_values, "{file} by {by}");
        let plan = ask(&engine, &format!("EXPLAIN {}", sql(by))).await?;
        replaced += usize::from(plan.contains("CoordinateGroups"));
    }
    assert!(replaced >= 6, "{replaced} of the groupings were by coordinates");
    Ok(())
}

/// Sums of floats depend on their order in the last digits.
fn rounded(answer: &str) -> Vec<String> {
    answer.split(',').map(|cell| cell.parse::<f64>().map_or_else(|_| cell.to_owned(), |number| format!("{number:.3}"))).collect()
}

/// A chunk that can't fit is refused by its size, before it is decoded.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_beyond_the_memory_limit_is_refused() -> TestResult {
    let server = server().await?;
    let engine = limited(vec![bucket("lab", &server, "data")?], Limits { memory: 200, ..Limits::default() })?;
    let error = failure(&engine, "SELECT sum(rain + 1) FROM 'lab:weather3.zarr'").await;
    assert_eq!(error.kind(), Kind::LimitExceeded, "{error}");
    assert!(error.to_string().contains("array: rain") && error.to_string().contains("756 bytes"), "{error}");
    Ok(())
}

/// A dataset that is more than the table that was read says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_dataset_is_noticed() -> TestResult {
    let server = server().await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    let owner = Principal::owner();
    let query = engine.query("SELECT count(*) FROM 'lab:climate.nc'", &[], &owner).await?;
    let schema = query.schema();
    let notices: Vec<&str> = notices_of(&schema).collect();
    assert!(notices.len() == 1 && notices[0].contains("3 other variables (area, region_name, run/step)"), "{notices:?}");
    let all = engine.query("SELECT count(*) FROM 'lab:weather3.zarr'", &[], &owner).await?;
    assert_eq!(notices_of(&all.schema()).count(), 0);
    Ok(())
}

/// A truncated file is an error that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_is_an_error() -> TestResult {
    let server = S3Server::start().await?;
    for (name, keep) in [("classic.nc", 450), ("climate.nc", 30_000)] {
        let mut bytes = std::fs::read(testdata().join(name))?;
        bytes.truncate(keep);
        server.put("data", name, bytes).await?;
        let engine = engine(vec![bucket("lab", &server, "data")?])?;
        let error = failure(&engine, &format!("SELECT * FROM 'lab:{name}'")).await;
        assert!(matches!(error.kind(), Kind::CorruptData), "{name}: {error}");
        assert!(error.to_string().contains(&format!("lab:{name}")), "{error}");
    }
    Ok(())
}

/// Bytes that were changed give an answer or an error: no panic, no hang. `make fuzz` runs many more rounds.
#[tokio::test(flavor = "multi_thread")]
async fn mutated_files_are_answers_or_errors() -> TestResult {
    const ROUNDS: usize = 200;
    let rounds = std::env::var("LACUS_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).map_or(ROUNDS, |rounds: usize| rounds / 10);
    let memory = Arc::new(lacus::object_store::memory::InMemory::new());
    let store = StoreSpec::new(StoreName::new("lab")?, Place::Custom(memory.clone()));
    let engine = limited(vec![store], Limits { memory: 256 << 20, deadline: Duration::from_secs(30), ..Limits::default() })?;
    let mut random = StdRng::seed_from_u64(23);
    let mut insane: Vec<String> = Vec::new();
    for name in ["climate.nc", "classic.nc", "plain.h5", "swath.nc"] {
        let whole = std::fs::read(testdata().join(name))?;
        for round in 0..rounds / 4 {
            let mut bytes = whole.clone();
            for _ in 0..random.random_range(1..6) {
                let end = if random.random_bool(0.7) { bytes.len().min(8192) } else { bytes.len() };
                let place = random.random_range(0..end);
                bytes[place] = if random.random_bool(0.5) { random.random() } else { [0, 1, 0x7F, 0xFF][random.random_range(0..4)] };
            }
            if random.random_bool(0.1) {
                bytes.truncate(random.random_range(0..bytes.len()));
            }
            memory.put(&name.into(), bytes.clone().into()).await?;
            for sql in [format!("SELECT * FROM 'lab:{name}' LIMIT 1000000"), format!("SELECT count(*) FROM 'lab:{name}'")] {
                if let Err(error) = ask(&engine, &sql).await {
                    let text = error.to_string();
                    let sane = !matches!(error.kind(), Kind::Internal | Kind::DeadlineExceeded) && !text.contains("panicked");
                    if !sane {
                        let kept = std::env::temp_dir().join(format!("mutated-{round}-{name}"));
                        std::fs::write(&kept, &bytes)?;
                        insane.push(format!("{sql} of {}: {error}", kept.display()));
                    }
                }
            }
        }
    }
    assert!(insane.is_empty(), "{} of {rounds} files: {insane:#?}", insane.len());
    Ok(())
}
