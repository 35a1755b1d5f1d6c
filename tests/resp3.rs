//! RESP2 and RESP3 sessions on one port, and sessions in several databases: what each client gets, byte for byte.

mod support;

#[path = "resp3/change.rs"]
mod change;
#[path = "resp3/databases.rs"]
mod databases;
#[path = "resp3/greeting.rs"]
mod greeting;

use support::client::resp;
use support::{Client, Outrigger, Pool, Server};

/// Some of every type.
const DATA: &[&str] = &[
    "SET s value",
    "HSET h one 1 two 2",
    "SADD set 1 2 3",
    "ZADD z 1.5 a 2 b -inf c",
    "RPUSH l a b c",
    "XADD x 1-1 f v",
    "GEOADD g 13.361389 38.115556 Palermo",
];

/// Requests whose replies have every shape.
const REQUESTS: &[&str] = &[
    "GET s",
    "GET nosuch",
    "HGETALL h",
    "HGETALL nosuch",
    "SMEMBERS set",
    "SMEMBERS nosuch",
    "SISMEMBER set 1",
    "SPOP nosuch",
    "ZSCORE z a",
    "ZSCORE z c",
    "ZSCORE z nosuch",
    "ZRANGE z 0 -1 WITHSCORES",
    "ZADD z INCR 1 b",
    "ZINCRBY z 0.5 a",
    "ZPOPMIN nosuch",
    "HRANDFIELD h 5 WITHVALUES",
    "HINCRBYFLOAT h two 0.25",
    "MGET s nosuch s",
    "XRANGE x - +",
    "XREAD STREAMS x 0",
    "XREAD STREAMS nosuch 0",
    "XINFO STREAM x",
    "GEOPOS g Palermo nosuch",
    "GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 km WITHCOORD WITHDIST",
    "LPOP nosuch",
    "LPOS l nosuch",
    "LPOS l c COUNT 0",
    "LCS s s IDX",
    "OBJECT HELP",
    "OBJECT ENCODING nosuch",
    "TYPE s",
    "INCR s",
    "CONFIG",
    "CLIENT GETNAME",
    "COMMAND INFO get nosuch set",
    "COMMAND GETKEYSANDFLAGS GET a",
    "SELECT x",
    "HELLO 4",
    "HELLO x",
    "HELLO 03",
    "HELLO 3 AUTH a",
    "HELLO 3 SETNAME",
    "HELLO 3 NONSENSE",
    "HELLO 3 AUTH someone b",
    "PING",
    "PING text",
    "ECHO text",
];

/// Scripts, which reply in types that no command does.
const SCRIPTS: &[&str] = &[
    "redis.setresp(3); return redis.call('HGETALL', KEYS[1])",
    "redis.setresp(3); return redis.call('SMEMBERS', 'set')",
    "redis.setresp(3); return redis.call('ZSCORE', 'z', 'a')",
    "redis.setresp(3); return redis.call('GET', 'nosuch')",
    "redis.setresp(3); return true",
    "redis.setresp(3); return false",
    "return {map={a={double=1.5}, b={set={x=true}}}}",
    "return {double=3.141}",
    "return {big_number='123456789012345678901234567890'}",
    "return {verbatim_string={string='some text', format='txt'}}",
    "return {err='MINE of my own'}",
    "return {1, {2, {3, false}}}",
];

/// One server behind a proxy with one worker, another without a proxy, and the same data in both.
fn pair() -> Option<([Server; 2], Outrigger)> {
    let servers = [Server::redis()?, Server::redis()?];
    let pool = Pool::redis("cache", &servers[..1]).set("timeout: 5s");
    let proxy = Outrigger::start_with("workers: 1\n", [pool]);
    for mut client in [proxy.client(), servers[1].client()] {
        DATA.iter().for_each(|line| assert!(!client.ask(line).starts_with('-'), "{line}"));
    }
    Some((servers, proxy))
}

fn pipeline(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| resp(&line.split(' ').collect::<Vec<_>>())).collect()
}

#[test]
fn what_a_client_gets_is_what_the_server_would_send_it() {
    let ([_served, plain], proxy) = need!(pair());
    for version in ["2", "3"] {
        let (mut client, mut direct) = (proxy.client(), plain.client());
        for client in [&mut client, &mut direct] {
            client.send(resp(&["HELLO", version]));
            assert!(client.raw().contains(&format!("proto|:{version}|")));
        }
        let mut compare = |request: &[u8], shown: &str| {
            client.send(request);
            direct.send(request);
            let (mut ours, theirs) = (client.raw(), direct.raw());
            if shown.starts_with("COMMAND INFO") {
                // The proxy leaves the server's notes on keys out.
                ours.truncate(ours.find("$3|set|").unwrap());
                assert!(theirs.starts_with(&ours), "{shown} in version {version}: {ours} or {theirs}");
            } else {
                assert_eq!(ours, theirs, "{shown} in version {version}");
            }
        };
        for line in REQUESTS {
            compare(&pipeline(&[line]), line);
        }
        for script in SCRIPTS {
            compare(&resp(&["EVAL", script, "1", "h"]), script);
        }
    }
}

