//! How quick requests are while the topology changes, and while it does not: windows of the one and the other in turn, in
//! one run, at a fixed rate of requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::need;
use crate::scene::is_long;
use crate::support::client::{Address, Client, Reply, resp};
use crate::support::fleet::Dialect::{self, Memcached, Redis};
use crate::support::{Outrigger, Port, Server};

/// Of each protocol; each asks once in so long.
const CLIENTS: usize = 8;
const EVERY: Duration = Duration::from_millis(4);
/// From one reload to the next.
const RELOADS: Duration = Duration::from_millis(250);
const SERVERS: usize = 4;
const KEYS: usize = 500;

/// Two files, between which servers come and go, change weights and addresses, in both pools.
fn texts(admin: &str, ports: &[Port], servers: &[Vec<Server>; 2]) -> [String; 2] {
    let pool = |index: usize, second: bool| {
        let entry = |at: usize, weight: usize, name: &str| {
            let address = servers[index][at].socket_address();
            format!("      - \"{address}:{weight} {name}\"\n")
        };
        let list = match second {
            false => [entry(0, 1, "s0"), entry(1, 1, "s1"), entry(2, 1, "s2")],
            true => [entry(0, 2, "s0"), entry(3, 1, "s1"), entry(2, 1, "s3")],
        };
        let (name, address) = (["redis", "memcached"][index], ports[index].address());
        let keys = format!("    listen: {address}\n    protocol: {name}\n    hash: murmur\n    timeout: 10s\n");
        format!("  {name}:\n{keys}    servers:\n{}", list.concat())
    };
    let text = |second| format!("workers: 2\n{admin}pools:\n{}{}", pool(0, second), pool(1, second));
    [text(false), text(true)]
}

/// Asks at its times, says what each answer took, counted from when it was due.
fn client(dialect: Dialect, number: usize, mut client: Client, stop: &AtomicBool) -> Vec<(Instant, Duration)> {
    let (mut times, mut due) = (Vec::new(), Instant::now() + EVERY / (number as u32 + 1));
    for round in 0.. {
        if stop.load(SeqCst) {
            break;
        }
        while let Some(rest) = due.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            thread::park_timeout(rest);
        }
        let key = format!("c{number}:{}", (round * 7) % KEYS);
        ask(dialect, &mut client, &key, round % 5 == 0);
        times.push((due, due.elapsed()));
        due += EVERY;
    }
    times
}

/// Each value is the key itself.
fn ask(dialect: Dialect, client: &mut Client, key: &str, write: bool) {
    match (dialect, write) {
        (Redis, true) => assert_eq!(client.ask(&format!("SET {key} {key}")), "+OK"),
        (Memcached, true) => assert_eq!(client.tell(&format!("set {key} 0 0 {}|{key}", key.len())), "STORED"),
        (Redis, false) => {
            client.send(resp(&["GET", key]));
            let reply = client.try_reply().unwrap();
            assert!(reply == Reply::Nil || reply == Reply::Bulk(key.into()), "{key}: {reply}");
        }
        (Memcached, false) => {
            let reply = client.tell(&format!("get {key}"));
            assert!(reply == "END" || reply == format!("VALUE {key} 0 {}|{key}|END", key.len()), "{key}: {reply}");
        }
    }
}

fn percentile(mut times: Vec<Duration>, permille: usize) -> Duration {
    times.sort();
    times[(times.len() * permille / 1000).min(times.len() - 1)]
}

#[test]
#[ignore = "judges times, so it wants a program that is optimised, and a machine for itself"]
fn requests_are_as_quick_while_the_topology_changes() {
    // Otherwise the reloads are what takes the processor's time.
    let judged = is_long() && !cfg!(debug_assertions);
    let (window, windows) = if is_long() { (Duration::from_secs(1), 25) } else { (Duration::from_secs(1), 2) };
    let start = |one: fn() -> Option<Server>| (0..SERVERS).map(|_| one()).collect::<Option<Vec<Server>>>();
    let servers = [need!(start(Server::redis)), need!(start(Server::memcached))];
    let ports = [Port::reserve(), Port::reserve()];
    let addresses = ports.each_ref().map(|port| Address::Tcp(port.address()));
    let proxy = Outrigger::start_text(
        crate::support::How::default(),
        |admin| texts(admin, &ports, &servers)[0].clone(),
        addresses.to_vec(),
    );
    let texts = texts(&proxy.admin_block(), &ports, &servers);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2 * CLIENTS)
        .map(|number| {
            let (dialect, own, stop) = ([Redis, Memcached][number % 2], proxy.client_of(number % 2), stop.clone());
            thread::spawn(move || client(dialect, number, own, &stop))
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    let (mut spans, mut written) = (Vec::new(), 0);
    for _ in 0..windows {
        let begun = Instant::now();
        thread::sleep(window);
        let middle = Instant::now();
        while middle.elapsed() < window {
            written += 1;
            let (file, new) = (proxy.file("outrigger.yml"), proxy.file("new"));
            std::fs::write(&new, &texts[written % 2]).unwrap();
            std::fs::rename(new, file).unwrap();
            proxy.signal(Signal::HUP);
            thread::sleep(RELOADS);
        }
        spans.push([(begun, middle), (middle, Instant::now())]);
        // What the last reload has left to do belongs to neither.
        thread::sleep(RELOADS);
    }
    stop.store(true, SeqCst);
    let times: Vec<(Instant, Duration)> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let reloads = proxy.stats()["config"]["reloads"].as_u64().unwrap();
    let of = |(from, to): (Instant, Instant), permille| {
        percentile(times.iter().filter(|(due, _)| (from..to).contains(due)).map(|(_, took)| *took).collect(), permille)
    };
    let median = |kind: usize, permille| {
        let all = spans.iter().map(|span| of(span[kind], permille)).collect();
        percentile(all, 500)
    };
    println!(
        "{} requests, {reloads} reloads of {written} files, {windows} windows of {window:?} of each kind",
        times.len()
    );
    for permille in [500, 990, 999, 1000] {
        let [quiet, changing] = [median(0, permille), median(1, permille)];
        let ratio = changing.as_secs_f64() / quiet.as_secs_f64();
        println!("{:>5.1} %: without {quiet:?}, with reloads {changing:?}, {ratio:.2} times", permille as f64 / 10.0);
    }
    // Some may have come together.
    assert!(reloads * 2 > written as u64, "{reloads} of {written}");
    let ratio = median(1, 990).as_secs_f64() / median(0, 990).as_secs_f64();
    assert!(!judged || ratio <= 1.5, "p99 is {ratio:.2} times that without reloads");
}
