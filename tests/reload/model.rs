//! A configuration as the test knows it, and where it puts keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use outrigger::config;
use outrigger::hash::{HashTag, KeyHash, tagged};
use outrigger::ring::{Distribution, Ring};

use crate::support::client::Address;
use crate::support::fleet::Dialect;

/// Where a value lies: a server of the pool's protocol, and its database.
pub type Place = (usize, u32);

/// A pool, whatever it is called and wherever it listens.
pub type Identity = u64;

/// What there is to build configurations of: the same during a run.
pub struct Ground {
    /// Of each protocol.
    pub servers: [Vec<String>; 2],
    /// Where pools may listen.
    pub addresses: Vec<Address>,
}

impl Ground {
    pub fn servers(&self, dialect: Dialect) -> &[String] {
        match dialect {
            Dialect::Redis => &self.servers[0],
            Dialect::Memcached => &self.servers[1],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConf {
    pub name: String,
    /// Which server of the ground.
    pub server: usize,
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConf {
    pub identity: Identity,
    pub name: String,
    pub dialect: Dialect,
    /// Which address of the ground.
    pub at: usize,
    pub servers: Vec<ServerConf>,
    /// Other keys of the pool.
    pub keys: BTreeMap<&'static str, String>,
    pub stand_in: Option<Identity>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    pub globals: BTreeMap<&'static str, String>,
    pub limits: BTreeMap<&'static str, u64>,
    pub pools: Vec<PoolConf>,
}

impl PoolConf {
    /// With these servers of the ground, named `s0` and so on.
    pub fn new(identity: Identity, name: &str, dialect: Dialect, at: usize, servers: &[usize]) -> Self {
        let server =
            |(number, server): (usize, &usize)| ServerConf { name: format!("s{number}"), server: *server, weight: 1 };
        Self {
            identity,
            name: name.to_owned(),
            dialect,
            at,
            servers: servers.iter().enumerate().map(server).collect(),
            keys: [("timeout", "10s".to_owned()), ("connect_timeout", "5s".to_owned())].into(),
            stand_in: None,
        }
    }

    pub fn database(&self) -> u32 {
        self.keys.get("redis_db").map_or(0, |number| number.parse().unwrap())
    }
}

impl Conf {
    pub fn pool(&self, identity: Identity) -> Option<&PoolConf> {
        self.pools.iter().find(|pool| pool.identity == identity)
    }

    pub fn text(&self, ground: &Ground, admin: &str) -> String {
        let mut text = format!("workers: 2\n{admin}");
        self.globals.iter().for_each(|(key, value)| text += &format!("{key}: {value}\n"));
        if !self.limits.is_empty() {
            text += "limits:\n";
            self.limits.iter().for_each(|(key, value)| text += &format!("  {key}: {value}\n"));
        }
        text += "pools:\n";
        for pool in &self.pools {
            let (protocol, at) = match pool.dialect {
                Dialect::Redis => ("redis", &ground.addresses[pool.at]),
                Dialect::Memcached => ("memcached", &ground.addresses[pool.at]),
            };
            let listen = match at {
                Address::Tcp(address) => address.to_string(),
                Address::Unix(path) => path.display().to_string(),
            };
            text += &format!("  {}:\n    listen: \"{listen}\"\n    protocol: {protocol}\n", pool.name);
            pool.keys.iter().for_each(|(key, value)| text += &format!("    {key}: {value}\n"));
            if let Some(stand_in) = pool.stand_in.and_then(|identity| self.pool(identity)) {
                text += &format!("    on_ejected: {}\n", stand_in.name);
            }
            text += "    servers:\n";
            for ServerConf { name, server, weight } in &pool.servers {
                text += &format!("      - \"{}:{weight} {name}\"\n", ground.servers(pool.dialect)[*server]);
            }
        }
        text
    }

    /// Where its pools are and put their keys. `before`: of another one, whose pools may be the same.
    pub fn view(&self, ground: &Ground, before: Option<&(Self, Arc<View>)>) -> View {
        let settings = config::parse("test", &self.text(ground, "admin: {listen: off, stats: off}\n"))
            .unwrap_or_else(|e| panic!("{e}"))
            .settings;
        let view = |pool: &PoolConf| {
            let same = before.filter(|(conf, _)| conf.pool(pool.identity) == Some(pool));
            if let Some(same) = same.and_then(|(_, view)| view.pools.get(&pool.identity)) {
                return (pool.identity, same.clone());
            }
            let own = settings.pools.iter().find(|own| own.name == pool.name).expect("the pool");
            let place = |name: &str| {
                let server = pool.servers.iter().find(|server| server.name == name).expect("the server");
                (server.server, pool.database())
            };
            let view = PoolView {
                at: pool.at,
                ring: Ring::build(own.distribution, &own.ring_servers(), |_| true),
                hash: own.hash,
                tag: own.hash_tag,
                by_chance: own.distribution == Distribution::Random,
                servers: own.servers.iter().map(|server| (server.name.clone(), place(&server.name))).collect(),
            };
            (pool.identity, Arc::new(view))
        };
        View { pools: self.pools.iter().map(view).collect() }
    }
}

/// Where the pools of a configuration are, and their keys.
pub struct View {
    pools: HashMap<Identity, Arc<PoolView>>,
}

impl View {
    pub fn pool(&self, identity: Identity) -> Option<&PoolView> {
        self.pools.get(&identity).map(|pool| &**pool)
    }

    /// The pool at an address.
    pub fn owner(&self, at: usize) -> Option<Identity> {
        self.pools.iter().find(|(_, pool)| pool.at == at).map(|(identity, _)| *identity)
    }
}

pub struct PoolView {
    pub at: usize,
    ring: Ring,
    hash: KeyHash,
    tag: Option<HashTag>,
    by_chance: bool,
    /// With their names.
    servers: Vec<(String, Place)>,
}

impl PoolView {
    /// Where this key may lie: at one place, or at any with `distribution: random`.
    pub fn servers(&self, key: &str) -> &[(String, Place)] {
        if self.by_chance {
            return &self.servers;
        }
        let hash = if self.ring.needs_hash() { self.hash.hash(tagged(key.as_bytes(), self.tag)) } else { 0 };
        std::slice::from_ref(&self.servers[self.ring.server(hash).expect("servers")])
    }

    /// Where the server of this name is.
    pub fn place_of(&self, name: &str) -> Option<Place> {
        self.servers.iter().find(|(own, _)| own == name).map(|(_, place)| *place)
    }
}
