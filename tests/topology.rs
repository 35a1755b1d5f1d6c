//! Simulation: topologies that follow one another, by random walks. What is known of a server goes with it, and what is
//! told of it afterwards finds it, whoever of all the topologies before is told; connections stay with their servers.
//!
//! `TOPOLOGY_SEED=n` walks one seed only, `TOPOLOGY_SEEDS=n` so many.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use outrigger::backend::{Connection, Endpoint, Reason};
use outrigger::config;
use outrigger::discovery::Names;
use outrigger::health::{Jitter, Standing};
use outrigger::io::Pass;
use outrigger::local::LocalServers;
use outrigger::pool::{Ground, Pool, PoolHealth, PoolId, SharedPool, Tools, Topology};

const SEEDS: u64 = 150;
const CHANGES: usize = 12;

/// A server as it should be known.
#[derive(Debug, Clone)]
struct Server {
    name: String,
    port: usize,
    /// The process at that place: what is known is known of it.
    process: usize,
    /// The connections: they stay when the server moves.
    link: usize,
    traffic: u32,
    probes: u32,
    ejected: bool,
}

#[derive(Debug, Clone, Copy)]
enum OnEjected {
    Rehash,
    FailFast,
    /// The other pool stands in.
    Other,
}

#[derive(Debug, Clone)]
struct PoolModel {
    name: String,
    listen: usize,
    ejects: bool,
    limit: u32,
    connections: usize,
    on_ejected: OnEjected,
    servers: Vec<Server>,
}

/// Somebody who goes by a topology of long ago.
struct Teller {
    health: Arc<PoolHealth>,
    place: usize,
    /// The process that is there.
    process: usize,
    /// Failures are told to the health at all.
    ejects: bool,
}

struct Walk {
    seed: u64,
    random: Jitter,
    ground: Ground,
    pass: Rc<Pass>,
    model: Vec<PoolModel>,
    topology: Topology,
    built: HashMap<PoolId, Rc<Pool>>,
    /// By number of the model: those of the worker.
    links: HashMap<usize, Vec<Rc<Connection>>>,
    tellers: Vec<Teller>,
    numbers: usize,
    log: Vec<String>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.iter().for_each(|line| eprintln!("{line}"));
            eprintln!("{:#?}\nfailed with TOPOLOGY_SEED={}", self.model, self.seed);
        }
    }
}

fn text(model: &[PoolModel]) -> String {
    let mut text = String::from("pools:\n");
    for (pool, other) in model.iter().zip(model.iter().rev()) {
        let PoolModel { name, listen, ejects, limit, connections, servers, .. } = pool;
        let on_ejected = match pool.on_ejected {
            OnEjected::Rehash => "rehash",
            OnEjected::FailFast => "fail_fast",
            OnEjected::Other => &other.name,
        };
        text += &format!(
            "  {name}:\n    listen: 127.0.0.1:{listen}\n    distribution: modula\n    auto_eject_hosts: {ejects}\n    server_failure_limit: {limit}\n    \
             server_retry_timeout: 600000\n    max_ejected_percent: 100\n    on_readmit: keep\n    slow_start: 0\n    \
             on_ejected: {on_ejected}\n    server_connections: {connections}\n    servers:\n"
        );
        for Server { name, port, .. } in servers {
            text += &format!("      - 127.0.0.1:{port} {name}\n");
        }
    }
    text
}

