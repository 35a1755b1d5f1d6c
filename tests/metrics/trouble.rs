//! What goes wrong, and what changes, can be seen.

use std::fs;

use rustix::process::Signal;

use crate::exposition::Exposition;
use crate::scrape;
use crate::support::fleet::Dialect;
use crate::support::{Fake, Mood, Moody, Outrigger, Pool, eventually};

/// Scrapes until this holds.
#[track_caller]
fn until(proxy: &Outrigger, what: &str, mut holds: impl FnMut(&Exposition) -> bool) -> Exposition {
    eventually(what, || {
        let answer = scrape(proxy);
        holds(&answer).then_some(answer)
    })
}

const ONE: [(&str, &str); 2] = [("pool", "cache"), ("server", "one")];

fn with<'a>(label: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
    [ONE[0], ONE[1], (label, value)]
}

#[test]
fn a_server_that_is_mute_times_out_is_ejected_and_comes_back() {
    let server = Moody::start(Dialect::Redis);
    let lines = [
        "timeout: 100ms",
        "auto_eject_hosts: true",
        "server_failure_limit: 2",
        "server_retry_timeout: 100",
        "max_ejected_percent: 100",
        "on_readmit: keep",
        "on_ejected: fail_fast",
        "probe_interval: 30ms",
        "probe_timeout: 100ms",
        "slow_start: 0",
    ];
    let pool = Pool::new("cache", "redis", &[format!("{} one", server.entry())]);
    let mut proxy = Outrigger::start([lines.iter().fold(pool, |pool, line| pool.set(line))]);
    ["server ejected", "no reply in time", "connection lost"].iter().for_each(|text| proxy.announce(text));
    let mut client = proxy.client();
    assert_eq!(client.ask("INCR a"), "1");
    let well = until(&proxy, "good probes", |a| a.sum("outrigger_server_probes_total", &with("result", "ok")) > 2.0);
    assert_eq!(well.sum("outrigger_server_up", &ONE), 1.0);
    assert_eq!(well.sum("outrigger_server_traffic_ratio", &ONE), 1.0);
    assert_eq!(well.sum("outrigger_server_ring_share_ratio", &ONE), 1.0);
    assert_eq!(well.sum("outrigger_ready", &[]), 1.0);

    server.is(Mood::Mute);
    let mut failed = 0;
    let ejected = eventually("an ejection", || {
        failed += u32::from(client.ask("GET a").starts_with("-ERR"));
        let answer = scrape(&proxy);
        (answer.sum("outrigger_server_up", &ONE) == 0.0).then_some(answer)
    });
    assert_eq!(ejected.sum("outrigger_server_ejections_total", &ONE), 1.0);
    assert_eq!(ejected.sum("outrigger_server_traffic_ratio", &ONE), 0.0);
    assert_eq!(ejected.sum("outrigger_server_ring_share_ratio", &ONE), 0.0);
    assert_eq!(ejected.sum("outrigger_pool_servers", &[("state", "ejected")]), 1.0);
    assert_eq!(ejected.sum("outrigger_pool_servers", &[("state", "live")]), 0.0);
    assert_eq!(ejected.sum("outrigger_events_total", &[("event", "ejected")]), 1.0);
    assert_eq!(ejected.sum("outrigger_ready", &[]), 0.0);
    assert!(client.ask("GET a").starts_with("-ERR"));
    failed += 1;
    let errors = scrape(&proxy);
    let results = [("command", "read"), ("result", "failed")];
    assert_eq!(errors.sum("outrigger_requests_total", &results), f64::from(failed));
    assert_eq!(errors.sum("outrigger_request_errors_total", &[]), f64::from(failed));
    assert!(errors.sum("outrigger_request_errors_total", &[("reason", "timeout")]) >= 1.0);
    assert!(errors.sum("outrigger_request_errors_total", &[("reason", "ejected")]) >= 1.0);
    assert!(errors.sum("outrigger_server_timeouts_total", &ONE) >= 1.0);
    let probed =
        until(&proxy, "a bad probe", |a| a.sum("outrigger_server_probes_total", &with("result", "failed")) > 0.0);
    assert_eq!(probed.sum("outrigger_server_up", &ONE), 0.0);

    server.is(Mood::Well);
    let back = until(&proxy, "the return", |a| a.sum("outrigger_server_up", &ONE) == 1.0);
    assert_eq!(back.sum("outrigger_server_ejections_total", &ONE), 1.0);
    until(&proxy, "its event", |a| a.sum("outrigger_events_total", &[("event", "readmitted")]) == 1.0);
}

