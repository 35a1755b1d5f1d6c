//! The in-process servers over their sockets: against the real redis-server and memcached, under load, at start and stop.

#[path = "local_servers/memcached.rs"]
mod memcached;
#[path = "local_servers/redis.rs"]
mod redis;
#[path = "local_servers/support.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use outrigger::config::Protocol;
use outrigger::local::{LocalHandle, LocalServer, LocalServers};
use support::{Client, resp};

const MEMORY: u64 = 64 * 1024 * 1024;

fn server(protocol: Protocol, name: &str) -> LocalServer {
    LocalServer { protocol, memory: MEMORY, pool: "test".to_owned(), server: name.to_owned() }
}

/// The only server.
fn start(protocol: Protocol) -> LocalHandle {
    LocalServers::new().start(server(protocol, "a")).unwrap()
}

#[test]
fn sockets_are_private_and_gone_when_the_servers_are_dropped() {
    let servers = LocalServers::new();
    let running: Vec<_> = (0..6).map(|n| servers.start(server(Protocol::Redis, &n.to_string())).unwrap()).collect();
    let directory = running[0].address().parent().unwrap().to_owned();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let mut open = Vec::new();
    for server in &running {
        assert!(fs::metadata(server.address()).unwrap().file_type().is_socket());
        open.push(UnixStream::connect(server.address()).unwrap());
    }
    drop(servers);
    assert!(directory.exists(), "the handles keep it");
    drop(running);
    assert!(!directory.exists());
    for mut connection in open {
        assert_eq!(connection.read(&mut [0; 8]).unwrap_or(0), 0, "connections are closed");
    }
}

#[test]
fn a_server_that_goes_closes_its_connections_and_leaves_the_others_alone() {
    let servers = LocalServers::new();
    let [stays, goes] = ["stays", "goes"].map(|name| servers.start(server(Protocol::Redis, name)).unwrap());
    let mut kept = Client::connect(stays.address());
    assert_eq!(kept.redis(&resp(&["SET", "k", "v"])), b"+OK\r\n");
    let (address, mut closed) = (goes.address().to_owned(), UnixStream::connect(goes.address()).unwrap());
    let clone = goes.clone();
    drop(goes);
    Client::connect(&address).redis(&resp(&["PING"]));
    drop(clone);
    assert!(!address.exists());
    assert_eq!(closed.read(&mut [0; 8]).unwrap_or(0), 0, "the connection is closed");
    assert_eq!(kept.redis(&resp(&["GET", "k"])), b"$1\r\nv\r\n");
    // The same server again is another one: nobody who knew the first can take it for that.
    let again = servers.start(server(Protocol::Redis, "goes")).unwrap();
    assert_ne!(again.address(), address);
    assert_eq!(Client::connect(again.address()).redis(&resp(&["DBSIZE"])), b":0\r\n");
}

#[test]
fn memory_is_given_back_when_a_server_has_gone() {
    static TIMES: AtomicI64 = AtomicI64::new(0);
    fn give_back() {
        TIMES.fetch_add(1, Ordering::SeqCst);
    }
    let servers = LocalServers::new().with_give_back(Some(give_back));
    let [stays, goes] = ["stays", "goes"].map(|name| servers.start(server(Protocol::Redis, name)).unwrap());
    assert_eq!(Client::connect(goes.address()).redis(&resp(&["SET", "k", "v"])), b"+OK\r\n");
    drop(goes);
    let deadline = Instant::now() + Duration::from_secs(20);
    while TIMES.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "it was not given back");
        thread::yield_now();
    }
    drop(stays);
}

#[test]
fn servers_do_not_share_keys() {
    let servers = LocalServers::new();
    let [first, second] = ["a", "b"].map(|name| servers.start(server(Protocol::Redis, name)).unwrap());
    let (mut a, mut b) = (Client::connect(first.address()), Client::connect(second.address()));
    assert_eq!(a.redis(&resp(&["SET", "k", "v"])), b"+OK\r\n");
    assert_eq!(a.redis(&resp(&["GET", "k"])), b"$1\r\nv\r\n");
    assert_eq!(b.redis(&resp(&["GET", "k"])), b"$-1\r\n");
}

