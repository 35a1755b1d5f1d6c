//! The lengths of a connection's queues, added up over all connections of a server.

use super::in_flight::InFlight;
use crate::telemetry::ServerCells;

/// The lengths of a connection's two queues, in requests and in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queues {
    unwritten: u64,
    unwritten_bytes: u64,
    unanswered: u64,
    unanswered_bytes: u64,
}

impl Queues {
    /// With so many bytes in the out buffer.
    pub fn of<R>(in_flight: &InFlight<R>, out: usize) -> Self {
        let (unwritten, unwritten_bytes) = (in_flight.unwritten() as u64, out as u64);
        Self {
            unwritten,
            unwritten_bytes,
            unanswered: in_flight.len() as u64 - unwritten,
            unanswered_bytes: in_flight.bytes().saturating_sub(unwritten_bytes),
        }
    }

    /// Tells the gauges that these lengths are others now.
    pub fn becomes(self, now: Self, cells: &ServerCells) {
        cells.in_queue.add(now.unwritten.wrapping_sub(self.unwritten));
        cells.in_queue_bytes.add(now.unwritten_bytes.wrapping_sub(self.unwritten_bytes));
        cells.out_queue.add(now.unanswered.wrapping_sub(self.unanswered));
        cells.out_queue_bytes.add(now.unanswered_bytes.wrapping_sub(self.unanswered_bytes));
    }
}
