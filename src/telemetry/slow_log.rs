//! The slow log: the last requests that took long. Bounded, and never in the way: who records waits for nobody, and
//! when there are too many, or somebody is just reading, a request is counted and not kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::keys::{Key, KeyForm};
use super::labels::{Label, Outcome, Trouble};
use super::observer::ObserveSettings;

/// A slow request as it is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Slow<'a> {
    pub pool: &'a str,
    pub server: &'a str,
    /// `None`: too little of the request was kept to tell, as for the key.
    pub command: Option<&'static str>,
    /// The first one.
    pub key: Option<Key>,
    pub request_bytes: u64,
    /// 0 without a reply.
    pub response_bytes: u64,
    /// From queueing to the write, in microseconds.
    pub queue_us: u32,
    /// From the write to the reply, or to the moment when it was given up; in microseconds.
    pub server_us: u32,
    pub outcome: Outcome,
    /// Why there was no reply.
    pub trouble: Option<Trouble>,
}

/// A slow request as it is kept.
#[derive(Debug, Clone)]
pub struct SlowRequest {
    /// When it was done with.
    pub at: SystemTime,
    pub pool: String,
    pub server: String,
    pub command: Option<&'static str>,
    pub key: Option<Key>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub queue_us: u32,
    pub server_us: u32,
    pub outcome: Outcome,
    pub trouble: Option<Trouble>,
}

/// The slow requests of the process.
#[derive(Debug, Default)]
pub struct SlowLog {
    kept: Mutex<Kept>,
    recorded: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    /// Oldest first; never more than `capacity`.
    latest: VecDeque<SlowRequest>,
    capacity: usize,
    rate: Rate,
    to_log: bool,
    keys: KeyForm,
}

/// So many in each second, counted from the first one.
#[derive(Debug, Default)]
struct Rate {
    per_second: u32,
    second: Option<Instant>,
    used: u32,
}

impl Rate {
    fn allows(&mut self, now: Instant) -> bool {
        let new = self.second.is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1));
        if new {
            (self.second, self.used) = (Some(now), 0);
        }
        let allowed = self.used < self.per_second;
        self.used += u32::from(allowed);
        allowed
    }
}

impl SlowLog {
    /// Goes by other settings from now on. The oldest go if there are too many.
    pub fn apply(&self, settings: &ObserveSettings) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.capacity = settings.slowlog_entries;
        kept.rate.per_second = settings.slowlog_per_second;
        (kept.to_log, kept.keys) = (settings.slowlog_to_log, settings.keys);
        let excess = kept.latest.len().saturating_sub(kept.capacity);
        kept.latest.drain(..excess);
        kept.latest.shrink_to(settings.slowlog_entries);
    }

    /// Keeps it, and writes a line of the log if that is wanted; or counts it as dropped. Of one that is dropped nothing is
    /// asked: while a server stalls all of its requests are slow.
    pub fn record<'a>(&self, now: Instant, slow: impl FnOnce() -> Slow<'a>) {
        let Some((slow, line)) = self.kept.try_lock().ok().and_then(|mut kept| kept.take(now, slow)) else {
            self.dropped.fetch_add(1, Relaxed);
            return;
        };
        self.recorded.fetch_add(1, Relaxed);
        if let Some(keys) = line {
            log(&slow, keys);
        }
    }

    /// The last few, newest first.
    pub fn last(&self, count: usize) -> Vec<SlowRequest> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.latest.iter().rev().take(count).cloned().collect()
    }

    /// All that were ever recorded.
    pub fn recorded(&self) -> u64 {
        self.recorded.load(Relaxed)
    }

    /// Slow requests that were not recorded.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

impl Kept {
    /// Keeps it if there is still one to be had in this second; says how the line of the log shows keys, if there is to
    /// be one.
    fn take<'a>(&mut self, now: Instant, slow: impl FnOnce() -> Slow<'a>) -> Option<(Slow<'a>, Option<KeyForm>)> {
        let allowed = self.rate.allows(now);
        allowed.then(|| {
            let slow = slow();
            self.push(&slow);
            (slow, self.to_log.then_some(self.keys))
        })
    }

    /// Of a full log the oldest one is written over: its texts have room for the names.
    fn push(&mut self, slow: &Slow<'_>) {
        if self.capacity == 0 {
            return;
        }
        let oldest = if self.latest.len() >= self.capacity { self.latest.pop_front() } else { None };
        let mut entry = oldest.unwrap_or_else(SlowRequest::empty);
        entry.fill(slow);
        self.latest.push_back(entry);
    }
}

