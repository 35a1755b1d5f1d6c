//! A pool with one server answers as the server itself.

use crate::need;
use crate::support::client::resp;
use crate::support::{Client, Outrigger, Pool, Server};

fn one(lines: &[&str], options: &[&str]) -> Option<(Outrigger, [Server; 1], Server)> {
    let (server, plain) = ([Server::redis_with(options)?], Server::redis_with(options)?);
    let pool = lines.iter().fold(Pool::redis("one", &server), |pool, line| pool.set(line));
    Some((Outrigger::start([pool]), server, plain))
}

/// What is asked, in an order that makes sense; each reply is that of a server itself.
const LINES: &[&str] = &[
    "DBSIZE",
    "RANDOMKEY",
    "KEYS *",
    "SCAN 0",
    "SET k v",
    "DBSIZE",
    "RANDOMKEY",
    "KEYS *",
    "SCAN 0",
    "SCAN 0 MATCH k* COUNT 5 TYPE string",
    "SCAN x",
    "SCAN 0 COUNT 0",
    "SCRIPT LOAD x=",
    "SCRIPT EXISTS abc def",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "FUNCTION LIST",
    "FUNCTION STATS",
    "FUNCTION DUMP",
    "FUNCTION KILL",
    "FUNCTION FLUSH",
    "PUBSUB CHANNELS",
    "PUBSUB NUMSUB a b",
    "PUBSUB NUMPAT",
    "SLOWLOG LEN",
    "SLOWLOG GET 0",
    "SLOWLOG HELP",
    "LATENCY LATEST",
    "LATENCY HISTORY command",
    "LATENCY RESET",
    "LATENCY DOCTOR",
    "LATENCY HISTOGRAM nonsense",
    "MEMORY DOCTOR",
    "MEMORY PURGE",
    "MEMORY USAGE k",
    "MEMORY HELP",
    "CONFIG GET maxmemory",
    "CONFIG SET maxmemory 0",
    "CONFIG SET nonsense 0",
    "CONFIG RESETSTAT",
    "CONFIG HELP",
    "MODULE LIST",
    "OBJECT HELP",
    "OBJECT ENCODING k",
    "DEBUG OBJECT none",
    "DEBUG SLEEP 0",
    "DEBUG DIGEST",
    "DEBUG HELP",
    "CLUSTER INFO",
    "CLUSTER SLOTS",
    "CLUSTER KEYSLOT k",
    "ROLE",
    "LOLWUT VERSION 5 1 1 1",
    "SWAPDB 0 0",
    "FLUSHDB",
    "FLUSHALL ASYNC",
    "DBSIZE",
    "SAVE",
    "REPLICAOF NO ONE",
    "FAILOVER ABORT",
    "XINFO HELP",
    "INFO nonsense",
    "INFO replication",
    "INFO keyspace",
];

#[test]
fn what_the_proxy_has_no_part_in_is_the_servers_own_answer() {
    let (proxy, _servers, plain) = need!(one(
        &["allow_admin_commands: true"],
        // Nothing is to be slow by chance.
        &["--enable-debug-command", "yes", "--slowlog-log-slower-than", "-1"]
    ));
    let (mut through, mut direct) = (proxy.client(), plain.client());
    for line in LINES {
        let (got, expected) = (through.ask(line), direct.ask(line));
        // The identity of a replication history is another one for each server.
        let same = |text: &str| match text.find("master_replid") {
            Some(at) => text[..at].to_owned(),
            None => text.to_owned(),
        };
        assert_eq!(same(&got), same(&expected), "{line}");
    }
}

/// Each reply of these lines that is the same of every server, as bytes.
fn raw(client: &mut Client) -> Vec<String> {
    let own = |line: &&&str| !line.starts_with("INFO repl");
    let raw = |line: &&str| format!("{line}: {}", client.raw());
    LINES.iter().filter(own).map(raw).collect()
}

fn pipeline() -> Vec<u8> {
    let own = LINES.iter().filter(|line| !line.starts_with("INFO repl"));
    own.flat_map(|line| resp(&line.split(' ').collect::<Vec<_>>())).collect()
}

#[test]
fn the_same_byte_for_byte_in_a_pipeline_of_single_bytes_and_in_resp3() {
    let options = ["--enable-debug-command", "yes", "--slowlog-log-slower-than", "-1"];
    let (proxy, _servers, plain) = need!(one(&["allow_admin_commands: true"], &options));
    let (mut through, mut direct) = (proxy.client(), plain.client());
    for hello in ["HELLO 2", "HELLO 3"] {
        for client in [&mut through, &mut direct] {
            client.send(resp(&hello.split(' ').collect::<Vec<_>>()));
            client.raw();
        }
        direct.send_aside(pipeline());
        let expected = raw(&mut direct);
        through.send_aside(pipeline());
        let different = |(one, other): (String, String)| (one != other).then(|| format!("{one}\n{other}"));
        let compare = |got: Vec<String>, expected: Vec<String>| {
            let differences: Vec<String> = got.into_iter().zip(expected).filter_map(different).collect();
            assert!(differences.is_empty(), "{hello}:\n{}", differences.join("\n"));
        };
        compare(raw(&mut through), expected);
        for byte in pipeline() {
            through.send([byte]);
        }
        // The second time some are another answer.
        direct.send_aside(pipeline());
        compare(raw(&mut through), raw(&mut direct));
    }
}

#[test]
fn what_cannot_be_passed_is_refused_with_the_reason() {
    let (proxy, _servers, _) = need!(one(&["allow_admin_commands: true"], &[]));
    let mut client = proxy.client();
    for (line, why) in [
        ("MONITOR", "requests of all clients"),
        ("SYNC", "replication is between servers"),
        ("PSYNC ? -1", "replication is between servers"),
        ("REPLCONF x", "replication is between servers"),
        ("SCRIPT DEBUG YES", "sessions share those"),
        ("READONLY", "cluster support disabled"),
        ("ASKING", "cluster support disabled"),
    ] {
        let reply = client.ask(line);
        assert!(reply.starts_with("-ERR ") && reply.contains(why), "{line}: {reply}");
    }
    assert_eq!(client.ask("DBSIZE"), "0");
}

#[test]
fn a_server_that_is_gone_is_named() {
    let (mut proxy, mut servers, _) = need!(one(&[], &[]));
    for text in ["connection lost", "cannot connect"] {
        proxy.announce(text);
    }
    let mut client = proxy.client();
    assert_eq!(client.ask("DBSIZE"), "0");
    servers[0].kill();
    for line in ["DBSIZE", "SCAN 0", "CONFIG GET save", "CLUSTER INFO", "KEYS *", "SCRIPT KILL"] {
        let reply = client.ask(line);
        assert!(reply.starts_with("-ERR ") && reply.contains("(pool one, server "), "{line}: {reply}");
    }
}
