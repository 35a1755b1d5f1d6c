//! Generated conversations with the in-process memcached and with the real one: the replies must be the same bytes, but
//! for the cas values, which each server numbers in its own way.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

use outrigger::config::Protocol;

use super::start;
use super::support::{Client, RealServer};

/// Unix seconds in the year 2037: no conversation lasts so long, and a C `int` holds it.
const FAR: i64 = 2_114_380_800;

/// One request.
#[derive(Debug, Clone)]
enum Step {
    Raw(String),
    /// A cas with the value that `gets` last showed for the key, or with another one.
    Cas {
        key: String,
        right: bool,
        data: String,
    },
}

/// One server and the cas value that it last showed for each key.
struct Peer {
    client: Client,
    seen: HashMap<String, u64>,
}

#[test]
fn replies_are_those_of_memcached() {
    let Some(real) = RealServer::memcached() else { return };
    let ours = start(Protocol::Memcached);
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    // The same conversations each time: a failure is there again when one looks for it.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&vec(step(), 1..40), |steps| {
        let peer = |address| Peer { client: Client::connect(address), seen: HashMap::new() };
        compare(&steps, &mut peer(&real.address()), &mut peer(ours.address()))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!("{reason}\nin the conversation\n{steps:?}"),
        Err(TestError::Abort(reason)) => panic!("aborted: {reason}"),
    }
}

fn compare(steps: &[Step], real: &mut Peer, ours: &mut Peer) -> Result<(), TestCaseError> {
    let everything = Step::Raw(format!("get {}\r\n", KEYS.join(" ")));
    let flush = Step::Raw("flush_all\r\n".to_owned());
    for step in [&flush].into_iter().chain(steps).chain([&everything]) {
        let (expected, got) = (real.ask(step), ours.ask(step));
        prop_assert!(expected == got, "{step:?}: memcached {}, ours {}", expected.escape_ascii(), got.escape_ascii());
    }
    Ok(())
}

impl Peer {
    /// The replies to one step, cas values hidden.
    fn ask(&mut self, step: &Step) -> Vec<u8> {
        let mut request = match step {
            Step::Raw(text) => text.clone().into_bytes(),
            Step::Cas { key, right, data } => {
                let cas = self.seen.get(key).copied().unwrap_or(1) + if *right { 0 } else { 1_000_000 };
                format!("cas {key} 3 0 {} {cas}\r\n{data}\r\n", data.len()).into_bytes()
            }
        };
        // Where a reply ends depends on the request, which may be malformed: this reply ends them all.
        request.extend(b"version\r\n");
        self.client.send(request);
        let mut replies = Vec::new();
        loop {
            let line = self.client.line();
            if line.starts_with(b"VERSION ") {
                return replies;
            }
            replies.extend(self.hide_cas(&line));
        }
    }

    fn hide_cas(&mut self, line: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(line);
        let words: Vec<_> = text.split_whitespace().collect();
        if let ["VALUE", key, flags, len, cas] = words.as_slice() {
            self.seen.insert((*key).to_owned(), cas.parse().unwrap());
            return format!("VALUE {key} {flags} {len} <cas>\r\n").into_bytes();
        }
        line.to_vec()
    }
}

const KEYS: [&str; 5] = ["a", "b", "c", "{tag}d", "\u{e4}\t"];

/// No numbers of 2^63 and more: for a minus sign in those, memcached looks beyond the end of the value.
const VALUES: [&str; 16] = [
    "",
    "v",
    "hello world",
    "0",
    "1",
    "9",
    "99",
    "100",
    "1000000",
    "18446744073709551616",
    "-1",
    "-0",
    " 12",
    "12 abc",
    "12abc",
    "a\r\nb",
];

/// What is refused, and how the stream goes on.
const ODDITIES: [&str; 40] = [
    "get",
    "gets",
    "gat",
    "gat x a",
    "",
    "GET a",
    "nonsense",
    "set a 0 0",
    "set a 0 0 1 2 3",
    "set a -1 0 1\r\nx",
    "set a 0 0 -1",
    "set a 0 x 1\r\nx",
    "set a x 0 1\r\nx",
    "set a 0 0 x",
    "set a 0 0 3\r\nabcdef",
    "set a 0 0 3\r\nab\r\nget a",
    "set a 0 0 3 noreply\r\nabcdef",
    "set a 0 0 1 nope\r\nx",
    "cas a 0 0 1\r\nx",
    "cas a 0 0 1 x\r\nx",
    "cas a 0 0 1 -1\r\nx",
    "incr a",
    "incr a x",
    "incr a -1",
    "incr a 1 2 3",
    "incr a 1 what",
    "delete",
    "delete a x",
    "delete a 0",
    "delete a 0 x",
    "delete a 0 noreply x",
    "touch a",
    "touch a x",
    "touch a 1 2 3",
    "flush_all x",
    "flush_all x noreply",
    "verbosity",
    "verbosity x",
    "verbosity 1 2 3",
    "  get   a  b ",
];

fn key() -> impl Strategy<Value = String> {
    select(&KEYS).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(&VALUES).prop_map(str::to_owned), 1 => (1..3000_usize).prop_map(|n| "x".repeat(n))]
}

/// None of them ends while the conversation lasts.
fn exptime() -> impl Strategy<Value = i64> {
    prop_oneof![5 => Just(0), 3 => 1000..100_000_i64, 1 => Just(2_592_000), 1 => Just(FAR), 1 => Just(-1), 1 => Just(1_500_000_000)]
}

fn noreply() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" noreply")]
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![Just(0_u32), any::<u32>()];
    let stores = select(&["set", "set", "add", "replace", "append", "prepend"]);
    let raw = |request: String| Step::Raw(format!("{request}\r\n"));
    prop_oneof![
        6 => (stores, key(), flags, exptime(), value(), noreply())
            .prop_map(move |(c, k, f, e, v, n)| raw(format!("{c} {k} {f} {e} {}{n}\r\n{v}", v.len()))),
        4 => (select(&["get", "gets"]), vec(key(), 1..5)).prop_map(move |(c, k)| raw(format!("{c} {}", k.join(" ")))),
        2 => (select(&["gat", "gats"]), exptime(), vec(key(), 1..4))
            .prop_map(move |(c, e, k)| raw(format!("{c} {e} {}", k.join(" ")))),
        4 => (select(&["incr", "decr"]), key(), prop_oneof![0..120_u64, 0..1_u64 << 40], noreply())
            .prop_map(move |(c, k, d, n)| raw(format!("{c} {k} {d}{n}"))),
        2 => (key(), noreply()).prop_map(move |(k, n)| raw(format!("delete {k}{n}"))),
        2 => (key(), exptime(), noreply()).prop_map(move |(k, e, n)| raw(format!("touch {k} {e}{n}"))),
        2 => (key(), any::<bool>(), value()).prop_map(|(key, right, data)| Step::Cas { key, right, data }),
        // No delay: in memcached a delayed flush takes back an earlier one of the same second.
        1 => (select(&["", " 0", " -1"]), noreply()).prop_map(move |(d, n)| raw(format!("flush_all{d}{n}"))),
        1 => noreply().prop_map(move |n| raw(format!("verbosity 1{n}"))),
        2 => select(&ODDITIES).prop_map(move |line| raw(line.to_owned())),
        1 => Just(250..252_usize).prop_flat_map(|lengths| lengths)
            .prop_map(move |n| raw(format!("get a {0}\r\nset {0} 0 0 1\r\nx\r\ntouch {0} 0\r\ndelete {0}", "k".repeat(n)))),
    ]
}
