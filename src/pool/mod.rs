//! A pool as one worker uses it: key → hash tag → hash → ring → server → connection.
//!
//! Servers are known by their *place*: those of the pool by their index in ring order, those of the pool that stands in
//! for ejected ones behind them.

mod asking;
mod explain;
mod health;
mod learnt;
mod lot;
mod routing;
mod scripts;
mod succession;
mod topology;
mod variants;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::backend::{Connection, Dedicated, Tenant, Variant};
use crate::config::{OnEjected, OnReadmit, PoolSettings};
use crate::hash::tagged;
use crate::health::RetryBudget;
use crate::io::Pass;
use crate::protocol::redis::Version;
use crate::ring::Distribution;
use crate::telemetry::PoolCells;

use asking::Asking;
use lot::{Bounds, Terms};
use variants::Others;

pub use explain::Explanation;
pub use health::{Notify, PoolHealth};
pub use learnt::{Answer, Learnt, Name, Outlook};
pub use lot::{Lot, Refusal};
pub use routing::{Routing, Way};
pub use succession::{PoolMark, match_marks, match_pools, match_servers};
pub use topology::{Ground, ServerId, SharedPool, SharedServer, Topology};

/// A pool as clients know it: the same number as long as they may stay, whatever changes behind it; never used again in
/// this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u64);

/// One pool of one worker.
pub struct Pool {
    pub settings: Arc<PoolSettings>,
    health: Arc<PoolHealth>,
    /// The map that this worker goes by, see [`Pool::adopt`].
    routing: RefCell<Arc<Routing>>,
    /// By server, in ring order; each with `server_connections` connections.
    connections: Vec<Vec<Rc<Connection>>>,
    /// By server: its dedicated connections.
    lots: Vec<Rc<Lot>>,
    /// What these are set up as.
    usual: Variant,
    /// By server: those that are set up otherwise.
    others: Vec<Others>,
    /// Those of them that were made when another pool had taken this one's place.
    late: RefCell<Vec<Rc<Connection>>>,
    succeeded: Cell<bool>,
    asking: Rc<Asking>,
    worker: usize,
    pass: Rc<Pass>,
    /// Takes the keys of ejected servers.
    stand_in: Option<Rc<Pool>>,
    /// The place of `keyless_server`.
    keyless: Option<usize>,
    recent_scripts: scripts::Recent,
    budget: Rc<RetryBudget>,
    cells: Arc<PoolCells>,
    shared: Arc<SharedPool>,
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

/// What a worker builds its pools with.
pub struct Tools<'a> {
    /// The worker's number.
    pub worker: usize,
    pub pass: &'a Rc<Pass>,
}

/// Connections whose life begins or ends with a pool.
#[derive(Default)]
pub struct Moved {
    /// Their tasks must be spawned.
    pub new: Vec<Rc<Connection>>,
    /// Nothing is sent on them any more. They must be looked after until they are over.
    pub leaving: Vec<Rc<Connection>>,
    /// The dedicated connections to servers that were removed: those in use may go on for a while.
    pub lots: Vec<Rc<Lot>>,
}

