//! `limits`. The clients were there before.

use std::net::TcpListener;

use super::scene::{Scene, answering, at, local, mute, until};
use crate::Case;
use crate::support::client::resp;

pub const CASES: &[Case] = &[
    ("limits.max_request_bytes", || of_message("max_request_bytes", "1MiB", "1KiB", "SET a", 2000)),
    ("limits.max_response_bytes", max_response_bytes),
    ("limits.max_key_bytes", || of_message("max_key_bytes", "64KiB", "100", "GET", 200)),
    ("limits.max_arguments", max_arguments),
    ("limits.max_line_bytes", max_line_bytes),
    ("limits.max_nesting", max_nesting),
    ("limits.max_session_requests", max_session_requests),
    ("limits.max_session_bytes", max_session_bytes),
    ("limits.max_connection_requests", max_connection_requests),
    ("limits.max_connection_bytes", max_connection_bytes),
    ("limits.max_buffered_bytes", max_buffered_bytes),
];

fn scene(key: &str, value: &str, pool: crate::support::Pool) -> Scene {
    Scene::new(&format!("limits:\n  {key}: {value}\n"), pool)
}

fn change(scene: &Scene, key: &str, from: &str, to: &str) {
    scene.change(&format!("  {key}: {from}\n"), &format!("  {key}: {to}\n"));
}

/// A request with so many bytes at its end is too large under the new limit.
fn of_message(key: &str, from: &str, to: &str, request: &str, bytes: usize) {
    let scene = scene(key, from, local());
    let (mut client, request) = (scene.proxy.client(), format!("{request} {}", "x".repeat(bytes)));
    assert!(!client.ask(&request).starts_with('-'));
    change(&scene, key, from, to);
    scene.says(&mut client, &request, "-");
}

fn max_response_bytes() {
    let scene = scene("max_response_bytes", "1MiB", local());
    let mut client = scene.proxy.client();
    assert_eq!(client.ask(&format!("SET a {}", "x".repeat(2000))), "+OK");
    assert_eq!(client.ask("GET a").len(), 2002);
    change(&scene, "max_response_bytes", "1MiB", "1KiB");
    scene.says(&mut client, "GET a", "-ERR Invalid reply: reply longer than the limit");
}

fn max_arguments() {
    let scene = scene("max_arguments", "1000", local());
    let mut client = scene.proxy.client();
    let request = format!("MGET{}", " a".repeat(50));
    assert!(client.ask(&request).starts_with('['));
    change(&scene, "max_arguments", "1000", "20");
    scene.says(&mut client, &request, "-ERR Protocol error");
}

fn max_line_bytes() {
    let scene = scene("max_line_bytes", "64KiB", local());
    let mut client = scene.proxy.client();
    let request = format!("SET a {}\r\n", "x".repeat(600));
    client.exchange(&request, "+OK\r\n");
    change(&scene, "max_line_bytes", "64KiB", "512");
    until("a line that is too long", || {
        client.send(&request);
        client.reply().starts_with("-ERR Protocol error")
    });
}

fn max_nesting() {
    let server = answering(|_| "*1\r\n*1\r\n*1\r\n:1\r\n".to_owned());
    let scene = scene("max_nesting", "32", at(&server.entry()));
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("LRANGE a 0 1"), "[[[1]]]");
    change(&scene, "max_nesting", "32", "1");
    scene.says(&mut client, "LRANGE a 0 1", "-ERR Invalid reply");
}

/// Requests that reach a server that does not answer, of those that one client sends.
fn sent_by_one(scene: &Scene, request: &[u8], count: usize) -> u64 {
    let before = scene.requests();
    let client = scene.proxy.client();
    client.send_aside(request.repeat(count));
    scene.pass();
    scene.requests() - before
}

fn max_session_requests() {
    let server = mute();
    let scene = scene("max_session_requests", "1024", at(&server.entry()).set("timeout: 0"));
    let request = resp(&["GET", "a"]);
    until("ten requests of one client", || sent_by_one(&scene, &request, 10) == 10);
    change(&scene, "max_session_requests", "1024", "2");
    until("two of ten", || sent_by_one(&scene, &request, 10) == 2);
}

fn max_session_bytes() {
    let server = answering(|_| format!("${}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20)));
    let scene = scene("max_session_bytes", "1KiB", at(&server.entry()).set("timeout: 0"));
    // It does not read.
    let client = scene.proxy.client();
    client.send_aside(resp(&["GET", "a"]).repeat(64));
    until("some replies", || scene.requests() > 0);
    scene.pass();
    assert!(scene.requests() < 64, "the kernel does not hold so much");
    change(&scene, "max_session_bytes", "1KiB", "1GiB");
    // It takes the new one when it has nothing unanswered: what has come is its own business.
    until("all replies", || scene.requests() == 64);
}

fn max_connection_requests() {
    let server = mute();
    let scene = scene("max_connection_requests", "8192", at(&server.entry()).set("timeout: 0"));
    change(&scene, "max_connection_requests", "8192", "3");
    let clients: Vec<_> = (0..10).map(|_| scene.proxy.client()).collect();
    clients.iter().for_each(|client| client.send_aside(resp(&["GET", "a"])));
    until("three requests", || scene.requests() == 3);
    scene.pass();
    assert_eq!(scene.requests(), 3);
    change(&scene, "max_connection_requests", "3", "8192");
    until("all requests", || scene.requests() == 10);
}

fn max_connection_bytes() {
    // It takes no more than the kernel does for it.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = at(&server.local_addr().unwrap().to_string()).set("timeout: 0");
    let scene = scene("max_connection_bytes", "1KiB", pool);
    let clients: Vec<_> = (0..64).map(|_| scene.proxy.client()).collect();
    let value = "x".repeat(1 << 20);
    clients.iter().for_each(|client| client.send_aside(resp(&["SET", "a", &value])));
    until("some requests", || scene.requests() > 0);
    scene.pass();
    assert!(scene.requests() < 64, "the kernel does not hold so much");
    change(&scene, "max_connection_bytes", "1KiB", "1GiB");
    until("all requests", || scene.requests() == 64);
}

fn max_buffered_bytes() {
    let mut scene = scene("max_buffered_bytes", "256MiB", local());
    scene.proxy.announce("overload: ");
    let (mut client, request) = (scene.proxy.client(), format!("SET a {}", "x".repeat(3 << 20)));
    assert_eq!(client.ask(&request), "+OK");
    change(&scene, "max_buffered_bytes", "256MiB", "1MiB");
    assert_eq!(scene.proxy.stats()["buffered_bytes_limit"], 1 << 20);
    // It is held whole or in part, whenever it is read: the rest does not come.
    client.send_aside(format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4000000\r\n{}", "x".repeat(2 << 20)).into_bytes());
    let line = client.line();
    assert!(line.starts_with("-ERR proxy overloaded"), "{line}");
}
