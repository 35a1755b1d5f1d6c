//! Servers that die, hang and come back: who is ejected, where its keys go meanwhile, and how it returns. The whole program
//! in front of real servers.

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::{Client, Dns, Fake, Outrigger, Pool, Port, Says, Server, eventually};

/// Ejection within a fraction of a second; nothing is guarded, and what is back is back at once.
const QUICK: [&str; 10] = [
    // Spreads short keys well, which the default does not.
    "hash: murmur",
    "timeout: 1s",
    "auto_eject_hosts: true",
    "server_failure_limit: 2",
    "server_retry_timeout: 200",
    "max_ejected_percent: 100",
    "on_readmit: keep",
    "probe_interval: 50ms",
    "probe_timeout: 500ms",
    "slow_start: 0",
];

/// With other values for some of the keys.
fn quick(pool: Pool, other: &[&str]) -> Pool {
    let key = |line: &str| line.split(':').next().unwrap().to_owned();
    let replaced = |line: &str| other.iter().any(|o| key(o) == key(line));
    let lines: Vec<&str> = QUICK.iter().copied().filter(|line| !replaced(line)).chain(other.iter().copied()).collect();
    lines.into_iter().fold(pool, |pool, line| pool.set(line))
}

/// A proxy over these servers, of which some will fail.
fn over(pool: Pool, other: &[&str]) -> Outrigger {
    let mut proxy = Outrigger::start([quick(pool, other)]);
    for announced in ["server ejected", "cannot connect", "connection lost", "no reply in time"] {
        proxy.announce(announced);
    }
    proxy
}

fn three_redis() -> Option<[Server; 3]> {
    Server::three(Server::redis)
}

fn state(proxy: &Outrigger, server: &Server) -> String {
    proxy.stats()["cache"][&server.name()]["server_state"].as_str().unwrap().to_owned()
}

fn reaches(proxy: &Outrigger, server: &Server, wanted: &str) {
    eventually(&format!("{} to be {wanted}", server.name()), || (state(proxy, server) == wanted).then_some(()));
}

/// What was said of the servers, oldest first: what and about whom.
fn events(proxy: &Outrigger) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let events = proxy.stats()["events"].as_array().unwrap().clone();
    events.iter().map(|event| (text(&event["what"]), text(&event["server"]))).collect()
}

/// The change itself can be seen a moment before it is told.
fn logs(proxy: &Outrigger, text: &str) {
    eventually(text, || proxy.log().contains(text).then_some(()));
}

fn requests(proxy: &Outrigger, server: &Server) -> u64 {
    proxy.stats()["cache"][&server.name()]["requests"].as_u64().unwrap()
}

/// Sets many keys; those that each server got.
fn place<const N: usize>(client: &mut Client, servers: &[Server; N]) -> [Vec<String>; N] {
    let all: Vec<String> = (0..90).map(|n| format!("key{n}")).collect();
    all.iter().for_each(|key| assert_eq!(client.ask(&format!("SET {key} old")), "+OK"));
    servers.each_ref().map(|server| {
        let mut direct = server.client();
        let own: Vec<String> = all.iter().filter(|k| direct.ask(&format!("EXISTS {k}")) == "1").cloned().collect();
        assert!(own.len() >= 10, "{} has only {} keys", server.name(), own.len());
        own
    })
}

#[test]
fn a_killed_server_is_ejected_at_the_limit_and_its_keys_go_to_the_others() {
    let mut servers = need!(three_redis());
    // No probe comes in time: requests alone find out.
    let mut proxy = over(Pool::redis("cache", &servers), &["server_failure_limit: 3", "probe_interval: 10m"]);
    let mut client = proxy.client();
    let [dead, one, other] = place(&mut client, &servers);
    servers[0].kill();
    let before = Instant::now();
    // Not one request fails: the first waits for the ejection and goes to another server. And the keys of the others are
    // where they were.
    assert_eq!(client.ask(&format!("GET {}", dead[0])), "nil");
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    for key in &dead {
        assert_eq!(client.ask(&format!("GET {key}")), "nil");
        assert_eq!(client.ask(&format!("SET {key} new")), "+OK");
    }
    for key in one.iter().chain(&other) {
        assert_eq!(client.ask(&format!("GET {key}")), "\"old\"", "{key} has moved");
    }
    let stats = &proxy.stats()["cache"];
    let dead = &stats[&servers[0].name()];
    assert_eq!((&stats["server_ejects"], &dead["server_state"]), (&Value::from(1), &Value::from("ejected")));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    assert!(dead["server_ejected_at"].as_u64().is_some_and(|at| at < now && at > now - 20_000_000), "{dead}");
    assert_eq!(dead["server_ejected_at"], proxy.stats()["cache"][&servers[0].name()]["server_ejected_at"]);
    assert_eq!(stats[&servers[1].name()]["server_ejected_at"], 0);
    assert_eq!(events(&proxy), [("ejected".to_owned(), servers[0].name())]);
    let log = proxy.log();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("ejected")).collect();
    let [line] = lines[..] else { panic!("not one line: {lines:?}") };
    for part in ["WARN", "pool=\"cache\"", &servers[0].name(), "Connection refused", "failing_since=", "until="] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    proxy.terminate();
}

