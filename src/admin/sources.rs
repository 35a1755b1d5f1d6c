//! What everything that the proxy tells about itself is read from.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use tokio::sync::watch;

use super::status::ConfigStatus;
use crate::io::Budget;
use crate::listener::Entrances;
use crate::pool::{SharedPool, Topology};
use crate::telemetry::{Events, Observer};
use crate::worker::Vitals;

/// Everything there is to read; nothing of it can be changed from here.
pub struct Sources {
    pub topology: watch::Receiver<Arc<Topology>>,
    pub config: Arc<ConfigStatus>,
    /// Clients may be sent here.
    pub ready: Arc<AtomicBool>,
    pub events: Arc<Events>,
    pub observer: Arc<Observer>,
    pub budget: Arc<Budget>,
    pub entrances: Entrances,
    /// Empty until they have started.
    pub workers: Arc<OnceLock<Vec<Vitals>>>,
    pub start: Start,
    /// The name of this machine.
    pub source: String,
}

/// When the process started, by both clocks. What is told of the monotonic one is counted from here, so that it stays the same from
/// report to report.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub instant: Instant,
    pub wall: SystemTime,
}

impl Start {
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

/// The name of this machine.
pub fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Sources {
    /// Why no clients should be sent here; `None`: they may be.
    pub fn not_ready(&self) -> Option<&'static str> {
        let alive = |pool: &Arc<SharedPool>| {
            let routing = pool.health.routing().load();
            (0..pool.servers.len()).any(|server| routing.standing(server).is_live())
        };
        if !self.ready.load(Relaxed) {
            return Some("draining");
        }
        (!self.topology.borrow().pools.iter().any(alive)).then_some("no pool has a live server")
    }

    /// A moment by the clock on the wall: the same one at each call.
    pub fn wall(&self, at: Instant) -> SystemTime {
        let Start { instant, wall } = self.start;
        match at.checked_duration_since(instant) {
            Some(after) => wall + after,
            None => wall - instant.saturating_duration_since(at),
        }
    }
}
