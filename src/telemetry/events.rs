//! What happened to servers, for operators: each event is one line of the log, and the last thousand are kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

use super::labels::{Label, label};

/// Events that are kept; older ones are in the log only.
const CAPACITY: usize = 1000;

label! {
    /// What happened.
    What {
        /// The server takes no traffic any more.
        Ejected = "ejected",
        /// The server should be ejected, but as many are as may be.
        Kept = "kept",
        /// The server could not be emptied before its return.
        NotFlushed = "not_flushed",
        /// The server takes a growing share of its traffic.
        Returning = "returning",
        /// The server takes all of its traffic again.
        Readmitted = "readmitted",
        /// Another configuration is in force.
        Reloaded = "reloaded",
        /// A new configuration could not be put in force.
        ReloadFailed = "reload_failed",
        /// Another process takes over.
        Upgraded = "upgraded",
        /// No other process could take over.
        UpgradeFailed = "upgrade_failed",
        /// The process ends.
        Draining = "draining",
    }
}

/// Who, what, why, since when, until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: SystemTime,
    pub pool: String,
    pub server: String,
    pub what: What,
    /// Empty where nothing went wrong.
    pub why: String,
    /// Of a failing server: its first failure. Of a returning one: its ejection.
    pub since: Option<SystemTime>,
    /// Of an ejected server: its return at the earliest. Of a returning one: all of its traffic.
    pub until: Option<SystemTime>,
}

impl Event {
    /// One that is about no server, but about the whole process.
    pub fn of_process(what: What, why: String) -> Self {
        let (pool, server) = (String::new(), String::new());
        Self { at: SystemTime::now(), pool, server, what, why, since: None, until: None }
    }
}

/// The events of the process.
#[derive(Debug, Default)]
pub struct Events(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    latest: VecDeque<Event>,
    /// All there ever were, by what happened.
    counts: [u64; What::COUNT],
}

impl Events {
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the one log line of an event, and keeps it.
    pub fn record(&self, event: Event) {
        log(&event);
        let mut kept = self.lock();
        kept.counts[event.what.index()] += 1;
        if kept.latest.len() == CAPACITY {
            kept.latest.pop_front();
        }
        kept.latest.push_back(event);
    }

    /// The last thousand, oldest first.
    pub fn recent(&self) -> Vec<Event> {
        self.last(CAPACITY)
    }

    /// The last few, oldest first.
    pub fn last(&self, count: usize) -> Vec<Event> {
        self.numbered(count, 0).into_iter().map(|(_, event)| event).collect()
    }

    /// The last few with numbers above this one, oldest first. The first event of the process has number 1.
    pub fn numbered(&self, count: usize, above: u64) -> Vec<(u64, Event)> {
        let kept = self.lock();
        let first = kept.counts.iter().sum::<u64>() + 1 - kept.latest.len() as u64;
        let skipped =
            kept.latest.len().saturating_sub(count).max(above.saturating_add(1).saturating_sub(first) as usize);
        (first..).zip(&kept.latest).skip(skipped).map(|(number, event)| (number, event.clone())).collect()
    }

    /// How often each thing has happened.
    pub fn counts(&self) -> Vec<(What, u64)> {
        What::ALL.iter().copied().zip(self.lock().counts).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(event: &Event) {
    let Event { pool, server, why: reason, .. } = event;
    let (since, until) = (event.since.map(date_and_time), event.until.map(date_and_time));
    let (since, until) = (since.as_deref(), until.as_deref());
    let by_hand = (!reason.is_empty()).then_some(reason);
    match event.what {
        What::Ejected => tracing::warn!(
            pool,
            server,
            reason,
            failing_since = since,
            until,
            "server ejected: it gets no requests until it answers probes again, and not before the time given"
        ),
        What::Kept => tracing::warn!(
            pool,
            server,
            reason,
            failing_since = since,
            "server fails but is not ejected: max_ejected_percent allows no more ejected servers in this pool"
        ),
        What::NotFlushed => tracing::warn!(
            pool,
            server,
            reason,
            ejected_since = since,
            "server answers probes but cannot be emptied, as on_readmit demands: it stays ejected"
        ),
        What::Returning => tracing::info!(
            pool,
            server,
            reason = by_hand,
            ejected_since = since,
            until,
            "server returns: it gets a growing share of its requests, and all from the time given"
        ),
        What::Readmitted => {
            tracing::info!(
                pool,
                server,
                reason = by_hand,
                ejected_since = since,
                "server is back: it gets all of its requests again"
            )
        }
        What::Reloaded => tracing::info!(changes = reason, "a new configuration is in force"),
        What::ReloadFailed => tracing::error!("the configuration was not changed, what is running stays: {reason}"),
        What::Upgraded => tracing::info!("another process takes over: {reason}"),
        What::UpgradeFailed => tracing::error!("no other process takes over, this one goes on: {reason}"),
        What::Draining => tracing::info!("draining: {reason}"),
    }
}

/// A moment of the monotonic clock by the clock on the wall, as that stands now.
pub fn wall_clock(at: Instant) -> SystemTime {
    let (now, wall) = (Instant::now(), SystemTime::now());
    if at > now { wall + (at - now) } else { wall - (now - at) }
}

/// `2026-08-01T10:20:30.400Z`, as the log's own times are written.
pub fn date_and_time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = i64::try_from(since.as_millis()).ok().and_then(DateTime::from_timestamp_millis);
    at.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(server: usize) -> Event {
        Event {
            at: UNIX_EPOCH,
            pool: "a".into(),
            server: server.to_string(),
            what: What::Kept,
            why: "Connection refused".into(),
            since: None,
            until: None,
        }
    }

    #[test]
    fn the_last_thousand_are_kept_oldest_first() {
        let events = Events::new();
        (0..1234).for_each(|number| events.record(event(number)));
        let kept: Vec<_> = events.recent().into_iter().map(|e| e.server.parse::<usize>()).collect();
        assert_eq!(kept, (234..1234).map(Ok).collect::<Vec<_>>());
        assert_eq!(events.last(2), [event(1232), event(1233)]);
        assert_eq!(events.counts()[What::Kept.index()], (What::Kept, 1234));
    }

    #[test]
    fn whoever_knows_the_first_ones_asks_for_the_others() {
        let events = Events::new();
        assert_eq!(events.numbered(10, 0), []);
        (1..=1100).for_each(|number| events.record(event(number)));
        let numbers = |count, above| {
            let found = events.numbered(count, above);
            assert!(found.iter().all(|(number, event)| event.server == number.to_string()));
            found.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1000, 1097), [1098, 1099, 1100]);
        assert_eq!(numbers(2, 1097), [1099, 1100]);
        assert_eq!(numbers(1000, 5).len(), 1000);
        assert!(numbers(1000, 1100).is_empty() && numbers(1000, u64::MAX).is_empty());
    }

    #[test]
    fn times_are_written_as_the_log_writes_them() {
        // date -u -d @1785579630 +%FT%T
        let at = UNIX_EPOCH + Duration::from_millis(1_785_579_630_400);
        assert_eq!(date_and_time(at), "2026-08-01T10:20:30.400Z");
    }

    #[test]
    fn the_wall_clock_goes_along_with_the_other() {
        let now = Instant::now();
        let apart = wall_clock(now + Duration::from_secs(60)).duration_since(wall_clock(now - Duration::from_secs(60)));
        assert_eq!(apart.map(|d| d.as_secs_f64().round()).ok(), Some(120.0));
    }
}
