//! What the replies of three servers become.

use std::collections::BTreeMap;

use crate::support::client::resp;
use crate::support::{Client, Pool, Server, eventually};
use crate::{Fleet, need, sorted};

#[test]
fn the_keys_of_all_servers_are_counted_listed_and_drawn() {
    let fleet = need!(Fleet::start(&[]));
    let plain = need!(Server::redis());
    let (mut client, mut direct) = (fleet.proxy.client(), plain.client());
    for line in ["DBSIZE", "KEYS *", "RANDOMKEY"] {
        assert_eq!(client.ask(line), direct.ask(line), "{line} of nothing");
    }
    for n in 0..300 {
        for client in [&mut client, &mut direct] {
            assert_eq!(client.ask(&format!("SET key:{n} {n}")), "+OK");
        }
    }
    assert_eq!(client.ask("DBSIZE"), "300");
    for pattern in ["*", "key:1*", "key:?", "none"] {
        let line = format!("KEYS {pattern}");
        assert_eq!(sorted(&mut client, &line), sorted(&mut direct, &line), "{line}");
    }
    let drawn: Vec<String> = (0..200).map(|_| client.ask("RANDOMKEY").trim_matches('"').to_owned()).collect();
    for server in &fleet.servers {
        let mut own = server.client();
        let own = |key: &String| own.ask(&format!("EXISTS {key}")) == "1";
        assert!(drawn.iter().any(own), "no key of {}", server.name());
    }
}

#[test]
fn a_key_is_drawn_from_each_server_in_proportion_to_its_keys() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    let [rare, ..] = fleet.keys();
    fleet.flush();
    client.ask(&format!("SET {rare} 1"));
    let mut many = fleet.servers[1].client();
    many.send((0..999).flat_map(|n| resp(&["SET", &format!("m{n}"), "1"])).collect::<Vec<u8>>());
    (0..999).for_each(|_| assert_eq!(many.reply(), "+OK"));
    let rare = (0..500).filter(|_| client.ask("RANDOMKEY").contains(&rare)).count();
    // One in a thousand; drawing a server first would make it half of them.
    assert!(rare < 20, "{rare} of 500");
}

#[test]
fn scripts_and_functions_are_at_all_servers() {
    const LIBRARY: &str = "#!lua name=lib\nredis.register_function('f', function(keys) return keys[1] end)";
    let fleet = need!(Fleet::start(&[]));
    let keys = fleet.keys();
    let mut client = fleet.proxy.client();
    client.send(resp(&["SCRIPT", "LOAD", "return KEYS[1]"]));
    let sha = client.reply().trim_matches('"').to_owned();
    assert_eq!(sha.len(), 40, "{sha}");
    assert_eq!(client.ask(&format!("SCRIPT EXISTS {sha} {}", "0".repeat(40))), "[1 0]");
    for key in &keys {
        assert_eq!(client.ask(&format!("EVALSHA {sha} 1 {key}")), format!("\"{key}\""));
    }
    // One server has forgotten it, so it is not there.
    fleet.servers[2].client().ask("SCRIPT FLUSH");
    assert_eq!(client.ask(&format!("SCRIPT EXISTS {sha}")), "[0]");
    assert_eq!(client.ask("SCRIPT FLUSH SYNC"), "+OK");
    fleet.servers.iter().for_each(|server| assert_eq!(server.client().ask(&format!("SCRIPT EXISTS {sha}")), "[0]"));
    assert!(client.ask("SCRIPT KILL").starts_with("-NOTBUSY "));

    client.send(resp(&["FUNCTION", "LOAD", LIBRARY]));
    assert_eq!(client.reply(), "\"lib\"");
    for key in &keys {
        assert_eq!(client.ask(&format!("FCALL f 1 {key}")), format!("\"{key}\""));
    }
    client.send(resp(&["FUNCTION", "LOAD", LIBRARY]));
    assert_eq!(client.reply(), "-ERR Library 'lib' already exists");
    assert!(client.ask("FUNCTION LIST").contains("lib"));
    assert!(client.ask("FUNCTION STATS").starts_with("[\"running_script\" nil "), "{}", client.ask("FUNCTION STATS"));
    assert_eq!(client.ask("FUNCTION DELETE lib"), "+OK");
    assert_eq!(client.ask("FUNCTION LIST"), "[]");
    assert_eq!(client.ask("FUNCTION FLUSH"), "+OK");
}