impl Pool {
    /// Builds the worker's pool, with the connections of the one `before` to the servers that stay.
    pub fn build(
        shared: &Arc<SharedPool>,
        tools: &Tools<'_>,
        stand_in: Option<Rc<Self>>,
        before: Option<&Self>,
    ) -> (Rc<Self>, Moved) {
        let mut moved = Moved::default();
        let settings = shared.settings.clone();
        let budget = Rc::new(RetryBudget::new(settings.retry_budget_percent));
        let (mut lots, mut old_lots) = (Vec::new(), HashMap::new());
        for (server, lot) in before.iter().flat_map(|pool| pool.shared.servers.iter().zip(&pool.lots)) {
            old_lots.insert(server.id, lot);
        }
        let mut pool = Self {
            connections: Vec::new(),
            lots: Vec::new(),
            usual: Variant { version: Version::Resp2, database: settings.redis_db },
            others: shared.servers.iter().map(|_| Others::default()).collect(),
            late: RefCell::default(),
            succeeded: Cell::new(false),
            asking: Asking::new(shared.facts.clone()),
            worker: tools.worker,
            pass: tools.pass.clone(),
            routing: RefCell::new(shared.health.routing().load_full()),
            settings: settings.clone(),
            health: shared.health.clone(),
            stand_in,
            keyless: settings.servers.iter().position(|server| Some(&server.name) == settings.keyless_server.as_ref()),
            recent_scripts: scripts::Recent::default(),
            budget: budget.clone(),
            cells: shared.cells[tools.worker].clone(),
            // Any seed does: twemproxy's own is the time of day.
            random: Cell::new(std::process::id() | 1),
            shared: shared.clone(),
        };
        let mut old: HashMap<ServerId, (&[Rc<Connection>], &Others)> = HashMap::new();
        if let Some(pool) = before {
            pool.give_way();
            let connections = pool.connections.iter().zip(&pool.others);
            for (server, (connections, others)) in pool.shared.servers.iter().zip(connections) {
                old.insert(server.id, (connections, others));
            }
        }
        for (place, server) in shared.servers.iter().enumerate() {
            let health = Rc::new(health::Seen { health: shared.health.clone(), server: place, budget: budget.clone() });
            let (description, wanted) = (&server.description, settings.server_connections.max(1));
            let (mut kept, extra) = old.remove(&server.id).map_or((Vec::new(), &[][..]), |(all, others)| {
                pool.take_over_others(place, others, &mut moved);
                let (kept, extra) = all.split_at(wanted.min(all.len()));
                (kept.to_vec(), extra)
            });
            moved.leaving.extend_from_slice(extra);
            kept.iter().for_each(|connection| connection.update(description.clone(), health.clone()));
            while kept.len() < wanted {
                let new = Connection::new(description.clone(), health.clone(), tools.pass.clone(), pool.records(place));
                moved.new.push(new.clone());
                kept.push(new);
            }
            pool.connections.push(kept);
            let terms = Terms {
                server: description.clone(),
                usual: pool.usual,
                facts: shared.facts.clone(),
                health,
                bounds: Bounds::of(&settings),
            };
            lots.push(match old_lots.remove(&server.id) {
                Some(lot) => {
                    lot.update(terms);
                    lot.clone()
                }
                None => Lot::new(terms, tools.pass.clone(), server.cells[tools.worker].clone()),
            });
        }
        pool.lots = lots;
        moved.lots.extend(old_lots.into_values().cloned());
        for (connections, others) in old.into_values() {
            moved.leaving.extend(connections.iter().chain(others.iter().flat_map(|(_, all)| all)).cloned());
        }
        (Rc::new(pool), moved)
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
        for server in ejected {
            let by_order = latest.is_ejected_by_order(server);
            self.of_server(server)
                .for_each(|connection| if by_order { connection.release() } else { connection.abandon() });
            self.lots[server].eject(by_order);
        }
    }

    /// The map that it goes by now.
    pub fn routing(&self) -> Arc<Routing> {
        self.routing.borrow().clone()
    }

