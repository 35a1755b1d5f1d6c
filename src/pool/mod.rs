//! A pool as one worker uses it: key → hash tag → hash → ring → server → connection.
//!
//! Servers are known by their *place*: those of the pool by their index in ring order, those of the pool that stands in
//! for ejected ones behind them.

mod health;
mod routing;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::backend::{Connection, Endpoint, Login, Server};
use crate::config::{OnEjected, OnReadmit, PoolSettings, ServerAddress, Settings};
use crate::hash::tagged;
use crate::health::RetryBudget;
use crate::io::Pass;
use crate::ring::Distribution;
use crate::telemetry::{PoolCells, WorkerCells};

pub use health::PoolHealth;
pub use routing::{Routing, Way};

/// One pool of one worker.
pub struct Pool {
    pub settings: Arc<PoolSettings>,
    health: Arc<PoolHealth>,
    /// The map that this worker goes by, see [`Pool::adopt`].
    routing: RefCell<Arc<Routing>>,
    /// By server, in ring order; each with `server_connections` connections.
    connections: Vec<Vec<Rc<Connection>>>,
    /// Takes the keys of ejected servers.
    stand_in: Option<Rc<Pool>>,
    budget: Rc<RetryBudget>,
    cells: Arc<WorkerCells>,
    index: usize,
    /// State of the `random` distribution's generator; never 0.
    random: Cell<u32>,
}

/// Why a key has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// The server at this place is ejected, and no other takes its keys.
    Ejected(usize),
    /// The same, and reads are to find nothing.
    Missing(usize),
    /// No server is left.
    NoServer,
    /// No server of the pool that stands in is left.
    NoStandIn,
}

impl Away {
    /// What the pool that stands in says, as it is for a pool of `servers` servers.
    fn of_stand_in(self, servers: usize) -> Self {
        match self {
            Self::Ejected(place) => Self::Ejected(servers + place),
            Self::Missing(place) => Self::Missing(servers + place),
            Self::NoServer | Self::NoStandIn => Self::NoStandIn,
        }
    }

    /// Reads are to find nothing.
    pub fn is_miss(self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// What the pools of a worker are built from.
pub struct Parts<'a> {
    pub settings: &'a Settings,
    /// By pool, then by server in ring order.
    pub endpoints: &'a [Vec<Endpoint>],
    /// By pool.
    pub health: &'a [Arc<PoolHealth>],
    pub pass: &'a Rc<Pass>,
    pub cells: &'a Arc<WorkerCells>,
}

impl Pool {
    /// Builds all pools. Their connections are returned by [`Pool::connections`] and must be driven by the caller.
    pub fn build_all(parts: &Parts<'_>) -> Vec<Rc<Self>> {
        let mut pools: Vec<Option<Rc<Self>>> = vec![None; parts.settings.pools.len()];
        // Those that stand in for others have no stand-in themselves.
        let (with, without): (Vec<usize>, Vec<usize>) =
            (0..pools.len()).partition(|index| parts.settings.pools[*index].stand_in().is_some());
        for index in without.into_iter().chain(with) {
            let stand_in = parts.settings.pools[index].stand_in().and_then(|other| pools[other].clone());
            pools[index] = Some(Rc::new(Self::build(parts, index, stand_in)));
        }
        pools.into_iter().flatten().collect()
    }

    fn build(parts: &Parts<'_>, index: usize, stand_in: Option<Rc<Self>>) -> Self {
        let Parts { settings, pass, cells, .. } = parts;
        let health = parts.health[index].clone();
        let pool = health.settings().clone();
        let budget = Rc::new(RetryBudget::new(pool.retry_budget_percent));
        let connect = |(i, endpoint): (usize, &Endpoint)| {
            let server = Rc::new(describe(settings, &pool, i, endpoint.clone()));
            let seen = Rc::new(health::Seen { health: health.clone(), server: i, budget: budget.clone() });
            let one = |_| Connection::new(server.clone(), seen.clone(), (*pass).clone(), (*cells).clone(), (index, i));
            (0..pool.server_connections.max(1)).map(one).collect()
        };
        Self {
            connections: parts.endpoints[index].iter().enumerate().map(connect).collect(),
            routing: RefCell::new(health.routing().load_full()),
            settings: pool,
            health,
            stand_in,
            budget,
            cells: (*cells).clone(),
            index,
            // Any seed does: twemproxy's own is the time of day.
            random: Cell::new(std::process::id() | 1),
        }
    }

    /// Goes by the map that was published last. What waits for servers that it has ejected is handed back before any other
    /// request is routed by it, so that of one client's requests for one key none overtakes another.
    ///
    /// Comes back to the sessions that asked: not to be called by one that is looking at its input.
    pub fn adopt(&self) {
        if let Some(pool) = &self.stand_in {
            pool.adopt();
        }
        let latest = self.health.routing().load_full();
        let before = self.routing.replace(latest.clone());
        if Arc::ptr_eq(&before, &latest) {
            return;
        }
        let ejected = (0..self.servers()).filter(|server| !latest.standing(*server).is_live());
        ejected.flat_map(|server| &self.connections[server]).for_each(|connection| connection.abandon());
    }

