//! The ways to one engine.

use std::ffi::OsStr;
use std::process::Child;

use lacus::{Engine, Error, Principal, Result, Session, TryStreamExt};
use lacus_remote::Remote;
use lacus_server::Server;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use tokio::task::JoinHandle;

use crate::clients::{COMMAND, PYTHON, ask_command, ask_python, python};
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
        for (kind, variable) in [(Self::Python, PYTHON), (Self::Cli, COMMAND)] {
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
            DoorKind::Python => python(&source.file, &source.environment).map(Self::Python),
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
            Self::Cli(source) => ask_command(&[OsStr::new("--lake"), source.file.as_ref()], &source.environment, sql)?,
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
