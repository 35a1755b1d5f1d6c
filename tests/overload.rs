//! Overload and clients that misbehave: memory stays within its limits, and nobody else notices.
//!
//! The long forms are ignored; `cargo test --test overload -- --ignored` runs them.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bystanders::{Bystanders, Watched, once_in_three};
use support::client::{Address, resp};
use support::fake::Talk;
use support::fleet::Dialect::{self, Memcached, Redis};
use support::watch::{descriptors, limit_descriptors, memory, peak_memory, processor_time};
use support::{Client, Fake, Outrigger, PATIENCE, Pool, Server, eventually};

#[path = "overload/bystanders.rs"]
mod bystanders;
#[path = "overload/crowds.rs"]
mod crowds;
#[path = "overload/extremes.rs"]
mod extremes;

const MIB: usize = 1 << 20;
/// What a process may take beyond what it counts: buffers that grow by doubling, the allocator's slack.
const SLACK: u64 = 64 << 20;

fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Redis => "redis",
        Memcached => "memcached",
    }
}

fn server(dialect: Dialect) -> Option<Server> {
    match dialect {
        Redis => Server::redis(),
        Memcached => Server::memcached_with(&["-I", "4m", "-m", "256"]),
    }
}

fn set(dialect: Dialect, key: &str, value: &str) -> Vec<u8> {
    match dialect {
        Redis => resp(&["SET", key, value]),
        Memcached => format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()).into_bytes(),
    }
}

fn get(dialect: Dialect, key: &str) -> Vec<u8> {
    match dialect {
        Redis => resp(&["GET", key]),
        Memcached => format!("get {key}\r\n").into_bytes(),
    }
}

fn stored(dialect: Dialect) -> &'static str {
    match dialect {
        Redis => "+OK\r\n",
        Memcached => "STORED\r\n",
    }
}

fn found(dialect: Dialect, key: &str, value: &str) -> Vec<u8> {
    match dialect {
        Redis => format!("${}\r\n{value}\r\n", value.len()).into_bytes(),
        Memcached => format!("VALUE {key} 0 {}\r\n{value}\r\nEND\r\n", value.len()).into_bytes(),
    }
}

/// What the proxy answers without asking a server.
fn hello(dialect: Dialect) -> (Vec<u8>, String) {
    match dialect {
        Redis => (resp(&["PING"]), "+PONG\r\n".into()),
        Memcached => (b"verbosity 1\r\n".to_vec(), "OK\r\n".into()),
    }
}

fn counter(proxy: &Outrigger, name: &str) -> u64 {
    proxy.stats()["pool"][name].as_u64().unwrap()
}

fn buffered(proxy: &Outrigger) -> u64 {
    proxy.stats()["buffered_bytes"].as_u64().unwrap()
}

fn one(dialect: Dialect, globals: &str, lines: &[&str]) -> Option<(Server, Outrigger)> {
    let server = server(dialect)?;
    let pool = Pool::new("pool", name(dialect), &[server.entry()]).set("timeout: 15s");
    let pool = lines.iter().fold(pool, |pool, line| pool.set(line));
    Some((server, Outrigger::start_with(&format!("workers: 2\n{globals}"), [pool])))
}

/// Clients that ask for so many large values and read none.
fn slow_readers(proxy: &Outrigger, dialect: Dialect, count: usize, requests: usize) -> Vec<Client> {
    let slow = |_| {
        let client = proxy.client();
        client.send_aside(get(dialect, "large").repeat(requests));
        client
    };
    (0..count).map(slow).collect()
}

fn store_large(proxy: &Outrigger, dialect: Dialect, bytes: usize) -> String {
    let value = "v".repeat(bytes);
    proxy.client().exchange(set(dialect, "large", &value), stored(dialect));
    value
}

fn never_read(dialect: Dialect, readers: usize, seconds: u64) {
    once_in_three(|| never_read_once(dialect, readers, seconds));
}

