//! Reading what a person writes: lines with history, completion and colours, joined until a statement is complete.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lacus::{Error, Kind, Result};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Event, EventContext, EventHandler, Helper as Assistance, KeyEvent,
    RepeatCount,
};

use crate::door::Door;
use crate::shell::names::{Names, WORDS};
use crate::shell::page::Size;
use crate::shell::{commands, scan};

/// How many entries of history are kept.
const HISTORY: usize = 10_000;

/// The lines that a person writes.
pub(crate) struct Editor {
    lines: rustyline::Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
    given_up: GivenUp,
}

/// Whether the line was given up with Ctrl-C. It is accepted then, as Enter would, and not read: rustyline's own
/// command for Ctrl-C drops the keys that came with it, which may be the next statement.
#[derive(Clone, Default)]
struct GivenUp(Arc<AtomicBool>);

impl ConditionalEventHandler for GivenUp {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(true, Ordering::Relaxed);
        Some(Cmd::AcceptLine)
    }
}

/// What was read.
pub(crate) enum Read {
    /// A statement or a command.
    Text(String),
    /// Nothing, or a line that was given up with Ctrl-C.
    Nothing,
    /// Ctrl-D.
    End,
}

impl Editor {
    pub(crate) fn open(door: &Door) -> Result<Self> {
        let config = Config::builder().completion_type(CompletionType::List).max_history_size(HISTORY);
        let config = config.and_then(|config| config.history_ignore_dups(true)).map_err(unusable)?.auto_add_history(false).build();
        let mut lines = rustyline::Editor::with_config(config).map_err(unusable)?;
        let given_up = GivenUp::default();
        lines.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(given_up.clone())));
        let (names, files) = (Names::learn(door), FilenameCompleter::new());
        lines.set_helper(Some(Assistant { names, files, coloured: is_coloured(), given_up: given_up.clone() }));
        let history = history_file();
        if let Some(file) = &history {
            // There is none the first time.
            let _ = lines.load_history(file);
        }
        Ok(Self { lines, history, given_up })
    }

    /// Reads until a statement or a command is complete.
    pub(crate) fn read(&mut self) -> Result<Read> {
        let read = self.lines.readline("lacus> ");
        let given_up = self.given_up.0.swap(false, Ordering::Relaxed);
        let text = match read {
            Ok(text) if given_up || text.trim().is_empty() => return Ok(Read::Nothing),
            Ok(text) => text,
            // A signal, not a key.
            Err(ReadlineError::Interrupted) => return Ok(Read::Nothing),
            Err(ReadlineError::Eof) => return Ok(Read::End),
            Err(error) => return Err(unusable(error)),
        };
        self.lines.add_history_entry(text.as_str()).map_err(unusable)?;
        if let Some(file) = &self.history {
            // A history that can't be kept is no reason to stop working.
            let _ = self.lines.append_history(file);
        }
        Ok(Read::Text(text))
    }

    /// The size of the terminal, if it is one.
    pub(crate) fn size(&mut self) -> Option<Size> {
        let (columns, rows) = self.lines.dimensions()?;
        Some(Size { columns: usize::from(columns), rows: usize::from(rows) })
    }

    /// Tables may have come or gone.
    pub(crate) fn changed(&mut self, door: &Door) {
        if let Some(assistant) = self.lines.helper_mut() {
            assistant.names = Names::learn(door);
        }
    }
}

fn unusable(error: ReadlineError) -> Error {
    Error::new(Kind::Unavailable, format!("the terminal can't be used: {error}"))
}

/// `lacus/history` in the folder that the system has for such things.
fn history_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?.join("lacus");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Whether the terminal shows colours and the person wants them.
fn is_coloured() -> bool {
    let plain = std::env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !plain
}

/// What helps while a line is written.
struct Assistant {
    names: Names,
    files: FilenameCompleter,
    coloured: bool,
    given_up: GivenUp,
}

impl Assistance for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let given_up = self.given_up.0.load(Ordering::Relaxed);
        let complete = given_up || text.trim_start().starts_with(['.', '\\']) || scan::is_complete(text);
        Ok(if complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if !self.coloured || line.starts_with(['.', '\\']) {
            return Cow::Borrowed(line);
        }
        let coloured = |part: &scan::Part<'_>| {
            let colour = match part.kind {
                scan::Kind::Word if is_word(part.text) => "1;34",
                scan::Kind::Text => "32",
                scan::Kind::Name => "33",
                scan::Kind::Number => "36",
                scan::Kind::Comment => "90",
                _ => return part.text.to_owned(),
            };
            format!("\x1b[{colour}m{}\x1b[0m", part.text)
        };
        Cow::Owned(scan::parts(line).iter().map(coloured).collect())
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.coloured
    }
}