    /// The place of the server that owns `key` now.
    pub fn route(&self, key: &[u8]) -> Result<usize, Away> {
        self.budget.deposit();
        let routing = self.routing.borrow();
        let point = if routing.ring().needs_hash() || (!routing.is_calm() && self.is_keyed()) {
            self.settings.hash.hash(tagged(key, self.settings.hash_tag))
        } else {
            self.next_random()
        };
        match (routing.way(point), &self.stand_in) {
            (Way::Server(server), _) => Ok(server),
            (Way::Nowhere, _) => Err(Away::NoServer),
            (Way::StandIn(_), Some(pool)) => {
                let home = pool.route(key);
                home.map(|place| self.servers() + place).map_err(|away| away.of_stand_in(self.servers()))
            }
            (Way::Ejected(server) | Way::StandIn(server), _) => Err(self.ejected(server)),
        }
    }

    fn ejected(&self, server: usize) -> Away {
        match self.settings.health.on_ejected {
            OnEjected::Miss => Away::Missing(server),
            _ => Away::Ejected(server),
        }
    }

    /// Why the server at `place` is to be asked nothing at all; `None`: it takes traffic.
    pub fn away(&self, place: usize) -> Option<Away> {
        match (place.checked_sub(self.servers()), &self.stand_in) {
            (Some(place), Some(pool)) => pool.away(place).map(|away| away.of_stand_in(self.servers())),
            _ => (!self.routing.borrow().standing(place).is_live()).then(|| self.ejected(place)),
        }
    }

    /// Why a key has no place, in words for the client.
    pub fn why_away(&self, away: Away) -> String {
        let name = &self.settings.name;
        match (away, &self.stand_in) {
            (Away::NoStandIn, Some(pool)) => pool.why_away(Away::NoServer),
            (Away::NoServer | Away::NoStandIn, _) => format!("no live server in pool {name}"),
            (Away::Ejected(place) | Away::Missing(place), stand_in) => {
                match (place.checked_sub(self.servers()), stand_in) {
                    (Some(place), Some(pool)) => pool.why_away(Away::Ejected(place)),
                    _ => {
                        let routing = self.routing.borrow();
                        format!("{} (pool {name}, server {})", routing.why(place), self.name_of(place))
                    }
                }
            }
        }
    }

    /// Whether the server at `place`, should it be ejected, is emptied before it returns.
    pub fn is_flushed_on_return(&self, place: usize) -> bool {
        match (place.checked_sub(self.servers()), &self.stand_in) {
            (Some(place), Some(pool)) => pool.is_flushed_on_return(place),
            _ => self.settings.health.on_readmit == OnReadmit::Flush,
        }
    }

    /// Whether the server at `place` belongs to the pool that stands in.
    pub fn is_stand_in(&self, place: usize) -> bool {
        place >= self.servers()
    }

    /// Whether the key decides which server it is. If not, any server will do.
    pub fn is_keyed(&self) -> bool {
        self.settings.distribution != Distribution::Random
    }

    /// The connection to the server at `place` for the session with this number: always the same one, so that the requests
    /// of one session to one server stay in order.
    pub fn connection(&self, place: usize, session: u64) -> &Rc<Connection> {
        match (self.connections.get(place), &self.stand_in) {
            (None, Some(pool)) => pool.connection(place - self.servers(), session),
            _ => {
                let all = &self.connections[place];
                &all[session as usize % all.len()]
            }
        }
    }

    /// The name of the server at `place`.
    pub fn name_of(&self, place: usize) -> &str {
        match (self.settings.servers.get(place), &self.stand_in) {
            (Some(server), _) => &server.name,
            (None, Some(pool)) => pool.name_of(place - self.servers()),
            (None, None) => "none",
        }
    }

    /// Servers of the pool itself.
    pub fn servers(&self) -> usize {
        self.connections.len()
    }

    /// Servers that keys may be at: the pool's, and those of its stand-in.
    pub fn places(&self) -> usize {
        self.servers() + self.stand_in.as_ref().map_or(0, |pool| pool.servers())
    }

    /// The health of the pool's servers.
    pub fn health(&self) -> &Arc<PoolHealth> {
        &self.health
    }

    /// Every connection of the pool.
    pub fn connections(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.connections.iter().flatten()
    }

    /// Its number in the settings.
    pub fn index(&self) -> usize {
        self.index
    }

    pub fn cells(&self) -> &PoolCells {
        &self.cells.pools[self.index]
    }

    /// Marsaglia's xorshift: a number for the `random` distribution.
    fn next_random(&self) -> u32 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random.set(x);
        x
    }
}

/// A server as its connections, and its probe, see it.
pub fn describe(settings: &Settings, pool: &PoolSettings, server: usize, endpoint: Endpoint) -> Server {
    let local = pool.servers[server].address == ServerAddress::Local;
    let auth = pool.redis_auth.as_ref().filter(|_| !local);
    Server {
        pool: pool.name.clone(),
        name: pool.servers[server].name.clone(),
        endpoint,
        login: Login {
            username: auth.and_then(|a| a.username.clone()),
            password: auth.map(|a| a.password.0.clone()),
            database: if local { 0 } else { pool.redis_db },
        },
        connect_timeout: pool.connect_timeout,
        timeout: pool.timeout,
        slow_timeout: pool.slow_timeout,
        max_reconnect_delay: pool.max_reconnect_delay,
        failure_replies: pool.health.failure_replies.clone(),
        limits: settings.limits.clone(),
        max_requests: settings.session_limits.max_connection_requests,
        max_bytes: settings.session_limits.max_connection_bytes,
    }
}
