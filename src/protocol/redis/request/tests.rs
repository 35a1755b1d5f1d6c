//! Requests whole, cut at each byte, pipelined; every refusal, with its text.

use super::*;

fn limits() -> Limits {
    Limits::default()
}

/// Length and arguments of the request at the front of `input`.
fn parsed(input: &str) -> (usize, Vec<String>) {
    let mut args = Arguments::new();
    let Ok(Parsed::Complete(consumed)) = parse(input.as_bytes(), &limits(), &mut args) else { panic!("{input:?}") };
    let words = args.iter(input.as_bytes()).map(|arg| arg.escape_ascii().to_string()).collect();
    (consumed, words)
}

fn refusal(input: &[u8]) -> RequestError {
    parse(input, &limits(), &mut Arguments::new()).expect_err("accepted")
}

const WHOLE: &[(&str, &[&str])] = &[
    ("*1\r\n$4\r\nPING\r\n", &["PING"]),
    ("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$12\r\nhello, world\r\n", &["SET", "key", "hello, world"]),
    ("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", &["GET", ""]),
    ("*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n", &["GET", r"\r\n\r\n"]),
    ("*0\r\n", &[]),
    ("*-1\r\n", &[]),
    ("*-10\r\n", &[]),
    ("\r\n", &[]),
    ("\n", &[]),
    ("  \t\r\n", &[]),
    ("PING\r\n", &["PING"]),
    ("get \"a b\"\n", &["get", "a b"]),
    ("set k 'it\\'s'\r\n", &["set", "k", r"it\'s"]),
];

#[test]
fn parses_whole_and_pipelined() {
    for (input, words) in WHOLE {
        assert_eq!(parsed(input), (input.len(), words.iter().map(|word| word.to_string()).collect()), "{input:?}");
        for (next, _) in WHOLE {
            assert_eq!(parsed(&format!("{input}{next}")), parsed(input), "{input:?} {next:?}");
        }
    }
}

#[test]
fn asks_for_more_at_each_cut_and_never_for_too_much() {
    let mut args = Arguments::new();
    for (input, _) in WHOLE {
        for cut in 0..input.len() {
            let outcome = parse(&input.as_bytes()[..cut], &limits(), &mut args);
            let Ok(Parsed::Incomplete { need }) = outcome else { panic!("{input:?} cut at {cut}: {outcome:?}") };
            assert!(need > cut && need <= input.len(), "{input:?} cut at {cut}: need {need}");
        }
    }
}

#[test]
fn need_counts_what_is_announced() {
    let need = |input: &str| parse(input.as_bytes(), &limits(), &mut Arguments::new());
    assert_eq!(need(""), Ok(Parsed::Incomplete { need: 1 }));
    assert_eq!(need("*100\r\n"), Ok(Parsed::Incomplete { need: 6 + 600 }));
    assert_eq!(need("*3\r\n$1000\r\n"), Ok(Parsed::Incomplete { need: 11 + 1002 + 12 }));
    assert_eq!(need("GET k"), Ok(Parsed::Incomplete { need: 6 }));
}

