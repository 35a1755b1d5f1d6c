//! Overload and clients that misbehave: memory stays within its limits, and nobody else notices.
//!
//! The long forms are ignored; `cargo test --test overload -- --ignored` runs them.

mod support;

#[path = "overload/crowds.rs"]
mod crowds;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Address, resp};
use support::fake::Talk;
use support::fleet::Dialect::{self, Memcached, Redis};
use support::watch::{descriptors, limit_descriptors, memory, peak_memory, processor_time};
use support::{Client, Fake, Outrigger, Pool, Server, eventually};

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

/// Clients that read what they ask for, with small values, one request at a time; each checks every reply and how long
/// it took.
struct Bystanders {
    stop: std::sync::Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<Vec<Duration>>>,
}

impl Bystanders {
    fn start(count: usize, dialect: Dialect, address: &Address) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let start = |number: usize| {
            let (stop, mut client) = (stop.clone(), address.connect().unwrap());
            thread::spawn(move || {
                let mut took = Vec::new();
                for round in 0.. {
                    let (key, value) = (format!("bystander{number}"), format!("{number}:{round}"));
                    let asked = Instant::now();
                    client.exchange(set(dialect, &key, &value), stored(dialect));
                    client.exchange(get(dialect, &key), found(dialect, &key, &value));
                    took.push(asked.elapsed() / 2);
                    if stop.load(SeqCst) {
                        break;
                    }
                    thread::park_timeout(Duration::from_millis(1));
                }
                took
            })
        };
        Self { clients: (0..count).map(start).collect(), stop }
    }

    /// Ends them; how long their requests took, the shortest time first.
    fn end(self) -> Vec<Duration> {
        self.stop.store(true, SeqCst);
        let mut all: Vec<Duration> = self.clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
        all.sort();
        all
    }

    /// Ends them: each had its own replies and no error. How long they waited is not judged, as the crowd takes what the machine
    /// has.
    fn served(self) {
        let all = self.end();
        println!("{} pairs of requests beside, the slowest in {:?}", all.len(), all.last().expect("one at least"));
    }

    /// Ends them; how long 99 of 100 requests took at the most.
    fn p99(self) -> Duration {
        let all = self.end();
        assert!(all.len() >= 100, "{} requests are too few", all.len());
        all[all.len() * 99 / 100]
    }

    /// The p99 of some seconds without a cause for more.
    fn usual(dialect: Dialect, address: &Address) -> Duration {
        let bystanders = Self::start(4, dialect, address);
        thread::sleep(Duration::from_millis(1500));
        bystanders.p99()
    }

    fn unharmed(self, usual: Duration) {
        let p99 = self.p99();
        assert!(p99 <= usual * 10 + Duration::from_millis(20), "p99 {p99:?}, usually {usual:?}");
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

/// `budget`: what the file allows the process to hold.
fn never_read(dialect: Dialect, readers: usize, seconds: u64) {
    const BUDGET: u64 = 256 << 20;
    let (_server, proxy) = need!(one(dialect, "", &[]));
    store_large(&proxy, dialect, MIB);
    let usual = Bystanders::usual(dialect, &proxy.address_of(0));
    let before = memory(proxy.pid());
    let bystanders = Bystanders::start(4, dialect, &proxy.address_of(0));
    let slow = slow_readers(&proxy, dialect, readers, 400);
    eventually("what cannot be sent to be held", || (buffered(&proxy) > 8 << 20).then_some(()));
    thread::sleep(Duration::from_secs(seconds));
    let (held, peak) = (buffered(&proxy), peak_memory(proxy.pid()));
    println!("{dialect:?}: {before} bytes before, peak {peak}, {held} held");
    assert!(peak < before + BUDGET + SLACK, "{before} bytes before, {peak} at the peak, {held} held");
    bystanders.unharmed(usual);
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
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
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
    let (_server, proxy) = need!(one(Redis, "", &["client_write_timeout: 500ms"]));
    let value = store_large(&proxy, Redis, 4 * MIB);
    let expected = found(Redis, "large", &value).repeat(5);
    let mut client = proxy.client();
    client.send(get(Redis, "large").repeat(5));
    let began = Instant::now();
    // So slowly that the socket takes nothing for longer than the limit, although the client takes a little all the time.
    let mut read = 0;
    while began.elapsed() < Duration::from_secs(3) {
        client.expect(&expected[read..read + 20_000]);
        read += 20_000;
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
    let pool = Pool::new("pool", "redis", &[server.entry()]).set("timeout: 0").set("client_idle_timeout: 400ms");
    let proxy = Outrigger::start_with("workers: 1", [pool]);
    let (mut idle, mut half, mut busy, mut waiting) = (proxy.client(), proxy.client(), proxy.client(), proxy.client());
    half.send("*2\r\n$3\r\nGET\r\n");
    waiting.send(get(Redis, "a"));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
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
    let (files, before) = (descriptors(proxy.pid()), memory(proxy.pid()));
    let bystanders = Bystanders::start(4, Redis, &proxy.address_of(0));
    // Ten thousand.
    for round in 0..20 {
        let mut crowd: Vec<Client> = (0..500).map(|_| proxy.client()).collect();
        // Some say nothing, some half a request, some a whole one.
        crowd.iter_mut().skip(round % 3).step_by(3).for_each(|client| client.send("*2\r\n$3\r\nGET\r\n"));
        crowd.iter_mut().skip(round % 2).step_by(2).for_each(|client| client.send("$1\r\na\r\n"));
    }
    bystanders.served();
    eventually("all of them to be gone", || (clients() == 1).then_some(()));
    // The other worker may have connected to the server meanwhile, and the statistics are asked for.
    eventually("their descriptors to be closed", || (descriptors(proxy.pid()) <= files + 2).then_some(()));
    assert_eq!(client.ask("GET a"), "\"1\"");
    let after = memory(proxy.pid());
    assert!(after < before + (32 << 20), "{before} bytes before, {after} after");
    assert_eq!(buffered(&proxy), 0);
}

#[test]
fn half_requests_of_hundreds_of_clients_hold_nobody_up() {
    for dialect in [Redis, Memcached] {
        let (_server, proxy) = need!(one(dialect, "", &[]));
        let usual = Bystanders::usual(dialect, &proxy.address_of(0));
        let (start, rest) = match dialect {
            Redis => ("*2\r\n$3\r\nGET\r\n$9\r\nnobod", "y-at\r\n"),
            Memcached => ("get nobod", "y-at\r\n"),
        };
        let mut crowd: Vec<Client> = (0..400).map(|_| proxy.client()).collect();
        crowd.iter_mut().for_each(|client| client.send(&start[..start.len() - 5]));
        let bystanders = Bystanders::start(4, dialect, &proxy.address_of(0));
        // A byte now and then.
        for at in start.len() - 5..start.len() {
            crowd.iter_mut().for_each(|client| client.send(&start[at..=at]));
            thread::sleep(Duration::from_millis(200));
        }
        bystanders.unharmed(usual);
        let miss = if dialect == Redis { "$-1\r\n" } else { "END\r\n" };
        crowd.iter_mut().for_each(|client| client.exchange(rest, miss));
    }
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
