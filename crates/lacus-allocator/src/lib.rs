//! The allocator of what Lacus hands out, the command and the wheel. Whoever embeds the engine has one of their own.
//!
//! Queries take and free the same hundreds of megabytes again and again. A page that was given back to the system is filled with zeros when
//! it is taken again, which takes longer than much of what is computed on it. So what is freed stays at hand for [`KEPT_FOR`], and goes back
//! to the system behind that, also when nothing is asked any more. `benches/README.md` says what was measured.
#![expect(unsafe_code, reason = "the options of the allocator are functions of C")]

use std::sync::Once;
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For how long memory that is free stays at hand. `MIMALLOC_PURGE_DELAY`, in milliseconds, says otherwise.
pub const KEPT_FOR: Duration = Duration::from_secs(30);

/// `mi_option_purge_delay` in `mimalloc.h`; the crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// Begins to keep memory at hand. The first thing that a program does.
pub fn keep_memory_at_hand() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        // SAFETY: options may be set at any time from any thread.
        unsafe { mi_option_set_default(PURGE_DELAY, KEPT_FOR.as_millis().try_into().unwrap_or(std::ffi::c_long::MAX)) };
        // The allocator looks at its clock when it is asked for memory; a program that waits asks for none. Without the thread it keeps more.
        let looks = std::thread::Builder::new().name("lacus-memory".to_owned()).stack_size(64 << 10).spawn(|| {
            loop {
                std::thread::sleep(KEPT_FOR);
                // SAFETY: a thread may collect at any time.
                unsafe { mi_collect(false) };
            }
        });
        drop(looks);
    });
}
