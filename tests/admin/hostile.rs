//! What strangers and broken programs send. None of it disturbs the next one who asks, or takes more than its share.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::Address;
use crate::support::{Client, How, Outrigger, Pool, Response};

fn proxy() -> Outrigger {
    Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &["local one".to_owned()])])
}

fn connect(proxy: &Outrigger) -> Client {
    Address::Tcp(proxy.admin_address()).connect().unwrap()
}

/// The answer to these bytes, with the end of the connection behind it.
fn refused(proxy: &Outrigger, bytes: impl AsRef<[u8]>) -> u16 {
    let mut client = connect(proxy);
    client.send(bytes);
    let response = Response::parse(&client.rest());
    assert_eq!(response.header("connection"), "close");
    assert!(response.json()["error"].is_string());
    response.status
}

fn resident(proxy: &Outrigger) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn what_is_no_http_is_refused() {
    let proxy = proxy();
    for garbage in [
        &b"garbage\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /loglevel HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nerr",
        b"POST /loglevel HTTP/1.1\r\nContent-Length: x\r\n\r\nerr",
        b"POST /loglevel HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        assert_eq!(refused(&proxy, garbage), 400, "{}", garbage.escape_ascii());
    }
    assert_eq!(proxy.http("GET", "/healthz").status, 200);
}

#[test]
fn what_is_too_large_is_refused_and_not_kept() {
    let proxy = proxy();
    let long = |length| "x".repeat(length);
    let huge = 8 << 20;
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", long(huge)), 431),
        (format!("GET /{} HTTP/1.1\r\n\r\n", long(huge)), 431),
        (format!("GET /{} HTTP/1.1\r\nConnection: close\r\n\r\n", long(9000)), 414),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(300)), 400),
        (format!("POST /loglevel HTTP/1.1\r\nContent-Length: {huge}\r\n\r\n{}", long(huge)), 413),
        (
            format!("POST /loglevel HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n{}\r\n0\r\n\r\n", long(2048)),
            413,
        ),
        (format!("GET /explain?{} HTTP/1.1\r\nConnection: close\r\n\r\n", "a=b&".repeat(100)), 400),
    ] {
        assert_eq!(refused(&proxy, &request), status, "{}", &request[..40]);
    }
    let before = resident(&proxy);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut client = TcpStream::connect(proxy.admin_address()).unwrap();
                // It may be cut any time.
                let _ = client.write_all(format!("GET / HTTP/1.1\r\nX: {}", long(huge)).as_bytes());
            });
        }
    });
    assert!(resident(&proxy) < before + (16 << 10), "{before} kB before, {} kB after", resident(&proxy));
    assert_eq!(proxy.http("GET", "/healthz").status, 200);
}

#[test]
fn one_byte_at_a_time_is_as_good_as_all_at_once() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    for byte in b"POST /loglevel HTTP/1.1\r\nConnection: close\r\nContent-Length: 6\r\n\r\nnotice" {
        client.send([*byte]);
        thread::yield_now();
    }
    assert_eq!(Response::parse(&client.rest()).status, 200);
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", "200 OK"),
        ("POST /loglevel HTTP/1.1\r\nContent-Length: 6\r\n\r\nnotice", "200 OK"),
        ("HEAD /config HTTP/1.1\r\n\r\n", "200 OK"),
        ("GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
    ] {
        client.send(request);
        assert_eq!(client.line(), format!("HTTP/1.1 {status}"), "{request}");
        let mut length = 0;
        loop {
            match client.line().to_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let head = request.starts_with("HEAD");
        client.skip(if head { 0 } else { length });
    }
    client.send("GET /healthz HTTP/1.0\r\n\r\n");
    assert!(client.rest().ends_with("\r\n\r\nok\n"), "HTTP/1.0 ends with its answer");
}

#[test]
fn who_begins_and_falls_silent_is_told_so_and_cut() {
    let proxy = proxy();
    thread::scope(|scope| {
        for half in [
            "GET /healthz HT",
            "GET /healthz HTTP/1.1\r\nHost: x",
            "POST /loglevel HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
        ] {
            let proxy = &proxy;
            scope.spawn(move || assert_eq!(refused(proxy, half), 408, "{half}"));
        }
        scope.spawn(|| connect(&proxy).expect_closed());
    });
}

/// More than there are descriptors for at a time would be too many: they come one after the other.
#[test]
fn ten_thousand_who_say_nothing_keep_nobody_out() {
    let proxy = proxy();
    let (most, before) = (500, resident(&proxy));
    let mut silent = std::collections::VecDeque::new();
    let mut slowest = Duration::ZERO;
    for number in 0..10_000 {
        if silent.len() == most {
            silent.pop_front();
        }
        // The queue of the kernel may be full for a moment.
        let timeout = Duration::from_millis(5);
        silent.extend(TcpStream::connect_timeout(&proxy.admin_address(), timeout).ok());
        if number % 1000 == 999 {
            let begun = Instant::now();
            assert_eq!(proxy.http("GET", "/healthz").status, 200);
            slowest = slowest.max(begun.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(9), "{slowest:?}");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count();
    assert!(descriptors < 150, "{descriptors} descriptors");
    assert!(resident(&proxy) < before + (16 << 10), "{before} kB before, {} kB after", resident(&proxy));
}

#[test]
fn requests_that_come_all_at_once_are_answered_in_their_order() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    client.send(
        "GET /healthz HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\nGET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    let said = client.rest();
    let statuses: Vec<&str> =
        said.match_indices("HTTP/1.1 ").map(|(at, found)| &said[at + found.len()..][..3]).collect();
    assert_eq!(statuses, ["200", "404", "200"], "{said}");
    assert!(said.ends_with("\r\n\r\nready\n"), "{said}");
}

#[test]
fn the_port_may_be_a_unix_socket() {
    let folder = crate::support::folder();
    let path = folder.path().join("admin.sock");
    let how = How { admin: Some(Address::Unix(path.clone())), ..How::default() };
    let mut proxy = Outrigger::start_as(how, "workers: 1\n", [Pool::new("cache", "redis", &["local one".to_owned()])]);
    assert_eq!(proxy.http("GET", "/healthz").body, "ok\n");
    assert_eq!(proxy.http_with("GET", "/readyz", &["Host: whatever.example"], "").status, 200, "no browser comes here");
    assert_eq!(proxy.http_with("POST", "/loglevel", &[], "notice").status, 200);
    proxy.terminate();
    assert!(UnixStream::connect(&path).is_err() && !path.exists(), "its file goes with it");
}
