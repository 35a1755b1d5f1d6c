//! The monitor: asks every server of the pools with `auto_eject_hosts` how it is, so that no client's request is spent on
//! finding out, and sees to what ejected and returning servers need.
//!
//! ```text
//!   a watch a server: ──probe──► PoolHealth::probed ──wants_flush?──flush──► PoolHealth::flushed ──┐
//!        ▲──── probe_interval ± 10 % ───────────────────────────────────────────────────────────┤
//!   a clock a pool:   ──PoolHealth::tick, when a share grows next ◄──────────────────────────────┘
//! ```

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::{Endpoint, Probe};
use crate::config::Settings;
use crate::health::Jitter;
use crate::pool::{PoolHealth, describe};

/// Probes closer together than this would be a load.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Watches over the servers of all pools.
pub struct Monitor {
    watches: Vec<Watch>,
    clocks: Vec<Clock>,
}

impl Monitor {
    /// `endpoints` and `health` are by pool, endpoints then by server in ring order.
    pub fn new(settings: &Settings, endpoints: &[Vec<Endpoint>], health: &[Arc<PoolHealth>]) -> Self {
        let mut jitter = Jitter::new(RandomState::new().hash_one(std::process::id()));
        let (mut watches, mut clocks) = (Vec::new(), Vec::new());
        for (endpoints, health) in endpoints.iter().zip(health).filter(|(_, h)| h.settings().health.eject) {
            let news = Arc::new(Notify::new());
            clocks.push(Clock { health: health.clone(), news: news.clone() });
            for (server, endpoint) in endpoints.iter().enumerate() {
                let pool = health.settings();
                let probe = Probe::new(describe(settings, pool, server, endpoint.clone()), pool.protocol);
                let jitter = Jitter::new(jitter.number());
                watches.push(Watch { probe, health: health.clone(), server, news: news.clone(), jitter });
            }
        }
        Self { watches, clocks }
    }

    /// Whether there is anything to watch over.
    pub fn has_work(&self) -> bool {
        !self.watches.is_empty()
    }

    /// Watches until it is dropped.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        self.watches.into_iter().for_each(|watch| drop(tasks.spawn(watch.run())));
        self.clocks.into_iter().for_each(|clock| drop(tasks.spawn(clock.run())));
        // None of them ends; one that does has panicked, and the others go on.
        while tasks.join_next().await.is_some() {}
    }
}

/// Watches over one server.
struct Watch {
    probe: Probe,
    health: Arc<PoolHealth>,
    server: usize,
    /// Tells the pool's clock that there may be something to do.
    news: Arc<Notify>,
    jitter: Jitter,
}

impl Watch {
    async fn run(mut self) {
        let interval = self.health.settings().health.probe_interval.max(SHORTEST_INTERVAL);
        // Somewhere within the first interval: neither all servers nor all proxies at once.
        let mut next = Instant::now() + self.jitter.below(interval);
        loop {
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
            let result = within(limit, self.probe.flush()).await;
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

/// Lets the shares of one pool's returning servers grow. None starts to return but at a probe, which is news.
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
