//! What a change of the configuration means, before it is made: `outrigger diff`, and the plan behind it.

use std::path::Path;
use std::process::{Command, Output};

use outrigger::config::{self, PoolSettings, ServerAddress, Settings};
use outrigger::hash::tagged;
use outrigger::reload::{ListenerChange, MovedKeys, Plan, PoolChange, Precision};
use outrigger::ring::{Distribution, Ring};
use proptest::prelude::*;

fn settings(text: &str) -> Settings {
    config::parse("test", text).unwrap_or_else(|error| panic!("{error}")).settings
}

/// Pool `p` with these keys and servers, given as `host:port[:weight] name`.
fn pool(keys: &str, servers: &[&str]) -> Settings {
    let servers: String = servers.iter().map(|server| format!("      - {server}\n")).collect();
    settings(&format!("pools:\n  p:\n    listen: h:1\n{keys}    servers:\n{servers}"))
}

fn between(old: &str, new: &str) -> Plan {
    Plan::between(&settings(old), &settings(new))
}

/// What becomes of the keys of the one pool that changes.
fn moved(plan: &Plan) -> MovedKeys {
    match plan.pools() {
        [PoolChange::Changed(pool)] => pool.moved,
        other => panic!("{other:?}"),
    }
}

// ── The text ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn diff(arguments: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    Command::new(env!("CARGO_BIN_EXE_outrigger")).arg("diff").args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn diff_shows_what_changes() {
    let output = diff(&["old.yml", "new.yml"]);
    let expected = include_str!("plan/expected.txt");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), expected));
}

#[test]
fn diff_says_that_nothing_changes() {
    let output = diff(&["old.yml", "old.yml"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "nothing changes: 8 pools\n"));
    let output = diff(&["old.yml", "old.yml", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &json["unchanged_pools"], &json["pools"]),
        (Some(0), &8.into(), &serde_json::json!([]))
    );
}

#[test]
fn diff_says_what_is_wrong_with_either_file() {
    let output = diff(&["../config/syntax.yml", "no-such.yml"]);
    let expected = "../config/syntax.yml:4:14: not YAML: unclosed bracket '['\n   4 |     servers: [a:1\n     |              ^\n\
                    no-such.yml: cannot be read: No such file or directory (os error 2)\n";
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(2), "", expected));
}

#[test]
fn diff_speaks_json_and_shows_no_secret() {
    let output = diff(&["--json", "old.yml", "new.yml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!text(&output.stdout).contains("hunter"));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["needs_restart"][0]["key"], "workers");
    let sessions = json["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == "sessions").unwrap();
    assert_eq!((&sessions["change"], &sessions["precision"]), (&"changed".into(), &"exact".into()));
    let after = |server: &serde_json::Value| server["share_after"].as_f64().unwrap_or(0.0);
    let shares: f64 = sessions["servers"].as_array().unwrap().iter().map(after).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
}

#[test]
fn the_summary_is_one_short_line() {
    let (old, new) = (settings(include_str!("plan/old.yml")), settings(include_str!("plan/new.yml")));
    let summary = Plan::between(&old, &new).summary();
    let expected = "workers 4 -> 8 needs a restart; log.level notice -> info; limits.max_key_bytes 64KiB -> 1KiB; \
                    pool new added (127.0.0.1:22127); pool blue: listen 127.0.0.1:22125 -> 127.0.0.1:22126; \
                    pool html: was pages, about 49.8 % of keys move, hash fnv1a_64 -> murmur; \
                    pool teal: listen 127.0.0.1:22126 -> 127.0.0.1:22125; \
                    pool feeds: +1 server (10.0.4.3:11211), any server will do for any key; \
                    pool gutter: listen /run/gutter.sock 0666 -> /run/gutter.sock 0600; \
                    pool sessions: +1 server (10.0.0.7:6379), -1 server (10.0.0.6:6379), \
                    ~3 servers (s-3: weight 1 -> 2, s-4: address 10.0.0.4:6379 -> 10.0.0.14:6379, five: was s-5), \
                    69.5 % of keys move, listen 127.0.0.1:22121 -> 127.0.0.1:22131, timeout 400ms -> 500ms, 2 more; \
                    pool old removed";
    assert_eq!(summary, expected);
    assert_eq!(Plan::between(&old, &old).summary(), "nothing changes");

    let many: String = (0..500).map(|i| format!("  p{i}: {{listen: 'h:{}', servers: ['s:1']}}\n", i + 1)).collect();
    let summary = Plan::between(&old, &settings(&format!("pools:\n{many}"))).summary();
    assert!(summary.len() < 1000 && summary.ends_with(" more"), "{summary}");
}

#[test]
fn of_many_servers_only_those_that_change_have_a_line() {
    let servers: Vec<String> = (0..101).map(|i| format!("10.0.0.{i}:6379 server{i}")).collect();
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    let lines = Plan::between(&pool("", &servers[..100]), &pool("", &servers)).lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].starts_with("  + server100 ") && lines[2].contains("  100 others "), "{lines:?}");
}

// ── What goes on, and what differs ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn only_the_number_of_workers_needs_a_restart() {
    let pools = "pools: {p: {listen: 'h:1', servers: ['s:1']}}\n";
    let everything = "workers: 3\nadmin: {stats: 'off'}\nlog: {level: 7, file: x, format: json}\nresolver: 10.0.0.2\n\
                      drain_timeout: 1s\npre_stop_delay: 1s\nlimits: {max_key_bytes: 100, max_session_requests: 5}\n\
                      observe: {metrics: false, keys: 'off'}\n";
    let plan = between(pools, &format!("{everything}{pools}"));
    let keys: Vec<&str> = plan.needs_restart().iter().map(|change| change.key).collect();
    assert_eq!(keys, ["workers"]);
    assert_eq!(plan.lines().iter().filter(|line| line.starts_with("~ ")).count(), 12, "{plan}");
    let without_workers = everything.trim_start_matches("workers: 3\n");
    assert!(between(pools, &format!("{without_workers}{pools}")).needs_restart().is_empty());
}