#[test]
fn retries_lost_connections_and_reconnects_are_counted() {
    // Every other connection is lost at its first request; the others answer one.
    let server = Fake::start(|number, talk| {
        if let Some(request) = talk.request()
            && number % 2 == 1
        {
            let key = request.split(' ').nth(1).unwrap_or_default();
            talk.say(format!("${}\r\n{key}\r\n", key.len()));
        }
    });
    let pool = Pool::new("cache", "redis", &[format!("{} one", server.entry())]);
    let pool = pool.set("retry_budget_percent: 100").set("auto_eject_hosts: false").set("max_reconnect_delay: 10ms");
    let mut proxy = Outrigger::start_with("workers: 1\n", [pool]);
    ["connection lost", "cannot connect"].iter().for_each(|text| proxy.announce(text));
    let mut client = proxy.client();
    let answer = until(&proxy, "a retry", |answer| {
        client.ask("GET a");
        answer.sum("outrigger_server_retries_total", &ONE) > 1.0
    });
    assert!(answer.sum("outrigger_server_connections_opened_total", &ONE) > 2.0);
    assert!(answer.sum("outrigger_server_connection_errors_total", &with("reason", "connection_lost")) > 1.0);
    assert_eq!(answer.sum("outrigger_server_connection_errors_total", &with("reason", "connect_failed")), 0.0);
    drop(server);
    until(&proxy, "a refused connection", |answer| {
        client.ask("GET a");
        answer.sum("outrigger_server_connection_errors_total", &with("reason", "connect_failed")) > 0.0
            && answer.sum("outrigger_request_errors_total", &[("reason", "connect_failed")]) > 0.0
            && answer.sum("outrigger_server_connections", &with("state", "connected")) == 0.0
    });
}

#[test]
fn a_pool_that_is_full_refuses_clients() {
    let pool = Pool::new("cache", "redis", &["local one".to_owned()]).set("client_connections: 1");
    let proxy = Outrigger::start([pool]);
    let _first = proxy.admitted("PING\r\n", "+PONG");
    let before = scrape(&proxy).sum("outrigger_sessions_refused_total", &[]);
    let refused = proxy.client().rest();
    assert!(refused.starts_with("-ERR max number of clients"), "{refused}");
    let answer = scrape(&proxy);
    assert_eq!(answer.sum("outrigger_sessions_refused_total", &[]), before + 1.0);
    assert_eq!(answer.sum("outrigger_sessions_limit", &[]), 1.0);
    assert_eq!(answer.sum("outrigger_sessions", &[]), 1.0);
    assert!(answer.sum("outrigger_listener_queue_limit", &[]) > 0.0);
    assert_eq!(answer.sum("outrigger_listener_queue", &[]), 0.0);
}

