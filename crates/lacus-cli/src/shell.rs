//! The shell: `lacus` alone.
//!
//! `editor` reads a statement or a command, with history, completion and colours; `scan` tells the parts of SQL for both, and `names` what
//! can be completed; `commands` are what begins with a dot or a backslash; `page` shows what is larger than the screen; `plot` draws.

mod commands;
mod editor;
mod names;
mod page;
mod plot;
mod scan;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lacus::{Engine, Error, Kind, Result, notices_of, split};

use crate::arguments::{Format, ROWS};
use crate::door::{Answer, Door};
use crate::output::{Output, Written};
use crate::progress::Progress;
use crate::shell::editor::{Editor, Read};
use crate::terminal;

/// One shell, from its first prompt to its end.
pub(crate) struct Shell {
    pub(crate) door: Door,
    pub(crate) timing: bool,
    pub(crate) paging: bool,
    pub(crate) format: Format,
    pub(crate) rows: usize,
    /// The file that the next result is written to.
    pub(crate) output: Option<PathBuf>,
    /// The last statement that gave rows, for `.plot`.
    pub(crate) last: Option<String>,
}

/// Whether the shell goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Prompt,
    End,
}

/// Runs a shell on this terminal until its person has had enough.
pub(crate) async fn run(lake: Option<&Path>, connect: Option<&str>) -> Result<()> {
    let door = Door::open(lake, connect).await?;
    let mut editor = Editor::open(&door)?;
    terminal::print(&format!("Lacus {}: {}. `.help` tells what it knows, Ctrl-D leaves.", Engine::version(), door.name()))?;
    let mut shell = Shell { door, timing: true, paging: true, format: Format::Table, rows: ROWS, output: None, last: None };
    loop {
        let text = match editor.read()? {
            Read::Text(text) => text,
            Read::Nothing => continue,
            Read::End => break,
        };
        let run = shell.run(&text, editor.size());
        let outcome = tokio::select! {
            outcome = run => outcome,
            interrupted = tokio::signal::ctrl_c() => match interrupted {
                Ok(()) => Err(Engine::cancelled()),
                Err(error) => Err(Error::new(Kind::Internal, error.to_string())),
            },
        };
        match outcome {
            Ok(Next::Prompt) => {}
            Ok(Next::End) => break,
            // A mistake ends the statement, not the shell.
            Err(error) => drop(terminal::fail(&error)),
        }
        editor.changed(&shell.door);
    }
    shell.door.settle().await;
    Ok(())
}

impl Shell {
    async fn run(&mut self, text: &str, size: Option<page::Size>) -> Result<Next> {
        let text = text.trim();
        if text.starts_with(['.', '\\']) {
            return commands::run(self, text, size).await;
        }
        for statement in split(text)? {
            self.show(&statement, size).await?;
        }
        Ok(Next::Prompt)
    }

    /// Runs one statement and shows what it gives.
    pub(crate) async fn show(&mut self, statement: &str, size: Option<page::Size>) -> Result<()> {
        let began = Instant::now();
        let mut progress = Some(Progress::start(false));
        let Some(mut answer) = self.door.ask(statement, &[]).await? else {
            drop(progress);
            return self.tell(None, began.elapsed());
        };
        notices_of(&answer.schema).for_each(|notice| terminal::say(&format!("notice: {notice}")));
        if let (Some(query), Some(progress)) = (answer.progress.clone(), &mut progress) {
            progress.follow(query);
        }
        if self.output.is_none() && self.format != Format::Table {
            answer = answer.begun().await?;
            progress = None;
        }
        let (output, text) = match &self.output {
            Some(path) => (Output::open(None, Some(path), &answer.schema, self.rows)?, None),
            None if self.format == Format::Table => {
                let (output, text) = Output::text(&answer.schema, self.rows)?;
                (output, Some(text))
            }
            None => (Output::open(Some(self.format), None, &answer.schema, self.rows)?, None),
        };
        let written = output.write_all(answer.batches, |rows| progress.iter().for_each(|progress| progress.arrived(rows))).await;
        drop(progress);
        let written = written?;
        self.last = Some(statement.to_owned());
        match (text, self.output.take()) {
            (Some(text), _) => page::show(&text.take(), size.filter(|_| self.paging))?,
            (None, Some(path)) => terminal::say(&format!("written to {}", path.display())),
            (None, None) => {}
        }
        self.tell(Some(written), began.elapsed())
    }

    fn tell(&self, written: Option<Written>, took: Duration) -> Result<()> {
        let time = if self.timing { format!("{:.3} s", took.as_secs_f64()) } else { String::new() };
        let rows = match written {
            None => "done".to_owned(),
            Some(Written { rows, cut: true }) => format!("the first {rows} rows; `.rows 0` shows all"),
            Some(Written { rows: 1, .. }) => "1 row".to_owned(),
            Some(Written { rows, .. }) => format!("{rows} rows"),
        };
        let parts: Vec<String> = [rows, time].into_iter().filter(|part| !part.is_empty()).collect();
        terminal::print(&format!("({})", parts.join(", ")))
    }

    /// The result of a statement of the shell's own.
    pub(crate) async fn answer(&self, statement: &str) -> Result<Answer> {
        let answer = self.door.ask(statement, &[]).await?;
        answer.ok_or_else(|| Error::new(Kind::InvalidQuery, "this statement gives no rows"))
    }
}
