//! The policies of a memcached pool.

use super::support::{Pool, Server, eventually};
use super::{GUTTER_TTL, Scene, ejecting, says_ejected};
use crate::need;

fn scene(policy: &str, more: Option<Pool>) -> Option<Scene> {
    let servers = Server::three(Server::memcached)?;
    let pool = ejecting(Pool::memcached("cache", &servers), policy).set("hash: murmur").set("timeout: 400ms");
    let mut scene = Scene::new(servers, std::iter::once(pool).chain(more));
    let keys: Vec<String> = (0..60).map(|n| format!("key{n}")).collect();
    for key in &keys {
        assert_eq!(scene.client.tell(&format!("set {key} 0 0 5|first")), "STORED");
    }
    scene.find_keys(&keys, |server, key| server.tell(&format!("get {key}")) != "END");
    Some(scene)
}

impl Scene {
    /// `L0`, `K0` and so on are keys of the lost server and of those that stay.
    #[track_caller]
    fn memcached(&mut self, request: &str) -> String {
        let request = self.with_keys(request);
        self.client.tell(&request)
    }

    #[track_caller]
    fn told(&mut self, expected: &[(&str, &str)]) {
        for (request, reply) in expected {
            let reply = self.with_keys(reply);
            assert_eq!(self.memcached(request), reply, "{request}");
        }
    }

    #[track_caller]
    fn told_ejected(&mut self, requests: &[&str]) {
        for request in requests {
            let reply = self.memcached(request);
            assert!(reply.starts_with("SERVER_ERROR ") && self.says_ejected(&reply), "{request}: {reply}");
        }
    }

    fn lose_memcached(&mut self, is_ejected: impl Fn(&str) -> bool) {
        self.lose(|client, key| client.tell(&format!("get {key}")), is_ejected);
    }
}

#[test]
fn fail_fast_answers_an_error_at_once() {
    let mut scene = need!(scene("fail_fast", None));
    scene.lose_memcached(|reply| reply.contains("is ejected"));
    scene.told_ejected(&[
        "get L1",
        "gat 9 L1",
        "get K0 L1",
        "set L1 0 0 1|v",
        "incr L1 1",
        "delete L1",
        "touch L1 9",
        "flush_all 1000",
    ]);
    scene.told(&[("get K0", "VALUE K0 0 5|first|END"), ("set K0 0 0 1|v", "STORED")]);
    // Nothing is answered to those that want no answer.
    scene
        .client
        .send(scene.with_keys("set L0 0 0 1 noreply\r\nv\r\nset K1 0 0 1 noreply\r\nw\r\nflush_all 1000 noreply\r\n"));
    scene.told(&[("get K1", "VALUE K1 0 1|w|END")]);
}

#[test]
fn a_miss_finds_nothing_and_stores_nothing() {
    let mut scene = need!(scene("miss", None));
    scene.lose_memcached(|reply| reply == "END");
    // What another server may hold of a former ejection is not looked for.
    let stale = format!("set {} 0 0 5|stale", scene.lost(0));
    assert_eq!(scene.servers[0].client().tell(&stale), "STORED");
    scene.told(&[
        ("get L0", "END"),
        ("gets L0", "END"),
        ("gat 9 L0", "END"),
        ("get L0 L1", "END"),
        ("get L0 K0", "VALUE K0 0 5|first|END"),
        ("get L0 K0 L1 K1", "VALUE K0 0 5|first|VALUE K1 0 5|first|END"),
        ("gat 900 K0 L0", "VALUE K0 0 5|first|END"),
        ("set L0 0 0 1|v", "NOT_STORED"),
        ("add L0 0 0 1|v", "NOT_STORED"),
        ("replace L0 0 0 1|v", "NOT_STORED"),
        ("append L0 0 0 1|v", "NOT_STORED"),
        ("prepend L0 0 0 1|v", "NOT_STORED"),
        ("cas L0 0 0 1 7|v", "NOT_FOUND"),
        ("incr L0 1", "NOT_FOUND"),
        ("decr L0 1", "NOT_FOUND"),
        ("touch L0 9", "NOT_FOUND"),
        ("set K2 0 0 1|v", "STORED"),
    ]);
    // An invalidation that is lost must not look like one that had nothing to do.
    scene.told_ejected(&["delete L0", "flush_all 1000"]);
    scene.client.send(scene.with_keys("set L0 0 0 1 noreply\r\nv\r\ndelete L1 noreply\r\n"));
    scene.told(&[("get K2", "VALUE K2 0 1|v|END")]);
}

