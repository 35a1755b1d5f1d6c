//! Servers that are lost, ejected and changed under sessions of both versions and in other databases.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::resp;
use crate::support::{Client, Outrigger, Pool, Server, eventually};
use crate::{need, pipeline};

/// Writes the file with this in place of that; returns when the proxy goes by it.
fn change(proxy: &Outrigger, from: &str, to: &str) {
    let generation = || proxy.stats()["config"]["generation"].as_u64().unwrap();
    let (before, file) = (generation(), proxy.file("outrigger.yml"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
    // Never seen half written.
    std::fs::write(proxy.file("next.yml"), text.replace(from, to)).unwrap();
    std::fs::rename(proxy.file("next.yml"), &file).unwrap();
    proxy.signal(Signal::HUP);
    eventually("a new configuration", || (generation() > before).then_some(()));
}

/// A client that sends pipelines without end and knows what each reply must be.
struct Load {
    client: Client,
    number: usize,
    round: usize,
    null: &'static str,
}

impl Load {
    fn new(proxy: &Outrigger, number: usize) -> Self {
        let mut client = proxy.client();
        let three = number.is_multiple_of(2);
        client.ask(if three { "HELLO 3" } else { "HELLO 2" });
        assert_eq!(client.ask(&format!("SELECT {}", number % 3)), "+OK");
        Self { client, number, round: 0, null: if three { "_|" } else { "$-1|" } }
    }

    /// One pipeline; how many of its replies were errors.
    fn round(&mut self) -> usize {
        self.round += 1;
        let (number, round) = (self.number, self.round);
        let key = format!("k{number}-{round}");
        let (set, get, none) = (format!("SET {key} {key}"), format!("GET {key}"), format!("GET n{key}"));
        let echo = format!("ECHO {key}");
        self.client.send(pipeline(&[&set, &get, &none, &echo]));
        let value = format!("${}|{key}|", key.len());
        let mut errors = 0;
        let mut expect = |reply: String, allowed: &[&str]| match reply.starts_with("-ERR ") {
            true => errors += 1,
            false => assert!(allowed.contains(&&*reply), "{reply}, not {allowed:?}"),
        };
        expect(self.client.raw(), &["+OK|"]);
        // It may have been lost with the server.
        expect(self.client.raw(), &[&value, self.null]);
        expect(self.client.raw(), &[self.null]);
        assert_eq!(self.client.raw(), value, "what the proxy answers itself");
        errors
    }
}

#[test]
fn a_server_that_is_killed_and_comes_back_serves_every_variant_again() {
    let mut server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("databases: 3").set("max_reconnect_delay: 50ms");
    let mut proxy = Outrigger::start_with("workers: 1\n", [pool]);
    proxy.announce("cannot connect");
    proxy.announce("connection lost");
    let mut load: Vec<Load> = (0..12).map(|number| Load::new(&proxy, number)).collect();
    for _ in 0..3 {
        for _ in 0..30 {
            load.iter_mut().for_each(|load| assert_eq!(load.round(), 0, "the server is there"));
        }
        server.kill();
        let failed: usize = load.iter_mut().map(Load::round).sum();
        assert!(failed > 0, "nobody noticed that there is no server");
        server.restart();
        eventually("the end of errors", || (load.iter_mut().map(Load::round).sum::<usize>() == 0).then_some(()));
    }
}

#[test]
fn a_password_that_changes_is_used_for_every_variant() {
    let server = need!(Server::redis_with(&["--user", "app", "on", ">one", ">two", "~*", "+@all"]));
    let pool = Pool::redis("cache", std::slice::from_ref(&server))
        .set("databases: 3")
        .set("redis_auth: {username: app, password: one}");
    let mut proxy = Outrigger::start_with("workers: 1\n", [pool]);
    proxy.announce("connection lost");
    let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert!(client.ask_raw(&format!("HELLO {} AUTH app one", 2 + number % 2)).contains("proto"));
        assert_eq!(client.ask(&format!("SELECT {}", number / 2)), "+OK");
        assert_eq!(client.ask("SET k before"), "+OK");
    }
    change(&proxy, "password: one", "password: two");
    let mut direct = server.client();
    assert_eq!(direct.ask("ACL SETUSER app <one"), "+OK");
    for client in &mut clients {
        assert_eq!(client.ask("GET k"), "\"before\"", "one that was let in stays in");
    }
    direct.ask("CLIENT KILL TYPE normal SKIPME yes");
    for (number, client) in clients.iter_mut().enumerate() {
        eventually("the new password", || (client.ask("SET k after") == "+OK").then_some(()));
        assert_eq!(client.ask_raw("GET nosuch"), if number % 2 == 0 { "$-1|" } else { "_|" });
    }
    assert!(!proxy.log().contains("WRONGPASS"), "{}", proxy.log());
}

#[test]
fn databases_may_come_and_go() {
    let server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("databases: 4");
    let proxy = Outrigger::start_with("workers: 1\ndrain_timeout: 2s\n", [pool]);
    let (mut far, mut near) = (proxy.client(), proxy.client());
    for client in [&mut far, &mut near] {
        client.ask("HELLO 3");
    }
    assert_eq!(far.ask("SELECT 3"), "+OK");
    assert_eq!(far.ask("SET a far"), "+OK");
    assert_eq!(near.ask("SELECT 1"), "+OK");
    assert_eq!(near.ask("SET a near"), "+OK");
    let connections = |wanted: u64| {
        let name = server.name();
        eventually("connections that fit", || {
            let number = proxy.stats()["cache"][&name]["server_connections"].as_u64();
            (number == Some(wanted)).then_some(())
        });
    };
    connections(3);
    change(&proxy, "databases: 4", "databases: 2");
    let error = far.ask("GET a");
    assert_eq!(error, "-ERR pool cache does not serve database 3 any more (databases); SELECT another");
    assert_eq!(far.ask("PING"), "+PONG");
    assert_eq!(near.ask("GET a"), "\"near\"");
    // The usual one that asked what the server is, and that of database 1.
    connections(2);
    change(&proxy, "databases: 2", "databases: 4");
    assert_eq!(far.ask("GET a"), "\"far\"", "it is where it was");
    change(&proxy, "databases: 4", "databases: 4\n    redis_db: 3");
    assert_eq!((far.ask("GET a"), near.ask("GET a")), ("\"far\"".into(), "\"near\"".into()));
    assert_eq!(proxy.client().ask("GET a"), "\"far\"", "new ones begin there");
}

#[test]
fn what_was_begun_in_a_database_that_goes_can_be_ended_there() {
    let server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("databases: 4");
    let proxy = Outrigger::start_with("workers: 1\n", [pool]);
    let begun = [&["MULTI", "SET a 1"][..], &["MULTI", "SET a 1"], &["WATCH a", "MULTI", "SET a 1"], &["WATCH a"]];
    let mut clients = begun.map(|begun| {
        let mut client = proxy.client();
        assert_eq!(client.ask("SELECT 3"), "+OK");
        begun.iter().for_each(|request| assert!(!client.ask(request).starts_with('-'), "{request}"));
        client
    });
    change(&proxy, "databases: 4", "databases: 2");
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    for (client, (end, answer)) in
        clients.iter_mut().zip([("EXEC", aborted), ("DISCARD", "+OK"), ("EXEC", aborted), ("UNWATCH", "+OK")])
    {
        assert!(client.ask("GET a").starts_with("-ERR pool cache does not serve database 3 any more"));
        assert_eq!(client.ask(end), answer);
        assert_eq!(client.ask("SELECT 1"), "+OK");
        assert_eq!(client.ask("GET a"), "nil");
    }
}

#[test]
fn a_reload_under_load_swaps_nothing() {
    let servers = need!(Server::three(Server::redis));
    let pool = Pool::redis("cache", &servers).set("databases: 3").set("server_connections: 1");
    let proxy = Outrigger::start_with("workers: 2\n", [pool]);
    std::thread::scope(|scope| {
        let until = Instant::now() + Duration::from_secs(4);
        for number in 0..6 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut load = Load::new(proxy, number);
                while Instant::now() < until {
                    assert_eq!(load.round(), 0, "a reload costs no request");
                }
            });
        }
        let mut number = 1;
        while Instant::now() + Duration::from_secs(1) < until {
            change(&proxy, &format!("server_connections: {number}"), &format!("server_connections: {}", 3 - number));
            change(&proxy, "databases: 3", "databases: 5");
            change(&proxy, "databases: 5", "databases: 3");
            number = 3 - number;
        }
    });
}

