//! The Redis protocol held against two references: the `redis-protocol` crate for what is a request or a reply, and a live
//! redis-server for what commands there are, where their keys are, and how errors are worded.
//!
//! Known defects of `redis-protocol` 6, where we differ on purpose: it takes any two bytes for the CRLF after a bulk, any
//! text between `_` and CRLF for null and any for a big number; it takes a `HELLO` line for a reply; it refuses maps and
//! sets with keys it cannot hash, and verbatim strings that are neither txt nor mkd; it overflows the stack on deep nesting,
//! so nothing deep is shown to it.

use outrigger::protocol::redis::reply::write_command;
use outrigger::protocol::redis::request::{self, Arguments};
use outrigger::protocol::redis::response::{ScanError, Scanner, elements, integer, is_error, scan};
use outrigger::protocol::redis::{commands, errors, introspect};
use outrigger::protocol::{Limits, Parsed};
use proptest::collection::vec;
use proptest::prelude::*;

#[path = "redis_protocol/acl.rs"]
mod acl;
#[path = "redis_protocol/cli.rs"]
mod cli;
#[path = "redis_protocol/getkeys.rs"]
mod getkeys;
#[path = "redis_protocol/live.rs"]
mod live;
#[path = "redis_protocol/misses.rs"]
mod misses;
#[path = "redis_protocol/valkey.rs"]
mod valkey;

/// Text without line ends.
fn line() -> impl Strategy<Value = Vec<u8>> {
    "[ -~]{0,20}".prop_map(String::into_bytes)
}

fn bulk(kind: char, payload: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    payload.prop_map(move |payload| [format!("{kind}{}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat())
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..40), Just(b"\r\n\r\n".to_vec()), vec(Just(b'x'), 990..1010)]
}

fn aggregate(kind: char, per_entry: usize, items: Vec<Vec<u8>>) -> Vec<u8> {
    let whole = items.len() / per_entry * per_entry;
    [format!("{kind}{}\r\n", whole / per_entry).into_bytes(), items[..whole].concat()].concat()
}

fn resp2() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        line().prop_map(|text| [b"+", text.as_slice(), b"\r\n"].concat()),
        line().prop_map(|text| [b"-", text.as_slice(), b"\r\n"].concat()),
        any::<i64>().prop_map(|value| format!(":{value}\r\n").into_bytes()),
        (0..200i64).prop_map(|value| format!(":{value}\r\n").into_bytes()),
        bulk('$', payload()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
    ];
    leaf.prop_recursive(4, 64, 12, |inner| vec(inner, 0..12).prop_map(|items| aggregate('*', 1, items)))
}

fn resp3() -> impl Strategy<Value = Vec<u8>> {
    let hashable = prop_oneof![
        line().prop_map(|text| [b"+", text.as_slice(), b"\r\n"].concat()),
        any::<i64>().prop_map(|value| format!(":{value}\r\n").into_bytes()),
        bulk('$', payload()),
    ]
    .boxed();
    let keys = hashable.clone();
    let leaf = prop_oneof![
        hashable.clone(),
        Just(b"_\r\n".to_vec()),
        any::<bool>().prop_map(|value| if value { b"#t\r\n".to_vec() } else { b"#f\r\n".to_vec() }),
        any::<f64>().prop_map(|value| format!(",{value}\r\n").into_bytes()),
        "-?[0-9]{1,40}".prop_map(|digits| format!("({digits}\r\n").into_bytes()),
        bulk('!', line()),
        bulk('=', line().prop_map(|text| [b"txt:", text.as_slice()].concat())),
        (hashable.clone(), hashable.clone(), bulk('$', line())).prop_map(|(key, value, reply)| [
            b"|1\r\n".to_vec(),
            key,
            value,
            reply
        ]
        .concat()),
    ];
    leaf.prop_recursive(4, 64, 12, move |inner| {
        let pairs = (keys.clone(), inner.clone()).prop_map(|(key, value)| [key, value].concat());
        prop_oneof![
            vec(inner, 0..12).prop_map(|items| aggregate('*', 1, items)),
            vec(pairs, 0..6).prop_map(|items| aggregate('%', 1, items)),
            vec(keys.clone(), 0..12).prop_map(|items| aggregate('~', 1, items)),
        ]
    })
}

