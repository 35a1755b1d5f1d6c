//! Servers taken out of use and back, and whether the proxy is ready.

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::need;
use crate::support::{Fake, Outrigger, Pool, Server, eventually};

fn pool(name: &str, keys: &[&str], servers: &[&str]) -> Pool {
    let servers: Vec<String> = servers.iter().map(|name| format!("local {name}")).collect();
    let keys = ["auto_eject_hosts: true", "probe_interval: 50ms", "hash: murmur"].iter().chain(keys);
    keys.fold(Pool::new(name, "redis", &servers), |pool, key| pool.set(key))
}

fn state(proxy: &Outrigger, server: &str) -> String {
    proxy.stats()["cache"][server]["server_state"].as_str().unwrap().to_owned()
}

/// What happened to servers, and why.
fn happened(proxy: &Outrigger) -> Vec<(String, String, String)> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let events = proxy.json("/events?last=1000")["events"].as_array().unwrap().clone();
    events.iter().map(|e| (text(e, "server"), text(e, "what"), text(e, "why"))).collect()
}

fn event(server: &str, what: &str, why: &str) -> (String, String, String) {
    (server.to_owned(), what.to_owned(), why.to_owned())
}

#[test]
fn a_server_ejected_by_hand_gets_nothing_until_it_is_admitted() {
    let keys = ["on_readmit: keep", "slow_start: 0", "server_retry_timeout: 1h"];
    let mut proxy = Outrigger::start([pool("cache", &keys, &["one", "two"])]);
    proxy.announce("server ejected");
    let keys: Vec<String> = (0..200).map(|number| format!("key{number}")).collect();
    let mut client = proxy.client();
    keys.iter().for_each(|key| assert_eq!(client.ask(&format!("SET {key} 1")), "+OK"));
    let of_one = |proxy: &Outrigger| proxy.stats()["cache"]["one"]["requests"].as_u64().unwrap();

    let ejected = proxy.http("POST", "/pools/cache/servers/one/eject");
    let said = ejected.json();
    assert_eq!((ejected.status, &said["state"], &said["reason"]), (200, &json!("ejected"), &json!("by hand")));
    assert_eq!((&said["ejected_servers"], &said["servers"]), (&json!(1), &json!(2)));
    let before = of_one(&proxy);
    keys.iter().for_each(|key| assert_ne!(client.ask(&format!("SET {key} 2")), "nil"));
    assert_eq!(of_one(&proxy), before, "all of them went elsewhere");
    let moved = keys.iter().map(|key| proxy.json(&format!("/explain?pool=cache&key={key}")));
    let moved: Vec<Value> = moved.filter(|said| said["usual_server"] == "one").collect();
    assert!(moved.len() > 20);
    for said in moved {
        assert_eq!((&said["server"], &said["state"]), (&json!("two"), &json!("live")));
        assert!(said["away"].as_str().unwrap().ends_with("by hand"), "{said}");
    }

    let admitted = proxy.http("POST", "/pools/cache/servers/one/admit");
    assert_eq!((admitted.status, &admitted.json()["state"]), (200, &json!("live")));
    keys.iter().for_each(|key| drop(client.ask(&format!("GET {key}"))));
    assert!(of_one(&proxy) > before);
    assert_eq!(happened(&proxy), [event("one", "ejected", "by hand"), event("one", "readmitted", "by hand")]);
    // Once more changes nothing.
    assert_eq!(proxy.http("POST", "/pools/cache/servers/one/admit").json()["state"], "live");
    assert_eq!(happened(&proxy).len(), 2);
}

#[test]
fn an_operator_may_eject_more_than_the_guard_allows_and_readiness_tells() {
    let keys = ["on_readmit: keep", "slow_start: 0", "server_retry_timeout: 1h"];
    let mut proxy = Outrigger::start([pool("cache", &keys, &["one", "two"])]);
    proxy.announce("server ejected");
    assert_eq!((proxy.http("GET", "/readyz").status, &proxy.http("GET", "/readyz").body[..]), (200, "ready\n"));
    for server in ["one", "two"] {
        assert_eq!(proxy.http("POST", &format!("/pools/cache/servers/{server}/eject")).status, 200);
    }
    let unready = proxy.http("GET", "/readyz");
    assert_eq!((unready.status, &unready.body[..]), (503, "no pool has a live server\n"));
    assert_eq!(proxy.json("/topology")["not_ready_reason"], "no pool has a live server");
    assert_eq!(proxy.http("GET", "/healthz").status, 200, "it lives");
    let said = proxy.json("/explain?pool=cache&key=k");
    assert_eq!((&said["server"], &said["away"]), (&json!(null), &json!("No server of the pool is left")));
    assert!(proxy.client().ask("GET k").starts_with("-"));
    proxy.http("POST", "/pools/cache/servers/two/admit");
    assert_eq!(proxy.http("GET", "/readyz").status, 200);
}

