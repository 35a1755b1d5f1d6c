//! The whole program, with a name server of the test's.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::need;
use crate::support::fleet::{Dialect, Fleet};
use crate::support::process::Port;
use crate::support::{Dns, Outrigger, PATIENCE, Pool, Says, Server, eventually};

/// Two redis-servers that differ in their address only: 127.0.0.1 and 127.0.0.2.
fn twins() -> Option<[Server; 2]> {
    let [first, second] = Port::reserve_twice();
    Some([Server::redis_at(first)?, Server::redis_at(second)?])
}

/// The server as it stands in a list when it is known by this name.
fn named(name: &str, server: &Server) -> String {
    let entry = server.entry();
    let (_, port) = entry.split_once(':').unwrap();
    format!("{name}:{port}")
}

fn start(dns: &Dns, pool: Pool) -> Outrigger {
    Outrigger::start_with(&format!("workers: 2\n{}", dns.resolver()), [pool])
}

fn pool(servers: &[String]) -> Pool {
    Pool::new("cache", "redis", servers).set("connect_timeout: 2s").set("timeout: 4s")
}

fn keys(server: &Server) -> usize {
    server.client().ask("DBSIZE").parse().unwrap()
}

fn log_lines(proxy: &Outrigger, text: &str) -> usize {
    proxy.log().matches(text).count()
}

#[test]
fn the_proxy_starts_before_the_names_of_its_servers() {
    let (dns, server) = (Dns::start(), need!(Server::redis()));
    let mut proxy = start(&dns, pool(&[named("cache.test", &server)]));
    proxy.announce("the name of a server cannot be resolved");
    proxy.announce("cannot connect");
    let failed = proxy.client().ask("SET key 1");
    assert!(failed.starts_with("-ERR Host is down: cache.test: no such name (NXDOMAIN) (pool cache, "), "{failed}");
    dns.says("cache.test", Says::addresses(&["127.0.0.1"], 30));
    eventually("the name", || (proxy.client().ask("SET key 1") == "+OK").then_some(()));
    assert_eq!(server.client().ask("GET key"), "\"1\"");
    assert_eq!(log_lines(&proxy, "cannot be resolved"), 1, "a line when it begins");
    assert_eq!(log_lines(&proxy, "is resolved again"), 1, "and one when it ends");
}

#[test]
fn the_first_requests_wait_for_the_first_answer() {
    let (dns, server) = (Dns::start(), need!(Server::redis()));
    dns.says("cache.test", Says::Late(vec!["127.0.0.1".parse().unwrap()], 30, Duration::from_millis(500)));
    let proxy = start(&dns, pool(&[named("cache.test", &server)]));
    assert_eq!(proxy.client().ask("SET key 1"), "+OK");
}