#[test]
fn clients_of_both_versions_on_one_worker_get_their_own_forms() {
    let (_servers, proxy) = need!(pair());
    let (mut two, mut three) = (proxy.client(), proxy.client());
    assert!(three.ask_raw("HELLO 3").starts_with('%'));
    let request = pipeline(&["HGETALL h", "GET nosuch", "ZSCORE z a", "SISMEMBER set 1", "CLIENT GETNAME"]);
    for _ in 0..50 {
        for client in [&mut two, &mut three] {
            client.send(request.repeat(4));
        }
        for _ in 0..4 {
            two.expect("*4\r\n$3\r\none\r\n$1\r\n1\r\n$3\r\ntwo\r\n$1\r\n2\r\n$-1\r\n$3\r\n1.5\r\n:1\r\n$-1\r\n");
            three.expect("%2\r\n$3\r\none\r\n$1\r\n1\r\n$3\r\ntwo\r\n$1\r\n2\r\n_\r\n,1.5\r\n:1\r\n_\r\n");
        }
    }
}

#[test]
fn a_version_that_changes_amid_a_pipeline_counts_from_there_on() {
    let ([_served, plain], proxy) = need!(pair());
    let mut direct = plain.client();
    let lines = [
        "SET k 1",
        "HGETALL h",
        "INCR k",
        "HELLO 3",
        "INCR k",
        "HGETALL h",
        "GET nosuch",
        "INCR k",
        "HELLO 2",
        "GET k",
        "HGETALL h",
        "HELLO 3 SETNAME me",
        "INCR k",
        "CLIENT GETNAME",
        "GET nosuch",
        "RESET",
        "INCR k",
        "HGETALL h",
        "CLIENT GETNAME",
    ];
    let request = pipeline(&lines);
    let without_id = |reply: String| {
        let (before, rest) = reply.split_once("$2|id|:").map_or((&*reply, ""), |(before, rest)| (before, rest));
        format!("{before} {}", rest.split_once('|').map_or("", |(_, rest)| rest))
    };
    direct.send(&request);
    let expected: Vec<String> = lines.iter().map(|_| without_id(direct.raw())).collect();
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for _ in 0..30 {
        // One after the other, as they share the key; in pieces of any length.
        for (number, client) in clients.iter_mut().enumerate() {
            for piece in request.chunks(request.len() / (number + 1)) {
                client.send(piece);
            }
            for (line, expected) in lines.iter().zip(&expected) {
                assert_eq!(without_id(client.raw()), *expected, "{line}");
            }
        }
    }
}

#[test]
fn text_is_verbatim() {
    let (_servers, proxy) = need!(pair());
    let mut client = proxy.client();
    client.ask("HELLO 3");
    let info = client.ask_raw("CLIENT INFO");
    assert!(info.starts_with('=') && info.contains("|txt:id=") && info.contains(" resp=3 "), "{info}");
    client.ask("HELLO 2");
    let info = client.ask_raw("CLIENT INFO");
    assert!(info.starts_with('$') && info.contains(" resp=2 "), "{info}");
}

#[test]
fn keys_on_several_servers_come_together_in_either_version() {
    let servers = need!(Server::three(Server::redis));
    let proxy = Outrigger::start([Pool::redis("cache", &servers)]);
    let (mut two, mut three) = (proxy.client(), proxy.client());
    three.ask("HELLO 3");
    let pairs: Vec<String> = (0..20).map(|n| format!("k{n} v{n}")).collect();
    assert_eq!(three.ask(&format!("MSET {}", pairs.join(" "))), "+OK");
    let keys: Vec<String> = (0..20).map(|n| format!("k{n} n{n}")).collect();
    for (client, null) in [(&mut two, "$-1|"), (&mut three, "_|")] {
        let values: String = (0..20).map(|n| format!("${}|v{n}|{null}", format!("v{n}").len())).collect();
        assert_eq!(client.ask_raw(&format!("MGET {}", keys.join(" "))), format!("*40|{values}"));
        assert_eq!(client.ask_raw(&format!("EXISTS {}", keys.join(" "))), ":20|");
    }
    assert_eq!(three.ask_raw(&format!("DEL {}", keys.join(" "))), ":20|");
}