#[test]
fn no_request_is_spent_on_finding_out_that_a_server_is_back() {
    let mut servers = need!(three_redis());
    let proxy = over(Pool::redis("cache", &servers), &["slow_start: 400ms", "server_retry_timeout: 400"]);
    let mut client = proxy.client();
    let [own, ..] = place(&mut client, &servers);
    servers[0].kill();
    reaches(&proxy, &servers[0], "ejected");
    // The worker hears of it a moment later; when this is answered, it has.
    assert_eq!(client.ask(&format!("SET {} away", own[0])), "+OK");
    let before = requests(&proxy, &servers[0]);
    let (mut states, start) = (vec![], Instant::now());
    let mut restarted = false;
    while states.last().is_none_or(|s| s != "live") {
        assert!(start.elapsed() < support::PATIENCE, "{states:?}");
        // Longer dead than it must stay away.
        if !restarted && start.elapsed() > Duration::from_millis(600) {
            assert_eq!((states.as_slice(), requests(&proxy, &servers[0])), (&["ejected".to_owned()][..], before));
            servers[0].restart();
            restarted = true;
        }
        for key in &own {
            let reply = client.ask(&format!("GET {key}"));
            assert!(!reply.starts_with('-'), "{reply} after {:?}", start.elapsed());
        }
        let now = state(&proxy, &servers[0]);
        if states.last() != Some(&now) {
            states.push(now);
        }
    }
    assert!(states.len() >= 4 && states[1].starts_with("returning "), "not step by step: {states:?}");
    assert!(states[1..states.len() - 1].is_sorted(), "{states:?}");
    assert!(requests(&proxy, &servers[0]) > before);
    eventually("the last event", || (events(&proxy).last()?.0 == "readmitted").then_some(()));
    let told: Vec<String> = events(&proxy).into_iter().map(|(what, _)| what).collect();
    assert_eq!(told, ["ejected", "returning", "readmitted"]);
    // Its keys are its own again.
    for key in &own {
        assert_eq!(client.ask(&format!("SET {key} home")), "+OK");
        assert_eq!(servers[0].client().ask(&format!("GET {key}")), "\"home\"");
    }
}

#[test]
fn a_server_without_traffic_is_ejected_by_probes() {
    let mut servers = need!(three_redis());
    let proxy = over(Pool::redis("cache", &servers), &[]);
    servers[1].kill();
    reaches(&proxy, &servers[1], "ejected");
    logs(&proxy, "reason=\"probe: Connection ");
    assert_eq!(requests(&proxy, &servers[1]), 0);
    servers[1].restart();
    reaches(&proxy, &servers[1], "live");
    assert_eq!([0, 2].map(|i| state(&proxy, &servers[i])), ["live", "live"]);
}

#[test]
fn a_stopped_redis_is_ejected_and_returns_with_what_it_held() {
    let servers = need!(three_redis());
    let proxy = over(Pool::redis("cache", &servers), &["probe_timeout: 100ms"]);
    let mut client = proxy.client();
    let [hung, other, _] = place(&mut client, &servers);
    servers[0].pause();
    assert_eq!(client.ask(&format!("GET {}", other[0])), "\"old\"");
    reaches(&proxy, &servers[0], "ejected");
    assert_eq!(client.ask(&format!("GET {}", hung[0])), "nil");
    assert_eq!(client.ask(&format!("SET {} new", hung[0])), "+OK");
    logs(&proxy, "no answer within 100 ms");
    servers[0].resume();
    reaches(&proxy, &servers[0], "live");
    // This is what on_readmit: keep means, once its worker has been told.
    eventually("the old value", || (client.ask(&format!("GET {}", hung[0])) == "\"old\"").then_some(()));
}

