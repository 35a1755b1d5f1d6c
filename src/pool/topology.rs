//! What a start or a reload publishes: all that workers share about the pools. Immutable; of pools in which nothing changed
//! the next topology has the very same parts.
//!
//! ```text
//!   settings ──build──► Topology ─┬─► SharedPool ─┬─► SharedServer: description, cells
//!                                 │               └─► PoolHealth
//!                                 └─► ...                 each worker makes its own Pool of a SharedPool
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::health::Notify;
use super::succession::{match_pools, match_servers};
use super::{Learnt, PoolHealth, PoolId};
use crate::backend::{Endpoint, Facts, Login, Scripts, Server};
use crate::config::{PoolSettings, ServerAddress, SessionLimits, Settings};
use crate::discovery::Names;
use crate::local::{LocalHandle, LocalServer, LocalServers};
use crate::protocol::Limits;
use crate::protocol::redis::Version;
use crate::protocol::redis::acl;
use crate::telemetry::{Events, Fold, HotKeys, Observer, PoolCells, ServerCells};

/// All pools at one time.
pub struct Topology {
    /// 1 at the start, one more with every change.
    pub generation: u64,
    pub settings: Arc<Settings>,
    /// In the order of the settings.
    pub pools: Vec<Arc<SharedPool>>,
}

/// A pool as all workers share it.
pub struct SharedPool {
    pub id: PoolId,
    pub settings: Arc<PoolSettings>,
    /// Bounds of single messages.
    pub limits: Limits,
    pub session_limits: SessionLimits,
    pub health: Arc<PoolHealth>,
    /// In ring order.
    pub servers: Vec<Arc<SharedServer>>,
    /// Scripts that clients have sent.
    pub scripts: Arc<Scripts>,
    /// Commands that the table does not have.
    pub learnt: Arc<Learnt>,
    /// What users were denied.
    pub denials: Arc<acl::log::Log>,
    /// Takes the keys of ejected servers.
    pub stand_in: Option<Arc<SharedPool>>,
    /// By worker.
    pub cells: Vec<Arc<PoolCells>>,
    /// By worker.
    pub hot_keys: Vec<Arc<HotKeys>>,
    pub observer: Arc<Observer>,
    /// Clients cut for not reading.
    pub cut: Arc<Fold>,
    /// What its servers say that they are.
    pub facts: Arc<Facts>,
}

/// A server as all workers share it.
pub struct SharedServer {
    /// The same as long as its connections may be used on.
    pub id: ServerId,
    pub description: Arc<Server>,
    /// By worker.
    pub cells: Vec<Arc<ServerCells>>,
    /// Keeps an in-process server running.
    local: Option<(LocalServer, LocalHandle)>,
}

/// A server as its connections know it, whatever of its description changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId(pub u64);

/// What topologies are built on: one for the whole life of the process.
pub struct Ground {
    pub names: Names,
    pub local: LocalServers,
    pub events: Arc<Events>,
    pub observer: Arc<Observer>,
    /// Called when a server was ejected or came back.
    pub notify: Notify,
    /// Data threads.
    pub workers: usize,
    /// Pools and servers numbered so far.
    numbers: AtomicU64,
}

impl Ground {
    pub fn new(names: Names, local: LocalServers, events: Arc<Events>, notify: Notify, workers: usize) -> Self {
        Self { names, local, events, observer: Arc::default(), notify, workers, numbers: AtomicU64::new(0) }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    fn cells<T: Default>(&self) -> Vec<Arc<T>> {
        (0..self.workers).map(|_| Arc::default()).collect()
    }
}

impl Topology {
    /// That of the start. Its pools are numbered from 0 in the order of the settings.
    ///
    /// # Errors
    /// When an in-process server cannot be started.
    pub fn first(settings: Arc<Settings>, ground: &Ground) -> io::Result<Self> {
        let nothing = Self { generation: 0, settings: settings.clone(), pools: Vec::new() };
        nothing.next(settings, ground)
    }

