//! A key lands where twemproxy puts it: the golden vectors in `tests/golden`, and what must hold for any ring.

use std::collections::HashMap;
use std::path::Path;

use outrigger::hash::{HashTag, KeyHash, tagged};
use outrigger::ring::{Distribution, Ring, RingServer, server_order, tcp_ring_name, unix_ring_name};
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

// ── The golden vectors ──────────────────────────────────────────────────────────────────────────────────────────────

/// One set: a pool, the names of its servers in ring order, and what was seen.
struct Golden {
    id: String,
    seen: Value,
    hash: KeyHash,
    tag: Option<HashTag>,
    distribution: Distribution,
    servers: Vec<ServerLine>,
}

/// A line of `servers` in nutcracker.yml.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ServerLine {
    ring_name: String,
    weight: u32,
    dead: bool,
}

#[test]
fn every_set_was_loaded() {
    let sets = golden_sets();
    let observations: usize = sets.iter().map(|set| text(&set.seen["placement"]).len()).sum();
    assert_eq!((sets.len(), observations), (61, 18_023));
}

#[test]
fn servers_are_in_twemproxys_order_under_its_names() {
    for set in golden_sets() {
        let names: Vec<&str> = set.servers.iter().map(|server| server.ring_name.as_str()).collect();
        let expected: Vec<&str> = list(&set.seen["ring_names"]).iter().map(text).collect();
        assert_eq!(names, expected, "{}", set.id);
    }
}

#[test]
fn every_server_has_twemproxys_number_of_points() {
    for set in golden_sets() {
        let expected: Vec<u32> = list(&set.seen["points"]).iter().map(number).collect();
        assert_eq!(set.ring().points_per_server(), expected, "{}", set.id);
        assert_eq!(u64::from(expected.iter().sum::<u32>()), set.seen["continuum"]["points"].as_u64().unwrap());
    }
}

#[test]
fn the_continuum_is_twemproxys_to_the_last_point() {
    let mut compared = 0;
    for set in golden_sets() {
        let Some(expected) = set.seen["continuum"]["sha256_of_u32le_value_u32le_index"].as_str() else {
            assert_eq!(set.distribution, Distribution::Modula, "{}", set.id);
            assert_eq!(set.ring().continuum().count(), 0, "{}", set.id);
            continue;
        };
        let mut sum = Sha256::new();
        for (value, server) in set.ring().continuum() {
            sum.update(value.to_le_bytes());
            sum.update((server as u32).to_le_bytes());
        }
        let sum: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, expected, "{}", set.id);
        compared += 1;
    }
    assert_eq!(compared, 40);
}

#[test]
fn every_key_is_where_twemproxy_put_it() {
    let keys = golden_keys();
    for set in golden_sets() {
        let ring = set.ring();
        let keys = &keys[text(&set.seen["keys"])];
        let placement: Vec<u8> = text(&set.seen["placement"]).bytes().collect();
        assert_eq!(keys.len(), placement.len(), "{}", set.id);
        for (key, seen) in keys.iter().zip(placement) {
            let expected = Some(usize::from(seen - b'0'));
            let point = set.hash.hash(tagged(key, set.tag));
            assert_eq!(ring.server(point), expected, "{}: {}", set.id, key.escape_ascii());
            assert_eq!(ring.locate(point).map(|found| found.server), expected, "{}", set.id);
            if !ring.needs_hash() {
                assert_eq!(ring.server(0), expected, "{}: {}", set.id, key.escape_ascii());
            }
        }
    }
}

#[test]
fn every_hash_is_twemproxys() {
    let hashes = golden("hashes.json");
    let functions: Vec<KeyHash> =
        list(&hashes["functions"]).iter().map(|name| KeyHash::from_name(text(name)).unwrap()).collect();
    assert_eq!(functions.len(), KeyHash::ALL.len());
    assert_eq!(list(&hashes["vectors"]).len(), 298);
    for row in list(&hashes["vectors"]) {
        let (key, expected) = list(row).split_first().unwrap();
        let key = unhex(text(key));
        assert_eq!(expected.len(), functions.len());
        for (function, expected) in functions.iter().zip(expected) {
            assert_eq!(function.hash(&key), number(expected), "{} of {}", function.name(), key.escape_ascii());
        }
    }
}

impl Golden {
    fn parse(seen: Value) -> Self {
        let dead: Vec<&str> = list(&seen["dead_servers"]).iter().map(text).collect();
        let lines = list(&seen["servers"]).iter().map(text);
        let mut servers: Vec<_> = lines.map(|line| ServerLine::parse(line, dead.contains(&line))).collect();
        servers.sort_by(|a, b| server_order(&a.ring_name).cmp(&server_order(&b.ring_name)));
        let tag = seen["hash_tag"].as_str().map(|tag| HashTag(tag.as_bytes().try_into().unwrap()));
        Self {
            id: text(&seen["id"]).to_owned(),
            hash: KeyHash::from_name(text(&seen["hash"])).unwrap(),
            tag,
            distribution: Distribution::from_name(text(&seen["distribution"])).unwrap(),
            servers,
            seen,
        }
    }

