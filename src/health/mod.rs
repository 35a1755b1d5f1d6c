//! Health: whether a server takes traffic. Pure; the time is an argument, and so is the seed of the jitter.
//!
//! ```text
//!   Live ──failure_limit failures in a row──► Ejected ──time served, good probes──► Returning ──slow start over──► Live
//!    ▲                                           ▲                                      │
//!    └───────────────────────────────────────────┴───────── one failure ────────────────┘
//! ```

/// How much of its traffic a server is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// All of it.
    #[default]
    Live,
    /// A share of it, in hundredths: 1 to 99.
    Returning(u8),
    /// None.
    Ejected,
}

impl Standing {
    /// Takes some traffic.
    pub fn is_live(self) -> bool {
        self != Self::Ejected
    }
}
