//! The lakes that SQL tests run in.

use std::path::{Path, PathBuf};

use lacus::Config;
use lacus_testbed::{ACCESS_KEY, S3Server, SECRET_KEY};

use crate::TestResult;

/// A lake file, and the environment that it takes its secrets from.
#[derive(Debug, Clone)]
pub(crate) struct LakeSource {
    pub(crate) file: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

impl LakeSource {
    pub(crate) fn config(&self) -> lacus::Result<Config> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let base = self.file.parent().map(PathBuf::from).unwrap_or_default();
        let value = |name: &str| self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        Config::parse(&text, base, &value)
    }
}

/// What all tests share: an S3 server that holds the test data, and the folder of the TPC-H tables.
pub(crate) struct Lakes {
    server: S3Server,
    state: tempfile::TempDir,
}

impl Lakes {
    pub(crate) async fn start() -> TestResult<Self> {
        let server = S3Server::start().await?;
        let testdata = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        server.put_folder("beamline-data", "", &testdata.join("bucket")).await?;
        server.put_folder("beamline-data", "arrays/", &testdata.join("arrays")).await?;
        let state = tempfile::tempdir()?;
        write_tpch(state.path())?;
        Ok(Self { server, state })
    }

    /// The lake of `testdata/`.
    pub(crate) fn fusion(&self) -> LakeSource {
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let environment = vec![
            variable("LACUS_DEMO_S3", self.server.endpoint()),
            variable("LACUS_DEMO_KEY", ACCESS_KEY.to_owned()),
            variable("LACUS_DEMO_SECRET", SECRET_KEY.to_owned()),
            variable("LACUS_DEMO_STATE", self.state.path().display().to_string()),
            // `s3://` URLs that no store covers are read from the same server.
            variable("AWS_ENDPOINT_URL", self.server.endpoint()),
            variable("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ];
        let testdata = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        LakeSource { file: testdata.join("lacus.toml"), environment }
    }

    /// A lake of its own, in which tables can be made.
    pub(crate) fn tables(&self) -> TestResult<LakeSource> {
        let folder = tempfile::tempdir_in(self.state.path())?.keep();
        std::fs::create_dir(folder.join("store"))?;
        let file = folder.join("lacus.toml");
        std::fs::write(&file, "[lake]\nname = \"lab\"\nwrite_to = \"disk\"\n[store.disk]\nurl = \"store\"\nwritable = true\n")?;
        Ok(LakeSource { file, environment: Vec::new() })
    }

    /// A lake over the TPC-H tables.
    pub(crate) fn tpch(&self) -> LakeSource {
        LakeSource { file: self.state.path().join("tpch.toml"), environment: Vec::new() }
    }
}

/// Written once, before any test reads it.
fn write_tpch(folder: &Path) -> TestResult<()> {
    const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];
    let Ok(data) = std::env::var("LACUS_TPCH") else { return Ok(()) };
    let datasets: String = TABLES.iter().map(|table| format!("[dataset.{table}]\npath = \"{data}/{table}.parquet\"\n")).collect();
    Ok(std::fs::write(folder.join("tpch.toml"), format!("[lake]\nname = \"tpch\"\nstate = \"state\"\n{datasets}"))?)
}