fn with_spare(more: impl Fn(Pool) -> Pool) -> Option<(Scene, [Server; 2])> {
    let spares = [Server::memcached()?, Server::memcached()?];
    let pool = more(Pool::memcached("spare", &spares).set("timeout: 400ms"));
    Some((scene("spare", Some(pool))?, spares))
}

/// How long the key lives with the spare that has it, in seconds; -1: for ever.
fn lifetime(spares: &[Server], key: &str) -> Option<i64> {
    spares.iter().map(Server::client).find_map(|mut client| {
        client.send(format!("mg {key} t\r\n"));
        client.line().strip_prefix("HD t").map(|seconds| seconds.parse().unwrap())
    })
}

#[track_caller]
fn assert_capped(scene: &Scene, spares: &[Server], keys: &[&str], most: i64) {
    for key in keys {
        let lifetime = lifetime(spares, &scene.with_keys(key)).unwrap_or_else(|| panic!("no spare has {key}"));
        assert!((most - 5..=most).contains(&lifetime), "{key} lives for {lifetime} s");
    }
}

#[test]
fn a_pool_stands_in_and_keeps_nothing_for_long() {
    let (mut scene, spares) = need!(with_spare(|pool| pool));
    assert!(scene.keys.iter().flatten().all(|key| lifetime(&spares, key).is_none()));
    scene.lose_memcached(|reply| reply == "END");
    let tomorrow = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 86_400;
    scene.told(&[
        ("set L0 7 0 5|value", "STORED"),
        ("get L0", "VALUE L0 7 5|value|END"),
        ("add L1 0 1000 1|v", "STORED"),
        (&format!("set L2 0 {tomorrow} 2|10"), "STORED"),
        ("set L3 0 10 1|v", "STORED"),
        ("append L0 0 0 1|s", "STORED"),
        ("incr L2 5", "15"),
        ("get L0 K0 L2 nothing L3", "VALUE L0 7 6|values|VALUE K0 0 5|first|VALUE L2 0 2|15|VALUE L3 0 1|v|END"),
        ("set L4 0 -1 1|v", "STORED"),
        ("get L4", "END"),
        ("delete L4", "NOT_FOUND"),
    ]);
    assert_capped(&scene, &spares, &["L0", "L1", "L2"], GUTTER_TTL);
    assert_capped(&scene, &spares, &["L3"], 10);
    scene.told(&[
        ("touch L3 1000", "TOUCHED"),
        ("gat 0 L1", "VALUE L1 0 1|v|END"),
        ("gat 12 L0 K0 L2", "VALUE L0 7 6|values|VALUE K0 0 5|first|VALUE L2 0 2|15|END"),
    ]);
    assert_capped(&scene, &spares, &["L3", "L1"], GUTTER_TTL);
    assert_capped(&scene, &spares, &["L0", "L2"], 12);
    scene.told(&[("gat 1000 L0 K0", "VALUE L0 7 6|values|VALUE K0 0 5|first|END")]);
    assert_capped(&scene, &spares, &["L0"], GUTTER_TTL);
    // `noreply` is left out on the way, as ever.
    scene.client.send(scene.with_keys("set L5 0 0 5 noreply\r\nquiet\r\ntouch L1 0 noreply\r\n"));
    scene.told(&[("get L5", "VALUE L5 0 5|quiet|END")]);
    assert_capped(&scene, &spares, &["L5", "L1"], GUTTER_TTL);
}