    /// That of other settings. It changes nothing that is running; see [`Topology::take_over`].
    ///
    /// # Errors
    /// When an in-process server cannot be started.
    pub fn next(&self, settings: Arc<Settings>, ground: &Ground) -> io::Result<Self> {
        // The first one comes after nothing.
        let old = if self.pools.is_empty() { &[][..] } else { &self.settings.pools };
        let from = match_pools(old, &settings.pools);
        // In the order of the settings, the first from 0.
        let id = |from: &Option<usize>| from.map_or_else(|| PoolId(ground.number()), |from| self.pools[from].id);
        let ids: Vec<PoolId> = from.iter().map(id).collect();
        let mut pools: Vec<Option<Arc<SharedPool>>> = vec![None; settings.pools.len()];
        // Those that stand in for others have no stand-in themselves.
        let (with, without): (Vec<usize>, Vec<usize>) =
            (0..pools.len()).partition(|index| settings.pools[*index].stand_in().is_some());
        for group in [without, with] {
            let built = in_parallel(&group, |&index| {
                let stand_in = settings.pools[index].stand_in().and_then(|other| pools[other].clone());
                let before = from[index].map(|from| &self.pools[from]);
                SharedPool::build(&settings, (index, ids[index]), stand_in, before, ground)
            });
            for (index, pool) in group.into_iter().zip(built) {
                pools[index] = Some(pool?);
            }
        }
        Ok(Self { generation: self.generation + 1, settings, pools: pools.into_iter().flatten().collect() })
    }

    /// To be called right before it is published in place of `before`: takes over what is known of the servers that stay.
    pub fn take_over(&self, before: &Self) {
        for pool in &self.pools {
            pool.scripts.set_limit(pool.settings.script_memory);
            let Some(old) = before.pool(pool.id).filter(|old| !Arc::ptr_eq(&old.health, &pool.health)) else {
                continue;
            };
            let places = places_before(&pool.servers, Some(old));
            if places.contains(&None) || places.len() != old.servers.len() {
                pool.facts.forget();
            }
            pool.health.take_over(&old.health, &places);
        }
    }

    pub fn pool(&self, id: PoolId) -> Option<&Arc<SharedPool>> {
        self.pools.iter().find(|pool| pool.id == id)
    }
}

/// On as many threads as there are cores: building the rings of many pools takes long.
fn in_parallel<T: Sync, R: Send>(items: &[T], make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    /// For fewer a thread is not worth while.
    const WORTH: usize = 8;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    if items.len() < WORTH || threads == 1 {
        return items.iter().map(make).collect();
    }
    let make = &make;
    std::thread::scope(|scope| {
        let part = |part: &'_ [T]| part.iter().map(make).collect::<Vec<R>>();
        let parts = items.chunks(items.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|items| scope.spawn(move || part(items))).collect();
        // A panic there goes on here.
        let done = running.into_iter().map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        done.flatten().collect()
    })
}

impl SharedPool {
    fn build(
        settings: &Settings,
        (index, id): (usize, PoolId),
        stand_in: Option<Arc<Self>>,
        before: Option<&Arc<Self>>,
        ground: &Ground,
    ) -> io::Result<Arc<Self>> {
        let own = &settings.pools[index];
        if let Some(before) = before.filter(|before| before.is_for(settings, own, stand_in.as_ref())) {
            return Ok(before.clone());
        }
        let own = Arc::new(own.clone());
        let from = before.map_or_else(|| vec![None; own.servers.len()], |before| match_servers(&before.settings, &own));
        let mut servers = Vec::new();
        for (server, from) in from.into_iter().enumerate() {
            let before = before.zip(from).map(|(before, from)| &before.servers[from]);
            servers.push(SharedServer::build(settings, &own, server, before, ground)?);
        }
        let health = match before {
            Some(old) => PoolHealth::after(&old.health, own.clone(), &places_before(&servers, before)),
            None => PoolHealth::new(own.clone(), ground.events.clone(), ground.notify.clone()),
        };
        let scripts = before.map_or_else(|| Arc::new(Scripts::new(own.script_memory)), |before| before.scripts.clone());
        let same = before.filter(|old| has_same(&old.servers, &servers) && old.settings.commands == own.commands);
        let learnt = same.map_or_else(|| Learnt::new(&own.commands), |old| old.learnt.clone());
        Ok(Arc::new(Self {
            id,
            settings: own,
            limits: settings.limits.clone(),
            session_limits: settings.session_limits.clone(),
            health,
            scripts,
            learnt,
            denials: before.map(|before| before.denials.clone()).unwrap_or_default(),
            servers,
            stand_in,
            cells: before.map_or_else(|| ground.cells(), |before| before.cells.clone()),
            hot_keys: before.map_or_else(|| ground.cells(), |before| before.hot_keys.clone()),
            observer: ground.observer.clone(),
            cut: before.map(|before| before.cut.clone()).unwrap_or_default(),
            facts: before.map(|before| before.facts.clone()).unwrap_or_default(),
        }))
    }