/// Whether the others noticed.
fn never_read_once(dialect: Dialect, readers: usize, seconds: u64) -> Result<(), String> {
    /// What the process may hold if the file does not say otherwise.
    const BUDGET: u64 = 256 << 20;
    let Some((server, proxy)) = one(dialect, "", &[]) else { return Ok(()) };
    store_large(&proxy, dialect, MIB);
    let usual = Bystanders::usual(dialect, &proxy.address_of(0));
    let before = memory(proxy.pid());
    let bystanders = Bystanders::start(4, dialect, &proxy.address_of(0));
    let slow = slow_readers(&proxy, dialect, readers, 400);
    eventually("what cannot be sent to be held", || (buffered(&proxy) > 8 << 20).then_some(()));
    // What was asked for before anybody could know that it is not read still comes, and others wait for it in their turn.
    eventually("no more to come", || {
        let held = buffered(&proxy);
        thread::sleep(Duration::from_millis(200));
        (buffered(&proxy).abs_diff(held) < MIB as u64).then_some(())
    });
    bystanders.p99();
    let watched = Watched::start(usual, dialect, &proxy, &server);
    thread::sleep(Duration::from_secs(seconds));
    let (held, peak) = (buffered(&proxy), peak_memory(proxy.pid()));
    println!("{dialect:?}: {before} bytes before, peak {peak}, {held} held");
    assert!(peak < before + BUDGET + SLACK, "{before} bytes before, {peak} at the peak, {held} held");
    let judged = watched.judge();
    drop(slow);
    eventually("nothing to be held", || (buffered(&proxy) == 0).then_some(()));
    let gone = Instant::now();
    // The allocator gives back in the course of its work.
    let mut client = proxy.client();
    while memory(proxy.pid()) > before + SLACK {
        assert!(gone.elapsed() < Duration::from_secs(10), "{before} bytes before, now {}", memory(proxy.pid()));
        client.exchange(set(dialect, "some", "value"), stored(dialect));
    }
    assert_eq!([counter(&proxy, "client_refused_overload"), counter(&proxy, "client_cut_overload")], [0, 0]);
    judged
}

#[test]
fn redis_clients_that_never_read_cost_bounded_memory_and_nobody_else_anything() {
    never_read(Redis, 12, 2);
}

#[test]
fn memcached_clients_that_never_read_cost_bounded_memory_and_nobody_else_anything() {
    never_read(Memcached, 12, 2);
}

#[test]
#[ignore = "half a minute"]
fn chaos_clients_that_never_read() {
    never_read(Redis, 12, 15);
    never_read(Memcached, 12, 15);
}

#[test]
fn clients_that_take_nothing_are_cut_after_client_write_timeout() {
    for dialect in [Redis, Memcached] {
        let (_server, mut proxy) = need!(one(dialect, "", &["client_write_timeout: 1s"]));
        proxy.announce("cut clients that do not read");
        store_large(&proxy, dialect, MIB);
        let bystanders = Bystanders::start(2, dialect, &proxy.address_of(0));
        let mut idle = proxy.client();
        let began = Instant::now();
        let slow = slow_readers(&proxy, dialect, 6, 100);
        eventually("all of them to be cut", || (counter(&proxy, "client_cut_slow") == 6).then_some(()));
        let took = began.elapsed();
        // Without the setting it is 30 s, which nobody waits for here.
        assert!(took >= Duration::from_secs(1), "{took:?}");
        eventually("nothing to be held", || (buffered(&proxy) == 0).then_some(()));
        bystanders.p99();
        let (request, reply) = hello(dialect);
        idle.exchange(request, reply);
        for mut slow in slow {
            // It gets what the kernels have, if anything, and no whole last reply.
            assert!(slow.rest().len() < 100 * MIB);
        }
        let log = proxy.log();
        let lines = log.lines().filter(|line| line.contains("cut clients that do not read"));
        assert_eq!(lines.count(), 1, "{log}");
    }
}

