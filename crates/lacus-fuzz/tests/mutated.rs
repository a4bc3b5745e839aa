//! Messages of which bytes were changed get an answer each, and the server lives on. `LACUS_FUZZ_ROUNDS` says how many.

use std::time::{Duration, Instant};

use lacus_fuzz::{Result, Target, mutated};
use peak_alloc::PeakAlloc;
use rand::SeedableRng;
use rand::rngs::StdRng;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What one run may leave behind: what a server remembers on purpose is bounded.
const LEFT: usize = 64 << 20;

#[test]
fn mutated_messages_never_end_the_server() -> Result<()> {
    let rounds: usize = std::env::var("LACUS_FUZZ_ROUNDS").map_or(Ok(3000), |rounds| rounds.parse())?;
    let mut target = Target::start()?;
    let corpus = target.corpus()?;
    for (number, case) in corpus.iter().enumerate() {
        target.send(case).map_err(|error| format!("message {number} as it is: {error}"))?;
    }
    let mut chance = StdRng::seed_from_u64(20_261_126);
    let (begun, mut heap) = (Instant::now(), 0);
    for round in 0..rounds {
        let case = mutated(&corpus, &mut chance);
        target.send(&case).map_err(|error| format!("round {round}, {case:?}: {error}"))?;
        if round == rounds / 10 {
            heap = HEAP.current_usage();
        }
        if (round + 1) % (rounds / 10).max(1) == 0 {
            println!("{} messages in {:?}, {} bytes of heap, {}", round + 1, begun.elapsed(), HEAP.current_usage(), target.answers());
        }
    }
    target.anew()?;
    // Neither an answer that only says that the server is busy, nor one that only says that all is wrong.
    assert!(target.well() * 20 > rounds, "{} of {rounds} messages were understood", target.well());
    assert!(begun.elapsed() < Duration::from_secs(20) + Duration::from_millis(20) * rounds as u32, "{:?}", begun.elapsed());
    assert!(HEAP.current_usage() < heap + LEFT, "{} bytes, {heap} after a tenth", HEAP.current_usage());
    Ok(())
}
