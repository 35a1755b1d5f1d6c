//! Keys beside the pools, but for the limits.

use rustix::process::Signal;

use super::scene::{Scene, local, mute, until};
use crate::Case;
use crate::support::client::Address;
use crate::support::{Dns, Fake, Pool, Port, Says};

pub const CASES: &[Case] = &[
    ("workers", workers),
    ("admin.listen", admin),
    ("admin.token", token),
    ("admin.stats", stats),
    ("log.level", level),
    ("log.file", file),
    ("log.format", format),
    ("resolver", resolver),
    ("drain_timeout", drain_timeout),
    ("pre_stop_delay", pre_stop_delay),
];

fn workers() {
    let mut scene = Scene::new("drain_timeout: 20s\n", local());
    scene.proxy.announce("not changed before the process is started anew");
    let needs_restart = |scene: &Scene| scene.config()["needs_restart"].clone();
    scene.write("workers: 1\n", "workers: 2\n");
    until("what needs a restart", || needs_restart(&scene) == serde_json::json!(["workers: 1 -> 2"]));
    let warned = |scene: &Scene| scene.proxy.log().matches("started anew: workers: 1 -> 2").count();
    until("a warning", || warned(&scene) == 1);
    // The rest of a change is made.
    scene.change("drain_timeout: 20s", "drain_timeout: 21s");
    assert_eq!(needs_restart(&scene), serde_json::json!(["workers: 1 -> 2"]));
    until("another warning", || warned(&scene) == 2);
    let threads = std::fs::read_dir(format!("/proc/{}/task", scene.proxy.pid())).unwrap();
    let names = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default());
    assert_eq!(names.filter(|name| name.starts_with("worker-")).count(), 1);
    scene.write("workers: 2\n", "workers: 1\n");
    until("nothing that needs a restart", || needs_restart(&scene) == serde_json::json!([]));
}

fn admin() {
    let scene = Scene::new("", local());
    let (old, new) = (scene.proxy.admin_address(), Port::reserve());
    let answers = |address| {
        Address::Tcp(address).connect().is_ok_and(|mut client| {
            client.send("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n");
            client.rest().ends_with("\r\n\r\nok\n")
        })
    };
    assert!(answers(old));
    scene.change(&format!("  listen: {old}"), &format!("  listen: {}", new.address()));
    until("the admin port at the new address", || answers(new.address()));
    until("none at the old one", || std::net::TcpStream::connect(old).is_err());
    scene.change(&format!("  listen: {}", new.address()), "  listen: off");
    until("no admin port", || std::net::TcpStream::connect(new.address()).is_err());
    scene.change("  listen: off", &format!("  listen: {old}"));
    until("the admin port again", || answers(old));
}

fn token() {
    let scene = Scene::new("", local());
    let config = |header: &str| scene.proxy.http_with("GET", "/config", &[header], "").status;
    assert_eq!(config("X: y"), 200);
    scene.change("\nadmin:\n", "\nadmin:\n  token: one\n");
    assert_eq!([config("X: y"), config("Authorization: Bearer one")], [401, 200]);
    // Another one looks the same, and is in force all the same.
    scene.change("token: one", "token: two");
    assert_eq!([config("Authorization: Bearer one"), config("Authorization: Bearer two")], [401, 200]);
    assert!(scene.proxy.log().contains("admin.token  changed"), "{}", scene.proxy.log());
    // Of a file, which changes and nobody says so.
    std::fs::write(scene.proxy.file("token"), "three\n").unwrap();
    scene.change("token: two", "token_file: token");
    assert_eq!([config("Authorization: Bearer two"), config("Authorization: Bearer three")], [401, 200]);
    std::fs::write(scene.proxy.file("token"), "four\n").unwrap();
    until("the other token", || config("Authorization: Bearer four") == 200);
    scene.change("  token_file: token\n", "");
    assert_eq!(config("X: y"), 200);
}

fn stats() {
    let scene = Scene::new("", local());
    let file = std::fs::read_to_string(scene.proxy.file("outrigger.yml")).unwrap();
    let line = file.lines().find(|line| line.contains("stats:")).unwrap();
    let (old, new) = (line.split_once(": ").unwrap().1, Port::reserve());
    scene.write(line, &format!("  stats: {}", new.address()));
    scene.proxy.signal(Signal::HUP);
    let answered = |address| Address::Tcp(address).connect().is_ok_and(|mut client| client.rest().ends_with("}\n"));
    until("statistics at the new address", || answered(new.address()));
    until("none at the old one", || std::net::TcpStream::connect(old).is_err());
    scene.write(&new.address().to_string(), "off");
    scene.proxy.signal(Signal::HUP);
    until("no statistics", || std::net::TcpStream::connect(new.address()).is_err());
    scene.write("  stats: off", line);
    scene.proxy.signal(Signal::HUP);
    until("statistics again", || answered(old.parse().unwrap()));
}