#[test]
fn a_stand_in_is_known_by_its_name() {
    let gutter = "  gutter: {listen: 'h:1', servers: ['s:1']}\n";
    let user = "  user: {listen: 'h:2', auto_eject_hosts: true, on_ejected: gutter, on_readmit: keep, servers: ['t:1', 't:2']}\n";
    let (old, new) = (
        format!("pools:\n{gutter}{user}"),
        format!("pools:\n  a: {{listen: 'h:3', servers: ['s:1']}}\n{gutter}{user}"),
    );
    // The new pool comes first in the order of pools, so that the stand-in has another index.
    assert!(matches!(between(&old, &new).pools(), [PoolChange::Added(pool)] if pool.name == "a"));
}

#[test]
fn another_password_is_a_change_that_shows_nothing() {
    let with = |password: &str| pool(&format!("    protocol: redis\n    redis_auth: {password}\n"), &["s:1"]);
    let plan = Plan::between(&with("hunter2"), &with("hunter3"));
    assert_eq!(plan.to_string(), "~ pool p: no key moves\n    redis_auth  changed\n");
    assert!(!format!("{plan:?}").contains("hunter"));
    let plan = Plan::between(&with("hunter2"), &pool("    protocol: redis\n", &["s:1"]));
    assert_eq!(plan.to_string(), "~ pool p: no key moves\n    redis_auth  *** -> none\n");
}

#[test]
fn another_protocol_at_the_same_address_is_another_pool_behind_it() {
    let pool = |protocol| format!("pools: {{p: {{listen: 'h:1', protocol: {protocol}, servers: ['s:1']}}}}");
    let plan = between(&pool("redis"), &pool("memcached"));
    assert!(matches!(plan.pools(), [PoolChange::Added(_), PoolChange::Removed(_)]), "{plan}");
    let passed = ListenerChange::Passed { address: "h:1".into(), from: "p".into(), to: "p".into() };
    assert_eq!(plan.listeners(), [passed]);
}

// ── Keys that move ──────────────────────────────────────────────────────────────────────────────────────────────────

/// The share of many keys whose server has another address.
fn counted(old: &Settings, new: &Settings) -> f64 {
    const KEYS: usize = 50_000;
    let ring = |pool: &PoolSettings| Ring::build(pool.distribution, &pool.ring_servers(), |_| true);
    let (old, new) = (&old.pools[0], &new.pools[0]);
    let (before, after) = (ring(old), ring(new));
    let holder = |pool: &PoolSettings, ring: &Ring, key: &str| {
        let server = &pool.servers[ring.server(pool.hash.hash(tagged(key.as_bytes(), pool.hash_tag))).unwrap()];
        match server.address {
            ServerAddress::Local => server.name.clone(),
            _ => server.address.to_string(),
        }
    };
    let keys = (0..KEYS).map(|i| format!("{i}:{{{}}}", i.wrapping_mul(2_654_435_761)));
    keys.filter(|key| holder(old, &before, key) != holder(new, &after, key)).count() as f64 / KEYS as f64
}

