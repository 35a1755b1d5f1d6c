//! The cells: plain numbers that one worker writes and anyone may read. A write is a load and a store, both relaxed:
//! half a nanosecond, no locked instruction.
//!
//! Invariant: each cell has one writer, the worker that it was made for; sums are made by the reader.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::labels::{Class, Ending, Label, Outcome, Trouble};
use super::latency::Latency;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A counter for each value of a label.
#[derive(Debug)]
pub struct Counts<L, const N: usize>([Counter; N], PhantomData<L>);

impl<L, const N: usize> Default for Counts<L, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()), PhantomData)
    }
}

impl<L: Label, const N: usize> Counts<L, N> {
    pub fn of(&self, label: L) -> &Counter {
        &self.0[label.index()]
    }

    /// With their labels.
    pub fn all(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL.iter().map(|label| (*label, self.of(*label).get()))
    }
}

pub type Outcomes = Counts<Outcome, { Outcome::COUNT }>;
pub type Troubles = Counts<Trouble, { Trouble::COUNT }>;
pub type Endings = Counts<Ending, { Ending::COUNT }>;

/// What one worker counts for one server. The first fields are those of twemproxy's statistics.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServerCells {
    pub server_eof: Counter,
    pub server_err: Counter,
    pub server_timedout: Counter,
    /// Requests sent a second time after a lost connection.
    pub server_retries: Counter,
    /// Requests that were not, as the retry budget was used up.
    pub server_retries_denied: Counter,
    pub server_connections: Gauge,
    /// Connections ever made.
    pub server_connections_total: Counter,
    pub requests: Counter,
    pub request_bytes: Counter,
    pub responses: Counter,
    pub response_bytes: Counter,
    /// Requests not written yet, and their bytes.
    pub in_queue: Gauge,
    pub in_queue_bytes: Gauge,
    /// Requests written and not answered yet, and their bytes.
    pub out_queue: Gauge,
    pub out_queue_bytes: Gauge,
    /// Connections that are being made.
    pub connecting: Gauge,
    /// Connections that wait before the next attempt.
    pub waiting: Gauge,
    /// Attempts to connect that failed and connections that were lost.
    pub connection_errors: Troubles,
    /// From the write of a request to its reply.
    pub latency: Latency,
    /// From queueing to the write.
    pub queue_latency: Latency,
    /// Requests that took longer than `slowlog_threshold`.
    pub slow: Counter,
    /// Dedicated connections that a session has to itself.
    pub dedicated_in_use: Gauge,
    /// Those that are kept for the next one.
    pub dedicated_idle: Gauge,
    /// Those ever opened.
    pub dedicated_opened: Counter,
    /// Those that a session did not get, as there were too many.
    pub dedicated_refused: Counter,
}

/// What one worker counts for one pool.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PoolCells {
    pub client_eof: Counter,
    pub client_err: Counter,
    pub client_connections: Gauge,
    /// Sessions ever opened.
    pub client_connections_total: Counter,
    /// Requests refused because the process held too much.
    pub client_refused_overload: Counter,
    /// Clients cut because the process held too much and they did not read.
    pub client_cut_overload: Counter,
    /// Clients cut because they took nothing for `client_write_timeout`.
    pub client_cut_slow: Counter,
    /// Clients closed because they said nothing for `client_idle_timeout`.
    pub client_closed_idle: Counter,
    /// Requests answered with an error of Outrigger's own because a server could not be asked.
    pub forward_error: Counter,
    /// Pieces of multi-key requests sent to servers.
    pub fragments: Counter,
    /// Requests that were cut into pieces.
    pub fragmented: Counter,
    /// EVALSHA requests sent as EVAL.
    pub scripts_sent: Counter,
    /// What clients have sent and were sent, in bytes.
    pub request_bytes: Counter,
    pub response_bytes: Counter,
    /// Requests that are done, by class.
    pub requests: [Outcomes; Class::COUNT],
    /// Of those that servers were asked, by class: from their arrival until their replies are ready, in turn.
    pub latency: [Latency; Class::COUNT - 1],
    /// Requests that failed or were rejected.
    pub troubles: Troubles,
    /// Sessions that have ended.
    pub endings: Endings,
}