    fn ring(&self) -> Ring {
        let servers: Vec<RingServer> =
            self.servers.iter().map(|server| RingServer { name: &server.ring_name, weight: server.weight }).collect();
        Ring::build(self.distribution, &servers, |index| !self.servers[index].dead)
    }
}

impl ServerLine {
    /// `host:port:weight[ name]` or `/path:weight[ name]`.
    fn parse(line: &str, dead: bool) -> Self {
        let (address, name) = line.split_once(' ').map_or((line, None), |(address, name)| (address, Some(name)));
        let (address, weight) = address.rsplit_once(':').unwrap();
        let ring_name = match (name, address.rsplit_once(':')) {
            (Some(name), _) => name.to_owned(),
            (None, _) if address.starts_with('/') => unix_ring_name(address),
            (None, Some((host, port))) => tcp_ring_name(host, port),
            (None, None) => panic!("no port in {line}"),
        };
        Self { ring_name, weight: weight.parse().unwrap(), dead }
    }
}

fn golden_sets() -> Vec<Golden> {
    list(&golden("placement.json")).iter().cloned().map(Golden::parse).collect()
}

fn golden_keys() -> HashMap<String, Vec<Vec<u8>>> {
    let keys = golden("keys.json");
    let lists = keys.as_object().unwrap().iter();
    lists.map(|(name, keys)| (name.clone(), list(keys).iter().map(|key| unhex(text(key))).collect())).collect()
}

fn golden(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty());
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

// ── Any ring ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A pool of servers in ring order, with whether each is live.
#[derive(Debug, Clone)]
struct Servers(Vec<ServerLine>);

#[test]
fn with_nobody_live_nobody_is_found() {
    let servers = [RingServer { name: "a", weight: 1 }, RingServer { name: "b", weight: 1 }];
    for (name, distribution) in Distribution::ALL {
        for servers in [&servers[..], &servers[..1], &[]] {
            let ring = Ring::build(distribution, servers, |_| false);
            assert_eq!((ring.server(7), ring.locate(7)), (None, None), "{name}");
            assert_eq!(ring.shares(), vec![0.0; servers.len()], "{name}");
        }
    }
}

#[test]
fn one_server_has_every_key_unhashed() {
    for (name, distribution) in Distribution::ALL {
        let ring = Ring::build(distribution, &[RingServer { name: "a", weight: 3 }], |_| true);
        assert!(!ring.needs_hash(), "{name}");
        assert_eq!([0, 1, u32::MAX].map(|point| ring.server(point)), [Some(0); 3], "{name}");
        assert_eq!(ring.locate(9).unwrap().continuum_point, None, "{name}");
        assert_eq!(ring.shares(), [1.0], "{name}");
    }
}

#[test]
fn random_ignores_weights() {
    let servers = [("a", 9), ("b", 1), ("c", 5)].map(|(name, weight)| RingServer { name, weight });
    let ring = Ring::build(Distribution::Random, &servers, |index| index != 1);
    assert!(!ring.needs_hash());
    assert_eq!((0..4).map(|point| ring.server(point).unwrap()).collect::<Vec<_>>(), [0, 2, 0, 2]);
    assert_eq!((ring.points_per_server(), ring.shares()), (&[1, 0, 1][..], vec![0.5, 0.0, 0.5]));
}

