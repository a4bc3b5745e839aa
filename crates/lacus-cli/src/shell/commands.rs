//! The commands of the shell: what begins with a dot, or with a backslash as in `psql`.

use std::path::PathBuf;

use clap::ValueEnum;
use lacus::{Error, Kind, Result, nearest};

use crate::arguments::Format;
use crate::door::Door;
use crate::shell::page::{self, Size};
use crate::shell::{Next, Shell, plot};
use crate::terminal;

/// Every name of a command, for completion.
pub(crate) const NAMES: [&str; 24] = [
    ".connect",
    ".describe",
    ".format",
    ".functions",
    ".help",
    ".open",
    ".output",
    ".pager",
    ".plot",
    ".queries",
    ".quit",
    ".read",
    ".rows",
    ".schemas",
    ".summarize",
    ".tables",
    ".timing",
    "\\?",
    "\\d",
    "\\df",
    "\\dn",
    "\\i",
    "\\q",
    "\\timing",
];

const HELP: &str = "\
A statement ends with `;` and may have many lines. Tab completes names; the
arrows and Ctrl-R find what was written before.

  .tables, \\d [PART]            the tables, or those whose name holds PART
  .describe TABLE, \\d TABLE     the columns of a table, with units and descriptions
  .summarize TABLE              what its columns hold; SUMMARIZE in SQL
  .schemas, \\dn                 the schemas
  .functions, \\df [PART]        the functions, or those whose name holds PART
  .queries                      what runs here, to be ended with KILL 'id';
  .plot X Y [FILE.svg]          draws the last result: column Y over column X
  .format table|csv|json|ndjson the form of results
  .rows N                       show at most N rows of a table (0 for all)
  .output FILE                  write the next result to a file, in the form of its ending
  .read FILE, \\i FILE           run the statements of a file
  .open PATH, .connect URI      another lake file, or a server: grpc://HOST:PORT
  .timing on|off, .pager on|off
  .quit, \\q, Ctrl-D             leave";

/// Runs one command.
pub(crate) async fn run(shell: &mut Shell, text: &str, size: Option<Size>) -> Result<Next> {
    let mut words = text.trim_end_matches(';').split_whitespace();
    let name = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let one = || rest.first().copied().filter(|_| rest.len() == 1).ok_or_else(|| wants(name, "one argument"));
    match name {
        ".help" | ".h" | "\\?" | "\\h" => page::show(HELP, size.filter(|_| shell.paging))?,
        ".quit" | ".exit" | ".q" | "\\q" => return Ok(Next::End),
        ".tables" | "\\dt" => tables(shell, rest.first().copied(), size).await?,
        "\\d" => match rest.as_slice() {
            [] => tables(shell, None, size).await?,
            [table] => describe(shell, table, size).await?,
            _ => return Err(wants(name, "one table")),
        },
        ".describe" | ".schema" => describe(shell, one()?, size).await?,
        ".summarize" => show(shell, &format!("SUMMARIZE {}", one()?), size).await?,
        ".schemas" | "\\dn" => {
            show(shell, "SELECT DISTINCT table_schema AS \"schema\" FROM information_schema.tables ORDER BY 1", size).await?;
        }
        ".functions" | "\\df" => {
            let part = literal(rest.first().copied().unwrap_or_default());
            let sql = format!(
                "SELECT DISTINCT routine_name AS name, function_type AS kind, syntax_example AS syntax, description \
                 FROM information_schema.routines WHERE routine_name LIKE '%' || {part} || '%' ORDER BY 1, 2"
            );
            show(shell, &sql, size).await?;
        }
        ".queries" => {
            let sql = "SELECT id, \"user\", state, seconds, progress, rows, bytes_read, memory, left(sql, 60) AS sql FROM system.queries \
                       WHERE state IN ('planning', 'planned', 'queued', 'running') ORDER BY started";
            show(shell, sql, size).await?;
        }
        ".plot" => draw(shell, &rest, size).await?,
        ".format" | ".mode" => shell.format = format(one()?)?,
        ".rows" => shell.rows = one()?.parse().map_err(|_| wants(name, "a number of rows, 0 for all"))?,
        ".output" | "\\o" => shell.output = Some(PathBuf::from(one()?)),
        ".timing" | "\\timing" => shell.timing = switched(name, &rest, shell.timing)?,
        ".pager" => shell.paging = switched(name, &rest, shell.paging)?,
        ".read" | "\\i" => read(shell, one()?, size).await?,
        ".open" => shell.door = Door::open(Some(one()?.as_ref()), None).await?,
        ".connect" | "\\c" => shell.door = Door::open(None, Some(one()?)).await?,
        unknown => {
            let error = Error::new(Kind::InvalidQuery, format!("no command `{unknown}`"));
            return Err(match nearest(unknown, NAMES) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`.help` lists them"),
            });
        }
    }
    Ok(Next::Prompt)
}

