//! Commands that ask a running proxy, against a scripted one.

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use serde_json::{Value, json};

use support::fake::Talk;
use support::{Fake, Port, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_outrigger");
const TOPOLOGY: &str = include_str!("../src/cli/live/tests/topology.json");

/// `outrigger ...`, with nothing of this machine's environment.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("OUTRIGGER_ADMIN").env_remove("OUTRIGGER_ADMIN_TOKEN").stdin(Stdio::null());
    command
}

fn outrigger(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The first line of a request and its headers, in small letters.
struct Request {
    path: String,
    headers: Vec<String>,
}

impl Request {
    fn read(mut line: impl FnMut() -> Option<String>) -> Option<Self> {
        let first = line()?;
        let path = first.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?.to_owned();
        let mut headers = Vec::new();
        while let Some(header) = line().filter(|header| !header.is_empty()) {
            headers.push(header.to_ascii_lowercase());
        }
        Some(Self { path, headers })
    }

    fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|found| found == header)
    }
}

fn response(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An admin side that answers by a function of the request.
fn admin(answer: impl Fn(&Request) -> (u16, String) + Send + Sync + 'static) -> Fake {
    Fake::start(move |_, talk: &mut Talk| {
        if let Some(request) = Request::read(|| talk.line()) {
            let (status, body) = answer(&request);
            talk.say(response(status, &body));
        }
    })
}

/// The topology of the unit tests, at every look a second and 1000 reads later.
fn busy() -> Fake {
    let looks = AtomicU64::new(0);
    admin(move |request| match request.path.split('?').next() {
        Some("/topology") => {
            let mut topology: Value = serde_json::from_str(TOPOLOGY).unwrap();
            let look = looks.fetch_add(1, SeqCst);
            topology["uptime_seconds"] = json!(7500.0 + look as f64);
            let reads = &mut topology["pools"][0]["requests"]["read"]["ok"];
            *reads = json!(reads.as_u64().unwrap() + look * 1000);
            (200, topology.to_string())
        }
        Some("/events") => (200, json!({"last": 0, "events": []}).to_string()),
        _ => (404, json!({"error": "no such path"}).to_string()),
    })
}

#[test]
fn status_is_for_people_and_json_for_programs() {
    let proxy = admin(|request| {
        assert!(request.has("connection: close") && request.headers.iter().any(|h| h.starts_with("host: 127.0.0.1:")));
        (200, TOPOLOGY.to_owned())
    });
    let shown = outrigger(&["status", "--admin", &proxy.name()]);
    assert_eq!(stdout(&shown), include_str!("../src/cli/live/tests/status.txt"));
    assert_eq!((shown.status.code(), stderr(&shown)), (Some(0), String::new()));
    // The address may come from the environment, as a link, too; the answer is printed byte by byte.
    let link = format!("http://{}/", proxy.name());
    let shown = command(&["status", "--json"]).env("OUTRIGGER_ADMIN", link).output().unwrap();
    assert_eq!(stdout(&shown), TOPOLOGY);
}

#[test]
fn status_of_a_proxy_that_is_not_ready_ends_with_1() {
    let proxy = admin(|_| (200, json!({"ready": false, "not_ready_reason": "draining"}).to_string()));
    let shown = outrigger(&["status", "--admin", &proxy.name()]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(stdout(&shown).starts_with("NOT READY: draining  outrigger"), "{}", stdout(&shown));
}

#[test]
fn the_token_is_sent_and_its_lack_is_said() {
    let proxy = admin(|request| match request.has("authorization: bearer s3cret") {
        true => (200, TOPOLOGY.to_owned()),
        false => (401, json!({"error": "no token"}).to_string()),
    });
    let name = proxy.name();
    let arguments = ["status", "--admin", &name];
    let none = outrigger(&arguments);
    assert_eq!(none.status.code(), Some(1));
    assert_eq!(
        stderr(&none),
        format!("outrigger: {name} wants a token (--token-file, OUTRIGGER_ADMIN_TOKEN, or -c FILE)\n")
    );
    let wrong = command(&arguments).env("OUTRIGGER_ADMIN_TOKEN", "guess").output().unwrap();
    assert_eq!(stderr(&wrong), format!("outrigger: {name} does not accept this token\n"));
    let right = command(&arguments).env("OUTRIGGER_ADMIN_TOKEN", "s3cret").output().unwrap();
    assert_eq!(right.status.code(), Some(0));

    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = file.path().to_str().unwrap();
    let arguments = ["status", "--admin", &name, "--token-file", path];
    let empty = outrigger(&arguments);
    assert_eq!(stderr(&empty), format!("outrigger: token file {path}: it is empty\n"));
    std::fs::write(file.path(), "s3cret\n").unwrap();
    assert_eq!(command(&arguments).env("OUTRIGGER_ADMIN_TOKEN", "guess").output().unwrap().status.code(), Some(0));
}

#[test]
fn a_unix_socket_is_asked_as_well() {
    let folder = support::folder();
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let mut socket = BufReader::new(listener.accept().unwrap().0);
        let mut line = || {
            let mut line = String::new();
            socket.read_line(&mut line).ok()?;
            Some(line.trim_end().to_owned())
        };
        let request = Request::read(&mut line).unwrap();
        assert!(request.path == "/readyz" && request.has("host: localhost"));
        socket.get_mut().write_all(response(200, "ready\n").as_bytes()).unwrap();
    });
    let healthy = outrigger(&["healthcheck", "--admin", path.to_str().unwrap()]);
    server.join().unwrap();
    assert_eq!((healthy.status.code(), stdout(&healthy), stderr(&healthy)), (Some(0), String::new(), String::new()));
}

