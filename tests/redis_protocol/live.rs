//! The command table, key extraction, error wording and inline parsing against a live redis-server, and COMMAND DOCS
//! against redis-cli. Nothing is compared where they are not installed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use outrigger::protocol::redis::commands::{self, Resolved, Route};
use outrigger::protocol::redis::reply::{write_bulk, write_command};
use outrigger::protocol::redis::response::{elements, scan};
use outrigger::protocol::redis::{Version, convert, errors, introspect};
use outrigger::protocol::{Limits, Parsed};

use super::parsed;

/// A redis-server of our own on a unix socket.
pub(super) struct Server {
    process: Child,
    dir: tempfile::TempDir,
}

impl Server {
    /// None where no redis-server is installed.
    pub(super) fn start() -> Option<Self> {
        Self::start_program(Path::new("redis-server"))
    }

    pub(super) fn start_program(program: &Path) -> Option<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let socket = dir.path().join("redis.sock");
        let process = Process::new(program)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            eprintln!("no {} here: not compared with one", program.display());
            return None;
        };
        let server = Self { process, dir };
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "redis-server did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }

    pub(super) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join("redis.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads one reply.
fn receive(stream: &mut impl Read) -> Vec<u8> {
    let mut reply = Vec::new();
    loop {
        match scan(&reply, &Limits::default()).expect("a reply") {
            Parsed::Complete(length) => {
                assert_eq!(length, reply.len());
                return reply;
            }
            // Exactly what is needed, so that nothing of the next reply is taken.
            Parsed::Incomplete { need } => {
                let had = reply.len();
                reply.resize(need, 0);
                stream.read_exact(&mut reply[had..]).expect("more of the reply");
            }
        }
    }
}

pub(super) fn ask(stream: &mut UnixStream, words: &[&str]) -> Vec<u8> {
    let mut request = Vec::new();
    write_command(&mut request, words);
    stream.write_all(&request).unwrap();
    receive(stream)
}

/// The words of a line; `""` is the empty word.
pub(super) fn words(line: &str) -> Vec<&str> {
    line.split(' ').map(|word| if word == "\"\"" { "" } else { word }).collect()
}

/// As a session that speaks this version gets it.
pub(super) fn introspected(version: Version, words: &[&str]) -> Vec<u8> {
    let (mut three, mut two) = (Vec::new(), Vec::new());
    introspect::command(&mut three, words.len(), |index| words.get(index).map(|word| word.as_bytes()), &|_| None);
    convert::to_resp2(&three, &mut two);
    if version == Version::Resp3 { three } else { two }
}

/// A connection for each version.
fn both(server: &Server) -> [(Version, UnixStream); 2] {
    let mut three = server.connect();
    assert!(ask(&mut three, &["HELLO", "3"]).starts_with(b"%"));
    [(Version::Resp2, server.connect()), (Version::Resp3, three)]
}

/// A reply without its framing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Text(String),
    /// An array, a set or a map, by its type.
    Many(char, Vec<Value>),
}

pub(super) fn value(reply: &[u8]) -> Value {
    match reply[0] {
        kind @ (b'*' | b'~' | b'%') => Value::Many(char::from(kind), elements(reply).map(value).collect()),
        b'$' => Value::Text(String::from_utf8_lossy(&reply[1..]).split_once("\r\n").unwrap().1.trim_end().to_owned()),
        _ => Value::Text(String::from_utf8_lossy(reply).trim_end().to_owned()),
    }
}

impl Value {
    pub(super) fn array(&self) -> &[Value] {
        match self {
            Self::Many(_, items) => items,
            Self::Text(text) => panic!("{text:?} is no array"),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Many(_, items) => panic!("{items:?} is no text"),
        }
    }

    /// With the order gone where it means nothing.
    pub(super) fn sorted(&self) -> Value {
        let mut items: Vec<Value> = self.array().to_vec();
        items.sort();
        self.with(items)
    }

