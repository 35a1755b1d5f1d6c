//! A pool as one worker uses it: key → hash tag → hash → ring → server → connection.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::backend::{Connection, Endpoint, Login, Server};
use crate::config::{PoolSettings, ServerAddress, Settings};
use crate::hash::tagged;
use crate::io::Pass;
use crate::ring::{Ring, RingServer};
use crate::telemetry::{PoolCells, WorkerCells};

/// One pool of one worker.
pub struct Pool {
    pub settings: Arc<PoolSettings>,
    ring: Ring,
    /// By server, in ring order; each with `server_connections` connections.
    connections: Vec<Vec<Rc<Connection>>>,
    cells: Arc<WorkerCells>,
    index: usize,
    /// State of the `random` distribution's generator; never 0.
    random: Cell<u32>,
}

impl Pool {
    /// Builds pool number `index` of the settings. `endpoints` are its servers' addresses, in ring order. The
    /// connections are returned by [`Pool::connections`] and must be driven by the caller.
    pub fn build(
        settings: &Settings,
        index: usize,
        endpoints: &[Endpoint],
        pass: &Rc<Pass>,
        cells: &Arc<WorkerCells>,
    ) -> Self {
        let pool = Arc::new(settings.pools[index].clone());
        let servers: Vec<_> = pool.servers.iter().map(|s| RingServer { name: &s.name, weight: s.weight }).collect();
        let ring = Ring::build(pool.distribution, &servers, |_| true);
        let connect = |(i, endpoint): (usize, &Endpoint)| {
            let server = Rc::new(describe(settings, &pool, i, endpoint.clone()));
            let one = |_| Connection::new(server.clone(), pass.clone(), cells.clone(), (index, i));
            (0..pool.server_connections.max(1)).map(one).collect()
        };
        let connections = endpoints.iter().enumerate().map(connect).collect();
        // Any seed does: twemproxy's own is the time of day.
        let random = Cell::new(std::process::id() | 1);
        Self { settings: pool, ring, connections, cells: cells.clone(), index, random }
    }

    /// The server (in ring order) that owns `key`; `None` when no server is live.
    pub fn route(&self, key: &[u8]) -> Option<usize> {
        if self.ring.needs_hash() {
            self.ring.server(self.settings.hash.hash(tagged(key, self.settings.hash_tag)))
        } else {
            self.ring.server(self.next_random())
        }
    }

    /// Whether the key decides which server it is. If not, any server will do.
    pub fn is_keyed(&self) -> bool {
        self.ring.needs_hash()
    }

    /// The connection to `server` for the session with this number: always the same one, so that the requests of one
    /// session to one server stay in order.
    pub fn connection(&self, server: usize, session: u64) -> &Rc<Connection> {
        let all = &self.connections[server];
        &all[session as usize % all.len()]
    }

    /// Servers of the pool.
    pub fn servers(&self) -> usize {
        self.connections.len()
    }

    /// Every connection of the pool.
    pub fn connections(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.connections.iter().flatten()
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
            database: if local { 0 } else { pool.redis_db },
        },
        connect_timeout: pool.connect_timeout,
        timeout: pool.timeout,
        limits: settings.limits.clone(),
        max_requests: settings.session_limits.max_connection_requests,
        max_bytes: settings.session_limits.max_connection_bytes,
    }
}