#[test]
fn an_ejected_server_is_a_miss_in_either_version() {
    let mut servers = need!(Server::three(Server::redis));
    let pool = Pool::redis("cache", &servers)
        .set("auto_eject_hosts: true")
        .set("server_failure_limit: 1")
        .set("server_retry_timeout: 10m")
        .set("probe_interval: 1m")
        .set("databases: 2")
        .set("hash: murmur")
        .set("on_ejected: miss");
    let mut proxy = Outrigger::start_with("workers: 1\n", [pool]);
    for text in ["connection lost", "cannot connect", "server ejected"] {
        proxy.announce(text);
    }
    let (mut two, mut three) = (proxy.client(), proxy.client());
    three.ask("HELLO 3");
    assert_eq!(three.ask("SELECT 1"), "+OK");
    for n in 0..60 {
        assert_eq!(three.ask(&format!("SET k{n} v")), "+OK");
    }
    let mut direct = servers[1].client();
    direct.ask("SELECT 1");
    let lost = (0..60).map(|n| format!("k{n}")).find(|key| direct.ask(&format!("EXISTS {key}")) == "1").unwrap();
    let kept = (0..60).map(|n| format!("k{n}")).find(|key| direct.ask(&format!("EXISTS {key}")) == "0").unwrap();
    servers[1].kill();
    eventually("the ejection", || (three.ask_raw(&format!("GET {lost}")) == "_|").then_some(()));
    for (command, in_two, in_three) in [
        (format!("GET {lost}"), "$-1|", "_|"),
        (format!("HGETALL {lost}"), "*0|", "%0|"),
        (format!("SMEMBERS {lost}"), "*0|", "~0|"),
        (format!("ZSCORE {lost} a"), "$-1|", "_|"),
        (format!("XREAD STREAMS {lost} 0"), "*-1|", "_|"),
        (format!("MGET {lost} {lost}"), "*2|$-1|$-1|", "*2|_|_|"),
    ] {
        assert_eq!(two.ask_raw(&command), in_two, "{command}");
        assert_eq!(three.ask_raw(&command), in_three, "{command}");
    }
    assert_eq!(three.ask_raw(&format!("MGET {kept} {lost} {kept}")), "*3|$1|v|_|$1|v|");
    let refused = three.ask(&format!("SET {lost} v"));
    assert!(refused.starts_with("-ERR Server is ejected"), "{refused}");
}

