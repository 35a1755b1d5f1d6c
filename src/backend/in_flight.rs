//! The in-flight queue: which request the next reply belongs to. Pure.
//!
//! The queue mirrors the byte stream towards the server. Entry `i` occupies the stream positions
//! `end[i - 1] .. end[i]`; positions never go back within one connection.
//!
//! Invariants:
//! - `end` strictly increases, and the last one equals `appended`;
//! - the last `unwritten` entries are those with `end > written`, and `written <= appended`;
//! - `expired` entries are marked so and have no requester any more: they were answered with a time-out, and their
//!   replies, when they come, are dropped;
//! - no entry that is not expired has a deadline before `soonest`.

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
    /// How often it was sent before.
    pub attempts: u8,
    /// It was answered with a time-out.
    pub expired: bool,
    /// It has the time of slow commands.
    pub slow: bool,
    /// Length of its copy among those that may be sent again, in bytes; 0: there is none.
    pub kept: u32,
    pub deadline: Option<Instant>,
    /// Stream position behind the request's last byte.
    end: u64,
}

impl<R> Entry<R> {
    /// A request to be pushed.
    pub fn new(requester: Option<R>, ticket: Ticket, expect: Expect, deadline: Option<Instant>) -> Self {
        Self { requester, ticket, expect, attempts: 0, expired: false, slow: false, kept: 0, deadline, end: 0 }
    }
}

/// An entry of a queue that was taken apart.
#[derive(Debug)]
pub struct Taken<R> {
    pub entry: Entry<R>,
    /// Its length, in bytes.
    pub bytes: usize,
    /// How many of them were written.
    pub written: usize,
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
    soonest: Option<Instant>,
}

impl<R> Default for InFlight<R> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), appended: 0, written: 0, unwritten: 0, expired: 0, start: 0, soonest: None }
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
    pub fn push(&mut self, mut entry: Entry<R>, bytes: usize) {
        debug_assert!(bytes > 0);
        self.appended += bytes as u64;
        self.unwritten += 1;
        self.expired += usize::from(entry.expired);
        if let Some(deadline) = entry.deadline.filter(|_| !entry.expired)
            && self.soonest.is_none_or(|soonest| deadline < soonest)
        {
            self.soonest = Some(deadline);
        }
        entry.end = self.appended;
        self.queue.push_back(entry);
    }

    /// Of a request some bytes are written, and so many are not; 0: there is none.
    pub fn rest_of_request(&self) -> usize {
        let complete = self.queue.len() - self.unwritten;
        let begun = match complete.checked_sub(1) {
            Some(last) => self.queue[last].end,
            None => self.start,
        };
        let next = self.queue.get(complete).filter(|_| begun < self.written);
        next.map_or(0, |next| (next.end - self.written) as usize)
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

    /// The entry that the next reply belongs to; `None` when the server owes none: nothing is in flight, or not a byte of
    /// the oldest request was written. (A server may answer before it has read the whole request: memcached refuses a
    /// large item.)
    pub fn next(&self) -> Option<&Entry<R>> {
        self.queue.front().filter(|_| self.start < self.written)
    }

    /// Takes the request that the reply at hand belongs to. `None` as for [`InFlight::next`].
    pub fn answered(&mut self) -> Option<Entry<R>> {
        self.next()?;
        let entry = self.queue.pop_front()?;
        self.start = entry.end;
        self.expired -= usize::from(entry.expired);
        if entry.end > self.written {
            self.unwritten -= 1;
        }
        if self.queue.is_empty() {
            self.soonest = None;
        }
        Some(entry)
    }

    /// No request has to be given up before this; `None`: there is no deadline.
    pub fn soonest(&self) -> Option<Instant> {
        self.soonest
    }

    /// Whether there are entries of requests that were given up.
    pub fn has_expired(&self) -> bool {
        self.expired > 0
    }

    /// What the next reply belongs to was given up: the server has not just been busy with something else.
    pub fn is_stuck(&self) -> bool {
        self.queue.front().is_some_and(|oldest| oldest.expired)
    }

    /// Gives up the requests whose deadline has passed; their entries stay to swallow late replies.
    pub fn expire(&mut self, now: Instant) -> Vec<Overdue<R>> {
        if self.soonest.is_none_or(|soonest| soonest > now) {
            return Vec::new();
        }
        let mut overdue = Vec::new();
        self.soonest = None;
        for entry in self.queue.iter_mut().filter(|e| !e.expired) {
            let Some(deadline) = entry.deadline else { continue };
            if deadline <= now {
                entry.expired = true;
                self.expired += 1;
                let Entry { ticket, slow, attempts, .. } = *entry;
                overdue.push(Overdue { requester: entry.requester.take(), ticket, slow, attempts, deadline });
            } else if self.soonest.is_none_or(|soonest| deadline < soonest) {
                self.soonest = Some(deadline);
            }
        }
        overdue
    }

    /// Takes the queue apart, as its connection is gone. The number is that of the out buffer's leading bytes that belong
    /// to a request that has been answered.
    pub fn take_apart(&mut self) -> (usize, Vec<Taken<R>>) {
        let whole = std::mem::take(self);
        let orphaned = whole.start.saturating_sub(whole.written) as usize;
        let mut start = whole.start;
        let taken = whole.queue.into_iter().map(|entry| {
            let (bytes, written) = (entry.end - start, whole.written.clamp(start, entry.end) - start);
            start = entry.end;
            Taken { entry, bytes: bytes as usize, written: written as usize }
        });
        (orphaned, taken.collect())
    }
}

/// A request that was given up.
#[derive(Debug, PartialEq, Eq)]
pub struct Overdue<R> {
    pub requester: Option<R>,
    pub ticket: Ticket,
    pub slow: bool,
    /// How often it was sent before.
    pub attempts: u8,
    pub deadline: Instant,
}

#[cfg(test)]
mod tests;
