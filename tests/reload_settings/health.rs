//! Who is ejected, when, and what becomes of its keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::scene::{Scene, answering, at, mute, until};
use crate::Case;
use crate::support::{Client, Fake, Pool, Port};

pub const CASES: &[Case] = &[
    ("auto_eject_hosts", || ejects("auto_eject_hosts", "false", "true")),
    ("server_failure_limit", || ejects("server_failure_limit", "1000000", "3")),
    ("max_ejected_percent", || ejects("max_ejected_percent", "0", "100")),
    ("probe_interval", probe_interval),
    ("probe_timeout", probe_timeout),
    ("failure_replies", failure_replies),
    ("server_retry_timeout", || readmits("server_retry_timeout", "1h", "10ms")),
    ("probe_successes", || readmits("probe_successes", "100", "1")),
    ("slow_start", || readmits("slow_start", "1h", "0")),
    ("on_readmit", on_readmit),
    ("on_ejected", on_ejected),
    ("gutter_ttl", gutter_ttl),
];

/// Keys with which a failure ejects at once and a good probe brings back at once, but that nothing is probed.
const QUICK: [&str; 9] = [
    "auto_eject_hosts: true",
    "server_failure_limit: 1",
    "server_retry_timeout: 10ms",
    "max_ejected_percent: 100",
    "on_readmit: keep",
    "probe_interval: 1h",
    "probe_timeout: 5s",
    "probe_successes: 1",
    "slow_start: 0",
];

/// With other values for some of the keys.
fn quick(pool: Pool, other: &[&str]) -> Pool {
    let key = |line: &str| line.split(':').next().unwrap().to_owned();
    let replaced = |line: &str| other.iter().any(|o| key(o) == key(line));
    let lines = QUICK.iter().copied().filter(|line| !replaced(line)).chain(other.iter().copied());
    lines.fold(pool, |pool, line| pool.set(line))
}

/// Nobody listens there.
fn nobody() -> (Port, Pool) {
    let port = Port::reserve();
    let pool = at(&port.address().to_string()).set("timeout: 50ms");
    (port, pool)
}

/// A Redis that is loading or well, and whether it was emptied.
struct Patient {
    server: Fake,
    well: Arc<AtomicBool>,
    emptied: Arc<AtomicBool>,
}

impl Patient {
    fn new() -> Self {
        let [well, emptied] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (is_well, was_emptied) = (well.clone(), emptied.clone());
        let server = answering(move |request| {
            was_emptied.fetch_or(request.starts_with("FLUSHDB"), SeqCst);
            if is_well.load(SeqCst) { "+OK\r\n" } else { "-LOADING wait\r\n" }.to_owned()
        });
        Self { server, well, emptied }
    }

    fn recovers(&self) {
        self.well.store(true, SeqCst);
    }
}

/// Clients ask until it is ejected.
fn is_ejected(scene: &Scene, client: &mut Client) {
    until("an ejection", || {
        client.ask("GET a");
        scene.state() == "ejected"
    });
}

/// A server that cannot be connected to is ejected under the new value, and not under the old.
fn ejects(key: &str, from: &str, to: &str) {
    let (from, to) = (format!(" {key}: {from}\n"), format!(" {key}: {to}\n"));
    let (_port, pool) = nobody();
    let scene = Scene::new("", quick(pool, &[from.trim()]));
    let mut client = scene.proxy.client();
    (0..20).for_each(|_| assert!(client.ask("GET a").starts_with('-')));
    assert_eq!(scene.state(), "live");
    scene.change(&from, &to);
    is_ejected(&scene, &mut client);
}

fn probe_interval() {
    let (_port, pool) = nobody();
    let scene = Scene::new("", quick(pool, &[]));
    scene.pass();
    assert_eq!(scene.state(), "live");
    scene.change("probe_interval: 1h", "probe_interval: 10ms");
    scene.becomes("ejected");
}

fn probe_timeout() {
    let server = mute();
    let scene = Scene::new("", quick(at(&server.entry()), &["probe_interval: 10ms", "probe_timeout: 1h"]));
    until("a probe", || server.accepted() > 0);
    assert_eq!(scene.state(), "live");
    scene.change("probe_timeout: 1h", "probe_timeout: 20ms");
    scene.becomes("ejected");
}

fn failure_replies() {
    let patient = Patient::new();
    let scene = Scene::new("", quick(at(&patient.server.entry()), &["failure_replies: []"]));
    let mut client = scene.proxy.client();
    (0..20).for_each(|_| assert_eq!(client.ask("GET a"), "-LOADING wait"));
    assert_eq!(scene.state(), "live");
    scene.change("failure_replies: []", "failure_replies: [LOADING]");
    is_ejected(&scene, &mut client);
}

/// A server that was ejected under the old value, and is well, is back under the new.
fn readmits(key: &str, from: &str, to: &str) {
    let (from, to) = (format!(" {key}: {from}\n"), format!(" {key}: {to}\n"));
    let patient = Patient::new();
    let scene = Scene::new("", quick(at(&patient.server.entry()), &[from.trim(), "probe_interval: 300ms"]));
    is_ejected(&scene, &mut scene.proxy.client());
    patient.recovers();
    until("a server that is well and not back", || {
        let state = scene.state();
        assert_ne!(state, "live");
        scene.of_server("server_failures") == 0 || state.starts_with("returning")
    });
    scene.change(&from, &to);
    scene.becomes("live");
}

fn on_readmit() {
    let patient = Patient::new();
    let scene = Scene::new("", quick(at(&patient.server.entry()), &["probe_interval: 10ms"]));
    is_ejected(&scene, &mut scene.proxy.client());
    scene.change("on_readmit: keep", "on_readmit: flush");
    patient.recovers();
    scene.becomes("live");
    assert!(patient.emptied.load(SeqCst));
}

fn on_ejected() {
    let (_port, pool) = nobody();
    let scene = Scene::new("", quick(pool, &["on_ejected: fail_fast"]));
    let mut client = scene.proxy.client();
    is_ejected(&scene, &mut client);
    let said = client.ask("GET a");
    assert!(said.starts_with("-ERR Server is ejected"), "{said}");
    scene.change("on_ejected: fail_fast", "on_ejected: miss");
    scene.says(&mut client, "GET a", "nil");
    scene.change("on_ejected: miss", "on_ejected: rehash");
    scene.says(&mut client, "GET a", "-ERR no live server");
}

fn gutter_ttl() {
    let (_port, pool) = nobody();
    let pool = quick(pool, &["on_ejected: gutter", "gutter_ttl: 1000s"]);
    let scene = Scene::of("", [pool, Pool::new("gutter", "redis", &["local two".to_owned()])]);
    let mut client = scene.proxy.client();
    is_ejected(&scene, &mut client);
    assert_eq!(client.ask("SET a 1"), "+OK");
    let ttl = |scene: &Scene| scene.proxy.client_of(1).ask("TTL a").parse::<u64>().unwrap();
    assert!((900..=1000).contains(&ttl(&scene)));
    scene.change("gutter_ttl: 1000s", "gutter_ttl: 10s");
    until("a shorter life", || client.ask("SET a 1") == "+OK" && ttl(&scene) <= 10);
}
