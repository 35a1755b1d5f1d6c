//! Commands that ask a running proxy, against a real one.

#[path = "support/mod.rs"]
mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::client::Address;
use support::{Fake, How, Outrigger, Port, eventually};

/// A proxy with a pool of these servers. Its admin side is on a unix socket, and has a token.
struct Scene {
    proxy: Outrigger,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn start(servers: &[&Fake]) -> Self {
        let folder = support::folder();
        let (port, socket) = (Port::reserve(), folder.path().join("admin.sock"));
        let listen = port.address();
        let servers: Vec<_> = servers.iter().enumerate().map(|(i, fake)| format!("{} s{i}", fake.entry())).collect();
        let text = |admin: &str| {
            format!(
                "{admin}pools:\n  a:\n    listen: {listen}\n    protocol: redis\n    auto_eject_hosts: true\n    on_readmit: keep\n\
                 \x20   server_failure_limit: 2\n    server_retry_timeout: 60s\n    servers: [{}]\n",
                servers.join(", ")
            )
        };
        let how =
            How { admin: Some(Address::Unix(socket)), admin_keys: "  token: s3cret\n".to_owned(), ..How::default() };
        let proxy = Outrigger::start_text(how, text, vec![Address::Tcp(listen)]);
        Self { proxy, _folder: folder }
    }

    /// `outrigger ... -c FILE`, with the proxy's own file.
    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.arg(arguments[0]).arg("-c").arg(self.proxy.file("outrigger.yml")).args(&arguments[1..]);
        command.env_remove("OUTRIGGER_ADMIN").env_remove("OUTRIGGER_ADMIN_TOKEN").output().unwrap()
    }

    #[track_caller]
    fn shown(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}{text}");
        text
    }

    /// A request for each of many keys; what is answered does not matter.
    fn traffic(&self) {
        let mut client = self.proxy.client();
        for number in 0..100 {
            client.ask(&format!("GET key:{number}"));
        }
    }
}

/// A server that has every key, and answers probes.
fn server() -> Fake {
    Fake::start(|_, talk| {
        while let Some(request) = talk.request() {
            talk.say(if request == "PING" { "+PONG\r\n" } else { "$1\r\nv\r\n" });
        }
    })
}

#[test]
fn a_running_proxy_is_seen_as_it_is() {
    let (one, two) = (server(), server());
    let scene = Scene::start(&[&one, &two]);
    scene.traffic();
    let status = scene.shown(&["status"]);
    let first = format!("READY  outrigger {}, process {} on ", env!("CARGO_PKG_VERSION"), scene.proxy.pid());
    assert!(status.starts_with(&first), "{status}");
    let row =
        |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    let pool = row("a  ");
    assert_eq!((pool[2], &pool[4..=7]), ("redis", &["100", "100", "%", "0"][..]), "{status}");
    assert!(!pool.contains(&"-"), "there are times: {status}");
    assert_eq!(row("s0")[2], "live");
    assert!(!status.contains('✗'), "{status}");

    let json: Value = serde_json::from_str(&scene.shown(&["status", "--json"])).unwrap();
    assert_eq!(json["pools"][0]["requests"]["read"]["ok"], 100);
    assert_eq!(scene.shown(&["healthcheck"]) + &scene.shown(&["healthcheck", "--live"]), "");

    // By the file and by the running proxy the key is on the same server.
    let (by_file, live) = (scene.shown(&["explain", "a", "key:1"]), scene.shown(&["explain", "--live", "a", "key:1"]));
    assert_eq!(by_file, live);
    let unknown = scene.ask(&["explain", "--live", "b", "key:1"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("'b'"));
}

#[test]
fn an_ejection_is_seen_everywhere() {
    let (one, two) = (server(), server());
    let mut scene = Scene::start(&[&one, &two]);
    scene.proxy.announce("server ejected");
    scene.proxy.announce("cannot connect");
    scene.proxy.announce("connection lost");
    scene.traffic();
    drop(two);
    let status = eventually("the ejection", || {
        scene.traffic();
        let status = scene.shown(&["status"]);
        status.contains("✗ a/s1: ejected ").then_some(status)
    });
    assert!(
        status.lines().any(|line| line.starts_with("s1") && line.contains("ejected") && line.contains(" 0 %")),
        "{status}"
    );

    let events = scene.shown(&["events"]);
    assert!(events.lines().any(|line| line.contains("Z  ejected        a/s1 ")), "{events}");
    let keys: Vec<String> = (0..100).map(|number| format!("key:{number}")).collect();
    let all: Vec<&str> = ["explain", "--live", "a"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    let explained = scene.shown(&all);
    let away = explained.split("\n\n").find(|block| block.contains("usually      s1")).expect("a key of s1");
    assert!(away.contains("server       s0 "), "{away}");
    let top = scene.shown(&["top", "-i", "0.2", "-n", "2"]);
    assert_eq!(top.matches("✗ a/s1: ejected ").count(), 2, "{top}");
    assert!(top.contains("latest events") && top.contains("a/s0"), "{top}");
}

#[test]
fn the_file_says_where_and_with_which_token() {
    let one = server();
    let scene = Scene::start(&[&one]);
    let socket = scene._folder.path().join("admin.sock");
    let ask = |token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(["status", "--admin", socket.to_str().unwrap()]).env("OUTRIGGER_ADMIN_TOKEN", token);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(ask("s3cret"), (Some(0), String::new()));
    assert_eq!(ask("guess"), (Some(1), format!("outrigger: {} does not accept this token\n", socket.display())));
    assert!(ask("").1.contains("wants a token"));
    // What a flag of its own says goes over the file.
    let elsewhere = scene.ask(&["status", "--admin", "/no/such/socket"]);
    assert!(String::from_utf8(elsewhere.stderr).unwrap().contains("nothing listens on /no/such/socket"));
    let off = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(off.path(), "admin:\n  listen: off\npools: {a: {listen: 'h:1', servers: ['h:2']}}\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    let output = command.args(["status", "-c", off.path().to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().ends_with(": its admin.listen is off\n"));
}
