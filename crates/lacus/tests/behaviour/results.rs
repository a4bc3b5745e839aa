//! Results that clients fetch otherwise than by one call: polled, in parts, until a deadline, or not to their end.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::ProstMessageExt;
use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo, Ticket};
use lacus::TryStreamExt;
use lacus::arrow::array::{Array, AsArray, RecordBatch};
use lacus::arrow::datatypes::Int64Type;
use prost::Message;
use tonic::{Code, Status};

use super::flight::{Client, LONG, Result, cancel, query};
use crate::{TestResult, ask, engine, eventually};

/// Flight SQL: 21, 22
#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_computed_while_it_is_polled_and_kept() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    let mut descriptor =
        FlightDescriptor::new_cmd(query("SELECT value FROM generate_series(1, 100000) ORDER BY value").as_any().encode_to_vec());
    let (mut last, mut polls) = (0., 0);
    let info = loop {
        let told = client.calls.poll_flight_info(descriptor).await?.into_inner();
        let progress = told.progress.unwrap_or(-1.);
        assert!((last..=1.).contains(&progress), "{progress} after {last}");
        assert!(told.expiration_time.is_some());
        let info = told.info.ok_or("no information")?;
        assert_eq!(info.clone().try_decode_schema()?.field(0).name(), "value");
        (last, polls) = (progress, polls + 1);
        match told.flight_descriptor {
            Some(again) => descriptor = again,
            None => break info,
        }
    };
    assert!(polls >= 1 && last == 1. && info.total_records == 100_000 && info.ordered, "{info:?}");
    let endpoint = info.endpoint.first().cloned().ok_or("no endpoint")?;
    for _ in 0..2 {
        let rows = client.fetch(endpoint.ticket.clone().ok_or("no ticket")?).await?;
        assert_eq!((rows.num_rows(), rows.column(0).as_primitive::<Int64Type>().value(99_999)), (100_000, 100_000));
    }
    let asked = arrow_flight::RenewFlightEndpointRequest { endpoint: Some(endpoint.clone()) };
    let renewed = arrow_flight::FlightEndpoint::decode(&*client.act("RenewFlightEndpoint", asked.encode_to_vec()).await?)?;
    assert_eq!(renewed.ticket, endpoint.ticket);
    assert!(renewed.expiration_time.map(|at| at.seconds) >= endpoint.expiration_time.map(|at| at.seconds));
    let cancelled = client.act("CancelFlightInfo", CancelFlightInfoRequest { info: Some(info) }.encode_to_vec()).await?;
    assert_eq!(CancelFlightInfoResult::decode(&*cancelled)?.status(), CancelStatus::Cancelled);
    let gone = client.calls.do_get(endpoint.ticket.ok_or("no ticket")?).await;
    assert_eq!(gone.map(|_| ()).map_err(|status| status.code()), Err(Code::NotFound));
    Ok(())
}

/// Flight SQL: 19, 21
#[tokio::test(flavor = "multi_thread")]
async fn what_is_polled_is_cancelled_and_its_mistakes_are_told() -> TestResult {
    let engine = engine(Vec::new())?;
    let mut client = Client::of(engine.clone()).await?;
    let long = "SELECT count(*) FROM generate_series(1, 100000) a CROSS JOIN generate_series(1, 1000000) b";
    let descriptor = FlightDescriptor::new_cmd(query(long).as_any().encode_to_vec());
    let told = client.calls.poll_flight_info(descriptor).await?.into_inner();
    assert!(told.flight_descriptor.is_some() && told.progress.is_some_and(|part| part < 1.));
    let info = told.info.ok_or("no information")?;
    let cancelled = client.act("CancelFlightInfo", CancelFlightInfoRequest { info: Some(info) }.encode_to_vec()).await?;
    assert_eq!(CancelFlightInfoResult::decode(&*cancelled)?.status(), CancelStatus::Cancelled);
    eventually("the memory is given back", || engine.memory_held() == 0).await?;
    let again = client.calls.poll_flight_info(told.flight_descriptor.ok_or("no descriptor")?).await;
    assert_eq!(again.map(|_| ()).map_err(|status| status.code()), Err(Code::NotFound));
    let wrong = FlightDescriptor::new_cmd(query("SELECT 1 / (value - 1) FROM generate_series(1, 2)").as_any().encode_to_vec());
    let failed = client.calls.poll_flight_info(wrong).await.map(|_| ()).map_err(|status| status.message().to_owned());
    assert!(failed.is_err_and(|message| message.contains("ivide by zero")));
    Ok(())
}

