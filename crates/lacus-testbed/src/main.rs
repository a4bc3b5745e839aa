//! `lacus-testbed LISTEN ROOT [--delay-ms N] [--put BUCKET/PREFIX=FOLDER]...`: a real S3 server for the demo and the benches.

use std::path::Path;
use std::time::Duration;

use lacus_testbed::{S3Server, TestbedError};

#[tokio::main]
async fn main() -> Result<(), TestbedError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, root, options @ ..] = arguments.as_slice() else {
        return Err("usage: lacus-testbed LISTEN ROOT [--delay-ms N] [--put BUCKET/PREFIX=FOLDER]...".into());
    };
    let server = S3Server::start_at(listen, Path::new(root)).await?;
    let mut delay = Duration::ZERO;
    for option in options.chunks(2) {
        match option {
            [name, value] if name == "--delay-ms" => delay = Duration::from_millis(value.parse()?),
            [name, value] if name == "--put" => put(&server, value).await?,
            other => return Err(format!("unknown option {other:?}").into()),
        }
    }
    server.faults().set_delay(delay);
    announce(&server)?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}

async fn put(server: &S3Server, value: &str) -> Result<(), TestbedError> {
    let (target, folder) = value.split_once('=').ok_or("--put takes BUCKET/PREFIX=FOLDER")?;
    let (bucket, prefix) = target.split_once('/').unwrap_or((target, ""));
    server.put_folder(bucket, prefix, Path::new(folder)).await
}

/// One line when the objects are there, for whoever waits.
fn announce(server: &S3Server) -> Result<(), TestbedError> {
    use std::io::Write;
    let mut out = std::io::stdout();
    writeln!(out, "serving {}", server.endpoint())?;
    Ok(out.flush()?)
}