#[test]
fn a_client_that_takes_little_at_a_time_is_not_cut() {
    let (_server, proxy) = need!(one(Redis, "", &["client_write_timeout: 2s"]));
    let value = store_large(&proxy, Redis, 4 * MIB);
    let expected = found(Redis, "large", &value).repeat(5);
    let mut client = proxy.client();
    client.send(get(Redis, "large").repeat(5));
    let began = Instant::now();
    // So slowly that the socket takes nothing for longer than the limit, although the client takes a little all the time.
    let mut read = 0;
    while began.elapsed() < Duration::from_secs(6) {
        client.expect(&expected[read..read + 8000]);
        read += 8000;
        thread::sleep(Duration::from_millis(50));
    }
    client.expect(&expected[read..]);
    assert_eq!(counter(&proxy, "client_cut_slow"), 0);
}

#[test]
fn a_client_that_reads_gets_all_it_asks_for_in_order_and_cheaply() {
    for dialect in [Redis, Memcached] {
        let (_server, mut proxy) = need!(one(dialect, "limits: {max_buffered_bytes: 32MiB}\n", &[]));
        // It asks before the replies show how large they are.
        proxy.announce("overload");
        let value = |n: usize| format!("{n:02}").repeat(MIB / 2);
        let mut client = proxy.client();
        for n in 0..20 {
            client.exchange(set(dialect, &format!("key{n}"), &value(n)), stored(dialect));
        }
        let before = memory(proxy.pid());
        let requests = (0..400).flat_map(|n| get(dialect, &format!("key{}", n % 20)));
        client.send_aside(requests.collect());
        for n in 0..400 {
            client.expect(found(dialect, &format!("key{}", n % 20), &value(n % 20)));
        }
        let peak = peak_memory(proxy.pid());
        println!("{dialect:?}: {before} bytes before, {peak} at the peak");
        assert!(peak < before + (32 << 20) + SLACK, "{before} bytes before, {peak} at the peak");
        assert_eq!(counter(&proxy, "client_cut_overload"), 0);
    }
}

/// A client that is known for small replies may ask for many at once; when they turn out large, it must read them.
#[test]
fn a_client_that_asks_for_far_more_than_there_is_room_for_and_does_not_read_is_cut() {
    const BUDGET: u64 = 32 << 20;
    let (_server, mut proxy) = need!(one(Redis, "limits: {max_buffered_bytes: 32MiB}\n", &[]));
    proxy.announce("overload");
    proxy.announce("cut clients that do not read");
    store_large(&proxy, Redis, MIB);
    let before = memory(proxy.pid());
    let mut other = proxy.client();
    let mut client = proxy.client();
    client.exchange(set(Redis, "small", "v"), "+OK\r\n");
    client.send(get(Redis, "small").repeat(200));
    client.expect(found(Redis, "small", "v").repeat(200));
    client.send(get(Redis, "large").repeat(1000));
    eventually("it to be cut", || (counter(&proxy, "client_cut_overload") == 1).then_some(()));
    // What it asked for has still to be taken from the server.
    eventually("room", || (other.ask("GET small") == "\"v\"" && buffered(&proxy) == 0).then_some(()));
    let peak = peak_memory(proxy.pid());
    println!("{before} bytes before, peak {peak}");
    assert!(peak < before + BUDGET * 5 / 4 + SLACK, "{before} bytes before, {peak} at the peak");
    eventually("the log to say that it is over", || proxy.log().contains("overload is over").then_some(()));
}

/// A server that reads nothing until the sender says so.
fn held_back(dialect: Dialect) -> (Fake, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let serve = move |_, talk: &mut Talk| {
        let _ = wait.lock().unwrap().recv();
        match dialect {
            Redis => talk.echo(),
            Memcached => {
                while let Some(line) = talk.line() {
                    if line.starts_with("set ") {
                        talk.line();
                        talk.say("STORED\r\n");
                    } else {
                        talk.say("END\r\n");
                    }
                }
            }
        }
    };
    (Fake::start(serve), go)
}

