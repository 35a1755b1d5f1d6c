//! What the admin side answers, as far as commands show it. These are not the structures that are answered
//! ([`crate::admin`] has those), since command and proxy may be of different versions: what is not known is ignored, what is
//! missing has its zero. A test sees to it that every field is one that is told.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde::{Deserialize, Deserializer};

/// Counts by a word: by reason, by result.
pub type Counts = BTreeMap<String, u64>;

/// `GET /topology`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Topology {
    pub service: String,
    pub version: String,
    pub source: String,
    pub pid: u64,
    pub started: String,
    pub uptime_seconds: f64,
    pub ready: bool,
    #[serde(deserialize_with = "or_empty")]
    pub not_ready_reason: String,
    pub workers: u64,
    pub config: Config,
    pub buffered_bytes: u64,
    pub buffered_limit_bytes: u64,
    /// Upper bounds of the bins of every latency; each list of bins has one more, without bound.
    pub latency_bounds_us: Vec<u64>,
    pub worker_threads: Vec<WorkerThread>,
    pub pools: Vec<Pool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Config {
    pub generation: u64,
    pub age_seconds: f64,
    pub last_reload_successful: bool,
    pub reloads: u64,
    pub failed_reloads: u64,
    #[serde(deserialize_with = "or_empty")]
    pub last_error: String,
    pub needs_restart: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct WorkerThread {
    pub worker: u64,
    #[serde(deserialize_with = "or_zero")]
    pub cpu_seconds: f64,
    #[serde(deserialize_with = "or_zero")]
    pub wait_seconds: f64,
    pub sessions: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Pool {
    pub name: String,
    pub protocol: String,
    pub listen: String,
    pub distribution: String,
    pub hash: String,
    pub sessions: Sessions,
    /// By class of command, then by result.
    pub requests: BTreeMap<String, Counts>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub errors: Counts,
    /// By class of command.
    pub latency: BTreeMap<String, Vec<u64>>,
    pub servers: Vec<Server>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Sessions {
    pub open: u64,
    pub limit: Option<u64>,
    pub opened: u64,
    pub refused: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Server {
    pub name: String,
    pub address: String,
    pub state: State,
    pub traffic_percent: f64,
    pub ring_share: f64,
    #[serde(deserialize_with = "or_empty")]
    pub reason: String,
    pub ejected_at: Option<String>,
    pub until: Option<String>,
    pub ejections: u64,
    pub connections: Connections,
    pub errors: Counts,
    pub requests: u64,
    pub responses: u64,
    pub queued: u64,
    pub in_flight: u64,
    pub timeouts: u64,
    pub latency: Vec<u64>,
    pub queue_latency: Vec<u64>,
}

/// In the order of what is to be seen first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ejected,
    Returning,
    #[default]
    #[serde(other)]
    Live,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Connections {
    pub connected: u64,
    pub connecting: u64,
    pub waiting: u64,
    pub dedicated_in_use: u64,
    pub dedicated_idle: u64,
}

/// `GET /events`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Events {
    /// Number of the latest one, shown or not.
    pub last: u64,
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Event {
    pub number: u64,
    pub at: String,
    #[serde(deserialize_with = "or_empty")]
    pub pool: String,
    #[serde(deserialize_with = "or_empty")]
    pub server: String,
    pub what: String,
    #[serde(deserialize_with = "or_empty")]
    pub why: String,
}

/// `GET /slowlog`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SlowLog {
    pub recorded: u64,
    pub dropped: u64,
    pub entries: Vec<SlowRequest>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SlowRequest {
    pub at: String,
    pub pool: String,
    #[serde(deserialize_with = "or_empty")]
    pub server: String,
    pub command: String,
    #[serde(deserialize_with = "or_empty")]
    pub key: String,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub queue_us: u64,
    pub server_us: u64,
    pub result: String,
    /// Why it failed.
    #[serde(deserialize_with = "or_empty")]
    pub reason: String,
}

/// `GET /hotkeys`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HotKeys {
    pub pools: Vec<KeysOfPool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct KeysOfPool {
    pub pool: String,
    pub hot: Vec<HotKey>,
    pub big: Vec<BigKey>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HotKey {
    pub key: String,
    #[serde(deserialize_with = "or_empty")]
    pub server: String,
    pub share: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct BigKey {
    pub key: String,
    pub command: String,
    pub bytes: u64,
    pub at: String,
}

/// `null` is nothing, as an empty text is.
fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What the kernel does not say is `null`.
fn or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The proxy's clock. Ages are counted by it: that of the machine where the command runs may be another one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Seconds since the epoch; `None` if it is not told.
    now: Option<f64>,
}

impl Topology {
    pub fn clock(&self) -> Clock {
        Clock { now: instant(&self.started).map(|started| started + self.uptime_seconds) }
    }
}

impl Clock {
    /// Seconds since a time of the past.
    pub fn since(self, at: Option<&str>) -> Option<f64> {
        Some((self.now? - instant(at?)?).max(0.0))
    }

    /// Seconds until a time of the future.
    pub fn until(self, at: Option<&str>) -> Option<f64> {
        Some(instant(at?)? - self.now?).filter(|left| *left > 0.0)
    }
}

fn instant(at: &str) -> Option<f64> {
    DateTime::parse_from_rfc3339(at).ok().map(|at| at.timestamp_millis() as f64 / 1000.0)
}
