//! Where SQL is answered: here, or by a server.

use std::path::Path;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use lacus::arrow::array::RecordBatch;
use lacus::arrow::datatypes::SchemaRef;
use lacus::{Engine, Principal, Provenance, ProvenanceRecord, QueryProgress, Result, ScalarValue, Session, notices_of};
use lacus_remote::{Remote, RemoteProvenance};

use crate::{commands, terminal};

#[derive(Clone)]
pub(crate) enum Door {
    /// In this process.
    Here(Engine, Session),
    /// By a server.
    There(Remote),
}

/// One result, from either door.
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: BoxStream<'static, Result<RecordBatch>>,
    /// How far it is, where that is known.
    pub(crate) progress: Option<QueryProgress>,
    /// What it was computed from.
    pub(crate) provenance: Told,
}

/// What an answer was computed from, from either door.
#[derive(Clone)]
pub(crate) enum Told {
    Here(Provenance),
    There(RemoteProvenance),
}

impl Told {
    /// The record, once all of the answer was read.
    pub(crate) fn record(&self) -> Option<ProvenanceRecord> {
        match self {
            Self::Here(provenance) => provenance.record(),
            Self::There(provenance) => provenance.record(),
        }
    }
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

/// Says what a command wants its reader to know.
fn told(schema: &SchemaRef) {
    notices_of(schema).for_each(|notice| terminal::say(&format!("notice: {notice}")));
}

impl Door {
    /// The server at `connect`, or the lake here.
    pub(crate) async fn open(lake: Option<&Path>, connect: Option<&str>) -> Result<Self> {
        match connect {
            Some(uri) => Ok(Self::There(Remote::connect(uri).await?)),
            None => Ok(Self::Here(commands::config(lake)?.engine()?, Session::through("command", &Principal::owner(), true))),
        }
    }

    /// What one statement gives; nothing for a command, which has run.
    pub(crate) async fn ask(&self, statement: &str, parameters: &[ScalarValue]) -> Result<Option<Answer>> {
        match self {
            Self::Here(engine, session) => {
                let query = engine.query(statement, parameters, session).await?;
                if query.is_command() {
                    told(&query.schema());
                    return Ok(None);
                }
                let (schema, progress, provenance) = (query.schema(), Some(query.progress()), Told::Here(query.provenance()));
                Ok(Some(Answer { schema, batches: query.stream()?.boxed(), progress, provenance }))
            }
            Self::There(remote) => {
                let query = remote.query(statement, parameters).await?;
                if query.is_command() {
                    told(&query.schema());
                    return Ok(None);
                }
                let (schema, provenance) = (query.schema(), Told::There(query.provenance()));
                Ok(Some(Answer { schema, batches: query.stream()?.boxed(), progress: None, provenance }))
            }
        }
    }

    /// The schema of what one statement would give.
    pub(crate) async fn schema(&self, statement: &str) -> Result<SchemaRef> {
        match self {
            Self::Here(engine, session) => Ok(engine.prepare(statement, session).await?.schema),
            Self::There(remote) => Ok(remote.query(statement, &[]).await?.schema()),
        }
    }

    /// Waits until what statements began in the background has ended.
    pub(crate) async fn settle(&self) {
        if let Self::Here(engine, _) = self {
            engine.settle().await;
        }
    }

    /// What the prompt calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Here(engine, _) => engine.lake().to_owned(),
            Self::There(remote) => remote.uri().to_owned(),
        }
    }
}
