//! What a pool makes of its servers: where keys lie, and how servers are talked to.

use std::time::Duration;

use super::scene::{Scene, agreeable, answering, at, local, mute, until};
use crate::Case;
use crate::support::{Fake, Pool};

pub const CASES: &[Case] = &[
    ("servers", servers),
    ("hash", || moves("hash: fnv1a_64", "hash: murmur")),
    ("hash_tag", || moves("hash_tag: \"{}\"", "hash_tag: \"<>\"")),
    ("distribution", || moves("distribution: ketama", "distribution: modula")),
    ("timeout", || time_limit("timeout", "GET a", "no reply within")),
    ("slow_timeout", || time_limit("slow_timeout", "SORT a", "no reply within")),
    ("connect_timeout", || time_limit("connect_timeout", "GET a", "not connected within")),
    ("preconnect", preconnect),
    ("server_connections", server_connections),
    ("dedicated_connections", dedicated_connections),
    ("idle_dedicated_connections", idle_dedicated_connections),
    ("max_reconnect_delay", max_reconnect_delay),
    ("retry_budget_percent", retry_budget_percent),
    ("redis_db", redis_db),
    ("databases", databases),
    ("keyless_server", keyless_server),
    ("commands", commands),
    ("script_memory", script_memory),
    ("local_memory", local_memory),
];

/// Three servers of one kind, with one more key of the pool.
fn three(line: &str) -> Scene {
    let servers = ["local:1 one", "local:1 two", "local:1 three"].map(str::to_owned);
    Scene::new("", Pool::new("cache", "redis", &servers).set(line))
}

fn keys() -> Vec<String> {
    (0..60).map(|n| format!("{{user{n}}}<{}>", n % 7)).collect()
}

fn moves(from: &str, to: &str) {
    three(from).moves_keys(&keys(), from, to);
}

/// Address, weight, and one more.
fn servers() {
    three("hash: murmur").moves_keys(&keys(), "local:1 two", "local:9 two");
    let [one, two] = [(); 2].map(|()| Fake::start(|_, talk| talk.echo()));
    let scene = Scene::new("", at(&one.entry()));
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("GET a"), "\"a\"");
    assert_eq!((one.accepted(), two.accepted()), (1, 0));
    scene.change(&one.entry(), &two.entry());
    until("a request at the other server", || client.ask("GET a") == "\"a\"" && two.accepted() == 1);
    assert_eq!(one.accepted(), 1);
}

/// A server that says nothing, not even to a login.
fn time_limit(key: &str, request: &str, words: &str) {
    let server = mute();
    let database = if key == "connect_timeout" { "redis_db: 1" } else { "redis_db: 0" };
    let pool = at(&server.entry()).set(database).set(&format!("{key}: 300ms"));
    let mut scene = Scene::new("", pool);
    scene.proxy.announce("slow_timeout is shorter than timeout");
    let mut client = scene.proxy.client();
    let said = client.ask(request);
    assert!(said.contains(&format!("{words} 300 ms")), "{said}");
    scene.change(&format!(" {key}: 300ms"), &format!(" {key}: 50ms"));
    until("the new limit", || client.ask(request).contains(&format!("{words} 50 ms")));
}

fn preconnect() {
    let server = mute();
    let scene = Scene::new("", at(&server.entry()).set("preconnect: false"));
    scene.pass();
    assert_eq!(server.accepted(), 0);
    scene.change("preconnect: false", "preconnect: true");
    until("a connection that nobody needed", || server.accepted() == 1);
}

fn server_connections() {
    let server = mute();
    let scene = Scene::new("", at(&server.entry()).set("preconnect: true").set("server_connections: 1"));
    let connections = |scene: &Scene| scene.of_server("server_connections").as_u64().unwrap();
    until("one connection", || connections(&scene) == 1);
    scene.change("server_connections: 1", "server_connections: 3");
    until("three connections", || connections(&scene) == 3);
    until("three at the server, as the first was kept", || server.accepted() == 3);
    scene.change("server_connections: 3", "server_connections: 2");
    until("two connections", || connections(&scene) == 2);
}

