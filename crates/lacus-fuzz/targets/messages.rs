//! Any bytes are messages of a client, which a server answers: coverage guides what comes next.
//!
//! `cargo fuzz` builds it as a fuzzer; built in the usual way it writes the messages that a fuzzer begins with into a folder.
#![cfg_attr(fuzzing, no_main)]

use lacus_fuzz::Target;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    thread_local!(static TARGET: std::cell::RefCell<Option<Target>> = const { std::cell::RefCell::new(None) });
    TARGET.with_borrow_mut(|target| {
        let target = target.get_or_insert_with(|| {
            // A panic ends the fuzzer, but for those of arrow-ipc at what a client sent, which the server makes errors of.
            let ends = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if !panic.location().is_some_and(|location| location.file().contains("/arrow-")) {
                    ends(panic);
                }
            }));
            Target::start().expect("a server")
        });
        target.send(bytes).expect("an answer");
    });
});

#[cfg(not(fuzzing))]
fn main() -> lacus_fuzz::Result<()> {
    let folder = std::env::args().nth(1).ok_or("usage: messages FOLDER")?;
    std::fs::create_dir_all(&folder)?;
    let target = Target::start()?;
    for (number, case) in target.corpus()?.into_iter().enumerate() {
        std::fs::write(std::path::Path::new(&folder).join(format!("{number:03}")), case)?;
    }
    Ok(())
}
