//! The index of a dataset: what it saves, that it is never trusted further than versions go, and that it never changes an answer.

use std::fs;
use std::path::{Path, PathBuf};

use lacus::{Engine, IndexStatus, Kind};
use tempfile::TempDir;

use crate::{TestResult, ask, failure};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/arrays")
}

/// A lake with the files of a series and of three calendars, which a test may change.
fn lake() -> Result<TempDir, Failure> {
    let folder = TempDir::new()?;
    for entry in fs::read_dir(testdata())? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("day-") || name.starts_with("calendar-") || name == "climate.nc" {
            fs::copy(&path, folder.path().join(name))?;
        }
    }
    let text =
        "[dataset.days]\npath = \"day-*.nc\"\n[dataset.calendars]\npath = \"calendar-*.nc\"\n[dataset.climate]\npath = \"climate.nc\"\n";
    fs::write(folder.path().join("lacus.toml"), text)?;
    Ok(folder)
}

fn open(folder: &TempDir) -> lacus::Result<Engine> {
    lacus::open(Some(folder.path()))
}

async fn build(engine: &Engine, dataset: &str) -> Result<IndexStatus, Failure> {
    engine.build_index(dataset, &|_, _| {}).await?.ok_or_else(|| "no index".into())
}

fn counts(status: &IndexStatus) -> [u64; 4] {
    [status.current, status.added(), status.changed, status.removed]
}