impl SlowRequest {
    fn empty() -> Self {
        Self {
            at: UNIX_EPOCH,
            pool: String::new(),
            server: String::new(),
            command: None,
            key: None,
            request_bytes: 0,
            response_bytes: 0,
            queue_us: 0,
            server_us: 0,
            outcome: Outcome::Ok,
            trouble: None,
        }
    }

    fn fill(&mut self, slow: &Slow<'_>) {
        let Slow { pool, server, command, key, request_bytes, response_bytes, queue_us, server_us, outcome, trouble } =
            *slow;
        self.at = SystemTime::now();
        self.pool.replace_range(.., pool);
        self.server.replace_range(.., server);
        (self.command, self.key) = (command, key);
        (self.request_bytes, self.response_bytes) = (request_bytes, response_bytes);
        (self.queue_us, self.server_us) = (queue_us, server_us);
        (self.outcome, self.trouble) = (outcome, trouble);
    }
}

fn log(slow: &Slow<'_>, keys: KeyForm) {
    let Slow { pool, server, command, key, request_bytes, response_bytes, queue_us, server_us, outcome, trouble } =
        *slow;
    tracing::info!(
        pool,
        server,
        command = command.map(str::to_ascii_uppercase),
        key = key.map(|key| key.shown(keys)),
        key_bytes = key.and_then(|key| key.cut_length(keys)),
        request_bytes,
        response_bytes,
        queue_us,
        server_us,
        result = outcome.name(),
        reason = trouble.map(Label::name),
        "slow request"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(key: &str) -> Slow<'_> {
        Slow {
            pool: "a",
            server: "one",
            command: Some("get"),
            key: Some(Key::new(key.as_bytes(), key.len())),
            request_bytes: 10,
            response_bytes: 20,
            queue_us: 1,
            server_us: 2,
            outcome: Outcome::Ok,
            trouble: None,
        }
    }

    fn log_of(entries: usize, per_second: u32) -> SlowLog {
        let log = SlowLog::default();
        log.apply(&settings(entries, per_second));
        log
    }

    fn settings(slowlog_entries: usize, slowlog_per_second: u32) -> ObserveSettings {
        ObserveSettings { slowlog_entries, slowlog_per_second, ..ObserveSettings::default() }
    }

    fn keys(log: &SlowLog, count: usize) -> Vec<String> {
        log.last(count).into_iter().map(|entry| entry.key.map(|key| key.shown(KeyForm::Plain)).unwrap()).collect()
    }

    #[test]
    fn the_last_ones_are_kept_newest_first() {
        let (log, now) = (log_of(3, 1000), Instant::now());
        for number in 0..10 {
            let key = number.to_string();
            log.record(now, || slow(&key));
        }
        assert_eq!((keys(&log, 10), keys(&log, 1)), (vec!["9".into(), "8".into(), "7".into()], vec!["9".into()]));
        assert_eq!((log.recorded(), log.dropped()), (10, 0));
        log.apply(&settings(2, 1000));
        assert_eq!(keys(&log, 10), ["9", "8"]);
        log.apply(&settings(0, 1000));
        log.record(now, || slow("x"));
        assert_eq!(keys(&log, 10), [""; 0]);
    }

    #[test]
    fn so_many_a_second_and_the_others_are_counted() {
        let (log, start) = (log_of(100, 3), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        (0..10).for_each(|_| log.record(at(0), || slow("a")));
        log.record(at(999), || slow("b"));
        assert_eq!((log.recorded(), log.dropped()), (3, 8));
        (0..4).for_each(|_| log.record(at(1000), || slow("c")));
        assert_eq!((log.recorded(), log.dropped()), (6, 9));
        log.apply(&settings(100, 0));
        log.record(at(9000), || slow("d"));
        assert_eq!((log.recorded(), log.dropped()), (6, 10));
    }

    #[test]
    fn who_records_does_not_wait_for_who_reads() {
        let (log, now) = (log_of(100, 100), Instant::now());
        let reader = log.kept.lock().unwrap();
        log.record(now, || slow("a"));
        drop(reader);
        log.record(now, || slow("b"));
        assert_eq!((keys(&log, 10), log.dropped()), (vec!["b".into()], 1));
    }

    #[test]
    fn a_full_log_is_written_over_in_place() {
        let (log, now) = (log_of(2, 1000), Instant::now());
        (0..2).for_each(|_| log.record(now, || slow("a")));
        let places = |log: &SlowLog| {
            let kept = log.kept.lock().unwrap();
            let mut places: Vec<_> = kept.latest.iter().map(|entry| entry.pool.as_ptr() as usize).collect();
            places.sort_unstable();
            (kept.latest.capacity(), places)
        };
        let before = places(&log);
        (0..100).for_each(|_| log.record(now, || slow("b")));
        assert_eq!(places(&log), before);
    }
}
