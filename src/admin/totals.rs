//! What the workers have counted, added up.

use std::sync::Arc;

use crate::pool::{SharedPool, SharedServer};
use crate::telemetry::{
    Class, Counts, Ending, Endings, Label, Outcome, Outcomes, PoolCells, ServerCells, Times, Trouble, Troubles,
};

/// Classes of requests that servers are asked; their times are measured.
pub(super) const FORWARDED: [Class; Class::COUNT - 1] = [Class::Read, Class::Write, Class::Other];

/// Counts of all workers by the values of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums<const N: usize>([u64; N]);

impl<const N: usize> Default for Sums<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Sums<N> {
    fn add<L: Label>(&mut self, counts: &Counts<L, N>) {
        self.0.iter_mut().zip(counts.all()).for_each(|(sum, (_, count))| *sum += count);
    }

    /// In the order of the label's values.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }
}

/// What is known of one pool's clients and requests. The names are those of [`PoolCells`].
#[derive(Debug, Default)]
pub(super) struct PoolTotals {
    pub client_eof: u64,
    pub client_err: u64,
    pub client_connections: u64,
    pub client_connections_total: u64,
    pub client_refused_overload: u64,
    pub client_cut_overload: u64,
    pub client_cut_slow: u64,
    pub client_closed_idle: u64,
    pub forward_error: u64,
    pub fragments: u64,
    pub fragmented: u64,
    pub scripts_sent: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// By class.
    pub requests: [Sums<{ Outcome::COUNT }>; Class::COUNT],
    /// Of [`FORWARDED`].
    pub latency: [Times; FORWARDED.len()],
    pub troubles: Sums<{ Trouble::COUNT }>,
    pub endings: Sums<{ Ending::COUNT }>,
}

impl PoolTotals {
    pub fn of(pool: &SharedPool) -> Self {
        let mut totals = Self::default();
        pool.cells.iter().for_each(|cells| totals.add(cells));
        totals
    }

    fn add(&mut self, cells: &Arc<PoolCells>) {
        let PoolCells { requests, latency, troubles, endings, .. } = &**cells;
        self.client_eof += cells.client_eof.get();
        self.client_err += cells.client_err.get();
        self.client_connections = self.client_connections.wrapping_add(cells.client_connections.get());
        self.client_connections_total += cells.client_connections_total.get();
        self.client_refused_overload += cells.client_refused_overload.get();
        self.client_cut_overload += cells.client_cut_overload.get();
        self.client_cut_slow += cells.client_cut_slow.get();
        self.client_closed_idle += cells.client_closed_idle.get();
        self.forward_error += cells.forward_error.get();
        self.fragments += cells.fragments.get();
        self.fragmented += cells.fragmented.get();
        self.scripts_sent += cells.scripts_sent.get();
        self.request_bytes += cells.request_bytes.get();
        self.response_bytes += cells.response_bytes.get();
        self.requests.iter_mut().zip(requests).for_each(|(sums, counts): (_, &Outcomes)| sums.add(counts));
        self.latency.iter_mut().zip(latency).for_each(|(times, latency)| latency.add_to(times));
        let (troubles, endings): (&Troubles, &Endings) = (troubles, endings);
        self.troubles.add(troubles);
        self.endings.add(endings);
    }
}

/// What is known of one server's connections and requests. The names are those of [`ServerCells`].
#[derive(Debug, Default)]
pub(super) struct ServerTotals {
    pub server_eof: u64,
    pub server_err: u64,
    pub server_timedout: u64,
    pub server_retries: u64,
    pub server_retries_denied: u64,
    pub server_connections: u64,
    pub server_connections_total: u64,
    pub requests: u64,
    pub request_bytes: u64,
    pub responses: u64,
    pub response_bytes: u64,
    pub in_queue: u64,
    pub in_queue_bytes: u64,
    pub out_queue: u64,
    pub out_queue_bytes: u64,
    pub connecting: u64,
    pub waiting: u64,
    pub connection_errors: Sums<{ Trouble::COUNT }>,
    pub latency: Times,
    pub queue_latency: Times,
    pub slow: u64,
    pub dedicated_in_use: u64,
    pub dedicated_idle: u64,
    pub dedicated_opened: u64,
    pub dedicated_refused: u64,
}

impl ServerTotals {
    pub fn of(server: &SharedServer) -> Self {
        let mut totals = Self::default();
        server.cells.iter().for_each(|cells| totals.add(cells));
        totals
    }

    fn add(&mut self, cells: &Arc<ServerCells>) {
        self.server_eof += cells.server_eof.get();
        self.server_err += cells.server_err.get();
        self.server_timedout += cells.server_timedout.get();
        self.server_retries += cells.server_retries.get();
        self.server_retries_denied += cells.server_retries_denied.get();
        self.server_connections = self.server_connections.wrapping_add(cells.server_connections.get());
        self.server_connections_total += cells.server_connections_total.get();
        self.requests += cells.requests.get();
        self.request_bytes += cells.request_bytes.get();
        self.responses += cells.responses.get();
        self.response_bytes += cells.response_bytes.get();
        self.in_queue = self.in_queue.wrapping_add(cells.in_queue.get());
        self.in_queue_bytes = self.in_queue_bytes.wrapping_add(cells.in_queue_bytes.get());
        self.out_queue = self.out_queue.wrapping_add(cells.out_queue.get());
        self.out_queue_bytes = self.out_queue_bytes.wrapping_add(cells.out_queue_bytes.get());
        self.connecting = self.connecting.wrapping_add(cells.connecting.get());
        self.waiting = self.waiting.wrapping_add(cells.waiting.get());
        self.connection_errors.add(&cells.connection_errors);
        cells.latency.add_to(&mut self.latency);
        cells.queue_latency.add_to(&mut self.queue_latency);
        self.slow += cells.slow.get();
        self.dedicated_in_use += cells.dedicated_in_use.get();
        self.dedicated_idle += cells.dedicated_idle.get();
        self.dedicated_opened += cells.dedicated_opened.get();
        self.dedicated_refused += cells.dedicated_refused.get();
    }
}
