//! In-process servers: what a pool's `local` servers are, so that Outrigger starts with no configuration at all.
//!
//! They are real servers on private unix sockets, reached by the normal path (connections, pipelining, ring):
//! ```text
//!   proxy ══ unix socket ══► connection ──bytes──► engine (redis | memcached) ──► store
//!                            one thread and one LocalRuntime for all of them, which come and go
//! ```
//! Engines are sans-I/O: bytes in, bytes out, `now` is an argument.

mod directory;
mod memcached;
mod redis;
mod server;
mod store;

pub use server::{LocalHandle, LocalServer, LocalServers};
