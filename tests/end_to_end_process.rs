//! The process: signals, the log, draining, statistics.

mod support;

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::client::resp;
use support::servers::Nutcracker;
use support::{Fake, How, Outrigger, Pool, Server, eventually, folder};

/// A fake that answers nothing until the test says so, then everything; the sender lets it go.
fn held_back() -> (Fake, std::sync::mpsc::Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = Fake::start(move |_, talk| {
        let _ = wait.lock().unwrap().recv();
        talk.echo();
    });
    (server, go)
}

fn proxy_over(fake: &Fake) -> Outrigger {
    Outrigger::start_with("workers: 1", [Pool::new("cache", "redis", &[fake.entry()]).set("timeout: 15s")])
}

fn requests(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| resp(&["GET", &format!("key{n}")])).collect()
}

fn wait_for_queue(proxy: &Outrigger, fake: &Fake, length: u64) {
    let name = fake.name();
    eventually("the requests to be in flight", || {
        let stats = &proxy.stats()["cache"][&name];
        (stats["in_queue"].as_u64()? + stats["out_queue"].as_u64()? >= length).then_some(())
    });
}

#[test]
fn sigterm_answers_what_is_in_flight_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let (server, go) = held_back();
        let mut proxy = proxy_over(&server);
        let (mut client, mut idle) = (proxy.client(), proxy.client());
        client.send(requests(10));
        wait_for_queue(&proxy, &server, 10);
        proxy.signal(signal);
        // Those who wait for nothing go at once, and nobody new is let in.
        idle.expect_closed();
        eventually("the port to be closed", || proxy.address_of(0).connect().is_err().then_some(()));
        go.send(()).unwrap();
        for n in 0..10 {
            assert_eq!(client.reply(), format!("\"key{n}\""));
        }
        client.expect_closed();
        assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
        assert!(proxy.log().contains("draining"), "{}", proxy.log());
    }
}

#[test]
fn requests_that_were_read_but_not_yet_sent_are_answered_before_the_end() {
    // More than a session may have unanswered (16, as long as it has not seen a reply): the rest waits in the session and in
    // the socket.
    const REQUESTS: usize = 3000;
    let (server, go) = held_back();
    let mut proxy = proxy_over(&server);
    let mut client = proxy.client();
    client.send_aside(requests(REQUESTS));
    wait_for_queue(&proxy, &server, 16);
    proxy.signal(Signal::TERM);
    eventually("the port to be closed", || proxy.address_of(0).connect().is_err().then_some(()));
    let released = Instant::now();
    go.send(()).unwrap();
    for n in 0..REQUESTS {
        assert_eq!(client.reply(), format!("\"key{n}\""));
    }
    client.expect_closed();
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(released.elapsed() < Duration::from_secs(8), "{:?}", released.elapsed());
}

#[test]
fn a_request_that_is_half_there_when_the_end_comes_is_answered_when_the_rest_comes() {
    let (server, go) = held_back();
    go.send(()).unwrap();
    let mut proxy = proxy_over(&server);
    let mut client = proxy.client();
    assert_eq!(client.ask("GET a"), "\"a\"");
    client.send("*2\r\n$3\r\nGET\r\n$1\r\n");
    // Read, but not whole.
    assert_eq!(proxy.client().ask("GET b"), "\"b\"");
    proxy.signal(Signal::TERM);
    eventually("the port to be closed", || proxy.address_of(0).connect().is_err().then_some(()));
    client.send("c\r\n");
    assert_eq!(client.reply(), "\"c\"");
    let answered = Instant::now();
    client.expect_closed();
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(answered.elapsed() < Duration::from_secs(5), "{:?}", answered.elapsed());
}

#[test]
fn the_drain_limit_ends_what_does_not_end_by_itself() {
    let (server, _go) = held_back();
    let mut proxy = Outrigger::start_with(
        "workers: 1\ndrain_timeout: 300",
        [Pool::new("cache", "redis", &[server.entry()]).set("timeout: 0")],
    );
    proxy.announce("drain limit reached");
    let mut client = proxy.client();
    client.send(requests(1));
    wait_for_queue(&proxy, &server, 1);
    let asked = Instant::now();
    proxy.terminate();
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    client.expect_closed();
}

#[test]
fn clients_at_work_lose_nothing_when_the_proxy_drains() {
    let servers = need!(Server::three(Server::redis));
    let mut proxy = Outrigger::start([Pool::redis("cache", &servers)]);
    let address = proxy.address_of(0);
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let mut client = address.connect().unwrap();
            std::thread::spawn(move || {
                for n in 0.. {
                    client.send_aside(resp(&["SET", &format!("k{number}"), &n.to_string()]));
                    match client.try_reply() {
                        Ok(reply) => assert_eq!(reply.to_string(), "+OK"),
                        // The end, between two requests.
                        Err(_) => return n,
                    }
                }
                0
            })
        })
        .collect();
    eventually("some load", || (proxy.stats()["cache"]["client_connections"].as_u64()? >= 8).then_some(()));
    proxy.terminate();
    let answered: u64 = workers.into_iter().map(|w| w.join().unwrap()).sum();
    assert!(answered > 0);
}

