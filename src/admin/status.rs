//! Which configuration is in force, and how the last attempt to change it went.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Written by whoever reloads, read by whoever is asked.
#[derive(Debug)]
pub struct ConfigStatus(Mutex<Config>);

/// The configuration in force.
#[derive(Debug, Clone)]
pub struct Config {
    /// 1 at the start, one more with every change.
    pub generation: u64,
    /// Of the content of the file, for comparing proxies; 16 hex digits.
    pub hash: String,
    /// When it came into force.
    pub since: SystemTime,
    /// The last attempt to read it anew went well, or there was none.
    pub last_reload_successful: bool,
    /// Attempts that changed something, and that failed.
    pub reloads: u64,
    pub failed_reloads: u64,
    /// What was wrong at the last attempt; empty if it went well.
    pub last_error: String,
    /// Settings that the file has and the process does not go by before it is started anew.
    pub needs_restart: Vec<String>,
}

impl ConfigStatus {
    /// Of a start.
    pub fn new(hash: String) -> Self {
        Self(Mutex::new(Config {
            generation: 1,
            hash,
            since: SystemTime::now(),
            last_reload_successful: true,
            reloads: 0,
            failed_reloads: 0,
            last_error: String::new(),
            needs_restart: Vec::new(),
        }))
    }

    pub fn get(&self) -> Config {
        self.lock().clone()
    }

    /// A configuration came into force.
    pub fn changed(&self, generation: u64, hash: String, needs_restart: Vec<String>) {
        let mut config = self.lock();
        config.reloads += 1;
        *config = Config {
            generation,
            hash,
            since: SystemTime::now(),
            last_reload_successful: true,
            last_error: String::new(),
            needs_restart,
            ..config.clone()
        };
    }

    /// The file says what is in force already, perhaps in other words.
    pub fn unchanged(&self, hash: String, needs_restart: Vec<String>) {
        let mut config = self.lock();
        config.hash = hash;
        config.needs_restart = needs_restart;
        config.last_reload_successful = true;
        config.last_error.clear();
    }

    /// An attempt failed; what was in force stays.
    pub fn failed(&self, error: String) {
        let mut config = self.lock();
        config.failed_reloads += 1;
        config.last_reload_successful = false;
        config.last_error = error;
    }

    fn lock(&self) -> MutexGuard<'_, Config> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
