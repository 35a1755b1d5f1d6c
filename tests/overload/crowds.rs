//! Many clients at once that are not what they should be: idle, foreign, gone in the middle of a reply, or asking for far more
//! than there is room for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::PATIENCE;
use crate::support::client::{Address, resp};
use crate::support::fleet::Dialect::{self, Memcached, Redis};
use crate::support::watch::{descriptors, memory, peak_memory, processor_time};
use crate::support::{Client, Outrigger, eventually};
use crate::{Bystanders, MIB, SLACK, buffered, counter, found, get, hello, need, one, store_large};

fn socket_address(proxy: &Outrigger) -> SocketAddr {
    match proxy.address_of(0) {
        Address::Tcp(address) => address,
        Address::Unix(path) => panic!("{}", path.display()),
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// As many descriptors for this process as it may have, for the clients.
fn all_descriptors() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |most| most as usize)
}

#[test]
fn three_thousand_idle_clients_cost_little_and_hold_nobody_up() {
    let count = 3000.min(all_descriptors() - 500);
    for dialect in [Redis, Memcached] {
        let (_server, proxy) = need!(one(dialect, "", &[]));
        let before = memory(proxy.pid());
        let bystanders = Bystanders::start(4, dialect, &proxy.address_of(0));
        let mut crowd: Vec<Client> = (0..count).map(|_| proxy.client()).collect();
        let (request, reply) = hello(dialect);
        crowd.iter_mut().for_each(|client| client.exchange(&request, &reply));
        bystanders.served();
        assert!(counter(&proxy, "client_connections") >= count as u64);
        let each = memory(proxy.pid()).saturating_sub(before) / count as u64;
        println!("{dialect:?}: {each} bytes for an idle client");
        assert!(each < 16 << 10, "{each} bytes for each of {count} idle clients");
        let busy = processor_time(proxy.pid());
        thread::sleep(Duration::from_millis(500));
        let busy = processor_time(proxy.pid()) - busy;
        assert!(busy < Duration::from_millis(100), "{busy:?} of half a second, for nothing");
        drop(crowd);
        eventually("all of them to be gone", || (counter(&proxy, "client_connections") <= 1).then_some(()));
    }
}

/// What comes to a port that is open to more than its own clients.
fn foreign(dialect: Dialect, number: usize) -> Vec<u8> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
    let noise = (0..200).map(|_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    });
    match number % 8 {
        0 => b"GET / HTTP/1.1\r\nHost: cache\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\r\n".to_vec(),
        1 => b"POST /a HTTP/1.1\r\nHost: cache\r\nContent-Length: 12\r\n\r\nSET a broken\r\n".to_vec(),
        // A TLS ClientHello.
        2 => [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &noise.collect::<Vec<u8>>()].concat(),
        3 => b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n".to_vec(),
        4 => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\0\0\x01\x7f\0\0\x01\x1f\x90\x00\x50".to_vec(),
        5 => noise.collect(),
        // The other protocol.
        6 if dialect == Redis => b"set a 0 0 5\r\nhello\r\n".to_vec(),
        6 => resp(&["SET", "a", "broken"]),
        _ => noise.flat_map(|byte| [byte, b"\r\n*$ "[usize::from(byte) % 5]]).collect(),
    }
}

#[test]
fn what_is_no_request_costs_its_own_connection_and_nobody_elses() {
    for dialect in [Redis, Memcached] {
        let (_server, proxy) = need!(one(dialect, "", &[]));
        let (address, before) = (socket_address(&proxy), memory(proxy.pid()));
        let bystanders = Bystanders::start(4, dialect, &proxy.address_of(0));
        let mut closed = 0;
        for number in 0..600 {
            let mut socket = connect(address);
            let _ = socket.write_all(&foreign(dialect, number));
            let _ = socket.shutdown(std::net::Shutdown::Write);
            // All that it gets are errors, or what a command gets that stood there by chance; and its end.
            let mut told = Vec::new();
            closed += usize::from(socket.read_to_end(&mut told).is_err());
            assert!(told.len() < 64 << 10, "{} bytes for {:?}", told.len(), foreign(dialect, number));
        }
        bystanders.served();
        println!("{dialect:?}: {closed} of 600 were reset");
        eventually("all of them to be gone", || (counter(&proxy, "client_connections") <= 1).then_some(()));
        assert_eq!(buffered(&proxy), 0);
        let after = memory(proxy.pid());
        assert!(after < before + (32 << 20), "{before} bytes before, {after} after");
    }
}

