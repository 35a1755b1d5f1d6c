//! Random changes of a configuration, each valid.

use std::collections::BTreeSet;

use crate::model::{Conf, Ground, Identity, PoolConf, ServerConf};
use crate::support::fleet::Dialect;

/// xorshift, from a seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Seeds that are close are to lead far apart, and none to 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Makes changes.
pub struct Changes<'a> {
    pub random: Random,
    ground: &'a Ground,
    /// Pools that are there from the beginning to the end.
    lasting: Vec<Identity>,
    /// Pools that never change.
    fixed: Vec<Identity>,
    next_identity: Identity,
    names: usize,
}

/// Pools that come and go, at a time.
const MOST_EXTRA: usize = 3;

/// Keys of a pool that move nothing, with what they may be; an empty value is the default.
const HARMLESS: [(&str, &[&str]); 12] = [
    ("server_connections", &["", "1", "2", "3"]),
    ("timeout", &["10s", "8s", "0"]),
    ("slow_timeout", &["", "12s"]),
    ("slowlog_threshold", &["", "0", "1ms"]),
    ("connect_timeout", &["5s", "6s"]),
    ("max_reconnect_delay", &["", "100ms", "2s"]),
    ("retry_budget_percent", &["", "0", "50"]),
    ("client_idle_timeout", &["", "1h"]),
    ("client_write_timeout", &["", "20s", "0"]),
    ("client_connections", &["", "1000"]),
    ("backlog", &["", "128", "1024"]),
    ("preconnect", &["", "true"]),
];
const HASHES: [&str; 6] = ["murmur", "fnv1a_64", "md5", "crc32a", "jenkins", "one_at_a_time"];
/// Few by chance: nobody knows where their keys are.
const DISTRIBUTIONS: [&str; 8] = ["ketama", "ketama", "ketama", "ketama", "modula", "modula", "modula", "random"];
const POLICIES: [&str; 5] = ["off", "rehash", "fail_fast", "miss", "pool"];

impl<'a> Changes<'a> {
    pub fn new(seed: u64, ground: &'a Ground, first: &Conf, fixed: &[Identity]) -> Self {
        let lasting: Vec<Identity> = first.pools.iter().map(|pool| pool.identity).collect();
        let next_identity = lasting.iter().max().unwrap() + 1;
        Self { random: Random::new(seed), ground, lasting, fixed: fixed.to_vec(), next_identity, names: 0 }
    }

    /// Changes something; says what.
    pub fn make(&mut self, conf: &mut Conf) -> String {
        loop {
            let before = conf.clone();
            if let Some(what) = self.try_one(conf)
                && *conf != before
            {
                return what;
            }
            *conf = before;
        }
    }

    fn try_one(&mut self, conf: &mut Conf) -> Option<String> {
        match self.random.below(26) {
            0..=2 => self.add_server(conf),
            3..=5 => self.remove_server(conf),
            6..=7 => self.weigh(conf),
            8..=9 => self.readdress(conf),
            10 => self.exchange_servers(conf),
            11 => self.rename_server(conf),
            12..=14 => self.harmless(conf),
            15..=16 => self.place_otherwise(conf),
            17 => self.policy(conf),
            18 => Some(self.global(conf)),
            19 => self.add_pool(conf),
            20 => self.remove_pool(conf),
            21 => self.rename_pool(conf),
            22..=23 => self.move_listener(conf),
            24 => self.exchange_listeners(conf),
            _ => self.reorder(conf),
        }
    }

