//! What happened to servers, for operators: each event is one line of the log, and the last thousand are kept.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

/// Events that are kept; older ones are in the log only.
const CAPACITY: usize = 1000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The server takes no traffic any more.
    Ejected,
    /// The server should be ejected, but as many are as may be.
    Kept,
    /// The server could not be emptied before its return.
    NotFlushed,
    /// The server takes a growing share of its traffic.
    Returning,
    /// The server takes all of its traffic again.
    Readmitted,
    /// Another configuration is in force.
    Reloaded,
    /// A new configuration could not be put in force.
    ReloadFailed,
    /// Another process takes over.
    Upgraded,
    /// No other process could take over.
    UpgradeFailed,
    /// The process ends.
    Draining,
}

impl What {
    /// The word for it, as statistics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::Kept => "kept",
            Self::NotFlushed => "not_flushed",
            Self::Returning => "returning",
            Self::Readmitted => "readmitted",
            Self::Reloaded => "reloaded",
            Self::ReloadFailed => "reload_failed",
            Self::Upgraded => "upgraded",
            Self::UpgradeFailed => "upgrade_failed",
            Self::Draining => "draining",
        }
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
pub struct Events(Mutex<VecDeque<Event>>);

impl Events {
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the one log line of an event, and keeps it.
    pub fn record(&self, event: Event) {
        log(&event);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == CAPACITY {
            kept.pop_front();
        }
        kept.push_back(event);
    }

    /// The last thousand, oldest first.
    pub fn recent(&self) -> Vec<Event> {
        self.last(CAPACITY)
    }

    /// The last few, oldest first.
    pub fn last(&self, count: usize) -> Vec<Event> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().skip(kept.len().saturating_sub(count)).cloned().collect()
    }
}

fn log(event: &Event) {
    let Event { pool, server, why: reason, .. } = event;
    let (since, until) = (event.since.map(date_and_time), event.until.map(date_and_time));
    let (since, until) = (since.as_deref(), until.as_deref());
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
            ejected_since = since,
            until,
            "server answers probes: it gets a growing share of its requests, and all from the time given"
        ),
        What::Readmitted => {
            tracing::info!(pool, server, ejected_since = since, "server is back: it gets all of its requests again")
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