    /// The same type with other elements.
    fn with(&self, items: Vec<Value>) -> Value {
        match self {
            Self::Many(kind, _) => Self::Many(*kind, items),
            Self::Text(text) => panic!("{text:?} is no array"),
        }
    }
}

/// What of COMMAND INFO must be equal: all but tips and notes, and the order of flags and subcommands.
fn comparable(whole: &Value) -> Value {
    let info = whole.array();
    let specs = info[8].array().iter().map(|spec| {
        let start = if spec.array()[0].text() == "notes" { 2 } else { 0 };
        spec.with(spec.array()[start..].to_vec())
    });
    let mut subcommands: Vec<Value> = info[9].array().iter().map(comparable).collect();
    subcommands.sort();
    let mut fields: Vec<Value> = info[..7].to_vec();
    fields[2] = fields[2].sorted();
    fields[6] = fields[6].sorted();
    fields.push(info[8].with(specs.collect()));
    fields.push(info[9].with(subcommands));
    whole.with(fields)
}

/// Versions later than the server's may have changed or added what they like.
fn server_is_7_0(stream: &mut UnixStream) -> bool {
    String::from_utf8_lossy(&ask(stream, &["INFO", "server"])).contains("redis_version:7.0.")
}

#[test]
fn the_table_says_of_each_command_what_the_server_says() {
    let Some(server) = Server::start() else { return };
    for (version, mut stream) in both(&server) {
        compare_table(version, &mut stream);
    }
}

fn compare_table(version: Version, stream: &mut UnixStream) {
    let theirs = value(&ask(stream, &["COMMAND"]));
    let exact = server_is_7_0(stream);
    let mut compared = 0;
    for info in theirs.array() {
        let name = info.array()[0].text();
        let Some(command) = commands::lookup(name.as_bytes()) else {
            assert!(!exact, "{name} is missing");
            continue;
        };
        if !exact {
            continue;
        }
        let mut ours = comparable(&value(&introspected(version, &["COMMAND", "INFO", name])).array()[0]);
        if let Value::Many(_, fields) = &mut ours
            && let Some(Value::Many(_, subcommands)) = fields.last_mut()
        {
            let newer = |name: &str| command.subcommands.iter().any(|sub| sub.name == name && sub.since > "7.0.99");
            subcommands.retain(|subcommand| !newer(subcommand.array()[0].text()));
        }
        let mut theirs = comparable(info);
        // The table has the number of arguments of a later version, which an earlier server refuses itself.
        if let (Value::Many(_, ours), Value::Many(_, theirs), "zrank" | "zrevrank") = (&ours, &mut theirs, name) {
            theirs[1] = ours[1].clone();
        }
        assert_eq!(ours, theirs, "{name}");
        compared += 1;
    }
    assert!(!exact || compared == 240, "{compared} commands compared");
    for command in commands::all().filter(|command| command.since < "7.0.99") {
        assert!(
            theirs.array().iter().any(|info| info.array()[0].text() == command.name),
            "{} is made up",
            command.name
        );
    }
}

#[test]
fn docs_agree_on_version_group_and_deprecation() {
    let Some(server) = Server::start() else { return };
    for (version, mut stream) in both(&server) {
        if server_is_7_0(&mut stream) {
            let theirs = value(&ask(&mut stream, &["COMMAND", "DOCS"]));
            compare_docs(&theirs, &value(&introspected(version, &["COMMAND", "DOCS"])));
        }
    }
}

fn compare_docs(theirs: &Value, ours: &Value) {
    assert_eq!(theirs.with(Vec::new()), ours.with(Vec::new()));
    let field = |docs: &Value, name: &str| {
        docs.array().chunks(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].clone())
    };
    for pair in theirs.array().chunks(2) {
        let name = pair[0].text();
        let ours = field(ours, name).unwrap_or_else(|| panic!("{name} is missing"));
        for fact in ["since", "group", "deprecated_since"] {
            assert_eq!(field(&ours, fact), field(&pair[1], fact), "{fact} of {name}");
        }
        if let Some(subcommands) = field(&pair[1], "subcommands") {
            compare_docs(&subcommands, &field(&ours, "subcommands").expect(name));
        }
    }
}

