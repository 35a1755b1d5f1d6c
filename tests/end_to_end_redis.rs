//! Redis through the proxy, over three real servers: every reply is the one that a single Redis would give.

mod support;

use support::client::resp;
use support::{Client, Outrigger, Pool, Server};

/// Commands of one key each, in an order that makes sense; a line is a command.
const SINGLE_KEY: &str = include_str!("support/single_key_commands.txt");

fn single_key() -> Vec<&'static str> {
    SINGLE_KEY.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect()
}

struct Fleet {
    proxy: Outrigger,
    servers: [Server; 3],
}

impl Fleet {
    fn start(lines: &[&str]) -> Option<Self> {
        let servers = Server::three(Server::redis)?;
        let pool = lines.iter().fold(Pool::redis("cache", &servers).set("hash: murmur"), |pool, line| pool.set(line));
        Some(Self { proxy: Outrigger::start([pool]), servers })
    }

    /// One key of each server, in the order of the servers.
    fn keys(&self) -> [String; 3] {
        let mut client = self.proxy.client();
        let keys: Vec<String> = (0..60).map(|n| format!("key:{n}")).collect();
        keys.iter().for_each(|key| assert_eq!(client.ask(&format!("SET {key} {key}")), "+OK"));
        self.servers.each_ref().map(|server| {
            let mut direct = server.client();
            let own = |key: &&String| direct.ask(&format!("EXISTS {key}")) == "1";
            keys.iter().find(own).expect("a server without a key").clone()
        })
    }
}

#[test]
fn every_single_key_command_answers_as_one_redis_does() {
    let fleet = need!(Fleet::start(&[]));
    let plain = need!(Server::redis());
    let (mut through, mut direct) = (fleet.proxy.client(), plain.client());
    let lines = single_key();
    let replies = |client: &mut Client| lines.iter().map(|l| format!("{l}: {}", client.ask(l))).collect::<Vec<_>>();
    let (got, expected) = (replies(&mut through), replies(&mut direct));
    let differences: Vec<_> = got.iter().zip(&expected).filter(|(got, expected)| got != expected).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(lines.len() > 150, "{}", lines.len());
}

#[test]
fn the_same_commands_in_one_pipeline_answer_in_order() {
    let fleet = need!(Fleet::start(&[]));
    let plain = need!(Server::redis());
    let (mut through, mut direct) = (fleet.proxy.client(), plain.client());
    let lines = single_key();
    let pipeline: Vec<u8> = lines.iter().flat_map(|l| resp(&l.split(' ').collect::<Vec<_>>())).collect();
    through.send_aside(pipeline.clone());
    direct.send_aside(pipeline);
    for line in lines {
        assert_eq!(through.reply(), direct.reply(), "{line}");
    }
}

#[test]
fn commands_of_many_keys_are_split_and_merged_in_order() {
    let fleet = need!(Fleet::start(&[]));
    let [a, b, c] = fleet.keys();
    let mut client = fleet.proxy.client();
    assert_eq!(client.ask(&format!("MGET {c} {a} none {b} {a}")), format!("[\"{c}\" \"{a}\" nil \"{b}\" \"{a}\"]"));
    assert_eq!(client.ask(&format!("mset {a} 1 {b} 2 {c} 3")), "+OK");
    assert_eq!(client.ask(&format!("MGET {a} {b} {c}")), "[\"1\" \"2\" \"3\"]");
    assert_eq!(client.ask(&format!("EXISTS {a} {b} {c} {a} none")), "4");
    assert_eq!(client.ask(&format!("TOUCH {a} {b} none")), "2");
    assert_eq!(client.ask(&format!("DEL {a} none {b}")), "2");
    assert_eq!(client.ask(&format!("UNLINK {a} {c}")), "1");
    assert_eq!(client.ask(&format!("EXISTS {a} {b} {c}")), "0");
    for (server, key) in fleet.servers.iter().zip([&a, &b, &c]) {
        assert_eq!(server.client().ask(&format!("EXISTS {key}")), "0");
    }
    // A key of another type is nil in MGET, on whichever server.
    client.ask(&format!("LPUSH {b} x"));
    client.ask(&format!("SET {c} 3"));
    assert_eq!(client.ask(&format!("MGET {a} {b} {c}")), "[nil nil \"3\"]");
    // Twice the same key: the last value counts.
    assert_eq!(client.ask(&format!("MSET {a} 1 {c} 2 {a} 3")), "+OK");
    assert_eq!(client.ask(&format!("MGET {a} {c}")), "[\"3\" \"2\"]");
    for wrong in [format!("MSET {a} 1 {b}"), "MSET".into(), "MGET".into(), "DEL".into(), "MSET a".into()] {
        let reply = client.ask(&wrong);
        assert!(reply.starts_with("-ERR wrong number of arguments for 'm") || wrong == "DEL", "{wrong}: {reply}");
        assert!(reply.starts_with("-ERR wrong number of arguments for '"), "{wrong}: {reply}");
    }
}