#[test]
fn keys_move_as_the_plan_says() {
    const FOUR: [&str; 4] = ["10.0.0.1:1 a", "10.0.0.2:1 b", "10.0.0.3:1 c", "10.0.0.4:1 d"];
    let murmur = |servers: &[&str]| pool("    hash: murmur\n", servers);
    let modula = |servers: &[&str]| pool("    hash: murmur\n    distribution: modula\n", servers);
    let five = [&FOUR[..], &["10.0.0.5:1 e"]].concat();
    let heavier = [&FOUR[..3], &["10.0.0.4:1:3 d"]].concat();
    let at_another_address = [&FOUR[..3], &["10.0.0.44:1 d"]].concat();
    let swapped = ["10.0.0.2:1 a", "10.0.0.1:1 b", "10.0.0.3:1 c", "10.0.0.4:1 d"];
    let renamed = [&FOUR[..3], &["10.0.0.4:1 z"]].concat();
    for (what, old, new, precision) in [
        ("one more", murmur(&FOUR), murmur(&five), Precision::Exact),
        ("one less", murmur(&five), murmur(&FOUR), Precision::Exact),
        ("a weight", murmur(&FOUR), murmur(&heavier), Precision::Exact),
        ("an address", murmur(&FOUR), murmur(&at_another_address), Precision::Exact),
        ("two addresses", murmur(&FOUR), murmur(&swapped), Precision::Exact),
        ("a name", murmur(&FOUR), murmur(&renamed), Precision::Exact),
        ("modula, one more", modula(&FOUR), modula(&five), Precision::Exact),
        ("modula, a weight", modula(&FOUR), modula(&heavier), Precision::Exact),
        ("modula, a name", modula(&FOUR), modula(&renamed), Precision::Exact),
        ("the distribution", murmur(&FOUR), modula(&FOUR), Precision::About),
        ("the hash", murmur(&FOUR), pool("    hash: md5\n", &FOUR), Precision::About),
        ("the tag", murmur(&FOUR), pool("    hash: murmur\n    hash_tag: \"{}\"\n", &FOUR), Precision::AtMost),
        ("local ones", murmur(&["local a", "local b"]), murmur(&["local a", "local c"]), Precision::Exact),
    ] {
        let (plan, counted) = (moved(&Plan::between(&old, &new)), counted(&old, &new));
        assert_eq!(plan.precision, precision, "{what}");
        assert!((plan.share - counted).abs() < 0.01, "{what}: {} and {counted} counted", plan.share);
    }
}

#[test]
fn another_database_is_another_place() {
    let with =
        |database, protocol| pool(&format!("    protocol: {protocol}\n    redis_db: {database}\n"), &["s:1", "s:2"]);
    let all = MovedKeys { share: 1.0, precision: Precision::Exact };
    assert_eq!(moved(&Plan::between(&with(0, "redis"), &with(1, "redis"))), all);
}

#[test]
fn a_random_pool_has_no_place_for_a_key() {
    let random = |servers: &[&str]| pool("    distribution: random\n", servers);
    let any = moved(&Plan::between(&random(&["s:1", "s:2"]), &random(&["s:1", "s:2", "s:3"])));
    assert_eq!(any, MovedKeys { share: 0.0, precision: Precision::AnyServer });
    // A key is found again by chance only.
    let by_chance = moved(&Plan::between(&pool("", &["s:1", "s:2"]), &random(&["s:1", "s:2"])));
    assert_eq!(by_chance.precision, Precision::About);
    assert!((by_chance.share - 0.5).abs() < 1e-9, "{by_chance:?}");
}

#[test]
fn one_server_keeps_its_keys_whatever_the_hash() {
    let none = moved(&Plan::between(&pool("", &["s:1 a"]), &pool("    hash: murmur\n", &["s:1 b"])));
    assert_eq!(none.share, 0.0);
}

// ── Anything ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A few servers out of few names and addresses, so that some stay, move, swap and go.
fn any_pool() -> impl Strategy<Value = Settings> {
    let servers = proptest::collection::btree_map(0..8u8, (0..8u8, 1..4u8), 1..8);
    let distribution = prop_oneof![Just(Distribution::Ketama), Just(Distribution::Modula)];
    (servers, distribution, 400..402u32).prop_map(|(servers, distribution, timeout)| {
        let line = |(name, (host, weight))| format!("10.0.0.{host}:1:{weight} {name}");
        let lines: Vec<String> = servers.into_iter().map(line).collect();
        let keys = format!("    hash: murmur\n    distribution: {}\n    timeout: {timeout}\n", distribution.name());
        pool(&keys, &lines.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_plan_is_empty_only_between_equals_and_its_shares_are_true((old, new) in (any_pool(), any_pool())) {
        let plan = Plan::between(&old, &new);
        prop_assert_eq!(plan.is_empty(), old == new);
        prop_assert!(Plan::between(&old, &old).is_empty());
        if let [PoolChange::Changed(pool)] = plan.pools() {
            let counted = counted(&old, &new);
            prop_assert!((pool.moved.share - counted).abs() < 0.015, "{:?}, {} counted", pool.moved, counted);
            let sum = |share: fn(&outrigger::reload::ServerPlan) -> Option<f64>| {
                pool.servers.iter().filter_map(share).sum::<f64>()
            };
            if !pool.servers.is_empty() {
                prop_assert!((sum(|server| server.share_before) - 1.0).abs() < 1e-9);
                prop_assert!((sum(|server| server.share_after) - 1.0).abs() < 1e-9);
            }
        }
    }
}
