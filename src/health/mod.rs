//! Health: whether a server takes traffic. Pure; the time is an argument, and so is the seed of the jitter.
//!
//! ```text
//!   Live ──failure_limit failures in a row──► Ejected ──time served, good probes──► Returning ──slow start over──► Live
//!    ▲                                           ▲                                      │
//!    └───────────────────────────────────────────┴───────── one failure ────────────────┘
//! ```
//! [`Group`] holds the servers of one pool and is told what happens to them: connections and requests that failed, good
//! replies, probes, the time. It answers with [`Transition`]s. It never acts: routing, logs and probes are its callers'.
//!
//! Two rows of failures are kept a server, one of the traffic's and one of the probes', and either ejects: probes alone
//! find a server that nobody asks, and traffic alone finds one that answers probes and nothing else. A good reply ends the
//! first row, a good probe the second.

mod backoff;
mod budget;
mod group;
mod jitter;
mod server;

use std::time::{Duration, Instant};

pub use backoff::Backoff;
pub use budget::RetryBudget;
pub use group::Group;
pub use jitter::Jitter;

/// How much of its traffic a server is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
    /// Its word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Returning(_) => "returning",
            Self::Ejected => "ejected",
        }
    }

    /// Takes some traffic.
    pub fn is_live(self) -> bool {
        self != Self::Ejected
    }
}

/// When servers leave and how they come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that eject; 0 counts as 1.
    pub failure_limit: u32,
    /// Shortest ejection. Repeated ones last longer.
    pub retry_timeout: Duration,
    /// Most ejected servers at a time, per hundred of all; rounded down.
    pub max_ejected_percent: u8,
    /// Good probes in a row that an ejected server must show; 0 counts as 1.
    pub probe_successes: u32,
    /// How long all probes of an ejected server must have been good before it returns.
    pub quarantine: Duration,
    /// An ejected server must have been emptied before it returns.
    pub flush: bool,
    /// How long the share of a returning server grows; zero: it has all of it at once.
    pub slow_start: Duration,
}

/// What changed for one server. Times are for messages; what is due next is [`Group::next_tick`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It takes no traffic any more: it has been failing since `since`, and stays away until `until` at the least.
    Ejected { why: String, since: Instant, until: Instant },
    /// It should be ejected, but too many are already: it keeps its traffic. Reported once, not at each failure.
    Kept { why: String, since: Instant },
    /// It was not emptied, and stays away. Reported once an ejection.
    NotFlushed { why: String, since: Instant },
    /// It takes its first share of traffic: away since `since`, with all its traffic again at `until`.
    Returning { share: u8, since: Instant, until: Instant },
    /// Its share has grown. Nothing that an operator need know.
    Grown { share: u8 },
    /// It has all of its traffic again: it was ejected at `since`.
    Readmitted { since: Instant },
}

impl Transition {
    /// Whether some keys have another server now.
    pub fn moves_keys(&self) -> bool {
        !matches!(self, Self::Kept { .. } | Self::NotFlushed { .. })
    }
}

/// One server's state, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub standing: Standing,
    /// Failures in a row: of the traffic's and the probes' rows the longer one.
    pub failures: u32,
    /// When it was last ejected.
    pub ejected_at: Option<Instant>,
    /// Why it was last ejected; empty if it never was.
    pub why: String,
    /// Since when it stands as it does; `None`: since the start.
    pub since: Option<Instant>,
    /// Ejected: when it may return at the earliest. Returning: when it has all of its traffic again.
    pub until: Option<Instant>,
    /// Ejected by somebody's order, while it was well.
    pub by_order: bool,
    /// Ejected: somebody wants it so until then, whatever it was ejected for at first.
    pub wanted: bool,
    /// Ejections so far.
    pub ejections: u64,
}
