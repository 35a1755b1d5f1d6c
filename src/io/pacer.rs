//! The flush policy. Two system calls per request are the floor at depth 1; the rest is shared by the requests of a
//! batch, so what a pass costs is decided by how many requests it finds.
//!
//! After the writes of a pass the worker may pause for some microseconds before it looks for more: the bytes of this
//! pass are already out, so only what arrives meanwhile waits, and it is found together by the next pass.

use std::time::{Duration, Instant};

/// When to pause, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Longest pause.
    pub pause: Duration,
    /// Sockets written per pass, averaged, from which on traffic counts as dense.
    pub dense: u32,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { pause: Duration::ZERO, dense: 4 }
    }
}

/// Decides after each pass.
#[derive(Debug, Clone, Copy)]
pub struct Pacer {
    pacing: Pacing,
}

impl Pacer {
    pub fn new(pacing: Pacing) -> Self {
        Self { pacing }
    }

    /// Called after the writes of a pass that began at `began` and wrote to `writes` sockets.
    pub fn pass_ended(&mut self, writes: usize, began: Instant) {
        let _ = (writes, began, self.pacing);
    }
}
