//! Mutated input for everything that reads what people write: SQL, locations, lake files, patterns. Nothing may panic or hang.
//!
//! A fixed number of rounds runs in `make test`; `make fuzz` runs a million. The seed is fixed, so that a failure can be run again.

use lacus::{Config, Location, split};

const SEEDS: [&str; 12] = [
    "SELECT a, 'it''s; -- not a comment' FROM t WHERE x > ? AND y = $1; -- end\n/* é */ SELECT \"Q\"",
    "EXPLAIN ANALYZE SELECT * FROM read_csv('lab:x/**/*.csv', delimiter => ';', header => false) AS t",
    "CREATE EXTERNAL TABLE t (a INT, b VARCHAR) STORED AS CSV PARTITIONED BY (y) LOCATION 's3://b/x/' OPTIONS (delimiter ';')",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r",
    "beamline:shots/**/year=20{24,25}/[a-z]*.parquet",
    "s3://bucket/prefix/%20x?y#z.parquet",
    "file:///tmp/a b/../c.csv",
    "[lake]\nname = \"x\"\n[store.a]\nurl = \"s3://b/${HOME}\"\nendpoint = 'http://h:1'\ntimeout = \"3s\"\n[dataset.d]\npath = \"a:x\"\noptions = { header = true }",
    "[limits]\nmemory = \"50%\"\nspill = \"1.5 GiB\"\ndeadline = \"90s\"\n[serve]\nlisten = \"127.0.0.1:0\"",
    "[dataset.d.columns.\"a.b\"]\nunit = \"K\"\ndescription = '''x'''",
    "((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
    "\u{0}\u{FFFD}\u{10FFFF}'\"$?;\\",
];

/// A small generator, so that the rounds are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap_or(0)
    }
}

fn mutated(random: &mut Random) -> String {
    let mut text: Vec<char> = SEEDS[random.next(SEEDS.len())].chars().collect();
    for _ in 0..=random.next(6) {
        let place = random.next(text.len() + 1);
        let other: Vec<char> = SEEDS[random.next(SEEDS.len())].chars().collect();
        match random.next(4) {
            0 if place < text.len() => drop(text.remove(place)),
            1 => text.insert(place, other[random.next(other.len())]),
            2 => text.truncate(place),
            _ => {
                let start = random.next(other.len());
                let end = start + random.next(other.len() - start);
                text.splice(place..place, other[start..end].iter().copied());
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn what_people_write_never_panics() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: u64 = std::env::var("LACUS_FUZZ_ROUNDS").map_or(Ok(3000), |rounds| rounds.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let config = Config::parse("[store.lab]\nurl = '/nowhere'", folder.path().to_owned(), &|_| None)?;
    let engine = config.engine()?;
    let stores = std::sync::Arc::clone(engine.stores());
    for round in 1..=rounds {
        let text = mutated(&mut Random(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
        if let Ok(statements) = split(&text) {
            // What was split at its semicolons stays whole when it is split again.
            for statement in &statements {
                assert_eq!(split(statement).ok().map(|again| again.len()), Some(1), "{text:?}");
            }
        }
        if let Ok(location) = Location::parse(&text) {
            let _ = stores.resolve(&location);
        }
        let _ = Config::parse(&text, folder.path().to_owned(), &|name| (name == "HOME").then(|| "home".to_owned()));
        // Planning may fail in any way that is an error; what it names does not exist.
        let _ = runtime.block_on(engine.prepare(&text, &lacus::Principal::owner()));
    }
    Ok(())
}
