//! Keys that move: which share of a pool's keys is looked for elsewhere than before.

use std::collections::HashMap;

use crate::config::{PoolSettings, Protocol, ServerAddress};
use crate::ring::{Distribution, KnownPoints, Runs};

use super::{MovedKeys, Precision};

/// Shares by server, in ring order.
pub(super) struct Moves {
    pub before: Vec<f64>,
    pub after: Vec<f64>,
    pub moved: MovedKeys,
}

/// Where a value lies. The name of a server is no part of it, unless it has no address.
#[derive(PartialEq, Eq, Hash)]
enum Holder<'a> {
    Outside(&'a ServerAddress, u32),
    Local(&'a str),
}

/// Whether anything has changed that the place of a key depends on.
pub(super) fn are_possible(old: &PoolSettings, new: &PoolSettings) -> bool {
    let placement = |pool: &PoolSettings| (pool.hash, pool.hash_tag, pool.distribution, database(pool));
    placement(old) != placement(new) || old.servers != new.servers
}

/// With every server live.
pub(super) fn between(old: &PoolSettings, new: &PoolSettings) -> Moves {
    let mut known = KnownPoints::default();
    let before = Runs::of(old.distribution, &old.ring_servers(), &mut known);
    let after = Runs::of(new.distribution, &new.ring_servers(), &mut known);
    let (holders, new_holders) = holders(old, new);
    let (shares, new_shares) = (before.shares(), after.shares());
    let another = || another_share((&holders, &shares), (&new_holders, &new_shares));
    let counted = || before.moved(&after, |one, other| holders[one] == new_holders[other]);
    let (share, precision) = if old.distribution == Distribution::Random {
        (0.0, Precision::AnyServer)
    } else if new.distribution == Distribution::Random || old.hash != new.hash {
        (another(), Precision::About)
    } else if old.hash_tag != new.hash_tag {
        // A key without the tag has the hash that it had.
        (another().max(counted().share), Precision::AtMost)
    } else {
        let counted = counted();
        (counted.share, if counted.exact { Precision::Exact } else { Precision::About })
    };
    Moves { before: shares, after: new_shares, moved: MovedKeys { share, precision } }
}

/// Where the values of each server lie, before and after: equal numbers, one place.
fn holders(old: &PoolSettings, new: &PoolSettings) -> (Vec<usize>, Vec<usize>) {
    fn number<'a>(pool: &'a PoolSettings, numbers: &mut HashMap<Holder<'a>, usize>) -> Vec<usize> {
        let mut numbered = Vec::with_capacity(pool.servers.len());
        for server in &pool.servers {
            let holder = match &server.address {
                ServerAddress::Local => Holder::Local(&server.name),
                address => Holder::Outside(address, database(pool)),
            };
            let next = numbers.len();
            numbered.push(*numbers.entry(holder).or_insert(next));
        }
        numbered
    }
    let mut numbers = HashMap::new();
    (number(old, &mut numbers), number(new, &mut numbers))
}

fn database(pool: &PoolSettings) -> u32 {
    if pool.protocol == Protocol::Redis { pool.redis_db } else { 0 }
}

/// The share of keys that are at another place if the place after says nothing about the one before.
fn another_share((before, shares): (&[usize], &[f64]), (after, new_shares): (&[usize], &[f64])) -> f64 {
    let mut share_of: HashMap<usize, f64> = HashMap::new();
    for (holder, share) in before.iter().zip(shares) {
        *share_of.entry(*holder).or_default() += share;
    }
    let both = |(holder, share): (&usize, &f64)| share_of.get(holder).map_or(0.0, |before| before * share);
    let stays: f64 = after.iter().zip(new_shares).map(both).sum();
    (1.0 - stays).clamp(0.0, 1.0)
}