#[test]
fn the_first_requests_do_not_wait_for_a_silent_name_server_longer_than_for_a_server() {
    let (dns, server) = (Dns::start(), need!(Server::redis()));
    dns.says("cache.test", Says::Silence);
    let pool = Pool::new("cache", "redis", &[named("cache.test", &server)]).set("connect_timeout: 300ms");
    let mut proxy = start(&dns, pool);
    proxy.announce("the name of a server cannot be resolved");
    proxy.announce("cannot connect");
    let start = Instant::now();
    let failed = proxy.client().ask("SET key 1");
    assert!(failed.contains("not connected within 300 ms"), "{failed}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_server_that_went_to_another_address_is_found_there_when_connections_fail() {
    let (dns, [mut old, new]) = (Dns::start(), need!(twins()));
    // Only a failed connection can be the reason to ask again.
    dns.says("cache.test", Says::addresses(&["127.0.0.1"], 3600));
    let mut proxy = start(&dns, pool(&[named("cache.test", &old)]));
    assert_eq!(proxy.client().ask("SET key 1"), "+OK");
    dns.says("cache.test", Says::addresses(&["127.0.0.2"], 3600));
    proxy.announce("connection lost");
    proxy.announce("cannot connect");
    let start = Instant::now();
    old.kill();
    eventually("the new address", || (proxy.client().ask("SET key 2") == "+OK").then_some(()));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(new.client().ask("GET key"), "\"2\"");
    assert_eq!(log_lines(&proxy, "has new addresses"), 1);
    assert!(proxy.log().contains(r#"old="127.0.0.1" new="127.0.0.2""#), "{}", proxy.log());
}

#[test]
fn a_server_that_goes_to_another_address_is_followed_without_a_failed_request_and_no_key_moves() {
    let (dns, [old, new], other) = (Dns::start(), need!(twins()), need!(Server::redis()));
    dns.says("moves.test", Says::addresses(&["127.0.0.1"], 1));
    dns.says("stays.test", Says::addresses(&["127.0.0.1"], 1));
    let proxy = start(&dns, pool(&[named("moves.test", &old), named("stays.test", &other)]));
    let mut client = proxy.client();
    let mut write_all = || {
        for n in 0..200 {
            // Keys that differ at their end only have neighbouring hashes, and one server might get all of them.
            assert_eq!(client.ask(&format!("SET {n}:key {n}")), "+OK");
        }
    };
    write_all();
    let (of_old, of_other) = (keys(&old), keys(&other));
    assert_eq!(of_old + of_other, 200);
    assert!(of_old > 0 && of_other > 0, "{of_old} and {of_other}");
    dns.says("moves.test", Says::addresses(&["127.0.0.2"], 1));
    // Both servers go on: whatever fails now is the proxy's fault.
    eventually("the new address", || {
        write_all();
        (keys(&new) == of_old).then_some(())
    });
    assert_eq!((keys(&old), keys(&other)), (of_old, of_other));
    assert_eq!(log_lines(&proxy, "has new addresses"), 1);
}

#[test]
fn a_server_that_goes_back_and_forth_fails_no_request_of_many_clients() {
    let (dns, [one, two]) = (Dns::start(), need!(twins()));
    dns.says("cache.test", Says::addresses(&["127.0.0.1"], 1));
    let proxy = start(&dns, pool(&[named("cache.test", &one)]).set("server_connections: 2"));
    let fleet = Fleet::sail(8, Dialect::Redis, &proxy.address_of(0), PATIENCE);
    let busy = |server: &Server| {
        let connections = server.client().ask("INFO clients");
        let count = connections.split("connected_clients:").nth(1).unwrap();
        // One is this client.
        count.split("\\r").next().unwrap().parse::<u32>().unwrap() > 1
    };
    for (address, from, to) in [("127.0.0.2", &one, &two), ("127.0.0.1", &two, &one), ("127.0.0.2", &one, &two)] {
        dns.says("cache.test", Says::addresses(&[address], 1));
        eventually("the move", || (busy(to) && !busy(from)).then_some(()));
    }
    let seen = fleet.land();
    assert!(seen.matched > 100, "{}", seen.matched);
    assert!(seen.errors.is_empty() && seen.wrong.is_empty(), "{:?} {:?}", seen.errors, seen.wrong);
}

#[test]
fn servers_are_connected_to_where_they_were_while_the_name_server_fails() {
    let (dns, server) = (Dns::start(), need!(Server::redis()));
    dns.says("cache.test", Says::addresses(&["127.0.0.1"], 1));
    let mut proxy = start(&dns, pool(&[named("cache.test", &server)]));
    proxy.announce("cannot be resolved, its last addresses stay");
    assert_eq!(proxy.client().ask("SET key 1"), "+OK");
    for (count, says) in [Says::NxDomain, Says::ServFail, Says::Silence].into_iter().enumerate() {
        dns.says("cache.test", says.clone());
        eventually("the failure", || (log_lines(&proxy, "its last addresses stay") > count).then_some(()));
        // New connections are needed now.
        let killed = server.client().ask("CLIENT KILL TYPE normal SKIPME yes");
        assert!(killed.parse::<u32>().is_ok_and(|n| n > 0), "{killed}");
        eventually("a new connection", || (proxy.client().ask("SET key 2") == "+OK").then_some(()));
        dns.says("cache.test", Says::addresses(&["127.0.0.1"], 1));
        eventually("the return", || (log_lines(&proxy, "is resolved again") > count).then_some(()));
    }
    assert_eq!(log_lines(&proxy, "has new addresses"), 0);
}

#[test]
fn of_several_addresses_one_that_refuses_is_passed_over() {
    let dns = Dns::start();
    let [refuses, listens] = Port::reserve_twice();
    let server = need!(Server::redis_at(listens));
    dns.says("cache.test", Says::addresses(&["127.0.0.1", "127.0.0.2"], 30));
    let proxy = start(&dns, pool(&[named("cache.test", &server)]));
    assert_eq!(proxy.client().ask("SET key 1"), "+OK");
    drop(refuses);
}

#[test]
fn of_several_addresses_a_black_hole_takes_its_share_of_the_time_limit_once() {
    let dns = Dns::start();
    let [silent, listens] = Port::reserve_twice();
    let server = need!(Server::redis_at(listens));
    let _hole = BlackHole::dig(&silent);
    dns.says("cache.test", Says::addresses(&["127.0.0.1", "127.0.0.2"], 30));
    let proxy = start(&dns, pool(&[named("cache.test", &server)]));
    let mut client = proxy.client();
    let start = Instant::now();
    assert_eq!(client.ask("SET key 1"), "+OK");
    assert!(start.elapsed() >= Duration::from_secs(1), "the hole is none: {:?}", start.elapsed());
    server.client().ask("CLIENT KILL TYPE normal SKIPME yes");
    let start = Instant::now();
    eventually("a new connection", || (client.ask("SET key 2") == "+OK").then_some(()));
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
}

/// An address that answers no SYN: a listener whose queue is full.
struct BlackHole {
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    fn dig(port: &Port) -> Self {
        let address = port.address();
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let mut queue = Vec::new();
        while let Ok(socket) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queue.push(socket);
        }
        Self { _listener: listener, _queue: queue }
    }
}

#[test]
fn a_name_may_lead_to_ipv6() {
    let (dns, server) = (Dns::start(), need!(Server::redis_v6()));
    dns.says("cache.test", Says::addresses(&["::1"], 30));
    let entry = server.entry();
    let port = entry.strip_prefix("[::1]:").unwrap();
    let proxy = start(&dns, pool(&[format!("cache.test:{port}")]));
    assert_eq!(proxy.client().ask("SET key 1"), "+OK");
}

#[test]
fn a_name_in_the_hosts_file_is_found_without_a_name_server() {
    let (dns, server) = (Dns::start(), need!(Server::redis()));
    dns.says("localhost", Says::Silence);
    let proxy = start(&dns, pool(&[named("localhost", &server)]));
    assert_eq!(proxy.client().ask("SET key 1"), "+OK");
    assert_eq!(dns.asked("localhost"), 0);
}