#[test]
fn a_stopped_memcached_is_ejected_and_returns() {
    let servers = need!(Server::three(Server::memcached));
    let proxy = over(Pool::memcached("cache", &servers), &[]);
    let mut client = proxy.client();
    let set = |client: &mut Client, key: &str| client.tell(&format!("set {key} 0 0 1|x"));
    (0..90).for_each(|n| assert_eq!(set(&mut client, &format!("key{n}")), "STORED"));
    servers[0].pause();
    reaches(&proxy, &servers[0], "ejected");
    (0..90).for_each(|n| assert_eq!(set(&mut client, &format!("key{n}")), "STORED"));
    servers[0].resume();
    reaches(&proxy, &servers[0], "live");
    let before = requests(&proxy, &servers[0]);
    (0..90).for_each(|n| assert_eq!(set(&mut client, &format!("key{n}")), "STORED"));
    assert!(requests(&proxy, &servers[0]) > before + 5);
}

#[test]
fn with_two_of_three_dead_one_is_ejected_and_the_log_says_why_the_other_is_not() {
    let mut servers = need!(three_redis());
    let mut proxy = over(Pool::redis("cache", &servers), &["max_ejected_percent: 50"]);
    proxy.announce("server fails but is not ejected: max_ejected_percent allows no more");
    let mut client = proxy.client();
    let [_, second, third] = place(&mut client, &servers);
    servers[0].kill();
    reaches(&proxy, &servers[0], "ejected");
    servers[1].kill();
    let kept = ("kept".to_owned(), servers[1].name());
    eventually("the guard", || events(&proxy).contains(&kept).then_some(()));
    // Failures that come after it change nothing, and are not told again.
    let failures = |n: u64| proxy.stats()["cache"][&servers[1].name()]["server_failures"].as_u64() >= Some(n);
    eventually("more bad probes", || failures(10).then_some(()));
    assert_eq!(state(&proxy, &servers[1]), "live");
    assert_eq!(events(&proxy).into_iter().filter(|event| *event == kept).count(), 1);
    assert!(client.ask(&format!("GET {}", second[0])).starts_with("-ERR Connection refused"));
    assert_eq!(client.ask(&format!("GET {}", third[0])), "\"old\"");
    // One is back: there is room for the other.
    servers[0].restart();
    reaches(&proxy, &servers[1], "ejected");
    reaches(&proxy, &servers[0], "live");
    assert_eq!(client.ask(&format!("GET {}", second[0])), "nil");
}

#[test]
fn a_redis_that_is_flushed_comes_back_empty_but_for_its_other_databases() {
    let servers = need!(three_redis());
    let proxy = over(Pool::redis("cache", &servers), &["on_readmit: flush", "redis_db: 3"]);
    let mut client = proxy.client();
    let mut direct = servers[0].client();
    assert_eq!(direct.ask("SET outside 1"), "+OK");
    assert_eq!(direct.ask("SELECT 3"), "+OK");
    (0..90).for_each(|n| assert_eq!(client.ask(&format!("SET key{n} old")), "+OK"));
    assert_ne!(direct.ask("DBSIZE"), "0");
    servers[0].pause();
    reaches(&proxy, &servers[0], "ejected");
    servers[0].resume();
    reaches(&proxy, &servers[0], "live");
    assert_eq!(direct.ask("DBSIZE"), "0");
    assert_eq!(direct.ask("SELECT 0"), "+OK");
    assert_eq!(direct.ask("GET outside"), "\"1\"");
}

#[test]
fn a_redis_is_flushed_in_every_database_that_its_pool_serves() {
    // The last one has fewer databases than clients may select, which is no reason for it to stay away.
    let few = || Server::redis_with(&["--databases", "2"]);
    let servers = [need!(Server::redis()), need!(Server::redis()), need!(few())];
    let proxy = over(Pool::redis("cache", &servers), &["on_readmit: flush", "databases: 4", "redis_db: 1"]);
    let mut direct = servers[0].client();
    let mut size = |database: u32| {
        assert_eq!(direct.ask(&format!("SELECT {database}")), "+OK");
        direct.ask("DBSIZE")
    };
    let mut client = servers[0].client();
    for database in 0..6 {
        assert_eq!(client.ask(&format!("SELECT {database}")), "+OK");
        assert_eq!(client.ask("SET key old"), "+OK");
    }
    for server in [&servers[0], &servers[2]] {
        server.pause();
        reaches(&proxy, server, "ejected");
        server.resume();
        reaches(&proxy, server, "live");
    }
    assert_eq!([0, 1, 2, 3, 4, 5].map(&mut size), ["0", "0", "0", "0", "1", "1"]);
}

