//! The classic text protocol of memcached.
//!
//! ```text
//!   client bytes ──► request::parse ──► Complete   whole, well formed: route it, forward it without `noreply`
//!                                   ├─► Incomplete  wait for `need` bytes
//!                                   ├─► Rejected    still framed: answer it in order, discard what it covers
//!                                   └─► Fatal       framing lost: answer, then close
//!   server bytes ──► response::scan ──► the end of one whole reply of the shape that the verb gets
//! ```
//! What is refused, in which words, and where the stream goes on afterwards is what memcached 1.6.18 does
//! (`tests/memcached_protocol.rs` compares the two byte by byte). A request is forwarded only if every server must
//! frame it as we do: of spellings that memcached happens to accept (`+1`, a NUL in the line, 33-bit lengths) the
//! framing is followed and the request refused. Otherwise a server could take a value for commands and answer more
//! often than it was asked.

pub mod commands;
mod glimpse;
pub mod lifetime;
mod number;
pub mod replies;
pub mod request;
pub mod response;

pub use commands::Verb;
pub(super) use glimpse::glimpse;
pub use replies::Rejection;
pub use request::{Outcome, Request};
pub use response::{Expect, ScanError};
