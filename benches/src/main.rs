//! The latency of `SELECT 1` through the doors of Rust: embedded, and over Flight SQL on loopback. Part of `make bench`.
#![expect(clippy::print_stdout, reason = "a measurement prints what it found")]

use std::time::{Duration, Instant};

use lacus::{Config, Engine, Principal, Result, TryStreamExt};
use lacus_remote::Remote;
use lacus_server::Server;

const WARM_UP: usize = 50;
const ROUNDS: usize = 500;

#[tokio::main]
async fn main() -> Result<()> {
    let engine = Config::discover(&std::env::temp_dir())?.engine()?;
    println!("| door | median ms | 95% ms |\n|---|---|---|");

    let mut times = Vec::new();
    for _ in 0..WARM_UP + ROUNDS {
        let begin = Instant::now();
        embedded(&engine).await?;
        times.push(begin.elapsed());
    }
    row("Rust, embedded", times);

    let server = Server::bind("127.0.0.1:0").await?;
    let remote = Remote::connect(&server.uri()).await?;
    let serving = tokio::spawn(server.serve(engine, std::future::pending()));
    let mut times = Vec::new();
    for _ in 0..WARM_UP + ROUNDS {
        let begin = Instant::now();
        let _: Vec<_> = remote.query("SELECT 1", &[]).await?.stream()?.try_collect().await?;
        times.push(begin.elapsed());
    }
    row("Rust, Flight SQL", times);
    serving.abort();
    Ok(())
}

async fn embedded(engine: &Engine) -> Result<()> {
    let _: Vec<_> = engine.query("SELECT 1", &[], &Principal::owner()).await?.stream()?.try_collect().await?;
    Ok(())
}

fn row(door: &str, times: Vec<Duration>) {
    let mut measured = times[WARM_UP..].to_vec();
    measured.sort();
    let at = |share: f64| measured[((measured.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.;
    println!("| {door} | {:.3} | {:.3} |", at(0.5), at(0.95));
}
