//! The policies of a Redis pool.

use std::time::{Duration, Instant};

use super::support::client::resp;
use super::support::{Client, Pool, Server, eventually};
use super::{GUTTER_TTL, Scene, ejecting, says_ejected};
use crate::need;

/// Keys that say something about their server only by their hash tag.
fn keys() -> Vec<String> {
    (0..60).map(|n| format!("x{{{n}}}")).collect()
}

fn scene(policy: &str, more: Option<Pool>) -> Option<Scene> {
    let servers = Server::three(Server::redis)?;
    let pool = ejecting(Pool::redis("cache", &servers), policy)
        .set("hash: murmur")
        .set("timeout: 400ms")
        .set("hash_tag: \"{}\"")
        .set("redis_db: 3");
    let mut scene = Scene::new(servers, std::iter::once(pool).chain(more));
    assert_eq!(scene.client.ask("SELECT 3"), "+OK");
    for key in keys() {
        assert_eq!(scene.client.ask(&format!("SET {key} first")), "+OK");
    }
    scene.find_keys(&keys(), |server, key| {
        assert_eq!(server.ask("SELECT 3"), "+OK");
        server.ask(&format!("EXISTS {key}")) == "1"
    });
    Some(scene)
}

impl Scene {
    /// The reply to a command; `L0`, `K0` and so on in it are keys of the lost server and of those that stay.
    #[track_caller]
    fn redis(&mut self, command: &str) -> String {
        let command = self.with_keys(command);
        self.client.ask(&command)
    }

    #[track_caller]
    fn expect(&mut self, expected: &[(&str, &str)]) {
        for (command, reply) in expected {
            assert_eq!(self.redis(command), *reply, "{command}");
        }
    }

    /// These get the error of the ejected server.
    #[track_caller]
    fn expect_ejected(&mut self, commands: &[&str]) {
        for command in commands {
            let reply = self.redis(command);
            assert!(reply.starts_with("-ERR ") && self.says_ejected(&reply), "{command}: {reply}");
        }
    }

    fn lose_redis(&mut self, is_ejected: impl Fn(&str) -> bool) {
        self.lose(|client, key| client.ask(&format!("GET {key}")), is_ejected);
    }
}

