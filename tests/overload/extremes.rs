//! What is announced, nested, pipelined or opened far beyond what anybody needs.

use super::*;

#[test]
fn an_announced_gigabyte_claims_no_memory() {
    for (dialect, announced) in [
        (Redis, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000000\r\nx"),
        (Redis, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nx"),
        (Redis, "*1000000\r\n$3\r\nSET\r\n"),
        (Memcached, "set k 0 0 1000000000\r\nx"),
        (Memcached, "set k 0 0 500000000\r\nx"),
    ] {
        let (_server, proxy) = need!(one(dialect, "", &[]));
        let mut other = proxy.client();
        other.exchange(set(dialect, "a", "1"), stored(dialect));
        let before = memory(proxy.pid());
        let clients: Vec<Client> = (0..100)
            .map(|_| {
                let mut client = proxy.client();
                client.send(announced);
                client.send("y".repeat(100));
                client
            })
            .collect();
        other.exchange(get(dialect, "a"), found(dialect, "a", "1"));
        let peak = peak_memory(proxy.pid());
        assert!(peak < before + (32 << 20), "{announced}: {before} bytes before, {peak} at the peak");
        assert!(buffered(&proxy) < 1 << 20);
        drop(clients);
    }
    // A server may announce as much.
    let server = Fake::start(|_, talk| {
        while talk.request().is_some() {
            talk.say("$1000000000\r\nx");
        }
    });
    let pool = Pool::new("pool", "redis", &[server.entry()]).set("timeout: 300ms");
    let mut proxy = Outrigger::start_with("workers: 1", [pool]);
    proxy.announce("no reply in time");
    proxy.announce("connection lost");
    let before = memory(proxy.pid());
    assert!(proxy.client().ask("GET a").starts_with("-ERR "));
    assert!(peak_memory(proxy.pid()) < before + (32 << 20));
}

#[test]
fn a_hundred_thousand_levels_of_nesting_are_refused_from_either_side() {
    let nested = "*1\r\n".repeat(100_000);
    let server = {
        let nested = nested.clone();
        Fake::start(move |_, talk| {
            while let Some(request) = talk.request() {
                talk.say(if request == "GET deep" { nested.as_str() } else { "$1\r\n1\r\n" });
            }
        })
    };
    let pool = Pool::new("pool", "redis", &[server.entry()]).set("timeout: 5s");
    let mut proxy = Outrigger::start_with("workers: 1", [pool]);
    proxy.announce("connection lost");
    let mut other = proxy.client();
    let mut client = proxy.client();
    client.send_aside(nested.into_bytes());
    let rest = client.rest();
    assert!(rest.starts_with("-ERR Protocol error: expected '$'") || rest.is_empty(), "{rest}");
    assert_eq!(other.ask("GET a"), "\"1\"");
    let deep = other.ask("GET deep");
    assert!(deep.starts_with("-ERR Invalid reply: "), "{deep}");
    eventually("the server to be asked again", || (other.ask("GET a") == "\"1\"").then_some(()));
}

fn pipeline(dialect: Dialect, requests: usize) {
    let (_server, proxy) = need!(one(dialect, "", &[]));
    let mut client = proxy.client();
    client.exchange(set(dialect, "k", "value"), stored(dialect));
    let before = memory(proxy.pid());
    client.send_aside(get(dialect, "k").repeat(requests));
    let reply = found(dialect, "k", "value");
    for _ in 0..requests {
        client.expect(&reply);
    }
    let peak = peak_memory(proxy.pid());
    println!("{dialect:?}: {before} bytes before, {peak} at the peak");
    assert!(peak < before + (32 << 20), "{before} bytes before, {peak} at the peak");
}

#[test]
fn a_long_pipeline_is_answered_whole_in_bounded_memory() {
    pipeline(Redis, 100_000);
    pipeline(Memcached, 100_000);
}

#[test]
#[ignore = "a minute"]
fn chaos_a_pipeline_of_a_million_commands() {
    pipeline(Redis, 1_000_000);
    pipeline(Memcached, 1_000_000);
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let (_server, proxy) = need!(one(Redis, "", &[]));
    let mut client = proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    let clients = || counter(&proxy, "client_connections");
    eventually("the first ones to be gone", || (clients() == 1).then_some(()));
    let come_and_go = |rounds: usize| {
        for round in 0..rounds {
            let mut crowd: Vec<Client> = (0..500).map(|_| proxy.client()).collect();
            // Some say nothing, some half a request, some a whole one.
            crowd.iter_mut().skip(round % 3).step_by(3).for_each(|client| client.send("*2\r\n$3\r\nGET\r\n"));
            crowd.iter_mut().skip(round % 2).step_by(2).for_each(|client| client.send("$1\r\na\r\n"));
        }
    };
    // The allocator keeps what as many at a time have needed once.
    come_and_go(6);
    eventually("these to be gone", || (clients() == 1).then_some(()));
    let (files, before) = (descriptors(proxy.pid()), memory(proxy.pid()));
    let bystanders = Bystanders::start(4, Redis, &proxy.address_of(0));
    // Ten thousand.
    come_and_go(20);
    bystanders.served();
    eventually("all of them to be gone", || (clients() == 1).then_some(()));
    // The other worker may have connected to the server meanwhile, and the statistics are asked for.
    eventually("their descriptors to be closed", || (descriptors(proxy.pid()) <= files + 2).then_some(()));
    assert_eq!(client.ask("GET a"), "\"1\"");
    let after = memory(proxy.pid());
    assert!(after < before + (32 << 20), "{before} bytes before, {after} after");
    assert_eq!(buffered(&proxy), 0);
}