#[test]
fn a_script_that_runs_for_ever_can_be_stopped_through_the_connections_that_it_blocks() {
    for count in [1, 3] {
        let servers = [(); 3].map(|()| Server::redis_with(&["--busy-reply-threshold", "50"]));
        let servers: Vec<Server> = servers.into_iter().flatten().take(count).collect();
        if servers.is_empty() {
            return;
        }
        let proxy = crate::Outrigger::start_with("workers: 1\n", [Pool::redis("cache", &servers)]);
        let (mut busy, mut other) = (proxy.client(), proxy.client());
        for (script, kill) in [("while true do end", "SCRIPT KILL"), ("", "FUNCTION KILL")] {
            match script {
                "" => {
                    let library = "#!lua name=l\nredis.register_function('f', function() while true do end end)";
                    busy.send(resp(&["FUNCTION", "LOAD", library]));
                    assert_eq!(busy.reply(), "\"l\"");
                    busy.send(resp(&["FCALL", "f", "1", "k"]));
                    eventually("the function to be seen", || {
                        other.ask("FUNCTION STATS").contains("FCALL").then_some(())
                    });
                }
                script => busy.send(resp(&["EVAL", script, "1", "k"])),
            }
            eventually(kill, || (other.ask(kill) == "+OK").then_some(()));
            let reply = busy.reply();
            assert!(reply.contains("killed by user"), "{reply}");
            assert_eq!(busy.ask("PING"), "+PONG");
        }
    }
}

/// A subscriber at a server itself.
fn subscribed(server: &Server, line: &str) -> Client {
    let mut client = server.client();
    assert!(client.ask(line).contains("subscribe"));
    client
}

#[test]
fn subscriptions_are_counted_over_all_servers() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    let mut clients = Vec::new();
    for (number, server) in fleet.servers.iter().enumerate() {
        clients.push(subscribed(server, "PSUBSCRIBE p*"));
        clients.push(subscribed(server, &format!("SUBSCRIBE own:{number}")));
        clients.push(subscribed(server, "SUBSCRIBE common"));
        clients.push(subscribed(server, &format!("SSUBSCRIBE shard:{number}")));
    }
    assert_eq!(client.ask("PUBSUB NUMPAT"), "1", "the pattern is one, at all servers");
    let channels = ["\"common\"", "\"own:0\"", "\"own:1\"", "\"own:2\""];
    assert_eq!(sorted(&mut client, "PUBSUB CHANNELS"), channels);
    assert_eq!(sorted(&mut client, "PUBSUB CHANNELS own:*"), channels[1..]);
    assert_eq!(client.ask("PUBSUB NUMSUB own:1 common none"), "[\"own:1\" 1 \"common\" 3 \"none\" 0]");
    assert_eq!(client.ask("PUBSUB NUMSUB"), "[]");
    assert_eq!(sorted(&mut client, "PUBSUB SHARDCHANNELS").len(), 3);
    assert_eq!(client.ask("PUBSUB SHARDNUMSUB shard:0 x"), "[\"shard:0\" 1 \"x\" 0]");
}

#[test]
fn the_slow_log_has_the_newest_of_all_servers_first() {
    let fleet = need!(Fleet::start(&["allow_admin_commands: true"]));
    let mut client = fleet.proxy.client();
    assert_eq!(client.ask("CONFIG SET slowlog-log-slower-than -1"), "+OK");
    assert_eq!(client.ask("SLOWLOG RESET"), "+OK");
    assert_eq!(client.ask("SLOWLOG GET"), "[]");
    assert_eq!(client.ask("SLOWLOG LEN"), "0");
    assert_eq!(client.ask("CONFIG SET slowlog-log-slower-than 0"), "+OK");
    let keys = fleet.keys();
    for key in keys.iter().cycle().take(30) {
        client.ask(&format!("GET {key}"));
    }
    let times = |client: &mut Client, line: &str| -> Vec<i64> {
        client.send(resp(&line.split(' ').collect::<Vec<_>>()));
        let crate::support::client::Reply::Array(entries) = client.try_reply().unwrap() else { panic!("{line}") };
        let time = |entry| match entry {
            crate::support::client::Reply::Array(fields) => fields[1].to_string().parse().unwrap(),
            other => panic!("{other}"),
        };
        entries.into_iter().map(time).collect()
    };
    assert_eq!(times(&mut client, "SLOWLOG GET").len(), 10);
    assert_eq!(times(&mut client, "SLOWLOG GET 7").len(), 7);
    let all = times(&mut client, "SLOWLOG GET -1");
    assert!(all.len() > 60 && all.is_sorted_by(|a, b| a >= b), "{all:?}");
    let length: usize = client.ask("SLOWLOG LEN").parse().unwrap();
    assert!(length > all.len(), "{length} after {}", all.len());
    assert!(client.ask("SLOWLOG GET -2").starts_with("-ERR "));
    assert!(client.ask("SLOWLOG GET x").starts_with("-ERR "));
}

