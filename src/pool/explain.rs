//! Where a key is, and why there: what [`Pool::route`](super::Pool::route) does in an instant, for people.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Routing, Way};
use crate::config::{OnEjected, PoolSettings};
use crate::hash::tagged;
use crate::health::Standing;
use crate::ring::{Distribution, Ring};

/// The way of one key, by the map that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    pub pool: String,
    pub key: String,
    pub distribution: String,
    /// How many there are.
    pub servers: usize,
    /// `None`: nothing is hashed, with `random` or a single server.
    pub hash: Option<String>,
    /// The two characters, if what is between them is all that is hashed of this key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hash_tag: Option<String>,
    /// What is hashed then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hashed: Option<String>,
    pub hash_value: Option<u32>,
    /// The point of the continuum that owns the hash; only ketama has one.
    pub point: Option<u32>,
    /// The server that is asked; `None`: none, or any, by chance.
    pub server: Option<String>,
    pub address: Option<String>,
    /// `live`, `returning` or `ejected`.
    pub state: Option<String>,
    /// The pool that the server is of, if that is one that stands in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stand_in: Option<String>,
    /// Why it is not where it is with all servers live.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub away: Option<String>,
    /// Where that is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usual_server: Option<String>,
}

impl Explanation {
    /// `stand_in`: the pool that takes the keys of ejected servers, with its own map.
    pub fn of(pool: &PoolSettings, routing: &Routing, stand_in: Option<(&PoolSettings, &Routing)>, key: &[u8]) -> Self {
        let hashed = tagged(key, pool.hash_tag);
        let is_tagged = hashed.len() != key.len();
        let hash = routing.ring().needs_hash().then(|| pool.hash.hash(hashed));
        let mut found = Self {
            pool: pool.name.clone(),
            key: String::from_utf8_lossy(key).into_owned(),
            distribution: pool.distribution.name().to_owned(),
            servers: pool.servers.len(),
            hash: hash.map(|_| pool.hash.name().to_owned()),
            hash_tag: pool.hash_tag.filter(|_| is_tagged).map(|tag| String::from_utf8_lossy(&tag.0).into_owned()),
            hashed: is_tagged.then(|| String::from_utf8_lossy(hashed).into_owned()),
            hash_value: hash,
            point: None,
            server: None,
            address: None,
            state: None,
            stand_in: None,
            away: None,
            usual_server: None,
        };
        if pool.distribution != Distribution::Random || pool.servers.len() == 1 {
            found.follow(pool, routing, stand_in, key, pool.hash.hash(hashed));
        }
        found
    }

    fn follow(
        &mut self,
        pool: &PoolSettings,
        routing: &Routing,
        stand_in: Option<(&PoolSettings, &Routing)>,
        key: &[u8],
        hash: u32,
    ) {
        self.point = routing.deciding_ring(hash).locate(hash).and_then(|located| located.continuum_point);
        let usual = usual(pool, routing, hash);
        let way = routing.way(hash);
        match (way, stand_in) {
            (Way::Server(server) | Way::Ejected(server), _) => self.is_at(pool, routing, server),
            (Way::StandIn(_), Some((other, map))) => {
                let there = Self::of(other, map, None, key);
                (self.stand_in, self.server) = (Some(there.pool), there.server);
                (self.address, self.state) = (there.address, there.state);
                self.away = there.away;
            }
            (Way::StandIn(_), None) | (Way::Nowhere, _) => {}
        }
        if way == Way::Server(usual) {
            return;
        }
        self.usual_server = pool.servers.get(usual).map(|server| server.name.clone());
        let own = match (way, routing.standing(usual)) {
            (Way::Nowhere, _) => "No server of the pool is left".to_owned(),
            (_, Standing::Returning(share)) => format!("The server is returning: {share} % of its keys are there"),
            _ => routing.why(usual).to_owned(),
        };
        let then = match (way, pool.health.on_ejected) {
            (Way::Ejected(_), OnEjected::Miss) => "; until it returns reads find nothing, and writes are errors",
            (Way::Ejected(_), _) => "; until it returns requests are errors",
            _ => "",
        };
        let there = self.away.take().map_or(String::new(), |there| format!("; in the pool that stands in: {there}"));
        self.away = Some(own + then + &there);
    }

    fn is_at(&mut self, pool: &PoolSettings, routing: &Routing, server: usize) {
        let Some(known) = pool.servers.get(server) else { return };
        self.server = Some(known.name.clone());
        self.address = Some(known.address.to_string());
        self.state = Some(routing.standing(server).name().to_owned());
    }
}

