//! What must hold of any input, one function a target: `fuzz/fuzz_targets` feeds them what libFuzzer finds, `tests/fuzz.rs`
//! what a seed makes of the samples. A check takes any bytes and panics when something that must hold does not.

pub mod config;
pub mod memcached_request;
pub mod memcached_response;
pub mod redis_request;
pub mod redis_response;
pub mod samples;
pub mod session;

use outrigger::protocol::Limits;

/// The limits that everything is tried under: the defaults, and some that short inputs reach.
fn both_limits() -> [Limits; 2] {
    let tight = Limits {
        max_request_bytes: 200,
        max_response_bytes: 200,
        max_key_bytes: 20,
        max_arguments: 6,
        max_line_bytes: 40,
        max_nesting: 4,
    };
    [Limits::default(), tight]
}

/// The lengths at which to cut `len` bytes: each of them, or some hundred of many.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let step = len.div_ceil(64).max(1);
    // The ends of a message are where cuts hurt.
    let inner = (0..len).filter(move |cut| cut % step == 0 || *cut < 48 || *cut + 24 > len);
    inner.chain([len])
}

/// For messages of panics.
fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 400;
    let cut = if bytes.len() > LONGEST { "..." } else { "" };
    format!("\"{}{cut}\"", bytes[..bytes.len().min(LONGEST)].escape_ascii())
}
