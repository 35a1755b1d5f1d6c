//! In-process servers that come and go for a long time. The only test of its process, because it counts what that has.

#[path = "local_servers/support.rs"]
#[expect(dead_code, reason = "no real server is needed here")]
mod support;
#[path = "support/watch.rs"]
#[expect(dead_code, reason = "other tests look at more")]
mod watch;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use outrigger::config::Protocol;
use outrigger::local::{LocalHandle, LocalServer, LocalServers};
use support::{Client, resp};

const ROUNDS: usize = 1000;

/// In bytes.
const VALUE: usize = 1 << 20;

fn server(protocol: Protocol, server: String) -> LocalServer {
    LocalServer { protocol, memory: 1 << 26, pool: "test".to_owned(), server }
}

fn count(folder: impl AsRef<Path>) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Threads and descriptors. A task that is left behind would have a descriptor.
fn held() -> (usize, usize) {
    (count("/proc/self/task"), watch::descriptors(std::process::id()))
}

fn comes_to(expected: (usize, usize)) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while held() != expected {
        assert!(Instant::now() < deadline, "{:?} threads and descriptors, not {expected:?}", held());
        std::thread::yield_now();
    }
}

/// Stores something and leaves with a request on its way.
fn visit(server: &LocalHandle, protocol: Protocol) {
    let mut client = Client::connect(server.address());
    let value = "x".repeat(VALUE);
    match protocol {
        Protocol::Redis => {
            assert_eq!(client.redis(&resp(&["SET", "key", &value])), b"+OK\r\n");
            client.send(resp(&["GET", "key"]));
        }
        Protocol::Memcached => {
            client.send(format!("set key 0 0 {}\r\n{value}\r\n", VALUE - 1000).into_bytes());
            client.line();
            client.send(b"get key\r\n".to_vec());
        }
    }
}

#[test]
fn a_thousand_servers_that_come_and_go_leave_nothing_behind() {
    let threads = held().0;
    // The first runtime of a process gets it a pair of sockets for signals, which stay.
    drop(LocalServers::new().start(server(Protocol::Redis, "first".to_owned())).unwrap());
    let before = (threads, held().1);
    comes_to(before);
    let servers = LocalServers::new();
    assert_eq!(held(), before, "nothing before the first server");
    let stays = servers.start(server(Protocol::Redis, "stays".to_owned())).unwrap();
    let directory = stays.address().parent().unwrap().to_owned();
    // A connection has two ends.
    let with_one = (threads + 1, held().1 + 2);
    let mut kept = Client::connect(stays.address());
    assert_eq!(kept.redis(&resp(&["SET", "k", "v"])), b"+OK\r\n");
    let mut early = 0;
    for round in 0..ROUNDS {
        let protocol = if round % 2 == 0 { Protocol::Redis } else { Protocol::Memcached };
        let goes = servers.start(server(protocol, round.to_string())).unwrap();
        // One in four has no client before it goes.
        if round % 4 < 3 {
            visit(&goes, protocol);
        }
        assert_eq!(count(&directory), 2);
        drop(goes);
        assert_eq!(count(&directory), 1);
        if round == ROUNDS / 10 {
            early = watch::memory(std::process::id());
        }
    }
    comes_to(with_one);
    let grown = watch::memory(std::process::id()).saturating_sub(early);
    assert!(grown < (ROUNDS * VALUE / 10) as u64, "{grown} bytes of values were kept");
    assert_eq!(kept.redis(&resp(&["GET", "k"])), b"$1\r\nv\r\n", "one that stays keeps what it has");
    drop((kept, servers, stays));
    comes_to(before);
    assert!(!directory.exists());
}
