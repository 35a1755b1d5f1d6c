//! Everything that one answer is made of, read once.

use std::sync::Arc;

use crate::admin::process::{ProcessNumbers, ThreadTimes};
use crate::admin::totals::{PoolTotals, ServerTotals};
use crate::admin::{Config, Sources, State};
use crate::health::Report;
use crate::listener::Entrance;
use crate::pool::{SharedPool, SharedServer};

/// The process.
pub(super) struct Scene<'a> {
    pub sources: &'a Sources,
    pub config: Config,
    pub process: ProcessNumbers,
    pub worker_count: u64,
    /// Empty until they have started.
    pub workers: Vec<WorkerScene>,
    pub pools: Vec<PoolScene>,
}

/// A data thread.
pub(super) struct WorkerScene {
    pub number: String,
    pub times: Option<ThreadTimes>,
    pub sessions: u64,
}

/// A pool.
pub(super) struct PoolScene {
    /// Requests are counted by command, and timed.
    pub measured: bool,
    pub pool: Arc<SharedPool>,
    pub totals: PoolTotals,
    pub entrance: Option<Entrance>,
    pub servers: Vec<ServerScene>,
}

/// A server.
pub(super) struct ServerScene {
    /// Requests are timed.
    pub measured: bool,
    pub name: String,
    pub address: String,
    pub totals: ServerTotals,
    pub health: Report,
    /// Probes that went well, and that did not.
    pub probes: (u64, u64),
    pub ring_share: f64,
}

impl<'a> Scene<'a> {
    pub fn look(sources: &'a Sources) -> Self {
        let topology = sources.topology.borrow().clone();
        let (entrances, measured) = (sources.entrances.look(), topology.settings.observe.metrics);
        let worker = |(number, vitals): (usize, &crate::worker::Vitals)| WorkerScene {
            number: number.to_string(),
            times: ThreadTimes::of(vitals.thread),
            sessions: vitals.sessions() as u64,
        };
        Self {
            sources,
            config: sources.config.get(),
            process: ProcessNumbers::read(),
            worker_count: topology.pools.first().map_or(0, |pool| pool.cells.len() as u64),
            workers: sources.workers.get().into_iter().flatten().enumerate().map(worker).collect(),
            pools: topology.pools.iter().map(|pool| PoolScene::look(pool, &entrances, measured)).collect(),
        }
    }
}

impl PoolScene {
    fn look(pool: &Arc<SharedPool>, entrances: &[Entrance], measured: bool) -> Self {
        let routing = pool.health.routing().load();
        let server = |(place, server): (usize, &Arc<SharedServer>)| {
            let own = &pool.settings.servers[place];
            ServerScene {
                measured,
                name: own.name.clone(),
                address: own.address.to_string(),
                totals: ServerTotals::of(server),
                health: pool.health.report(place),
                probes: pool.health.probes(place),
                ring_share: routing.shares()[place],
            }
        };
        Self {
            measured,
            pool: pool.clone(),
            totals: PoolTotals::of(pool),
            entrance: entrances.iter().find(|entrance| entrance.pool == pool.id).copied(),
            servers: pool.servers.iter().enumerate().map(server).collect(),
        }
    }

    /// How many of its servers are in this state.
    pub fn servers_in(&self, state: State) -> u64 {
        self.servers.iter().filter(|server| State::from(server.health.standing) == state).count() as u64
    }
}