/// A result that is large on disk comes in several endpoints, in their order, some of which can be fetched while the rest is computed.
///
/// Flight SQL: 21, 24
#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_is_polled_in_parts_that_keep_its_order() -> TestResult {
    let mut client = Client::of(engine(Vec::new())?).await?;
    // 96 bytes a row that nothing compresses.
    let sql = "SELECT value, sha512(value::varchar) AS a, sha256(value::varchar) AS b FROM generate_series(1, 1500000) ORDER BY value";
    let mut descriptor = FlightDescriptor::new_cmd(query(sql).as_any().encode_to_vec());
    let mut before: Vec<Option<Ticket>> = Vec::new();
    let mut records = Vec::new();
    let info = loop {
        let told = client.calls.poll_flight_info(descriptor).await?.into_inner();
        let info = told.info.ok_or("no information")?;
        let tickets: Vec<_> = info.endpoint.iter().map(|endpoint| endpoint.ticket.clone()).collect();
        assert!(tickets.starts_with(&before), "endpoints are only added");
        for ticket in &tickets[before.len()..] {
            let messages = client.calls.do_get(ticket.clone().ok_or("no ticket")?).await?.into_inner();
            let told: Vec<_> = messages.map_ok(|message| message.app_metadata).try_collect().await?;
            records.push(told.into_iter().rfind(|metadata| !metadata.is_empty()));
        }
        before = tickets;
        match told.flight_descriptor {
            Some(again) => descriptor = again,
            None => break info,
        }
    };
    assert!(info.ordered && info.endpoint.len() == 2, "{}", info.endpoint.len());
    // What it was computed from is told behind the last part, however soon that is fetched.
    let [None, Some(record)] = records.as_slice() else { return Err(format!("{records:?}").into()) };
    let record: serde_json::Value = serde_json::from_slice(record)?;
    assert_eq!((&record["id"], &record["rows"]), (&String::from_utf8(info.app_metadata.to_vec())?.into(), &1_500_000.into()));
    let mut next = 1;
    for endpoint in &info.endpoint {
        let rows = client.fetch(endpoint.ticket.clone().ok_or("no ticket")?).await?;
        for value in rows.column(0).as_primitive::<Int64Type>().values() {
            assert_eq!(*value, next);
            next += 1;
        }
    }
    assert_eq!((next, info.total_records), (1_500_001, 1_500_000));
    let ticket = info.endpoint[1].ticket.clone().ok_or("no ticket")?.ticket;
    let mut bytes = ticket.to_vec();
    *bytes.last_mut().ok_or("an empty ticket")? += 1;
    let missing = client.calls.do_get(Ticket::new(bytes)).await.map(|_| ()).map_err(|status| status.code());
    assert_eq!(missing, Err(Code::NotFound));
    Ok(())
}

/// The tickets of a query that is asked for in up to so many endpoints.
async fn in_parts(client: &mut Client, sql: &str, most: &'static str) -> Result<FlightInfo, Status> {
    let mut request = tonic::Request::new(FlightDescriptor::new_cmd(query(sql).as_any().encode_to_vec()));
    request.metadata_mut().insert("endpoints", most.parse().map_err(|_| Status::internal("no header"))?);
    Ok(client.calls.get_flight_info(request).await?.into_inner())
}

