use std::num::NonZeroU32;

use lacus_core::{Error, Kind, Result};
use tokio::runtime::{Builder, Runtime};

/// How many tasks a thread runs before it looks at timers and sockets. What computes a batch takes milliseconds, so tokio's own 61 would
/// let a deadline, a Ctrl-C or another connection wait for seconds.
const TASKS_BETWEEN_EVENTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// The stack of a thread: room for the deepest statements that are taken, also in a build without optimisation. It is address space until it is used.
const STACK: usize = 16 << 20;

/// A tokio runtime for engines: a thread a core and one more, which looks at timers and sockets between any few batches. An engine runs on any other,
/// too.
///
/// # Errors
/// `Internal` when the system starts no threads.
pub fn runtime() -> Result<Runtime> {
    // What computes takes as many threads as there are cores: the one more plans, answers and sends meanwhile.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("lacus")
        .thread_stack_size(STACK)
        .event_interval(TASKS_BETWEEN_EVENTS.get())
        .enable_all()
        .build();
    runtime.map_err(|error| Error::new(Kind::Internal, format!("no runtime: {error}")))
}
