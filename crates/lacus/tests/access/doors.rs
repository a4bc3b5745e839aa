//! The doors through which a principal asks.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::process::Child;
use std::sync::{Arc, Mutex};

use arrow_flight::sql::client::FlightSqlServiceClient;
use async_trait::async_trait;
use futures::TryStreamExt;
use lacus::arrow::array::RecordBatch;
use lacus::arrow::util::display::{ArrayFormatter, FormatOptions};
use lacus::{Bearer, Engine, Error, Kind, Session, Tokens};
use lacus_server::{Callers, Listen, Server};
use tonic::transport::{Channel, Endpoint};

use crate::TestResult;
use crate::clients::{ask_command, ask_python, broken, python};
use crate::lake::{Lake, principal};

/// Through what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    Embedded,
    Flight,
    Prepared,
    Python,
    Command,
}

impl Door {
    /// Those that need nothing but this process.
    pub(crate) const HERE: [Self; 3] = [Self::Embedded, Self::Flight, Self::Prepared];
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Rows(Vec<Vec<String>>),
    Refused(Option<Kind>, String),
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Rows(rows) => rows.iter().map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n"),
            Self::Refused(_, text) => format!("refused: {text}"),
        }
    }

    /// The answer without the name of the table.
    pub(crate) fn about(&self, table: &str) -> Self {
        let without = |text: &str| text.replace(table, "{t}");
        match self {
            Self::Rows(rows) => Self::Rows(rows.iter().map(|row| row.iter().map(|cell| without(cell)).collect()).collect()),
            Self::Refused(kind, text) => Self::Refused(*kind, without(text)),
        }
    }
}

/// Names are tokens here: what providers of identities do is tested elsewhere.
#[derive(Debug)]
struct Names;

#[async_trait]
impl Tokens for Names {
    async fn bearer(&self, token: &str) -> lacus::Result<Option<Bearer>> {
        Ok(Some(Bearer { principal: principal(token), expires: None }))
    }
}

/// A server and an engine over one lake.
pub(crate) struct Doors {
    pub(crate) engine: Engine,
    uri: String,
    /// A Python process for each principal.
    pythons: Mutex<HashMap<&'static str, Child>>,
    clients: HashMap<&'static str, FlightSqlServiceClient<Channel>>,
}

impl Doors {
    pub(crate) async fn open(lake: &Lake) -> TestResult<Self> {
        let engine = lake.engine()?;
        // A column without values would have another type in a file.
        let view = "CREATE VIEW seen_masked AS SELECT id, name, CAST(v AS BIGINT) AS v FROM pseudonyms";
        engine.query(view, &[], &principal("owner")).await?;
        engine.query("CREATE VIEW viewed AS SELECT * FROM masked", &[], &principal("owner")).await?;
        engine.query("CREATE VIEW seen_viewed AS SELECT * FROM seen_masked WHERE id < 100", &[], &principal("owner")).await?;
        let callers = Callers { tokens: vec![Arc::new(Names)], anonymous: true, ..Callers::default() };
        let listen = Listen { address: Some("127.0.0.1:0".to_owned()), callers, ..Listen::default() };
        let server = Server::listen(listen).await?;
        let served = server.uri();
        let uri = served.replace("grpc://", "http://");
        tokio::spawn(server.serve(engine.clone(), std::future::pending()));
        let mut clients = HashMap::new();
        for name in ["owner", "ada", "bob", "anonymous"] {
            let mut client = FlightSqlServiceClient::new(Endpoint::new(uri.clone())?.connect().await?);
            if name != "anonymous" {
                client.set_token(name.to_owned());
            }
            clients.insert(name, client);
        }
        let mut pythons = HashMap::new();
        if wants("python") {
            for name in clients.keys() {
                pythons.insert(*name, python(&served, &environment(name))?);
            }
        }
        Ok(Self { engine, uri: served, pythons: Mutex::new(pythons), clients })
    }

    /// The doors of this process, and those that `LACUS_DOORS` asks for.
    pub(crate) fn opened(&self) -> Vec<Door> {
        let others = [("python", Door::Python), ("cli", Door::Command)];
        Door::HERE.into_iter().chain(others.into_iter().filter(|(name, _)| wants(name)).map(|(_, door)| door)).collect()
    }

    pub(crate) fn client(&self, name: &str) -> FlightSqlServiceClient<Channel> {
        self.clients[name].clone()
    }

    pub(crate) async fn ask(&self, door: Door, name: &str, question: &str) -> Answer {
        let asked = match door {
            Door::Embedded => self.embedded(name, question).await,
            Door::Flight => self.flight(name, question, false).await,
            Door::Prepared => self.flight(name, question, true).await,
            Door::Python => self.python(name, question).map_err(Into::into),
            Door::Command => {
                let asked = ask_command(&[OsStr::new("--connect"), self.uri.as_ref()], &environment(name), question);
                asked.map(|(batches, _)| batches).map_err(Into::into)
            }
        };
        match asked {
            Ok(batches) => Answer::Rows(batches.iter().flat_map(rows).collect()),
            Err(error) => match error.downcast_ref::<Error>() {
                Some(error) => Answer::Refused(Some(error.kind()), error.to_string()),
                None => Answer::Refused(None, error.to_string()),
            },
        }
    }

    fn python(&self, name: &str, question: &str) -> lacus::Result<Vec<RecordBatch>> {
        let mut pythons = self.pythons.lock().map_err(broken)?;
        let child = pythons.get_mut(name).ok_or_else(|| broken(format!("no Python of {name}")))?;
        Ok(ask_python(child, question)?.0)
    }

    async fn embedded(&self, name: &str, question: &str) -> TestResult<Vec<RecordBatch>> {
        let query = self.engine.query(question, &[], &Session::new(&principal(name))).await?;
        Ok(query.stream()?.try_collect().await?)
    }

    async fn flight(&self, name: &str, question: &str, prepared: bool) -> TestResult<Vec<RecordBatch>> {
        let mut client = self.client(name);
        let info = if prepared {
            client.prepare(question.to_owned(), None).await?.execute().await?
        } else {
            client.execute(question.to_owned(), None).await?
        };
        let mut batches = Vec::new();
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.ok_or("no ticket")?;
            batches.extend(client.do_get(ticket).await?.try_collect::<Vec<_>>().await?);
        }
        Ok(batches)
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        for child in self.pythons.get_mut().into_iter().flat_map(HashMap::values_mut) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wants(door: &str) -> bool {
    std::env::var("LACUS_DOORS").is_ok_and(|doors| doors.split(',').any(|name| name == door))
}

/// What says to a client of its own process who it is.
fn environment(name: &str) -> Vec<(String, String)> {
    // Where no folder of a user is, nobody has logged in.
    let token = (name != "anonymous").then(|| ("LACUS_TOKEN".to_owned(), name.to_owned()));
    [("XDG_STATE_HOME".to_owned(), "/nowhere".to_owned())].into_iter().chain(token).collect()
}

pub(crate) fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let columns: Vec<_> = batch.columns().iter().filter_map(|column| ArrayFormatter::try_new(column, &options).ok()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect()
}