fn parquet_of(folder: &std::path::Path, files: i64) -> TestResult {
    for file in 0..files {
        let values = lacus::arrow::array::Int64Array::from_iter_values(file * 1000..(file + 1) * 1000);
        let batch = RecordBatch::try_from_iter([("x", Arc::new(values) as Arc<dyn Array>)])?;
        let out = std::fs::File::create(folder.join(format!("{file}.parquet")))?;
        let mut writer = parquet::arrow::ArrowWriter::try_new(out, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
    }
    Ok(())
}

/// A client that says that it reads several endpoints gets as many as can be read apart, and one whose order counts.
///
/// Flight SQL: 24, 25
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_is_fetched_by_several_calls_that_are_one_query() -> TestResult {
    let folder = tempfile::tempdir()?;
    parquet_of(folder.path(), 8)?;
    // One turn: parts that took one each would wait for each other.
    let limits = lacus::Limits { queries: 1, ..lacus::Limits::default() };
    let engine = crate::limited(Vec::new(), limits)?;
    let mut client = Client::of(engine.clone()).await?;
    let from = format!("'{}/*.parquet'", folder.path().display());
    let info = in_parts(&mut client, &format!("SELECT x + 1 AS y FROM {from} WHERE x % 2 = 0"), "8").await?;
    assert!(info.endpoint.len() > 1 && !info.ordered, "{}", info.endpoint.len());
    // The last first, and all of them open at once.
    let mut streams = Vec::new();
    for endpoint in info.endpoint.iter().rev() {
        let messages = client.calls.do_get(endpoint.ticket.clone().ok_or("no ticket")?).await?.into_inner();
        streams.push(FlightRecordBatchStream::new_from_flight_data(messages.map_err(|status| FlightError::Tonic(Box::new(status)))));
    }
    let mut all = BTreeSet::new();
    for mut batches in streams.into_iter().rev() {
        while let Some(batch) = batches.try_next().await? {
            all.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
        }
    }
    assert_eq!(all, (0..8000).filter(|x| x % 2 == 0).map(|x| x + 1).collect());
    let id = String::from_utf8(info.app_metadata.to_vec())?;
    let state = format!("SELECT state, rows FROM system.queries WHERE id = '{id}'");
    eventually("the query has ended", || engine.memory_held() == 0).await?;
    assert_eq!(ask(&engine, &state).await?, "finished,4000");
    // What is computed together is one endpoint; so is what has an order, and what nobody asks to split.
    for sql in [format!("SELECT x % 7, count(*) FROM {from} GROUP BY 1"), format!("SELECT x FROM {from} ORDER BY x")] {
        let info = in_parts(&mut client, &sql, "8").await?;
        assert_eq!((info.endpoint.len(), info.ordered), (1, sql.contains("ORDER BY")), "{sql}");
    }
    assert_eq!(client.info(&query(&format!("SELECT x FROM {from}"))).await?.endpoint.len(), 1);
    // A part that is cancelled ends the query.
    let info = in_parts(&mut client, &format!("SELECT x FROM {from}"), "8").await?;
    assert_eq!(cancel(&mut client, info.clone()).await?, CancelStatus::Cancelled);
    let gone = client.calls.do_get(info.endpoint[1].ticket.clone().ok_or("no ticket")?).await.map(|_| ());
    assert_eq!(gone.map_err(|status| status.code()), Err(Code::NotFound));
    let id = String::from_utf8(info.app_metadata.to_vec())?;
    assert_eq!(ask(&engine, &format!("SELECT state FROM system.queries WHERE id = '{id}'")).await?, "cancelled");
    for wrong in ["0", "65", "many"] {
        let refused = in_parts(&mut client, "SELECT 1", wrong).await.map(|_| ()).map_err(|status| status.code());
        assert_eq!(refused, Err(Code::InvalidArgument), "{wrong}");
    }
    Ok(())
}

/// The time that a client gives a call ends what it began, whether an answer has begun or not.
///
/// Flight SQL: 20
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_call_ends_its_query() -> TestResult {
    let engine = engine(Vec::new())?;
    let mut client = Client::of(engine.clone()).await?;
    let info = client.info(&query(LONG)).await?;
    let mut request = tonic::Request::new(info.endpoint[0].ticket.clone().ok_or("no ticket")?);
    // Written by hand: a client that keeps to it by itself would hide what the server does.
    request.metadata_mut().insert("grpc-timeout", "700m".parse()?);
    let messages = client.calls.do_get(request).await?.into_inner();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), messages.try_collect::<Vec<_>>()).await?;
    assert_eq!(ended.map(|_| ()).map_err(|status| status.code()), Err(Code::DeadlineExceeded));
    eventually("the memory is given back", || engine.memory_held() == 0).await?;
    let id = String::from_utf8(info.app_metadata.to_vec())?;
    assert_eq!(ask(&engine, &format!("SELECT state FROM system.queries WHERE id = '{id}'")).await?, "cancelled");
    Ok(())
}

/// A client that goes away while a store answers late ends what was asked of the store, too.
///
/// Flight SQL: 20
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_reads_of_a_slow_store() -> TestResult {
    let folder = tempfile::tempdir()?;
    parquet_of(folder.path(), 64)?;
    let server = lacus_testbed::S3Server::start().await?;
    server.make_bucket("data")?;
    server.put_folder("data", "many/", folder.path()).await?;
    let engine = crate::engine(vec![crate::bucket("data", &server, "data")?])?;
    let mut client = Client::of(engine.clone()).await?;
    // Planning reads the first footers at once, and the rest waits.
    let info = client.info(&query("SELECT sum(x) FROM 'data:many/*.parquet'")).await?;
    server.faults().set_delay(std::time::Duration::from_millis(600));
    let fetching = client.calls.do_get(info.endpoint[0].ticket.clone().ok_or("no ticket")?).await?;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    drop(fetching);
    let id = String::from_utf8(info.app_metadata.to_vec())?;
    let state = format!("SELECT state FROM system.queries WHERE id = '{id}'");
    for _ in 0..200 {
        if ask(&engine, &state).await? == "cancelled" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(ask(&engine, &state).await?, "cancelled");
    // What was under way is answered in time; nothing is asked after it.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = server.faults().requests();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(server.faults().requests(), before);
    Ok(())
}
