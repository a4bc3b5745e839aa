//! The allocator of what Lacus hands out, the command and the wheel. Whoever embeds the engine has one of their own.
//!
//! Queries take and free the same hundreds of megabytes again and again. A page that was given back to the system is filled with zeros when
//! it is taken again, which takes longer than much of what is computed on it. So what is freed stays at hand for about [`KEPT_FOR`], and goes
//! back to the system then, also when nothing is asked any more. `benches/README.md` says what was measured.
#![expect(unsafe_code, reason = "the options of the allocator are functions of C")]

use std::sync::Once;
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set_default, mi_option_t, mi_thread_init};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For how long memory that is free stays at hand, about. `MIMALLOC_PURGE_DELAY`, in milliseconds, says otherwise.
pub const KEPT_FOR: Duration = Duration::from_secs(30);

/// How often is looked whether there is memory to give back. Each look gives back a part of what is due.
const LOOK: Duration = Duration::from_secs(1);

/// `mi_option_purge_delay` in `mimalloc.h`; the crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// Begins to keep memory at hand. The first thing that a program does.
pub fn keep_memory_at_hand() {
    // SAFETY: it is a number that is written before another thread of the program reads it.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_FOR.as_millis().try_into().unwrap_or(std::ffi::c_long::MAX)) };
}

/// Begins to give memory back also while nothing is asked: the allocator looks at its clock only when it is asked for memory. The thread for it
/// does not follow a fork, so that each process begins anew, when it begins to compute.
pub fn give_memory_back() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        // Where there is no room for a thread, memory is given back as it is asked for.
        drop(std::thread::Builder::new().name("lacus-memory".to_owned()).spawn(|| {
            // SAFETY: any thread may do so at any time. Without the first, a thread that never asked for memory has nothing to collect by.
            unsafe { mi_thread_init() };
            loop {
                std::thread::sleep(LOOK);
                // SAFETY: as above.
                unsafe { mi_collect(false) };
            }
        }));
    });
}
