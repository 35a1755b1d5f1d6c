//! See `checks::session`.
#![no_main]

#[allow(dead_code, reason = "a target uses one of the checks")]
#[path = "../checks/mod.rs"]
mod checks;

/// Has writes to a closed socket fail instead of ending the process, as Rust's own `main` does.
fn ignore_sigpipe() {
    // SAFETY: nothing else runs yet, and there is no handler to replace.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

libfuzzer_sys::fuzz_target!(init: ignore_sigpipe(), |data: &[u8]| checks::session::check(data));
