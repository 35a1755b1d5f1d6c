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

use outrigger::config::Protocol;
use outrigger::local::{LocalServer, LocalServers};
use support::{Client, resp};

const MEMORY: u64 = 64 * 1024 * 1024;

fn server(protocol: Protocol, name: &str) -> LocalServer {
    LocalServer { protocol, memory: MEMORY, pool: "test".to_owned(), server: name.to_owned() }
}

#[test]
fn sockets_are_private_and_gone_when_the_servers_are_dropped() {
    let servers = LocalServers::start((0..6).map(|n| server(Protocol::Redis, &n.to_string())).collect()).unwrap();
    let directory = servers.address(0).parent().unwrap().to_owned();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let mut open = Vec::new();
    for n in 0..6 {
        assert!(fs::metadata(servers.address(n)).unwrap().file_type().is_socket());
        open.push(UnixStream::connect(servers.address(n)).unwrap());
    }
    drop(servers);
    assert!(!directory.exists());
    for mut connection in open {
        assert_eq!(connection.read(&mut [0; 8]).unwrap_or(0), 0, "connections are closed");
    }
}

#[test]
fn servers_do_not_share_keys() {
    let servers = LocalServers::start(vec![server(Protocol::Redis, "a"), server(Protocol::Redis, "b")]).unwrap();
    let (mut a, mut b) = (Client::connect(&servers.address(0)), Client::connect(&servers.address(1)));
    assert_eq!(a.redis(&resp(&["SET", "k", "v"])), b"+OK\r\n");
    assert_eq!(a.redis(&resp(&["GET", "k"])), b"$1\r\nv\r\n");
    assert_eq!(b.redis(&resp(&["GET", "k"])), b"$-1\r\n");
}

#[test]
fn time_is_the_clock_that_was_injected() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let servers = LocalServers::start_with_clock(vec![server(Protocol::Redis, "a")], {
        let clock = clock.clone();
        move || clock.load(Ordering::SeqCst)
    })
    .unwrap();
    let mut client = Client::connect(&servers.address(0));
    assert_eq!(client.redis(&resp(&["SET", "k", "v", "EX", "10"])), b"+OK\r\n");
    clock.store(1_009_999, Ordering::SeqCst);
    assert_eq!(client.redis(&resp(&["PTTL", "k"])), b":1\r\n");
    clock.store(1_010_000, Ordering::SeqCst);
    assert_eq!(client.redis(&resp(&["GET", "k"])), b"$-1\r\n");
}

#[test]
fn requests_arriving_byte_by_byte_are_answered_and_so_are_those_of_a_closing_client() {
    let servers = LocalServers::start(vec![server(Protocol::Redis, "a")]).unwrap();
    let mut client = UnixStream::connect(servers.address(0)).unwrap();
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
    let servers = LocalServers::start(vec![server(Protocol::Redis, "a")]).unwrap();
    thread::scope(|scope| {
        for client in 0..24 {
            let address = servers.address(0);
            scope.spawn(move || {
                let mut connection = Client::connect(&address);
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
    let servers = LocalServers::start(vec![server(Protocol::Memcached, "a")]).unwrap();
    thread::scope(|scope| {
        for client in 0..24 {
            let address = servers.address(0);
            scope.spawn(move || {
                let mut connection = Client::connect(&address);
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
