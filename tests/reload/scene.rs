//! One proxy with pools of both protocols on real servers, all its clients, and the file that changes it.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::changes::{Changes, is_clear};
use crate::crew::{Crew, Sea};
use crate::files::{ConfigFile, Way};
use crate::ledger::Timeline;
use crate::model::{Conf, Ground, Identity, PoolConf, View};
use crate::support::client::Address;
use crate::support::fleet::Dialect::{Memcached, Redis};
use crate::support::{Client, Outrigger, Port, Server, eventually};

/// The long form.
pub fn is_long() -> bool {
    std::env::var_os("OUTRIGGER_CHAOS").is_some_and(|form| form == "long")
}

/// Of each protocol.
const SERVERS: usize = 4;
const PORTS: usize = 10;
const UNIX: usize = 2;
/// Says at which server it is, see [`Scene::settle`].
const FENCE: Identity = 101;
/// Stands in for the fence, which makes that the last one.
const BASE: Identity = 100;

/// What the log may say: what is hardly meant in the random configurations, and broken files.
const ANNOUNCED: [&str; 9] = [
    "auto_eject_hosts ejects nothing here",
    "which cannot stand in for itself",
    "without auto_eject_hosts",
    "puts every key on one server",
    "the configuration was not changed",
    "cannot stand in",
    "no effect",
    "slow_timeout is shorter than timeout",
    "points of the continuum",
];

pub struct Scene {
    pub proxy: Outrigger,
    pub sea: Arc<Sea>,
    pub conf: Conf,
    pub file: ConfigFile,
    /// Ports that broken files want, in use until another file is in force: as soon as they are free such a file is whole.
    pub occupied: Vec<TcpListener>,
    view: Arc<View>,
    crews: Vec<Crew>,
    /// Two for each worker.
    fence: Vec<Client>,
    _servers: [Vec<Server>; 2],
    _ports: Vec<Port>,
    _sockets: TempDir,
}

fn first() -> Conf {
    let mut base = PoolConf::new(BASE, "base", Redis, 4, &[0]);
    base.keys.insert("preconnect", "true".to_owned());
    let mut fence = PoolConf::new(FENCE, "fence", Redis, 5, &[0]);
    fence.keys.insert("auto_eject_hosts", "false".to_owned());
    fence.stand_in = Some(BASE);
    Conf {
        globals: [("drain_timeout", "20s".to_owned())].into(),
        limits: [].into(),
        pools: vec![
            PoolConf::new(0, "r1", Redis, 0, &[0, 1, 2]),
            PoolConf::new(1, "m1", Memcached, 1, &[0, 1, 2]),
            PoolConf::new(2, "r2", Redis, 2, &[2, 3]),
            PoolConf::new(3, "m2", Memcached, 3, &[1, 3]),
            base,
            fence,
        ],
    }
}

impl Scene {
    /// `None`: a server is not installed.
    pub fn set() -> Option<Self> {
        let sockets = crate::support::folder();
        let ports: Vec<Port> = (0..PORTS).map(|_| Port::reserve()).collect();
        let unix = (0..UNIX).map(|number| Address::Unix(sockets.path().join(format!("s{number}"))));
        let addresses = ports.iter().map(|port| Address::Tcp(port.address())).chain(unix).collect();
        let start = |one: fn() -> Option<Server>| (0..SERVERS).map(|_| one()).collect::<Option<Vec<Server>>>();
        let servers = [start(Server::redis)?, start(Server::memcached)?];
        let names = servers.each_ref().map(|all| all.iter().map(Server::name).collect());
        for (number, server) in servers[0].iter().enumerate() {
            server.client().ask(&format!("SET who {number}"));
        }
        let (ground, conf) = (Ground { servers: names, addresses }, first());
        let view = Arc::new(conf.view(&ground, None));
        let listens = conf.pools.iter().map(|pool| ground.addresses[pool.at].clone()).collect();
        let mut proxy =
            Outrigger::start_text(crate::support::How::default(), |admin| conf.text(&ground, admin), listens);
        ANNOUNCED.iter().for_each(|text| proxy.announce(text));
        let file = ConfigFile::at(proxy.file("outrigger.yml"));
        let sea = Arc::new(Sea::new(ground, Timeline::new(view.clone())));
        let mut scene = Self {
            proxy,
            sea,
            conf,
            file,
            occupied: Vec::new(),
            view,
            crews: Vec::new(),
            fence: Vec::new(),
            _servers: servers,
            _ports: ports,
            _sockets: sockets,
        };
        // One after the other they go to one worker after the other, as long as nobody else is there.
        eventually("nobody to be there", || {
            let stats = scene.proxy.stats();
            scene.conf.pools.iter().all(|pool| stats[&pool.name]["client_connections"] == 0).then_some(())
        });
        scene.fence = (0..4).map(|_| scene.sea.ground.addresses[5].connect().unwrap()).collect();
        scene.settle();
        scene.launch();
        Some(scene)
    }

