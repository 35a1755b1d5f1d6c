//! `GET /topology`: every pool and server as they are now, with all that was counted. Counters only grow until a restart;
//! rates and quantiles are made of the difference between two answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Sources;
use crate::admin::process::ThreadTimes;
use crate::admin::totals::{FORWARDED, PoolTotals, ServerTotals, Sums};
use crate::config::{PoolSettings, Settings};
use crate::health::{Report, Standing};
use crate::listener::Entrance;
use crate::pool::SharedPool;
use crate::telemetry::{BOUNDS, Class, Ending, Label, Outcome, Times, Trouble, date_and_time};

/// Counts by the values of a label; every value is there, zeros too.
pub type Counted = BTreeMap<Cow<'static, str>, u64>;

/// Times by the class of the requests: in each list one count per bin, see `latency_bounds_us`.
pub type TimesByClass = BTreeMap<Cow<'static, str>, Vec<u64>>;

/// The whole proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyView {
    /// Always `outrigger`.
    pub service: String,
    pub version: String,
    /// The name of the machine.
    pub source: String,
    pub pid: u32,
    /// When the process started, in RFC 3339, as all times here.
    pub started: String,
    pub uptime_seconds: f64,
    /// Clients may be sent here.
    pub ready: bool,
    pub not_ready_reason: Option<String>,
    /// Data threads.
    pub workers: usize,
    pub config: ConfigView,
    /// What the process holds for clients and servers.
    pub buffered_bytes: u64,
    pub buffered_limit_bytes: u64,
    /// Upper bounds, not included, of the bins of every `latency` and `queue_latency`, in microseconds. Those have one bin
    /// more, the last, which has no bound.
    pub latency_bounds_us: Vec<u32>,
    /// Empty until they have started.
    pub worker_threads: Vec<WorkerView>,
    pub pools: Vec<PoolView>,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// 1 at the start, one more with every change.
    pub generation: u64,
    /// Of the content of the file; 16 hex digits.
    pub hash: String,
    /// When it came into force.
    pub since: String,
    pub age_seconds: u64,
    /// The last attempt to read it anew went well, or there was none.
    pub last_reload_successful: bool,
    /// Attempts that changed something.
    pub reloads: u64,
    pub failed_reloads: u64,
    /// Empty if the last attempt went well.
    pub last_error: String,
    /// Settings of the file that wait for a restart.
    pub needs_restart: Vec<String>,
}

/// One data thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerView {
    pub worker: usize,
    /// Null, as `wait_seconds`, if the kernel does not say.
    pub cpu_seconds: Option<f64>,
    /// How long it could have run and had no CPU.
    pub wait_seconds: Option<f64>,
    pub sessions: usize,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolView {
    pub name: String,
    /// `redis` or `memcached`.
    pub protocol: String,
    pub listen: String,
    pub distribution: String,
    pub hash: String,
    /// As in the configuration: `rehash`, `fail_fast`, `miss`, or the pool that stands in, `pool NAME`.
    pub on_ejected: String,
    pub auto_eject_hosts: bool,
    pub sessions: SessionsView,
    /// What became of the requests, by their class (read, write, other, proxy), then by result (ok, miss, error, failed,
    /// rejected).
    pub requests: BTreeMap<Cow<'static, str>, Counted>,
    /// What clients have sent, and were sent.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Requests that were cut into pieces, and the pieces.
    pub fragmented_requests: u64,
    pub fragments: u64,
    /// Requests that failed or were rejected, by reason.
    pub errors: Counted,
    /// From the arrival of a request until its reply is ready in its turn, by class; not of what Outrigger answers itself.
    pub latency: TimesByClass,
    pub servers: Vec<ServerView>,
}

/// The clients of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionsView {
    pub open: u64,
    /// Most at a time; null: no limit.
    pub limit: Option<u64>,
    pub opened: u64,
    /// Turned away at the limit.
    pub refused: u64,
    /// By reason.
    pub closed: Counted,
}

/// How much traffic a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All of its own.
    Live,
    /// A growing part of it.
    Returning,
    /// None.
    Ejected,
}

impl State {
    /// In the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Live, Self::Returning, Self::Ejected];

    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Returning => "returning",
            Self::Ejected => "ejected",
        }
    }
}