#[test]
fn clients_of_other_versions_and_databases_are_handed_over_at_an_ejection_as_well() {
    let servers = need!(three_redis());
    // Nobody times out: what waits for the server is handed to another one when it is ejected.
    let lines = ["timeout: 30s", "databases: 4", "server_retry_timeout: 60000", "probe_timeout: 100ms"];
    let proxy = over(Pool::redis("cache", &servers), &lines);
    let mut clients = [("HELLO 2", 0), ("HELLO 3", 0), ("HELLO 2", 3), ("HELLO 3", 3)].map(|(hello, database)| {
        let mut client = proxy.client();
        client.ask(hello);
        assert_eq!(client.ask(&format!("SELECT {database}")), "+OK");
        client
    });
    let [own, ..] = place(&mut clients[0], &servers);
    // Each has a connection to it.
    clients.iter_mut().for_each(|client| assert!(!client.ask(&format!("GET {}", own[0])).starts_with('-')));
    servers[0].pause();
    let asked = Instant::now();
    for client in &mut clients {
        client.send(support::client::resp(&["GET", &own[0]]));
        client.send(support::client::resp(&["WATCH", &own[0]]));
    }
    for client in &mut clients {
        assert_eq!(client.reply(), "nil");
        let watched = client.reply();
        assert!(watched == "+OK" || watched.contains("Server is ejected"), "{watched}");
    }
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    reaches(&proxy, &servers[0], "ejected");
}

#[test]
fn a_server_that_is_out_of_memory_or_busy_is_ejected_if_the_settings_say_so() {
    for words in ["OOM command not allowed when used memory > 'maxmemory'.", "BUSY Redis is busy running a script."] {
        let full = Fake::start(move |_, talk| {
            while let Some(request) = talk.request() {
                talk.say(if request == "PING" { "+PONG\r\n".to_owned() } else { format!("-{words}\r\n") });
            }
        });
        for (listed, ejected) in [("[]", false), ("[OOM, BUSY]", true)] {
            let well = need!(Server::redis());
            let pool = Pool::new("cache", "redis", &[full.entry(), well.entry()]);
            let lines = [&format!("failure_replies: {listed}"), "server_retry_timeout: 60000"];
            let mut proxy = over(pool, &lines);
            proxy.announce("the server is not ready");
            let mut client = proxy.client();
            let refused = (0..300).filter(|n| client.ask(&format!("SET key{n} x")) == format!("-{words}")).count();
            if ejected {
                assert!((2..20).contains(&refused), "{refused}");
                assert_eq!(events(&proxy), [("ejected".to_owned(), full.name())]);
            } else {
                assert!(refused > 50, "{refused}");
                assert_eq!(events(&proxy), []);
            }
        }
    }
}

#[test]
fn a_memcached_that_is_flushed_comes_back_empty() {
    let servers = need!(Server::three(Server::memcached));
    let proxy = over(Pool::memcached("cache", &servers), &["on_readmit: flush"]);
    let mut direct = servers[0].client();
    assert_eq!(direct.tell("set key 0 0 3|old"), "STORED");
    servers[0].pause();
    reaches(&proxy, &servers[0], "ejected");
    servers[0].resume();
    reaches(&proxy, &servers[0], "live");
    assert_eq!(direct.tell("get key"), "END");
}

#[test]
fn a_server_that_cannot_be_flushed_stays_away_and_the_log_says_so() {
    let servers = need!(Server::three(|| Server::redis_with(&["--rename-command", "FLUSHDB", ""])));
    let mut proxy = over(Pool::redis("cache", &servers), &["on_readmit: flush"]);
    proxy.announce("cannot be emptied");
    servers[0].pause();
    reaches(&proxy, &servers[0], "ejected");
    servers[0].resume();
    let told = ("not_flushed".to_owned(), servers[0].name());
    eventually("the log to say so", || events(&proxy).contains(&told).then_some(()));
    logs(&proxy, "flush: ERR unknown command 'FLUSHDB'");
    assert_eq!(state(&proxy, &servers[0]), "ejected");
}