#[test]
fn sighup_reopens_the_log_and_ttin_and_ttou_turn_it() {
    let server = need!(Server::redis());
    let mut proxy = Outrigger::start_with(
        "workers: 1\nlog: {file: proxy.log}",
        [Pool::redis("cache", std::slice::from_ref(&server))],
    );
    let read = |name: &str| std::fs::read_to_string(proxy.file(name)).unwrap_or_default();
    eventually("the log", || read("proxy.log").contains("serving").then_some(()));
    std::fs::rename(proxy.file("proxy.log"), proxy.file("proxy.log.1")).unwrap();
    proxy.signal(Signal::HUP);
    eventually("a new log", || proxy.file("proxy.log").exists().then_some(()));
    assert!(read("proxy.log.1").contains("signal 1 (SIGHUP) received, reopening log file"));
    proxy.signal(Signal::TTIN);
    eventually("the line", || read("proxy.log").contains("SIGTTIN) received, up logging level level=6").then_some(()));
    proxy.signal(Signal::TTOU);
    eventually("the line", || {
        read("proxy.log").contains("SIGTTOU) received, down logging level level=5").then_some(())
    });
    assert_eq!(proxy.client().ask("PING"), "+PONG");
    assert!(!read("proxy.log.1").contains("SIGTTIN"));
    proxy.terminate();
}

/// The keys of a JSON text as they come, values left out.
fn keys(value: &str) -> Vec<String> {
    let mut parts = value.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    // `service`, `source` and `version` have texts for values.
    for name in ["service", "source", "version"] {
        let at = parts.iter().position(|p| p == name).unwrap_or_else(|| panic!("no {name} in {value}"));
        parts.remove(at + 1);
    }
    parts
}

#[test]
fn statistics_have_twemproxys_fields_in_twemproxys_order() {
    let servers = need!(Server::three(Server::redis));
    let nutcracker = need!(Nutcracker::start(&["redis: true", "hash: murmur"], &servers));
    let proxy = Outrigger::start([Pool::redis("pool", &servers).set("hash: murmur")]);
    let theirs = keys(&nutcracker.stats_text());
    // What twemproxy does not have stands between.
    let ours = keys(&proxy.stats_text()).into_iter().filter(|key| theirs.contains(key));
    assert_eq!(ours.collect::<Vec<_>>(), theirs);
    // The same work is counted the same way.
    for mut client in [proxy.client(), nutcracker.client()] {
        for n in 0..30 {
            assert_eq!(client.ask(&format!("SET key{n} value")), "+OK");
            assert_eq!(client.ask(&format!("GET key{n}")), "\"value\"");
        }
        let all: String = (0..30).map(|n| format!(" key{n}")).collect();
        assert!(client.ask(&format!("MGET{all}")).starts_with("[\"value\""));
    }
    let counted = |stats: serde_json::Value| {
        let fields =
            ["requests", "request_bytes", "responses", "response_bytes", "in_queue", "out_queue", "server_err"];
        let server = |s: &Server| fields.map(|field| stats["pool"][s.name()][field].as_u64().unwrap());
        servers.each_ref().map(server)
    };
    // twemproxy adds its numbers up now and then.
    eventually("the same numbers", || {
        let (ours, theirs) = (counted(proxy.stats()), counted(nutcracker.stats()));
        // twemproxy writes the command of a fragment in lower case, which is as long.
        (ours == theirs).then_some(())
    });
    let stats = proxy.stats();
    assert_eq!(stats["pool"]["fragments"], 3);
    assert_eq!(stats["service"], "outrigger");
    assert_eq!(stats["pool"]["client_eof"].as_u64().unwrap(), 2, "the look whether it is there, and the client");
}

#[test]
fn preconnect_connects_before_anyone_asks() {
    let server = Fake::start(|_, talk| talk.stall());
    let pool = Pool::new("cache", "redis", &[server.entry()]).set("preconnect: true").set("server_connections: 2");
    let proxy = Outrigger::start_with("workers: 1", [pool]);
    eventually("two connections", || (server.accepted() == 2).then_some(()));
    let name = server.name();
    eventually("two in the statistics", || (proxy.stats()["cache"][&name]["server_connections"] == 2).then_some(()));
}

#[test]
fn without_a_file_it_serves_both_protocols_out_of_itself() {
    let redis = Pool::new("r", "redis", &["local one".into(), "local two".into(), "local three".into()]);
    let memcached = Pool::new("m", "memcached", &["local one".into(), "local two".into()]);
    let mut proxy = Outrigger::start([redis, memcached]);
    let (mut redis, mut memcached) = (proxy.client_of(0), proxy.client_of(1));
    for n in 0..20 {
        assert_eq!(redis.ask(&format!("SET key{n} {n}")), "+OK");
        assert_eq!(memcached.tell(&format!("set key{n} 0 0 2|{n:02}")), "STORED");
    }
    assert_eq!(redis.ask("MGET key1 key2 key3 none"), "[\"1\" \"2\" \"3\" nil]");
    assert_eq!(memcached.tell("get key1 none key2"), "VALUE key1 0 2|01|VALUE key2 0 2|02|END");
    proxy.terminate();
}

#[test]
fn what_a_killed_process_has_left_is_removed_by_the_next_one() {
    let place = folder();
    let start = || {
        let environment = vec![("TMPDIR".to_owned(), place.path().display().to_string())];
        let pool = Pool::new("r", "redis", &["local one".into()]);
        Outrigger::start_as(How { environment, ..How::default() }, "workers: 1", [pool])
    };
    let left = || {
        let names = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    // A test's proxy is killed when it is dropped.
    drop(start());
    let first = left();
    assert!(matches!(&first[..], [name] if name.starts_with("outrigger-local-")), "{first:?}");
    let (mut second, mut third) = (start(), start());
    let now = left();
    assert!(now.len() == 2 && !now.contains(&first[0]), "first {first:?}, then {now:?}");
    for proxy in [&mut second, &mut third] {
        assert_eq!(proxy.client().ask("SET key value"), "+OK");
        proxy.terminate();
    }
    assert_eq!(left(), [""; 0]);
}