impl From<Standing> for State {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Live => Self::Live,
            Standing::Returning(_) => Self::Returning,
            Standing::Ejected => Self::Ejected,
        }
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerView {
    pub name: String,
    /// As it is configured: `host:port`, the path of a unix socket, or `local`.
    pub address: String,
    pub weight: u32,
    pub state: State,
    /// How much of its traffic it gets: 100 live, 0 ejected.
    pub traffic_percent: u8,
    /// Its part of all keys of the pool as it is now, from 0 to 1.
    pub ring_share: f64,
    /// In a row.
    pub failures: u32,
    /// Why it was last ejected; null: it never was, as `ejected_at`.
    pub reason: Option<String>,
    pub ejected_at: Option<String>,
    /// Since when it is in this state; null: since the start.
    pub since: Option<String>,
    /// Ejected: when it may return at the earliest. Returning: when it has all of its traffic.
    pub until: Option<String>,
    pub ejections: u64,
    pub probes: ProbesView,
    pub connections: ConnectionsView,
    /// Ever.
    pub connections_opened: u64,
    /// Attempts to connect that failed and connections that were lost, by reason.
    pub errors: Counted,
    pub requests: u64,
    pub responses: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Requests that are not written yet.
    pub queued: u64,
    pub queued_bytes: u64,
    /// Requests that are written and not answered yet.
    pub in_flight: u64,
    pub in_flight_bytes: u64,
    pub timeouts: u64,
    /// Requests that were sent a second time after a lost connection.
    pub retries: u64,
    /// Requests that were not, as the retry budget was used up.
    pub retries_denied: u64,
    /// From the write of a request to its reply.
    pub latency: Vec<u64>,
    /// From queueing to the write.
    pub queue_latency: Vec<u64>,
}

/// Probes of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbesView {
    pub ok: u64,
    pub failed: u64,
}

/// Connections to a server, of all workers, dedicated ones among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionsView {
    pub connected: u64,
    pub connecting: u64,
    /// For the next attempt.
    pub waiting: u64,
    /// Those that one client has to itself for a transaction, a request that blocks, or subscriptions.
    pub dedicated_in_use: u64,
    /// Those that are kept for the next one who needs one.
    pub dedicated_idle: u64,
}

/// The whole proxy as it is now.
pub fn topology(sources: &Sources) -> TopologyView {
    let topology = sources.topology.borrow().clone();
    let (settings, entrances) = (&topology.settings, sources.entrances.look());
    let not_ready_reason = sources.not_ready().map(str::to_owned);
    let pools = topology.pools.iter().zip(&settings.pools);
    let workers = sources.workers.get().into_iter().flatten().enumerate();
    TopologyView {
        service: "outrigger".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        source: sources.source.clone(),
        pid: std::process::id(),
        started: date_and_time(sources.start.wall),
        uptime_seconds: sources.start.instant.elapsed().as_secs_f64(),
        ready: not_ready_reason.is_none(),
        not_ready_reason,
        workers: topology.pools.first().map_or(0, |pool| pool.cells.len()),
        config: config(sources),
        buffered_bytes: sources.budget.total() as u64,
        buffered_limit_bytes: sources.budget.limit() as u64,
        latency_bounds_us: BOUNDS.to_vec(),
        worker_threads: workers
            .map(|(worker, vitals)| {
                let times = ThreadTimes::of(vitals.thread);
                let (cpu_seconds, wait_seconds) = (times.map(|t| t.cpu), times.map(|t| t.wait));
                WorkerView { worker, cpu_seconds, wait_seconds, sessions: vitals.sessions() }
            })
            .collect(),
        pools: pools.map(|(pool, own)| pool_view(sources, pool, own, settings, &entrances)).collect(),
    }
}

fn config(sources: &Sources) -> ConfigView {
    let config = sources.config.get();
    ConfigView {
        generation: config.generation,
        hash: config.hash,
        since: date_and_time(config.since),
        age_seconds: config.since.elapsed().unwrap_or_default().as_secs(),
        last_reload_successful: config.last_reload_successful,
        reloads: config.reloads,
        failed_reloads: config.failed_reloads,
        last_error: config.last_error,
        needs_restart: config.needs_restart,
    }
}

