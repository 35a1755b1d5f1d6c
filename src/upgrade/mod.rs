//! Replacing the running binary: the next process gets the listening sockets and the client sessions of this one, and no
//! client notices.
//!
//! ```text
//!   old process ([`Upgrade`], [`Successor`])          new process ([`Predecessor`])
//!        │ starts it, or hears from it at the [`Door`]
//!        │ ◄─────────────── Hello ─────────────────► │  of one protocol, or nothing is handed over
//!        │ ─── listening sockets ──────────────────► │
//!        │                                           │  loads, binds, starts its workers; accepts nothing yet
//!        │ ◄────────────── Ready ─────────────────── │
//!        │ ─── Go ─────────────────────────────────► │  accepts
//!        │ ◄────────────── Serving ───────────────── │
//!  stops │
//! accept │ ─── sessions, at request boundaries ────► │  goes on with them
//!   ing  │ ─── Done ───────────────────────────────► │
//!        ╧ ends when the sessions that stay have
//! ```
//! Until `Serving` the old process goes on as if nothing had happened, whatever becomes of the new one; and a new one that
//! is not told `Go` has accepted no client, so that it can end.
//!
//! pingora's own transfer is not used: it takes 32 sockets at most, through a file that everyone may open, and stops the
//! old process whether or not a new one has come.

mod door;
mod predecessor;
mod spawn;
mod successor;
mod wire;

pub use door::{Caller, Door, Visit, Visitor, ask};
pub use predecessor::{Inherited, Predecessor};
pub use spawn::Spawn;
pub use successor::{Failure, LIMIT, Successor, Upgrade};
pub use wire::{Ejected, Estate, KnownPool, MOST_EJECTED};

#[cfg(test)]
mod tests;
