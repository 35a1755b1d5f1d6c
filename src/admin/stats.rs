//! The statistics as one JSON object. Fields and their order are twemproxy's, so that what scrapes twemproxy today goes on
//! working.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::sources::Sources;
use super::status::Config;
use super::totals::{PoolTotals, ServerTotals};
use crate::health::{Report, Standing};
use crate::pool::SharedPool;
use crate::telemetry::{Event, Label, date_and_time};

/// The latest events that are shown.
const EVENTS: usize = 100;

/// Sums the cells of all workers on demand.
pub struct Stats(Arc<Sources>);

impl Stats {
    pub fn new(sources: Arc<Sources>) -> Self {
        Self(sources)
    }

    /// The whole object.
    pub fn report(&self) -> Value {
        let topology = self.0.topology.borrow().clone();
        let pools: Vec<PoolTotals> = topology.pools.iter().map(|pool| PoolTotals::of(pool)).collect();
        let servers = |pool: &Arc<SharedPool>| pool.servers.iter().map(|server| ServerTotals::of(server)).collect();
        let servers: Vec<Vec<ServerTotals>> = topology.pools.iter().map(servers).collect();
        let connections: u64 = servers.iter().flatten().map(|server| server.server_connections).sum();
        let connections_ever: u64 = servers.iter().flatten().map(|server| server.server_connections_total).sum();
        let clients: u64 = pools.iter().map(|pool| pool.client_connections).sum();
        let clients_ever: u64 = pools.iter().map(|pool| pool.client_connections_total).sum();
        let listeners = topology.pools.len() as u64;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut report = Map::new();
        report.insert("service".into(), json!("outrigger"));
        report.insert("source".into(), json!(self.0.source));
        report.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        report.insert("uptime".into(), json!(self.0.start.instant.elapsed().as_secs()));
        report.insert("timestamp".into(), json!(timestamp));
        report.insert("total_connections".into(), json!(clients_ever + connections_ever + listeners));
        report.insert("curr_connections".into(), json!(clients + connections + listeners));
        // Before the pools, so that one of the same name is shown all the same.
        report.insert("events".into(), self.0.events.last(EVENTS).iter().map(event).collect());
        report.insert("buffered_bytes".into(), json!(self.0.budget.total()));
        report.insert("buffered_bytes_limit".into(), json!(self.0.budget.limit()));
        report.insert("ready".into(), json!(self.0.ready.load(Relaxed)));
        report.insert("config".into(), config_report(&self.0.config.get()));
        for (pool, (totals, servers)) in topology.pools.iter().zip(pools.iter().zip(&servers)) {
            report.insert(pool.settings.name.clone(), self.pool(pool, totals, servers));
        }
        Value::Object(report)
    }

    fn pool(&self, pool: &SharedPool, totals: &PoolTotals, servers: &[ServerTotals]) -> Value {
        let mut report = Map::new();
        report.insert("client_eof".into(), json!(totals.client_eof));
        report.insert("client_err".into(), json!(totals.client_err));
        report.insert("client_connections".into(), json!(totals.client_connections));
        report.insert("server_ejects".into(), json!(pool.health.ejections()));
        report.insert("forward_error".into(), json!(totals.forward_error));
        report.insert("fragments".into(), json!(totals.fragments));
        report.insert("client_refused_overload".into(), json!(totals.client_refused_overload));
        report.insert("client_cut_overload".into(), json!(totals.client_cut_overload));
        report.insert("client_cut_slow".into(), json!(totals.client_cut_slow));
        report.insert("client_closed_idle".into(), json!(totals.client_closed_idle));
        for (index, (server, totals)) in pool.servers.iter().zip(servers).enumerate() {
            let mut of_server = server_report(totals);
            self.add_health(&mut of_server, &pool.health.report(index));
            report.insert(server.description.name.clone(), Value::Object(of_server));
        }
        Value::Object(report)
    }

    /// twemproxy's field where twemproxy has it, ours behind all of twemproxy's.
    fn add_health(&self, report: &mut Map<String, Value>, health: &Report) {
        let ejected_at = health.ejected_at.and_then(|at| self.0.wall(at).duration_since(UNIX_EPOCH).ok());
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

fn server_report(totals: &ServerTotals) -> Map<String, Value> {
    let mut report = Map::new();
    report.insert("server_eof".into(), json!(totals.server_eof));
    report.insert("server_err".into(), json!(totals.server_err));
    report.insert("server_timedout".into(), json!(totals.server_timedout));
    report.insert("server_connections".into(), json!(totals.server_connections));
    report.insert("server_ejected_at".into(), json!(0));
    report.insert("requests".into(), json!(totals.requests));
    report.insert("request_bytes".into(), json!(totals.request_bytes));
    report.insert("responses".into(), json!(totals.responses));
    report.insert("response_bytes".into(), json!(totals.response_bytes));
    report.insert("in_queue".into(), json!(totals.in_queue));
    report.insert("in_queue_bytes".into(), json!(totals.in_queue_bytes));
    report.insert("out_queue".into(), json!(totals.out_queue));
    report.insert("out_queue_bytes".into(), json!(totals.out_queue_bytes));
    report.insert("server_retries".into(), json!(totals.server_retries));
    report.insert("server_retries_denied".into(), json!(totals.server_retries_denied));
    report
}
