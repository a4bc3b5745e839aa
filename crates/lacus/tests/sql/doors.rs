//! The ways to one engine.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use lacus::arrow::array::RecordBatch;
use lacus::arrow::ipc::reader::StreamReader;
use lacus::{Engine, Error, Kind, Principal, Result, Session, TryStreamExt};
use lacus_remote::Remote;
use lacus_server::Server;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use tokio::task::JoinHandle;

use crate::lake::LakeSource;
use crate::{TestResult, values};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DoorKind {
    Embedded,
    Flight,
    Python,
    Cli,
}

impl DoorKind {
    const ALL: [Self; 4] = [Self::Embedded, Self::Flight, Self::Python, Self::Cli];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Flight => "flight",
            Self::Python => "python",
            Self::Cli => "cli",
        }
    }

    /// The doors that `LACUS_DOORS` asks for; one that can't be opened here is an error, not a door less.
    pub(crate) fn requested() -> TestResult<Vec<Self>> {
        let Ok(names) = std::env::var("LACUS_DOORS") else { return Ok(vec![Self::Embedded, Self::Flight]) };
        let kind = |name: &str| Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("no door `{name}`"));
        let kinds = names.split(',').map(kind).collect::<std::result::Result<Vec<_>, _>>()?;
        for (kind, variable) in [(Self::Python, "LACUS_PYTHON"), (Self::Cli, "LACUS_BIN")] {
            if kinds.contains(&kind) && std::env::var_os(variable).is_none() {
                return Err(format!("the door `{}` needs {variable}", kind.name()).into());
            }
        }
        Ok(kinds)
    }
}

impl std::fmt::Display for DoorKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One engine behind one door.
pub(crate) enum Door {
    Embedded(Engine, Session),
    Flight { remote: Remote, serving: JoinHandle<Result<()>> },
    Python(Child),
    Cli(LakeSource),
}

impl Door {
    pub(crate) async fn open(kind: DoorKind, source: &LakeSource) -> Result<Self> {
        match kind {
            DoorKind::Embedded => Ok(Self::Embedded(source.config()?.engine()?, Session::new(&Principal::owner()))),
            DoorKind::Flight => {
                let server = Server::bind("127.0.0.1:0").await?;
                let uri = server.uri();
                let serving = tokio::spawn(server.serve(source.config()?.engine()?, std::future::pending()));
                Ok(Self::Flight { remote: Remote::connect(&uri).await?, serving })
            }
            DoorKind::Python => python(source).map(Self::Python).map_err(broken),
            DoorKind::Cli => Ok(Self::Cli(source.clone())),
        }
    }

    async fn ask(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>> {
        let (batches, columns) = match self {
            Self::Embedded(engine, session) => {
                let query = engine.query(sql, &[], &*session).await?;
                if query.is_command() {
                    return Ok(DBOutput::StatementComplete(0));
                }
                let columns = query.schema().fields().len();
                (query.stream()?.try_collect().await?, columns)
            }
            Self::Flight { remote, .. } => {
                let query = remote.query(sql, &[]).await?;
                if query.is_command() {
                    return Ok(DBOutput::StatementComplete(0));
                }
                let columns = query.schema().fields().len();
                (query.stream()?.try_collect().await?, columns)
            }
            Self::Python(child) => ask_python(child, sql)?,
            Self::Cli(source) => ask_cli(source, sql)?,
        };
        if columns == 0 {
            return Ok(DBOutput::StatementComplete(0));
        }
        values::output(&batches, columns)
    }
}

#[async_trait::async_trait]
impl AsyncDB for Door {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>> {
        self.ask(sql).await
    }

    async fn shutdown(&mut self) {
        match self {
            Self::Flight { serving, .. } => serving.abort(),
            Self::Python(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Embedded(..) | Self::Cli(_) => {}
        }
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("the door is broken: {error}"))
}

/// A Python process that answers one line of SQL with one line: see `python/tests/door.py`.
fn python(source: &LakeSource) -> TestResult<Child> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/tests/door.py");
    let mut command = Command::new(std::env::var("LACUS_PYTHON")?);
    command.arg(script).arg(&source.file).envs(source.environment.iter().cloned());
    Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

fn ask_python(child: &mut Child, sql: &str) -> Result<(Vec<RecordBatch>, usize)> {
    let (Some(input), Some(output)) = (child.stdin.as_mut(), child.stdout.as_mut()) else { return Err(broken("no pipes")) };
    writeln!(input, "{}", serde_json::json!({ "sql": sql })).map_err(broken)?;
    // The process writes one line for each line, so nothing of a second line can be lost in this buffer.
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(broken)?;
    let answer: serde_json::Value = serde_json::from_str(&line).map_err(broken)?;
    if let Some(message) = answer["error"].as_str() {
        let kind = answer["code"].as_str().and_then(Kind::from_code).unwrap_or(Kind::Internal);
        return Err(Error::new(kind, message));
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(answer["arrow"].as_str().unwrap_or_default()).map_err(broken)?;
    read(&bytes)
}

fn ask_cli(source: &LakeSource, sql: &str) -> Result<(Vec<RecordBatch>, usize)> {
    let mut command = Command::new(std::env::var("LACUS_BIN").map_err(broken)?);
    command.arg("--lake").arg(&source.file).args(["sql", "--format", "arrow", sql]).envs(source.environment.iter().cloned());
    let output = command.output().map_err(broken)?;
    if !output.status.success() {
        return Err(Error::new(Kind::Internal, String::from_utf8_lossy(&output.stderr)));
    }
    read(&output.stdout)
}

fn read(stream: &[u8]) -> Result<(Vec<RecordBatch>, usize)> {
    let reader = StreamReader::try_new(stream, None)?;
    let columns = reader.schema().fields().len();
    Ok((reader.collect::<std::result::Result<Vec<_>, _>>()?, columns))
}
