//! What is told of requests and keys, and what is not: one for the whole process.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use super::keys::KeyForm;
use super::slow_log::SlowLog;

/// The keys of `observe` in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserveSettings {
    /// Count requests by command and result, and how long they take.
    pub metrics: bool,
    /// Look for hot and for big keys.
    pub hot_keys: bool,
    /// How keys are shown.
    pub keys: KeyForm,
    /// Slow requests that are kept.
    pub slowlog_entries: usize,
    /// Slow requests that are recorded in a second, at the most.
    pub slowlog_per_second: u32,
    /// A line of the log for each that is recorded.
    pub slowlog_to_log: bool,
}

impl Default for ObserveSettings {
    fn default() -> Self {
        Self {
            metrics: true,
            hot_keys: true,
            keys: KeyForm::Plain,
            slowlog_entries: 256,
            slowlog_per_second: 10,
            slowlog_to_log: false,
        }
    }
}

/// Where connections report what they notice, and whoever shows it asks.
#[derive(Debug)]
pub struct Observer {
    pub slow_log: SlowLog,
    hot_keys: AtomicBool,
    /// An index of [`KeyForm::ALL`].
    keys: AtomicU8,
}

impl Default for Observer {
    fn default() -> Self {
        Self::new(&ObserveSettings::default())
    }
}

impl Observer {
    pub fn new(settings: &ObserveSettings) -> Self {
        let observer =
            Self { slow_log: SlowLog::default(), hot_keys: AtomicBool::default(), keys: AtomicU8::default() };
        observer.apply(settings);
        observer
    }

    /// Goes by other settings from now on.
    pub fn apply(&self, settings: &ObserveSettings) {
        self.slow_log.apply(settings);
        self.hot_keys.store(settings.hot_keys, Relaxed);
        self.keys.store(settings.keys as u8, Relaxed);
    }

    /// Hot and big keys are looked for.
    pub fn wants_hot_keys(&self) -> bool {
        self.hot_keys.load(Relaxed)
    }

    /// How keys are shown.
    pub fn key_form(&self) -> KeyForm {
        KeyForm::ALL[usize::from(self.keys.load(Relaxed))].1
    }
}
