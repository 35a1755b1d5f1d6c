//! Slow requests, hot keys and big keys, as they are asked for at the admin port.

mod support;

use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::client::resp;
use support::{Client, Fake, Outrigger, Pool, Server, eventually};

/// What the servers of these tests do when they are asked for a key with `slow` in it.
const DELAY: Duration = Duration::from_millis(300);
/// Above what a request to a server that is not slow takes on a machine with much to do, one hopes.
const THRESHOLD: &str = "slowlog_threshold: 200ms";

/// A Redis that is slow for some keys, and gives up its connection for others.
fn slow_redis() -> Fake {
    Fake::start(|_, talk| {
        while let Some(request) = talk.request() {
            if request.contains("slow") {
                thread::sleep(DELAY);
            }
            match request.split([' ', ':']).collect::<Vec<_>>()[..] {
                [_, "lost", ..] => return,
                [_, "none", ..] => talk.say("$-1\r\n"),
                [_, "wrong", ..] => talk.say("-WRONGTYPE x\r\n"),
                ["SET", ..] => talk.say("+OK\r\n"),
                ["MGET", ..] => talk.say("*".to_owned() + &elements(request.split(' ').skip(1))),
                _ => talk.say("$5\r\nvalue\r\n"),
            }
        }
    })
}

/// An array without its first byte.
fn elements<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let keys: Vec<String> = keys.map(|key| format!("${}\r\n{key}\r\n", key.len())).collect();
    format!("{}\r\n{}", keys.len(), keys.concat())
}

/// A memcached that is slow for some keys.
fn slow_memcached() -> Fake {
    Fake::start(|_, talk| {
        while let Some(line) = talk.line() {
            if line.contains("slow") {
                thread::sleep(DELAY);
            }
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["set", ..] => {
                    talk.line();
                    talk.say("STORED\r\n");
                }
                ["get", key, ..] if !key.contains("none") => talk.say(format!("VALUE {key} 0 1\r\nx\r\nEND\r\n")),
                _ => talk.say("END\r\n"),
            }
        }
    })
}

fn start(globals: &str, pool: Pool) -> Outrigger {
    Outrigger::start_with(&format!("workers: 1\n{globals}"), [pool.set(THRESHOLD)])
}

/// The entries of keys that are slow, newest first, when there are so many.
#[track_caller]
fn slow(proxy: &Outrigger, count: usize) -> Vec<Value> {
    eventually(&format!("{count} slow requests"), || {
        let entries = proxy.json("/slowlog")["entries"].as_array().unwrap().clone();
        let slow: Vec<Value> = entries.into_iter().filter(|e| e["key"].as_str().unwrap().contains("slow")).collect();
        (slow.len() >= count).then_some(slow)
    })
}

