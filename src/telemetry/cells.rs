//! The cells: plain numbers that one worker writes and anyone may read. A write is a load and a store, both relaxed:
//! half a nanosecond, no locked instruction.
//!
//! Invariant: each cell has one writer, the worker that it was made for; sums are made by the reader.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// What one worker counts for one server. The fields are those of twemproxy's statistics.
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
}
