//! Where sessions of the process before go on, and what is known of its servers: which of its pools is which of ours.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Protocol;
use crate::pool::{PoolId, PoolMark, SharedPool, Topology, match_marks};
use crate::upgrade::KnownPool;

/// More than that, in bytes, is not said of the pools: it has to fit into one message. Some five hundred pools.
const MOST_SAID: usize = 48 << 10;
/// Beside its texts a pool takes so many bytes.
const FRAME: usize = 64;

/// Pools of the process before, and the pool here that each of them goes on as. It stays that one through reloads.
pub(super) struct Homes(HashMap<(Protocol, String), PoolId>);

impl Homes {
    /// The same that a reload would find between the two configurations. `old` is empty if the process before has not said which
    /// pools it has; then the name alone decides, as an address may have been another pool's.
    pub fn new(old: &[KnownPool], topology: &Topology) -> Self {
        let new: Vec<PoolMark> = topology.pools.iter().map(|pool| PoolMark::of(&pool.settings)).collect();
        let old: Vec<PoolMark> = if old.is_empty() { new.clone() } else { old.iter().filter_map(mark).collect() };
        let matched = match_marks(&old, &new).into_iter().zip(&topology.pools);
        let home = |(index, pool): (Option<usize>, &Arc<SharedPool>)| {
            let PoolMark { protocol, name, .. } = old.get(index?)?;
            Some(((*protocol, name.clone()), pool.id))
        };
        Self(matched.filter_map(home).collect())
    }

    /// What the pool of this name goes on as; `None`: it is gone.
    pub fn find<'t>(&self, protocol: Protocol, name: &str, topology: &'t Topology) -> Option<&'t Arc<SharedPool>> {
        let id = self.0.get(&(protocol, name.to_owned()))?;
        topology.pools.iter().find(|pool| pool.id == *id)
    }
}

fn mark(known: &KnownPool) -> Option<PoolMark> {
    let KnownPool { protocol, name, listen } = known;
    let protocol = [Protocol::Redis, Protocol::Memcached].into_iter().find(|own| own.name() == protocol)?;
    Some(PoolMark { protocol, name: name.clone(), listen: listen.clone() })
}

/// For the next process; nothing, if that would be too much.
pub(super) fn known(topology: &Topology) -> Vec<KnownPool> {
    let known = |pool: &Arc<SharedPool>| {
        let PoolMark { protocol, name, listen } = PoolMark::of(&pool.settings);
        KnownPool { protocol: protocol.name().to_owned(), name, listen }
    };
    let all: Vec<KnownPool> = topology.pools.iter().map(known).collect();
    let said: usize = all.iter().map(|pool| FRAME + pool.name.len() + pool.listen.len()).sum();
    if said > MOST_SAID { Vec::new() } else { all }
}
