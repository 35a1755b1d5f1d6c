//! Where the keys of a pool go at the moment. Immutable: an ejection, a return, each step of a return publishes a new one.
//!
//! | `on_ejected` | keys of an ejected server | keys of a returning one |
//! |---|---|---|
//! | `rehash` | the ring of those that are left | its share by the ring with it, the others by the ring without it |
//! | a pool | that pool's ring | its share to itself, the others to that pool |
//! | `fail_fast`, `miss` | nowhere: the session answers | all to itself |

use std::sync::{Arc, OnceLock};

use crate::config::{OnEjected, PoolSettings};
use crate::health::Standing;
use crate::ring::Ring;

/// Where a key leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To this server.
    Server(usize),
    /// To the pool that stands in for this server.
    StandIn(usize),
    /// This server has it, and is ejected.
    Ejected(usize),
    /// No server is left.
    Nowhere,
}

/// The map of one pool.
#[derive(Debug)]
pub struct Routing {
    /// Under `rehash` of the live and the returning servers, otherwise of all.
    ring: Arc<Ring>,
    /// Under `rehash`, while a server returns: of the live ones only.
    without_returning: Option<Ring>,
    standings: Vec<Standing>,
    /// By server: what clients are told of it while it is ejected. Empty if nobody asked.
    reasons: Vec<String>,
    /// By server: it is well, but somebody wants it ejected. Empty if nobody does.
    by_order: Vec<bool>,
    /// Every server is live.
    calm: bool,
    on_ejected: OnEjected,
    /// Of [`Routing::shares`], once somebody has asked.
    shares: OnceLock<Vec<f64>>,
}

impl Routing {
    /// The map for these standings, in ring order.
    pub fn build(settings: &PoolSettings, standings: Vec<Standing>) -> Self {
        let servers = settings.ring_servers();
        let ring = |live: &dyn Fn(Standing) -> bool| {
            Ring::build(settings.distribution, &servers, |server| live(standings[server]))
        };
        let on_ejected = settings.health.on_ejected;
        let rehash = on_ejected == OnEjected::Rehash;
        let returning = standings.iter().any(|s| matches!(s, Standing::Returning(_)));
        let live_ones = standings.contains(&Standing::Live);
        Self {
            ring: Arc::new(if rehash { ring(&|s| s.is_live()) } else { ring(&|_| true) }),
            // Without a live server the returning ones have no one to share with.
            without_returning: (rehash && returning && live_ones).then(|| ring(&|s| s == Standing::Live)),
            calm: standings.iter().all(|s| *s == Standing::Live),
            standings,
            reasons: Vec::new(),
            by_order: Vec::new(),
            on_ejected,
            shares: OnceLock::new(),
        }
    }

    /// The map with all servers live after a change of settings. Building a ring takes long; that of the map before is used
    /// again if it is the same.
    pub fn like(before: &Self, old: &PoolSettings, new: &PoolSettings) -> Self {
        if !before.calm || old.distribution != new.distribution || old.ring_servers() != new.ring_servers() {
            return Self::build(new, vec![Standing::Live; new.servers.len()]);
        }
        Self {
            ring: before.ring.clone(),
            without_returning: None,
            standings: before.standings.clone(),
            reasons: Vec::new(),
            by_order: Vec::new(),
            calm: true,
            on_ejected: new.health.on_ejected,
            shares: OnceLock::new(),
        }
    }

    /// Whether it is the map for these standings.
    pub fn has(&self, standings: &[Standing]) -> bool {
        self.standings == standings
    }

    /// With those that are ejected by somebody's order.
    pub fn sparing(mut self, is_by_order: impl Fn(usize) -> bool) -> Self {
        self.by_order = (0..self.standings.len()).map(is_by_order).collect();
        self
    }

    /// It is ejected by somebody's order: what was sent to it is worth waiting for.
    pub fn is_ejected_by_order(&self, server: usize) -> bool {
        self.by_order.get(server).copied().unwrap_or(false)
    }

