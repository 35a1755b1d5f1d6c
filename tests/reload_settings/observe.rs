//! What is told of requests and keys.

use std::time::Duration;

use serde_json::Value;

use super::scene::{Scene, at, local, until};
use crate::Case;
use crate::support::client::resp;
use crate::support::{Fake, Pool};

pub const CASES: &[Case] = &[
    ("observe.metrics", metrics),
    ("observe.hot_keys", hot_keys),
    ("observe.keys", keys),
    ("observe.slowlog_entries", entries),
    ("observe.slowlog_per_second", per_second),
    ("observe.slowlog_to_log", to_log),
    ("slowlog_threshold", threshold),
];

/// A server for whose every reply one waits a little, with this below `observe:`.
fn slow(line: &str, threshold: &str) -> (Fake, Scene) {
    let server = Fake::start(|_, talk| {
        while talk.request().is_some() {
            std::thread::sleep(Duration::from_millis(20));
            talk.say("+OK\r\n");
        }
    });
    let pool: Pool = at(&server.entry()).set(&format!("slowlog_threshold: {threshold}"));
    let scene = Scene::new(&format!("observe:\n  {line}\n"), pool);
    (server, scene)
}

fn log(scene: &Scene) -> Value {
    scene.proxy.json("/slowlog")
}

fn recorded(scene: &Scene) -> u64 {
    log(scene)["recorded"].as_u64().unwrap()
}

/// A few requests, one after the other.
fn ask(scene: &Scene, requests: usize) {
    let mut client = scene.proxy.client();
    (0..requests).for_each(|_| assert_eq!(client.ask("GET the-key"), "+OK"));
}

fn metrics() {
    let scene = Scene::new("observe:\n  metrics: true\n", local());
    let counted = |scene: &Scene| {
        let topology = scene.proxy.json("/topology");
        topology["pools"][0]["requests"]["read"]["miss"].as_u64().unwrap()
    };
    let ask = |scene: &Scene| assert_eq!(scene.proxy.client().ask("GET a"), "nil");
    ask(&scene);
    assert_eq!(counted(&scene), 1);
    scene.change("metrics: true", "metrics: false");
    until("a request that is not counted", || {
        let before = counted(&scene);
        ask(&scene);
        counted(&scene) == before
    });
    scene.change("metrics: false", "metrics: true");
    let before = counted(&scene);
    until("requests that are counted again", || {
        ask(&scene);
        counted(&scene) > before
    });
}

fn hot_keys() {
    let scene = Scene::new("observe:\n  hot_keys: true\n", local());
    let ask = |scene: &Scene| {
        scene.proxy.client().exchange(resp(&["GET", "a"]).repeat(1000), "$-1\r\n".repeat(1000));
    };
    let hottest = |scene: &Scene| scene.proxy.json("/hotkeys")["pools"][0]["hot"][0]["key"].clone();
    ask(&scene);
    assert_eq!(hottest(&scene), "a");
    scene.change("hot_keys: true", "hot_keys: false");
    ask(&scene);
    assert_eq!(scene.proxy.json("/hotkeys")["pools"], Value::Array(Vec::new()));
    scene.change("hot_keys: false", "hot_keys: true");
    assert_eq!(hottest(&scene), Value::Null, "what was known is forgotten");
    ask(&scene);
    assert_eq!(hottest(&scene), "a");
}

fn keys() {
    let (_server, scene) = slow("keys: plain", "10ms");
    ask(&scene, 1);
    let key = |scene: &Scene| log(scene)["entries"][0]["key"].as_str().unwrap().to_owned();
    assert_eq!(key(&scene), "the-key");
    scene.change("keys: plain", "keys: hash");
    assert_eq!(key(&scene).len(), 16);
    scene.change("keys: hash", "keys: off");
    assert_eq!(key(&scene), "");
}

fn entries() {
    let (_server, scene) = slow("slowlog_entries: 256", "10ms");
    ask(&scene, 5);
    let shown = |scene: &Scene| log(scene)["entries"].as_array().unwrap().len();
    assert_eq!(shown(&scene), 5);
    scene.change("slowlog_entries: 256", "slowlog_entries: 2");
    assert_eq!(shown(&scene), 2);
    ask(&scene, 2);
    assert_eq!(shown(&scene), 2);
}

fn per_second() {
    let (_server, scene) = slow("slowlog_per_second: 1000", "10ms");
    ask(&scene, 5);
    assert_eq!(recorded(&scene), 5);
    scene.change("slowlog_per_second: 1000", "slowlog_per_second: 0");
    ask(&scene, 5);
    assert_eq!((recorded(&scene), &log(&scene)["dropped"]), (5, &Value::from(5)));
}

fn to_log() {
    let (_server, scene) = slow("slowlog_to_log: false", "10ms");
    let lines = |scene: &Scene| scene.proxy.log().matches("slow request").count();
    ask(&scene, 1);
    assert_eq!((recorded(&scene), lines(&scene)), (1, 0));
    scene.change("slowlog_to_log: false", "slowlog_to_log: true");
    ask(&scene, 1);
    until("a line of the log", || lines(&scene) == 1);
}

fn threshold() {
    let (server, scene) = slow("keys: plain", "1h");
    let mut client = scene.proxy.client();
    let ask = |client: &mut crate::support::Client| assert_eq!(client.ask("GET a"), "+OK");
    ask(&mut client);
    assert_eq!(recorded(&scene), 0);
    scene.change("slowlog_threshold: 1h", "slowlog_threshold: 10ms");
    until("a slow request", || {
        ask(&mut client);
        recorded(&scene) > 0
    });
    scene.change("slowlog_threshold: 10ms", "slowlog_threshold: 0");
    until("none any more", || {
        let before = recorded(&scene);
        ask(&mut client);
        recorded(&scene) == before
    });
    assert_eq!(server.accepted(), 1, "connections are not made anew");
}
