//! Every type whole, cut at each byte, pipelined, in instalments; every refusal.

use super::*;

const WHOLE: &[&str] = &[
    "+OK\r\n",
    "+\r\n",
    "-ERR unknown\r\n",
    ":0\r\n",
    ":-9223372036854775808\r\n",
    "$0\r\n\r\n",
    "$5\r\nhello\r\n",
    "$4\r\n\r\n\r\n\r\n",
    "$-1\r\n",
    "*-1\r\n",
    "*0\r\n",
    "*2\r\n$1\r\na\r\n$-1\r\n",
    "*2\r\n*2\r\n:1\r\n*0\r\n*1\r\n+x\r\n",
    "_\r\n",
    "#t\r\n",
    "#f\r\n",
    ",1.25\r\n",
    ",-inf\r\n",
    ",nan\r\n",
    "(3492890328409238509324850943850943825024385\r\n",
    "!5\r\nERR x\r\n",
    "=7\r\ntxt:abc\r\n",
    "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
    "%0\r\n",
    "~2\r\n:1\r\n:2\r\n",
    ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
    "|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n",
    "|0\r\n:1\r\n",
    "*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n",
];

fn limits() -> Limits {
    Limits::default()
}

fn length(reply: &str) -> Result<Parsed<usize>, ScanError> {
    scan(reply.as_bytes(), &limits())
}

#[test]
fn measures_every_type_whole_and_pipelined() {
    for reply in WHOLE {
        assert_eq!(length(reply), Ok(Parsed::Complete(reply.len())), "{reply:?}");
        for next in WHOLE {
            assert_eq!(length(&format!("{reply}{next}")), Ok(Parsed::Complete(reply.len())), "{reply:?} {next:?}");
        }
    }
}

#[test]
fn asks_for_more_at_each_cut_and_never_for_too_much() {
    for reply in WHOLE {
        for cut in 0..reply.len() {
            let Ok(Parsed::Incomplete { need }) = length(&reply[..cut]) else { panic!("{reply:?} cut at {cut}") };
            assert!(need > cut && need <= reply.len(), "{reply:?} cut at {cut}: need {need}");
        }
    }
}

#[test]
fn instalments_of_any_size_give_the_same_length() {
    let whole = format!("*{}\r\n{}", WHOLE.len(), WHOLE.concat());
    for step in 1..whole.len() {
        let mut scanner = Scanner::default();
        let mut arrived = step;
        while arrived < whole.len() {
            let outcome = scanner.resume(&whole.as_bytes()[..arrived], &limits());
            let Ok(Parsed::Incomplete { need }) = outcome else { panic!("{outcome:?} after {arrived} bytes") };
            assert!(need > arrived && need <= whole.len(), "after {arrived} bytes: need {need}");
            arrived += step;
        }
        assert_eq!(
            scanner.resume(whole.as_bytes(), &limits()),
            Ok(Parsed::Complete(whole.len())),
            "in steps of {step}"
        );
    }
}

#[test]
fn need_counts_what_is_announced() {
    assert_eq!(length("$1000\r\nab"), Ok(Parsed::Incomplete { need: 1009 }));
    assert_eq!(length("*100\r\n"), Ok(Parsed::Incomplete { need: 6 + 300 }));
    assert_eq!(length("*100\r\n*50\r\n"), Ok(Parsed::Incomplete { need: 11 + 150 + 297 }));
    assert_eq!(length("%100\r\n$1000\r\n"), Ok(Parsed::Incomplete { need: 13 + 1002 + 199 * 3 }));
}

#[test]
fn refuses_what_is_no_reply() {
    use ScanError::*;
    for (reply, error) in [
        ("x", UnknownType(b'x')),
        ("\r\n", UnknownType(b'\r')),
        ("*1\r\nx", UnknownType(b'x')),
        ("$?\r\n", Streamed),
        ("*?\r\n", Streamed),
        ("%?", Streamed),
        (";4\r\n", Streamed),
        (".\r\n", Streamed),
        ("$-2\r\n", InvalidLength),
        ("*-2\r\n", InvalidLength),
        ("%-1\r\n", InvalidLength),
        ("~-1\r\n", InvalidLength),
        (">-1\r\n", InvalidLength),
        ("!-1\r\n", InvalidLength),
        ("=3\r\ntxt\r\n", InvalidLength),
        ("$\r\n", InvalidLength),
        ("$a\r\n", InvalidLength),
        ("$99999999999999999999\r\n", InvalidLength),
        (":\r\n", InvalidValue),
        (":1a\r\n", InvalidValue),
        (":9223372036854775808\r\n", InvalidValue),
        ("_x\r\n", MissingCrlf),
        ("#x\r\n", InvalidValue),
        (",x\r\n", InvalidValue),
        ("(1.5\r\n", InvalidValue),
        ("(\r\n", InvalidValue),
        ("+a\nb\r\n", MissingCrlf),
        ("+a\rb\r\n", MissingCrlf),
        ("$1\r\nab", MissingCrlf),
        ("$1\r\na\rx", MissingCrlf),
        ("$1\rxa\r\n", MissingCrlf),
        ("$9223372036854775807\r\n", TooLong),
        ("*9223372036854775807\r\n", TooLong),
        ("%9223372036854775807\r\n", TooLong),
        ("*1000000000\r\n", TooLong),
        ("$2000000000\r\n", TooLong),
    ] {
        assert_eq!(length(reply), Err(error), "{reply:?}");
    }
}

