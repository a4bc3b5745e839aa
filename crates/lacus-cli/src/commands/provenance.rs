use std::io::Read;
use std::path::Path;

use lacus::arrow::array::AsArray;
use lacus::{Comparison, Error, Form, Kind, ProvenanceRecord, Result, TryStreamExt, Verdict, check_query, citation, parameters_of};

use crate::door::Door;
use crate::terminal;

/// Asks again, and says whether the answer is the same.
pub(crate) async fn verify(lake: Option<&Path>, connect: Option<&str>, named: &str) -> Result<()> {
    let door = Door::open(lake, connect).await?;
    let before = record(&door, named).await?;
    let comparison = match &door {
        Door::Here(engine, session) => engine.verify(&before, session).await?,
        Door::There(_) => {
            // A record may come from anywhere, and the server would do what it says.
            check_query(&before.sql)?;
            if !before.settings.is_empty() || before.search_path.is_some() {
                let error = Error::new(
                    Kind::Unsupported,
                    "the query was asked in a session with settings of its own, which the server would not have",
                );
                return Err(error.hint("verify the record where the lake is, without --connect"));
            }
            Comparison::of(&before, again(&door, &before).await.as_ref())
        }
    };
    terminal::print(&comparison.to_string())?;
    match comparison.verdict {
        Verdict::Same | Verdict::WithinTolerance => Ok(()),
        Verdict::Changed(_) => Err(Error::new(Kind::ObjectChanged, "the answer is another than it was").with("query", &before.id)),
        Verdict::Gone(_) => Err(Error::new(Kind::NotFound, "what the answer was computed from is gone").with("query", &before.id)),
    }
}

/// The record of an answer that a server gives again.
async fn again(door: &Door, before: &ProvenanceRecord) -> Result<ProvenanceRecord> {
    let no_record = || Error::new(Kind::Unsupported, "the server tells no record of the answer");
    let answer = door.ask(&before.sql, &parameters_of(before)?).await?.ok_or_else(no_record)?;
    answer.batches.try_for_each(|_| std::future::ready(Ok(()))).await?;
    answer.provenance.record().ok_or_else(no_record)
}

pub(crate) async fn cite(lake: Option<&Path>, connect: Option<&str>, named: &str) -> Result<()> {
    let door = Door::open(lake, connect).await?;
    terminal::print(&citation(&record(&door, named).await?))
}

pub(crate) async fn print(lake: Option<&Path>, connect: Option<&str>, named: &str, form: &str) -> Result<()> {
    let door = Door::open(lake, connect).await?;
    terminal::print(&Form::of_name(form)?.write(&record(&door, named).await?)?)
}

/// The record in a file, or that of a query by its id.
async fn record(door: &Door, named: &str) -> Result<ProvenanceRecord> {
    if named == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Error::new(Kind::InvalidQuery, format!("the record can't be read: {error}")))?;
        return ProvenanceRecord::parse(&text);
    }
    let is_id = named.len() == 32 && named.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_id {
        let text = std::fs::read_to_string(named);
        let text = text.map_err(|error| {
            let error = Error::new(Kind::NotFound, format!("the record can't be read: {error}")).with("file", named);
            error.hint("name a file that `lacus sql --provenance FILE` wrote, or the id of a query")
        })?;
        return ProvenanceRecord::parse(&text).map_err(|error| error.with("file", named));
    }
    let answer = door.ask("SELECT record FROM system.provenance WHERE id = $1", &[named.into()]).await?;
    let batches: Vec<_> = match answer {
        Some(answer) => answer.batches.try_collect().await?,
        None => Vec::new(),
    };
    let text = batches.iter().find(|batch| batch.num_rows() > 0).map(|batch| {
        let column = lacus::arrow::compute::cast(batch.column(0), &lacus::arrow::datatypes::DataType::Utf8)?;
        Ok::<_, Error>(column.as_string::<i32>().value(0).to_owned())
    });
    let text = text.transpose()?.ok_or_else(|| {
        let error = Error::new(Kind::NotFound, format!("no record of the query `{named}`"));
        error
            .hint("records are kept where the lake file says `folder` under [provenance]; SELECT id, sql FROM system.provenance lists them")
    })?;
    ProvenanceRecord::parse(&text)
}
