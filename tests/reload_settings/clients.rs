//! What a pool is for its clients.

use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use super::scene::{Scene, agreeable, at, keepalive_timers, local, until};
use crate::Case;
use crate::support::Port;
use crate::support::client::{Address, resp};

pub const CASES: &[Case] = &[
    ("listen", listen),
    ("protocol", protocol),
    ("backlog", backlog),
    ("client_connections", client_connections),
    ("tcpkeepalive", tcpkeepalive),
    ("client_write_timeout", client_write_timeout),
    ("client_idle_timeout", client_idle_timeout),
    ("redis_auth", redis_auth),
    ("allow_admin_commands", allow_admin_commands),
    ("users", users),
];

fn listen() {
    let scene = Scene::new("", local());
    let (old, new) = (scene.proxy.socket_address(0), Port::reserve());
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    scene.change(&old.to_string(), &new.address().to_string());
    assert_eq!(Address::Tcp(new.address()).connect().unwrap().ask("GET a"), "\"1\"");
    until("nobody at the old address", || TcpStream::connect(old).is_err());
    assert_eq!(client.ask("GET a"), "\"1\"", "who was there stays");
}

fn protocol() {
    let scene = Scene::new("", local());
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    scene.change("protocol: redis", "protocol: memcached");
    client.expect_closed();
    assert_eq!(scene.proxy.client().tell("set a 0 0 1|x"), "STORED");
}

fn backlog() {
    const CLIENTS: usize = 6;
    let scene = Scene::new("", local().set("backlog: 512"));
    let connected = |scene: &Scene| {
        let address = scene.proxy.socket_address(0);
        // The kernel answers for it, as long as there is room.
        scene.proxy.signal(Signal::STOP);
        let one = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
        let count = (0..CLIENTS).filter_map(one).collect::<Vec<_>>().len();
        scene.proxy.signal(Signal::CONT);
        count
    };
    assert_eq!(connected(&scene), CLIENTS);
    scene.change("backlog: 512", "backlog: 1");
    until("fewer clients that wait", || (1..CLIENTS).contains(&connected(&scene)));
}

fn client_connections() {
    let scene = Scene::new("", local().set("client_connections: 0"));
    let mut clients = [scene.proxy.client(), scene.proxy.client()];
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("SET a 1"), "+OK"));
    scene.change("client_connections: 0", "client_connections: 2");
    assert_eq!(scene.proxy.client().rest(), "-ERR max number of clients reached\r\n");
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("GET a"), "\"1\""));
    scene.change("client_connections: 2", "client_connections: 3");
    scene.proxy.admitted("GET a\r\n", "$1");
}

fn tcpkeepalive() {
    let scene = Scene::new("", local().set("tcpkeepalive: false"));
    let port = scene.proxy.socket_address(0).port();
    let client = || {
        let mut client = scene.proxy.client();
        assert_eq!(client.ask("SET a 1"), "+OK");
        client
    };
    let timers = || keepalive_timers().into_iter().filter(|((local, _), timer)| *local == port && *timer).count();
    let old = client();
    assert_eq!(timers(), 0);
    scene.change("tcpkeepalive: false", "tcpkeepalive: true");
    let new = client();
    until("keepalive, also of who was there before", || timers() == 2);
    scene.change("tcpkeepalive: true", "tcpkeepalive: false");
    until("no keepalive any more", || timers() == 0);
    drop((old, new));
}

fn client_write_timeout() {
    let mut scene = Scene::new("", local().set("client_write_timeout: 1h"));
    scene.proxy.announce("cut clients that do not read");
    let mut client = scene.proxy.client();
    assert_eq!(client.ask(&format!("SET a {}", "x".repeat(1 << 20))), "+OK");
    // More than the kernel holds, and nobody reads it.
    client.send_aside(resp(&["GET", "a"]).repeat(64));
    scene.change("client_write_timeout: 1h", "client_write_timeout: 50ms");
    until("a client that is cut", || scene.of_pool("client_cut_slow") == 1);
}

fn client_idle_timeout() {
    let scene = Scene::new("", local().set("client_idle_timeout: 1h"));
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    scene.change("client_idle_timeout: 1h", "client_idle_timeout: 50ms");
    client.expect_closed();
    assert_eq!(scene.of_pool("client_closed_idle"), 1);
}