#[test]
fn ten_thousand_keys_in_one_command() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    let keys: Vec<String> = (0..10_000).map(|n| format!("many:{n}")).collect();
    let pairs = keys.iter().flat_map(|k| [k.clone(), format!("v{k}")]);
    client.send_aside(resp(&std::iter::once("MSET".to_owned()).chain(pairs).collect::<Vec<_>>()));
    assert_eq!(client.reply(), "+OK");
    let with = |name: &str| resp(&std::iter::once(name.to_owned()).chain(keys.iter().cloned()).collect::<Vec<_>>());
    client.send_aside(with("MGET"));
    let values: Vec<String> = keys.iter().map(|k| format!("\"v{k}\"")).collect();
    assert_eq!(client.reply(), format!("[{}]", values.join(" ")));
    client.send_aside(with("DEL"));
    assert_eq!(client.reply(), "10000");
}

#[test]
fn a_dead_server_costs_its_own_keys() {
    let mut fleet = need!(Fleet::start(&[]));
    let [a, b, c] = fleet.keys();
    fleet.servers[1].kill();
    fleet.proxy.announce("connection lost");
    fleet.proxy.announce("cannot connect");
    let mut client = fleet.proxy.client();
    // The connection that the death of the server ended may be noticed only now.
    support::eventually("a refused connection", || client.ask(&format!("GET {b}")).contains("refused").then_some(()));
    let refused = format!("-ERR Connection refused (pool cache, server {})", fleet.servers[1].name());
    assert_eq!(client.ask(&format!("GET {b}")), refused);
    assert_eq!(client.ask(&format!("MGET {a} {b} {c} {b}")), format!("[\"{a}\" {refused} \"{c}\" {refused}]"));
    for whole in ["DEL", "UNLINK", "EXISTS", "TOUCH"] {
        assert_eq!(client.ask(&format!("{whole} {a} {b} {c}")), refused, "{whole}");
    }
    assert_eq!(client.ask(&format!("MSET {a} 1 {b} 2 {c} 3")), refused);
    assert_eq!(client.ask(&format!("MGET {a} {c}")), "[\"1\" \"3\"]");
    let pipeline = [&a, &b, &c, &b].map(|key| resp(&["GET", key])).concat();
    client.send(pipeline);
    let replies: Vec<String> = (0..4).map(|_| client.reply()).collect();
    assert_eq!(replies, ["\"1\"", &refused, "\"3\"", &refused]);
    fleet.servers[1].restart();
    // The next attempt to connect may be some hundred milliseconds away.
    support::eventually("the server's return", || (client.ask(&format!("SET {b} 2")) == "+OK").then_some(()));
    assert_eq!(client.ask(&format!("MGET {a} {b} {c}")), "[\"1\" \"2\" \"3\"]");
}

#[test]
fn an_error_of_one_server_stands_where_its_values_would() {
    let fleet = need!(Fleet::start(&[]));
    let [a, b, c] = fleet.keys();
    let mut broken = fleet.servers[2].client();
    assert_eq!(broken.ask("CONFIG SET maxmemory 1"), "+OK");
    let mut client = fleet.proxy.client();
    let reply = client.ask(&format!("MSET {a} 1 {b} 2 {c} 3"));
    assert!(reply.starts_with("-OOM command not allowed"), "{reply}");
    assert_eq!(client.ask(&format!("MGET {a} {b} {c}")), format!("[\"1\" \"2\" \"{c}\"]"));
}

/// Commands of several keys, for which `<1>` and `<2>` stand.
const TOGETHER: [(&str, &str); 24] = [
    ("MSETNX <1> a <2> b", "1"),
    ("RENAME <1> <2>", "+OK"),
    ("RENAMENX <2> <1>", "1"),
    ("COPY <1> <2>", "1"),
    ("DEL <1> <2>", "2"),
    ("SADD <1> m", "1"),
    ("SUNIONSTORE <2> <1>", "1"),
    ("SUNION <1> <2>", "[\"m\"]"),
    ("SINTERCARD 2 <1> <2>", "1"),
    ("SMOVE <1> <2> m", "1"),
    ("DEL <1> <2>", "1"),
    ("ZADD <1> 1 m", "1"),
    ("ZUNIONSTORE <2> 1 <1>", "1"),
    ("ZUNION 2 <1> <2> WITHSCORES", "[\"m\" \"2\"]"),
    ("ZINTER 2 <1> <2>", "[\"m\"]"),
    ("ZDIFF 2 <1> <2>", "[]"),
    ("ZRANGESTORE <2> <1> 0 -1", "1"),
    ("DEL <1> <2>", "2"),
    ("RPUSH <1> x", "1"),
    ("LMOVE <1> <2> LEFT RIGHT", "\"x\""),
    ("LMPOP 2 <1> <2> LEFT", "[\"<2>\" [\"x\"]]"),
    ("EVAL return{KEYS[1],KEYS[2],ARGV[1]} 2 <1> <2> arg", "[\"<1>\" \"<2>\" \"arg\"]"),
    ("BITOP AND <2> <1> <1>", "0"),
    ("PFMERGE <2> <1>", "+OK"),
];