    /// With what clients are told of ejected servers.
    pub fn telling(mut self, reason: impl Fn(usize) -> String) -> Self {
        let reason = |(server, standing): (usize, &Standing)| match standing {
            Standing::Ejected => reason(server),
            Standing::Live | Standing::Returning(_) => String::new(),
        };
        self.reasons = self.standings.iter().enumerate().map(reason).collect();
        self
    }

    /// What clients are told of an ejected server.
    pub fn why(&self, server: usize) -> &str {
        // A map without reasons was made before anything was ejected; a server may have come back a moment ago.
        self.reasons.get(server).filter(|reason| !reason.is_empty()).map_or("Server is ejected", String::as_str)
    }

    /// The ring that decides first.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The ring that has the last word about this point.
    pub fn deciding_ring(&self, point: u32) -> &Ring {
        match (&self.without_returning, self.ring.server(point)) {
            (Some(others), Some(server)) if self.way(point) != Way::Server(server) => others,
            _ => &self.ring,
        }
    }

    /// By server: its share of all keys of the pool, from 0 to 1, as they are routed now. Worked out when it is first asked
    /// for: that takes as long as looking at every point of the ring.
    pub fn shares(&self) -> &[f64] {
        self.shares.get_or_init(|| self.count_shares())
    }

    fn count_shares(&self) -> Vec<f64> {
        let mut shares = self.ring.shares();
        if self.calm {
            return shares;
        }
        let takes = |standing: &Standing| match (standing, self.on_ejected, &self.without_returning) {
            (Standing::Live, ..) => 1.0,
            (Standing::Ejected, ..) => 0.0,
            (Standing::Returning(share), OnEjected::Pool(_), _) | (Standing::Returning(share), _, Some(_)) => {
                f64::from(*share) / 100.0
            }
            // It has nobody to share with.
            (Standing::Returning(_), ..) => 1.0,
        };
        let whole: f64 = shares.iter().sum();
        shares.iter_mut().zip(&self.standings).for_each(|(share, standing)| *share *= takes(standing));
        if let Some(others) = &self.without_returning {
            let missing = whole - shares.iter().sum::<f64>();
            spread(missing, &mut shares, &others.shares(), &self.standings);
        }
        shares
    }

    /// Every server has all of its traffic.
    #[inline]
    pub fn is_calm(&self) -> bool {
        self.calm
    }

    pub fn standing(&self, server: usize) -> Standing {
        self.standings[server]
    }

    /// Where this point of the ring leads.
    #[inline]
    pub fn way(&self, point: u32) -> Way {
        match self.ring.server(point) {
            Some(server) if self.calm => Way::Server(server),
            Some(server) => self.way_past(server, point),
            None => Way::Nowhere,
        }
    }

    fn way_past(&self, server: usize, point: u32) -> Way {
        let to_itself = match self.standings[server] {
            Standing::Live => true,
            Standing::Returning(share) => percentile(point) < u32::from(share),
            Standing::Ejected => false,
        };
        if to_itself {
            return Way::Server(server);
        }
        let returning = self.standings[server].is_live();
        match (self.on_ejected, &self.without_returning) {
            (OnEjected::Rehash, Some(others)) => others.server(point).map_or(Way::Nowhere, Way::Server),
            (OnEjected::Pool(_), _) => Way::StandIn(server),
            // It has nobody to share with.
            _ if returning => Way::Server(server),
            _ => Way::Ejected(server),
        }
    }
}

/// Gives the live servers what the returning ones do not take: to each as much of it as it would gain if they took nothing.
fn spread(missing: f64, shares: &mut [f64], without: &[f64], standings: &[Standing]) {
    let gain = |server: usize, shares: &[f64]| match standings[server] {
        Standing::Live => (without[server] - shares[server]).max(0.0),
        _ => 0.0,
    };
    let gains: Vec<f64> = (0..shares.len()).map(|server| gain(server, shares)).collect();
    let all: f64 = gains.iter().sum();
    if all > 0.0 {
        shares.iter_mut().zip(gains).for_each(|(share, gain)| *share += missing * gain / all);
    }
}

