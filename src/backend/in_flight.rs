//! The in-flight queue: which request the next reply belongs to. Pure.
//!
//! The queue mirrors the byte stream towards the server. Entry `i` occupies the stream positions
//! `end[i - 1] .. end[i]`; positions never go back within one connection.
//!
//! Invariants:
//! - `end` strictly increases, and the last one equals `appended`;
//! - the last `unwritten` entries are those with `end > written`, and `written <= appended`;
//! - the first `expired` entries have no requester any more: they were answered with a time-out, and their replies, when
//!   they come, are dropped;
//! - deadlines do not decrease along the queue, as every request of a connection has the same timeout.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Expect, Ticket};

/// One unanswered request.
#[derive(Debug)]
pub struct Entry<R> {
    /// `None`: nobody waits for the reply.
    pub requester: Option<R>,
    pub ticket: Ticket,
    pub expect: Expect,
    /// Stream position behind the request's last byte.
    end: u64,
    deadline: Option<Instant>,
}

/// The unanswered requests of one connection, oldest first.
#[derive(Debug)]
pub struct InFlight<R> {
    queue: VecDeque<Entry<R>>,
    appended: u64,
    written: u64,
    unwritten: usize,
    expired: usize,
    /// Where the first entry starts.
    start: u64,
}

impl<R> Default for InFlight<R> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), appended: 0, written: 0, unwritten: 0, expired: 0, start: 0 }
    }
}

impl<R> InFlight<R> {
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of all unanswered requests, written or not.
    pub fn bytes(&self) -> u64 {
        self.appended - self.start
    }

    /// Requests of which at least the last byte is not written.
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// A request of `bytes` bytes was appended to the out buffer.
    pub fn push(&mut self, requester: Option<R>, ticket: Ticket, expect: Expect, bytes: usize, at: Option<Instant>) {
        debug_assert!(bytes > 0);
        self.appended += bytes as u64;
        self.unwritten += 1;
        self.queue.push_back(Entry { requester, ticket, expect, end: self.appended, deadline: at });
    }

    /// `bytes` more bytes were written; returns how many requests that completed.
    pub fn wrote(&mut self, bytes: usize) -> usize {
        self.written += bytes as u64;
        debug_assert!(self.written <= self.appended);
        let before = self.unwritten;
        self.unwritten = if self.written == self.appended {
            0
        } else {
            self.queue.iter().rev().take_while(|e| e.end > self.written).count()
        };
        before - self.unwritten
    }

    /// The shape of the next reply; `None` when the server owes none: nothing is in flight, or not a byte of the oldest
    /// request was written. (A server may answer before it has read the whole request: memcached refuses a large item.)
    pub fn expect(&self) -> Option<Expect> {
        self.queue.front().filter(|_| self.start < self.written).map(|e| e.expect)
    }

    /// Takes the request that the reply at hand belongs to. `None` as for [`InFlight::expect`].
    pub fn answered(&mut self) -> Option<Entry<R>> {
        self.expect()?;
        let entry = self.queue.pop_front()?;
        self.start = entry.end;
        self.expired = self.expired.saturating_sub(1);
        if entry.end > self.written {
            self.unwritten -= 1;
        }
        Some(entry)
    }

    /// The next deadline to watch.
    pub fn deadline(&self) -> Option<Instant> {
        self.queue.get(self.expired).and_then(|e| e.deadline)
    }

    /// Whether the server owes replies to requests that were given up.
    pub fn has_expired(&self) -> bool {
        self.expired > 0
    }

    /// Gives up the oldest request whose deadline has passed; its entry stays to swallow a late reply.
    pub fn expire_next(&mut self, now: Instant) -> Option<(Option<R>, Ticket)> {
        let entry = self.queue.get_mut(self.expired).filter(|e| e.deadline.is_some_and(|d| d <= now))?;
        self.expired += 1;
        Some((entry.requester.take(), entry.ticket))
    }

    /// The connection is gone. Takes what was written, wholly or in part, and what has expired; the rest stays queued for the next connection. The number is that of the out buffer's leading bytes that belong to
    /// requests taken.
    pub fn disconnect(&mut self) -> (Vec<Entry<R>>, usize) {
        let mut taken = Vec::new();
        let mut start = self.start;
        while start < self.written || taken.len() < self.expired {
            let Some(entry) = self.queue.pop_front() else { break };
            start = entry.end;
            taken.push(entry);
        }
        // When every entry was taken, all appended bytes go, whoever they belonged to.
        if self.queue.is_empty() {
            start = self.appended;
        }
        let dropped = (start.max(self.written) - self.written) as usize;
        self.start = start;
        self.written = start;
        self.expired = 0;
        self.unwritten = self.queue.len();
        (taken, dropped)
    }

    /// Takes everything.
    pub fn drain(&mut self) -> Vec<Entry<R>> {
        let all = self.queue.drain(..).collect();
        *self = Self::default();
        all
    }
}

#[cfg(test)]
mod tests;