#[test]
fn an_inline_command_is_forwarded_as_an_array() {
    let input = b"set k \"a\\x00b\"\r\nPING\r\n";
    let mut args = Arguments::new();
    assert_eq!(parse(input, &limits(), &mut args), Ok(Parsed::Complete(16)));
    assert!(args.is_inline());
    assert_eq!(args.frame(input), b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$3\r\na\0b\r\n");
    assert_eq!(args.get(input, 2), Some(&b"a\0b"[..]));
    assert_eq!(args.get(input, 3), None);

    let long = format!("ECHO {} {}\n", "x".repeat(1234), "y ".repeat(20));
    assert_eq!(parse(long.as_bytes(), &limits(), &mut args), Ok(Parsed::Complete(long.len())));
    assert_eq!((args.len(), args.get(b"", 1)), (22, Some("x".repeat(1234).as_bytes())));
    assert_eq!(args.get(b"", 21), Some(&b"y"[..]));
}

#[test]
fn an_array_is_forwarded_as_it_came() {
    let input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n";
    let mut args = Arguments::new();
    parse(b"inline first\n", &limits(), &mut args).unwrap();
    assert_eq!(parse(input, &limits(), &mut args), Ok(Parsed::Complete(20)));
    assert!(!args.is_inline() && !args.is_empty());
    assert_eq!((args.len(), args.frame(input)), (2, &input[..20]));
}

#[test]
fn refuses_with_the_wording_of_redis() {
    for (input, text) in [
        ("*x\r\n", "Protocol error: invalid multibulk length"),
        ("*01\r\n", "Protocol error: invalid multibulk length"),
        ("*+1\r\n", "Protocol error: invalid multibulk length"),
        ("*\r\n", "Protocol error: invalid multibulk length"),
        ("*2147483648\r\n", "Protocol error: invalid multibulk length"),
        ("*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        ("*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
        ("*1\r\n\r\n", "Protocol error: expected '$', got ' '"),
        ("*1\r\n\x07\r\n", "Protocol error: expected '$', got '?'"),
        ("*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        ("*1\r\n$x", "Protocol error: invalid bulk length"),
        ("*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
        ("*1\r\n$1000000000000\r\n", "Protocol error: invalid bulk length"),
        ("*1\r\n$4\r\nPINGxx", "Protocol error: expected CRLF"),
        ("*1\r\n$4\r\nPINGx", "Protocol error: expected CRLF"),
        ("*1\rx", "Protocol error: expected CRLF"),
        ("GET \"a\r\n", "Protocol error: unbalanced quotes in request"),
        ("*1000000000\r\n", "Protocol error: too many arguments, the limit is 1048576"),
        ("POST / HTTP/1.1\r\n", "Protocol error: this is not an HTTP server"),
        ("host: localhost\r\n", "Protocol error: this is not an HTTP server"),
    ] {
        assert_eq!(refusal(input.as_bytes()).to_string(), text, "{input:?}");
    }
    assert_eq!(refusal(&[b'x'; 64 * 1024]), RequestError::TooBigInline);
}

#[test]
fn limits_hold_before_the_bytes_arrive() {
    let small = Limits { max_request_bytes: 100, max_arguments: 50, max_line_bytes: 10, ..limits() };
    let outcome = |input: &str| parse(input.as_bytes(), &small, &mut Arguments::new());
    assert_eq!(outcome("*51\r\n"), Err(RequestError::TooManyArguments(50)));
    assert_eq!(outcome("*17\r\n"), Err(RequestError::TooLarge(100)));
    assert_eq!(outcome("*15\r\n"), Ok(Parsed::Incomplete { need: 95 }));
    assert_eq!(outcome("*1\r\n$90\r\n"), Err(RequestError::TooLarge(100)));
    assert_eq!(outcome("*1\r\n$89\r\n"), Ok(Parsed::Incomplete { need: 100 }));
    assert_eq!(outcome("*2\r\n$84\r\n"), Err(RequestError::TooLarge(100)));
    assert_eq!(outcome(&format!("*1\r\n$90\r\n{}\r\n", "x".repeat(90))), Err(RequestError::TooLarge(100)));
    assert_eq!(outcome("012345678\n"), Ok(Parsed::Complete(10)));
    assert_eq!(outcome("0123456789\n"), Err(RequestError::TooBigInline));
    assert_eq!(outcome("012345678"), Ok(Parsed::Incomplete { need: 10 }));
    assert_eq!(outcome("0123456789"), Err(RequestError::TooBigInline));
}

#[test]
fn gives_memory_back() {
    let mut args = Arguments::new();
    let large = format!("*20000\r\n{}", "$1\r\na\r\n".repeat(20_000));
    parse(large.as_bytes(), &limits(), &mut args).unwrap();
    args.ranges.clear();
    args.shrink();
    assert!(args.ranges.capacity() <= 4096);
}