/// Requests, one a line, whose keys are in every kind of place or nowhere.
pub(super) const GETKEYS: &str = include_str!("getkeys.txt");

#[test]
fn keys_are_where_the_server_finds_them() {
    let Some(server) = Server::start() else { return };
    for (version, mut stream) in both(&server) {
        for line in GETKEYS.lines() {
            let request = [&["COMMAND", "GETKEYS"], words(line).as_slice()].concat();
            let theirs = ask(&mut stream, &request).escape_ascii().to_string();
            assert_eq!(introspected(version, &request).escape_ascii().to_string(), theirs, "{line}");
        }
    }
}

#[test]
fn lists_are_those_of_the_server() {
    let Some(server) = Server::start() else { return };
    for (version, mut stream) in both(&server) {
        if server_is_7_0(&mut stream) {
            compare_lists(version, &mut stream);
        }
    }
}

fn compare_lists(version: Version, stream: &mut UnixStream) {
    let newer = |name: &str| {
        let (container, sub) = name.split_once('|').unwrap_or((name, ""));
        let command = commands::lookup(container.as_bytes()).unwrap();
        command.subcommand(sub.as_bytes()).unwrap_or(command).since > "7.0.99"
    };
    for line in [
        "COMMAND LIST",
        "COMMAND LIST FILTERBY ACLCAT dangerous",
        "COMMAND LIST FILTERBY aclcat HASH",
        "COMMAND LIST FILTERBY PATTERN x*",
        "COMMAND LIST FILTERBY PATTERN *|[a-dX]*",
        "COMMAND LIST FILTERBY PATTERN \\get",
        "COMMAND LIST FILTERBY PATTERN z[^r]*[e-a]",
        "COMMAND LIST FILTERBY PATTERN ????",
        "COMMAND LIST FILTERBY PATTERN [g",
        "COMMAND LIST FILTERBY MODULE m",
    ] {
        let Value::Many(kind, mut ours) = value(&introspected(version, &words(line))) else { panic!("{line}") };
        ours.retain(|name| !newer(name.text()));
        assert_eq!(Value::Many(kind, ours).sorted(), value(&ask(stream, &words(line))).sorted(), "{line}");
    }
}

/// What the proxy answers to a request that it does not pass on, or nothing if it would.
fn refusal(words: &[&str]) -> Option<String> {
    let arg = |index: usize| words.get(index).map(|word| word.as_bytes());
    let mut out = Vec::new();
    match commands::resolve(words.len(), arg) {
        Resolved::Unknown => errors::unknown_command(&mut out, words.len(), arg),
        Resolved::UnknownSubcommand(container) => errors::unknown_subcommand(&mut out, container, words[1].as_bytes()),
        Resolved::WrongArity(command) => errors::wrong_arity(&mut out, command),
        Resolved::Command(command) => match command.keys(words.len(), arg, &mut Vec::new()) {
            Err(error) => errors::key_error(&mut out, command, error),
            Ok(()) => match command.route {
                Route::Refused(reason) | Route::Only(reason) => errors::refused(&mut out, command, reason),
                _ => return None,
            },
        },
    }
    Some(String::from_utf8(out).unwrap())
}