#[test]
fn a_quarantined_server_must_have_been_healthy_for_its_time() {
    let servers = need!(three_redis());
    let proxy = over(Pool::redis("cache", &servers), &["on_readmit: quarantine 700ms"]);
    servers[0].pause();
    reaches(&proxy, &servers[0], "ejected");
    servers[0].resume();
    let healthy = Instant::now();
    reaches(&proxy, &servers[0], "live");
    assert!(healthy.elapsed() >= Duration::from_millis(700), "{:?}", healthy.elapsed());
}

#[test]
fn a_server_that_answers_ping_with_loading_is_ejected_until_it_is_loaded() {
    // The first eight answers are bad; requests would be answered at any time.
    let told = std::sync::atomic::AtomicUsize::new(0);
    let loading = Fake::start(move |_, talk| {
        while talk.request().is_some() {
            let loading = told.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 8;
            talk.say(if loading { "-LOADING Redis is loading the dataset in memory\r\n" } else { "+PONG\r\n" });
        }
    });
    let well = Fake::start(|_, talk| {
        while talk.request().is_some() {
            talk.say("-NOAUTH Authentication required.\r\n");
        }
    });
    let proxy = over(Pool::new("cache", "redis", &[loading.entry(), well.entry()]), &[]);
    let state = |fake: &Fake| proxy.stats()["cache"][&fake.name()]["server_state"].as_str().unwrap().to_owned();
    eventually("an ejection", || (state(&loading) == "ejected").then_some(()));
    eventually("a return", || (state(&loading) == "live").then_some(()));
    logs(&proxy, "probe: LOADING Redis is loading the dataset in memory");
    assert_eq!(events(&proxy).iter().filter(|(_, server)| *server == well.name()).count(), 0, "NOAUTH is alive");
    assert_eq!(loading.accepted(), 1, "the connection of probes is kept");
}

#[test]
fn a_server_that_answers_probes_and_nothing_else_is_ejected_by_requests() {
    let deaf = Fake::start(|_, talk| {
        while let Some(request) = talk.request() {
            if request == "PING" {
                talk.say("+PONG\r\n");
            }
        }
    });
    let servers = [need!(Server::redis())];
    let others = servers.iter().map(Server::entry).chain([deaf.entry()]);
    let pool = Pool::new("cache", "redis", &others.collect::<Vec<_>>());
    let proxy = over(pool, &["server_retry_timeout: 10m", "probe_timeout: 2s"]);
    let mut client = proxy.client();
    for n in 0..200 {
        client.ask(&format!("GET key{n}"));
    }
    assert!((0..200).all(|n| client.ask(&format!("GET key{n}")) == "nil"));
    assert_eq!(events(&proxy), [("ejected".to_owned(), deaf.name())]);
    logs(&proxy, "no reply within 1000 ms");
}

#[test]
fn probes_follow_a_server_that_moves() {
    let dns = Dns::start();
    dns.says("moves.test", Says::addresses(&["127.0.0.1"], 1));
    let [first, second] = Port::reserve_twice();
    let (old, new) = (need!(Server::redis_at(first)), need!(Server::redis_at(second)));
    let entry = old.entry().replace("127.0.0.1", "moves.test");
    let pool = quick(Pool::new("cache", "redis", &[entry]), &[]);
    let proxy = Outrigger::start_with(&format!("workers: 1\n{}", dns.resolver()), [pool]);
    let probed = |server: &Server| server.client().ask("INFO commandstats").contains("cmdstat_ping").then_some(());
    eventually("a probe of the first", || probed(&old));
    assert_eq!(probed(&new), None);
    dns.says("moves.test", Says::addresses(&["127.0.0.2"], 1));
    eventually("a probe of the second", || probed(&new));
    assert_eq!(events(&proxy), []);
}

#[test]
fn without_auto_eject_hosts_nobody_is_probed_or_ejected() {
    let silent = Fake::start(|_, talk| talk.stall());
    let pool = Pool::new("cache", "redis", &[silent.entry()]).set("timeout: 30");
    let mut proxy = Outrigger::start([pool]);
    proxy.announce("no reply in time");
    proxy.announce("connection lost");
    let mut client = proxy.client();
    (0..10).for_each(|_| assert!(client.ask("GET a").starts_with("-ERR Connection timed out")));
    assert_eq!((proxy.stats()["cache"]["server_ejects"].as_u64(), events(&proxy)), (Some(0), vec![]));
    proxy.signal(Signal::TERM);
    proxy.wait();
}