    pub fn changes<'a>(seed: u64, ground: &'a Ground) -> Changes<'a> {
        Changes::new(seed, ground, &first(), &[BASE, FENCE])
    }

    /// Crews for the pools that have none.
    fn launch(&mut self) {
        for pool in &self.conf.pools {
            if pool.identity != FENCE && self.crews.iter().all(|crew| crew.pool != pool.identity) {
                self.crews.push(Crew::launch(&self.sea, pool.identity, pool.dialect));
            }
        }
    }

    pub fn text(&self, conf: &Conf) -> String {
        conf.text(&self.sea.ground, &self.proxy.admin_block())
    }

    /// Some random changes at once, such that nobody can doubt which pool is which; what they are.
    pub fn next(&self, changes: &mut Changes<'_>, most: usize) -> (Conf, Vec<String>) {
        let (mut conf, mut what) = (self.conf.clone(), Vec::new());
        for _ in 0..=changes.random.below(most) {
            let before = conf.clone();
            let change = changes.make(&mut conf);
            if is_clear(&self.conf, &conf) {
                what.push(change);
            } else {
                conf = before;
            }
        }
        (conf, what)
    }

    /// Writes this configuration. From now on it may be in force.
    pub fn write(&mut self, mut conf: Conf, way: Way) {
        // So that the last pool changes in every case.
        let fence = conf.pools.iter_mut().find(|pool| pool.identity == FENCE).expect("the fence");
        let before = self.conf.pool(FENCE).expect("the fence").servers[0].server;
        fence.servers[0].server = 1 - before;
        self.write_as_it_is(conf, way);
    }

    fn write_as_it_is(&mut self, conf: Conf, way: Way) {
        let view = Arc::new(conf.view(&self.sea.ground, Some(&(self.conf.clone(), self.view.clone()))));
        for crew in self.crews.iter().filter(|crew| conf.pool(crew.pool).is_none()) {
            crew.will_be_removed();
        }
        self.sea.timeline.push(view.clone());
        self.file.write(&self.text(&conf), way);
        (self.conf, self.view) = (conf, view);
    }

    pub fn ask_to_reload(&self) {
        self.proxy.signal(Signal::HUP);
    }

    /// Waits until the proxy, and each of its workers, goes by what was written last; how long that took.
    pub fn settle(&mut self) -> Duration {
        let begun = Instant::now();
        let hash = outrigger::config::load_file(self.file.path()).unwrap().hash().to_owned();
        eventually("the configuration to be in force", || {
            self.sea.all_is_well().unwrap_or_else(|trouble| panic!("{trouble}"));
            let config = &self.proxy.stats()["config"];
            (config["hash"] == hash && config["last_reload_successful"] == true).then_some(())
        });
        let took = begun.elapsed();
        // The fence stands in the last place, where a worker comes when it has changed all other pools.
        let there = format!("\"{}\"", self.conf.pool(FENCE).expect("the fence").servers[0].server);
        for client in &mut self.fence {
            eventually("every worker to go by it", || (client.ask("GET who") == there).then_some(()));
        }
        self.sea.timeline.settle();
        self.occupied.clear();
        let (here, gone): (Vec<Crew>, Vec<Crew>) =
            std::mem::take(&mut self.crews).into_iter().partition(|crew| self.conf.pool(crew.pool).is_some());
        self.crews = here;
        gone.into_iter().for_each(Crew::see_the_end);
        self.launch();
        took
    }

    /// The configuration of the beginning, in three steps: what is to go first, as a pool that comes to its address would
    /// go on from it; then all but the names, as a pool with another name and another address at once would be another pool.
    pub fn return_to_the_first(&mut self) {
        let (first, mut now) = (first(), self.conf.clone());
        now.pools.retain(|pool| first.pool(pool.identity).is_some());
        let lasting = |stand_in: &Identity| first.pool(*stand_in).is_some();
        now.pools.iter_mut().for_each(|pool| pool.stand_in = pool.stand_in.filter(lasting));
        let mut back = first.clone();
        for pool in &mut back.pools {
            pool.name.clone_from(&now.pool(pool.identity).expect("a lasting pool").name);
        }
        assert!(is_clear(&now, &back) && is_clear(&back, &first));
        for conf in [now, back, first] {
            self.write(conf, Way::Rename);
            self.settle();
        }
    }

    /// Nobody comes any more, and those who came are gone, until [`Scene::go_on`].
    pub fn calm(&self) {
        self.sea.calm.store(true, SeqCst);
    }

    pub fn go_on(&self) {
        self.sea.calm.store(false, SeqCst);
    }

    pub fn land(&mut self) {
        self.crews.drain(..).for_each(Crew::land);
        self.sea.all_is_well().unwrap_or_else(|trouble| panic!("{trouble}"));
    }
}
