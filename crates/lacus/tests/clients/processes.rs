//! Clients that are processes of their own: Python, and the command.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use lacus::arrow::array::RecordBatch;
use lacus::arrow::ipc::reader::StreamReader;
use lacus::{Error, Kind, Result};

/// The variables that name Python and the command.
pub(crate) const PYTHON: &str = "LACUS_PYTHON";
pub(crate) const COMMAND: &str = "LACUS_BIN";

pub(crate) fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("the door is broken: {error}"))
}

fn program(variable: &str) -> Result<Command> {
    Ok(Command::new(std::env::var(variable).map_err(|_| broken(format!("it needs {variable}")))?))
}

/// A Python process that asks a lake, or the server at an address: see `python/tests/door.py`.
pub(crate) fn python(lake: impl AsRef<OsStr>, environment: &[(String, String)]) -> Result<Child> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/tests/door.py");
    let mut command = program(PYTHON)?;
    command.arg(script).arg(lake).envs(environment.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(broken)
}

/// Rows, and how many columns they have.
pub(crate) type Rows = (Vec<RecordBatch>, usize);

/// What a Python process is answered.
pub(crate) fn ask_python(child: &mut Child, sql: &str) -> Result<Rows> {
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

/// What the command is answered; `lake` says whom it asks.
pub(crate) fn ask_command(lake: &[&OsStr], environment: &[(String, String)], sql: &str) -> Result<Rows> {
    let mut command = program(COMMAND)?;
    command.args(lake).args(["sql", "--format", "arrow", sql]).envs(environment.iter().cloned());
    let output = command.output().map_err(broken)?;
    if !output.status.success() {
        return Err(Error::new(Kind::Internal, String::from_utf8_lossy(&output.stderr)));
    }
    read(&output.stdout)
}

fn read(stream: &[u8]) -> Result<Rows> {
    let reader = StreamReader::try_new(stream, None)?;
    let columns = reader.schema().fields().len();
    Ok((reader.collect::<std::result::Result<Vec<_>, _>>()?, columns))
}
