//! The lengths of a connection's queues, added up over all connections of a server.

use super::Connection;

/// The lengths of a connection's two queues, in requests and in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queues {
    unwritten: u64,
    unwritten_bytes: u64,
    unanswered: u64,
    unanswered_bytes: u64,
}

impl Connection {
    /// Brings the queue gauges, which the connections of a server share, up to date.
    pub(super) fn count_queues(&self) {
        let (in_flight, unwritten_bytes) = (self.in_flight.borrow(), self.out.borrow().len() as u64);
        let unwritten = in_flight.unwritten() as u64;
        let now = Queues {
            unwritten,
            unwritten_bytes,
            unanswered: in_flight.len() as u64 - unwritten,
            unanswered_bytes: in_flight.bytes().saturating_sub(unwritten_bytes),
        };
        let before = self.counted.replace(now);
        let cells = &self.cells;
        cells.in_queue.add(now.unwritten.wrapping_sub(before.unwritten));
        cells.in_queue_bytes.add(now.unwritten_bytes.wrapping_sub(before.unwritten_bytes));
        cells.out_queue.add(now.unanswered.wrapping_sub(before.unanswered));
        cells.out_queue_bytes.add(now.unanswered_bytes.wrapping_sub(before.unanswered_bytes));
        self.held.set(self.out.borrow().len() + self.inbound.borrow().len());
    }
}