#[test]
fn what_is_not_there_or_something_else_is_said_in_words() {
    let port = Port::reserve();
    let said = |address: &str, arguments: &[&str]| {
        let output = outrigger(&[arguments, &["--admin", address]].concat());
        assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
        stderr(&output)
    };
    let nobody = said(&port.address().to_string(), &["top", "--once"]);
    assert!(nobody.contains(&format!("nothing listens on {}: does the proxy run", port.address())), "{nobody}");
    assert!(said("/no/such/socket", &["events"]).contains("nothing listens on /no/such/socket"));
    assert!(said("nonsense", &["status"]).contains("admin address 'nonsense': allowed: host:port"));

    // twemproxy's statistics, a pool, another web server, an older Outrigger.
    let stats = Fake::start(|_, talk| talk.say("{\"service\":\"nutcracker\"}"));
    assert!(said(&stats.name(), &["status"]).contains("is no admin address of Outrigger"));
    let pool = Fake::start(|_, talk| {
        talk.line();
        talk.say("-ERR unknown command 'GET'\r\n");
    });
    assert!(said(&pool.name(), &["status"]).contains("is no admin address of Outrigger"));
    let web = admin(|_| (500, "<html>".into()));
    assert!(said(&web.name(), &["status"]).contains("it answers /topology with status 500"));
    let page = admin(|_| (200, "<html>".into()));
    assert!(said(&page.name(), &["status"]).contains("cannot be read, its version is another one"));
    let old = admin(|_| (404, json!({"error": "no such path"}).to_string()));
    assert!(said(&old.name(), &["hotkeys"]).contains("does not know /hotkeys: its version is another one"));
    let broken = Fake::start(|_, talk| {
        talk.line();
        talk.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
    });
    assert!(said(&broken.name(), &["status"]).contains("is no admin address of Outrigger"));
}

#[test]
fn a_proxy_that_hangs_is_given_up() {
    let proxy = Fake::start(|_, talk| talk.stall());
    let output = outrigger(&["healthcheck", "--live", "--admin", &proxy.name()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), format!("outrigger: {} does not answer within 2 s\n", proxy.name()));
}