fn level() {
    let scene = Scene::new("log:\n  level: notice\ndrain_timeout: 20s\n", local());
    let said = |scene: &Scene| scene.proxy.log().matches("reloaded").count();
    scene.change("level: notice", "level: err");
    scene.change("drain_timeout: 20s", "drain_timeout: 21s");
    assert_eq!(said(&scene), 0);
    scene.change("level: err", "level: notice");
    until("a line of the log", || said(&scene) == 1);
}

fn file() {
    let scene = Scene::new("log:\n  file: stderr\ndrain_timeout: 20s\n", local());
    scene.change("file: stderr", "file: other.log");
    let other = || std::fs::read_to_string(scene.proxy.file("other.log")).unwrap_or_default();
    until("a line of the other log", || other().contains("reloaded"));
    assert!(!scene.proxy.log().contains("reloaded"));
    scene.change("file: other.log", "file: stderr");
    until("a line of the log", || scene.proxy.log().contains("reloaded"));
    // A file that cannot be opened leaves everything as it was.
    scene.write("file: stderr\ndrain_timeout: 20s", "file: /nowhere/at/all.log\ndrain_timeout: 21s");
    let error = "log file /nowhere/at/all.log: No such file or directory (os error 2)";
    let at = std::fs::read_to_string(scene.proxy.file("outrigger.yml")).unwrap();
    let line = at.lines().position(|line| line == "  file: /nowhere/at/all.log").unwrap() + 1;
    let place = format!("outrigger.yml:{line}:9: {error}\n");
    until("a failed reload", || scene.config()["last_error"].as_str().unwrap().contains(&place));
    assert_eq!(scene.config()["generation"], 3);
    let mut scene = scene;
    scene.proxy.announce(error);
}

fn format() {
    let scene = Scene::new("log:\n  format: text\n", local());
    scene.change("format: text", "format: json");
    let is_json =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|l| l["message"] == "reloaded");
    until("a line of JSON", || scene.proxy.log().lines().any(is_json));
    scene.change("format: json", "format: text");
    until("a line of text", || scene.proxy.log().lines().any(|line| line.contains("  INFO reloaded ")));
}

fn resolver() {
    let (one, two) = (Dns::start(), Dns::start());
    let server = Fake::start(|_, talk| talk.echo());
    one.says("cache.test", Says::addresses(&["127.0.0.1"], 1000));
    two.says("cache.test", Says::addresses(&["127.0.0.1"], 1000));
    let port = server.name().rsplit(':').next().unwrap().to_owned();
    let scene = Scene::new(&one.resolver(), Pool::new("cache", "redis", &[format!("cache.test:{port}:1 one")]));
    assert_eq!(scene.proxy.client().ask("GET a"), "\"a\"");
    assert_eq!(two.asked("cache.test"), 0);
    scene.change(one.resolver().trim_end(), two.resolver().trim_end());
    until("a question to the other name server", || two.asked("cache.test") > 0);
    assert_eq!(scene.proxy.client().ask("GET a"), "\"a\"");
}

fn drain_timeout() {
    let server = mute();
    let mut scene = Scene::new("drain_timeout: 1h\n", Pool::new("cache", "redis", &[server.entry()]).set("timeout: 0"));
    scene.proxy.announce("drain limit reached");
    let mut client = scene.proxy.client();
    client.send("GET a\r\n");
    until("a request in flight", || server.accepted() > 0);
    scene.change("drain_timeout: 1h", "drain_timeout: 50ms");
    scene.proxy.terminate();
}

fn pre_stop_delay() {
    let mut scene = Scene::new("pre_stop_delay: 0\n", local());
    scene.change("pre_stop_delay: 0", "pre_stop_delay: 1h");
    scene.proxy.signal(Signal::TERM);
    until("a delay", || scene.proxy.log().contains("accepting for 3600s more, then no new clients"));
    assert_eq!(scene.proxy.stats()["ready"], false);
    assert!(scene.proxy.client().ask("PING").contains("PONG"));
    // A second signal cuts it short.
    scene.proxy.signal(Signal::TERM);
    assert_eq!(scene.proxy.wait().code(), Some(0));
}