#[test]
fn figures_that_are_no_sums_are_the_least_or_one_servers() {
    let fleet = need!(Fleet::open(&["allow_admin_commands: true"]));
    let mut client = fleet.proxy.client();
    let saved: Vec<i64> = fleet.servers.iter().map(|s| s.client().ask("LASTSAVE").parse().unwrap()).collect();
    assert_eq!(client.ask("LASTSAVE"), saved.iter().min().unwrap().to_string());
    assert_eq!(client.ask("CONFIG GET maxmemory"), "[\"maxmemory\" \"0\"]");
    assert!(client.ask("ROLE").starts_with("[\"master\" "));
    assert_eq!(client.ask("MEMORY PURGE"), "+OK");
    assert_eq!(client.ask("MODULE LIST"), "[]");
    assert_eq!(client.ask("LATENCY LATEST"), "[]");
    // 20 ms are more than the threshold.
    assert_eq!(client.ask("DEBUG SLEEP 0.02"), "+OK");
    let latest = client.ask("LATENCY LATEST");
    assert!(latest.starts_with("[[\"command\" ") && latest.matches("command").count() == 1, "{latest}");
    assert_eq!(sorted(&mut client, "LATENCY HISTORY command").len(), 3);
    assert_eq!(client.ask("LATENCY RESET"), "3");
    for alone in ["MEMORY DOCTOR", "MEMORY STATS", "MEMORY MALLOC-STATS", "LATENCY DOCTOR", "LATENCY HISTOGRAM"] {
        let reply = client.ask(alone);
        assert!(reply.ends_with("it is about one server and the pool has several, ask that server itself"), "{reply}");
    }
    // Clients that look for a cluster find none.
    for probe in ["CLUSTER SLOTS", "CLUSTER NODES", "CLUSTER INFO", "CLUSTER SHARDS", "CLUSTER MYID"] {
        assert_eq!(client.ask(probe), "-ERR This instance has cluster support disabled", "{probe}");
    }
}

#[test]
fn an_answer_without_one_server_is_no_answer() {
    let mut fleet = need!(Fleet::start(&["allow_admin_commands: true"]));
    fleet.keys();
    let mut client = fleet.proxy.client();
    assert_eq!(client.ask("DBSIZE"), "3");
    let named = fleet.lose_the_second();
    for line in ["DBSIZE", "KEYS *", "RANDOMKEY", "SCRIPT EXISTS x", "SCRIPT LOAD x=1", "FLUSHALL", "LASTSAVE"] {
        let reply = client.ask(line);
        assert!(reply.starts_with("-ERR ") && reply.ends_with(&named), "{line}: {reply}");
    }
    fleet.servers[1].restart();
    eventually("the server's return", || (client.ask("DBSIZE") == "0").then_some(()));
}

#[test]
fn an_ejected_server_is_named_whatever_becomes_of_its_keys() {
    for policy in ["rehash", "fail_fast", "miss"] {
        let policy = format!("on_ejected: {policy}");
        let mut fleet = need!(Fleet::start(&[
            "auto_eject_hosts: true",
            "server_failure_limit: 1",
            "server_retry_timeout: 1h",
            "on_readmit: keep",
            &policy
        ]));
        fleet.keys();
        let mut client = fleet.proxy.client();
        let named = fleet.lose_the_second();
        eventually("an ejection", || {
            let reply = client.ask("DBSIZE");
            assert!(reply.starts_with("-ERR ") && reply.ends_with(&named), "{reply}");
            reply.contains("Server is ejected since").then_some(())
        });
        for line in ["KEYS *", "SCAN 0 COUNT 1000", "RANDOMKEY", "SCRIPT LOAD x", "PUBSUB CHANNELS"] {
            let mut reply = client.ask(line);
            while line.starts_with("SCAN") && reply.starts_with("[\"") {
                let cursor = reply.split('"').nth(1).unwrap().to_owned();
                assert_ne!(cursor, "0", "the scan is over without the server");
                reply = client.ask(&format!("SCAN {cursor} COUNT 1000"));
            }
            assert!(reply.contains("Server is ejected since") && reply.ends_with(&named), "{line}: {reply}");
        }
        // Whom a script keeps busy can be told to stop, also when others are away; here there is none.
        assert!(client.ask("SCRIPT KILL").contains("Server is ejected since"));
        assert!(client.ask("CONFIG GET port").starts_with("[\"port\" "));
    }
}