/// What the reference says: the length of the reply, `None` for not whole yet, or no reply at all.
type Verdict = Result<Option<usize>, ()>;

fn reference2(buf: &[u8]) -> Verdict {
    let found = redis_protocol::resp2::decode::decode_range(buf).map_err(drop)?;
    Ok(found.map(|(_, length)| length))
}

fn reference3(buf: &[u8]) -> Verdict {
    let found = redis_protocol::resp3::decode::complete::decode_range(buf).map_err(drop)?;
    Ok(found.map(|(_, length)| length))
}

/// The outcome of `scan`, after checking what must hold of every outcome.
fn measured(buf: &[u8]) -> Result<Option<usize>, ScanError> {
    let outcome = scan(buf, &Limits::default());
    assert_eq!(outcome, Scanner::default().resume(buf, &Limits::default()), "scan and Scanner differ");
    match outcome? {
        Parsed::Complete(length) => {
            assert!((3..=buf.len()).contains(&length), "length {length} of {}", buf.len());
            Ok(Some(length))
        }
        Parsed::Incomplete { need } => {
            assert!(need > buf.len(), "need {need} with {} there", buf.len());
            Ok(None)
        }
    }
}

/// A request: its length and its arguments.
type Request = (usize, Vec<Vec<u8>>);

/// The same for `parse`, with the arguments.
fn parsed(buf: &[u8]) -> Result<Option<Request>, String> {
    let mut args = Arguments::new();
    match request::parse(buf, &Limits::default(), &mut args).map_err(|error| error.to_string())? {
        Parsed::Complete(consumed) => {
            assert!((1..=buf.len()).contains(&consumed), "consumed {consumed} of {}", buf.len());
            let words: Vec<Vec<u8>> = args.iter(buf).map(<[u8]>::to_vec).collect();
            assert_eq!(words.len(), args.len());
            if args.is_inline() {
                let mut array = Vec::new();
                write_command(&mut array, &words);
                assert_eq!(args.frame(buf), array);
            } else {
                assert_eq!(args.frame(buf), &buf[..consumed]);
            }
            Ok(Some((consumed, words)))
        }
        Parsed::Incomplete { need } => {
            assert!(need > buf.len(), "need {need} with {} there", buf.len());
            Ok(None)
        }
    }
}