#[test]
fn errors_are_worded_as_the_server_words_them() {
    let Some(server) = Server::start() else { return };
    let mut stream = server.connect();
    let long = "x".repeat(200);
    let lines = [
        "nosuch",
        "NoSuch a b",
        "nosuch \"\" b",
        "nosuch a\r\nb",
        &format!("nosuch {long} b"),
        &format!("nosuch {} {long} b", &long[..100]),
        &format!("nosuch {} {} b", &long[..62], &long[..62]),
        &format!("{long} {long}"),
        "JSON.GET k",
        "GET",
        "GET a b",
        "CLIENT",
        "CLIENT MAINT_NOTIFICATIONS on",
        "client setname",
        "CLIENT SETNAME a b",
        "XGROUP CREATE a",
        "OBJECT",
        "object nosuch k",
        "COMMAND COUNT x",
        "MSET a 1 b",
        "MSETNX a 1 b",
        "EVAL s x a",
        "EVAL s 01 a",
        "EVAL s 2 a",
        "EVAL s -1",
        "ZUNION x a",
        "ZUNION 0 a",
        "ZUNION 2 a",
        "ZUNIONSTORE d -1 a",
        "ZINTERCARD 0 a",
        "SINTERCARD x a",
        "SINTERCARD 0 a",
        "SINTERCARD 2 a",
        "LMPOP x a LEFT",
        "LMPOP 0 a LEFT",
        "LMPOP 5 a LEFT",
        "ZMPOP -1 a MIN",
        "XREAD COUNT 1 a",
        "XREAD COUNT 1 STREAMS",
        "XREADGROUP GROUP g c COUNT 1 NOACK",
        "CLUSTER SLOTS",
        "CLUSTER INFO",
    ];
    for line in lines {
        let theirs = String::from_utf8(ask(&mut stream, &words(line))).unwrap();
        assert_eq!(refusal(&words(line)), Some(theirs), "{line:?}");
    }
    ask(&mut stream, &["FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)"]);
    for line in ["FCALL f x a", "FCALL f 2 a", "FCALL f -1"] {
        let theirs = String::from_utf8(ask(&mut stream, &words(line))).unwrap();
        assert_eq!(refusal(&words(line)), Some(theirs), "{line:?}");
    }
}

#[test]
fn what_has_a_way_has_no_refusal() {
    for line in ["GET k", "PING", "EVAL s 0", "MSET a 1 b 2", "XREAD BLOCK 0 STREAMS a 0", "CLIENT ID", "COMMAND"] {
        assert_eq!(refusal(&words(line)), None, "{line}");
    }
}

#[test]
fn inline_commands_and_protocol_errors_are_those_of_the_server() {
    let Some(server) = Server::start() else { return };
    let lines: &[&[u8]] = &[
        b"ECHO a\r\n",
        b"ECHO a\n",
        b"  echo \t a \r\n",
        b"ECHO \"a b\"\r\n",
        b"ECHO \"\\x41\\xfg\\n\\t\\q\\\\\"\r\n",
        b"ECHO 'a\\'b\\n'\r\n",
        b"ECHO a\"b c\"\r\n",
        b"ECHO a\x0bb\r\n",
        b"ECHO \xff\r\n",
        b"ECHO \"\"\r\n",
        b"ECHO \"a\"b\r\n",
        b"ECHO \"a\r\n",
        b"ECHO 'a\r\n",
        b"ECHO a\rb\r\n",
        b"\r\nECHO a\r\n",
        b"*0\r\nECHO a\r\n",
        b"*-1\r\nECHO a\r\n",
        b"*-7\r\nECHO a\r\n",
        b"*x\r\n",
        b"*01\r\n",
        b"*2147483648\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$+1\r\n",
        b"*1\r\n$536870913\r\n",
    ];
    for line in lines {
        let mut stream = server.connect();
        stream.write_all(line).unwrap();
        let theirs = receive(&mut stream);
        assert_eq!(
            echo(line).escape_ascii().to_string(),
            theirs.escape_ascii().to_string(),
            "{:?}",
            line.escape_ascii()
        );
    }
}

/// Answers the first request that is not empty, which is an ECHO or wrong.
fn echo(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        match parsed(input) {
            Ok(Some((consumed, args))) if args.is_empty() => input = &input[consumed..],
            Ok(Some((_, args))) if args.len() == 2 => {
                write_bulk(&mut out, &args[1]);
                return out;
            }
            Ok(Some(_)) => {
                errors::wrong_arity(&mut out, commands::lookup(b"echo").unwrap());
                return out;
            }
            Ok(None) => panic!("incomplete"),
            Err(error) => return format!("-ERR {error}\r\n").into_bytes(),
        }
    }
}
