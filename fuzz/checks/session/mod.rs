//! The strongest check: whole sessions, with a real pool and real connections over unix sockets, between clients and
//! servers that do as the input says.
//!
//! ```text
//!   input ──► plan: protocol, servers, limits
//!         └─► steps: a client composes, damages, sends a piece, reads, leaves; a server reads, answers a piece, closes,
//!                    sends garbage or a reply too many; the topology changes, sessions depart
//!   client ◄──► session ── pool ── connection ◄──► server          one thread; between two steps the proxy runs
//!     │ what it is owed: a function of its request (`redis`, `memcached`)     │
//!     └────────────── the ledger: what was sent to whom ──────────────────────┘
//! ```
//! A reply is a function of its request, and nearly every request is another one, so a swapped, missing or additional
//! reply shows at once. What must hold:
//! - a client gets, in order, the reply to each of its requests, or an error that names the pool and a server of the
//!   request that has misbehaved since the request was sent; nothing else, until a server has lost framing in a way that
//!   nobody can see (a reply too many while others are due);
//! - a server gets only requests that a client sent, on the server of their keys, a write once, the writes of one client
//!   in their order;
//! - when failing servers are ejected, another server may be asked, but a write still comes once;
//! - when servers come, go and move, and sessions go on in another process, nothing is lost, swapped or late for that;
//! - when the process may hold little, a request may be refused for that, and a client cut;
//! - a connection on which a reply made no sense is closed;
//! - when servers answer again and all is sent, nothing is owed to anybody, and every queue is empty.
//!
//! It depends on the input alone: no clock, no time-outs, no threads, and the sockets of one thread.

mod choices;
mod client;
mod fixture;
mod ledger;
mod memcached;
mod redis;
mod server;
mod steps;

use std::sync::OnceLock;

use choices::Choices;

/// Tells what happens, for a person who looks into one input: with `FUZZ_TRACE` set in the environment.
fn trace(what: impl FnOnce() -> String) {
    static WANTED: OnceLock<bool> = OnceLock::new();
    if *WANTED.get_or_init(|| std::env::var_os("FUZZ_TRACE").is_some()) {
        eprintln!("{}", what());
    }
}

/// Runs what the input describes.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let plan = fixture::Plan::choose(&mut choices);
    fixture::on_worker(&plan, async |pass, common| steps::run(&plan, &pass, common, &mut choices).await);
}
