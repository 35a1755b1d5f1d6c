//! The statistics as one JSON object. Fields and their order are twemproxy's, so that what scrapes twemproxy today goes on
//! working.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::status::{Config, ConfigStatus};
use crate::health::{Report, Standing};
use crate::io::Budget;
use crate::pool::{SharedPool, Topology};
use crate::telemetry::{Counter, Event, Events, Gauge, PoolCells, ServerCells, date_and_time};

/// The latest events that are shown.
const EVENTS: usize = 100;

/// Sums the cells of all workers on demand.
pub struct Stats {
    topology: watch::Receiver<Arc<Topology>>,
    config: Arc<ConfigStatus>,
    /// Clients may be sent here.
    ready: Arc<AtomicBool>,
    events: Arc<Events>,
    budget: Arc<Budget>,
    started: Instant,
    /// The same moment by the clock on the wall. What is reported of the other clock is counted from here, so that it
    /// stays the same from report to report.
    started_at: SystemTime,
    source: String,
}

impl Stats {
    pub fn new(
        topology: watch::Receiver<Arc<Topology>>,
        config: Arc<ConfigStatus>,
        ready: Arc<AtomicBool>,
        events: Arc<Events>,
        budget: Arc<Budget>,
    ) -> Self {
        let source = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (started, started_at) = (Instant::now(), SystemTime::now());
        Self { topology, config, ready, events, budget, started, started_at, source }
    }

    /// The whole object.
    pub fn report(&self) -> Value {
        let topology = self.topology.borrow().clone();
        let pools = || topology.pools.iter().flat_map(|pool| &pool.cells);
        let of_servers = || topology.pools.iter().flat_map(|pool| &pool.servers).flat_map(|server| &server.cells);
        let clients = sum(pools(), |p| p.client_connections.get());
        let clients_ever = sum(pools(), |p| p.client_connections_total.get());
        let servers = sum(of_servers(), |s| s.server_connections.get());
        let servers_ever = sum(of_servers(), |s| s.server_connections_total.get());
        let listeners = topology.pools.len() as u64;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut report = Map::new();
        report.insert("service".into(), json!("outrigger"));
        report.insert("source".into(), json!(self.source));
        report.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        report.insert("uptime".into(), json!(self.started.elapsed().as_secs()));
        report.insert("timestamp".into(), json!(timestamp));
        report.insert("total_connections".into(), json!(clients_ever + servers_ever + listeners));
        report.insert("curr_connections".into(), json!(clients + servers + listeners));
        // Before the pools, so that one of the same name is shown all the same.
        report.insert("events".into(), self.events.last(EVENTS).iter().map(event).collect());
        report.insert("buffered_bytes".into(), json!(self.budget.total()));
        report.insert("buffered_bytes_limit".into(), json!(self.budget.limit()));
        report.insert("ready".into(), json!(self.ready.load(Relaxed)));
        report.insert("config".into(), config_report(&self.config.get()));
        for pool in &topology.pools {
            report.insert(pool.settings.name.clone(), self.pool(pool));
        }
        Value::Object(report)
    }

    fn pool(&self, pool: &SharedPool) -> Value {
        let pools = &pool.cells;
        let counter = |f: fn(&PoolCells) -> &Counter| json!(pools.iter().map(|p| f(p).get()).sum::<u64>());
        let gauge = |f: fn(&PoolCells) -> &Gauge| json!(pools.iter().fold(0, |n: u64, p| n.wrapping_add(f(p).get())));
        let mut report = Map::new();
        report.insert("client_eof".into(), counter(|p| &p.client_eof));
        report.insert("client_err".into(), counter(|p| &p.client_err));
        report.insert("client_connections".into(), gauge(|p| &p.client_connections));
        report.insert("server_ejects".into(), json!(pool.health.ejections()));
        report.insert("forward_error".into(), counter(|p| &p.forward_error));
        report.insert("fragments".into(), counter(|p| &p.fragments));
        report.insert("client_refused_overload".into(), counter(|p| &p.client_refused_overload));
        report.insert("client_cut_overload".into(), counter(|p| &p.client_cut_overload));
        report.insert("client_cut_slow".into(), counter(|p| &p.client_cut_slow));
        report.insert("client_closed_idle".into(), counter(|p| &p.client_closed_idle));
        for (index, server) in pool.servers.iter().enumerate() {
            let mut of_server = server_report(&server.cells);
            self.add_health(&mut of_server, &pool.health.report(index));
            report.insert(server.description.name.clone(), Value::Object(of_server));
        }
        Value::Object(report)
    }