#[test]
fn what_stands_in_learns_scripts_and_is_emptied_if_it_may_be() {
    let [one, two, spare] = need!(Server::three(Server::redis));
    let servers = [one, two];
    let spare = [spare];
    let start = |spare_allows: &str| {
        let pool = Pool::redis("cache", &servers)
            .set("hash: murmur")
            .set("on_ejected: spare")
            .set("auto_eject_hosts: true")
            .set("on_readmit: keep")
            .set("allow_admin_commands: true");
        crate::Outrigger::start([pool, Pool::redis("spare", &spare).set(spare_allows)])
    };
    let proxy = start("allow_admin_commands: false");
    let mut client = proxy.client();
    assert_eq!(client.ask("SET own 1"), "+OK");
    let mut direct = spare[0].client();
    assert_eq!(direct.ask("SET left 1"), "+OK");
    client.send(resp(&["SCRIPT", "LOAD", "return 1"]));
    let sha = client.reply().trim_matches('"').to_owned();
    assert_eq!(direct.ask(&format!("SCRIPT EXISTS {sha}")), "[1]");
    assert_eq!(client.ask("DBSIZE"), "1", "what is left there is nobody's");
    for flush in ["FLUSHALL", "FLUSHDB"] {
        let refused = format!(
            "-ERR '{flush}' is for administrators, and empties pool spare, which stands in for cache, as well: pool spare \
             has allow_admin_commands: false"
        );
        assert_eq!(client.ask(flush), refused);
        assert_eq!((client.ask("DBSIZE"), direct.ask("DBSIZE")), ("1".into(), "1".into()), "nothing is emptied");
    }
    let proxy = start("allow_admin_commands: true");
    let mut client = proxy.client();
    assert_eq!(client.ask("FLUSHALL"), "+OK");
    assert_eq!((client.ask("DBSIZE"), direct.ask("DBSIZE")), ("0".into(), "0".into()));
}

#[test]
fn replies_that_are_too_large_together_are_an_error() {
    let servers = need!(Server::three(Server::redis));
    let pool = Pool::redis("cache", &servers).set("hash: murmur");
    let limits = "workers: 1\nlimits: {max_response_bytes: 64KiB}\n";
    let proxy = crate::Outrigger::start_with(limits, [pool]);
    let mut client = proxy.client();
    let long = "x".repeat(200);
    for n in 0..600 {
        assert_eq!(client.ask(&format!("SET {n}{long} 1")), "+OK");
    }
    assert_eq!(client.ask("KEYS *"), "-ERR the servers' replies to KEYS are too large together");
    let found = sorted(&mut client, "KEYS 1*").len();
    assert_eq!(found, 111);
    assert_eq!(client.ask("DBSIZE"), "600");
}

#[test]
fn other_databases_are_not_to_be_reached() {
    let fleet = need!(Fleet::start(&["redis_db: 2", "allow_admin_commands: true"]));
    let mut client = fleet.proxy.client();
    assert_eq!(client.ask("SET k v"), "+OK");
    let refused = "-ERR DB index is out of range: pool cache serves database 2 only (databases)";
    for line in ["MOVE k 3", "COPY k k DB 0", "COPY k k REPLACE DB 1", "SWAPDB 2 3", "SWAPDB 0 2", "SELECT 0"] {
        assert_eq!(client.ask(line), refused, "{line}");
    }
    assert!(client.ask("MOVE k 2").contains("same"));
    assert!(client.ask("COPY k k DB 2").contains("same"));
    assert_eq!(client.ask("SWAPDB 2 2"), "+OK");
    assert!(client.ask("MOVE k x").starts_with("-ERR "));
    assert_eq!(client.ask("COPY k k DB"), "-ERR syntax error");
    assert_eq!(client.ask("GET k"), "\"v\"");
}