#[test]
fn after_a_reload_the_series_of_servers_that_stay_go_on_and_those_of_others_are_gone() {
    let servers: Vec<String> = ["one", "two", "three"].iter().map(|name| format!("local {name}")).collect();
    let mut proxy = Outrigger::start([Pool::new("cache", "redis", &servers).set("hash: murmur")]);
    proxy.announce("the configuration was not changed");
    let mut client = proxy.client();
    (0..100).for_each(|number| assert_eq!(client.ask(&format!("SET key:{number} 1")), "+OK"));
    let before = scrape(&proxy);
    let file = proxy.file("outrigger.yml");
    let written = fs::read_to_string(&file).unwrap();
    let generation = |answer: &Exposition| answer.sum("outrigger_config_generation", &[]);
    let shares: f64 = before.sum("outrigger_server_ring_share_ratio", &[("pool", "cache")]);
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");

    fs::write(&file, written.replace("local three", "local four")).unwrap();
    proxy.signal(Signal::HUP);
    let after = until(&proxy, "the reload", |answer| generation(answer) == 2.0);
    for server in ["one", "two"] {
        let labels = [("pool", "cache"), ("server", server)];
        let requests = |answer: &Exposition| answer.sum("outrigger_server_requests_total", &labels);
        assert!(requests(&before) > 0.0 && requests(&after) == requests(&before), "{server}");
    }
    assert!(after.all().all(|(_, labels, _)| labels.get("server").is_none_or(|server| server != "three")));
    assert_eq!(after.sum("outrigger_server_requests_total", &[("server", "four")]), 0.0);
    assert_eq!(after.sum("outrigger_requests_total", &[("command", "write"), ("result", "ok")]), 100.0);
    assert_eq!(after.sum("outrigger_config_reloads_total", &[("result", "changed")]), 1.0);
    let changed = |answer: &Exposition| answer.sum("outrigger_config_last_change_timestamp_seconds", &[]);
    assert!(changed(&after) > changed(&before));

    fs::write(&file, "pools: [").unwrap();
    proxy.signal(Signal::HUP);
    let failed =
        until(&proxy, "the failure", |answer| answer.sum("outrigger_config_last_reload_successful", &[]) == 0.0);
    assert!(failed.sum("outrigger_config_reloads_total", &[("result", "failed")]) >= 1.0);
    assert_eq!(generation(&failed), 2.0);
    assert!(failed.sum("outrigger_events_total", &[("event", "reload_failed")]) >= 1.0);
}

/// All requests of a pool that were counted, by class and result.
fn done(answer: &Exposition, pool: &str) -> Vec<(String, String, f64)> {
    let of_pool = [("pool", pool)];
    let all = answer.find("outrigger_requests_total", &of_pool).filter(|(_, count)| *count > 0.0);
    all.map(|(labels, count)| (labels["command"].clone(), labels["result"].clone(), count)).collect()
}

#[test]
fn what_clients_do_not_want_to_hear_is_counted_and_of_fragments_that_fail_one_request() {
    let servers = ["one", "two"].map(|name| format!("local {name}"));
    let lines = ["hash: murmur", "auto_eject_hosts: true", "on_ejected: fail_fast"];
    let pool = |name, protocol| lines.iter().fold(Pool::new(name, protocol, &servers), |pool, line| pool.set(line));
    let mut proxy = Outrigger::start([pool("cache", "redis"), pool("memory", "memcached")]);
    proxy.announce("server ejected");
    for (pool, server) in [("cache", "one"), ("cache", "two"), ("memory", "one"), ("memory", "two")] {
        let response = proxy.http("POST", &format!("/pools/{pool}/servers/{server}/eject?for=1h"));
        assert_eq!(response.status, 200, "{}", response.body);
    }
    let quiet = "CLIENT REPLY OFF\r\nPING\r\nPSYNC ? -1\r\nGET a\r\nMGET a b c d e f g h\r\nCLIENT REPLY ON\r\n";
    let mut client = proxy.client_of(0);
    client.exchange(quiet.as_bytes(), b"+OK\r\n");
    assert!(client.ask("MGET a b c d e f g h").contains("is ejected"));
    let mut client = proxy.client_of(1);
    let quiet = "verbosity 1 noreply\r\nset a 0 0 1 noreply\r\nx\r\nflush_all noreply\r\nversion\r\n";
    client.exchange(quiet.as_bytes(), format!("VERSION {}\r\n", env!("CARGO_PKG_VERSION")).as_bytes());

    let answer = scrape(&proxy);
    let counted = |command: &str, result: &str, count| (command.to_owned(), result.to_owned(), count);
    let redis = [counted("other", "rejected", 1.0), counted("proxy", "ok", 3.0), counted("read", "failed", 3.0)];
    assert_eq!(done(&answer, "cache"), redis);
    let memcached = [counted("other", "failed", 1.0), counted("proxy", "ok", 2.0), counted("write", "failed", 1.0)];
    assert_eq!(done(&answer, "memory"), memcached);
    let errors = |pool, reason| answer.sum("outrigger_request_errors_total", &[("pool", pool), ("reason", reason)]);
    assert_eq!(
        (errors("cache", "ejected"), errors("cache", "unsupported"), errors("memory", "ejected")),
        (3.0, 1.0, 2.0)
    );
}