#[test]
fn clients_that_reset_in_the_middle_of_a_reply_cost_others_nothing_and_no_memory_is_kept() {
    const VALUE: usize = 100_000;
    for dialect in [Redis, Memcached] {
        let (_server, proxy) = need!(one(dialect, "", &[]));
        store_large(&proxy, dialect, VALUE);
        let (address, before, files) = (socket_address(&proxy), memory(proxy.pid()), descriptors(proxy.pid()));
        let bystanders = Bystanders::start(4, dialect, &proxy.address_of(0));
        let resets = AtomicUsize::new(0);
        let until = Instant::now() + Duration::from_secs(2);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while Instant::now() < until {
                        let mut socket = connect(address);
                        socket.write_all(&get(dialect, "large").repeat(200)).unwrap();
                        socket.read_exact(&mut [0; 1000]).unwrap();
                        set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
                        drop(socket);
                        resets.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        bystanders.served();
        eventually("nothing to be held", || (buffered(&proxy) == 0).then_some(()));
        eventually("all of them to be gone", || (counter(&proxy, "client_connections") <= 1).then_some(()));
        let (peak, kept) = (peak_memory(proxy.pid()), descriptors(proxy.pid()));
        println!("{dialect:?}: {} resets, {before} bytes before, {peak} at the peak", resets.into_inner());
        assert!(peak < before + SLACK, "{before} bytes before, {peak} at the peak");
        assert!(kept <= files + 2, "{files} descriptors before, {kept} after");
        assert_eq!(counter(&proxy, "client_refused_overload"), 0);
    }
}

/// So many clients, each with a pipeline of a megabyte of writes, at a proxy that may hold so little: each write is stored or
/// refused, in its turn, and the process stays small.
fn more_than_there_is_room_for(clients: usize) {
    const LIMIT: u64 = 32 << 20;
    const WRITES: usize = 64;
    all_descriptors();
    for dialect in [Redis, Memcached] {
        let (_server, mut proxy) = need!(one(dialect, "limits: {max_buffered_bytes: 32MiB}\n", &[]));
        proxy.announce("overload");
        let (address, before) = (socket_address(&proxy), memory(proxy.pid()));
        let value = "v".repeat(MIB / WRITES);
        let write = |n: usize| crate::set(dialect, &format!("key{n}"), &value);
        let pipeline: Arc<[u8]> = (0..WRITES).flat_map(write).collect::<Vec<u8>>().into();
        let (refusal, stored) = match dialect {
            Redis => ("-ERR proxy overloaded: ", "+OK"),
            Memcached => ("SERVER_ERROR proxy overloaded: ", "STORED"),
        };
        let run = || {
            let pipeline = pipeline.clone();
            move || {
                let mut socket = connect(address);
                socket.write_all(&pipeline).unwrap();
                socket.shutdown(std::net::Shutdown::Write).unwrap();
                let mut told = String::new();
                socket.read_to_string(&mut told).unwrap();
                let good = told.lines().filter(|line| *line == stored).count();
                let refused = told.lines().filter(|line| line.starts_with(refusal)).count();
                assert_eq!((good + refused, told.lines().count()), (WRITES, WRITES), "{told}");
                good
            }
        };
        let small = || thread::Builder::new().stack_size(256 << 10);
        let crowd: Vec<_> = (0..clients).map(|_| small().spawn(run()).unwrap()).collect();
        let good: usize = crowd.into_iter().map(|client| client.join().unwrap()).sum();
        let peak = peak_memory(proxy.pid());
        println!("{dialect:?}: {good} of {} stored, {before} bytes before, {peak} at the peak", clients * WRITES);
        assert!(good > 0 && peak < before + LIMIT * 5 / 4 + SLACK, "{before} bytes before, {peak} at the peak");
        eventually("nothing to be held", || (buffered(&proxy) == 0).then_some(()));
        let expected = found(dialect, "key1", &value);
        proxy.client().exchange(get(dialect, "key1"), expected);
    }
}

#[test]
fn hundreds_of_clients_with_a_megabyte_of_writes_each_are_served_in_little_memory() {
    more_than_there_is_room_for(200);
}

#[test]
#[ignore = "a minute"]
fn chaos_two_thousand_clients_with_a_megabyte_of_writes_each() {
    more_than_there_is_room_for(2000);
}