#[test]
fn a_session_keeps_its_version_and_database_when_another_process_takes_over() {
    let server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("databases: 3");
    let mut proxy = Outrigger::start_with("workers: 1\n", [pool]);
    let (mut three, mut two) = (proxy.client(), proxy.client());
    three.ask("HELLO 3");
    three.ask("SELECT 2");
    assert_eq!(two.ask("SELECT 1"), "+OK");
    assert_eq!((three.ask("SET a three"), two.ask("SET a two")), ("+OK".into(), "+OK".into()));
    for _ in 0..2 {
        proxy.upgrade();
        proxy.expect_end_of_replaced();
        assert_eq!((three.ask_raw("GET a"), two.ask_raw("GET a")), ("$5|three|".into(), "$3|two|".into()));
        assert_eq!((three.ask_raw("GET nosuch"), two.ask_raw("GET nosuch")), ("_|".into(), "$-1|".into()));
        let info = three.ask("CLIENT INFO");
        assert!(info.contains(" db=2 ") && info.contains(" resp=3 "), "{info}");
    }
}

#[test]
fn sessions_that_wait_for_a_version_wait_for_slow_replies_too() {
    let server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("timeout: 5s");
    let proxy = Outrigger::start_with("workers: 1\n", [pool]);
    let mut client = proxy.client();
    let slow = "local n = 0; for i = 1, 2000000 do n = n + i end; return {1, false, 'x'}";
    client.send(
        [resp(&["EVAL", slow, "1", "k"]), pipeline(&["HELLO 3", "GET nosuch", "HELLO 2", "GET nosuch"])].concat(),
    );
    assert_eq!(client.raw(), "*3|:1|$-1|$1|x|");
    assert!(client.raw().starts_with("%7|"));
    assert_eq!(client.raw(), "_|");
    assert!(client.raw().starts_with("*14|"));
    assert_eq!(client.raw(), "$-1|");
}

#[test]
fn what_is_begun_ends_before_another_version_is_spoken() {
    let server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("databases: 2");
    let proxy = Outrigger::start_with("workers: 1\n", [pool]);
    let mut client = proxy.client();
    let lines = [
        "WATCH k",
        "RESET",
        "HELLO 3",
        "WATCH k",
        "MULTI",
        "GET nosuch",
        "EXEC",
        "SELECT 1",
        "SET k 1",
        "HELLO 2",
        "MULTI",
        "GET k",
        "DISCARD",
        "SELECT 0",
        "GET k",
    ];
    for _ in 0..20 {
        client.send(pipeline(&lines));
        for expected in ["+OK|", "+RESET|"] {
            assert_eq!(client.raw(), expected);
        }
        assert!(client.raw().starts_with("%7|"));
        for expected in ["+OK|", "+OK|", "+QUEUED|", "*1|_|", "+OK|", "+OK|"] {
            assert_eq!(client.raw(), expected);
        }
        assert!(client.raw().starts_with("*14|"));
        for expected in ["+OK|", "+QUEUED|", "+OK|", "+OK|", "$-1|"] {
            assert_eq!(client.raw(), expected);
        }
    }
    assert_eq!(client.ask("SELECT 1"), "+OK");
    assert_eq!(client.ask("GET k"), "\"1\"");
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("GET k"), "+QUEUED");
    assert_eq!(client.ask("EXEC"), "[\"1\"]", "in the database that was selected");
}
