//! Where SQL is answered: here, or by a server.

use std::path::Path;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use lacus::arrow::array::RecordBatch;
use lacus::arrow::datatypes::SchemaRef;
use lacus::{Engine, Principal, QueryProgress, Result, ScalarValue};
use lacus_remote::Remote;

use crate::commands;

#[derive(Clone)]
pub(crate) enum Door {
    /// In this process.
    Here(Engine),
    /// By a server.
    There(Remote),
}

/// One result, from either door.
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: BoxStream<'static, Result<RecordBatch>>,
    /// How far it is, where that is known.
    pub(crate) progress: Option<QueryProgress>,
}

impl Answer {
    /// The same answer once its first rows are there, or it has ended.
    ///
    /// A line of progress and rows on one terminal would be written into each other: it ends before they begin.
    pub(crate) async fn begun(mut self) -> Result<Self> {
        let first = self.batches.try_next().await?;
        let batches = stream::iter(first.map(Ok)).chain(self.batches).boxed();
        Ok(Self { batches, ..self })
    }
}

impl Door {
    /// The server at `connect`, or the lake here.
    pub(crate) async fn open(lake: Option<&Path>, connect: Option<&str>) -> Result<Self> {
        match connect {
            Some(uri) => Ok(Self::There(Remote::connect(uri).await?)),
            None => Ok(Self::Here(commands::config(lake)?.engine()?)),
        }
    }

    /// What one statement gives; nothing for a command, which has run.
    pub(crate) async fn ask(&self, statement: &str, parameters: &[ScalarValue]) -> Result<Option<Answer>> {
        match self {
            Self::Here(engine) => {
                let query = engine.query(statement, parameters, &Principal::owner()).await?;
                if query.is_command() {
                    return Ok(None);
                }
                let (schema, progress) = (query.schema(), Some(query.progress()));
                Ok(Some(Answer { schema, batches: query.stream()?.boxed(), progress }))
            }
            Self::There(remote) => {
                let query = remote.query(statement, parameters).await?;
                if query.is_command() {
                    return Ok(None);
                }
                let schema = query.schema();
                Ok(Some(Answer { schema, batches: query.stream()?.boxed(), progress: None }))
            }
        }
    }

    /// The schema of what one statement would give.
    pub(crate) async fn schema(&self, statement: &str) -> Result<SchemaRef> {
        match self {
            Self::Here(engine) => Ok(engine.prepare(statement, &Principal::owner()).await?.schema),
            Self::There(remote) => Ok(remote.query(statement, &[]).await?.schema()),
        }
    }

    /// What the prompt calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Here(engine) => engine.lake().to_owned(),
            Self::There(remote) => remote.uri().to_owned(),
        }
    }
}