fn with_keys(text: &str, one: &str, two: &str) -> String {
    text.replace("<1>", one).replace("<2>", two)
}

#[test]
fn commands_whose_keys_share_a_server_are_routed() {
    let fleet = need!(Fleet::start(&["hash_tag: \"{}\""]));
    let mut client = fleet.proxy.client();
    for (text, reply) in TOGETHER.map(|(text, reply)| (text, with_keys(reply, "{t}one", "{t}two"))) {
        assert_eq!(client.ask(&with_keys(text, "{t}one", "{t}two")), reply, "{text}");
    }
}

#[test]
fn commands_whose_keys_are_apart_are_refused_by_name() {
    let fleet = need!(Fleet::start(&[]));
    let [a, b, _] = fleet.keys();
    let mut client = fleet.proxy.client();
    for (text, _) in TOGETHER.iter().filter(|(t, _)| t.contains("<1>") && t.contains("<2>") && !t.starts_with("DEL")) {
        let reply = client.ask(&with_keys(text, &a, &b));
        let (one, two) =
            (format!("'{a}' is on {}", fleet.servers[0].name()), format!("'{b}' is on {}", fleet.servers[1].name()));
        assert!(reply.starts_with("-ERR ") && reply.contains(&one) && reply.contains(&two), "{text}: {reply}");
    }
    assert_eq!(client.ask("PING"), "+PONG");
}

#[test]
fn zunion_and_scripts_go_by_their_keys_not_by_their_counts() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    for key in fleet.keys() {
        client.ask(&format!("DEL {key}"));
        assert_eq!(client.ask(&format!("ZADD {key} 7 m")), "1");
        assert_eq!(client.ask(&format!("ZUNION 1 {key}")), "[\"m\"]");
        assert_eq!(client.ask(&format!("ZINTER 1 {key} WITHSCORES")), "[\"m\" \"7\"]");
        assert_eq!(client.ask(&format!("EVAL return{{redis.call('ZSCORE',KEYS[1],'m')}} 1 {key}")), "[\"7\"]");
        assert_eq!(client.ask(&format!("XADD s{key} 1-1 f v")), "\"1-1\"");
        let read = format!("[[\"s{key}\" [[\"1-1\" [\"f\" \"v\"]]]]]");
        assert_eq!(client.ask(&format!("XREAD COUNT 5 STREAMS s{key} 0")), read);
        assert_eq!(client.ask(&format!("XGROUP CREATE s{key} g 0")), "+OK");
        assert_eq!(client.ask(&format!("XREADGROUP GROUP g c STREAMS s{key} >")), read);
    }
    for refused in ["ZUNION 0 k", "EVAL x 9 k"] {
        let reply = client.ask(refused);
        assert!(reply.starts_with("-ERR "), "{refused}: {reply}");
    }
    assert_eq!(client.ask("PING"), "+PONG");
}

#[test]
fn what_is_refused_is_refused_in_its_turn() {
    let fleet = need!(Fleet::start(&[]));
    let plain = need!(Server::redis());
    let mut client = fleet.proxy.client();
    client.ask("SET a 1");
    let refused = [
        "FLUSHALL",
        "DEBUG SLEEP 0",
        "MONITOR",
        "SHUTDOWN",
        "CLUSTER SLOTS",
        "SWAPDB 0 0",
        "MOVE a 1",
        "MIGRATE h 1 k 0 1",
        "REPLICAOF NO ONE",
        "SAVE",
        "MEMORY DOCTOR",
        "SCRIPT DEBUG YES",
        "READONLY",
        "SYNC",
        "ASKING",
    ];
    let pipeline = refused.iter().flat_map(|l| [resp(&["GET", "a"]), resp(&l.split(' ').collect::<Vec<_>>())].concat());
    client.send_aside(pipeline.collect());
    for line in refused {
        assert_eq!(client.reply(), "\"1\"", "before {line}");
        let reply = client.reply();
        assert!(reply.starts_with("-ERR ") && reply.len() > 20, "{line}: {reply}");
    }
    // Redis's own words where Redis would say the same.
    let mut direct = plain.client();
    for line in
        ["nonsense", "NONSENSE with some arguments", "GET", "GET a b", "SET a", "HSET h f", "ping 1 2", "EVAL x"]
    {
        assert_eq!(client.ask(line), direct.ask(line), "{line}");
    }
    assert_eq!(client.ask("GET a"), "\"1\"");
}

#[test]
fn large_values_pass_through_whole() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    let value: Vec<u8> = (0..30_000_000u32).map(|n| (n % 251) as u8).collect();
    for length in [0, 1, 4095, 4096, 16_383, 16_384, 16_385, 65_535, 65_536, 70_000, 1_000_000, value.len()] {
        client.send_aside(resp(&[&b"SET"[..], b"big", &value[..length]]));
        assert_eq!(client.reply(), "+OK");
        client.send([resp(&["GET", "big"]), resp(&["STRLEN", "big"])].concat());
        client.expect(format!("${length}\r\n"));
        client.expect([&value[..length], b"\r\n"].concat());
        assert_eq!(client.reply(), length.to_string());
    }
}