#[test]
fn time_is_the_clock_that_was_injected() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let servers = LocalServers::with_clock({
        let clock = clock.clone();
        move || clock.load(Ordering::SeqCst)
    });
    let running = servers.start(server(Protocol::Redis, "a")).unwrap();
    let mut client = Client::connect(running.address());
    assert_eq!(client.redis(&resp(&["SET", "k", "v", "EX", "10"])), b"+OK\r\n");
    clock.store(1_009_999, Ordering::SeqCst);
    assert_eq!(client.redis(&resp(&["PTTL", "k"])), b":1\r\n");
    clock.store(1_010_000, Ordering::SeqCst);
    assert_eq!(client.redis(&resp(&["GET", "k"])), b"$-1\r\n");
}

#[test]
fn requests_arriving_byte_by_byte_are_answered_and_so_are_those_of_a_closing_client() {
    let running = start(Protocol::Redis);
    let mut client = UnixStream::connect(running.address()).unwrap();
    let requests = [resp(&["SET", "k", "\r\n"]), resp(&["GET", "k"]), resp(&["QUIT"])].concat();
    for byte in requests {
        client.write_all(&[byte]).unwrap();
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut replies = Vec::new();
    client.read_to_end(&mut replies).unwrap();
    assert_eq!(replies.escape_ascii().to_string(), r"+OK\r\n$2\r\n\r\n\r\n+OK\r\n");
}

#[test]
fn many_pipelining_clients_each_get_their_own_replies() {
    let running = start(Protocol::Redis);
    thread::scope(|scope| {
        for client in 0..24 {
            let running = &running;
            scope.spawn(move || {
                let mut connection = Client::connect(running.address());
                for round in 0..20 {
                    let value = format!("{client}:{round}:{}", "x".repeat(client * 997 % 20_000));
                    let mut requests = Vec::new();
                    for n in 0..40 {
                        let key = format!("{client}-{n}");
                        requests.extend(resp(&["SET", &key, &format!("{value}{n}")]));
                        requests.extend(resp(&["GET", &key]));
                        requests.extend(resp(&["INCR", &format!("counter-{client}-{n}")]));
                    }
                    connection.send(requests);
                    for n in 0..40 {
                        let value = format!("{value}{n}");
                        assert_eq!(connection.redis_reply(), b"+OK\r\n");
                        assert_eq!(connection.redis_reply(), format!("${}\r\n{value}\r\n", value.len()).as_bytes());
                        assert_eq!(connection.redis_reply(), format!(":{}\r\n", round + 1).as_bytes());
                    }
                }
            });
        }
    });
}

#[test]
fn many_pipelining_memcached_clients_each_get_their_own_replies() {
    let running = start(Protocol::Memcached);
    thread::scope(|scope| {
        for client in 0..24 {
            let running = &running;
            scope.spawn(move || {
                let mut connection = Client::connect(running.address());
                connection.send(format!("set counter-{client} 0 0 1\r\n0\r\n").into_bytes());
                assert_eq!(connection.line(), b"STORED\r\n");
                for round in 0..20 {
                    let value = format!("{client}:{round}:{}", "x".repeat(client * 997 % 20_000));
                    let request = format!(
                        "set key-{client} {client} 0 {}\r\n{value}\r\nget key-{client}\r\nincr counter-{client} 1\r\n",
                        value.len()
                    );
                    connection.send(request.repeat(40).into_bytes());
                    for n in 0..40 {
                        let reply = format!(
                            "STORED\r\nVALUE key-{client} {client} {}\r\n{value}\r\nEND\r\n{}\r\n",
                            value.len(),
                            round * 40 + n + 1
                        );
                        let got = connection.bytes(reply.len());
                        assert_eq!(String::from_utf8_lossy(&got), reply);
                    }
                }
            });
        }
    });
}