/// Clients and servers; a password in the file, one in a file of its own, with a user and without.
fn redis_auth() {
    let (server, heard) = agreeable();
    let scene = Scene::new("", at(&server.entry()).set("backlog: 512"));
    let told = |what: &str| heard.lock().unwrap().iter().any(|request| request == what);
    let mut early = scene.proxy.client();
    assert_eq!(early.ask("SET a 1"), "+OK");
    let mut silent = scene.proxy.client();

    scene.change("backlog: 512", "redis_auth: hunter2");
    until("a login of the proxy", || {
        assert_eq!(early.ask("SET a 1"), "+OK", "who was let in stays in");
        told("AUTH hunter2")
    });
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH hunter2"), "+OK");
    assert_eq!(client.ask("SET a 1"), "+OK");

    scene.change("redis_auth: hunter2", "redis_auth: {username: me, password: hunter3}");
    until("another login", || early.ask("SET a 1") == "+OK" && told("AUTH me hunter3"));
    assert!(scene.proxy.client().ask("AUTH hunter2").starts_with("-WRONGPASS"));
    assert_eq!(scene.proxy.client().ask("AUTH me hunter3"), "+OK");

    std::fs::write(scene.proxy.file("password"), "hunter4\n").unwrap();
    scene.change("password: hunter3", "password_file: password");
    until("the login of the file", || early.ask("SET a 1") == "+OK" && told("AUTH me hunter4"));
    // Nobody says that this file has changed.
    std::fs::write(scene.proxy.file("password"), "hunter5\n").unwrap();
    until("the login of the other file", || early.ask("SET a 1") == "+OK" && told("AUTH me hunter5"));

    let mut late = scene.proxy.client();
    assert_eq!(late.ask("GET a"), "-NOAUTH Authentication required.");
    scene.change("redis_auth: {username: me, password_file: password}", "backlog: 512");
    scene.says(&mut late, "SET a 1", "+OK");
    assert_eq!(silent.ask("SET a 1"), "+OK");
    let stats = scene.proxy.stats_text();
    assert!(!scene.proxy.log().contains("hunter") && !stats.contains("hunter"), "a secret was told");
}

fn allow_admin_commands() {
    let scene = Scene::new("", local().set("allow_admin_commands: false"));
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    let refused = "-ERR 'FLUSHALL' is for administrators: pool cache has allow_admin_commands: false";
    assert_eq!(client.ask("FLUSHALL"), refused);
    scene.change("allow_admin_commands: false", "allow_admin_commands: true");
    scene.says(&mut client, "FLUSHALL", "+OK");
    assert_eq!(client.ask("GET a"), "nil");
    scene.change("allow_admin_commands: true", "allow_admin_commands: false");
    scene.says(&mut client, "FLUSHALL", refused);
}

/// Rights of those who are there, and who may come.
fn users() {
    let scene = Scene::new("", local().set("users: {app: {password: hunter2, rules: '~a +get'}}"));
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("AUTH app hunter2"), "+OK");
    assert_eq!(client.ask("GET a"), "nil");
    assert!(client.ask("GET b").starts_with("-NOPERM"));
    scene.change("~a +get", "~b +get");
    scene.says(&mut client, "GET b", "nil");
    assert!(client.ask("GET a").starts_with("-NOPERM"));
    // It looks the same.
    scene.change("password: hunter2", "password: hunter3");
    assert!(scene.proxy.client().ask("AUTH app hunter2").starts_with("-WRONGPASS"));
    assert_eq!(scene.proxy.client().ask("AUTH app hunter3"), "+OK");
    // Of a file, which changes and nobody says so.
    let logs_in = |password: &str| scene.proxy.client().ask(&format!("AUTH app {password}")) == "+OK";
    std::fs::write(scene.proxy.file("password"), "hunter4\n").unwrap();
    scene.change("password: hunter3", "password_file: password");
    assert!(logs_in("hunter4") && !logs_in("hunter3"));
    std::fs::write(scene.proxy.file("password"), "hunter5\n").unwrap();
    until("the other password", || logs_in("hunter5"));
    scene.change("app: {", "web: {");
    client.expect_closed();
    assert!(!scene.proxy.log().contains("hunter"), "a secret was told");
}
