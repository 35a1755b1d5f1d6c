//! The monitor: asks every server of the pools with `auto_eject_hosts` how it is, so that no client's request is spent on
//! finding out, and sees to what ejected and returning servers need.
//!
//! ```text
//!   a watch a server: ──probe──► PoolHealth::probed ──wants_flush?──flush──► PoolHealth::flushed ──┐
//!        ▲──── probe_interval ± 10 % ───────────────────────────────────────────────────────────┤
//!   a clock a pool:   ──PoolHealth::tick, when a share grows next ◄──────────────────────────────┘
//! ```

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::Probe;
use crate::health::Jitter;
use crate::pool::{PoolHealth, PoolId, ServerId, SharedPool, Topology};

/// Probes closer together than this would be a load.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Watches over the servers of all pools, as topologies come and go.
pub struct Monitor {
    topology: watch::Receiver<Arc<Topology>>,
    pools: HashMap<PoolId, Watched>,
    jitter: Jitter,
}

impl Monitor {
    pub fn new(topology: watch::Receiver<Arc<Topology>>) -> Self {
        let jitter = Jitter::new(RandomState::new().hash_one(std::process::id()));
        Self { topology, pools: HashMap::new(), jitter }
    }

    /// Watches until it is dropped.
    pub async fn run(mut self) {
        loop {
            let topology = self.topology.borrow_and_update().clone();
            self.adopt(&topology);
            if self.topology.changed().await.is_err() {
                // Nothing will change any more.
                std::future::pending::<()>().await;
            }
        }
    }

    fn adopt(&mut self, topology: &Topology) {
        self.pools.retain(|id, _| topology.pool(*id).is_some_and(|pool| pool.settings.health.eject));
        for pool in topology.pools.iter().filter(|pool| pool.settings.health.eject) {
            let before = self.pools.get(&pool.id);
            if before.is_some_and(|watched| Arc::ptr_eq(&watched.health, &pool.health)) {
                continue;
            }
            let watched = Watched::start(pool, before, &mut self.jitter);
            self.pools.insert(pool.id, watched);
        }
    }
}

/// When a server is probed next; goes from one watch to that which takes its place.
type Due = Arc<Mutex<Instant>>;

/// A pool whose servers are watched. Dropping it ends that.
struct Watched {
    health: Arc<PoolHealth>,
    due: HashMap<ServerId, Due>,
    _tasks: JoinSet<()>,
}

impl Watched {
    fn start(pool: &SharedPool, before: Option<&Self>, jitter: &mut Jitter) -> Self {
        let (news, health, mut due) = (Arc::new(Notify::new()), pool.health.clone(), HashMap::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(Clock { health: health.clone(), news: news.clone() }.run());
        let interval = health.settings().health.probe_interval.max(SHORTEST_INTERVAL);
        for (index, server) in pool.servers.iter().enumerate() {
            // Somewhere within the first interval: neither all servers nor all proxies at once. A reload puts nothing off.
            let first = Instant::now() + jitter.below(interval);
            let known = before.and_then(|watched| watched.due.get(&server.id));
            let known = known.map(|due| *due.lock().unwrap_or_else(PoisonError::into_inner));
            let next = Arc::new(Mutex::new(known.map_or(first, |known| known.min(first + interval))));
            due.insert(server.id, next.clone());
            let probe = Probe::new((*server.description).clone(), pool.settings.protocol)
                .with_databases(pool.settings.other_databases());
            let jitter = Jitter::new(jitter.number());
            tasks.spawn(Watch { probe, health: health.clone(), server: index, next, news: news.clone(), jitter }.run());
        }
        Self { health, due, _tasks: tasks }
    }
}

/// Watches over one server.
struct Watch {
    probe: Probe,
    health: Arc<PoolHealth>,
    server: usize,
    next: Due,
    /// Tells the pool's clock that there may be something to do.
    news: Arc<Notify>,
    jitter: Jitter,
}

impl Watch {
    async fn run(mut self) {
        let interval = self.health.settings().health.probe_interval.max(SHORTEST_INTERVAL);
        let mut next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
            sleep_until(next).await;
            // From start to start, so that slow answers do not make probes rare.
            next += self.jitter.around(interval);
            let well = self.look().await;
            let now = Instant::now();
            // One that takes traffic and has failed is looked at again soon: its clients are waiting.
            let soon = !well && self.health.report(self.server).standing.is_live();
            next = if soon { next.min(now + interval / 10) } else { next }.max(now);
        }
    }

    /// Probes once; whether the server is well.
    async fn look(&mut self) -> bool {
        let limit = self.health.settings().health.probe_timeout;
        let result = within(limit, self.probe.check()).await;
        let well = result.is_ok();
        if !well && self.probe.is_blameless() {
            return true;
        }
        self.health.probed(self.server, result.map_err(|why| format!("probe: {why}")));
        if self.health.wants_flush(self.server) {
            let result = within(limit * self.probe.databases(), self.probe.flush()).await;
            self.health.flushed(self.server, result.map_err(|why| format!("flush: {why}")));
        }
        self.news.notify_one();
        well
    }
}

async fn within(limit: Duration, answer: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let late = |_| Err(format!("no answer within {} ms", limit.as_millis()));
    timeout(limit, answer).await.unwrap_or_else(late)
}

/// Lets the shares of one pool's returning servers grow. What starts to return by an order is seen at
/// the next probe, which is news.
struct Clock {
    health: Arc<PoolHealth>,
    news: Arc<Notify>,
}

impl Clock {
    async fn run(self) {
        loop {
            let news = self.news.notified();
            match self.health.tick() {
                Some(next) => tokio::select! {
                    () = sleep_until(next.into()) => {}
                    () = news => {}
                },
                None => news.await,
            }
        }
    }
}
