//! Values that are easily lost: to a narrower type, to statistics, to a name with unusual characters.

use std::sync::Arc;

use lacus::Kind;
use lacus::arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch};
use lacus::arrow::datatypes::{DataType, Field, Schema};
use lacus::arrow::ipc::writer::FileWriter;
use lacus_testbed::S3Server;

use crate::parquet_file::column;
use crate::{TestResult, ask, bucket, engine, failure};

/// A folder of this machine with the given files.
fn folder(files: &[(&str, Vec<u8>)]) -> Result<tempfile::TempDir, std::io::Error> {
    let folder = tempfile::tempdir()?;
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
        std::fs::write(path, bytes)?;
    }
    Ok(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_a_widened_column_are_those_of_all_files() -> TestResult {
    let narrow = column(Arc::new(Int32Array::from(vec![-7, 1000])))?;
    let wide = column(Arc::new(Int64Array::from(vec![5])))?;
    let files = folder(&[("a.parquet", narrow), ("b.parquet", wide)])?;
    let engine = engine(Vec::new())?;
    let answer = ask(&engine, &format!("SELECT max(x), min(x), count(x) FROM '{}/*.parquet'", files.path().display())).await?;
    assert_eq!(answer, "1000,-7,3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_integers_are_not_rounded_to_floats() -> TestResult {
    let exact = column(Arc::new(Int64Array::from(vec![9_007_199_254_740_993])))?;
    let float = column(Arc::new(Float64Array::from(vec![0.5])))?;
    let files = folder(&[("a.parquet", exact), ("b.parquet", float.clone())])?;
    let engine = engine(Vec::new())?;
    let error = failure(&engine, &format!("SELECT * FROM '{}/*.parquet'", files.path().display())).await;
    assert!(error.kind() == Kind::CorruptData && error.to_string().contains("disagree on column `x`"), "{error}");
    let declare =
        |kind: &str| format!("CREATE EXTERNAL TABLE t (x {kind}) STORED AS PARQUET LOCATION '{}/b.parquet'", files.path().display());
    let error = failure(&engine, &declare("INT")).await;
    assert!(error.to_string().contains("column `x` can't be declared Int32"), "{error}");
    ask(&engine, &declare("DOUBLE")).await?;
    assert_eq!(ask(&engine, "SELECT x FROM t").await?, "0.5");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_partition_values_and_files_without_rows_are_counted_right() -> TestResult {
    let two = column(Arc::new(Int64Array::from(vec![1, 2])))?;
    let none = column(Arc::new(Int64Array::from(Vec::<i64>::new())))?;
    let files =
        folder(&[("year=__HIVE_DEFAULT_PARTITION__/a.parquet", two.clone()), ("year=2024/b.parquet", two), ("year=2025/c.parquet", none)])?;
    let engine = engine(Vec::new())?;
    let sql = format!("SELECT count(*), count(year), max(year), min(year), count(DISTINCT year) FROM '{}/**'", files.path().display());
    assert_eq!(ask(&engine, &sql).await?, "4,2,2024,2024,1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_begins_empty_keeps_its_values() -> TestResult {
    let mut text = String::from("n,note\n");
    (0..1500).for_each(|row| text.push_str(&format!("{row},{}\n", if row < 1200 { "" } else { "late" })));
    let files = folder(&[("late.csv", text.into_bytes()), ("empty.csv", Vec::new())])?;
    let engine = engine(Vec::new())?;
    let nothing = failure(&engine, &format!("SELECT * FROM '{}/empty.csv'", files.path().display())).await;
    assert!(nothing.kind() == Kind::CorruptData && nothing.to_string().contains("no columns (file: "), "{nothing}");
    let sql = format!("SELECT count(note), count(*) FROM '{}/late.csv'", files.path().display());
    assert_eq!(ask(&engine, &sql).await?, "300,1500");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_columns_are_matched_by_name() -> TestResult {
    let files = folder(&[("st.csv", b"shot,temp\n1,900\n".to_vec()), ("bare.csv", b"1,900\n".to_vec())])?;
    let engine = engine(Vec::new())?;
    let at = files.path().display();
    ask(&engine, &format!("CREATE EXTERNAL TABLE e (temp DOUBLE, shot BIGINT) STORED AS CSV LOCATION '{at}/st.csv'")).await?;
    assert_eq!(ask(&engine, "SELECT shot, temp FROM e").await?, "1,900.0");
    let error = failure(&engine, &format!("CREATE EXTERNAL TABLE f (tmp DOUBLE) STORED AS CSV LOCATION '{at}/st.csv'")).await;
    assert!(error.to_string().contains("no file has the declared column `tmp` (dataset: f); did you mean `temp`?"), "{error}");
    let bare = format!("CREATE EXTERNAL TABLE g (shot INT, temp INT) STORED AS CSV LOCATION '{at}/bare.csv' OPTIONS (header 'false')");
    ask(&engine, &bare).await?;
    assert_eq!(ask(&engine, "SELECT temp FROM g").await?, "900");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_taken_as_they_stand() -> TestResult {
    const NAMES: [&str; 6] = ["M\u{e4}rz 1.csv", "pct%20x.csv", "plus+hash#1.csv", "br[1].csv", "old~/x.csv", "y=\u{fc}/z.csv"];
    let server = S3Server::start().await?;
    let local: Vec<(&str, Vec<u8>)> = NAMES.iter().map(|name| (*name, format!("n\n{name}\n").into_bytes())).collect();
    let files = folder(&local)?;
    server.put("data", "a b.csv", "n\n1\n").await?;
    server.put("data", "runs/2/x.csv", "n\nwrong\n").await?;
    server.put("data", "runs2/x.csv", "n\nright\n").await?;
    let mut runs = bucket("runs", &server, "data")?;
    if let lacus::Place::S3(spec) = &mut runs.place {
        spec.prefix = "runs".to_owned();
    }
    let engine = engine(vec![bucket("lab", &server, "data")?, runs])?;
    for name in NAMES {
        let sql = format!("SELECT n FROM '{}/{name}'", files.path().display());
        assert_eq!(ask(&engine, &sql).await?, name);
    }
    assert_eq!(ask(&engine, "SELECT n FROM 'lab:a b.csv'").await?, "1");
    assert_eq!(ask(&engine, "SELECT n FROM 's3://data/a b.csv'").await?, "1");
    assert_eq!(ask(&engine, "SELECT n FROM 's3://data/a?b.csv'").await?, "1");
    assert_eq!(ask(&engine, "SELECT n FROM 'runs:2/x.csv'").await?, "wrong");
    // A store at `runs` does not cover `runs2`.
    assert_eq!(ask(&engine, "SELECT n FROM 's3://data/runs2/x.csv'").await?, "right");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_folders_are_no_data() -> TestResult {
    let server = S3Server::start().await?;
    server.put("data", "shots/2024", "").await?;
    server.put("data", "shots/_date=2024-01-01/a.csv", "n\n1\n").await?;
    server.put("data", "shots/_SUCCESS", "x").await?;
    let engine = engine(vec![bucket("lab", &server, "data")?])?;
    assert_eq!(ask(&engine, "SELECT n, _date FROM 'lab:shots/'").await?, "1,2024-01-01");
    Ok(())
}

/// Arrow files keep their own types, order and units; the table has one of each.
#[tokio::test(flavor = "multi_thread")]
async fn arrow_files_of_several_layouts_unite() -> TestResult {
    let described = |name: &str, kind, unit| lacus_core::describe_field(Field::new(name, kind, false), Some("what"), unit);
    let file = |fields: Vec<Field>, columns: Vec<ArrayRef>| -> lacus::Result<Vec<u8>> {
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        let mut writer = FileWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(&batch)?;
        Ok(writer.into_inner()?)
    };
    let first = file(
        vec![described("a", DataType::Int32, Some("K")), Field::new("b", DataType::Float64, false)],
        vec![Arc::new(Int32Array::from(vec![1])), Arc::new(Float64Array::from(vec![0.5]))],
    )?;
    let second = file(
        vec![Field::new("b", DataType::Float64, true), described("c", DataType::Int64, Some("s")), Field::new("a", DataType::Int64, false)],
        vec![Arc::new(Float64Array::from(vec![1.5])), Arc::new(Int64Array::from(vec![7])), Arc::new(Int64Array::from(vec![2]))],
    )?;
    let files = folder(&[("y=1/a.arrow", first), ("y=2/b.arrow", second)])?;
    let engine = engine(Vec::new())?;
    let from = format!("FROM '{}/**/*.arrow'", files.path().display());
    assert_eq!(ask(&engine, &format!("SELECT a, b, c, y {from} ORDER BY a")).await?, "1,0.5,NULL,1\n2,1.5,7,2");
    assert_eq!(ask(&engine, &format!("SELECT y, c, count(*) {from} WHERE a > 1 GROUP BY y, c")).await?, "2,7,1");
    assert_eq!(ask(&engine, &format!("SELECT count(*) {from} WHERE y = 1900")).await?, "0");
    Ok(())
}
