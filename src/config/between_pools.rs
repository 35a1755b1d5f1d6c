//! What must hold between the pools of a file: listen addresses are unique, the pool that stands in for another one
//! exists and can; and what is hardly meant where pools share servers.

use std::collections::{HashMap, HashSet};

use super::fields::{Places, closest};
use super::health::POLICIES;
use super::pool::ReadPool;
use super::report::{Report, quoted};
use super::settings::{ListenAddress, OnEjected, OnReadmit, PoolSettings, ServerAddress, Settings};
use super::value::Value;

/// Pools whose names a misspelled one is compared with.
const MOST_COMPARED: usize = 100;

/// Two pools cannot have one address, nor can operators have that of a pool.
pub(super) fn check_listens(pools: &[ReadPool<'_>], globals: &Settings, report: &Report<'_>) {
    let admin = globals.admin.listen.as_ref().filter(|_| globals.admin.asked_for).map(ListenAddress::to_string);
    let mut first: HashMap<String, &str> = HashMap::new();
    for ReadPool { settings, places, .. } in pools {
        let Some(at) = places.of("listen") else { continue };
        let address = settings.listen.to_string();
        for (owner, taken) in [("the statistics have", &globals.stats_listen), ("the admin port has", &admin)] {
            if taken.as_ref() == Some(&address) {
                let address = quoted(&address);
                report.error(at, format!("duplicate listen address: {address}; {owner} it already, allowed: once"));
            }
        }
        if let Some(other) = first.get(&address) {
            let (address, other) = (quoted(&address), quoted(other));
            report
                .error(at, format!("duplicate listen address: {address}; pool {other} has it already, allowed: once"));
        } else {
            first.insert(address, &settings.name);
        }
    }
}

/// Replaces the names in `on_ejected` by indices. `pools`: in their final order; `names`: of all pools of the file, of
/// those too that could not be read.
pub(super) fn resolve_stand_ins(pools: &mut [ReadPool<'_>], names: &HashSet<&str>) {
    let mut indices = HashMap::new();
    for (index, pool) in pools.iter().enumerate() {
        indices.entry(pool.settings.name.clone()).or_insert(index);
    }
    for own in 0..pools.len() {
        let Some(value) = pools[own].stand_in else { continue };
        let Some(name) = value.node.scalar() else { continue };
        match indices.get(name) {
            Some(index) => match unfit(own, *index, pools) {
                None => pools[own].settings.health.on_ejected = OnEjected::Pool(*index),
                Some(why) => value.reject(&format!("{why}; {}", allowed(&pools[own].settings))),
            },
            // What is wrong with that pool has been reported.
            None if names.contains(name) => {}
            None => reject_unknown(value, name, own, pools),
        }
    }
}

/// Why one pool cannot stand in for another.
fn unfit(own: usize, other: usize, pools: &[ReadPool<'_>]) -> Option<String> {
    let (pool, stand_in) = (&pools[own].settings, &pools[other]);
    if own == other {
        Some("a pool cannot stand in for itself".to_owned())
    } else if stand_in.settings.protocol != pool.protocol {
        Some(format!("that is a {} pool", stand_in.settings.protocol.name()))
    } else if stand_in.stand_in.is_some() {
        Some("its own on_ejected names a pool, and chains are not followed".to_owned())
    } else if let Some(databases) = pool.databases
        && (stand_in.settings.databases < Some(databases) || stand_in.settings.redis_db != pool.redis_db)
    {
        let own = pool.redis_db;
        Some(format!(
            "the databases of that pool are others; it needs `databases: {databases}` and `redis_db: {own}` too"
        ))
    } else {
        None
    }
}

fn reject_unknown(value: Value<'_>, name: &str, own: usize, pools: &[ReadPool<'_>]) {
    let fit = (0..pools.len()).filter(|other| unfit(own, *other, pools).is_none()).take(MOST_COMPARED);
    let mut known: Vec<&str> = POLICIES.iter().map(|(policy, _)| *policy).collect();
    known.extend(fit.map(|other| pools[other].settings.name.as_str()));
    let hint = closest(name, &known).map_or(String::new(), |near| format!("did you mean {}? ", quoted(near)));
    value.reject(&format!("{hint}{}", allowed(&pools[own].settings)));
}

fn allowed(pool: &PoolSettings) -> String {
    let protocol = pool.protocol.name();
    format!("allowed: rehash, fail_fast, miss, or the name of another {protocol} pool, whose own on_ejected names none")
}

/// Warns of what is hardly meant. `pools`: resolved.
pub(super) fn traps(pools: &[ReadPool<'_>], names: &HashSet<&str>, report: &Report<'_>) {
    let mut users: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, pool) in pools.iter().enumerate() {
        for address in addresses(&pool.settings) {
            users.entry(address).or_default().push(index);
        }
    }
    for ReadPool { settings, places, .. } in pools {
        policy_or_pool(settings, places, names, report);
        stand_in_shares_a_server(settings, places, pools, report);
        flush_reaches_another_pool(settings, places, pools, &users, report);
    }
}

/// A pool may be named like a policy, and cannot stand in then.
fn policy_or_pool(settings: &PoolSettings, places: &Places, names: &HashSet<&str>, report: &Report<'_>) {
    let policy = POLICIES.iter().find(|(_, policy)| *policy == settings.health.on_ejected);
    if let (Some((name, _)), Some(at)) = (policy, places.of("on_ejected"))
        && names.contains(name)
    {
        report.warn(at, format!("'{name}' is the policy here, not the pool of that name, which cannot stand in"));
    }
}

/// A server that is down for one pool is so for the other.
fn stand_in_shares_a_server(settings: &PoolSettings, places: &Places, pools: &[ReadPool<'_>], report: &Report<'_>) {
    let OnEjected::Pool(index) = settings.health.on_ejected else { return };
    let (Some(other), Some(at)) = (pools.get(index), places.of("on_ejected")) else { return };
    let own: HashSet<String> = addresses(settings).collect();
    if let Some(shared) = addresses(&other.settings).find(|address| own.contains(address)) {
        let (other, shared) = (quoted(&other.settings.name), quoted(&shared));
        report.warn(at, format!("pool {other} has the server {shared} too, which cannot stand in for itself"));
    }
}

/// Flushing a server empties it for every pool that uses it: memcached whole, Redis the databases of the pool.
fn flush_reaches_another_pool(
    settings: &PoolSettings,
    places: &Places,
    pools: &[ReadPool<'_>],
    users: &HashMap<String, Vec<usize>>,
    report: &Report<'_>,
) {
    let flushes = |pool: &PoolSettings| pool.health.eject && pool.health.on_readmit == OnReadmit::Flush;
    let Some(at) = places.of("on_readmit").filter(|_| flushes(settings)) else { return };
    let loses = |other: &PoolSettings| {
        !flushes(other) && other.protocol == settings.protocol && shares_a_database(settings, other)
    };
    for address in addresses(settings) {
        let others = users.get(&address).into_iter().flatten().filter_map(|index| pools.get(*index));
        if let Some(other) = others.map(|other| &other.settings).find(|other| loses(other)) {
            let (address, other) = (quoted(&address), quoted(&other.name));
            report
                .warn(at, format!("'flush' empties the server {address} for pool {other} as well, which uses it too"));
            return;
        }
    }
}

/// Whether clients of both may work in the same database of a server.
fn shares_a_database(one: &PoolSettings, other: &PoolSettings) -> bool {
    let both = one.databases.is_some() && other.databases.is_some();
    both || one.serves_database(other.redis_db) || other.serves_database(one.redis_db)
}

/// Of the servers that another pool could have too.
fn addresses(settings: &PoolSettings) -> impl Iterator<Item = String> {
    let outside = settings.servers.iter().filter(|server| server.address != ServerAddress::Local);
    outside.map(|server| server.address.to_string())
}
