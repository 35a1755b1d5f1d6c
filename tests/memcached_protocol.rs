//! The request parser against the real memcached: the same answer to each malformed request, and the stream goes on at
//! the same byte. Skipped, with a message, where memcached 1.6.18 is not installed: other versions use other words.
//!
//! Each input is followed by `version`, a sentinel. memcached gets the whole on a fresh connection. The parser gets it
//! too, and each request that it finds whole is sent to memcached alone; what both say must be equal.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use outrigger::protocol::memcached::response;
use outrigger::protocol::memcached::{Outcome, Request, Verb, request};
use outrigger::protocol::{Limits, Parsed};

const SENTINEL: &str = "version\r\n";
/// The answer of the memcached that the tables were taken from, Debian's.
const VERSION: &str = "VERSION 1.6.18\r\n";
/// memcached's own limit of an item, in bytes, so that both refuse the same.
const MAX_ITEM_BYTES: usize = 1024 * 1024;

/// A memcached on a unix socket of its own, ended when dropped.
struct Memcached {
    child: Child,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Memcached {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
        let socket = directory.path().join("memcached.sock");
        let mut command = Command::new("memcached");
        command.args(["-U", "0", "-m", "64", "-t", "1", "-s"]).arg(&socket);
        if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            command.args(["-u", "root"]);
        }
        let child = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("memcached does not start: {error}"),
        };
        let server = Self { child, socket, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&server.socket).is_err() {
            assert!(Instant::now() < deadline, "memcached does not listen");
            thread::yield_now();
        }
        (server.ask(SENTINEL.as_bytes()) == VERSION.as_bytes()).then_some(server)
    }

    /// All that it answers to `input` on a new connection.
    fn ask(&self, input: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(&self.socket).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a read timeout");
        let mut writer = stream.try_clone().expect("a second handle");
        let input = input.to_vec();
        let writing = thread::spawn(move || {
            // It may close the connection before it has read everything.
            let _ = writer.write_all(&input);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("reading from memcached: {error}, so far {:?}", String::from_utf8_lossy(&answer)),
        }
        writing.join().expect("the writer");
        answer
    }

    fn flush(&self) {
        assert_eq!(self.ask(b"flush_all\r\n"), b"OK\r\n");
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

macro_rules! memcached_or_skip {
    () => {
        match Memcached::start() {
            Some(server) => server,
            None => {
                eprintln!("SKIPPED: memcached 1.6.18 is not installed");
                return;
            }
        }
    };
}

fn limits() -> Limits {
    Limits { max_request_bytes: MAX_ITEM_BYTES, ..Limits::default() }
}

/// What a proxy would answer: refusals by itself, all else by memcached, one request and one reply at a time.
fn proxied(server: &Memcached, input: &[u8]) -> Vec<u8> {
    let mut request = Request::default();
    let mut answer = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        match request::parse(rest, &limits(), &mut request) {
            Outcome::Complete { consumed } => {
                if request.verb == Verb::Quit {
                    break;
                }
                let (head, tail) = request.forward_parts(rest);
                let reply = server.ask(&[head, tail].concat());
                let end = response::scan(&reply, request.verb.expect(), &limits());
                assert_eq!(end, Ok(Parsed::Complete(reply.len())), "{:?}", String::from_utf8_lossy(&reply));
                if !request.noreply {
                    answer.extend_from_slice(&reply);
                }
                rest = &rest[consumed..];
            }
            Outcome::Rejected { consumed, skip, reply } => {
                if !request.noreply {
                    reply.write(&mut answer);
                }
                rest = &rest[consumed..];
                assert!(skip == 0 || rest.is_empty());
            }
            Outcome::Incomplete { .. } => break,
            Outcome::Fatal { reply } => {
                reply.write(&mut answer);
                break;
            }
        }
    }
    answer
}

/// Well formed and malformed requests to which a proxy must answer what memcached does, at the same byte.
fn inputs() -> Vec<String> {
    let long = "k".repeat(251);
    let mut inputs: Vec<String> = [
        // Lines that are no command.
        "\r\n",
        "\n",
        " \r\n",
        "   \n",
        "foo\r\n",
        "GET a\r\n",
        "Set a 0 0 1\r\nx\r\n",
        "\rget a\r\n",
        "get\ta\r\n",
        "\0\r\n",
        "\0get a\r\n",
        "getx a\r\n",
        "mx a\r\n",
        "m\r\n",
        "mgx a\r\n",
        // Retrievals.
        "get\r\n",
        "get \r\n",
        "gets\r\n",
        "gat\r\n",
        "gats \r\n",
        "get  a\r\n",
        " get a\r\n",
        "get a \r\n",
        "get a\n",
        "get a\r\r\n",
        "get noreply\r\n",
        "get a noreply\r\n",
        "gets a b c\r\n",
        "gat 0 a\r\n",
        "gat -1 a b\r\n",
        "gat x a\r\n",
        "gat a\r\n",
        "gat 99999999999 a\r\n",
        "gat 99999999999999999999 a\r\n",
        "gats 0 a b c\r\n",
        "gat \t a\r\n",
        "set a 7 0 1\r\nx\r\nget b a a\r\n",
        // Storage: good, and with the data block in a wrong place.
        "set a 0 0 1\r\nx\r\n",
        "set a 0 0 1\nx\r\n",
        "set a 0 0 1\nx\n",
        "set a 0 0 1\r\nxy\r\n",
        "set a 0 0 1\r\nxyzzy\r\n",
        "set a 0 0 5\r\nxyzzyabcdef\r\n",
        "set a 0 0 3\r\nx\r\n",
        "set a 0 0 0\r\n\r\n",
        "set a 0 0 0\r\n\n",
        "add a 0 0 1\r\nx\r\nadd a 0 0 1\r\ny\r\n",
        "append a 0 0 1\r\nx\r\n",
        "prepend a 0 0 1\r\nx\r\n",
        "replace a 0 0 1\r\nx\r\n",
        // Storage with numbers that are none, or too large: memcached does not swallow the data block.
        "set a 0 0 -1\r\nx\r\n",
        "set a 0 0 -1\r\n",
        "set a 0 0 abc\r\nx\r\n",
        "set a 0 0 1x\r\nx\r\n",
        "set a 0 0 0x1\r\nx\r\n",
        "set a 0 0 2147483647\r\nx\r\n",
        "set a 0 0 2147483646\r\nx\r\n",
        "set a 0 0 18446744073709551617\r\nx\r\n",
        "set a x 0 1\r\nx\r\n",
        "set a -1 0 1\r\nx\r\n",
        "set a 18446744073709551616 0 1\r\nx\r\n",
        "set a 1. 0 1\r\nx\r\n",
        "set a 0 x 1\r\nx\r\n",
        "set a 0 --1 1\r\nx\r\n",
        "set a 0 9223372036854775808 1\r\nx\r\n",
        "set a \t 0 1\r\nx\r\n",
        "set a 0 0 \t\r\nx\r\n",
        "set a 0 -1 1\r\nx\r\n",
        "set a 0 99999999999 1\r\nx\r\n",
        "set a 4294967295 0 01\r\nx\r\n",
        "prepend a 0 0 -5\r\nx\r\n",
        "cas a 0 0 1 x\r\nx\r\n",
        "cas a 0 0 1 -1\r\nx\r\n",
        "cas a 0 0 1 18446744073709551616\r\nx\r\n",
        // Storage with a wrong number of words, and noreply in each place.
        "set\r\n",
        "set a\r\n",
        "set a 0 0\r\nx\r\n",
        "set a 0 0 1 xnoreply\r\nx\r\n",
        "set a 0 0 1 2 noreply\r\nx\r\n",
        "set a 0 0 1 noreply x\r\nx\r\n",
        "set a 0 0 noreply\r\nx\r\n",
        "set a 0 0 1 noreply\r\nx\r\n",
        "set a 0 0 1 noreply \nx\r\n",
        "set  a  0  0  1  noreply  \r\nx\r\n",
        "set a x 0 1 noreply\r\nx\r\n",
        "set a 0 0 1 noreply\r\nxy\r\n",
        "set a 0 0 1 noreply\t\r\nx\r\n",
        "cas a 0 0 1\r\nx\r\n",
        "cas a 0 0 1 5\r\nx\r\n",
        "cas a 0 0 1 5 noreply\r\nx\r\n",
        "cas a 0 0 1 noreply\r\nx\r\n",
        "cas a 0 0 1 5 6\r\nx\r\n",
        "cas a 0 0 1 5 noreply x\r\nx\r\n",
        "set a 0 0 1\r\nx\r\ncas a 0 0 1 99\r\ny\r\n",
        "set a\0b 0 0 1\r\nx\r\n",
        // Arithmetic, delete, touch.
        "incr a 1\r\n",
        "incr a\r\n",
        "incr a x\r\n",
        "incr a -1\r\n",
        "incr a 1 2\r\n",
        "incr a 1 noreply\r\n",
        "incr a x noreply\r\n",
        "incr a noreply\r\n",
        "incr a 1 noreply x\r\n",
        "set a 0 0 2\r\n10\r\ndecr a 3\r\n",
        "set a 0 0 1\r\nx\r\nincr a 3\r\n",
        "delete\r\n",
        "delete a\r\n",
        "delete a 0\r\n",
        "delete a 00\r\n",
        "delete a 1\r\n",
        "delete a noreply\r\n",
        "delete a 0 noreply\r\n",
        "delete a 1 noreply\r\n",
        "delete a noreply 0\r\n",
        "delete a noreply noreply\r\n",
        "delete a b c\r\n",
        "delete a b c d\r\n",
        "delete noreply\r\n",
        "delete a\n\r\n",
        "touch\r\n",
        "touch a\r\n",
        "touch a 0\r\n",
        "touch a x\r\n",
        "touch a 0 x\r\n",
        "touch a 0 noreply\r\n",
        "touch a noreply\r\n",
        "touch a 0 0 0\r\n",
        "touch a -1\r\n",
        // The rest.
        "flush_all\r\n",
        "flush_all 0\r\n",
        "flush_all -1\r\n",
        "flush_all x\r\n",
        "flush_all noreply\r\n",
        "flush_all 0 noreply\r\n",
        "flush_all x noreply\r\n",
        "flush_all noreply 0\r\n",
        "flush_all 0 x\r\n",
        "flush_all 0 1 2\r\n",
        "version x\r\n",
        "version\n",
        "version\r\r\n",
        "version noreply\r\n",
        "verbosity\r\n",
        "verbosity 1\r\n",
        "verbosity x\r\n",
        "verbosity 1 x\r\n",
        "verbosity 1 noreply\r\n",
        "verbosity noreply\r\n",
        "verbosity 1 2 3\r\n",
        "stats reset\r\n",
        "stats foo\r\n",
        "stats settings\r\n",
        "stats cachedump\r\n",
        "quit\r\n",
        "quit x\n",
    ]
    .map(str::to_owned)
    .to_vec();
    for request in [
        "get L\r\n",
        "get a L b\r\n",
        "gat 0 a L\r\n",
        "gat x L\r\n",
        "set L 0 0 1\r\nx\r\n",
        "set L 0 0 1 noreply\r\nx\r\n",
    ] {
        inputs.push(request.replace('L', &long));
    }
    for request in ["incr L 1\r\n", "incr L 1 noreply\r\n", "delete L\r\n", "delete L 1\r\n", "touch L 0\r\n"] {
        inputs.push(request.replace('L', &long));
    }
    for request in ["get L\r\n", "set L 0 0 1\r\nx\r\nget L\r\n"] {
        inputs.push(request.replace('L', &long[..250]));
    }
    for noreply in ["", " noreply"] {
        inputs.push(format!("set a 0 0 2000000{noreply}\r\n{}\r\n", "x".repeat(2_000_000)));
        inputs.push(format!("set a 0 0 2000000{noreply}\r\n{}", "x".repeat(2_000_003)));
    }
    inputs.push(format!("get{}\r\n", " key".repeat(10_000)));
    inputs.push(format!("set a 0 0 1{}\r\nx\r\n", " b".repeat(30)));
    inputs.push(format!("version{}\r\n", " b".repeat(30)));
    inputs
}

#[test]
fn answers_what_memcached_answers_and_goes_on_at_the_same_byte() {
    let server = memcached_or_skip!();
    let mut differences = Vec::new();
    for input in inputs() {
        let stream = format!("{input}{SENTINEL}");
        server.flush();
        let theirs = server.ask(stream.as_bytes());
        server.flush();
        let ours = proxied(&server, stream.as_bytes());
        if ours != theirs {
            let [ours, theirs] = [ours, theirs].map(|answer| String::from_utf8_lossy(&answer).into_owned());
            differences.push(format!("{:.80?}\n  ours   {ours:?}\n  theirs {theirs:?}", input));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Spellings that memcached takes and a proxy must not pass on, since another server may frame them in another way: the
/// stream goes on as memcached's does, but the answer is a refusal.
#[test]
fn goes_on_at_the_same_byte_after_a_request_that_only_some_servers_understand() {
    let server = memcached_or_skip!();
    for (input, refusal, theirs) in [
        ("set a 0 0 +1\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a 0 0 \t1\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a 0 0 1\r\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a 0 0 1\tjunk\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a 0 0 4294967297\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a 0 0 -4294967295\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a 0 0 1\0zz\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a 4294967296 0 1\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a -18446744073709551615 0 1\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("set a 0 +5 1\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "STORED\r\n"),
        ("cas a 0 0 1 +5\r\nx\r\n", "CLIENT_ERROR bad command line format\r\n", "NOT_FOUND\r\n"),
        ("get a\0b\r\n", "CLIENT_ERROR bad command line format\r\n", "END\r\n"),
        ("version\0xx\r\n", "CLIENT_ERROR bad command line format\r\n", VERSION),
        ("gat 0\r\n", "ERROR\r\n", "END\r\n"),
        ("mg a\r\n", "CLIENT_ERROR meta commands are not supported by this proxy\r\n", "EN\r\n"),
        ("mn\r\n", "CLIENT_ERROR meta commands are not supported by this proxy\r\n", "MN\r\n"),
        ("ms a 1 T0\r\nx\r\n", "CLIENT_ERROR meta commands are not supported by this proxy\r\n", "HD\r\n"),
        ("ms YQ== 1 b\r\nx\r\n", "CLIENT_ERROR meta commands are not supported by this proxy\r\n", "HD\r\n"),
        ("md a\r\n", "CLIENT_ERROR meta commands are not supported by this proxy\r\n", "NF\r\n"),
    ] {
        let stream = format!("{input}{SENTINEL}");
        server.flush();
        assert_eq!(String::from_utf8_lossy(&server.ask(stream.as_bytes())), format!("{theirs}{VERSION}"), "{input:?}");
        let ours = proxied(&server, stream.as_bytes());
        assert_eq!(String::from_utf8_lossy(&ours), format!("{refusal}{VERSION}"), "{input:?}");
    }
}

/// memcached closes silently where a proxy says why it closes, and takes lists of keys of any length.
#[test]
fn closes_where_memcached_closes() {
    let server = memcached_or_skip!();
    for (input, ours) in
        [("x", "CLIENT_ERROR line too long\r\n"), ("set a ", "CLIENT_ERROR line too long\r\n"), ("get a ", "")]
    {
        let input = format!("{input}{}", "x".repeat(70_000));
        assert_eq!(String::from_utf8_lossy(&server.ask(input.as_bytes())), "");
        assert_eq!(String::from_utf8_lossy(&proxied(&server, input.as_bytes())), ours);
    }
}

/// Replies cut at each byte, as memcached really sends them.
#[test]
fn real_replies_are_found_whole_and_no_sooner() {
    let server = memcached_or_skip!();
    assert_eq!(server.ask(b"set a 5 0 5\r\nE\r\nND\r\nset b 0 0 2\r\n41\r\n"), b"STORED\r\nSTORED\r\n");
    for command in [
        "get a",
        "gets a b c",
        "gat 0 a b",
        "gats 0 b",
        "get c",
        "incr b 1",
        "delete c",
        "touch a 0",
        "stats",
        "version",
    ] {
        let reply = server.ask(format!("{command}\r\n").as_bytes());
        let name = command.split(' ').next().expect("a word");
        let expect = Verb::from_name(name.as_bytes()).expect("a verb").expect();
        for cut in 0..reply.len() {
            match response::scan(&reply[..cut], expect, &limits()) {
                Ok(Parsed::Incomplete { need }) => {
                    assert!(cut < need && need <= reply.len(), "{command} at {cut}: {need}")
                }
                other => panic!("{command} at {cut}: {other:?}"),
            }
        }
        assert_eq!(response::scan(&reply, expect, &limits()), Ok(Parsed::Complete(reply.len())), "{command}");
    }
}
