//! Generated conversations with the in-process Redis and with redis-server: the replies must be the same bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

use outrigger::config::Protocol;

use super::start;
use super::support::{Client, RealServer, resp};

/// The commands of one conversation, one argument list each.
type Request = Vec<Vec<u8>>;

const KEYS: [&str; 6] = ["a", "b", "c", "{tag}d", "", "a key with spaces\r\n"];

/// Unix seconds in the year 2100: no conversation lasts so long.
const FAR: i64 = 4_102_444_800;

#[test]
fn replies_are_those_of_redis_server() {
    let Some(real) = RealServer::redis() else { return };
    let ours = start(Protocol::Redis);
    let addresses = (real.address(), ours.address().to_owned());
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    // The same conversations each time: a failure is there again when one looks for it.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&vec(request(), 1..60), |requests| {
        compare(&requests, &mut Client::connect(&addresses.0), &mut Client::connect(&addresses.1))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, requests)) => {
            let shown: Vec<_> = requests.iter().map(|r| r.join(b" ".as_slice()).escape_ascii().to_string()).collect();
            panic!("{reason}\nin the conversation\n{}", shown.join("\n"))
        }
        Err(TestError::Abort(reason)) => panic!("aborted: {reason}"),
    }
}

fn compare(requests: &[Request], real: &mut Client, ours: &mut Client) -> Result<(), TestCaseError> {
    let mut pipeline = resp(&["FLUSHALL"]);
    let everything = |name: &str| [name].into_iter().chain(KEYS).map(|a| a.as_bytes().to_vec()).collect::<Request>();
    let state = KEYS.iter().map(|key| vec![b"PEXPIRETIME".to_vec(), key.as_bytes().to_vec()]);
    let requests: Vec<_> =
        requests.iter().cloned().chain(state).chain([everything("MGET"), vec![b"DBSIZE".to_vec()]]).collect();
    requests.iter().for_each(|request| pipeline.extend(resp(request)));
    real.send(pipeline.clone());
    ours.send(pipeline);
    let flushed = (real.redis_reply(), ours.redis_reply());
    prop_assert_eq!(flushed.0, flushed.1);
    for request in &requests {
        let (expected, got) = (real.redis_reply(), ours.redis_reply());
        let shown: Vec<_> = request.iter().map(|a| a.escape_ascii().to_string()).collect();
        prop_assert!(
            same(&request[0], &expected, &got),
            "{shown:?}: redis-server {}, ours {}",
            expected.escape_ascii(),
            got.escape_ascii()
        );
    }
    Ok(())
}

/// Equal, but for the moments that pass between the two servers in what tells the time.
fn same(command: &[u8], expected: &[u8], got: &[u8]) -> bool {
    let number = |reply: &[u8]| std::str::from_utf8(reply).ok()?.strip_prefix(':')?.trim_end().parse::<i64>().ok();
    let allowed = match command.to_ascii_uppercase().as_slice() {
        b"PTTL" | b"PEXPIRETIME" => 2000,
        b"TTL" | b"EXPIRETIME" => 2,
        _ => 0,
    };
    match (number(expected), number(got)) {
        (Some(expected), Some(got)) if expected >= 0 && got >= 0 => expected.abs_diff(got) <= allowed,
        _ => expected == got,
    }
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        6 => sets(),
        4 => gets(),
        4 => counters(),
        4 => parts(),
        4 => expiries(),
        2 => several(),
        1 => others(),
    ]
}

fn text(texts: &'static [&'static str]) -> BoxedStrategy<Vec<u8>> {
    select(texts).prop_map(|t| t.as_bytes().to_vec()).boxed()
}

fn key() -> BoxedStrategy<Vec<u8>> {
    text(&KEYS)
}

fn value() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        3 => integer(),
        2 => float(),
        2 => text(&["", "v", "hello world", "007", "+1", "-0", " 1", "1 ", "abc\r\n", "9223372036854775807", "inf", "0x10"]),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(select(b"0019.eExp+- \0".as_slice()), 0..8),
    ]
    .boxed()
}

fn integer() -> BoxedStrategy<Vec<u8>> {
    let number = prop_oneof![
        5 => -20_i64..20,
        1 => any::<i64>(),
        1 => select(&[i64::MAX, i64::MIN, i64::MAX - 1, i64::MAX / 1000, i64::MAX / 1000 + 1]),
    ];
    number.prop_map(|n| n.to_string().into_bytes()).boxed()
}

fn float() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        (-10_000_i32..10_000, 0..6_u32).prop_map(|(n, places)| (f64::from(n) / 10_f64.powi(places as i32)).to_string()),
        (any::<i64>(), -45..20_i32).prop_map(|(n, power)| format!("{n}e{power}")),
        any::<f64>().prop_map(|n| format!("{n:e}")),
        (any::<u64>(), any::<u32>()).prop_map(|(whole, fraction)| format!("-{whole}.{fraction}")),
        select(&[
            "3.0", ".5", "5.", "-.5e1", "1e400", "1e5000", "-1e-5000", "1E+3", "e", ".", "-", "+1.5", "nan", "-inf"
        ])
        .prop_map(str::to_owned),
    ]
    .prop_map(String::into_bytes)
    .boxed()
}

/// Seconds or milliseconds from now. Far apart, so that a comparison of two does not hang on the moment.
fn duration() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        8 => (100_000_i64..i64::from(i32::MAX)).prop_map(|n| n.to_string().into_bytes()),
        1 => text(&["0", "-1", "x", "", "9223372036854775807", "-9223372036854775808", "9223372036854775"]),
    ]
    .boxed()
}

fn seconds_at() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        8 => (0_i64..5).prop_map(|n| (FAR + n).to_string().into_bytes()),
        2 => text(&["0", "-1", "1", "x", "9223372036854775807", "-9223372036854775808"]),
    ]
    .boxed()
}