fn dedicated_connections() {
    let server = mute();
    let scene = Scene::new("", at(&server.entry()).set("dedicated_connections: 1"));
    let mut first = scene.proxy.client();
    first.send("BLPOP a 0\r\n");
    until("the first that blocks", || server.accepted() == 1);
    let said = scene.proxy.client().ask("BLPOP a 0");
    assert!(said.contains("dedicated_connections: 1 are in use (pool cache, server one)"), "{said}");
    scene.change("dedicated_connections: 1", "dedicated_connections: 2");
    let mut second = scene.proxy.client();
    second.send("BLPOP a 0\r\n");
    until("the second", || server.accepted() == 2);
    let said = scene.proxy.client().ask("BLPOP a 0");
    assert!(said.contains("dedicated_connections: 2 are in use"), "{said}");
    // The server sees that its client has gone, and there is room for another.
    drop(first);
    until("a third", || {
        let mut third = scene.proxy.client();
        third.patience(Duration::from_millis(20));
        third.send("BLPOP a 0\r\n");
        // It is refused, or has a connection; neither need be soon.
        let mut refused = false;
        until("what becomes of it", || {
            refused = third.try_line().is_ok();
            refused || server.accepted() == 3
        });
        !refused
    });
    assert_eq!(server.accepted(), 3);
}

fn idle_dedicated_connections() {
    let (server, _) = agreeable();
    let scene = Scene::new("", at(&server.entry()).set("idle_dedicated_connections: 0"));
    let mut client = scene.proxy.client();
    for round in 1..=3 {
        assert_eq!(client.ask("BLPOP a 0"), "+OK");
        assert_eq!(server.accepted(), round, "each needs one of its own");
    }
    scene.change("idle_dedicated_connections: 0", "idle_dedicated_connections: 1");
    (0..5).for_each(|_| assert_eq!(client.ask("BLPOP a 0"), "+OK"));
    assert_eq!(server.accepted(), 4, "one was made, and used again");
    scene.change("idle_dedicated_connections: 1", "idle_dedicated_connections: 0");
    assert_eq!(client.ask("BLPOP a 0"), "+OK");
    assert_eq!(server.accepted(), 5, "it was not kept");
}

fn max_reconnect_delay() {
    // It accepts, and closes when it is asked for its database.
    let server = Fake::start(|_, talk| drop(talk.request()));
    let scene = Scene::new("", at(&server.entry()).set("redis_db: 1").set("max_reconnect_delay: 1h"));
    let mut client = scene.proxy.client();
    until("a few attempts", || client.ask("GET a").starts_with('-') && server.accepted() >= 3);
    scene.change("max_reconnect_delay: 1h", "max_reconnect_delay: 10ms");
    let before = server.accepted();
    // By the old delay the last of these would take hours.
    until("many attempts", || client.ask("GET a").starts_with('-') && server.accepted() >= before + 30);
}

fn retry_budget_percent() {
    // Every other connection is lost at its first request; the others answer one.
    let server = Fake::start(|number, talk| {
        if let Some(request) = talk.request()
            && number % 2 == 1
        {
            let key = request.split(' ').nth(1).unwrap_or_default();
            talk.say(format!("${}\r\n{key}\r\n", key.len()));
        }
    });
    let scene = Scene::new("", at(&server.entry()).set("retry_budget_percent: 0"));
    let mut client = scene.proxy.client();
    assert!(client.ask("GET a").starts_with("-ERR Connection closed"));
    scene.change("retry_budget_percent: 0", "retry_budget_percent: 100");
    until("requests that are sent again", || {
        client.ask("GET a");
        scene.of_server("server_retries").as_u64() > Some(3)
    });
}