#[test]
fn the_write_that_finds_a_server_dead_goes_to_the_stand_in() {
    let (mut scene, spares) = need!(with_spare(|pool| pool));
    scene.kill_unnoticed();
    scene.told(&[("set L0 7 0 5|value", "STORED"), ("get L0", "VALUE L0 7 5|value|END")]);
    assert_capped(&scene, &spares, &["L0"], GUTTER_TTL);
    assert!(scene.proxy.log().contains("server ejected"));
}

#[test]
fn items_of_other_servers_live_on() {
    let (mut scene, _spares) = need!(with_spare(|pool| pool));
    scene.lose_memcached(|reply| reply == "END");
    scene.told(&[("gat 1000 K0 L0", "VALUE K0 0 5|first|END"), ("set K2 0 0 1|v", "STORED")]);
    assert!(lifetime(&scene.servers[..1], &scene.kept(0)).is_some_and(|seconds| seconds > 900));
    assert_eq!(lifetime(&scene.servers[..1], &scene.kept(2)), Some(-1));
}

#[test]
fn flush_all_empties_the_stand_in_too() {
    let (mut scene, spares) = need!(with_spare(|pool| pool));
    scene.told(&[("flush_all", "OK"), ("set K0 0 0 1|v", "STORED")]);
    scene.lose_memcached(|reply| reply == "END");
    scene.told(&[("set L0 0 0 1|v", "STORED")]);
    assert!(lifetime(&spares, &scene.lost(0)).is_some());
    // The ejected server still has what it had, and that is said.
    scene.told_ejected(&["flush_all"]);
    scene.told(&[("get L0 K0", "END")]);
    assert_eq!(lifetime(&spares, &scene.lost(0)), None);
}

#[test]
fn a_stand_in_that_dies_is_named_in_the_error() {
    let (mut scene, mut spares) = need!(with_spare(|pool| pool));
    scene.lose_memcached(|reply| reply == "END");
    scene.told(&[("set L0 0 0 1|v", "STORED")]);
    let lost = scene.lost(0);
    let dead = spares.iter().position(|spare| lifetime(std::slice::from_ref(spare), &lost).is_some()).unwrap();
    spares[dead].kill();
    let told = format!("(pool spare, server {})", spares[dead].name());
    eventually("the error", || {
        let reply = scene.memcached("get K0 L0");
        assert!(reply.starts_with("SERVER_ERROR Connection "), "{reply}");
        reply.ends_with(&told).then_some(())
    });
    spares[dead].restart();
    eventually("the stand-in's return", || (scene.memcached("set L0 0 0 1|v") == "STORED").then_some(()));
    scene.told(&[("get K0 L0", "VALUE K0 0 5|first|VALUE L0 0 1|v|END")]);
}

#[test]
fn a_stand_in_may_eject_as_well() {
    for policy in ["rehash", "miss", "fail_fast"] {
        let (mut scene, mut spares) = need!(with_spare(|pool| ejecting(pool, policy)));
        scene.lose_memcached(|reply| reply == "END");
        scene.told(&[("set L0 0 0 1|v", "STORED")]);
        let lost = scene.lost(0);
        let dead = spares.iter().position(|spare| lifetime(std::slice::from_ref(spare), &lost).is_some()).unwrap();
        spares[dead].kill();
        let is_error = |reply: &str| says_ejected(reply, "spare", &spares[dead]);
        eventually("the second ejection", || {
            let reply = scene.memcached("get L0");
            (if policy == "fail_fast" { is_error(&reply) } else { reply == "END" }).then_some(())
        });
        let (stored, found) = (scene.memcached("set L0 0 0 1|w"), scene.memcached("get L0 K0"));
        let (key, kept) = (scene.lost(0), scene.kept(0));
        match policy {
            "rehash" => {
                assert_eq!(stored, "STORED");
                assert_eq!(found, format!("VALUE {key} 0 1|w|VALUE {kept} 0 5|first|END"));
            }
            "miss" => assert_eq!((&stored[..], found), ("NOT_STORED", format!("VALUE {kept} 0 5|first|END"))),
            _ => assert!(is_error(&stored) && is_error(&found), "{stored} {found}"),
        }
    }
}