    /// Whether it still goes by this map.
    pub fn goes_by(&self, routing: &Arc<Routing>) -> bool {
        Arc::ptr_eq(&self.routing.borrow(), routing)
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

    /// The server for requests that any can answer: the one that the settings name, or else the first that takes traffic.
    pub fn any_place(&self) -> Result<usize, Away> {
        if let Some(place) = self.keyless {
            return self.away(place).map_or(Ok(place), Err);
        }
        self.live_place()
    }

    /// The first server that takes traffic.
    pub fn live_place(&self) -> Result<usize, Away> {
        (0..self.places()).find(|place| self.away(*place).is_none()).ok_or(Away::NoServer)
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

    /// The pool that takes the keys of ejected servers.
    pub fn stand_in(&self) -> Option<&Self> {
        self.stand_in.as_deref()
    }

    /// Whether the server at `place` belongs to the pool that stands in.
    pub fn is_stand_in(&self, place: usize) -> bool {
        place >= self.servers()
    }

    /// Whether the key decides which server it is. If not, any server will do.
    pub fn is_keyed(&self) -> bool {
        self.settings.distribution != Distribution::Random
    }

    /// The connection to the server at `place` for the session with this number, of this variant, which is served: always
    /// the same one, so that the requests of one session to one server stay in order.
    pub fn connection(&self, place: usize, session: u64, variant: Variant) -> &Rc<Connection> {
        match (self.connections.get(place), &self.stand_in) {
            (None, Some(pool)) => pool.connection(place - self.servers(), session, self.at_stand_in(pool, variant)),
            _ => {
                let all =
                    if variant == self.usual { &self.connections[place][..] } else { self.others(place, variant) };
                &all[session as usize % all.len()]
            }
        }
    }

    /// A dedicated connection to the server at `place`, which must take traffic ([`Pool::away`]): an idle one, the one that
    /// was used last, or else a new one, which connects at once. `line`: what the tenant calls it.
    ///
    /// # Errors
    /// When there are too many, or the server could not be connected to a moment ago.
    pub fn lease(
        &self,
        place: usize,
        variant: Variant,
        tenant: Rc<dyn Tenant>,
        line: u32,
    ) -> Result<Rc<Dedicated>, Refusal> {
        match (self.lots.get(place), &self.stand_in) {
            (None, Some(pool)) => pool.lease(place - self.servers(), self.at_stand_in(pool, variant), tenant, line),
            _ => self.lots[place].lease(variant, tenant, line),
        }
    }

    /// What the server at `place` is known by, whatever reloads do to places.
    pub fn server_id(&self, place: usize) -> ServerId {
        match (self.shared.servers.get(place), &self.stand_in) {
            (None, Some(pool)) => pool.server_id(place - self.servers()),
            _ => self.shared.servers[place].id,
        }
    }

    /// Takes back a connection that this pool, or another state of it before or after a reload, has leased; its tenant is told
    /// of nothing any more, also of what is unanswered. `clean`: nothing of the tenant is left on the server's side (no
    /// MULTI, WATCH, subscription, name, other database). It is kept for the next tenant if it is clean, nothing is in
    /// flight, and there is use for it; otherwise it is closed when all that is queued was handed to the kernel. What is lost
    /// may be given back as well; nothing happens.
    pub fn give_back(&self, dedicated: Rc<Dedicated>, clean: bool) {
        dedicated.give_back(clean);
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
        (0..self.servers()).flat_map(|server| self.of_server(server))
    }

    /// Every connection to one of the pool's own servers.
    fn of_server(&self, server: usize) -> impl Iterator<Item = &Rc<Connection>> {
        self.connections[server].iter().chain(self.others[server].iter().flat_map(|(_, connections)| connections))
    }

    /// Those of the usual variant.
    pub fn usual_connections(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.connections.iter().flatten()
    }

    /// What it has learnt of commands that the table does not have.
    pub fn learnt(&self) -> &Arc<Learnt> {
        &self.shared.learnt
    }

    /// The dedicated connections of the pool, by server.
    pub fn lots(&self) -> &[Rc<Lot>] {
        &self.lots
    }

    /// What it shares with the pools of other workers.
    pub fn shared(&self) -> &Arc<SharedPool> {
        &self.shared
    }

    pub fn cells(&self) -> &Arc<PoolCells> {
        &self.cells
    }

    /// Marsaglia's xorshift: a number for the `random` distribution, and for other choices that are left to chance.
    pub fn next_random(&self) -> u32 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random.set(x);
        x
    }
}