fn databases() {
    let (server, heard) = agreeable();
    let scene = Scene::new("", at(&server.entry()).set("databases: 1"));
    let mut client = scene.proxy.client();
    assert!(client.ask("SELECT 3").starts_with("-ERR DB index is out of range"));
    scene.change("databases: 1", "databases: 4");
    assert_eq!(client.ask("SELECT 3"), "+OK");
    assert_eq!(client.ask("GET a"), "+OK");
    assert!(heard.lock().unwrap().iter().any(|request| request == "SELECT 3"));
    scene.change("databases: 4", "databases: 2");
    assert!(client.ask("GET a").starts_with("-ERR pool cache does not serve database 3 any more"));
}

/// Two servers that accept everything, and what the second was asked.
fn two(line: &str) -> (Scene, [Fake; 2], impl Fn(&str) -> bool) {
    let ((one, _), (two, heard)) = (agreeable(), agreeable());
    let servers = [format!("{} one", one.entry()), format!("{} two", two.entry())];
    let scene = Scene::new("", Pool::new("cache", "redis", &servers).set("hash: murmur").set(line));
    let heard_it = move |request: &str| heard.lock().unwrap().iter().any(|heard| heard == request);
    (scene, [one, two], heard_it)
}

fn keyless_server() {
    let (scene, _servers, second_heard) = two("keyless_server: one");
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("LOLWUT 1"), "+OK");
    scene.change("keyless_server: one", "keyless_server: two");
    assert_eq!(client.ask("LOLWUT 2"), "+OK");
    assert!(!second_heard("LOLWUT 1") && second_heard("LOLWUT 2"));
}

fn commands() {
    let (scene, _servers, second_heard) = two("commands: {own.get: {keys: first}}");
    let mut client = scene.proxy.client();
    let key = (0..).map(|n| format!("key{n}")).find(|key| {
        assert_eq!(client.ask(&format!("OWN.GET {key}")), "+OK");
        second_heard(&format!("OWN.GET {key}"))
    });
    let request = format!("own.get {}", key.unwrap());
    scene.change("{keys: first}", "{keys: none}");
    assert_eq!(client.ask(&request), "+OK");
    assert!(!second_heard(&request));
}

fn script_memory() {
    let server = answering(|request| match request.split(' ').next() {
        Some("EVALSHA") => "-NOSCRIPT No matching script. Please use EVAL.\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    });
    let scene = Scene::new("", at(&server.entry()).set("script_memory: 0"));
    let mut client = scene.proxy.client();
    let mut heals = || {
        assert_eq!(client.ask("EVAL return(1) 0"), "+OK");
        client.ask("EVALSHA 930269f31393d0be681588b6ab08dccee7d6bb67 0") == "+OK"
    };
    assert!(!heals());
    scene.change("script_memory: 0", "script_memory: 1MiB");
    assert!(heals());
    scene.change("script_memory: 1MiB", "script_memory: 0");
    assert!(!heals());
}

fn redis_db() {
    let (server, heard) = agreeable();
    let scene = Scene::new("", at(&server.entry()).set("redis_db: 0"));
    let mut client = scene.proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    scene.change("redis_db: 0", "redis_db: 3");
    let told = || heard.lock().unwrap().iter().any(|request| request == "SELECT 3");
    until("another database", || client.ask("SET a 1") == "+OK" && told());
    assert_eq!(client.ask("SELECT 3"), "+OK");
}

fn local_memory() {
    let scene = Scene::new("", local().set("local_memory: 1MiB"));
    let mut client = scene.proxy.client();
    let mut stored = || {
        let value = "x".repeat(300 << 10);
        (0..10).for_each(|n| drop(client.ask(&format!("SET a{n} {value}"))));
        (0..10).filter(|n| client.ask(&format!("EXISTS a{n}")) == "1").count()
    };
    assert!(stored() < 4);
    scene.change("local_memory: 1MiB", "local_memory: 16MiB");
    until("all values", || stored() == 10);
}