fn is_word(text: &str) -> bool {
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..position];
        if before.starts_with(['.', '\\']) && !before.contains(' ') {
            return Ok((0, pairs(commands::NAMES.iter().filter(|name| name.starts_with(before)).map(|name| (*name).to_owned()))));
        }
        let parts = scan::parts(before);
        if let Some(open) = parts.last().filter(|part| part.kind == scan::Kind::Text && !part.ends) {
            let (start, found) = self.files.complete(&open.text[1..], open.text.len() - 1, context)?;
            return Ok((open.start + 1 + start, found));
        }
        let word = parts.last().filter(|part| part.kind == scan::Kind::Word);
        let (start, begun) = word.map_or((position, ""), |part| (part.start, part.text));
        let before_word = if word.is_some() { &parts[..parts.len() - 1] } else { &parts[..] };
        let candidates = match before_word {
            [.., owner, dot] if dot.text == "." && matches!(owner.kind, scan::Kind::Word | scan::Kind::Name) => {
                self.below(owner.text, line)
            }
            _ if wants_table(before_word) => self.tables(),
            _ => self.anywhere(begun, line),
        };
        let lower = begun.to_lowercase();
        let fitting = candidates.into_iter().filter(|name| name.to_lowercase().trim_start_matches('"').starts_with(&lower));
        Ok((start, pairs(fitting)))
    }
}

impl Assistant {
    /// What may follow `owner.`: the tables of a schema, or the columns of a table or its alias.
    fn below(&self, owner: &str, line: &str) -> Vec<String> {
        let schema = owner.trim_matches('"');
        let tables = self.names.tables(schema);
        if !tables.is_empty() {
            return tables.iter().map(|table| quoted(table)).collect();
        }
        let named = tables_in(line).into_iter().find(|(table, alias)| table == owner || alias.as_deref() == Some(owner));
        let columns = named.map(|(table, _)| self.names.columns(&table)).unwrap_or_default();
        columns.iter().map(|column| quoted(column)).collect()
    }

    /// What may stand after FROM.
    fn tables(&self) -> Vec<String> {
        self.names.tables("main").iter().chain(&self.names.schemas()).map(|name| quoted(name)).collect()
    }

    /// What may stand where a name begins: columns of the tables of the statement first.
    fn anywhere(&self, begun: &str, line: &str) -> Vec<String> {
        let columns = tables_in(line).into_iter().flat_map(|(table, _)| self.names.columns(&table));
        let mut all: Vec<String> = columns.chain(self.names.tables("main")).chain(self.names.schemas()).map(|name| quoted(&name)).collect();
        if !begun.is_empty() {
            let small = begun.chars().all(|letter| !letter.is_uppercase());
            all.extend(self.names.functions());
            all.extend(WORDS.iter().map(|word| if small { word.to_lowercase() } else { (*word).to_owned() }));
        }
        all.dedup();
        all
    }
}

/// The words that a table follows.
const BEFORE_TABLES: [&str; 5] = ["from", "join", "summarize", "describe", "table"];

fn wants_table(before: &[scan::Part<'_>]) -> bool {
    let last = before.iter().rev().find(|part| part.kind != scan::Kind::Space);
    last.is_some_and(|last| BEFORE_TABLES.iter().any(|word| last.text.eq_ignore_ascii_case(word)))
}

/// The tables that a statement names after FROM and JOIN, as they are written, with their aliases.
fn tables_in(line: &str) -> Vec<(String, Option<String>)> {
    let parts: Vec<_> = scan::parts(line).into_iter().filter(|part| !matches!(part.kind, scan::Kind::Comment)).collect();
    let mut found = Vec::new();
    for (position, part) in parts.iter().enumerate() {
        let names = BEFORE_TABLES.iter().any(|word| part.text.eq_ignore_ascii_case(word));
        if !names || part.kind != scan::Kind::Word {
            continue;
        }
        let rest = parts[position + 1..].iter().skip_while(|part| part.kind == scan::Kind::Space);
        let is_name = |part: &&&scan::Part<'_>| {
            part.ends && (matches!(part.kind, scan::Kind::Word | scan::Kind::Name | scan::Kind::Text) || part.text == ".")
        };
        let table: Vec<&str> = rest.clone().take_while(|part| is_name(&part)).map(|part| part.text).collect();
        if table.is_empty() {
            continue;
        }
        let mut after =
            rest.skip(table.len()).filter(|part| part.kind != scan::Kind::Space).filter(|part| !part.text.eq_ignore_ascii_case("as"));
        let alias = after.next().filter(|part| part.kind == scan::Kind::Word && !is_word(part.text)).map(|part| part.text.to_owned());
        found.push((table.concat(), alias));
    }
    found
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    let plain = plain && !name.starts_with(|first: char| first.is_ascii_digit());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn pairs(names: impl Iterator<Item = String>) -> Vec<Pair> {
    names.map(|name| Pair { display: name.clone(), replacement: name }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_as_they_are_written() {
        let found = tables_in("SELECT x. FROM shots AS s JOIN climate.\"T lat\" t ON 1 = 1 JOIN 'a/b.nc' WHERE");
        let found: Vec<_> = found.iter().map(|(table, alias)| (table.as_str(), alias.as_deref())).collect();
        assert_eq!(found, [("shots", Some("s")), ("climate.\"T lat\"", Some("t")), ("'a/b.nc'", None)]);
        assert_eq!(quoted("te"), "te");
        assert_eq!(quoted("Te"), "\"Te\"");
    }
}
