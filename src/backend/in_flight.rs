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
use crate::telemetry::Stamp;

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
    /// Length of the copy of its beginning, in bytes; 0: there is none.
    pub kept: u32,
    /// It may be sent again: the copy is all of it.
    pub repeatable: bool,
    /// It is an EVALSHA; see `connection::scripts`.
    pub script: bool,
    /// It is in the sample that hot and big keys are looked for in.
    pub sampled: bool,
    pub deadline: Option<Instant>,
    /// When it was queued, for the first time.
    pub queued: Stamp,
    /// When its last byte was written; before that as `queued`.
    pub written: Stamp,
    /// Stream position behind the request's last byte.
    end: u64,
}

impl<R> Entry<R> {
    /// A request to be pushed.
    pub fn new(requester: Option<R>, ticket: Ticket, expect: Expect, deadline: Option<Instant>) -> Self {
        Self {
            requester,
            ticket,
            expect,
            attempts: 0,
            expired: false,
            slow: false,
            kept: 0,
            repeatable: false,
            script: false,
            sampled: false,
            deadline,
            queued: Stamp::default(),
            written: Stamp::default(),
            end: 0,
        }
    }

    /// Queued now.
    pub fn at(self, now: Stamp) -> Self {
        Self { queued: now, written: now, ..self }
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

    /// `bytes` more bytes were written now; returns how many requests that completed.
    pub fn wrote(&mut self, bytes: usize, now: Stamp) -> usize {
        self.written += bytes as u64;
        debug_assert!(self.written <= self.appended);
        let before = self.unwritten;
        self.unwritten = if self.written == self.appended {
            0
        } else {
            self.queue.iter().rev().take_while(|e| e.end > self.written).count()
        };
        let length = self.queue.len();
        let complete = self.queue.range_mut(length - before..length - self.unwritten);
        complete.for_each(|entry| entry.written = now);
        before - self.unwritten
    }

    /// The entry that the next reply belongs to; `None` when the server owes none: nothing is in flight, or not a byte of
    /// the oldest request was written. (A server may answer before it has read the whole request: memcached refuses a
    /// large item.)
    pub fn next(&self) -> Option<&Entry<R>> {
        self.queue.front().filter(|_| self.start < self.written)
    }

    /// The request that is answered before all others, whether any of it was written or not.
    pub fn oldest(&self) -> Option<&Entry<R>> {
        self.queue.front()
    }

    /// The length of the oldest request, in bytes.
    pub fn bytes_of_next(&self) -> usize {
        self.queue.front().map_or(0, |oldest| (oldest.end - self.start) as usize)
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

    /// Shows the requests that [`InFlight::expire`] would give up.
    pub fn overdue(&self, now: Instant, mut see: impl FnMut(Due<'_, R>)) {
        if self.soonest.is_none_or(|soonest| soonest > now) {
            return;
        }
        let (mut start, mut copies_before) = (self.start, 0);
        for entry in &self.queue {
            if !entry.expired && entry.deadline.is_some_and(|deadline| deadline <= now) {
                let (bytes, written) = ((entry.end - start) as usize, entry.end <= self.written);
                see(Due { entry, bytes, written, copies_before });
            }
            start = entry.end;
            copies_before += entry.kept as usize;
        }
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

/// A request that is to be given up.
#[derive(Debug)]
pub struct Due<'a, R> {
    pub entry: &'a Entry<R>,
    /// Its length, in bytes.
    pub bytes: usize,
    /// All of it was written.
    pub written: bool,
    /// The length of all copies before its own, in bytes.
    pub copies_before: usize,
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
