use proptest::prelude::*;

use super::*;
use crate::protocol::memcached::Verb;

fn small() -> Limits {
    Limits { max_response_bytes: 4096, max_line_bytes: 512, ..Limits::default() }
}

fn scanned(buf: &[u8], expect: Expect) -> Result<Parsed<usize>, ScanError> {
    scan(buf, expect, &small())
}

/// Whole replies of each shape.
const REPLIES: &[(Expect, &str)] = &[
    (Expect::Values, "END\r\n"),
    (Expect::Values, "VALUE a 0 1\r\nx\r\nEND\r\n"),
    (Expect::Values, "VALUE a 4294967295 0\r\n\r\nVALUE b\rb 7 7\r\nEND\r\n\r\n\r\nEND\r\n"),
    (Expect::Values, "VALUE a 0 1\r\nx\r\nSERVER_ERROR out of memory writing get response\r\n"),
    (Expect::ValuesUnique, "END\r\n"),
    (Expect::ValuesUnique, "VALUE a 0 1 18446744073709551615\r\nx\r\nEND\r\n"),
    (Expect::Stored, "STORED\r\n"),
    (Expect::Stored, "NOT_STORED\r\n"),
    (Expect::Stored, "SERVER_ERROR object too large for cache\r\n"),
    (Expect::StoredUnique, "STORED\r\n"),
    (Expect::StoredUnique, "EXISTS\r\n"),
    (Expect::StoredUnique, "NOT_FOUND\r\n"),
    (Expect::Number, "0\r\n"),
    (Expect::Number, "18446744073709551615\r\n"),
    (Expect::Number, "NOT_FOUND\r\n"),
    (Expect::Number, "CLIENT_ERROR invalid numeric delta argument\r\n"),
    (Expect::Deleted, "DELETED\r\n"),
    (Expect::Deleted, "NOT_FOUND\r\n"),
    (Expect::Touched, "TOUCHED\r\n"),
    (Expect::Touched, "NOT_FOUND\r\n"),
    (Expect::Ok, "OK\r\n"),
    (Expect::Version, "VERSION 1.6.18\r\n"),
    (Expect::Stats, "END\r\n"),
    (Expect::Stats, "STAT pid 1\r\nSTAT version 1.6.18\r\nEND\r\n"),
    (Expect::Stats, "RESET\r\n"),
];

const ERRORS: [&str; 4] = [
    "ERROR\r\n",
    "ERROR Too many open connections\r\n",
    "CLIENT_ERROR bad command line format\r\n",
    "SERVER_ERROR\r\n",
];

fn every_reply() -> impl Iterator<Item = (Expect, &'static str)> {
    let errors = Verb::all()
        .map(Verb::expect)
        .filter(|&expect| expect != Expect::Nothing)
        .flat_map(|expect| ERRORS.map(|error| (expect, error)));
    REPLIES.iter().copied().chain(errors)
}

#[test]
fn whole_replies_alone_and_followed_by_others() {
    for (expect, reply) in every_reply() {
        assert_eq!(scanned(reply.as_bytes(), expect), Ok(Parsed::Complete(reply.len())), "{reply:?}");
        let followed = format!("{reply}VALUE a");
        assert_eq!(scanned(followed.as_bytes(), expect), Ok(Parsed::Complete(reply.len())), "{reply:?}");
    }
}