/// The server of a hash with all servers live.
fn usual(pool: &PoolSettings, routing: &Routing, hash: u32) -> usize {
    // Under `rehash` the ring in force is of those that are left.
    let rehashed = !routing.is_calm() && pool.health.on_ejected == OnEjected::Rehash;
    let all = rehashed.then(|| Ring::build(pool.distribution, &pool.ring_servers(), |_| true));
    all.as_ref().unwrap_or(routing.ring()).server(hash).unwrap_or(0)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "key          {}", self.key)?;
        let plural = if self.servers == 1 { "" } else { "s" };
        writeln!(f, "pool         {} ({} server{plural}, {})", self.pool, self.servers, self.distribution)?;
        if let Some(hashed) = &self.hashed {
            writeln!(f, "hash tag     {hashed}")?;
        }
        match (&self.hash, self.hash_value) {
            (Some(hash), Some(value)) => writeln!(f, "hash         {hash} = {value}")?,
            _ => writeln!(f, "hash         none")?,
        }
        if let Some(point) = self.point {
            writeln!(f, "point        {point}")?;
        }
        if let Some(usual) = &self.usual_server {
            writeln!(f, "usually      {usual}")?;
        }
        if let Some(away) = &self.away {
            writeln!(f, "but          {away}")?;
        }
        if let Some(pool) = &self.stand_in {
            writeln!(f, "stand-in     pool {pool}")?;
        }
        let state = self.state.as_deref().filter(|state| *state != "live").map_or(String::new(), |s| format!(", {s}"));
        match (&self.server, &self.address) {
            (Some(server), Some(address)) => writeln!(f, "server       {server} ({address}){state}"),
            _ if self.away.is_some() => writeln!(f, "server       none"),
            _ => writeln!(f, "server       any, another one at each request"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn pools(keys: &str) -> Vec<PoolSettings> {
        let text = format!(
            "pools:\n  a:\n    listen: 127.0.0.1:1\n    auto_eject_hosts: true\n    on_readmit: keep\n{keys}    servers:\n\
             \x20     - 127.0.0.1:7001 one\n      - 127.0.0.1:7002 two\n      - 127.0.0.1:7003 three\n\
             \x20 spare:\n    listen: 127.0.0.1:2\n    servers: ['127.0.0.1:7004 four']\n"
        );
        config::parse("test", &text).expect("valid").settings.pools
    }

    /// By the first pool's map with one of its servers like this, for each of many keys.
    fn explained(pools: &[PoolSettings], special: Standing) -> Vec<(Explanation, Way)> {
        let mut standings = vec![Standing::Live; 3];
        standings[0] = special;
        let pool = &pools[0];
        let routing = Routing::build(pool, standings).telling(|_| "Server is ejected: Connection refused".to_owned());
        let spare = Routing::build(&pools[1], vec![Standing::Live]);
        let explain = |number: u32| {
            let key = number.to_string();
            let way = routing.way(pool.hash.hash(key.as_bytes()));
            (Explanation::of(pool, &routing, Some((&pools[1], &spare)), key.as_bytes()), way)
        };
        (0..300).map(explain).collect()
    }

    #[test]
    fn it_says_what_the_map_does() {
        for keys in ["", "    on_ejected: fail_fast\n", "    on_ejected: miss\n", "    on_ejected: spare\n"] {
            let pools = pools(keys);
            let calm = explained(&pools, Standing::Live);
            let first = &pools[0].servers[0].name;
            for special in [Standing::Ejected, Standing::Returning(40)] {
                for ((before, _), (now, way)) in calm.iter().zip(explained(&pools, special)) {
                    let expected = match way {
                        Way::Server(server) | Way::Ejected(server) => &pools[0].servers[server].name,
                        Way::StandIn(_) => "four",
                        Way::Nowhere => panic!("two servers are live"),
                    };
                    assert_eq!(now.server.as_deref(), Some(expected));
                    let moved = before.server != now.server || matches!(way, Way::Ejected(_));
                    assert_eq!(now.usual_server.is_some(), moved, "{keys} {now:?}");
                    assert_eq!(now.away.is_some(), moved);
                    if moved {
                        assert_eq!(now.usual_server.as_ref(), Some(first));
                    }
                    assert_eq!(now.stand_in.is_some(), matches!(way, Way::StandIn(_)));
                }
            }
        }
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        for (explanation, _) in explained(&pools(""), Standing::Ejected) {
            let text = serde_json::to_string(&explanation).unwrap();
            assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), explanation);
        }
    }

    #[test]
    fn the_words_of_an_ejected_server() {
        let pools = pools("    on_ejected: fail_fast\n");
        let all = explained(&pools, Standing::Ejected);
        let (away, _) = all.iter().find(|(explanation, _)| explanation.away.is_some()).unwrap();
        let text = away.to_string();
        assert!(
            text.contains(
                "\nbut          Server is ejected: Connection refused; until it returns requests are errors\n"
            )
        );
        assert!(text.ends_with("server       one (127.0.0.1:7001), ejected\n"), "{text}");
    }
}