#[test]
fn healthcheck_says_by_its_code_whether_all_is_well() {
    let proxy = admin(|request| match request.path.as_str() {
        "/readyz" => (503, "no pool has a live server\n".into()),
        "/healthz" => (200, "ok\n".into()),
        _ => unreachable!(),
    });
    let ready = outrigger(&["healthcheck", "--admin", &proxy.name()]);
    assert_eq!(ready.status.code(), Some(1));
    assert_eq!(stderr(&ready), "outrigger: not ready: no pool has a live server\n");
    let live = outrigger(&["healthcheck", "--live", "--admin", &proxy.name()]);
    assert_eq!((live.status.code(), stderr(&live)), (Some(0), String::new()));
}

#[test]
fn top_prints_blocks_where_there_is_no_terminal() {
    let proxy = busy();
    let output = outrigger(&["top", "-n", "2", "--interval", "0.1", "--admin", &proxy.name()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(!text.contains('\x1b'), "{text}");
    assert_eq!(text.matches("READY  outrigger 0.1.0").count(), 2, "{text}");
    assert_eq!(text.matches("\nsessions    1.0k/s").count(), 2, "{text}");
    assert!(!text.contains("hot keys") && !text.contains("latest events"), "{text}");
}

#[test]
fn top_goes_on_when_the_proxy_does_not_answer_once() {
    let looks = AtomicU64::new(0);
    let proxy = admin(move |request| match (request.path.as_str(), looks.fetch_add(1, SeqCst)) {
        ("/topology", 1) => (503, json!({"error": "busy"}).to_string()),
        ("/topology", _) => (200, TOPOLOGY.to_owned()),
        _ => (404, String::new()),
    });
    let output = outrigger(&["top", "-n", "2", "-i", "0.1", "--admin", &proxy.name()]);
    let text = stdout(&output);
    assert!(text.starts_with("NO ANSWER: busy\n") && text.contains("\n\nREADY  outrigger"), "{text}");
}

fn event(number: u64, what: &str) -> Value {
    json!({"number": number, "at": format!("2026-08-01T10:20:{number:02}.000Z"), "pool": "a", "server": "one",
           "what": what, "why": "because", "since": null, "until": null})
}

#[test]
fn events_are_a_table_or_json_lines() {
    let proxy = admin(|request| {
        assert_eq!(request.path, "/events?last=2");
        (200, json!({"last": 2, "events": [event(1, "ejected"), event(2, "readmitted")]}).to_string())
    });
    let table = outrigger(&["events", "--last", "2", "--admin", &proxy.name()]);
    let expected = "2026-08-01T10:20:01.000Z  ejected        a/one                because\n\
                    2026-08-01T10:20:02.000Z  readmitted     a/one                because\n";
    assert_eq!(stdout(&table), expected);
    let json = stdout(&outrigger(&["events", "-n", "2", "--json", "--admin", &proxy.name()]));
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [event(1, "ejected"), event(2, "readmitted")]);
}

#[test]
fn events_are_followed_over_a_pause_and_a_new_process() {
    // Each answer in turn; the path must be the one that is expected.
    let script = Mutex::new(
        [
            ("/events?last=20", Some(vec![event(1, "ejected"), event(2, "readmitted")])),
            ("/events?last=1000&after=1", None),
            ("/events?last=1000&after=1", Some(vec![event(2, "readmitted"), event(3, "draining")])),
            // Another process: its second event is not the one that was shown.
            ("/events?last=1000&after=2", Some(vec![event(3, "reloaded")])),
            ("/events?last=1000&after=0", Some(vec![event(1, "kept"), event(2, "kept"), event(3, "reloaded")])),
            ("/events?last=1000&after=2", Some(vec![event(3, "reloaded")])),
        ]
        .into_iter(),
    );
    let proxy = admin(move |request| {
        let Some((path, events)) = script.lock().unwrap().next() else { return (500, String::new()) };
        assert_eq!(request.path, path);
        match events {
            Some(events) => (200, json!({"last": 9, "events": events}).to_string()),
            None => (503, json!({"error": "away"}).to_string()),
        }
    });
    let folder = support::folder();
    let output = folder.path().join("output");
    let mut follow = command(&["events", "--follow", "--admin", &proxy.name()]);
    let file = std::fs::File::create(&output).unwrap();
    let mut child = follow.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let text = eventually("the events of both processes", || {
        let text = std::fs::read_to_string(&output).unwrap();
        text.contains("status 500").then_some(text)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let words: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(words, ["ejected", "readmitted", "away;", "draining", "kept", "kept", "reloaded", "what"], "{text}");
}

#[test]
fn explain_asks_the_running_proxy_on_request() {
    let proxy = admin(|request| match request.path.as_str() {
        "/explain?pool=a%20b&key=user%3A%7B1%7D" => {
            let hash = json!({"hash": null, "hash_value": null, "point": null, "state": "live"});
            let mut found = json!({"pool": "a b", "key": "user:{1}", "distribution": "ketama", "servers": 1,
                                   "server": "one", "address": "10.0.0.1:6379"});
            found.as_object_mut().unwrap().extend(hash.as_object().unwrap().clone());
            (200, found.to_string())
        }
        "/explain?pool=c&key=k" => (404, json!({"error": "no pool 'c'; there are: a b"}).to_string()),
        other => panic!("{other}"),
    });
    let found = outrigger(&["explain", "--admin", &proxy.name(), "a b", "user:{1}"]);
    assert_eq!(
        stdout(&found),
        "key          user:{1}\npool         a b (1 server, ketama)\nhash         none\nserver       one (10.0.0.1:6379)\n"
    );
    let live = command(&["explain", "--live", "c", "k"]).env("OUTRIGGER_ADMIN", proxy.name()).output().unwrap();
    assert_eq!((live.status.code(), stderr(&live)), (Some(1), "outrigger: no pool 'c'; there are: a b\n".into()));
    // The environment alone does not turn the question of a file into another one.
    let file = command(&["explain", "redis", "k"]).env("OUTRIGGER_ADMIN", proxy.name()).output().unwrap();
    assert!(stdout(&file).contains("pool         redis (3 servers, ketama)"), "{}", stderr(&file));
}

#[test]
fn slow_and_hot_requests_are_tables() {
    let proxy = admin(|request| match request.path.as_str() {
        "/slowlog?last=20" => {
            let entry = |key: &str, us: u64| {
                json!({"at": "2026-08-01T10:20:30.400Z", "pool": "a", "server": "one", "command": "GET", "key": key,
                       "request_bytes": 30, "response_bytes": 2048, "queue_us": 12, "server_us": us, "result": "ok"})
            };
            (200, json!({"recorded": 2, "dropped": 0, "entries": [entry("new", 1_234_000), entry("old\u{1b}[2J", 120_000)]}).to_string())
        }
        "/hotkeys?top=3" => {
            let hot = json!([{"key": "user:1", "server": "one", "share": 0.12}]);
            (
                200,
                json!({"pools": [{"pool": "a", "sample_every": 64, "sampled": 9, "hot": hot, "big": []}]}).to_string(),
            )
        }
        other => panic!("{other}"),
    });
    let slow = stdout(&outrigger(&["slowlog", "--admin", &proxy.name()]));
    let lines: Vec<_> = slow.lines().collect();
    assert!(lines[1].ends_with("12 µs       120 ms  ok         30 B   2.0 KiB  GET      old\\u{1b}[2J"), "{slow}");
    assert!(lines[2].ends_with("12 µs        1.2 s  ok         30 B   2.0 KiB  GET      new"), "{slow}");
    let hot = stdout(&outrigger(&["hotkeys", "--top", "3", "--admin", &proxy.name()]));
    assert_eq!(hot, "hot keys\nPOOL  SHARE  SERVER  KEY\na      12 %  one     user:1\n\nno big keys\n");
}