/// `own`: the pool's part of `settings`. The pool itself may have older ones, in which a stand-in has another number.
fn pool_view(
    sources: &Sources,
    pool: &SharedPool,
    own: &PoolSettings,
    settings: &Settings,
    entrances: &[Entrance],
) -> PoolView {
    let totals = PoolTotals::of(pool);
    let routing = pool.health.routing().load();
    let shares = routing.shares();
    let requests = Class::ALL.iter().zip(&totals.requests);
    let latency = FORWARDED.iter().zip(&totals.latency);
    PoolView {
        name: own.name.clone(),
        protocol: own.protocol.name().to_owned(),
        listen: own.listen.to_string(),
        distribution: own.distribution.name().to_owned(),
        hash: own.hash.name().to_owned(),
        on_ejected: own.health.on_ejected.text(&settings.pools),
        auto_eject_hosts: own.health.eject,
        sessions: SessionsView {
            open: totals.client_connections,
            limit: own.client_connections.map(|limit| limit as u64),
            opened: totals.client_connections_total,
            refused: entrances
                .iter()
                .filter(|entrance| entrance.pool == pool.id)
                .map(|entrance| entrance.refused)
                .sum(),
            closed: counted::<Ending, _>(&totals.endings),
        },
        requests: requests.map(|(class, sums)| (class.name().into(), counted::<Outcome, _>(sums))).collect(),
        request_bytes: totals.request_bytes,
        response_bytes: totals.response_bytes,
        fragmented_requests: totals.fragmented,
        fragments: totals.fragments,
        errors: counted::<Trouble, _>(&totals.troubles),
        latency: latency.map(|(class, times)| (class.name().into(), times.bins.to_vec())).collect(),
        servers: (0..pool.servers.len()).map(|place| server_view(sources, pool, place, shares[place])).collect(),
    }
}

fn server_view(sources: &Sources, pool: &SharedPool, place: usize, ring_share: f64) -> ServerView {
    let (server, own) = (&pool.servers[place], &pool.settings.servers[place]);
    let totals = ServerTotals::of(server);
    let (ok, failed) = pool.health.probes(place);
    let Report { standing, failures, ejected_at, why, since, until, by_order: _, wanted: _, ejections } =
        pool.health.report(place);
    let time = |at: Option<Instant>| at.map(|at| date_and_time(sources.wall(at)));
    let bins = |times: &Times| times.bins.to_vec();
    ServerView {
        name: own.name.clone(),
        address: own.address.to_string(),
        weight: own.weight,
        state: standing.into(),
        traffic_percent: traffic(standing),
        ring_share,
        failures,
        reason: ejected_at.map(|_| why),
        ejected_at: time(ejected_at),
        since: time(since),
        until: time(until),
        ejections,
        probes: ProbesView { ok, failed },
        connections: ConnectionsView {
            connected: totals.server_connections,
            connecting: totals.connecting,
            waiting: totals.waiting,
            dedicated_in_use: totals.dedicated_in_use,
            dedicated_idle: totals.dedicated_idle,
        },
        connections_opened: totals.server_connections_total,
        errors: counted::<Trouble, _>(&totals.connection_errors),
        requests: totals.requests,
        responses: totals.responses,
        request_bytes: totals.request_bytes,
        response_bytes: totals.response_bytes,
        queued: totals.in_queue,
        queued_bytes: totals.in_queue_bytes,
        in_flight: totals.out_queue,
        in_flight_bytes: totals.out_queue_bytes,
        timeouts: totals.server_timedout,
        retries: totals.server_retries,
        retries_denied: totals.server_retries_denied,
        latency: bins(&totals.latency),
        queue_latency: bins(&totals.queue_latency),
    }
}

/// How much of its traffic a server gets, in hundredths.
pub(in crate::admin) fn traffic(standing: Standing) -> u8 {
    match standing {
        Standing::Live => 100,
        Standing::Returning(share) => share,
        Standing::Ejected => 0,
    }
}

fn counted<L: Label, const N: usize>(sums: &Sums<N>) -> Counted {
    L::ALL.iter().zip(sums.iter()).map(|(label, count)| (label.name().into(), count)).collect()
}
