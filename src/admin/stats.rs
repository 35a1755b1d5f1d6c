//! twemproxy's statistics port: connect, read one JSON object and a newline, done. Nothing is read from the client.
//!
//! Fields and their order are twemproxy's, so that what scrapes twemproxy today goes on working.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::config::Settings;
use crate::health::{Report, Standing};
use crate::io::Budget;
use crate::pool::PoolHealth;
use crate::telemetry::{Counter, Event, Events, Gauge, PoolCells, ServerCells, WorkerCells, date_and_time};

/// Statistics clients served at a time; more wait in the listen queue.
const CLIENTS: usize = 16;
/// The latest events that are shown.
const EVENTS: usize = 100;
/// A client that has not taken its answer by then is cut.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sums the cells of all workers on demand.
pub struct Stats {
    settings: Arc<Settings>,
    workers: Vec<Arc<WorkerCells>>,
    /// By pool.
    health: Vec<Arc<PoolHealth>>,
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
        settings: Arc<Settings>,
        workers: Vec<Arc<WorkerCells>>,
        health: Vec<Arc<PoolHealth>>,
        events: Arc<Events>,
        budget: Arc<Budget>,
    ) -> Self {
        let source = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (started, started_at) = (Instant::now(), SystemTime::now());
        Self { settings, workers, health, events, budget, started, started_at, source }
    }

    /// The whole object.
    pub fn report(&self) -> Value {
        let clients = self.sum_pools(|p| p.client_connections.get());
        let clients_ever = self.sum_pools(|p| p.client_connections_total.get());
        let servers = self.sum_servers(|s| s.server_connections.get());
        let servers_ever = self.sum_servers(|s| s.server_connections_total.get());
        let listeners = self.settings.pools.len() as u64;
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
        for (index, pool) in self.settings.pools.iter().enumerate() {
            report.insert(pool.name.clone(), self.pool(index));
        }
        Value::Object(report)
    }

    fn pool(&self, index: usize) -> Value {
        let pools: Vec<&PoolCells> = self.workers.iter().map(|w| &w.pools[index]).collect();
        let counter = |f: fn(&PoolCells) -> &Counter| json!(pools.iter().map(|p| f(p).get()).sum::<u64>());
        let gauge = |f: fn(&PoolCells) -> &Gauge| json!(pools.iter().fold(0, |n: u64, p| n.wrapping_add(f(p).get())));
        let mut report = Map::new();
        report.insert("client_eof".into(), counter(|p| &p.client_eof));
        report.insert("client_err".into(), counter(|p| &p.client_err));
        report.insert("client_connections".into(), gauge(|p| &p.client_connections));
        report.insert("server_ejects".into(), json!(self.health[index].ejections()));
        report.insert("forward_error".into(), counter(|p| &p.forward_error));
        report.insert("fragments".into(), counter(|p| &p.fragments));
        report.insert("client_refused_overload".into(), counter(|p| &p.client_refused_overload));
        report.insert("client_cut_overload".into(), counter(|p| &p.client_cut_overload));
        report.insert("client_cut_slow".into(), counter(|p| &p.client_cut_slow));
        report.insert("client_closed_idle".into(), counter(|p| &p.client_closed_idle));
        for (server, settings) in self.settings.pools[index].servers.iter().enumerate() {
            let cells = pools.iter().map(|p| &p.servers[server]).collect();
            let mut of_server = server_report(cells);
            self.add_health(&mut of_server, &self.health[index].report(server));
            report.insert(settings.name.clone(), Value::Object(of_server));
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

    fn sum_pools(&self, f: impl Fn(&PoolCells) -> u64) -> u64 {
        self.workers.iter().flat_map(|w| &w.pools).map(f).sum()
    }

    fn sum_servers(&self, f: impl Fn(&ServerCells) -> u64) -> u64 {
        self.workers.iter().flat_map(|w| &w.pools).flat_map(|p| &p.servers).map(f).sum()
    }
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

fn server_report(cells: Vec<&ServerCells>) -> Map<String, Value> {
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

/// Answers everyone who connects. Never returns.
pub async fn serve(listener: TcpListener, stats: Arc<Stats>) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        // One client at a time is accepted while many are slow; accept errors (no descriptors left) wait likewise.
        let accepted = if clients.load(Relaxed) < CLIENTS { listener.accept().await.ok() } else { None };
        let Some((mut socket, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (stats, clients) = (stats.clone(), clients.clone());
        clients.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            let text = format!("{}\n", stats.report());
            let answer = async {
                socket.write_all(text.as_bytes()).await?;
                socket.shutdown().await
            };
            let _ = tokio::time::timeout(PATIENCE, answer).await;
            clients.fetch_sub(1, Relaxed);
        });
    }
}