#[test]
fn depth_is_bounded_by_the_limit_and_by_the_stack() {
    let nested = |depth: usize| format!("{}:1\r\n", "*1\r\n".repeat(depth));
    let reply = nested(32);
    assert_eq!(length(&reply), Ok(Parsed::Complete(reply.len())));
    assert_eq!(length(&nested(33)), Err(ScanError::TooDeep));
    let generous = Limits { max_nesting: usize::MAX, ..limits() };
    assert_eq!(scan(nested(NESTING_CAP + 1).as_bytes(), &generous), Err(ScanError::TooDeep));
    assert_eq!(scan(nested(100_000).as_bytes(), &generous), Err(ScanError::TooDeep));
    let flat = Limits { max_nesting: 0, ..limits() };
    assert_eq!(scan(b"*1\r\n", &flat), Err(ScanError::TooDeep));
    assert_eq!(scan(b"*0\r\n", &flat), Ok(Parsed::Complete(4)));
}

#[test]
fn size_is_bounded_by_the_limit() {
    let small = Limits { max_response_bytes: 100, ..limits() };
    assert_eq!(scan(b"$93\r\n", &small), Ok(Parsed::Incomplete { need: 100 }));
    assert_eq!(scan(b"$94\r\n", &small), Err(ScanError::TooLong));
    assert_eq!(scan(&[&b"+"[..], &[b'x'; 120]].concat(), &small), Err(ScanError::TooLong));
    assert_eq!(scan(b"*2\r\n*3\r\n$83\r\n", &small), Err(ScanError::TooLong));
}

#[test]
fn takes_an_array_apart() {
    let reply = b"*4\r\n$1\r\na\r\n$-1\r\n*2\r\n:1\r\n:2\r\n-ERR x\r\n";
    let parts: Vec<&[u8]> = elements(reply).collect();
    assert_eq!(parts, [&b"$1\r\na\r\n"[..], b"$-1\r\n", b"*2\r\n:1\r\n:2\r\n", b"-ERR x\r\n"]);
    assert_eq!(elements(reply).left(), 4);
    for none in [&b"*0\r\n"[..], b"*-1\r\n", b"$1\r\na\r\n", b"", b"*x\r\n"] {
        assert_eq!(elements(none).count(), 0, "{none:?}");
    }
    assert_eq!(elements(b"%1\r\n+a\r\n:1\r\n").collect::<Vec<_>>(), [&b"+a\r\n"[..], b":1\r\n"]);
    assert_eq!(elements(b"~1\r\n+a\r\n").count(), 1);
    assert_eq!(elements(b"*1000000\r\n:1\r\n:2\r\n").count(), 2, "a lying header ends with the bytes");
}

#[test]
fn reads_what_a_string_says() {
    for (reply, said) in [
        (&b"$5\r\na\r\nbc\r\n"[..], Some(&b"a\r\nbc"[..])),
        (b"$0\r\n\r\n", Some(b"")),
        (b"=7\r\ntxt:a\r\n\r\n", Some(b"a\r\n")),
        (b"+OK\r\n", Some(b"OK")),
        (b"$-1\r\n", None),
        (b"_\r\n", None),
        (b":1\r\n", None),
        (b"-ERR x\r\n", None),
        (b"=3\r\nabc\r\n", None),
        (b"", None),
    ] {
        assert_eq!(text(reply), said, "{}", reply.escape_ascii());
    }
}

#[test]
fn reads_integers_and_knows_errors() {
    assert_eq!(integer(b":42\r\n"), Some(42));
    assert_eq!(integer(b":-1\r\n"), Some(-1));
    for none in [&b"$1\r\n1\r\n"[..], b":1", b":\r\n", b":x\r\n", b""] {
        assert_eq!(integer(none), None, "{none:?}");
    }
    assert!(is_error(b"-ERR x\r\n") && is_error(b"!5\r\nERR x\r\n"));
    assert!(!is_error(b"+OK\r\n") && !is_error(b""));
    for (reply, word) in [
        (&b"-LOADING Redis is loading the dataset in memory\r\n"[..], Some(&b"LOADING"[..])),
        (b"-OOM\r\n", Some(b"OOM")),
        (b"!9\r\nBUSY x\r\ny\r\n", Some(b"BUSY")),
        (b"-\r\n", Some(b"")),
        (b"!", None),
        (b"+LOADING x\r\n", None),
        (b"", None),
    ] {
        assert_eq!(error_word(reply), word, "{}", reply.escape_ascii());
    }
}