#[test]
fn an_ejection_for_a_time_ends_by_itself_and_not_before() {
    let keys = ["on_readmit: keep", "slow_start: 0", "server_retry_timeout: 1h", "probe_successes: 1"];
    let mut proxy = Outrigger::start([pool("cache", &keys, &["one", "two"])]);
    proxy.announce("server ejected");
    let begun = std::time::Instant::now();
    let said = proxy.http("POST", "/pools/cache/servers/one/eject?for=700ms").json();
    assert!(said["until"].is_string(), "{said}");
    eventually("its return", || (state(&proxy, "one") == "live").then_some(()));
    assert!(begun.elapsed().as_millis() >= 700, "{:?}", begun.elapsed());
    let events = happened(&proxy);
    assert_eq!(events, [event("one", "ejected", "by hand"), event("one", "readmitted", "")]);
    // One that is away already stays so from now on.
    proxy.http("POST", "/pools/cache/servers/one/eject?for=1h");
    proxy.http("POST", "/pools/cache/servers/one/eject?for=100ms");
    eventually("its return", || (state(&proxy, "one") == "live").then_some(()));
    assert_eq!(proxy.stats()["cache"]["server_ejects"], 2);
}

#[test]
fn a_server_that_must_be_emptied_is_emptied_before_it_is_admitted() {
    let server = need!(Server::redis());
    let servers = [server.entry(), "local two".to_owned()];
    let pool = Pool::new("cache", "redis", &servers)
        .set("auto_eject_hosts: true")
        .set("probe_interval: 50ms")
        .set("on_readmit: flush")
        .set("server_retry_timeout: 1h")
        .set("slow_start: 0");
    let mut proxy = Outrigger::start([pool]);
    proxy.announce("server ejected");
    let name = server.name().replace(':', "%3A");
    let mut direct = server.client();
    assert_eq!(direct.ask("SET old 1"), "+OK");
    proxy.http("POST", &format!("/pools/cache/servers/{name}/eject"));
    let admitted = proxy.http("POST", &format!("/pools/cache/servers/{name}/admit"));
    assert_eq!((admitted.status, &admitted.json()["state"]), (202, &json!("ejected")));
    eventually("its return", || (state(&proxy, &server.name()) == "live").then_some(()));
    assert_eq!(direct.ask("GET old"), "nil");
}

#[test]
fn under_load_no_request_fails_while_servers_go_and_come() {
    let keys = ["on_readmit: keep", "slow_start: 200ms", "server_retry_timeout: 1h"];
    let mut proxy = Outrigger::start([pool("cache", &keys, &["one", "two", "three"])]);
    proxy.announce("server ejected");
    let address = proxy.address_of(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let address = address.clone();
                scope.spawn(move || {
                    let mut client = address.connect().unwrap();
                    let replies = (0..3000).map(|number| client.ask(&format!("SET {worker}:{number} x")));
                    replies.filter(|reply| reply != "+OK").count()
                })
            })
            .collect();
        for round in 0..10 {
            let server = ["one", "two", "three"][round % 3];
            assert_eq!(proxy.http("POST", &format!("/pools/cache/servers/{server}/eject")).status, 200);
            assert_eq!(proxy.http("POST", &format!("/pools/cache/servers/{server}/admit")).status, 200);
        }
        let failed: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(failed, 0);
    });
    let by_hand = |what: &str| happened(&proxy).iter().filter(|e| e.1 == what && e.2 == "by hand").count();
    assert_eq!(by_hand("ejected"), 10);
    assert_eq!(by_hand("returning"), 10);
}

#[test]
fn readiness_ends_with_the_signal_and_health_with_the_process() {
    let server = Fake::start(|_, talk| talk.stall());
    let pool = Pool::new("cache", "redis", &[server.entry()]).set("timeout: 0");
    let mut proxy = Outrigger::start_with("workers: 1\npre_stop_delay: 300ms\ndrain_timeout: 1s\n", [pool]);
    proxy.announce("drain limit reached");
    let mut client = proxy.client();
    // Keeps the process draining.
    client.send("GET a\r\n");
    eventually("a request in flight", || (server.accepted() > 0).then_some(()));
    proxy.signal(Signal::TERM);
    eventually("it to drain", || (proxy.http("GET", "/readyz").status == 503).then_some(()));
    assert_eq!(proxy.http("GET", "/readyz").body, "draining\n");
    eventually("no new clients", || proxy.address_of(0).connect().is_err().then_some(()));
    // The admin port is there to the end.
    let last = proxy.http("GET", "/readyz");
    assert_eq!((last.status, &last.body[..]), (503, "draining\n"));
    assert_eq!(proxy.http("GET", "/healthz").status, 200);
    assert_eq!(proxy.json("/events?last=1")["events"][0]["what"], "draining");
    let reload = proxy.http("POST", "/reload");
    assert_eq!(reload.status, 503, "{}", reload.body);
    assert_eq!(proxy.wait().code(), Some(0));
}
