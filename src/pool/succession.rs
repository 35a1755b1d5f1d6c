//! What goes on under new settings: which pool is which, and which of its servers.
//!
//! A name says what somebody means, so it decides. What is left over on both sides has been renamed where the address is
//! the same.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use crate::config::{PoolSettings, Protocol, ServerAddress};

/// What a pool is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolMark {
    pub protocol: Protocol,
    pub name: String,
    /// As it stands in a file.
    pub listen: String,
}

impl PoolMark {
    pub fn of(pool: &PoolSettings) -> Self {
        Self { protocol: pool.protocol, name: pool.name.clone(), listen: pool.listen.to_string() }
    }
}

/// For each new pool the index of the old one that it goes on from: of the same protocol, with its name or else its listen
/// address. `None`: it is new.
pub fn match_pools(old: &[PoolSettings], new: &[PoolSettings]) -> Vec<Option<usize>> {
    let marks = |pools: &[PoolSettings]| pools.iter().map(PoolMark::of).collect::<Vec<_>>();
    match_marks(&marks(old), &marks(new))
}

/// The same of pools of which no more is known.
pub fn match_marks(old: &[PoolMark], new: &[PoolMark]) -> Vec<Option<usize>> {
    let mut matched = vec![None; new.len()];
    pair(&mut matched, old, new, |pool| Some((pool.protocol, pool.name.as_str())));
    pair(&mut matched, old, new, |pool| Some((pool.protocol, pool.listen.as_str())));
    matched
}

/// For each server of `new` the index of the one of `old` that it goes on from: with its ring name or else its address.
/// In-process servers have no address; their name alone counts. `None`: it is new.
pub fn match_servers(old: &PoolSettings, new: &PoolSettings) -> Vec<Option<usize>> {
    let mut matched = vec![None; new.servers.len()];
    pair(&mut matched, &old.servers, &new.servers, |server| Some(server.name.as_str()));
    pair(&mut matched, &old.servers, &new.servers, |server| match &server.address {
        ServerAddress::Local => None,
        address => Some(address),
    });
    matched
}

/// Of what is not matched yet, the n-th old one with a key goes to the n-th new one with it.
fn pair<'a, T, K: Hash + Eq>(
    matched: &mut [Option<usize>],
    old: &'a [T],
    new: &'a [T],
    key: impl Fn(&'a T) -> Option<K>,
) {
    let taken: HashSet<usize> = matched.iter().copied().flatten().collect();
    let mut free: HashMap<K, VecDeque<usize>> = HashMap::new();
    for (index, one) in old.iter().enumerate().filter(|(index, _)| !taken.contains(index)) {
        if let Some(key) = key(one) {
            free.entry(key).or_default().push_back(index);
        }
    }
    for (place, one) in matched.iter_mut().zip(new).filter(|(place, _)| place.is_none()) {
        *place = key(one).and_then(|key| free.get_mut(&key)?.pop_front());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Pools from `name listen redis|memcached servers`.
    fn pools(list: &[(&str, &str, &str, &[&str])]) -> Vec<PoolSettings> {
        let pool = |&(name, listen, protocol, servers): &(&str, &str, &str, &[&str])| {
            let servers: String = servers.iter().map(|server| format!("      - {server}\n")).collect();
            format!("  {name}:\n    listen: {listen}\n    protocol: {protocol}\n    servers:\n{servers}")
        };
        let text = format!("pools:\n{}", list.iter().map(pool).collect::<String>());
        config::parse("test", &text).unwrap_or_else(|error| panic!("{error}")).settings.pools
    }

    fn servers(old: &[&str], new: &[&str]) -> Vec<(String, Option<String>)> {
        let pools = pools(&[("old", "h:1", "redis", old), ("new", "h:2", "redis", new)]);
        let [new, old] = [0, 1].map(|i| &pools[i]);
        let matched = match_servers(old, new);
        let name = |index: usize| old.servers[index].name.clone();
        new.servers.iter().zip(matched).map(|(server, index)| (server.name.clone(), index.map(name))).collect()
    }

    fn named(pairs: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        pairs.iter().map(|(new, old)| ((*new).to_owned(), old.map(str::to_owned))).collect()
    }

    #[test]
    fn a_pool_goes_on_by_its_name_wherever_it_listens() {
        let old = pools(&[("a", "h:1", "redis", &["s:1"]), ("b", "h:2", "redis", &["s:1"])]);
        let new = pools(&[("a", "h:2", "redis", &["s:9"]), ("b", "h:1", "redis", &["s:1"])]);
        assert_eq!(match_pools(&old, &new), [Some(0), Some(1)]);
    }

    #[test]
    fn a_pool_under_a_new_name_goes_on_by_its_address() {
        let old = pools(&[("a", "h:1", "redis", &["s:1"]), ("b", "h:2", "redis", &["s:1"])]);
        let new = pools(&[("b", "h:1", "redis", &["s:1"]), ("c", "h:2", "redis", &["s:1"])]);
        // The old b is taken by its name, so c is new although it listens where b did.
        assert_eq!(match_pools(&old, &new), [Some(1), None]);
        let renamed = pools(&[("b", "h:2", "redis", &["s:1"]), ("d", "h:1", "redis", &["s:1"])]);
        assert_eq!(match_pools(&old, &renamed), [Some(1), Some(0)]);
    }

    #[test]
    fn another_protocol_is_another_pool() {
        let old = pools(&[("a", "h:1", "redis", &["s:1"])]);
        let new = pools(&[("a", "h:1", "memcached", &["s:1"])]);
        assert_eq!(match_pools(&old, &new), [None]);
    }

    #[test]
    fn servers_go_on_by_name_then_by_address() {
        let old = ["10.0.0.1:1 a", "10.0.0.2:1 b", "10.0.0.3:1 c"];
        let moved = servers(&old, &["10.0.0.9:1 a", "10.0.0.2:1 b", "10.0.0.3:1 d"]);
        assert_eq!(moved, named(&[("a", Some("a")), ("b", Some("b")), ("d", Some("c"))]));
        let swapped = servers(&old, &["10.0.0.2:1 a", "10.0.0.1:1 b", "10.0.0.1:1 x"]);
        assert_eq!(swapped, named(&[("a", Some("a")), ("b", Some("b")), ("x", None)]));
    }

    #[test]
    fn one_address_twice_goes_on_in_order() {
        let twice = servers(&["10.0.0.1:1 a", "10.0.0.1:1 b"], &["10.0.0.1:1 x", "10.0.0.1:1 y", "10.0.0.1:1 z"]);
        assert_eq!(twice, named(&[("x", Some("a")), ("y", Some("b")), ("z", None)]));
    }

    #[test]
    fn a_server_in_this_process_under_a_new_name_is_a_new_one() {
        assert_eq!(servers(&["local a", "local b"], &["local b", "local c"]), named(&[("b", Some("b")), ("c", None)]));
    }
}
