//! What every task of a worker shares: sockets, buffers, and the pass.
//!
//! ```text
//!   epoll ──► tasks that are ready: read (Inbound), parse, append to out buffers (Outbound), mark dirty
//!     ▲                                                                                        │
//!     └──────── park ◄── pace ◄── one write per dirty socket (Pass::finish) ◄──────────────────┘
//! ```
//! One trip around is a *pass*. Nothing writes to a socket in the middle of a pass.

mod budget;
mod ebb;
mod inbound;
mod outbound;
mod pacer;
mod pass;
mod stream;
#[cfg(test)]
pub mod testing;
mod ticker;

pub use budget::{Budget, Held, Level};
pub use inbound::{Inbound, Input};
pub use outbound::{Outbound, Payload};
pub use pacer::Pacing;
pub use pass::{Flush, Pass};
pub use stream::Stream;
pub use ticker::Ticker;

/// From this size on, in bytes, a message moves by reference instead of being copied.
pub const LARGE: usize = 16 * 1024;