/// Some fields as text.
fn fields(entry: &Value, names: &[&str]) -> String {
    let field = |name: &&str| match &entry[*name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    names.iter().map(field).collect::<Vec<_>>().join(" ")
}

fn number(entry: &Value, name: &str) -> u64 {
    entry[name].as_u64().unwrap_or_else(|| panic!("{name} of {entry}"))
}

/// All slow requests, kept or not.
fn counted(proxy: &Outrigger) -> u64 {
    let metrics = proxy.http("GET", "/metrics").body;
    let counts = metrics.lines().filter(|line| line.starts_with("outrigger_slow_requests_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

const WHAT: [&str; 5] = ["pool", "command", "key", "result", "reason"];

#[test]
fn a_slow_request_is_told_with_its_key_its_times_and_its_result() {
    let server = slow_redis();
    let proxy = start("", Pool::new("cache", "redis", &[format!("{} one", server.entry())]));
    let mut client = proxy.client();
    assert_eq!(client.ask("GET fast"), "\"value\"");
    assert_eq!(client.ask("GET slow"), "\"value\"");
    assert_eq!(client.ask("get none:slow"), "nil");
    assert!(client.ask("HGET wrong:slow field").starts_with("-WRONGTYPE"));
    assert_eq!(client.ask(&format!("SET slow:large {}", "x".repeat(100_000))), "+OK");
    let entries = slow(&proxy, 4);
    let told: Vec<String> = entries.iter().rev().map(|entry| fields(entry, &WHAT)).collect();
    let expected = [
        "cache GET slow ok null",
        "cache GET none:slow miss null",
        "cache HGET wrong:slow error null",
        "cache SET slow:large ok null",
    ];
    assert_eq!(told, expected);
    let (get, set) = (&entries[3], &entries[0]);
    assert_eq!((number(get, "request_bytes"), number(get, "response_bytes")), (23, 11));
    assert_eq!((number(set, "request_bytes"), number(set, "response_bytes")), (100_041, 5));
    for entry in &entries {
        assert_eq!(entry["server"], "one");
        assert!(entry["at"].as_str().unwrap().ends_with('Z'), "{entry}");
        assert!((300_000..5_000_000).contains(&number(entry, "server_us")), "{entry}");
        assert!(number(entry, "queue_us") < 1_000_000, "{entry}");
    }
    assert!(counted(&proxy) >= 4, "{}", counted(&proxy));
    let log = proxy.json("/slowlog?last=2");
    assert_eq!(log["entries"].as_array().map(Vec::len), Some(2));
    assert!(number(&log, "recorded") >= 4 && number(&log, "dropped") == 0, "{log}");
    assert_eq!(proxy.http("GET", "/slowlog?top=2").status, 400);
}

#[test]
fn slow_requests_of_memcached_are_told_likewise() {
    let server = slow_memcached();
    let proxy = start("", Pool::new("cache", "memcached", &[server.entry()]));
    let mut client = proxy.client();
    assert_eq!(client.tell("get fast"), "VALUE fast 0 1|x|END");
    assert_eq!(client.tell("get slow"), "VALUE slow 0 1|x|END");
    assert_eq!(client.tell("get none:slow"), "END");
    assert_eq!(client.tell("set slow:written 0 0 5|hello"), "STORED");
    let told: Vec<String> = slow(&proxy, 3).iter().rev().map(|entry| fields(entry, &WHAT)).collect();
    let expected = ["cache GET slow ok null", "cache GET none:slow miss null", "cache SET slow:written ok null"];
    assert_eq!(told, expected);
}

#[test]
fn keys_are_shown_so_that_they_harm_nobody_and_long_ones_are_cut() {
    let server = slow_redis();
    let proxy = start("", Pool::new("cache", "redis", &[server.entry()]));
    let mut client = proxy.client();
    let long = format!("slow:{}", "k".repeat(1000));
    for key in [&b"slow\0\xff\x1b[31m\r\n"[..], long.as_bytes()] {
        for command in ["GET", "SET"] {
            let arguments: &[&[u8]] = if command == "GET" { &[b"GET", key] } else { &[b"SET", key, b"1"] };
            client.send(resp(arguments));
            client.reply();
        }
    }
    let keys: Vec<String> = slow(&proxy, 4).iter().map(|entry| fields(entry, &["key", "key_bytes"])).collect();
    let (cut, binary) = (format!("{} 1005", &long[..64]), r"slow\x00\xff\x1b[31m\x0d\x0a null");
    assert_eq!(keys, [&cut, &cut, binary, binary]);
}

#[test]
fn each_part_of_a_request_for_several_servers_is_one_of_its_own() {
    let servers = [slow_redis(), slow_redis()];
    let entries = servers.each_ref().map(|server| server.entry());
    // It spreads keys that are alike.
    let proxy = start("", Pool::new("cache", "redis", &entries).set("hash: murmur"));
    let keys: Vec<String> = (0..20).map(|number| format!("slow:{number}")).collect();
    assert_eq!(proxy.client().ask(&format!("MGET {}", keys.join(" "))), format!("[{}]", quoted(&keys)));
    let mut told: Vec<(String, String)> =
        slow(&proxy, 2).iter().map(|entry| (fields(entry, &["command", "key"]), fields(entry, &["server"]))).collect();
    told.sort();
    let mut names = servers.each_ref().map(|server| server.name());
    names.sort();
    let mut asked: Vec<String> = told.iter().map(|(_, server)| server.clone()).collect();
    asked.sort();
    assert_eq!(asked, names);
    // The first key of each; of one of them it is the first of all.
    assert!(told.iter().all(|(what, _)| what.starts_with("MGET slow:")) && told[0].0 == "MGET slow:0", "{told:?}");
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_has_no_reply_is_told_with_the_reason() {
    let server = slow_redis();
    let pool = Pool::new("cache", "redis", &[server.entry()]).set("timeout: 250ms");
    let mut proxy = start("", pool);
    ["no reply in time", "connection lost"].iter().for_each(|text| proxy.announce(text));
    let mut client = proxy.client();
    assert!(client.ask("GET slow").contains("timed out"));
    let late = &slow(&proxy, 1)[0];
    assert_eq!(fields(late, &WHAT), "cache GET slow failed timeout");
    assert!((200_000..5_000_000).contains(&number(late, "server_us")), "{late}");
    assert_eq!(number(late, "response_bytes"), 0);
    // Its late reply is not another one.
    eventually("the server again", || (client.ask("GET fast") == "\"value\"").then_some(()));
    assert_eq!(slow(&proxy, 1).len(), 1);

    let server = slow_redis();
    let mut proxy = start("", Pool::new("cache", "redis", &[server.entry()]));
    proxy.announce("connection lost");
    assert!(proxy.client().ask("SET lost:slow 1").starts_with("-ERR"));
    assert_eq!(fields(&slow(&proxy, 1)[0], &WHAT), "cache SET lost:slow failed connection_lost");
}

#[test]
fn what_waits_for_a_connection_has_waited_in_the_queue() {
    // A port that takes connections and never says anything to the login.
    let server = Fake::start(|_, talk| talk.stall());
    let pool = Pool::new("cache", "redis", &[server.entry()]).set("redis_db: 1").set("connect_timeout: 300ms");
    let mut proxy = start("", pool);
    proxy.announce("cannot connect");
    assert!(proxy.client().ask("GET slow").contains("not connected within 300 ms"));
    let entry = &slow(&proxy, 1)[0];
    assert_eq!(fields(entry, &WHAT), "cache GET slow failed connect_failed");
    assert_eq!(number(entry, "server_us"), 0, "{entry}");
    assert!(number(entry, "queue_us") >= 200_000, "{entry}");
}

#[test]
fn a_server_that_sleeps_makes_requests_slow() {
    let Some(server) = Server::redis_with(&["--enable-debug-command", "yes"]) else { return };
    let proxy = start("", Pool::redis("cache", std::slice::from_ref(&server)));
    let mut client = proxy.client();
    assert_eq!(client.ask("SET slow 1"), "+OK");
    let mut sleeper = server.client();
    sleeper.send(resp(&["DEBUG", "SLEEP", "0.5"]));
    // Until it sleeps.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(client.ask("GET slow"), "\"1\"");
    assert_eq!(sleeper.reply(), "+OK");
    assert_eq!(fields(&slow(&proxy, 1)[0], &WHAT), "cache GET slow ok null");
}

#[test]
fn no_more_are_recorded_in_a_second_than_is_set() {
    let server = slow_redis();
    let globals = "observe: {slowlog_per_second: 3, slowlog_entries: 2, slowlog_to_log: true}\n";
    let proxy = start(globals, Pool::new("cache", "redis", &[server.entry()]));
    // All of them wait for the first one.
    let mut clients: Vec<Client> = (0..30).map(|_| proxy.client()).collect();
    clients[0].send(resp(&["GET", "slow"]));
    clients.iter_mut().skip(1).for_each(|client| client.send(resp(&["GET", "fast"])));
    clients.iter_mut().for_each(|client| assert_eq!(client.reply(), "\"value\""));
    let log = proxy.json("/slowlog");
    let (recorded, dropped) = (number(&log, "recorded"), number(&log, "dropped"));
    assert_eq!(recorded + dropped, counted(&proxy));
    // Some may have come late, some replies in another second.
    assert!((3..15).contains(&recorded) && dropped > 0, "{recorded} recorded, {dropped} dropped");
    assert_eq!(log["entries"].as_array().map(Vec::len), Some(2));
    let lines = proxy.log().lines().filter(|line| line.contains("slow request pool=\"cache\"")).count();
    assert_eq!(lines as u64, recorded, "{}", proxy.log());
}

// ── Hot and big keys ────────────────────────────────────────────────────────────────────────────────────────────────

/// Marsaglia's xorshift, from 0 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Zipf's distribution with exponent 1.2, over a thousand keys.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new() -> Self {
        let mut sum = 0.0;
        Self((1..=1000).map(|rank| (sum += f64::from(rank).powf(-1.2), sum).1).collect())
    }

    /// From 1, the hottest.
    fn rank(&self, random: &mut Random) -> usize {
        let even = random.next() * self.0[999];
        self.0.partition_point(|sum| *sum < even) + 1
    }

    fn share(&self, rank: i32) -> f64 {
        f64::from(rank).powf(-1.2) / self.0[999]
    }
}

/// Asks for many keys, a hundred at a time.
fn load(mut client: Client, seed: u64, requests: usize, request: impl Fn(usize) -> Vec<u8>, reply: &[u8]) {
    const BATCH: usize = 100;
    let (zipf, mut random) = (Zipf::new(), Random(seed));
    for _ in 0..requests / BATCH {
        let batch: Vec<u8> = (0..BATCH).flat_map(|_| request(zipf.rank(&mut random))).collect();
        client.exchange(batch, reply.repeat(BATCH));
    }
}

/// The keys of the one pool.
fn keys(proxy: &Outrigger) -> Value {
    proxy.json("/hotkeys")["pools"][0].clone()
}

fn expect_the_shares_of(proxy: &Outrigger, server: &str) {
    let (keys, zipf) = (keys(proxy), Zipf::new());
    assert_eq!(fields(&keys, &["pool", "sample_every"]), "cache 64");
    assert!(number(&keys, "sampled") > 300, "{keys}");
    for (rank, name) in [(1, "key:1"), (2, "key:2")] {
        let hot = &keys["hot"][rank as usize - 1];
        assert_eq!(fields(hot, &["key", "server"]), format!("{name} {server}"), "{keys}");
        let (share, expected) = (hot["share"].as_f64().unwrap(), zipf.share(rank));
        assert!((share / expected - 1.0).abs() < 0.2, "{name}: {share} instead of {expected}");
    }
    assert_eq!(keys["hot"].as_array().map(Vec::len), Some(20));
    assert_eq!(proxy.json("/hotkeys?top=3")["pools"][0]["hot"].as_array().map(Vec::len), Some(3));
}

#[test]
fn the_hottest_keys_are_found_with_their_shares() {
    let pool = Pool::new("cache", "redis", &["local one".to_owned()]);
    let proxy = Outrigger::start_with("workers: 2\n", [pool]);
    thread::scope(|scope| {
        for seed in 1..=4 {
            let client = proxy.client();
            let get = |rank| resp(&["GET".to_owned(), format!("key:{rank}")]);
            scope.spawn(move || load(client, seed * 0x9e37_79b9, 30_000, get, b"$-1\r\n"));
        }
    });
    expect_the_shares_of(&proxy, "one");
}

#[test]
fn keys_of_requests_for_many_count_each_and_so_do_those_of_memcached() {
    let pool = Pool::new("cache", "memcached", &["local one".to_owned()]);
    let proxy = Outrigger::start_with("workers: 1\n", [pool]);
    let get = |rank| format!("get key:{rank} other\r\n").into_bytes();
    load(proxy.client(), 1, 60_000, get, b"END\r\n");
    let keys = keys(&proxy);
    let (first, second) = (&keys["hot"][0], &keys["hot"][1]);
    assert_eq!([first, second].map(|hot| fields(hot, &["key"])), ["other", "key:1"], "{keys}");
    assert!((first["share"].as_f64().unwrap() - 0.5).abs() < 0.01, "{keys}");
    let expected = Zipf::new().share(1) / 2.0;
    assert!((second["share"].as_f64().unwrap() / expected - 1.0).abs() < 0.2, "{keys}");
}

#[test]
fn large_values_are_among_the_big_keys() {
    let pool = Pool::new("cache", "redis", &["local one".to_owned()]);
    let proxy = Outrigger::start_with("workers: 1\n", [pool]);
    let mut client = proxy.client();
    assert_eq!(keys(&proxy)["big"], serde_json::json!([]));
    for (key, size) in [("a", 100_000), ("b", 1 << 20), ("c", 300_000)] {
        assert_eq!(client.ask(&format!("SET {key} {}", "x".repeat(size))), "+OK");
    }
    let told = |keys: &Value| -> Vec<String> {
        keys["big"].as_array().unwrap().iter().map(|big| fields(big, &["command", "key"])).collect()
    };
    assert_eq!(told(&keys(&proxy)), ["SET b", "SET c", "SET a"]);
    // The reply to a read is large as well, if by some bytes less.
    assert_eq!(client.ask("GET b").len(), (1 << 20) + 2);
    let big = &keys(&proxy)["big"][0];
    assert_eq!(fields(big, &["key", "bytes"]), format!("b {}", (1 << 20) + 32));
    assert!(big["at"].as_str().unwrap().ends_with('Z'), "{big}");

    // Values that are not that large are seen in the sample.
    assert_eq!(client.ask(&format!("SET medium {}", "x".repeat(5000))), "+OK");
    client.exchange(resp(&["GET", "medium"]).repeat(1000), format!("$5000\r\n{}\r\n", "x".repeat(5000)).repeat(1000));
    assert_eq!(told(&keys(&proxy)).last().map(String::as_str), Some("GET medium"));
}

#[test]
fn keys_that_are_not_to_be_shown_are_shown_nowhere() {
    const KEY: &str = "slow:jane.doe@example.org";
    let server = slow_redis();
    let globals = "observe:\n  keys: hash\n  slowlog_to_log: true\n";
    let proxy = start(globals, Pool::new("cache", "redis", &[server.entry()]));
    let mut client = proxy.client();
    assert_eq!(client.ask(&format!("SET {KEY} {}", "x".repeat(1 << 17))), "+OK");
    let hash = proxy.json("/slowlog")["entries"][0]["key"].as_str().unwrap().to_owned();
    assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
    assert_eq!(keys(&proxy)["big"][0]["key"], hash.as_str(), "the same key, the same text");
    eventually("a line of the log", || proxy.log().contains(&hash).then_some(()));
    let everything = |proxy: &Outrigger| {
        ["/slowlog", "/hotkeys", "/metrics", "/topology", "/events"].map(|path| proxy.http("GET", path).body).concat()
            + &proxy.log()
    };
    assert!(!everything(&proxy).contains("jane.doe"));

    let file = proxy.file("outrigger.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("keys: hash", "keys: off")).unwrap();
    assert_eq!(proxy.http("POST", "/reload").status, 200);
    assert_eq!(
        (&proxy.json("/slowlog")["entries"][0]["key"], &keys(&proxy)["big"][0]["key"]),
        (&"".into(), &"".into())
    );
    let told = proxy.log().matches(&hash).count();
    assert_eq!(client.ask(&format!("SET {KEY} 1")), "+OK");
    eventually("another line of the log", || (proxy.log().matches("slow request").count() >= 2).then_some(()));
    assert_eq!(proxy.log().matches(&hash).count(), told, "what is new has none");
    assert!(!everything(&proxy).contains("jane.doe"));
}
