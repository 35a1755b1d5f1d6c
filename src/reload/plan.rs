//! The plan: what changes from one configuration to another, and what that means for keys and clients. Pure, so that it
//! can be shown before anything is done; what goes on as what is decided by [`match_pools`] and [`match_servers`], for the
//! plan as for those who carry it out.
//!
//! ```text
//! old ─┐                   ┌─ keys of the file with other values
//!      ├─ pools matched ───┼─ servers matched ── shares of the keys before and after
//! new ─┘                   └─ listeners opened and closed
//! ```

mod moves;
mod summary;
mod text;

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::config::{PoolSettings, Row, ServerSettings, Settings};
use crate::pool::{match_pools, match_servers};

/// What only a restart can change: the data threads, which clients and servers are bound to.
const NEEDS_RESTART: [&str; 1] = ["workers"];

/// All that differs between two configurations.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Plan {
    /// Beside the pools.
    settings: Vec<Change>,
    needs_restart: Vec<Change>,
    /// In the order of the new configuration, then those that are removed.
    pools: Vec<PoolChange>,
    unchanged_pools: usize,
    listeners: Vec<ListenerChange>,
}

/// A key of the file with another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub key: &'static str,
    pub before: String,
    pub after: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum PoolChange {
    Added(WholePool),
    Removed(WholePool),
    Changed(ChangedPool),
}

/// A pool that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WholePool {
    pub name: String,
    pub listen: String,
    pub protocol: &'static str,
    pub servers: usize,
}

/// A pool that goes on with other settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangedPool {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    pub settings: Vec<Change>,
    #[serde(flatten)]
    pub moved: MovedKeys,
    /// In ring order, then those that are removed. Empty if nothing has changed that keys or servers depend on.
    pub servers: Vec<ServerPlan>,
}

/// The share of a pool's keys whose values are elsewhere: at a server with another address, or in another database.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MovedKeys {
    /// From 0 to 1, with every server live.
    #[serde(rename = "keys_moved")]
    pub share: f64,
    pub precision: Precision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Every hash was counted.
    Exact,
    /// What is to be expected: of keys whose hash is another one, or from a sample.
    About,
    /// It depends on how many keys have the hash tag.
    AtMost,
    /// With `random` a key has no place that it could move from.
    AnyServer,
}

/// A server of a changed pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerPlan {
    pub name: String,
    pub address: String,
    pub weight: u32,
    pub change: ServerChange,
    /// Of its `name`, `address` and `weight`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Change>,
    /// Its share of the pool's keys, from 0 to 1; `None` if it was not there.
    pub share_before: Option<f64>,
    /// The same; `None` if it goes.
    pub share_after: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerChange {
    Kept,
    Changed,
    Added,
    Removed,
}

/// What becomes of a listen address. One that stays with its pool is not mentioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ListenerChange {
    Opened {
        address: String,
        pool: String,
    },
    Closed {
        address: String,
        pool: String,
    },
    /// It stays open, with another pool behind it.
    Passed {
        address: String,
        from: String,
        to: String,
    },
}

impl Plan {
    /// What leads from one configuration to the other.
    pub fn between(old: &Settings, new: &Settings) -> Self {
        let matched = match_pools(&old.pools, &new.pools);
        let (needs_restart, settings) =
            changes(old.rows(), new.rows()).into_iter().partition(|change| NEEDS_RESTART.contains(&change.key));
        let mut settings: Vec<Change> = settings;
        if old.admin.token != new.admin.token && settings.iter().all(|change| change.key != "admin.token") {
            // Another token, which looks the same.
            settings.push(Change { key: "admin.token", before: "***".to_owned(), after: "***".to_owned() });
        }
        let mut plan = Self { settings, needs_restart, listeners: listeners(old, new, &matched), ..Self::default() };
        for (pool, index) in new.pools.iter().zip(&matched) {
            match index.map(|index| &old.pools[index]) {
                None => plan.pools.push(PoolChange::Added(WholePool::of(pool))),
                Some(before) => match changed_pool((before, &old.pools), (pool, &new.pools)) {
                    Some(changed) => plan.pools.push(PoolChange::Changed(changed)),
                    None => plan.unchanged_pools += 1,
                },
            }
        }
        plan.pools.extend(removed(&old.pools, &matched).map(|(_, pool)| PoolChange::Removed(WholePool::of(pool))));
        plan
    }

    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.needs_restart.is_empty() && self.pools.is_empty() && self.listeners.is_empty()
    }

    /// What a reload leaves as it was: only a restart can change it.
    pub fn needs_restart(&self) -> &[Change] {
        &self.needs_restart
    }

    /// Pools that come, go or change.
    pub fn pools(&self) -> &[PoolChange] {
        &self.pools
    }

    pub fn listeners(&self) -> &[ListenerChange] {
        &self.listeners
    }
}

