//! The formats that ship with Lacus keep what every format must keep.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int8Array, Int16Array, Int64Array, UInt16Array};
use lacus_array::Format;
use lacus_array::conformance::{Expected, check, check_damaged};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

type TestResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/arrays")
}

fn format(name: &str) -> Result<Format, String> {
    lacus_formats::formats().into_iter().find(|format| format.name == name).ok_or_else(|| format!("no format {name}"))
}

fn array(path: &str, dimensions: &[&str], shape: &[u64], values: ArrayRef) -> Expected {
    let dimensions = dimensions.iter().map(|name| (*name).to_owned()).collect();
    Expected { path: path.to_owned(), shape: shape.to_vec(), dimensions, values }
}

async fn conforms(name: &str, file: &str, expected: &[Expected]) -> TestResult {
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(testdata())?);
    Ok(check(&format(name)?, &store, &Path::from(file), expected).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn netcdf_classic() -> TestResult {
    let salt = vec![35.0, 35.25, 35.5, 34.0, -1.0, 34.5, 9.96921e36, 33.0, 50.0, 32.0, 32.25, 32.5];
    let expected = [
        array("depth", &["depth"], &[3], Arc::new(Float32Array::from(vec![0.0, 10.0, 50.0]))),
        array("flag", &["time"], &[4], Arc::new(Int8Array::from(vec![1, 2, -127, 4]))),
        array("salt", &["time", "depth"], &[4, 3], Arc::new(Float32Array::from(salt))),
    ];
    conforms("netcdf", "classic.nc", &expected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn netcdf_4() -> TestResult {
    let expected = [
        array("lat", &["lat"], &[6], Arc::new(Float32Array::from(vec![75.0, 45.0, 15.0, -15.0, -45.0, -75.0]))),
        array("run/step", &["time"], &[24], Arc::new((0..24).map(|step| step * 100).collect::<arrow::array::Int32Array>())),
    ];
    conforms("netcdf", "climate.nc", &expected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn hdf5() -> TestResult {
    let expected = [
        array("entry/detector/counts", &[], &[4, 6], Arc::new((0..24).collect::<UInt16Array>())),
        array("entry/detector/frame_time", &[], &[4], Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5, 3.5]))),
        array("lzf", &[], &[1000], Arc::new((0..1000).map(|cell| cell / 20).collect::<Int64Array>())),
    ];
    conforms("hdf5", "plain.h5", &expected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn zarr_2_and_3() -> TestResult {
    let rain = (0..48 * 7 * 36).map(|cell| if (10..12).contains(&(cell / 252)) && cell / 36 % 7 == 2 { 25 } else { 0 });
    let rain: ArrayRef = Arc::new(rain.collect::<Int16Array>());
    for store in ["weather2.zarr", "weather3.zarr"] {
        let expected = [
            array("time", &["time"], &[48], Arc::new((0..48).collect::<Int64Array>())),
            array("rain", &["time", "lat", "lon"], &[48, 7, 36], Arc::clone(&rain)),
        ];
        conforms("zarr", store, &expected).await?;
    }
    Ok(())
}

/// A wrong expectation is found: the checks can fail.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_conform_is_named() -> TestResult {
    let values: ArrayRef = Arc::new(Float32Array::from(vec![0.0, 10.0, 51.0]));
    for (path, dimensions, shape) in
        [("depth", ["depth"], [3]), ("depth", ["level"], [3]), ("depth", ["depth"], [4]), ("deep", ["depth"], [3])]
    {
        let outcome = conforms("netcdf", "classic.nc", &[array(path, &dimensions, &shape, Arc::clone(&values))]).await;
        assert!(outcome.is_err_and(|error| error.to_string().contains(path)));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_errors_or_answers() -> TestResult {
    let rounds = std::env::var("LACUS_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse::<usize>().ok()).map_or(60, |rounds| rounds / 30);
    for (name, file) in [("netcdf", "classic.nc"), ("netcdf", "climate.nc"), ("hdf5", "plain.h5")] {
        check_damaged(&format(name)?, &std::fs::read(testdata().join(file))?.into(), rounds).await?;
    }
    Ok(())
}