#[test]
fn what_locate_says_is_what_the_continuum_has() {
    let servers = ["a", "b", "c"].map(|name| RingServer { name, weight: 1 });
    let ring = Ring::build(Distribution::Ketama, &servers, |_| true);
    for (value, server) in ring.continuum() {
        let found = ring.locate(value).unwrap();
        assert_eq!((found.server, found.continuum_point), (server, Some(value)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_owner_is_the_nearest_point_around_the_circle(
        servers in any_servers(), hashes in proptest::collection::vec(any::<u32>(), 1..40),
    ) {
        let ring = servers.ring(Distribution::Ketama, |_| true);
        let points: Vec<(u32, usize)> = ring.continuum().collect();
        prop_assert!(points.is_sorted());
        for hash in hashes {
            let nearest = points.iter().min_by_key(|(value, server)| (value.wrapping_sub(hash), *server));
            prop_assert_eq!(ring.server(hash), nearest.map(|&(_, server)| server));
        }
    }

    /// An ejected server leaves a ring as if it had never been configured; only indices remember it.
    #[test]
    fn a_dead_server_is_as_good_as_absent(
        servers in any_servers(),
        hashes in proptest::collection::vec(any::<u32>(), 1..40),
        distribution in any_distribution(),
    ) {
        let live: Vec<usize> = (0..servers.0.len()).filter(|&index| !servers.0[index].dead).collect();
        let rest = Servers(live.iter().map(|&index| servers.0[index].clone()).collect());
        let ejected = servers.ring(distribution, |index| !servers.0[index].dead);
        let absent = rest.ring(distribution, |_| true);
        for hash in hashes {
            prop_assert_eq!(ejected.server(hash), absent.server(hash).map(|index| live[index]));
            prop_assert_eq!(ejected.server(hash).is_none(), live.is_empty());
        }
        for index in 0..servers.0.len() {
            let place = live.iter().position(|&it| it == index);
            prop_assert_eq!(ejected.points_per_server()[index], place.map_or(0, |at| absent.points_per_server()[at]));
            prop_assert_eq!(ejected.shares()[index], place.map_or(0.0, |at| absent.shares()[at]));
        }
    }

    /// Consistent hashing: of equal servers, one that goes takes its own keys with it and moves no other, and the keys
    /// of the one that goes are spread over several of the rest. (Below 24 servers rounding costs nobody a point.)
    #[test]
    fn only_the_keys_of_a_removed_server_move(
        count in 4..24usize, gone in any::<prop::sample::Index>(),
        hashes in proptest::collection::vec(any::<u32>(), 200),
    ) {
        let line = |number| ServerLine { ring_name: format!("cache-{number:02}"), weight: 1, dead: false };
        let servers = Servers((0..count).map(line).collect());
        let gone = gone.index(count);
        let before = servers.ring(Distribution::Ketama, |_| true);
        let after = servers.ring(Distribution::Ketama, |index| index != gone);
        for hash in hashes {
            let (was, is) = (before.server(hash), after.server(hash));
            prop_assert!(is.is_some() && is != Some(gone));
            prop_assert!(was == is || was == Some(gone), "{was:?} became {is:?} although {gone} went");
        }
        let heirs = before.shares().iter().zip(after.shares()).filter(|(before, after)| after > before).count();
        prop_assert!(heirs >= 3.min(count - 1), "{heirs} heirs among {count}");
    }

    /// Each server has at most its weight's part of the points, and misses less than a group of four, or a rounding.
    #[test]
    fn points_follow_weights(servers in any_servers()) {
        let ring = servers.ring(Distribution::Ketama, |_| true);
        let total: f64 = servers.0.iter().map(|server| f64::from(server.weight)).sum();
        for (server, &points) in servers.0.iter().zip(ring.points_per_server()) {
            let ideal = f64::from(server.weight) / total * 160.0 * servers.0.len() as f64;
            prop_assert_eq!(points % 4, 0);
            prop_assert!(f64::from(points) <= ideal + 0.01 && f64::from(points) > ideal - 4.01, "{points} of {ideal}");
        }
    }

    #[test]
    fn shares_are_what_hashes_get(servers in any_servers(), distribution in any_distribution()) {
        let ring = servers.ring(distribution, |_| true);
        let shares = ring.shares();
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let samples = 5000u32;
        let mut found = vec![0u32; shares.len()];
        for number in 0..samples {
            found[ring.server(KeyHash::Murmur.hash(&number.to_le_bytes())).unwrap()] += 1;
        }
        for (share, found) in shares.iter().zip(found) {
            // Seven standard deviations of such a sample.
            prop_assert!((share - f64::from(found) / f64::from(samples)).abs() < 0.05, "{share} but {found}");
        }
    }
}

impl Servers {
    fn ring(&self, distribution: Distribution, live: impl Fn(usize) -> bool) -> Ring {
        let servers: Vec<RingServer> =
            self.0.iter().map(|server| RingServer { name: &server.ring_name, weight: server.weight }).collect();
        Ring::build(distribution, &servers, live)
    }
}

fn any_distribution() -> impl Strategy<Value = Distribution> {
    prop::sample::select(Distribution::ALL.map(|(_, distribution)| distribution).to_vec())
}

/// One to eight servers with weights from 1 to 1000, some of them dead.
fn any_servers() -> impl Strategy<Value = Servers> {
    let name = "[a-z0-9.:-]{1,12}";
    proptest::collection::btree_map(name, (1..=1000u32, any::<bool>()), 1..=8).prop_map(|servers| {
        let line = |(ring_name, (weight, dead))| ServerLine { ring_name, weight, dead };
        let mut servers: Vec<_> = servers.into_iter().map(line).collect();
        servers.sort_by(|a, b| server_order(&a.ring_name).cmp(&server_order(&b.ring_name)));
        Servers(servers)
    })
}