impl WholePool {
    fn of(pool: &PoolSettings) -> Self {
        Self {
            name: pool.name.clone(),
            listen: pool.listen.to_string(),
            protocol: pool.protocol.name(),
            servers: pool.servers.len(),
        }
    }
}

/// What no new one goes on from, with its index.
fn removed<'a, T>(old: &'a [T], matched: &[Option<usize>]) -> impl Iterator<Item = (usize, &'a T)> + use<'a, T> {
    let kept: HashSet<usize> = matched.iter().copied().flatten().collect();
    old.iter().enumerate().filter(move |(index, _)| !kept.contains(index))
}

/// Both have the same keys in the same order.
fn changes(before: Vec<Row>, after: Vec<Row>) -> Vec<Change> {
    let rows = before.into_iter().zip(after);
    let changed = rows.filter(|(before, after)| before != after);
    changed.map(|((key, before), (_, after))| Change { key, before, after }).collect()
}

/// A pool before and after, each with all pools of its configuration; `None` if it is the same.
fn changed_pool(
    (old, all_old): (&PoolSettings, &[PoolSettings]),
    (new, all_new): (&PoolSettings, &[PoolSettings]),
) -> Option<ChangedPool> {
    let mut settings = changes(old.rows(all_old), new.rows(all_new));
    if old.redis_auth != new.redis_auth && settings.iter().all(|change| change.key != "redis_auth") {
        // Another password, which looks the same.
        settings.push(Change { key: "redis_auth", before: "***".to_owned(), after: "***".to_owned() });
    }
    if old.users != new.users && settings.iter().all(|change| change.key != "users") {
        settings.push(Change { key: "users", before: "***".to_owned(), after: "***".to_owned() });
    }
    let renamed_from = (old.name != new.name).then(|| old.name.clone());
    let (moved, servers) = match moves::are_possible(old, new) {
        true => servers(old, new),
        false => (MovedKeys { share: 0.0, precision: Precision::Exact }, Vec::new()),
    };
    if settings.is_empty() && renamed_from.is_none() && servers.is_empty() {
        return None;
    }
    Some(ChangedPool { name: new.name.clone(), renamed_from, settings, moved, servers })
}

/// Every server of a pool, and what becomes of its keys.
fn servers(old: &PoolSettings, new: &PoolSettings) -> (MovedKeys, Vec<ServerPlan>) {
    let matched = match_servers(old, new);
    let moves = moves::between(old, new);
    let mut plans = Vec::with_capacity(new.servers.len());
    for (place, (server, index)) in new.servers.iter().zip(&matched).enumerate() {
        let settings = index.map_or(Vec::new(), |index| changes(rows(&old.servers[index]), rows(server)));
        let change = match (index, settings.is_empty()) {
            (None, _) => ServerChange::Added,
            (Some(_), true) => ServerChange::Kept,
            (Some(_), false) => ServerChange::Changed,
        };
        let shares = (index.map(|index| moves.before[index]), Some(moves.after[place]));
        plans.push(ServerPlan::of(server, change, settings, shares));
    }
    plans.extend(removed(&old.servers, &matched).map(|(index, server)| {
        ServerPlan::of(server, ServerChange::Removed, Vec::new(), (Some(moves.before[index]), None))
    }));
    (moves.moved, plans)
}

fn rows(server: &ServerSettings) -> Vec<Row> {
    let ServerSettings { name, address, weight } = server;
    vec![("name", name.clone()), ("address", address.to_string()), ("weight", weight.to_string())]
}

impl ServerPlan {
    fn of(
        server: &ServerSettings,
        change: ServerChange,
        settings: Vec<Change>,
        (share_before, share_after): (Option<f64>, Option<f64>),
    ) -> Self {
        let ServerSettings { name, address, weight } = server;
        let (name, address, weight) = (name.clone(), address.to_string(), *weight);
        Self { name, address, weight, change, settings, share_before, share_after }
    }
}

/// By address. `matched`: of the pools.
fn listeners(old: &Settings, new: &Settings, matched: &[Option<usize>]) -> Vec<ListenerChange> {
    let addresses = |settings: &Settings| -> HashMap<String, usize> {
        settings.pools.iter().enumerate().map(|(index, pool)| (pool.listen.to_string(), index)).collect()
    };
    let (before, after) = (addresses(old), addresses(new));
    let mut changes = Vec::new();
    for (index, pool) in new.pools.iter().enumerate() {
        let (address, pool) = (pool.listen.to_string(), pool.name.clone());
        match before.get(&address) {
            None => changes.push(ListenerChange::Opened { address, pool }),
            Some(from) if matched[index] == Some(*from) => {}
            Some(from) => {
                changes.push(ListenerChange::Passed { address, from: old.pools[*from].name.clone(), to: pool })
            }
        }
    }
    let closed = old.pools.iter().map(|pool| (pool.listen.to_string(), pool.name.clone()));
    let closed = closed.filter(|(address, _)| !after.contains_key(address));
    changes.extend(closed.map(|(address, pool)| ListenerChange::Closed { address, pool }));
    changes
}
