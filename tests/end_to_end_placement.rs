//! Where keys go: Outrigger and Debian's twemproxy over the same servers find each other's keys.

mod support;

use support::servers::Nutcracker;
use support::{Outrigger, Pool, Server};

const KEYS: usize = 300;

/// Settings of one pool, as both programs read them.
const SETTINGS: [&[&str]; 9] = [
    &[],
    &["hash: fnv1a_64", "distribution: ketama"],
    &["hash: murmur", "distribution: ketama", "hash_tag: \"{}\""],
    &["hash: md5", "distribution: modula"],
    &["hash: crc16", "distribution: modula", "hash_tag: \"$$\""],
    &["hash: jenkins", "distribution: ketama"],
    &["hash: hsieh", "distribution: modula"],
    &["hash: crc32a", "distribution: ketama"],
    &["hash: one_at_a_time", "distribution: ketama"],
];

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|n| match n % 4 {
        0 => format!("user:{{{}}}:name{n}", n / 8),
        1 => format!("plain-{n}"),
        2 => format!("${n}$rest"),
        _ => format!("f\u{f6}\u{f6}:{{}}{n}"),
    })
}

/// The proxies work at the same time, each finds the keys that the other has set, and each key is on one server only.
fn compare(settings: &[&str], redis: bool, servers: &[Server]) -> bool {
    let mut lines = settings.to_vec();
    lines.push(if redis { "redis: true" } else { "redis: false" });
    let Some(theirs) = Nutcracker::start(&lines, servers) else { return false };
    let pool = if redis { Pool::redis("pool", servers) } else { Pool::memcached("pool", servers) };
    let ours = Outrigger::start([settings.iter().fold(pool, |pool, line| pool.set(line))]);
    let (mut ours, mut theirs) = (ours.client(), theirs.client());
    for (number, key) in keys().enumerate() {
        let (set, get, found) = match redis {
            true => (format!("SET {key} {number}"), format!("GET {key}"), format!("\"{number}\"")),
            false => {
                let digits = number.to_string().len();
                let found = format!("VALUE {key} 0 {digits}|{number}|END");
                (format!("set {key} 0 0 {digits}|{number}"), format!("get {key}"), found)
            }
        };
        let (setter, getter) = if number % 2 == 0 { (&mut ours, &mut theirs) } else { (&mut theirs, &mut ours) };
        let (stored, got) = match redis {
            true => (setter.ask(&set), getter.ask(&get)),
            false => (setter.tell(&set), getter.tell(&get)),
        };
        assert_eq!((stored.trim_start_matches('+').len() > 1, got), (true, found), "{settings:?}: {key}");
    }
    true
}

#[test]
fn redis_keys_are_where_twemproxy_looks_for_them() {
    let servers = need!(Server::three(Server::redis));
    for settings in SETTINGS {
        if !compare(settings, true, &servers) {
            return;
        }
        let mut count = 0;
        for server in &servers {
            let size: usize = server.client().ask("DBSIZE").parse().unwrap();
            assert!(size < KEYS, "{settings:?}: all keys on one server");
            count += size;
            assert_eq!(server.client().ask("FLUSHALL"), "+OK");
        }
        assert_eq!(count, KEYS, "{settings:?}: each key once");
    }
}

#[test]
fn memcached_keys_are_where_twemproxy_looks_for_them() {
    let servers = need!(Server::three(Server::memcached));
    for settings in SETTINGS {
        if !compare(settings, false, &servers) {
            return;
        }
        for server in &servers {
            assert_eq!(server.client().tell("flush_all"), "OK");
        }
    }
}

#[test]
fn keys_of_one_command_are_where_twemproxy_looks_for_them() {
    let servers = need!(Server::three(Server::redis));
    let theirs = need!(Nutcracker::start(&["redis: true", "hash: murmur"], &servers));
    let ours = Outrigger::start([Pool::redis("pool", &servers).set("hash: murmur")]);
    let (mut ours, mut theirs) = (ours.client(), theirs.client());
    let pairs: String = keys().enumerate().map(|(n, key)| format!(" {key} {n}")).collect();
    let all: String = keys().map(|key| format!(" {key}")).collect();
    assert_eq!(ours.ask(&format!("MSET{pairs}")), "+OK");
    let expected = ours.ask(&format!("MGET{all}"));
    assert!(!expected.contains("nil"), "{expected}");
    assert_eq!(theirs.ask(&format!("MGET{all}")), expected);
    assert_eq!(theirs.ask(&format!("DEL{all}")), KEYS.to_string());
    assert_eq!(ours.ask(&format!("EXISTS{all}")), "0");
}