#[test]
fn without_room_requests_are_refused_at_once_in_order_and_served_again_when_there_is_room() {
    for dialect in [Redis, Memcached] {
        let (server, go) = held_back(dialect);
        let pool = Pool::new("pool", name(dialect), &[server.entry()]).set("timeout: 0").set("server_connections: 4");
        let mut proxy = Outrigger::start_with("workers: 2\nlimits: {max_buffered_bytes: 8MiB}", [pool]);
        proxy.announce("overload");
        // Each may send one request without having seen a reply; so they fill what there is.
        let refused = || counter(&proxy, "client_refused_overload");
        let mut senders = Vec::new();
        while refused() == 0 {
            assert!(senders.len() < 200, "{} bytes held", buffered(&proxy));
            let sender = proxy.client();
            sender.send_aside(set(dialect, "key", &"v".repeat(MIB)));
            let before = buffered(&proxy) + refused();
            let waited = Instant::now();
            // The kernel takes the first ones.
            while buffered(&proxy) + refused() == before && waited.elapsed() < Duration::from_millis(200) {}
            senders.push(sender);
        }
        let held = buffered(&proxy);
        assert!((8 << 20..12 << 20).contains(&held), "{held}");
        let (request, answer) = hello(dialect);
        let mut client = proxy.client();
        client.send([get(dialect, "a"), request.clone(), set(dialect, "b", "STORED\r\n1"), request].concat());
        let start = if dialect == Redis { "-ERR" } else { "SERVER_ERROR" };
        for _ in 0..2 {
            let line = client.line();
            assert!(line.starts_with(&format!("{start} proxy overloaded: ")), "{line}");
            assert!(line.ends_with(" bytes buffered, limit 8388608 (max_buffered_bytes)"), "{line}");
            client.expect(&answer);
        }
        assert!(proxy.log().contains("overload: clients that hold much are read no further"));
        (0..8).for_each(|_| go.send(()).unwrap());
        eventually("room", || (buffered(&proxy) == 0).then_some(()));
        let expected = if dialect == Redis { "$1\r\na\r\n" } else { "END\r\n" };
        client.exchange(get(dialect, "a"), expected);
        eventually("the log to say that it is over", || proxy.log().contains("overload is over").then_some(()));
    }
}

#[test]
fn idle_clients_are_closed_after_client_idle_timeout_and_no_others() {
    let (server, go) = held_back(Redis);
    let pool = Pool::new("pool", "redis", &[server.entry()]).set("timeout: 0").set("client_idle_timeout: 1500ms");
    let proxy = Outrigger::start_with("workers: 1", [pool]);
    let (mut idle, mut half, mut busy, mut waiting) = (proxy.client(), proxy.client(), proxy.client(), proxy.client());
    half.send("*2\r\n$3\r\nGET\r\n");
    waiting.send(get(Redis, "a"));
    let began = Instant::now();
    let closed = || counter(&proxy, "client_closed_idle");
    while closed() < 2 || began.elapsed() < Duration::from_secs(4) {
        assert!(began.elapsed() < PATIENCE, "{} closed", closed());
        assert_eq!(busy.ask("PING"), "+PONG");
        thread::sleep(Duration::from_millis(20));
    }
    idle.expect_closed();
    half.expect_closed();
    go.send(()).unwrap();
    waiting.expect("$1\r\na\r\n");
    assert_eq!(busy.ask("PING"), "+PONG");
    // Those who looked whether the proxy was there are idle, too, if they have not gone.
    assert!(counter(&proxy, "client_closed_idle") >= 2);
    assert_eq!(counter(&proxy, "client_err"), 0);
}