fn wants(name: &str, what: &str) -> Error {
    Error::new(Kind::InvalidQuery, format!("`{name}` takes {what}")).hint("`.help` tells more")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn switched(name: &str, rest: &[&str], now: bool) -> Result<bool> {
    match rest {
        [] => Ok(!now),
        ["on"] => Ok(true),
        ["off"] => Ok(false),
        _ => Err(wants(name, "`on` or `off`")),
    }
}

fn format(name: &str) -> Result<Format> {
    let text_forms = [Format::Table, Format::Csv, Format::Json, Format::Ndjson];
    let found = Format::from_str(name, true).ok().filter(|format| text_forms.contains(format));
    found.ok_or_else(|| {
        Error::new(Kind::InvalidQuery, format!("a terminal shows no `{name}`"))
            .hint("`.format table`, csv, json or ndjson; `.output FILE` writes arrow and parquet")
    })
}

/// Shows what a statement of the shell's own gives; `.plot` goes on to mean the last one of the person's.
async fn show(shell: &mut Shell, statement: &str, size: Option<Size>) -> Result<()> {
    let last = shell.last.clone();
    let shown = shell.show(statement, size).await;
    shell.last = last;
    shown
}

async fn tables(shell: &mut Shell, part: Option<&str>, size: Option<Size>) -> Result<()> {
    let part = literal(part.unwrap_or_default());
    let sql = format!(
        "SELECT table_schema AS \"schema\", table_name AS name, table_type AS kind, table_comment AS description FROM information_schema.tables \
         WHERE table_name LIKE '%' || {part} || '%' AND table_schema NOT IN ('information_schema', 'system') ORDER BY 1, 2"
    );
    show(shell, &sql, size).await
}

async fn describe(shell: &mut Shell, table: &str, size: Option<Size>) -> Result<()> {
    // A location is no name, and is written without quotes of its own here.
    let location = table.contains(['/', ':']) && !table.starts_with(['\'', '"']);
    let table = if location { literal(table) } else { table.to_owned() };
    show(shell, &format!("DESCRIBE {table}"), size).await
}

async fn read(shell: &mut Shell, file: &str, size: Option<Size>) -> Result<()> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::new(Kind::NotFound, format!("the SQL can't be read: {error}")).with("file", file))?;
    for statement in lacus::split(&text)? {
        shell.show(&statement, size).await?;
    }
    Ok(())
}

async fn draw(shell: &Shell, rest: &[&str], size: Option<Size>) -> Result<()> {
    let (x, y, file) = match rest {
        [x, y] => (*x, *y, None),
        [x, y, file] => (*x, *y, Some(*file)),
        _ => return Err(wants(".plot", "two columns and, to write it, a file: `.plot time temperature t.svg`")),
    };
    let statement = shell
        .last
        .as_ref()
        .ok_or_else(|| Error::new(Kind::InvalidQuery, "there is no result to draw yet").hint("run a query, then `.plot X Y`"))?;
    let points = plot::points(shell.answer(statement).await?, x, y).await?;
    match file {
        Some(file) => {
            plot::svg(&points, file.as_ref())?;
            terminal::print(&format!("({} points, written to {file})", points.len()))
        }
        None => terminal::print(&plot::text(&points, size)),
    }
}