    /// Nothing of it would change.
    fn is_for(&self, settings: &Settings, own: &PoolSettings, stand_in: Option<&Arc<Self>>) -> bool {
        let same_stand_in = match (&self.stand_in, stand_in) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        let mut old = PoolSettings::clone(&self.settings);
        if stand_in.is_some() {
            // A pool's index says nothing: that it is the same pool has been seen.
            old.health.on_ejected = own.health.on_ejected;
        }
        same_stand_in && old == *own && self.limits == settings.limits && self.session_limits == settings.session_limits
    }
}

/// Whether the same processes, as far as is known, answer: what was learnt of the ones holds for the others.
fn has_same(old: &[Arc<SharedServer>], new: &[Arc<SharedServer>]) -> bool {
    let same = |(old, new): (&Arc<SharedServer>, &Arc<SharedServer>)| {
        old.id == new.id && old.description.endpoint == new.description.endpoint
    };
    old.len() == new.len() && old.iter().zip(new).all(same)
}

/// For each server its place before, if it is the same process in the same place.
fn places_before(servers: &[Arc<SharedServer>], before: Option<&Arc<SharedPool>>) -> Vec<Option<usize>> {
    let is_same = |old: &SharedServer, new: &SharedServer| {
        old.id == new.id && old.description.endpoint == new.description.endpoint
    };
    let place = |new: &Arc<SharedServer>| before?.servers.iter().position(|old| is_same(old, new));
    servers.iter().map(place).collect()
}

impl SharedServer {
    fn build(
        settings: &Settings,
        pool: &PoolSettings,
        server: usize,
        before: Option<&Arc<Self>>,
        ground: &Ground,
    ) -> io::Result<Arc<Self>> {
        let own = &pool.servers[server];
        let (endpoint, local) = match &own.address {
            ServerAddress::Tcp { host, port } => (Endpoint::Tcp(ground.names.host(host, *port)), None),
            ServerAddress::Unix { path } => (Endpoint::Unix(path.clone()), None),
            ServerAddress::Local => {
                let wanted = LocalServer {
                    protocol: pool.protocol,
                    memory: pool.local_memory,
                    pool: pool.name.clone(),
                    server: own.name.clone(),
                };
                let like = |old: &LocalServer| old.protocol == wanted.protocol && old.memory == wanted.memory;
                let running = before.and_then(|before| before.local.clone()).filter(|(old, _)| like(old));
                let handle = running.map_or_else(|| ground.local.start(wanted.clone()), |(_, handle)| Ok(handle))?;
                (Endpoint::Unix(handle.address().to_owned()), Some((wanted, handle)))
            }
        };
        let description = describe(settings, pool, server, endpoint);
        match before {
            Some(before) if *before.description == description => Ok(before.clone()),
            _ => Ok(Arc::new(Self {
                id: before.map_or_else(|| ServerId(ground.number()), |before| before.id),
                description: Arc::new(description),
                cells: before.map_or_else(|| ground.cells(), |before| before.cells.clone()),
                local,
            })),
        }
    }
}

/// A server as its connections, and its probe, see it.
fn describe(settings: &Settings, pool: &PoolSettings, server: usize, endpoint: Endpoint) -> Server {
    let local = pool.servers[server].address == ServerAddress::Local;
    let auth = pool.redis_auth.as_ref().filter(|_| !local);
    Server {
        pool: pool.name.clone(),
        name: pool.servers[server].name.clone(),
        endpoint,
        login: Login {
            username: auth.and_then(|a| a.username.clone()),
            password: auth.map(|a| a.password.0.clone()),
            version: Version::Resp2,
            database: if local { 0 } else { pool.redis_db },
            chosen: false,
        },
        connect_timeout: pool.connect_timeout,
        timeout: pool.timeout,
        slow_timeout: pool.slow_timeout,
        slowlog_threshold: pool.slowlog_threshold,
        max_reconnect_delay: pool.max_reconnect_delay,
        failure_replies: pool.health.failure_replies.clone(),
        limits: settings.limits.clone(),
        max_requests: settings.session_limits.max_connection_requests,
        max_bytes: settings.session_limits.max_connection_bytes,
    }
}
