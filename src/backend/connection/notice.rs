//! What is noticed of requests and kept for people to see: slow ones, keys that are asked for often, large values.
//!
//! In the common case that is a number counted down and a comparison. What there is to know of a request is in the copy of
//! its beginning beside the in-flight queue; that is looked at only for the few requests that are noticed.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, Entry, Server};
use crate::backend::in_flight::Taken;
use crate::backend::{Facts, Scripts};
use crate::protocol::{glimpse, outcome_of};
use crate::telemetry::{Big, HotKeys, Key, Observer, Outcome, SAMPLE_EVERY, ServerCells, Slow, Stamp, Trouble};

/// Requests and replies from this size on are all looked at, smaller ones if they are in the sample; in bytes. Moving so
/// many takes far longer.
const LARGE: usize = 64 * 1024;
/// Of a request in the sample so many keys count.
const KEYS: usize = 64;

/// Where a connection writes down what it does and sees.
#[derive(Debug, Default)]
pub struct Records {
    pub cells: Arc<ServerCells>,
    pub observer: Arc<Observer>,
    pub hot_keys: Arc<HotKeys>,
    /// Of the server, among all of this process.
    pub number: u64,
    pub facts: Arc<Facts>,
    /// Of the pool.
    pub scripts: Arc<Scripts>,
}

/// Decides what is noticed.
pub(super) struct Notice {
    observer: Arc<Observer>,
    hot_keys: Arc<HotKeys>,
    number: u64,
    /// Requests before the next one of the sample.
    left: Cell<u32>,
    /// State of the generator; never 0.
    random: Cell<u32>,
    /// `slowlog_threshold` in microseconds; the largest number: nothing is slow.
    threshold: Cell<u32>,
}

impl Notice {
    pub(super) fn new(records: &Records, server: &Server) -> Self {
        let Records { observer, hot_keys, number, .. } = records;
        let (observer, hot_keys, number) = (observer.clone(), hot_keys.clone(), *number);
        let random = Cell::new(RandomState::new().hash_one(number) as u32 | 1);
        let notice = Self { observer, hot_keys, number, left: Cell::new(0), random, threshold: Cell::new(0) };
        notice.follow(server);
        notice.left.set(notice.distance());
        notice
    }

    /// Goes by another description of the server.
    pub(super) fn follow(&self, server: &Server) {
        self.threshold.set(server.slowlog_threshold.map_or(u32::MAX, micros));
    }

    /// Whether one more request is in the sample. The distances are random, so that they do not beat with requests that
    /// come in turn.
    #[inline]
    fn samples(&self) -> bool {
        let left = self.left.get();
        if left > 0 {
            self.left.set(left - 1);
            return false;
        }
        self.left.set(self.distance());
        self.observer.wants_hot_keys()
    }

    /// Requests to be passed over: from none to twice the mean.
    fn distance(&self) -> u32 {
        // Marsaglia's xorshift.
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random.set(x);
        x % (2 * SAMPLE_EVERY - 1)
    }

    fn saw_size(&self, bytes: usize, request: &[u8], now: Instant) {
        let bytes = bytes as u64;
        if !self.hot_keys.may_be_big(bytes) || !self.observer.wants_hot_keys() {
            return;
        }
        if let (Some(command), Some(key)) = first_key(request) {
            self.hot_keys.saw_size(Big { key, command, bytes, at: now });
        }
    }
}

/// As a difference of stamps; one that is too long for that never is.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// The name of the command, and its first key.
fn first_key(request: &[u8]) -> (Option<&'static str>, Option<Key>) {
    let mut first = None;
    let command = glimpse(request, |known, length| {
        first.get_or_insert((known, length));
    });
    (command, first.map(|(known, length)| Key::new(known, length)))
}

impl Connection {
    /// A request of so many bytes that begins so is queued; says whether it is in the sample.
    #[inline]
    pub(super) fn notice_request(&self, bytes: usize, request: &[u8]) -> bool {
        let sampled = self.notice.samples();
        if sampled {
            self.count_keys(request);
        }
        if sampled || bytes >= LARGE {
            self.notice.saw_size(bytes, request, self.wire.pass.now());
        }
        sampled
    }

    fn count_keys(&self, request: &[u8]) {
        let mut keys = 0;
        glimpse(request, |known, length| {
            if keys < KEYS {
                self.notice.hot_keys.saw(Key::new(known, length), self.notice.number, self.wire.pass.now());
            }
            keys += 1;
        });
    }

    /// This reply came to the oldest request, which is still there.
    #[inline]
    pub(super) fn notice_reply(&self, queued: Stamp, sampled: bool, reply: &[u8]) {
        let took = self.wire.pass.stamp().since(queued);
        if took >= self.notice.threshold.get() || sampled || reply.len() >= LARGE {
            self.look_at_reply(reply);
        }
    }

    #[cold]
    fn look_at_reply(&self, reply: &[u8]) {
        let (in_flight, replay) = (self.wire.in_flight.borrow(), self.replay.borrow());
        let Some(entry) = in_flight.next() else { return };
        let request = replay.front(entry.kept);
        if entry.sampled || reply.len() >= LARGE {
            self.notice.saw_size(reply.len(), request, self.wire.pass.now());
        }
        let (request_bytes, response_bytes) = (in_flight.bytes_of_next(), reply.len());
        // A reply that comes before all of the request was written is one, too.
        let end = End { request_bytes, response_bytes, written: true, outcome: outcome_of(reply), trouble: None };
        self.record_if_slow(entry, request, end);
    }

    /// Requests that are about to be given up.
    pub(super) fn notice_overdue(&self, now: Instant) {
        let (in_flight, replay) = (self.wire.in_flight.borrow(), self.replay.borrow());
        in_flight.overdue(now, |due| {
            let request = replay.at(due.copies_before, due.entry.kept);
            self.record_if_slow(due.entry, request, End::without_reply(due.bytes, due.written, Trouble::Timeout));
        });
    }

    /// A request that fails, as its connection is lost or was not made.
    pub(super) fn notice_lost<R>(&self, asked: &Taken<R>, request: &[u8], trouble: Trouble) {
        let written = asked.written == asked.bytes;
        self.record_if_slow(&asked.entry, request, End::without_reply(asked.bytes, written, trouble));
    }

    fn record_if_slow<R>(&self, entry: &Entry<R>, request: &[u8], end: End) {
        let now = self.wire.pass.stamp();
        // One that has expired was told of when it did.
        if entry.expired || now.since(entry.queued) < self.notice.threshold.get() {
            return;
        }
        self.wire.cells.slow.increment();
        let server = self.server();
        let written = if end.written { entry.written } else { now };
        self.notice.observer.slow_log.record(self.wire.pass.now(), || {
            let (command, key) = first_key(request);
            Slow {
                pool: &server.pool,
                server: &server.name,
                command,
                key,
                request_bytes: end.request_bytes as u64,
                response_bytes: end.response_bytes as u64,
                queue_us: written.since(entry.queued),
                server_us: now.since(written),
                outcome: end.outcome,
                trouble: end.trouble,
            }
        });
    }
}

/// How a request ended.
struct End {
    request_bytes: usize,
    /// 0 without a reply.
    response_bytes: usize,
    /// All of it was written.
    written: bool,
    outcome: Outcome,
    trouble: Option<Trouble>,
}

impl End {
    fn without_reply(request_bytes: usize, written: bool, trouble: Trouble) -> Self {
        Self { request_bytes, response_bytes: 0, written, outcome: Outcome::Failed, trouble: Some(trouble) }
    }
}