#[test]
fn fail_fast_answers_an_error_at_once() {
    let mut scene = need!(scene("fail_fast", None));
    scene.lose_redis(|reply| reply.contains("is ejected"));
    scene.expect_ejected(&[
        "GET L1",
        "SET L1 v",
        "HGETALL L1",
        "MSET L1 v K1 v",
        "DEL K2 L1",
        "EXISTS L1 K0",
        "EVAL x 1 L1",
    ]);
    let error = scene.redis("GET L1");
    // Others are as they were, also within one request.
    let values = scene.redis("MGET K0 L1 K3");
    assert_eq!(values, format!("[\"first\" {error} \"first\"]"));
    scene.expect(&[("GET K0", "\"first\""), ("SET K0 second", "+OK"), ("MGET K0 K1", "[\"second\" \"v\"]")]);
    assert!(scene.redis("RENAME L0 K0").starts_with("-ERR 'RENAME' needs all its keys on one server"));
    // Nobody waits for anything: far more than could be asked if each had to time out.
    let begun = Instant::now();
    (0..1000).for_each(|_| assert_eq!(scene.redis("GET L1"), error));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_switched_off_reply_stays_off_for_an_ejected_server() {
    let mut scene = need!(scene("fail_fast", None));
    scene.lose_redis(|reply| reply.contains("is ejected"));
    for command in ["CLIENT REPLY OFF", "GET L0", "SET L0 v", "MGET L0 K0", "MSET L0 v K5 quiet", "CLIENT REPLY ON"] {
        let command = scene.with_keys(command);
        scene.client.send(resp(&command.split(' ').collect::<Vec<_>>()));
    }
    assert_eq!(scene.client.reply(), "+OK");
    scene.expect(&[("GET K5", "\"quiet\"")]);
}

#[test]
fn a_paused_server_costs_its_clients_one_time_out() {
    let mut scene = need!(scene("fail_fast", None));
    scene.servers[1].pause();
    let begun = Instant::now();
    eventually("the ejection", || scene.redis("GET L0").contains("is ejected").then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    scene.expect_ejected(&["GET L1", "SET L1 v"]);
    scene.servers[1].resume();
}

#[test]
fn a_miss_is_what_redis_answers_without_the_key() {
    let mut scene = need!(scene("miss", None));
    scene.lose_redis(|reply| reply == "nil");
    scene.expect(&[
        ("GET L0", "nil"),
        ("get L0", "nil"),
        ("GETRANGE L0 0 9", "\"\""),
        ("STRLEN L0", "0"),
        ("TYPE L0", "+none"),
        ("TTL L0", "-2"),
        ("EXISTS L0", "0"),
        ("HGETALL L0", "[]"),
        ("HMGET L0 a b", "[nil nil]"),
        ("HSCAN L0 0", "[\"0\" []]"),
        ("XREAD STREAMS L0 0", "nil"),
        ("MGET L0", "[nil]"),
        ("MGET L0 L1 L2", "[nil nil nil]"),
        ("MGET K0 L0 K1 L1", "[\"first\" nil \"first\" nil]"),
        ("EXISTS L0 K0 L1 K1 K1", "3"),
        ("TOUCH L0 L1", "0"),
        ("GET K0", "\"first\""),
        ("DEL K0", "1"),
    ]);
    scene.expect_ejected(&[
        "SET L0 v",
        "INCR L0",
        "GETEX L0",
        "DEL L0",
        "DEL K1 L0",
        "MSET K1 v L0 v",
        "EVAL x 1 L0",
        "EVAL_RO x 1 L0",
        "XPENDING L0 g",
        "XINFO STREAM L0",
    ]);
    // Of several keys with one hash tag, all are with the lost server.
    let tag = scene.lost(0).trim_start_matches('x').to_owned();
    assert_eq!(scene.client.ask(&format!("SINTER a{tag} b{tag}")), "[]");
    assert_eq!(scene.client.ask(&format!("ZUNION 2 a{tag} b{tag}")), "[]");
    assert!(scene.client.ask(&format!("SINTERSTORE c{tag} a{tag}")).contains("is ejected"));
}

/// A pool of two to stand in, in another database.
fn spare(servers: &[Server]) -> Pool {
    Pool::redis("spare", servers).set("hash_tag: \"{}\"").set("redis_db: 5").set("timeout: 400ms")
}

fn with_spare(more: impl Fn(Pool) -> Pool) -> Option<(Scene, [Server; 2])> {
    let spares = [Server::redis()?, Server::redis()?];
    let pool = more(spare(&spares));
    Some((scene("spare", Some(pool))?, spares))
}

/// A client of the one that has the key, in its database.
fn holder(spares: &[Server], key: &str) -> Option<Client> {
    spares.iter().map(Server::client).find_map(|mut client| {
        assert_eq!(client.ask("SELECT 5"), "+OK");
        (client.ask(&format!("EXISTS {key}")) == "1").then_some(client)
    })
}

#[track_caller]
fn assert_capped(spares: &[Server], key: &str, most: i64) {
    let mut holder = holder(spares, key).unwrap_or_else(|| panic!("no spare has {key}"));
    let ttl: i64 = holder.ask(&format!("TTL {key}")).parse().unwrap();
    assert!((1..=most).contains(&ttl), "{key} lives for {ttl} s");
}

#[test]
fn a_pool_stands_in_and_keeps_nothing_for_long() {
    let (mut scene, spares) = need!(with_spare(|pool| pool));
    // Nothing of the stand-in shows while all is well.
    assert!(scene.keys.iter().flatten().all(|key| holder(&spares, key).is_none()));
    scene.lose_redis(|reply| reply == "nil");
    scene.expect(&[
        ("SET L0 v", "+OK"),
        ("GET L0", "\"v\""),
        ("SET L1 v EX 5", "+OK"),
        ("SET L2 v EX 1000", "+OK"),
        ("RPUSH L3 a b", "2"),
        ("EXPIRE L3 1000", "1"),
        ("SETEX L4 1000 v", "+OK"),
        ("PERSIST L4", "1"),
        ("EVAL return(redis.call('SET',KEYS[1],1)) 1 L5", "+OK"),
        ("LRANGE L3 0 -1", "[\"a\" \"b\"]"),
        ("MGET K0 L0 L1", "[\"first\" \"v\" \"v\"]"),
        // What it refuses is refused in its turn, and the dropped reply behind it stays dropped.
        ("INCR L0", "-ERR value is not an integer or out of range"),
        ("GET L0", "\"v\""),
    ]);
    for (index, most) in [(0, GUTTER_TTL), (1, 5), (2, GUTTER_TTL), (3, GUTTER_TTL), (4, GUTTER_TTL), (5, GUTTER_TTL)] {
        assert_capped(&spares, &scene.lost(index), most);
    }
    assert_eq!(scene.redis("TTL K0"), "-1", "those of other servers live on");
    assert_eq!(scene.redis("GET K0"), "\"first\"");
}

#[test]
fn split_commands_and_hash_tags_reach_across_both_pools() {
    let (mut scene, spares) = need!(with_spare(|pool| pool));
    scene.lose_redis(|reply| reply == "nil");
    scene.expect(&[
        ("MSET L0 a K0 b L1 c L2 d K1 e", "+OK"),
        ("MGET L0 K0 L1 L2 K1 L3", "[\"a\" \"b\" \"c\" \"d\" \"e\" nil]"),
        ("EXISTS L0 K0 L1 L3", "3"),
        ("DEL L1 K0 L3", "2"),
        ("MGET L0 K0 L1", "[\"a\" nil nil]"),
        ("MSET L4 x L4 y", "+OK"),
        ("GET L4", "\"y\""),
    ]);
    for index in [0, 2, 4] {
        assert_capped(&spares, &scene.lost(index), GUTTER_TTL);
    }
    assert_eq!(scene.redis("TTL K1"), "-1");
    let tag = scene.lost(0).trim_start_matches('x').to_owned();
    for (command, reply) in [
        ("SADD a_ 1 2", "2"),
        ("SADD b_ 2 3", "2"),
        ("SINTERSTORE c_ a_ b_", "1"),
        ("SMEMBERS c_", "[\"2\"]"),
        ("RENAME c_ d_", "+OK"),
        ("SMOVE a_ e_ 1", "1"),
        ("COPY b_ f_", "1"),
    ] {
        assert_eq!(scene.client.ask(&command.replace('_', &tag)), reply, "{command}");
    }
    ["a", "b", "d", "e", "f"].iter().for_each(|key| assert_capped(&spares, &format!("{key}{tag}"), GUTTER_TTL));
}

#[test]
fn the_write_that_finds_a_server_dead_goes_to_the_stand_in() {
    let (mut scene, spares) = need!(with_spare(|pool| pool));
    scene.kill_unnoticed();
    scene.expect(&[("SET L0 v", "+OK"), ("GET L0", "\"v\"")]);
    assert_capped(&spares, &scene.lost(0), GUTTER_TTL);
    assert!(scene.proxy.log().contains("server ejected"));
}

#[test]
fn pipelines_through_a_stand_in_stay_in_step() {
    let (mut scene, _spares) = need!(with_spare(|pool| pool));
    scene.lose_redis(|reply| reply == "nil");
    let keys: Vec<String> = scene.keys.iter().flatten().cloned().collect();
    let mut pipeline = Vec::new();
    for round in 0..50 {
        for key in &keys {
            pipeline.extend(resp(&["SET", key, &format!("{key}-{round}")]));
            pipeline.extend(resp(&["GET", key]));
        }
    }
    scene.client.send_aside(pipeline);
    for round in 0..50 {
        for key in &keys {
            assert_eq!(scene.client.reply(), "+OK");
            assert_eq!(scene.client.reply(), format!("\"{key}-{round}\""));
        }
    }
}

#[test]
fn a_stand_in_that_dies_is_named_in_the_error() {
    let (mut scene, mut spares) = need!(with_spare(|pool| pool));
    scene.lose_redis(|reply| reply == "nil");
    let lost = scene.lost(0);
    scene.expect(&[("SET L0 v", "+OK")]);
    let dead = spares.iter().position(|spare| holder(std::slice::from_ref(spare), &lost).is_some()).unwrap();
    spares[dead].kill();
    let told = format!("(pool spare, server {})", spares[dead].name());
    eventually("the error", || {
        let reply = scene.redis("GET L0");
        assert!(reply.starts_with("-ERR Connection "), "{reply}");
        reply.ends_with(&told).then_some(())
    });
    let values = scene.redis("MGET K0 L0");
    assert!(values.starts_with("[\"first\" -ERR Connection "), "{values}");
    spares[dead].restart();
    eventually("the stand-in's return", || (scene.redis("SET L0 v") == "+OK").then_some(()));
    assert_eq!(scene.redis("GET L0"), "\"v\"");
}

#[test]
fn a_stand_in_may_eject_as_well() {
    for (policy, becomes) in [("rehash", "nil"), ("miss", "nil"), ("fail_fast", "error")] {
        let (mut scene, mut spares) = need!(with_spare(|pool| ejecting(pool, policy)));
        scene.lose_redis(|reply| reply == "nil");
        let lost = scene.lost(0);
        scene.expect(&[("SET L0 v", "+OK")]);
        let dead = spares.iter().position(|spare| holder(std::slice::from_ref(spare), &lost).is_some()).unwrap();
        spares[dead].kill();
        let is_error = |reply: &str| says_ejected(reply, "spare", &spares[dead]);
        eventually("the second ejection", || {
            let reply = scene.redis("GET L0");
            (if becomes == "error" { is_error(&reply) } else { reply == becomes }).then_some(())
        });
        let (stored, values) = (scene.redis("SET L0 w"), scene.redis("MGET L0 K0"));
        match policy {
            "rehash" => assert_eq!((&stored[..], &values[..]), ("+OK", "[\"w\" \"first\"]")),
            "miss" => assert!(is_error(&stored) && values == "[nil \"first\"]", "{stored} {values}"),
            _ => assert!(is_error(&stored) && values.contains(&stored), "{stored} {values}"),
        }
    }
}