    /// One that may change.
    fn pool<'c>(&mut self, conf: &'c mut Conf) -> &'c mut PoolConf {
        let free: Vec<usize> =
            (0..conf.pools.len()).filter(|i| !self.fixed.contains(&conf.pools[*i].identity)).collect();
        &mut conf.pools[self.random.one_of(&free)]
    }

    /// A server that the pool does not have.
    fn unused(&mut self, pool: &PoolConf) -> Option<usize> {
        let all = 0..self.ground.servers(pool.dialect).len();
        let free: Vec<usize> = all.filter(|server| pool.servers.iter().all(|own| own.server != *server)).collect();
        (!free.is_empty()).then(|| self.random.one_of(&free))
    }

    /// A name that the pool does not have: one that it had, most likely.
    fn unused_name(&mut self, pool: &PoolConf) -> String {
        let free = |name: &String| pool.servers.iter().all(|own| own.name != *name);
        let mut names = (0..).map(|number| format!("s{number}")).filter(free);
        names.nth(self.random.below(3)).unwrap()
    }

    fn add_server(&mut self, conf: &mut Conf) -> Option<String> {
        let pool = self.pool(conf);
        let (server, name) = (self.unused(pool)?, self.unused_name(pool));
        let at = self.random.below(pool.servers.len() + 1);
        pool.servers.insert(at, ServerConf { name: name.clone(), server, weight: 1 });
        Some(format!("{}: server {name} added", pool.name))
    }

    fn remove_server(&mut self, conf: &mut Conf) -> Option<String> {
        let pool = self.pool(conf);
        (pool.servers.len() > 1).then(|| {
            let gone = pool.servers.remove(self.random.below(pool.servers.len()));
            format!("{}: server {} removed", pool.name, gone.name)
        })
    }

    fn weigh(&mut self, conf: &mut Conf) -> Option<String> {
        let pool = self.pool(conf);
        let index = self.random.below(pool.servers.len());
        let weight = 1 + self.random.below(5) as u32;
        pool.servers[index].weight = weight;
        Some(format!("{}: {} weighs {weight}", pool.name, pool.servers[index].name))
    }

    fn readdress(&mut self, conf: &mut Conf) -> Option<String> {
        let pool = self.pool(conf);
        let (server, index) = (self.unused(pool)?, self.random.below(pool.servers.len()));
        pool.servers[index].server = server;
        Some(format!("{}: {} is elsewhere", pool.name, pool.servers[index].name))
    }

    fn exchange_servers(&mut self, conf: &mut Conf) -> Option<String> {
        let pool = self.pool(conf);
        let [a, b] = [self.random.below(pool.servers.len()), self.random.below(pool.servers.len())];
        let (first, second) = (pool.servers[a].server, pool.servers[b].server);
        (pool.servers[a].server, pool.servers[b].server) = (second, first);
        Some(format!("{}: {} and {} change places", pool.name, pool.servers[a].name, pool.servers[b].name))
    }

    fn rename_server(&mut self, conf: &mut Conf) -> Option<String> {
        let pool = self.pool(conf);
        let (name, index) = (self.unused_name(pool), self.random.below(pool.servers.len()));
        let old = std::mem::replace(&mut pool.servers[index].name, name.clone());
        Some(format!("{}: {old} is called {name}", pool.name))
    }

    fn set(pool: &mut PoolConf, key: &'static str, value: &str) -> Option<String> {
        match value {
            "" => drop(pool.keys.remove(key)),
            value => drop(pool.keys.insert(key, value.to_owned())),
        }
        Some(format!("{}: {key} is {value:?}", pool.name))
    }

    fn harmless(&mut self, conf: &mut Conf) -> Option<String> {
        let (key, values) = self.random.one_of(&HARMLESS);
        let value = self.random.one_of(values);
        Self::set(self.pool(conf), key, value)
    }

    fn place_otherwise(&mut self, conf: &mut Conf) -> Option<String> {
        let pool = self.pool(conf);
        let (key, value) = match self.random.below(6) {
            0..=1 => ("hash", self.random.one_of(&HASHES)),
            2..=3 => ("distribution", self.random.one_of(&DISTRIBUTIONS)),
            4 => ("hash_tag", self.random.one_of(&["", "\"{}\""])),
            _ if pool.dialect == Dialect::Redis => ("redis_db", self.random.one_of(&["", "1", "2"])),
            _ => return None,
        };
        Self::set(pool, key, value)
    }

    /// Nothing fails here, so nothing is ejected; but everything is made ready for it.
    fn policy(&mut self, conf: &mut Conf) -> Option<String> {
        let policy = self.random.one_of(&POLICIES);
        let (identity, dialect) = {
            let pool = self.pool(conf);
            (pool.identity, pool.dialect)
        };
        let chained = conf.pools.iter().any(|other| other.stand_in == Some(identity));
        let fit =
            |other: &&PoolConf| other.identity != identity && other.dialect == dialect && other.stand_in.is_none();
        let fit: Vec<Identity> = conf.pools.iter().filter(fit).map(|pool| pool.identity).collect();
        if policy == "pool" && (chained || fit.is_empty()) {
            return None;
        }
        let pool = conf.pools.iter_mut().find(|pool| pool.identity == identity)?;
        ["auto_eject_hosts", "on_ejected", "on_readmit", "server_failure_limit", "probe_timeout"].iter().for_each(
            |key| {
                pool.keys.remove(key);
            },
        );
        pool.stand_in = None;
        if policy != "off" {
            let keys = [("auto_eject_hosts", "true"), ("server_failure_limit", "50"), ("probe_timeout", "10s")];
            pool.keys.extend(keys.map(|(key, value)| (key, value.to_owned())));
            match policy {
                "pool" => pool.stand_in = Some(self.random.one_of(&fit)),
                policy => drop(pool.keys.insert("on_ejected", policy.to_owned())),
            }
            if ["pool", "rehash"].contains(&policy) {
                pool.keys.insert("on_readmit", "keep".to_owned());
            }
        }
        Some(format!("{}: ejection: {policy}", pool.name))
    }

    fn global(&mut self, conf: &mut Conf) -> String {
        match self.random.below(4) {
            0 => {
                let requests = self.random.one_of(&[8, 64, 1024]);
                conf.limits.insert("max_session_requests", requests);
                format!("max_session_requests is {requests}")
            }
            1 => {
                let requests = self.random.one_of(&[16, 8192]);
                conf.limits.insert("max_connection_requests", requests);
                format!("max_connection_requests is {requests}")
            }
            2 => {
                let bytes = self.random.one_of(&[128 << 20, 256 << 20]);
                conf.limits.insert("max_buffered_bytes", bytes);
                format!("max_buffered_bytes is {bytes}")
            }
            _ => {
                let limit = self.random.one_of(&["15s", "20s"]);
                conf.globals.insert("drain_timeout", limit.to_owned());
                format!("drain_timeout is {limit}")
            }
        }
    }

    /// An address that no pool has, nor had `before`: there it would be taken for the one that goes.
    fn free_address(&mut self, conf: &Conf) -> Option<usize> {
        let taken: BTreeSet<usize> = conf.pools.iter().map(|pool| pool.at).collect();
        let free: Vec<usize> = (0..self.ground.addresses.len()).filter(|at| !taken.contains(at)).collect();
        (!free.is_empty()).then(|| self.random.one_of(&free))
    }

    fn new_name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn add_pool(&mut self, conf: &mut Conf) -> Option<String> {
        if conf.pools.len() >= self.lasting.len() + MOST_EXTRA {
            return None;
        }
        let (at, dialect) = (self.free_address(conf)?, self.random.one_of(&[Dialect::Redis, Dialect::Memcached]));
        let name = self.new_name("extra");
        let servers = [self.random.below(2), 2 + self.random.below(2)];
        let pool = PoolConf::new(self.next_identity, &name, dialect, at, &servers);
        self.next_identity += 1;
        conf.pools.insert(self.random.below(conf.pools.len()), pool);
        Some(format!("{name} added"))
    }

    fn remove_pool(&mut self, conf: &mut Conf) -> Option<String> {
        let extra: Vec<Identity> =
            conf.pools.iter().map(|pool| pool.identity).filter(|i| !self.lasting.contains(i)).collect();
        if extra.is_empty() {
            return None;
        }
        let gone = self.random.one_of(&extra);
        let index = conf.pools.iter().position(|pool| pool.identity == gone)?;
        let name = conf.pools.remove(index).name;
        for pool in conf.pools.iter_mut().filter(|pool| pool.stand_in == Some(gone)) {
            pool.stand_in = None;
        }
        Some(format!("{name} removed"))
    }

    fn rename_pool(&mut self, conf: &mut Conf) -> Option<String> {
        let name = self.new_name("named");
        let pool = self.pool(conf);
        let old = std::mem::replace(&mut pool.name, name.clone());
        Some(format!("{old} is called {name}"))
    }

    fn move_listener(&mut self, conf: &mut Conf) -> Option<String> {
        let at = self.free_address(conf)?;
        let ground = self.ground;
        let pool = self.pool(conf);
        pool.at = at;
        Some(format!("{} listens on {:?}", pool.name, ground.addresses[at]))
    }

    fn exchange_listeners(&mut self, conf: &mut Conf) -> Option<String> {
        let [a, b] = [self.pool(conf).identity, self.pool(conf).identity];
        let [a, b] = [a, b].map(|identity| conf.pools.iter().position(|pool| pool.identity == identity).unwrap());
        let (first, second) = (conf.pools[a].at, conf.pools[b].at);
        (conf.pools[a].at, conf.pools[b].at) = (second, first);
        Some(format!("{} and {} change addresses", conf.pools[a].name, conf.pools[b].name))
    }

    /// The last pool stays the last.
    fn reorder(&mut self, conf: &mut Conf) -> Option<String> {
        let others = conf.pools.len() - 1;
        let [a, b] = [self.random.below(others), self.random.below(others)];
        conf.pools.swap(a, b);
        Some("pools in another order".to_owned())
    }
}

/// Whether one change leads to the other without a pool's identity being in doubt: renamed and moved at once is another
/// pool, and a new one where an old one was is the old one.
pub fn is_clear(before: &Conf, after: &Conf) -> bool {
    after.pools.iter().all(|pool| match before.pool(pool.identity) {
        Some(old) if old.name == pool.name => true,
        Some(old) => old.at == pool.at && !after.pools.iter().any(|other| other.name == old.name),
        None => before.pools.iter().all(|old| old.at != pool.at && old.name != pool.name),
    })
}
