//! The ring: from the hash of a key to the index of a server.
//!
//! ```text
//!   key ──tagged──► part ──KeyHash──► point (u32) ──Ring──► server index ──► backend
//! ```
//! A ring is immutable and knows its live servers only: an ejection, a return and a reload each build a new one.
//! Server indices are places in [`server_order`], the ejected servers counted, and so stay the same.

mod index;
mod ketama;
mod modula;
mod names;
mod runs;

use ketama::Continuum;
use modula::Modula;

pub use names::{server_order, tcp_ring_name, unix_ring_name};
pub use runs::{KnownPoints, Runs, Share};

/// How the ring spreads hashes over servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Distribution {
    #[default]
    Ketama,
    Modula,
    Random,
}

impl Distribution {
    /// Every distribution with its name in configuration files.
    pub const ALL: [(&'static str, Distribution); 3] =
        [("ketama", Distribution::Ketama), ("modula", Distribution::Modula), ("random", Distribution::Random)];

    /// The distribution with this configuration name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, d)| *d)
    }

    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// A server as the ring sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingServer<'a> {
    /// The ring name: given, or from [`tcp_ring_name`] or [`unix_ring_name`].
    pub name: &'a str,
    /// At least 1; 0 counts as 1.
    pub weight: u32,
}

/// The map from points to servers, for one set of live servers.
#[derive(Debug, Clone)]
pub struct Ring {
    map: Map,
    needs_hash: bool,
    /// Per server, the ejected ones included: points of the continuum, or entries in modula's or random's list.
    points_per_server: Vec<u32>,
}

/// Where a point leads, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    pub server: usize,
    /// The value of the continuum's point that owns the hash; `None` where no hash or no continuum decides.
    pub continuum_point: Option<u32>,
}

#[derive(Debug, Clone)]
enum Map {
    Ketama(Continuum),
    Modula(Modula),
    /// Every live server once.
    Random(Modula),
}

impl Ring {
    /// The ring of those `servers` for which `live` says true. `servers` are in [`server_order`].
    pub fn build(distribution: Distribution, servers: &[RingServer], live: impl Fn(usize) -> bool) -> Self {
        debug_assert!(servers.is_sorted_by_key(|server| server_order(server.name)));
        let live: Vec<(u32, u32)> = (0..)
            .zip(servers)
            .filter(|&(index, _)| live(index as usize))
            .map(|(index, server)| (index, server.weight.max(1)))
            .collect();
        let (map, points): (Map, Vec<u32>) = match distribution {
            Distribution::Ketama => {
                let (continuum, counts) = continuum(servers, &live);
                (Map::Ketama(continuum), counts)
            }
            Distribution::Modula => (Map::Modula(Modula::new(&live)), live.iter().map(|&(_, weight)| weight).collect()),
            Distribution::Random => {
                let once: Vec<_> = live.iter().map(|&(index, _)| (index, 1)).collect();
                (Map::Random(Modula::new(&once)), vec![1; live.len()])
            }
        };
        let mut points_per_server = vec![0; servers.len()];
        for (&(index, _), count) in live.iter().zip(points) {
            points_per_server[index as usize] = count;
        }
        Self { map, needs_hash: servers.len() > 1 && distribution != Distribution::Random, points_per_server }
    }

    /// Whether [`server`](Self::server) looks at the hash of a key. If not, `random` wants a random number instead, and
    /// a pool of one server takes any.
    #[inline]
    pub fn needs_hash(&self) -> bool {
        self.needs_hash
    }

    /// The index of the server that a point belongs to; `None` only if no server is live.
    #[inline]
    pub fn server(&self, point: u32) -> Option<usize> {
        match &self.map {
            Map::Ketama(continuum) => continuum.server(point),
            Map::Modula(list) | Map::Random(list) => list.server(point),
        }
    }

    /// [`server`](Self::server) for people: with the point of the continuum that decided.
    pub fn locate(&self, point: u32) -> Option<Located> {
        match &self.map {
            Map::Ketama(continuum) if self.needs_hash => {
                let owner = continuum.point(point)?;
                Some(Located { server: owner.server as usize, continuum_point: Some(owner.value) })
            }
            _ => Some(Located { server: self.server(point)?, continuum_point: None }),
        }
    }

    /// Per server: its points of the continuum, or its entries in the list of modula or random. 0 where it is not live,
    /// or where ketama has rounded its weight away.
    pub fn points_per_server(&self) -> &[u32] {
        &self.points_per_server
    }

    /// Per server: its share of all hashes, from 0 to 1 (to the precision of an `f64`).
    pub fn shares(&self) -> Vec<f64> {
        if let Map::Ketama(continuum) = &self.map {
            return continuum.shares(self.points_per_server.len());
        }
        let total: f64 = self.points_per_server.iter().copied().map(f64::from).sum();
        let share = |&count: &u32| if count == 0 { 0.0 } else { f64::from(count) / total };
        self.points_per_server.iter().map(share).collect()
    }

    /// ketama's points in ascending order, with the index of their server; nothing for other distributions.
    pub fn continuum(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        let points = match &self.map {
            Map::Ketama(continuum) => continuum.points(),
            Map::Modula(_) | Map::Random(_) => &[],
        };
        points.iter().map(|point| (point.value, point.server as usize))
    }
}

/// How many points of ketama's continuum each server has when all are live; 0: its weight was rounded away. A small part of
/// the work of building a ring.
pub fn ketama_points(servers: &[RingServer]) -> Vec<u32> {
    let weights = || servers.iter().map(|server| server.weight.max(1));
    let total = weights().map(u64::from).sum();
    weights().map(|weight| ketama::point_count(weight, total, servers.len())).collect()
}

/// ketama's points for the live servers, given by index and weight, and how many each has.
fn continuum(servers: &[RingServer], live: &[(u32, u32)]) -> (Continuum, Vec<u32>) {
    let total = live.iter().map(|&(_, weight)| u64::from(weight)).sum();
    let counts: Vec<u32> = live.iter().map(|&(_, weight)| ketama::point_count(weight, total, live.len())).collect();
    let points = live
        .iter()
        .zip(&counts)
        .flat_map(|(&(index, _), &count)| ketama::points_of(servers[index as usize].name, index, count))
        .collect();
    (Continuum::new(points), counts)
}