impl Walk {
    fn new(seed: u64) -> Self {
        let names = Names::new(Arc::new(|_| ()), None);
        let ground = Ground::new(names, LocalServers::new(), Arc::default(), Arc::new(|| ()), 1);
        let pool = |name: &str, listen| PoolModel {
            name: name.to_owned(),
            listen,
            ejects: true,
            limit: 2,
            connections: 1,
            on_ejected: OnEjected::Rehash,
            servers: Vec::new(),
        };
        let mut model = vec![pool("a", 1), pool("b", 2)];
        let mut numbers = 100;
        for pool in &mut model {
            for _ in 0..3 {
                numbers += 1;
                pool.servers.push(Server::new(numbers));
            }
        }
        let settings = config::parse("walk", &text(&model)).unwrap_or_else(|error| panic!("{error}")).settings;
        let topology = Topology::first(Arc::new(settings), &ground).expect("no in-process servers");
        let mut walk = Self {
            seed,
            random: Jitter::new(seed),
            ground,
            pass: Pass::new(),
            model,
            topology,
            built: HashMap::new(),
            links: HashMap::new(),
            tellers: Vec::new(),
            numbers,
            log: Vec::new(),
        };
        walk.build();
        walk
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.number() % limit as u64) as usize
    }

    fn number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    fn walk(mut self) {
        for _ in 0..CHANGES {
            (0..self.below(12)).for_each(|_| self.tell());
            self.check();
            let mut wanted = self.model.clone();
            (0..1 + self.below(4)).for_each(|_| self.alter(&mut wanted));
            let settings = config::parse("walk", &text(&wanted)).unwrap_or_else(|error| panic!("{error}")).settings;
            let next = self.topology.next(Arc::new(settings), &self.ground).expect("no in-process servers");
            // It may come to nothing, and until it is published it knows nothing.
            self.tell();
            next.take_over(&self.topology);
            self.topology = next;
            self.publish(wanted);
            self.tell();
            self.build();
            self.check();
        }
    }

    fn publish(&mut self, mut wanted: Vec<PoolModel>) {
        for pool in &mut wanted {
            for server in &mut pool.servers {
                let known = self.model.iter().flat_map(|pool| &pool.servers).find(|old| old.process == server.process);
                if let Some(known) = known.filter(|_| pool.ejects) {
                    (server.traffic, server.probes, server.ejected) = (known.traffic, known.probes, known.ejected);
                } else {
                    (server.traffic, server.probes, server.ejected) = (0, 0, false);
                }
            }
        }
        self.model = wanted;
        self.log.push("published".to_owned());
    }

    /// One thing that is to be different in the next topology.
    fn alter(&mut self, wanted: &mut [PoolModel]) {
        let (which, what, number) = (self.below(wanted.len()), self.below(12), self.number());
        let other = (which + 1) % wanted.len();
        let runs: Vec<&Server> = self.model.iter().flat_map(|pool| &pool.servers).collect();
        let pool = &mut wanted[which];
        let (count, at) = (pool.servers.len(), number % pool.servers.len());
        let server = &mut pool.servers[at];
        self.log.push(format!("alter {what} of {} or {}", pool.name, server.name));
        match what {
            0 | 1 => pool.servers.push(Server::new(number)),
            2 if count > 1 => drop(pool.servers.remove(at)),
            2 => {}
            // What has neither its name nor its place any more is another server.
            3 => {
                let link = if runs.iter().any(|old| old.name == server.name) { server.link } else { number };
                *server = Server { name: server.name.clone(), link, ..Server::new(number) };
            }
            4 => {
                server.name = format!("s{number}");
                if !runs.iter().any(|old| old.port == server.port) {
                    server.link = number;
                }
            }
            5 => pool.ejects = !pool.ejects,
            6 => pool.limit = 1 + number as u32 % 3,
            7 => pool.connections = 1 + number % 3,
            8 => pool.name = format!("p{number}"),
            9 | 10 => {
                pool.on_ejected = OnEjected::Other;
                wanted[other].on_ejected = OnEjected::Rehash;
            }
            _ => pool.on_ejected = OnEjected::FailFast,
        }
    }

    fn shared(&self, pool: &PoolModel) -> &Arc<SharedPool> {
        let listen = format!("127.0.0.1:{}", pool.listen);
        self.topology.pools.iter().find(|shared| shared.settings.listen.to_string() == listen).expect("it is there")
    }

    /// Goes by the newest topology, as a worker does.
    fn build(&mut self) {
        let tools = Tools { worker: 0, pass: &self.pass };
        let mut built: HashMap<PoolId, Rc<Pool>> = HashMap::new();
        let (with, without): (Vec<_>, Vec<_>) = self.topology.pools.iter().partition(|pool| pool.stand_in.is_some());
        for shared in without.into_iter().chain(with) {
            let before = self.built.get(&shared.id);
            if let Some(same) = before.filter(|pool| Arc::ptr_eq(pool.shared(), shared)) {
                built.insert(shared.id, same.clone());
                continue;
            }
            let stand_in = shared.stand_in.as_ref().map(|other| built[&other.id].clone());
            let (pool, moved) = Pool::build(shared, &tools, stand_in, before.map(|pool| &**pool));
            let kept = |connection: &Rc<Connection>| pool.connections().any(|now| Rc::ptr_eq(now, connection));
            assert!(moved.new.iter().all(kept) && !moved.leaving.iter().any(kept));
            let before = before.map_or(0, |before| before.connections().count());
            assert_eq!(before + moved.new.len(), pool.connections().count() + moved.leaving.len(), "none is forgotten");
            built.insert(shared.id, pool);
        }
        self.built = built;
        for pool in &self.model {
            let shared = self.shared(pool).clone();
            for (place, known) in pool.places() {
                let connection =
                    |session| self.built[&shared.id].connection(place, session, self.built[&shared.id].usual()).clone();
                let all: Vec<_> = (0..pool.connections as u64).map(connection).collect();
                for connection in &all {
                    let server = connection.server();
                    let Endpoint::Tcp(host) = &server.endpoint else { panic!("no host") };
                    assert!(format!("{host:?}").contains(&known.port.to_string()), "{host:?} for {known:?}");
                    assert_eq!((&server.name, &server.pool), (&known.name, &pool.name));
                }
                let before = self.links.insert(known.link, all.clone()).unwrap_or_default();
                assert!(before.iter().zip(&all).all(|(before, now)| Rc::ptr_eq(before, now)), "{known:?}");
                let (health, process, ejects) = (shared.health.clone(), known.process, pool.ejects);
                self.tellers.push(Teller { health, place, process, ejects });
            }
        }
    }

    /// One of those who know a topology, perhaps one of long ago, has news of one of its servers.
    fn tell(&mut self) {
        let at = self.below(self.tellers.len());
        let what = self.below(5);
        let Teller { health, place, process, ejects } = &self.tellers[at];
        self.log.push(format!("tell {what} of process {process}"));
        match what {
            0..=2 => health.failed(*place, Instant::now(), &Reason::Closed, "connection lost"),
            3 => health.answered(*place),
            _ => health.probed(*place, Err("probe".to_owned())),
        }
        for pool in self.model.iter_mut().filter(|pool| pool.ejects) {
            let known = pool.servers.iter_mut().find(|known| known.process == *process && !known.ejected);
            let Some(known) = known else { continue };
            let row = match what {
                0..=2 if *ejects => &mut known.traffic,
                0..=2 => continue,
                3 => {
                    known.traffic = 0;
                    continue;
                }
                _ => &mut known.probes,
            };
            *row += 1;
            if *row >= pool.limit {
                (known.traffic, known.probes, known.ejected) = (0, 0, true);
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.model.len(), self.topology.pools.len());
        for pool in &self.model {
            let shared = self.shared(pool);
            assert_eq!(pool.servers.len(), shared.servers.len());
            let built = &self.built[&shared.id];
            built.adopt();
            for (place, known) in pool.places() {
                let report = shared.health.report(place);
                let standing = if known.ejected { Standing::Ejected } else { Standing::Live };
                assert_eq!(
                    (report.standing, report.failures),
                    (standing, known.traffic.max(known.probes)),
                    "{known:?}"
                );
                assert_eq!(shared.health.routing().load().standing(place), standing, "{known:?}");
                assert_eq!(built.away(place).is_some(), known.ejected, "{known:?}");
            }
            for key in 0..50 {
                let Ok(place) = built.route(format!("key{key}").as_bytes()) else { continue };
                assert!(built.away(place).is_none(), "key {key} leads to an ejected server");
            }
        }
    }
}

impl Server {
    fn new(number: usize) -> Self {
        let name = format!("s{number}");
        Self { name, port: 10_000 + number, process: number, link: number, traffic: 0, probes: 0, ejected: false }
    }
}

impl PoolModel {
    /// The servers with their places, which are in the order of the ring.
    fn places(&self) -> impl Iterator<Item = (usize, &Server)> {
        let mut all: Vec<&Server> = self.servers.iter().collect();
        all.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
        all.into_iter().enumerate()
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn what_is_known_of_a_server_goes_with_it_and_news_finds_it() {
    let seeds = match number("TOPOLOGY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOPOLOGY_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        Walk::new(seed).walk();
    }
}