#[test]
fn a_proxy_with_nothing_to_do_sleeps() {
    let (_server, proxy) = need!(one(Redis, "", &[]));
    let mut client = proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    let switches = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap();
        let workers = tasks.map(|task| task.unwrap().path());
        let workers = workers.filter(|task| std::fs::read_to_string(task.join("comm")).unwrap().starts_with("worker-"));
        let count = |task: std::path::PathBuf| -> u64 {
            let status = std::fs::read_to_string(task.join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
            line.trim().parse().unwrap()
        };
        workers.map(count).sum::<u64>()
    };
    // A last tick finds that there is nothing to watch any more.
    eventually("the workers to fall asleep", || {
        let before = switches();
        thread::sleep(Duration::from_millis(1200));
        (switches() == before).then_some(())
    });
    assert_eq!(client.ask("GET a"), "\"1\"");
}

#[test]
fn half_requests_of_hundreds_of_clients_hold_nobody_up() {
    [Redis, Memcached].into_iter().for_each(|dialect| once_in_three(|| half_requests(dialect)));
}

/// Whether the others noticed.
fn half_requests(dialect: Dialect) -> Result<(), String> {
    let Some((server, proxy)) = one(dialect, "", &[]) else { return Ok(()) };
    let usual = Bystanders::usual(dialect, &proxy.address_of(0));
    let (start, rest) = match dialect {
        Redis => ("*2\r\n$3\r\nGET\r\n$9\r\nnobod", "y-at\r\n"),
        Memcached => ("get nobod", "y-at\r\n"),
    };
    let mut crowd: Vec<Client> = (0..400).map(|_| proxy.client()).collect();
    crowd.iter_mut().for_each(|client| client.send(&start[..start.len() - 5]));
    let watched = Watched::start(usual, dialect, &proxy, &server);
    // A byte now and then.
    for at in start.len() - 5..start.len() {
        crowd.iter_mut().for_each(|client| client.send(&start[at..=at]));
        thread::sleep(Duration::from_millis(200));
    }
    let judged = watched.judge();
    let miss = if dialect == Redis { "$-1\r\n" } else { "END\r\n" };
    crowd.iter_mut().for_each(|client| client.exchange(rest, miss));
    judged
}

#[test]
fn at_the_limit_of_descriptors_clients_are_served_and_new_ones_wait() {
    let server = need!(Server::redis());
    let pools =
        ["one", "two", "three"].map(|name| Pool::redis(name, std::slice::from_ref(&server)).set("preconnect: true"));
    let mut proxy = Outrigger::start(pools);
    proxy.announce("cannot accept clients");
    // Nor can the configuration be looked at.
    proxy.announce("Too many open files");
    let mut clients: Vec<Client> = (0..3).map(|pool| proxy.client_of(pool)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("SET a 1"), "+OK"));
    let settled = || proxy.stats()["curr_connections"].as_u64().unwrap();
    eventually("those who looked whether it is there to be gone", || (settled() <= 3 + 6 + 3).then_some(()));
    limit_descriptors(proxy.pid(), descriptors(proxy.pid()) as u64 + 12);
    // All of them are connected as far as the kernel is concerned; most are not let in.
    let mut crowd: Vec<Client> = (0..60).map(|n| proxy.client_of(n % 3)).collect();
    eventually("the log to say so", || proxy.log().contains("cannot accept clients").then_some(()));
    let busy = processor_time(proxy.pid());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        clients.iter_mut().for_each(|client| assert_eq!(client.ask("GET a"), "\"1\""));
        thread::sleep(Duration::from_millis(10));
    }
    let busy = processor_time(proxy.pid()) - busy;
    assert!(busy < Duration::from_millis(500), "{busy:?} of a second");
    let log = proxy.log();
    assert_eq!(log.lines().filter(|line| line.contains("cannot accept clients")).count(), 1, "{log}");
    // Each that leaves lets one in.
    while let Some(mut client) = crowd.pop() {
        client.send(get(Redis, "a"));
        if crowd.is_empty() {
            client.expect("$1\r\n1\r\n");
        }
    }
    assert_eq!(proxy.client().ask("GET a"), "\"1\"");
}