fn millis_at() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        8 => (0_i64..5).prop_map(|n| (FAR * 1000 + n * 500).to_string().into_bytes()),
        2 => text(&["0", "-1", "1", "x", "9223372036854775807", "-9223372036854775808"]),
    ]
    .boxed()
}

/// Some of the options of SET and GETEX, in any order, sensible or not.
fn options() -> BoxedStrategy<Vec<Vec<u8>>> {
    let one = prop_oneof![
        4 => text(&["NX", "xx", "GET", "KEEPTTL", "PERSIST", "Nx", "what", "EX"]).prop_map(|o| vec![o]),
        2 => (text(&["EX", "px"]), duration()).prop_map(|(o, n)| vec![o, n]),
        1 => (text(&["EXAT", "exat"]), seconds_at()).prop_map(|(o, n)| vec![o, n]),
        1 => (text(&["PXAT", "pxat"]), millis_at()).prop_map(|(o, n)| vec![o, n]),
    ];
    prop_oneof![
        2 => Just(Vec::new()),
        6 => one.clone(),
        2 => vec(one, 2..4).prop_map(|options| options.concat()),
    ]
    .boxed()
}

fn sets() -> BoxedStrategy<Request> {
    prop_oneof![
        6 => (text(&["SET", "set"]), key(), value(), options()).prop_map(|(c, k, v, o)| [vec![c, k, v], o].concat()),
        2 => (text(&["SETNX", "GETSET"]), key(), value()).prop_map(|(c, k, v)| vec![c, k, v]),
        2 => (text(&["SETEX", "PSETEX"]), key(), duration(), value()).prop_map(|(c, k, t, v)| vec![c, k, t, v]),
    ]
    .boxed()
}

fn gets() -> BoxedStrategy<Request> {
    prop_oneof![
        4 => (text(&["GET", "GETDEL", "STRLEN", "TYPE"]), key()).prop_map(|(c, k)| vec![c, k]),
        3 => (text(&["GETEX"]), key(), options()).prop_map(|(c, k, o)| [vec![c, k], o].concat()),
    ]
    .boxed()
}

fn counters() -> BoxedStrategy<Request> {
    prop_oneof![
        (text(&["INCR", "DECR"]), key()).prop_map(|(c, k)| vec![c, k]),
        (text(&["INCRBY", "DECRBY"]), key(), prop_oneof![4 => integer(), 1 => value()])
            .prop_map(|(c, k, n)| vec![c, k, n]),
        (text(&["INCRBYFLOAT"]), key(), prop_oneof![4 => float(), 1 => value()]).prop_map(|(c, k, n)| vec![c, k, n]),
    ]
    .boxed()
}

fn parts() -> BoxedStrategy<Request> {
    let offset = || prop_oneof![6 => (-12_i64..12).prop_map(|n| n.to_string().into_bytes()), 1 => integer()];
    prop_oneof![
        (text(&["APPEND"]), key(), value()).prop_map(|(c, k, v)| vec![c, k, v]),
        (text(&["GETRANGE", "SUBSTR"]), key(), offset(), offset()).prop_map(|(c, k, a, b)| vec![c, k, a, b]),
        // Offsets between 12 and the limit of 512 MiB would only measure patience.
        (text(&["SETRANGE"]), key(), offset(), value())
            .prop_filter("too much memory", |(_, _, n, _)| {
                let n = std::str::from_utf8(n).unwrap().parse::<i64>().unwrap();
                !(1000..600_000_000).contains(&n)
            })
            .prop_map(|(c, k, n, v)| vec![c, k, n, v]),
    ]
    .boxed()
}

fn expiries() -> BoxedStrategy<Request> {
    let conditions = || vec(text(&["NX", "XX", "GT", "LT", "gt", "lt", "what"]), 0..3);
    let change =
        |names, time| (text(names), key(), time, conditions()).prop_map(|(c, k, t, o)| [vec![c, k, t], o].concat());
    prop_oneof![
        change(&["EXPIRE", "PEXPIRE"], duration()),
        change(&["EXPIREAT"], seconds_at()),
        change(&["PEXPIREAT"], millis_at()),
        (text(&["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST"]), key()).prop_map(|(c, k)| vec![c, k]),
    ]
    .boxed()
}

fn several() -> BoxedStrategy<Request> {
    prop_oneof![
        (text(&["MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"]), vec(key(), 0..4))
            .prop_map(|(c, k)| [vec![c], k].concat()),
        (text(&["MSET", "MSETNX"]), vec((key(), value()), 0..4), prop::option::weighted(0.1, key())).prop_map(
            |(c, pairs, odd)| {
                let pairs = pairs.into_iter().flat_map(|(k, v)| [k, v]);
                [c].into_iter().chain(pairs).chain(odd).collect()
            }
        ),
    ]
    .boxed()
}

fn others() -> BoxedStrategy<Request> {
    prop_oneof![
        vec(value(), 0..3).prop_map(|v| [vec![b"PING".to_vec()], v].concat()),
        value().prop_map(|v| vec![b"ECHO".to_vec(), v]),
        text(&["0", "x", "16", "-1"]).prop_map(|n| vec![b"SELECT".to_vec(), n]),
        vec(text(&["default", "me", "pw"]), 0..4).prop_map(|v| [vec![b"AUTH".to_vec()], v].concat()),
        vec(text(&["ASYNC", "sync", "now"]), 0..2).prop_map(|v| [vec![b"FLUSHDB".to_vec()], v].concat()),
        text(&["GET", "SET", "INCR", "EXPIRE", "TTL", "APPEND", "SETEX"]).prop_map(|c| vec![c]),
    ]
    .boxed()
}