    /// twemproxy's field where twemproxy has it, ours behind all of twemproxy's.
    fn add_health(&self, report: &mut Map<String, Value>, health: &Report) {
        let since_start = health.ejected_at.map(|at| at.saturating_duration_since(self.started));
        let ejected_at = since_start.and_then(|age| (self.started_at + age).duration_since(UNIX_EPOCH).ok());
        report.insert("server_ejected_at".into(), json!(ejected_at.map_or(0, |at| at.as_micros() as u64)));
        let state = match health.standing {
            Standing::Live => "live".to_owned(),
            Standing::Returning(share) => format!("returning {share}%"),
            Standing::Ejected => "ejected".to_owned(),
        };
        report.insert("server_state".into(), json!(state));
        report.insert("server_failures".into(), json!(health.failures));
    }
}

fn sum<'a, T: 'a>(cells: impl Iterator<Item = &'a Arc<T>>, f: impl Fn(&T) -> u64) -> u64 {
    cells.fold(0, |sum, cells| sum.wrapping_add(f(cells)))
}

fn config_report(config: &Config) -> Value {
    let age = config.since.elapsed().unwrap_or_default();
    json!({
        "generation": config.generation,
        "hash": config.hash,
        "since": date_and_time(config.since),
        "age": age.as_secs(),
        "last_reload_successful": config.last_reload_successful,
        "reloads": config.reloads,
        "failed_reloads": config.failed_reloads,
        "last_error": config.last_error,
        "needs_restart": config.needs_restart,
    })
}

fn event(event: &Event) -> Value {
    let time = |at: Option<SystemTime>| json!(at.map(date_and_time));
    json!({
        "at": time(Some(event.at)),
        "pool": event.pool,
        "server": event.server,
        "what": event.what.name(),
        "why": event.why,
        "since": time(event.since),
        "until": time(event.until),
    })
}

fn server_report(cells: &[Arc<ServerCells>]) -> Map<String, Value> {
    let counter = |f: fn(&ServerCells) -> &Counter| json!(cells.iter().map(|s| f(s).get()).sum::<u64>());
    let gauge = |f: fn(&ServerCells) -> &Gauge| json!(cells.iter().fold(0, |n: u64, s| n.wrapping_add(f(s).get())));
    let mut report = Map::new();
    report.insert("server_eof".into(), counter(|s| &s.server_eof));
    report.insert("server_err".into(), counter(|s| &s.server_err));
    report.insert("server_timedout".into(), counter(|s| &s.server_timedout));
    report.insert("server_connections".into(), gauge(|s| &s.server_connections));
    report.insert("server_ejected_at".into(), json!(0));
    report.insert("requests".into(), counter(|s| &s.requests));
    report.insert("request_bytes".into(), counter(|s| &s.request_bytes));
    report.insert("responses".into(), counter(|s| &s.responses));
    report.insert("response_bytes".into(), counter(|s| &s.response_bytes));
    report.insert("in_queue".into(), gauge(|s| &s.in_queue));
    report.insert("in_queue_bytes".into(), gauge(|s| &s.in_queue_bytes));
    report.insert("out_queue".into(), gauge(|s| &s.out_queue));
    report.insert("out_queue_bytes".into(), gauge(|s| &s.out_queue_bytes));
    report.insert("server_retries".into(), counter(|s| &s.server_retries));
    report.insert("server_retries_denied".into(), counter(|s| &s.server_retries_denied));
    report
}