fn count(plan: &str, what: &str) -> Option<u64> {
    let rest = plan.split_once(what)?.1;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

const QUESTIONS: [&str; 9] = [
    "SELECT count(*), sum(t), min(time), max(time) FROM days",
    "SELECT time, level, t FROM days WHERE time >= '2024-06-03' AND time < '2024-06-04' AND level > 600 ORDER BY time",
    "SELECT count(*) FROM days WHERE time < '2024-06-01'",
    "SELECT count(*), sum(rh) FROM days WHERE time > '2024-06-03T12:00:00' OR level < 600",
    "SELECT file, name, value FROM days._attributes ORDER BY file, path, name",
    "SELECT path, table_name, files FROM days._arrays ORDER BY path",
    "SELECT time, v FROM calendars ORDER BY time",
    "SELECT time, v FROM calendars WHERE time >= '2000-02-28T12:00:00' AND time < '2000-03-01' ORDER BY time, v",
    "SELECT count(*), sum(\"T2M\"), min(time), max(lat), min(lon) FROM climate WHERE lat > 0",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_index_never_changes_an_answer() -> TestResult {
    let folder = lake()?;
    let plain = open(&folder)?;
    let mut expected = Vec::new();
    for question in QUESTIONS {
        expected.push(ask(&plain, question).await?);
    }
    for dataset in ["days", "calendars", "climate"] {
        build(&plain, dataset).await?;
    }
    let indexed = open(&folder)?;
    for (question, expected) in QUESTIONS.iter().zip(expected) {
        assert_eq!(ask(&indexed, question).await?, expected, "{question}");
    }
    Ok(())
}

/// With an index a query opens only the files that match, and the bounds of coordinates take no file at all.
#[tokio::test(flavor = "multi_thread")]
async fn only_files_that_match_are_opened() -> TestResult {
    let folder = lake()?;
    build(&open(&folder)?, "days").await?;
    build(&open(&folder)?, "calendars").await?;
    let engine = open(&folder)?;
    let plan = ask(&engine, "EXPLAIN ANALYZE SELECT avg(t) FROM days WHERE time >= '2024-06-03' AND time < '2024-06-04'").await?;
    assert!(plan.contains("files=1/4"), "{plan}");
    // One file: its header, its coordinate, its data.
    assert!(count(&plan, "requests=").is_some_and(|requests| requests <= 5), "{plan}");
    let plan = ask(&engine, "EXPLAIN ANALYZE SELECT min(time), max(time), count(*) FROM days").await?;
    assert!(plan.contains("PlaceholderRowExec") && count(&plan, "bytes_read=") == Some(0), "{plan}");
    let plan = ask(&engine, "EXPLAIN ANALYZE SELECT v FROM calendars WHERE time > '2000-03-02'").await?;
    assert!(plan.contains("files=1/3"), "{plan}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_follows_its_files() -> TestResult {
    let folder = lake()?;
    let engine = open(&folder)?;
    let status = engine.index_status("days").await?.ok_or("no index")?;
    assert!(!status.exists && counts(&status) == [0, 4, 0, 0], "{status:?}");
    assert_eq!(counts(&build(&engine, "days").await?), [0, 4, 0, 0]);
    assert_eq!(counts(&build(&engine, "days").await?), [4, 0, 0, 0]);

    // One vanishes, one is new, one becomes another: queries see that before the index does.
    fs::remove_file(folder.path().join("day-1.nc"))?;
    fs::copy(testdata().join("day-1.nc"), folder.path().join("day-0.nc"))?;
    fs::copy(testdata().join("day-4.nc"), folder.path().join("day-2.nc"))?;
    let status = engine.index_status("days").await?.ok_or("no index")?;
    assert_eq!(counts(&status), [2, 1, 1, 1], "{status:?}");
    let sql = "SELECT count(*), count(rh), min(time), max(time) FROM days";
    let answer = "32,16,2024-06-01T00:00:00,2024-06-04T18:00:00";
    assert_eq!(ask(&open(&folder)?, sql).await?, answer);
    assert_eq!(counts(&build(&engine, "days").await?), [2, 1, 1, 1]);
    assert_eq!(ask(&open(&folder)?, sql).await?, answer);
    let files = fs::read_dir(Path::new(&status.place))?.count();
    assert_eq!(files, 3, "what no index uses is removed");
    // Anyone can read it.
    let parquet = format!("SELECT count(*), min(\"min(time) Timestamp(µs)\") FROM '{}/files.parquet'", status.place);
    assert_eq!(ask(&engine, &parquet).await?, "4,2024-06-01T00:00:00");
    // The chunks are those of the files that are there, changed ones included.
    let chunks = format!("SELECT count(DISTINCT file), count(*) FROM '{}/chunks-*.parquet' WHERE array = 'rh'", status.place);
    assert_eq!(ask(&engine, &chunks).await?, "2,8");
    Ok(())
}

/// With `files = "index"` nothing is listed: a dataset is what its index holds, and what is no longer so is an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_can_be_what_its_index_holds() -> TestResult {
    let folder = lake()?;
    fs::write(folder.path().join("lacus.toml"), "[dataset.days]\npath = \"day-*.nc\"\noptions = { files = \"index\" }\n")?;
    let error = failure(&open(&folder)?, "SELECT count(*) FROM days").await;
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("lacus index build days"), "{error}");
    build(&open(&folder)?, "days").await?;
    let day = |day: u8| format!("SELECT count(*), count(t) FROM days WHERE time >= '2024-06-0{day}' AND time < '2024-06-0{}'", day + 1);
    let answer = ask(&open(&folder)?, &day(3)).await?;
    assert!(answer.starts_with("8,"), "{answer}");

    fs::copy(testdata().join("day-1.nc"), folder.path().join("day-0.nc"))?;
    fs::remove_file(folder.path().join("day-2.nc"))?;
    fs::copy(testdata().join("day-4.nc"), folder.path().join("day-3.nc"))?;
    let engine = open(&folder)?;
    assert_eq!(ask(&engine, "SELECT count(*) FROM days").await?, "32", "a file that is new is not in the index");
    for gone in [2, 3] {
        let error = failure(&engine, &day(gone)).await;
        assert!(error.kind() == Kind::ObjectChanged && error.to_string().contains("lacus index build"), "{error}");
        assert!(error.to_string().contains(&format!("day-{gone}.nc")), "{error}");
    }
    build(&engine, "days").await?;
    assert_eq!(ask(&engine, &day(2)).await?, "0,0");
    // The lake now says other files than those that the index holds.
    fs::write(folder.path().join("lacus.toml"), "[dataset.days]\npath = \"day-4.nc\"\noptions = { files = \"index\" }\n")?;
    let error = failure(&open(&folder)?, "SELECT count(*) FROM days").await;
    assert!(error.kind() == Kind::NotFound && error.to_string().contains("day-4.nc"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_indexed_is_named() -> TestResult {
    let folder = lake()?;
    fs::write(folder.path().join("day-5.nc"), b"CDF\x01 and then nothing")?;
    let engine = open(&folder)?;
    let status = build(&engine, "days").await?;
    assert!(status.failed.len() == 1 && status.failed[0].0.ends_with("day-5.nc"), "{status:?}");
    // Nothing is dropped: a query opens the file, and says what is wrong.
    let error = failure(&open(&folder)?, "SELECT count(*) FROM days").await;
    assert!(error.kind() == Kind::CorruptData && error.to_string().contains("day-5.nc"), "{error}");
    let doctor = ask(&engine, "SELECT what, example FROM days._differences WHERE what = 'can''t be opened'").await?;
    assert!(doctor.contains("day-5.nc"), "{doctor}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_an_error_that_says_what_to_do() -> TestResult {
    let folder = lake()?;
    let status = build(&open(&folder)?, "days").await?;
    fs::write(Path::new(&status.place).join("files.parquet"), b"PAR1 nonsense PAR1")?;
    let error = failure(&open(&folder)?, "SELECT count(*) FROM days").await;
    assert!(error.kind() == Kind::CorruptData && error.to_string().contains("lacus index build days"), "{error}");
    build(&open(&folder)?, "days").await?;
    assert_eq!(ask(&open(&folder)?, "SELECT count(*) FROM days").await?, "32");
    Ok(())
}

/// What the files of a series disagree about; what follows one another is no disagreement.
#[tokio::test(flavor = "multi_thread")]
async fn differences_are_named() -> TestResult {
    let folder = lake()?;
    let engine = open(&folder)?;
    let doctor = ask(&engine, "SELECT path, what, value, files FROM days._differences ORDER BY path, what, value").await?;
    let expected = [
        "rh,presence,missing,3",
        "rh,presence,there,1",
        "t,units,K,3",
        "t,units,degC,1",
        "time,units,hours since 2024-06-01 00:00,1",
        "time,units,hours since 2024-06-02 00:00,1",
        "time,units,hours since 2024-06-03 00:00,1",
        "time,units,hours since 2024-06-04 00:00,1",
    ];
    assert_eq!(doctor, expected.join("\n"));
    // A file that ends too soon is one that can't be read, though its header can.
    let path = folder.path().join("day-2.nc");
    let whole = fs::read(&path)?;
    fs::write(&path, &whole[..whole.len() - 40])?;
    let doctor = ask(&engine, "SELECT path, what, example FROM days._differences WHERE what = 'can''t be read'").await?;
    assert!(doctor.contains("day-2.nc"), "{doctor}");
    Ok(())
}