#[test]
fn every_kind_of_merge_is_told_by_the_servers_own_errors() {
    let fleet = need!(Fleet::start(&[]));
    let plain = need!(Server::redis());
    let (mut client, mut direct) = (fleet.proxy.client(), plain.client());
    let lines = BTreeMap::from([
        ("KEYS", "arity"),
        ("SCRIPT FLUSH NOW", "option"),
        ("SCRIPT LOAD", "arity"),
        ("FUNCTION LOAD nonsense", "text"),
        ("FUNCTION DELETE none", "name"),
        ("FUNCTION RESTORE nonsense", "payload"),
        ("FUNCTION KILL", "idle"),
        ("SCRIPT KILL", "idle"),
        ("SLOWLOG GET -7", "count"),
        ("PUBSUB NUMPAT x", "arity"),
        ("RANDOMKEY x", "arity"),
        ("LATENCY HISTORY", "arity"),
        ("SCAN 0 COUNT x", "option"),
        ("SCAN 0 COUNT 0", "option"),
        ("SCAN 0 NONSENSE", "option"),
        ("SCAN x", "cursor"),
        ("SCAN", "arity"),
        ("CONFIG GET", "arity"),
        ("MEMORY PURGE x", "arity"),
    ]);
    for (line, what) in lines {
        let (got, expected) = (client.ask(line), direct.ask(line));
        assert!(expected.starts_with('-'), "{line}: {expected}");
        assert_eq!(got, expected, "{line}: {what}");
    }
}

#[test]
fn in_resp3_merges_have_the_types_of_the_servers_replies() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    let mut ask = |line: &str| client.ask_raw(line);
    assert!(ask("HELLO 3").starts_with('%'));
    assert_eq!(ask("RANDOMKEY"), "_|");
    assert_eq!(ask("KEYS *"), "*0|");
    for n in 0..100 {
        assert_eq!(ask(&format!("SET key:{n} 1")), "+OK|");
    }
    assert_eq!(ask("DBSIZE"), ":100|");
    assert!(ask("KEYS *").starts_with("*100|$"));
    assert!(ask("RANDOMKEY").starts_with("$"));
    assert!(ask("SCAN 0").starts_with("*2|$"));
    assert_eq!(ask("SCRIPT EXISTS x"), "*1|:0|");
    assert_eq!(ask("PUBSUB NUMSUB x"), "*2|$1|x|:0|");
    assert!(ask("FUNCTION STATS").starts_with("%2|$14|running_script|_|"));
    assert!(ask("CONFIG GET maxmemory").starts_with("%1|"));
    assert_eq!(ask("SLOWLOG GET 0"), "*0|");
    for text in [ask("INFO"), ask("INFO replication"), ask("INFO outrigger")] {
        assert!(text.starts_with('=') && text.contains("|txt:# "), "{text}");
    }
    assert_eq!(ask("INFO nonsense"), "=4|txt:|");
}

#[test]
fn databases_that_the_pool_serves_can_be_reached() {
    let fleet = need!(Fleet::start(&["databases: 4", "allow_admin_commands: true"]));
    let mut client = fleet.proxy.client();
    assert_eq!(client.ask("SET k v"), "+OK");
    assert_eq!(client.ask("COPY k k DB 3"), "1");
    assert_eq!(client.ask("MOVE k 2"), "1");
    assert_eq!(client.ask("DBSIZE"), "0");
    for database in [2, 3] {
        assert_eq!(client.ask(&format!("SELECT {database}")), "+OK");
        assert_eq!(client.ask("DBSIZE"), "1");
        assert_eq!(client.ask("KEYS *"), "[\"k\"]");
    }
    assert_eq!(client.ask("FLUSHDB"), "+OK");
    assert_eq!(client.ask("SWAPDB 2 3"), "+OK");
    assert_eq!(client.ask("GET k"), "\"v\"");
    let refused = "-ERR DB index is out of range: pool cache serves databases 0 to 3 (databases)";
    for line in ["MOVE k 4", "COPY k k DB 4", "SWAPDB 0 4", "SELECT 4", "MOVE k -1"] {
        assert_eq!(client.ask(line), refused, "{line}");
    }
}

#[test]
fn in_a_transaction_what_is_guarded_is_refused_and_spoils_it() {
    for count in [1, 3] {
        let servers = need!(Server::three(|| Server::redis_with(&["--enable-debug-command", "yes"])));
        let proxy = crate::Outrigger::start([Pool::redis("cache", &servers[..count])]);
        let mut client = proxy.client();
        for line in ["DEBUG SLEEP 0", "FLUSHALL", "CONFIG SET maxmemory 0", "MOVE k 3", "SHUTDOWN NOSAVE"] {
            assert_eq!(client.ask("MULTI"), "+OK");
            assert_eq!(client.ask("SET k v"), "+QUEUED");
            let reply = client.ask(line);
            assert!(reply.starts_with("-ERR "), "{line}: {reply}");
            assert!(client.ask("EXEC").starts_with("-EXECABORT"), "{line}");
        }
        assert_eq!(client.ask("GET k"), "nil");
    }
}