#[test]
fn split_at_each_byte() {
    for (expect, reply) in every_reply() {
        for cut in 0..reply.len() {
            match scanned(&reply.as_bytes()[..cut], expect) {
                Ok(Parsed::Incomplete { need }) => {
                    assert!(cut < need && need <= reply.len(), "{reply:?} at {cut}: {need}");
                }
                other => panic!("{reply:?} at {cut}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_reply_of_another_shape_is_an_error() {
    for (expect, _) in REPLIES {
        for (_, reply) in REPLIES {
            let allowed = REPLIES.iter().any(|(shape, same)| shape == expect && same == reply)
                || ERRORS.iter().any(|error| reply.starts_with(error.split([' ', '\r']).next().unwrap()))
                || (*expect, *reply) == (Expect::StoredUnique, "NOT_STORED\r\n")
                || (*expect, *reply) == (Expect::Stats, "OK\r\n");
            let result = scanned(reply.as_bytes(), *expect);
            assert_eq!(result.is_ok(), allowed, "{reply:?} for {expect:?}: {result:?}");
            if !allowed {
                assert_eq!(result, Err(ScanError::Unexpected(*expect)), "{reply:?}");
            }
        }
    }
    assert_eq!(scanned(b"OK\r\n", Expect::Nothing), Err(ScanError::Unexpected(Expect::Nothing)));
    assert_eq!(scanned(b"", Expect::Nothing), Ok(Parsed::Complete(0)));
}

#[test]
fn malformed_replies() {
    let too_large = ScanError::TooLarge { limit: 4096 };
    for (reply, error) in [
        ("END\n", ScanError::LineEnd),
        ("VALUE a 0 1\nx\r\nEND\r\n", ScanError::LineEnd),
        ("VALUE a 0 1\r\nxy\r\nEND\r\n", ScanError::DataBlock),
        ("VALUE a 0 2\r\nx\r\nEND\r\n", ScanError::DataBlock),
        ("VALUE a 0\r\nx\r\nEND\r\n", ScanError::ValueLine),
        ("VALUE  0 1\r\nx\r\nEND\r\n", ScanError::ValueLine),
        ("VALUE a x 1\r\nx\r\nEND\r\n", ScanError::ValueLine),
        ("VALUE a 0 -1\r\nx\r\nEND\r\n", ScanError::ValueLine),
        ("VALUE a 0 1 \r\nx\r\nEND\r\n", ScanError::ValueLine),
        ("VALUE a 0 1 2 3\r\nx\r\nEND\r\n", ScanError::ValueLine),
        ("VALUE a 0 99999999999\r\n", ScanError::ValueLine),
        ("VALUE a 0 9999999999\r\n", too_large),
        ("VALUE a 0 4096\r\n", too_large),
        ("ERRORS\r\n", ScanError::Unexpected(Expect::Values)),
        ("\r\n", ScanError::Unexpected(Expect::Values)),
    ] {
        assert_eq!(scanned(reply.as_bytes(), Expect::Values), Err(error), "{reply:?}");
    }
    let long_key = format!("VALUE {} 0 1\r\nx\r\nEND\r\n", "k".repeat(251));
    assert_eq!(scanned(long_key.as_bytes(), Expect::Values), Err(ScanError::ValueLine));
    for number in ["", "-1", "1 ", "1x", "111111111111111111111"] {
        let reply = format!("{number}\r\n");
        assert_eq!(scanned(reply.as_bytes(), Expect::Number), Err(ScanError::Unexpected(Expect::Number)), "{number}");
    }
}

#[test]
fn lines_and_replies_are_bounded() {
    let line = [b'x'; 600];
    assert_eq!(scanned(&line[..511], Expect::Ok), Ok(Parsed::Incomplete { need: 512 }));
    assert_eq!(scanned(&line[..512], Expect::Ok), Err(ScanError::LineTooLong { limit: 512 }));
    let endless = "VALUE a 0 1\r\nx\r\n".repeat(300);
    assert_eq!(scanned(endless.as_bytes(), Expect::Values), Err(ScanError::TooLarge { limit: 4096 }));
    assert_eq!(scanned(&endless.as_bytes()[..4096], Expect::Values), Err(ScanError::TooLarge { limit: 4096 }));
    let endless = "STAT a 1\r\n".repeat(500);
    assert_eq!(scanned(&endless.as_bytes()[..4090], Expect::Stats), Ok(Parsed::Incomplete { need: 4095 }));
    assert_eq!(scanned(&endless.as_bytes()[..4100], Expect::Stats), Err(ScanError::TooLarge { limit: 4096 }));
}

#[test]
fn a_large_value_is_asked_for_as_a_whole() {
    let header = "VALUE a 0 1000\r\n";
    assert_eq!(scanned(header.as_bytes(), Expect::Values), Ok(Parsed::Incomplete { need: header.len() + 1002 + 5 }));
}

#[test]
fn values_are_taken_out_for_merging() {
    let reply = b"VALUE a 5 1\r\nx\r\nVALUE bb 0 7 12\r\nEND\r\n\r\n\r\nEND\r\n";
    let found: Vec<_> = values(reply).collect();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], Value { key: b"a", data: b"x", whole: b"VALUE a 5 1\r\nx\r\n" });
    assert_eq!((found[1].key, found[1].data), (&b"bb"[..], &b"END\r\n\r\n"[..]));
    assert_eq!([found[0].whole, found[1].whole, END].concat(), reply);
    assert_eq!(values(b"END\r\n").count(), 0);
    assert_eq!(values(b"VALUE a 0 5\r\nx\r\n").count(), 0, "not whole");
}

#[test]
fn error_lines() {
    assert_eq!(error_line(b"SERVER_ERROR out of memory\r\n"), Some(&b"SERVER_ERROR out of memory"[..]));
    assert_eq!(error_line(b"VALUE a 0 7\r\nERROR\r\n\r\nEND\r\n"), None);
    assert_eq!(error_line(b"VALUE a 0 1\r\nx\r\nERROR\r\n"), Some(&b"ERROR"[..]));
    assert_eq!(error_line(b"STORED\r\n"), None);
    assert_eq!(error_line(b""), None);
}

#[test]
fn a_server_that_may_have_taken_a_value_for_commands_is_out_of_step() {
    assert!(leaves_out_of_step(b"ERROR\r\n", Expect::Stored));
    assert!(leaves_out_of_step(b"CLIENT_ERROR bad data chunk\r\n", Expect::StoredUnique));
    assert!(!leaves_out_of_step(b"SERVER_ERROR object too large for cache\r\n", Expect::Stored));
    assert!(!leaves_out_of_step(b"ERROR\r\n", Expect::Values));
    assert!(!leaves_out_of_step(b"STORED\r\n", Expect::Stored));
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(REPLIES.iter().map(|(_, reply)| reply.as_bytes().to_vec()).collect::<Vec<_>>()),
        proptest::sample::select(
            ["VALUE ", "a ", "0 ", "1", "\r\n", "x\r\n", "END", "ERROR", "STAT "]
                .map(|word| word.as_bytes().to_vec())
                .to_vec()
        ),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn anything_is_scanned_within_its_bounds(buf in streams()) {
        for expect in Verb::all().map(Verb::expect) {
            match scanned(&buf, expect) {
                Ok(Parsed::Complete(end)) => {
                    prop_assert!(end <= buf.len());
                    let reply = &buf[..end];
                    let items: usize = values(reply).map(|value| value.whole.len()).sum();
                    prop_assert!(items <= end);
                    if expect.is_values() {
                        let rest = &reply[items..];
                        prop_assert!(rest == END || error_line(reply).is_some_and(|line| line.len() + 2 == rest.len()));
                    }
                }
                Ok(Parsed::Incomplete { need }) => prop_assert!(need > buf.len()),
                Err(_) => {}
            }
        }
        error_line(&buf);
    }

    #[test]
    fn more_bytes_never_change_a_settled_reply(buf in streams(), more in streams()) {
        for expect in Verb::all().map(Verb::expect).filter(|&expect| expect != Expect::Nothing) {
            if let Ok(Parsed::Complete(end)) = scanned(&buf, expect) {
                prop_assert_eq!(scanned(&[&buf[..], &more].concat(), expect), Ok(Parsed::Complete(end)));
            }
        }
    }
}

#[test]
fn a_reply_has_the_keys_of_its_request_in_their_order() {
    let reply = |keys: &[&str]| -> Vec<u8> {
        let value = |key: &&str| format!("VALUE {key} 0 3\r\na b\r\n");
        (keys.iter().map(value).collect::<String>() + "END\r\n").into_bytes()
    };
    for (line, keys) in [
        ("get a\r\n", &["a"][..]),
        ("get a\r\n", &[]),
        ("get a\n", &["a"]),
        (" get  a \r\n", &["a"]),
        ("gets a\r\n", &["a"]),
        ("gat 60 a\r\n", &["a"]),
        ("gats  60  a 60\r\n", &["60"]),
        ("get a b c\r\n", &["a", "b", "c"]),
        ("get a b c\r\n", &["b"]),
        ("get a b c\r\n", &["a", "c"]),
        ("get a b a\r\n", &["a", "b", "a"]),
        ("get a\rb c\r\n", &["a\rb"]),
        ("get get\r\n", &["get"]),
    ] {
        assert!(is_reply_to(line.as_bytes(), &reply(keys)), "{line:?} {keys:?}");
    }
    for (line, keys) in [
        ("get a\r\n", &["b"][..]),
        ("get a\r\n", &["ab"]),
        ("get ab\r\n", &["a"]),
        ("get a\r\n", &["a", "a"]),
        ("get a\r\n", &["a", "b"]),
        ("gets a\r\n", &["gets"]),
        ("gat 60 a\r\n", &["60"]),
        ("gat 60 a\r\n", &["gat"]),
        ("get a b c\r\n", &["b", "a"]),
        ("get a b c\r\n", &["a", "d"]),
        ("get k 0\r\n", &["0", "k"]),
    ] {
        assert!(!is_reply_to(line.as_bytes(), &reply(keys)), "{line:?} {keys:?}");
    }
    for other in ["SERVER_ERROR out of memory\r\n", "END\r\n"] {
        assert!(is_reply_to(b"get a\r\n", other.as_bytes()));
    }
    // An error may stand behind a value; what looks like an item inside a value is none.
    assert!(is_reply_to(b"get a\r\n", b"VALUE a 0 1\r\nx\r\nSERVER_ERROR x\r\n"));
    assert!(is_reply_to(b"get a\r\n", b"VALUE a 0 13\r\nVALUE b 0 1\r\n\r\nEND\r\n"));
}

/// Found by the fuzzer: what the reader waits for must not be more than the shortest reply.
#[test]
fn an_ok_in_place_of_statistics_is_not_waited_beyond() {
    assert_eq!(scanned(b"", Expect::Stats), Ok(Parsed::Incomplete { need: 4 }));
    assert_eq!(scanned(b"O", Expect::Stats), Ok(Parsed::Incomplete { need: 4 }));
    assert_eq!(scanned(b"OK\r\n", Expect::Stats), Ok(Parsed::Complete(4)));
}

/// Found by the fuzzer: a length was reckoned before it was known to be one.
#[test]
fn a_length_of_too_many_digits_is_a_malformed_line() {
    let line = format!("VALUE a 0 {}\r\n", "9".repeat(30));
    assert_eq!(scanned(line.as_bytes(), Expect::Values), Err(ScanError::ValueLine));
}