/// Cuts and changes bytes: what a fault, or an attacker, makes of a message.
fn damaged(whole: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(b"\r\n$*:+-?_#%~0123456789".to_vec())];
    (whole, vec((any::<prop::sample::Index>(), byte), 0..4), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut bytes, changes, cut, cuts)| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cuts {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_replies_have_the_length_that_the_reference_finds(two in resp2(), three in resp3(), tail in vec(any::<u8>(), 0..20)) {
        for (reply, reference) in [(&two, reference2 as fn(&[u8]) -> Verdict), (&three, reference3)] {
            prop_assert_eq!(reference(reply), Ok(Some(reply.len())));
            prop_assert_eq!(measured(&[reply.as_slice(), &tail].concat()), Ok(Some(reply.len())));
            for cut in 0..reply.len() {
                prop_assert_eq!(measured(&reply[..cut]), Ok(None), "cut at {}", cut);
            }
        }
    }

    #[test]
    fn damaged_replies_are_judged_as_the_reference_does(reply in damaged(resp2())) {
        match (measured(&reply), reference2(&reply)) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            // Strict about CRLF, and about what can still become a reply.
            (Err(_), Ok(None)) | (Err(ScanError::MissingCrlf), _) | (Err(_), Err(())) => {}
            // A length that is wrong shows to the reference only in time.
            (Ok(None), Err(())) => {}
            // Damage can make a RESP3 type of it, which the scanner knows and the reference for RESP2 does not.
            (Ok(_), Err(())) if reply.iter().any(|byte| b"%~|>(#_,!=".contains(byte)) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?}, reference {theirs:?}"),
        }
    }

    #[test]
    fn damaged_resp3_never_gets_another_length(reply in damaged(resp3())) {
        if let (Ok(Some(ours)), Ok(Some(theirs))) = (measured(&reply), reference3(&reply)) {
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn requests_are_those_of_the_reference(words in vec(payload(), 1..10), tail in vec(any::<u8>(), 0..20)) {
        let mut bytes = Vec::new();
        write_command(&mut bytes, &words);
        prop_assert_eq!(reference2(&bytes), Ok(Some(bytes.len())));
        for cut in 0..bytes.len() {
            prop_assert_eq!(parsed(&bytes[..cut]), Ok(None), "cut at {}", cut);
        }
        let length = bytes.len();
        bytes.extend(tail);
        prop_assert_eq!(parsed(&bytes), Ok(Some((length, words))));
    }

    #[test]
    fn damaged_requests_are_judged_as_the_reference_does(words in damaged(vec(payload(), 1..6).prop_map(|words| {
        let mut bytes = Vec::new();
        write_command(&mut bytes, &words);
        bytes
    }))) {
        prop_assume!(words.first() == Some(&b'*'));
        if let Ok(Some((consumed, args))) = parsed(&words) {
            // A negative number of arguments is an empty request.
            prop_assert!(args.is_empty() || reference2(&words) == Ok(Some(consumed)));
        }
    }

    #[test]
    fn random_bytes_break_nothing(bytes in vec(any::<u8>(), 0..200), printable in "[*$:+0-9a\"'\\\\ \r\n-]{0,40}") {
        for buf in [bytes.as_slice(), printable.as_bytes()] {
            let _ = (measured(buf), parsed(buf), integer(buf), is_error(buf));
            prop_assert!(elements(buf).count() <= buf.len());
        }
    }

    #[test]
    fn elements_are_the_parts_of_an_array(items in vec(resp2(), 0..20)) {
        let array = aggregate('*', 1, items.clone());
        prop_assert_eq!(elements(&array).map(<[u8]>::to_vec).collect::<Vec<_>>(), items);
    }

    #[test]
    fn every_command_survives_any_arguments(
        index in any::<prop::sample::Index>(),
        words in vec("[-+]?[0-9]{1,20}|STREAMS|BLOCK|COUNT|GROUP|STORE|KEYS|BY|[a-z]{0,3}", 0..12),
    ) {
        let every: Vec<_> = commands::all().flat_map(|one| std::iter::once(one).chain(one.subcommands)).collect();
        let command = every[index.index(every.len())];
        let args: Vec<&[u8]> = std::iter::once(command.name.as_bytes()).chain(words.iter().map(|word| word.as_bytes())).collect();
        let arg = |index: usize| args.get(index).copied();
        let mut keys = Vec::new();
        let outcome = command.keys(args.len(), arg, &mut keys);
        prop_assert!(keys.iter().all(|&key| (1..args.len()).contains(&(key as usize))), "{keys:?}");
        let _ = command.blocks(args.len(), arg);
        let mut out = Vec::new();
        if let Err(error) = outcome {
            errors::key_error(&mut out, command, error);
        }
        let arg = |index: usize| if index == 0 { Some(&b"COMMAND"[..]) } else { arg(index - 1) };
        introspect::command(&mut out, args.len() + 1, arg, &|_| None);
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            let Ok(Some(length)) = measured(rest) else { panic!("not a reply: {:?}", rest.escape_ascii().to_string()) };
            rest = &rest[length..];
        }
    }
}