/// Spreads points evenly over 0 to 99, independently of where they lie on the ring: the same keys every time.
fn percentile(point: u32) -> u32 {
    ((u64::from(point.wrapping_mul(0x9E37_79B1) >> 8) * 100) >> 24) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings(on_ejected: OnEjected, servers: usize) -> PoolSettings {
        let list: String = (0..servers).map(|i| format!("      - 127.0.0.1:{} server{i}\n", 7000 + i)).collect();
        let text = format!("pools:\n  p:\n    listen: 127.0.0.1:1\n    servers:\n{list}");
        let mut pool = config::parse("test", &text).expect("valid").settings.pools.remove(0);
        pool.health.on_ejected = on_ejected;
        pool
    }

    fn points() -> impl Iterator<Item = u32> {
        (0..20_000u32).map(|i| i.wrapping_mul(2_654_435_761))
    }

    fn standings(servers: usize, special: Standing) -> Vec<Standing> {
        let mut all = vec![Standing::Live; servers];
        all[0] = special;
        all
    }

    #[test]
    fn a_share_of_the_returning_servers_keys_goes_to_it_and_only_grows() {
        for on_ejected in [OnEjected::Rehash, OnEjected::Pool(1)] {
            let settings = settings(on_ejected, 3);
            let home = Routing::build(&settings, vec![Standing::Live; 3]);
            let mine: Vec<u32> = points().filter(|p| home.way(*p) == Way::Server(0)).collect();
            let mut before = Vec::new();
            for share in [10, 30, 50, 90] {
                let routing = Routing::build(&settings, standings(3, Standing::Returning(share)));
                let now: Vec<u32> = mine.iter().copied().filter(|p| routing.way(*p) == Way::Server(0)).collect();
                let percent = now.len() * 100 / mine.len();
                assert!(percent.abs_diff(share.into()) < 5, "{percent} of {share}");
                assert!(before.iter().all(|p| now.contains(p)), "no key goes back");
                before = now;
            }
        }
    }

    #[test]
    fn nobody_is_sent_to_an_ejected_server() {
        let (standings, ways) = (standings(3, Standing::Ejected), |on_ejected| {
            let home = Routing::build(&settings(on_ejected, 3), vec![Standing::Live; 3]);
            (home, settings(on_ejected, 3))
        });
        for (on_ejected, expected) in [
            (OnEjected::FailFast, Some(Way::Ejected(0))),
            (OnEjected::Miss, Some(Way::Ejected(0))),
            (OnEjected::Pool(1), Some(Way::StandIn(0))),
            (OnEjected::Rehash, None),
        ] {
            let (home, settings) = ways(on_ejected);
            let routing = Routing::build(&settings, standings.clone());
            for point in points() {
                let way = routing.way(point);
                assert_ne!(way, Way::Server(0));
                match (home.way(point), expected) {
                    (Way::Server(0), Some(expected)) => assert_eq!(way, expected),
                    (Way::Server(0), None) => assert!(matches!(way, Way::Server(1 | 2))),
                    (other, Some(_)) => assert_eq!(way, other, "keys of others stay"),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_keys() {
        for on_ejected in [OnEjected::Rehash, OnEjected::Pool(1), OnEjected::FailFast, OnEjected::Miss] {
            for special in [Standing::Live, Standing::Returning(10), Standing::Returning(60), Standing::Ejected] {
                let settings = settings(on_ejected, 4);
                let routing = Routing::build(&settings, standings(4, special));
                let all = points().count() as f64;
                for (server, share) in routing.shares().iter().enumerate() {
                    let keys = points().filter(|point| routing.way(*point) == Way::Server(server)).count() as f64;
                    assert!((share - keys / all).abs() < 0.01, "{on_ejected:?} {special:?}: {share}, {}", keys / all);
                }
            }
        }
    }

    #[test]
    fn with_all_ejected_there_is_no_way_and_a_lone_returning_server_takes_all() {
        let settings = settings(OnEjected::Rehash, 2);
        assert_eq!(Routing::build(&settings, vec![Standing::Ejected; 2]).way(7), Way::Nowhere);
        let routing = Routing::build(&settings, vec![Standing::Returning(10), Standing::Ejected]);
        assert!(points().all(|p| routing.way(p) == Way::Server(0)));
    }
}
