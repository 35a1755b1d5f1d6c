//! `allow_admin_commands`: what can destroy what others rely on.

use crate::support::{Outrigger, Pool, Server, eventually};
use crate::{Fleet, need, sorted};

const RESTRICTED: [&str; 16] = [
    "FLUSHALL",
    "FLUSHDB ASYNC",
    "CONFIG SET maxmemory 0",
    "CONFIG RESETSTAT",
    "CONFIG REWRITE",
    "SWAPDB 0 0",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "SLOWLOG RESET",
    "LATENCY RESET",
    "DEBUG SLEEP 0",
    "DEBUG JMAP",
    "MIGRATE h 1 k 0 1",
    "flushall",
    "debug reload",
];

#[test]
fn without_it_they_are_refused_and_the_setting_is_named() {
    let fleet = need!(Fleet::open(&[]));
    fleet.keys();
    let mut client = fleet.proxy.client();
    for line in RESTRICTED {
        let reply = client.ask(line);
        assert!(reply.starts_with("-ERR '"), "{line}: {reply}");
        let why = " is for administrators: pool cache has allow_admin_commands: false";
        assert!(reply.ends_with(why), "{line}: {reply}");
    }
    // With one or several servers; but what concerns one server is refused for that where there are several.
    let one = Outrigger::start([Pool::redis("one", &fleet.servers[..1])]);
    for line in ["SHUTDOWN NOSAVE", "REPLICAOF h 1", "SLAVEOF NO ONE", "FAILOVER", "MODULE LOAD x", "CLUSTER RESET"] {
        let reply = one.client().ask(line);
        assert!(reply.contains("pool one has allow_admin_commands: false"), "{line}: {reply}");
        let reply = client.ask(line);
        assert!(reply.starts_with("-ERR ") && !reply.contains("allow_admin_commands"), "{line}: {reply}");
    }
    assert_eq!(client.ask("DBSIZE"), "3");
}

#[test]
fn with_it_all_servers_do_it() {
    let fleet = need!(Fleet::open(&["allow_admin_commands: true"]));
    let mut client = fleet.proxy.client();
    for flush in ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "flushdb sync"] {
        fleet.keys();
        assert_eq!(client.ask("DBSIZE"), "3");
        assert_eq!(client.ask(flush), "+OK");
        fleet.servers.iter().for_each(|server| assert_eq!(server.client().ask("DBSIZE"), "0", "{flush}"));
    }
    assert_eq!(client.ask("CONFIG SET maxmemory 100mb"), "+OK");
    for server in &fleet.servers {
        assert_eq!(server.client().ask("CONFIG GET maxmemory"), "[\"maxmemory\" \"104857600\"]");
    }
    assert_eq!(client.ask("CONFIG SET nonsense 1"), fleet.servers[0].client().ask("CONFIG SET nonsense 1"));
    for (line, reply) in [
        ("CONFIG RESETSTAT", "+OK"),
        ("SLOWLOG RESET", "+OK"),
        ("SAVE", "+OK"),
        ("SWAPDB 0 0", "+OK"),
        ("DEBUG SLEEP 0", "+OK"),
        ("BGREWRITEAOF", "+Background append only file rewriting started"),
    ] {
        assert_eq!(client.ask(line), reply, "{line}");
    }
    assert!(client.ask("LATENCY RESET").parse::<u64>().is_ok());
    for alone in ["SHUTDOWN NOSAVE", "REPLICAOF h 1"] {
        assert!(client.ask(alone).contains("is not supported by Outrigger: "), "{alone}");
    }
}

#[test]
fn debug_is_about_a_key_or_about_all_servers() {
    let fleet = need!(Fleet::open(&["allow_admin_commands: true"]));
    let keys = fleet.keys();
    let mut client = fleet.proxy.client();
    for key in &keys {
        assert!(client.ask(&format!("DEBUG OBJECT {key}")).starts_with("+Value at:"), "{key}");
        assert!(client.ask(&format!("debug sdslen {key}")).starts_with("+key_sds_len:"), "{key}");
    }
    assert_eq!(client.ask("DEBUG OBJECT none"), "-ERR no such key");
    // Each server has another one.
    assert_eq!(client.ask("DEBUG DIGEST"), "-ERR the servers answer DEBUG differently, ask each of them");
    assert!(sorted(&mut client, "DEBUG HELP").len() > 10);
    let closed = need!(Server::redis());
    let pool = Pool::redis("closed", std::slice::from_ref(&closed));
    let proxy = Outrigger::start([pool]);
    // Harmless, and still the server's to allow.
    assert!(proxy.client().ask("DEBUG OBJECT k").starts_with("-ERR DEBUG command not allowed."));
    assert!(fleet.proxy.client().ask("DEBUG OBJECT").starts_with('-'));
}

#[test]
fn an_administrator_of_one_server_may_shut_it_down() {
    let mut server = [need!(Server::redis())];
    let mut proxy = Outrigger::start([Pool::redis("one", &server).set("allow_admin_commands: true")]);
    for text in ["connection lost", "cannot connect"] {
        proxy.announce(text);
    }
    let mut client = proxy.client();
    assert_eq!(client.ask("SET k v"), "+OK");
    let reply = client.ask("SHUTDOWN NOSAVE");
    assert!(reply.starts_with("-ERR ") && reply.contains("pool one, server "), "{reply}");
    server[0].restart();
    eventually("the server", || (client.ask("GET k") == "nil").then_some(()));
}
