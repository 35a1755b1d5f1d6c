use proptest::prelude::*;

use super::*;

const KEY_250: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\
    kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\
    kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\
    kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\
    kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

fn small() -> Limits {
    Limits { max_request_bytes: 4096, max_line_bytes: 1024, max_arguments: 64, ..Limits::default() }
}

fn parsed(buf: &[u8]) -> (Outcome, Request) {
    let mut request = Request::default();
    (parse(buf, &small(), &mut request), request)
}

fn text(buf: &[u8], span: Option<Span>) -> &str {
    std::str::from_utf8(part(buf, span.expect("there is such a word"))).unwrap()
}

/// Complete requests and what they say: verb, keys, what is forwarded.
fn complete_requests() -> Vec<(String, Verb, Vec<String>, String)> {
    let mut cases = Vec::new();
    let mut add = |request: &str, verb: Verb, keys: &[&str], forwarded: &str| {
        cases.push((
            request.to_owned(),
            verb,
            keys.iter().map(|key| (*key).to_owned()).collect(),
            forwarded.to_owned(),
        ));
    };
    let mut same = |request: &str, verb: Verb, keys: &[&str]| add(request, verb, keys, request);
    same("get a\r\n", Verb::Get, &["a"]);
    same("get a\n", Verb::Get, &["a"]);
    same("  get   a  bb  \r\n", Verb::Get, &["a", "bb"]);
    same("get a\r\r\n", Verb::Get, &["a\r"]);
    same("get noreply\r\n", Verb::Get, &["noreply"]);
    same("gets a b a\r\n", Verb::Gets, &["a", "b", "a"]);
    same("gat -1 a b\r\n", Verb::Gat, &["a", "b"]);
    same("gats 60 a\r\n", Verb::Gats, &["a"]);
    same(&format!("get {KEY_250}\r\n"), Verb::Get, &[KEY_250]);
    same("set a 0 0 1\r\nx\r\n", Verb::Set, &["a"]);
    same("set a\tb 4294967295 -1 0\n\r\n", Verb::Set, &["a\tb"]);
    same("set a 0 0 5 later\r\n\r\n\0\r\n\r\n", Verb::Set, &["a"]);
    same("add a 0 99999999999 3\r\nget\r\n", Verb::Add, &["a"]);
    same("replace a 1 2 03\r\nxyz\r\n", Verb::Replace, &["a"]);
    same("append a 1 2 3\r\nxyz\r\n", Verb::Append, &["a"]);
    same("prepend a 1 2 3\r\nxyz\r\n", Verb::Prepend, &["a"]);
    same("cas a 1 2 3 18446744073709551615\r\nxyz\r\n", Verb::Cas, &["a"]);
    same("incr a 1\r\n", Verb::Incr, &["a"]);
    same("decr a x 7\r\n", Verb::Decr, &["a"]);
    same("delete a\r\n", Verb::Delete, &["a"]);
    same("delete a 0\r\n", Verb::Delete, &["a"]);
    same("delete noreply\r\n", Verb::Delete, &["noreply"]);
    same("touch a -5\r\n", Verb::Touch, &["a"]);
    same("flush_all\r\n", Verb::FlushAll, &[]);
    same("flush_all -1 x\r\n", Verb::FlushAll, &[]);
    same("version and more\r\n", Verb::Version, &[]);
    same("verbosity x\r\n", Verb::Verbosity, &[]);
    same("stats items\r\n", Verb::Stats, &[]);
    same("quit\n", Verb::Quit, &[]);
    add("set a 0 0 1 noreply\r\nx\r\n", Verb::Set, &["a"], "set a 0 0 1\r\nx\r\n");
    add("set  a  0  0  1  noreply  \nx\r\n", Verb::Set, &["a"], "set  a  0  0  1   \nx\r\n");
    add("cas a 0 0 1 7 noreply\r\nx\r\n", Verb::Cas, &["a"], "cas a 0 0 1 7\r\nx\r\n");
    add("decr a 1 noreply\r\n", Verb::Decr, &["a"], "decr a 1\r\n");
    add("delete a noreply\r\n", Verb::Delete, &["a"], "delete a\r\n");
    add("delete a 0 noreply\r\n", Verb::Delete, &["a"], "delete a 0\r\n");
    add("touch a 1 noreply\r\n", Verb::Touch, &["a"], "touch a 1\r\n");
    add("flush_all noreply\r\n", Verb::FlushAll, &[], "flush_all\r\n");
    add("flush_all 10 noreply\r\n", Verb::FlushAll, &[], "flush_all 10\r\n");
    add("verbosity 1 noreply\r\n", Verb::Verbosity, &[], "verbosity 1\r\n");
    cases
}

/// Refused requests: what of them belongs to the request, the answer, and whether it is sent.
fn rejected_requests() -> Vec<(String, usize, Rejection, bool)> {
    let mut cases = Vec::new();
    let mut add = |request: &str, consumed: usize, reply: Rejection, noreply: bool| {
        cases.push((request.to_owned(), consumed, reply, noreply));
    };
    let mut line = |request: &str, reply| add(request, request.find('\n').unwrap() + 1, reply, false);
    for request in ["\r\n", "\n", " \r\n", "get\r\n", "get \r\n", "gat 0\r\n", "GET a\r\n", "bget a\r\n", "\rget a\r\n"]
    {
        line(request, Rejection::Error);
    }
    for request in
        ["set a 0 0\r\nx\r\n", "set a 0 0 1 2 noreply\r\n", "cas a 0 0 1\r\nx\r\n", "set\r\n", "version\r\r\n"]
    {
        line(request, Rejection::Error);
    }
    for request in ["delete\r\n", "delete a 0 noreply x\r\n", "incr a\r\n", "touch a 1 2 3\r\n", "flush_all 0 1 2\r\n"]
    {
        line(request, Rejection::Error);
    }
    for request in ["verbosity\r\n", "verbosity 1 2 3\r\n", "mx a\r\n", "\0get a\r\n", "get \0a\r\n", "get\ta\r\n"] {
        line(request, Rejection::Error);
    }
    for request in ["set a x 0 1\r\nx\r\n", "set a 0 x 1\r\nx\r\n", "set a 0 0 -1\r\nx\r\n", "cas a 0 0 1 x\r\nx\r\n"] {
        line(request, Rejection::BadFormat);
    }
    for verb in ["get", "gets", "gat 0", "gets a", "delete", "touch", "incr", "set"] {
        let rest = match verb {
            "set" => " 0 0 1",
            "touch" | "incr" => " 1",
            _ => "",
        };
        line(&format!("{verb} {KEY_250}k{rest}\r\nx\r\n"), Rejection::BadFormat);
    }
    line("get a\0b\r\n", Rejection::BadFormat);
    line("version\0\r\n", Rejection::BadFormat);
    line("gat +1 a\r\n", Rejection::BadFormat);
    line("gat x a\r\n", Rejection::InvalidExptime);
    line("gat a\r\n", Rejection::InvalidExptime);
    line("flush_all x\r\n", Rejection::InvalidExptime);
    line("delete a 1\r\n", Rejection::DeleteUsage);
    line("delete a noreply 0\r\n", Rejection::DeleteUsage);
    line(&format!("get{}\r\n", " a".repeat(64)), Rejection::TooManyKeys);
    for request in ["mg a\r\n", "md a q\r\n", "mn\r\n", "me a\r\n", "ma a\r\n", "ms\r\n", "ms a\r\n", "ms a x\r\nx\r\n"]
    {
        line(request, Rejection::Meta);
    }
    let mut whole = |request: &str, reply| add(request, request.len(), reply, false);
    whole("ms a 1 T0\r\nx\r\n", Rejection::Meta);
    whole("set a 0 0 1\0\r\nx\r\n", Rejection::BadFormat);
    whole("set a 0 0 +1\r\nx\r\n", Rejection::BadFormat);
    whole("set a 0 0 4294967297\r\nx\r\n", Rejection::BadFormat);
    whole("set a 4294967296 0 1\r\nx\r\n", Rejection::BadFormat);
    whole("cas a 0 0 1 +5\r\nx\r\n", Rejection::BadFormat);
    whole(&format!("set a 0 0 5000\r\n{:5000}\r\n", ""), Rejection::TooLarge);
    whole("set a 0 0 1\r\nxyz", Rejection::BadDataChunk);
    add("set a 0 0 1 noreply\r\nxy\r\n", 24, Rejection::BadDataChunk, true);
    add("set a 0 0 noreply\r\n", 19, Rejection::BadFormat, true);
    add("cas a 0 0 1 noreply\r\nx\r\n", 21, Rejection::BadFormat, true);
    // What is left without `noreply` is no request.
    add("incr a noreply\r\n", 16, Rejection::BadFormat, true);
    add("touch a noreply\r\n", 17, Rejection::BadFormat, true);
    add("verbosity noreply\r\n", 19, Rejection::BadFormat, true);
    add("delete a 1 noreply\r\n", 20, Rejection::DeleteUsage, true);
    add("flush_all x noreply\r\n", 21, Rejection::InvalidExptime, true);
    cases
}

#[test]
fn whole_requests() {
    for (buf, verb, keys, forwarded) in complete_requests() {
        let (outcome, request) = parsed(buf.as_bytes());
        assert_eq!(outcome, Outcome::Complete { consumed: buf.len() }, "{buf:?}");
        assert_eq!(request.verb, verb, "{buf:?}");
        assert_eq!(request.len as usize, buf.len(), "{buf:?}");
        let found: Vec<_> = request.keys(buf.as_bytes()).map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        assert_eq!(found, keys, "{buf:?}");
        let (head, tail) = request.forward_parts(buf.as_bytes());
        assert_eq!(String::from_utf8([head, tail].concat()).unwrap(), forwarded, "{buf:?}");
        assert_eq!(request.noreply, forwarded != buf, "{buf:?}");
    }
}

#[test]
fn refused_requests() {
    for (buf, consumed, reply, noreply) in rejected_requests() {
        let (outcome, request) = parsed(buf.as_bytes());
        assert_eq!(outcome, Outcome::Rejected { consumed, skip: 0, reply }, "{buf:?}");
        assert_eq!(request.noreply, noreply, "{buf:?}");
    }
}

#[test]
fn the_words_of_a_storage_request() {
    let buf = b"cas key 7 -1 4 99\r\n\0\r\n\r\r\n";
    let (_, request) = parsed(buf);
    assert_eq!((text(buf, request.flags), text(buf, request.exptime)), ("7", "-1"));
    assert_eq!((text(buf, request.number), text(buf, request.data)), ("99", "\0\r\n\r"));
    assert_eq!((request.line_end, request.line_len), (17, 19));
}

#[test]
fn the_words_of_other_requests() {
    let (_, request) = parsed(b"touch key 60 noreply\r\n");
    assert_eq!(text(b"touch key 60 noreply\r\n", request.exptime), "60");
    let (_, request) = parsed(b"incr key 5\r\n");
    assert_eq!(text(b"incr key 5\r\n", request.number), "5");
    let (_, request) = parsed(b"flush_all 30 noreply\n");
    assert_eq!(text(b"flush_all 30 noreply\n", request.exptime), "30");
    let (_, request) = parsed(b"flush_all noreply\n");
    assert_eq!((request.exptime, request.line_end, request.line_len), (None, 17, 18));
    let (_, request) = parsed(b"gats -7 a b\r\n");
    let mut start = Vec::new();
    request.write_fragment_start(b"gats -7 a b\r\n", None, &mut start);
    assert_eq!(start, b"gats -7");
    start.clear();
    request.write_fragment_start(b"gats -7 a b\r\n", Some(60), &mut start);
    assert_eq!(start, b"gats 60");
}

/// Cut anywhere, a request is either incomplete, asking for no more than there is, or already settled in the same way.
#[test]
fn split_at_each_byte() {
    let complete = complete_requests().into_iter().map(|case| case.0);
    let rejected = rejected_requests().into_iter().map(|case| case.0[..case.1].to_owned());
    for buf in complete.chain(rejected) {
        let (whole, _) = parsed(buf.as_bytes());
        for cut in 0..buf.len() {
            match (parsed(&buf.as_bytes()[..cut]).0, whole) {
                (Outcome::Incomplete { need }, _) => {
                    assert!(cut < need && need <= buf.len(), "{buf:?} at {cut}: {need}")
                }
                (Outcome::Rejected { consumed, skip, reply }, Outcome::Rejected { reply: same, .. }) => {
                    assert_eq!((consumed as u64 + skip, reply), (buf.len() as u64, same), "{buf:?} at {cut}");
                }
                (early, _) => panic!("{buf:?} at {cut}: {early:?}"),
            }
        }
    }
}

#[test]
fn pipelined_requests_come_out_one_by_one() {
    let complete = complete_requests().into_iter().map(|case| case.0);
    let rejected = rejected_requests().into_iter().map(|case| case.0[..case.1].to_owned());
    let requests: Vec<String> = complete.chain(rejected).collect();
    let stream = requests.concat();
    let mut rest = stream.as_bytes();
    let mut request = Request::default();
    for expected in &requests {
        match parse(rest, &small(), &mut request) {
            Outcome::Complete { consumed } | Outcome::Rejected { consumed, skip: 0, .. } => {
                assert_eq!(consumed, expected.len(), "{expected:?}");
                rest = &rest[consumed..];
            }
            other => panic!("{expected:?}: {other:?}"),
        }
    }
    assert!(rest.is_empty());
}

#[test]
fn a_data_block_is_asked_for_as_a_whole() {
    assert_eq!(parsed(b"set a 0 0 100\r\nx").0, Outcome::Incomplete { need: 15 + 102 });
}

#[test]
fn a_large_data_block_is_refused_before_it_comes() {
    let outcome = parsed(b"set a 0 0 2147483645\r\nabc").0;
    assert_eq!(outcome, Outcome::Rejected { consumed: 25, skip: 2_147_483_644, reply: Rejection::TooLarge });
    let outcome = parsed(b"ms a 1000000\r\n").0;
    assert_eq!(outcome, Outcome::Rejected { consumed: 14, skip: 1_000_002, reply: Rejection::Meta });
}

#[test]
fn a_line_without_end_is_fatal_at_its_limit() {
    let too_long = Outcome::Fatal { reply: Rejection::LineTooLong };
    let line = [b'x'; 5000];
    assert_eq!(parsed(&line[..1023]).0, Outcome::Incomplete { need: 1024 });
    assert_eq!(parsed(&line[..1024]).0, too_long);
    let long_set = format!("set {}\r\n", "a ".repeat(1000));
    assert_eq!(parsed(long_set.as_bytes()).0, too_long, "also when its end is there");
    for name in ["get", "  gets", "gat 1", "gats"] {
        let keys = format!("{name} {}", KEY_250.repeat(30));
        assert_eq!(parsed(&keys.as_bytes()[..4095]).0, Outcome::Incomplete { need: 4096 }, "{name}");
        assert_eq!(parsed(&keys.as_bytes()[..4096]).0, too_long, "{name}");
    }
    let keys = format!("get{}\r\n", format!(" {KEY_250}").repeat(12));
    assert_eq!(parsed(keys.as_bytes()).0, Outcome::Complete { consumed: keys.len() });
}

#[test]
fn the_binary_protocol_is_refused() {
    assert_eq!(parsed(b"\x80\x01").0, Outcome::Fatal { reply: Rejection::Binary });
}

#[test]
fn the_scratch_forgets_the_request_before_and_keeps_its_memory() {
    let mut request = Request::default();
    parse(b"cas a 1 2 3 4 noreply\r\nxyz\r\n", &small(), &mut request);
    parse(b"get a b c d\r\n", &small(), &mut request);
    let capacity = request.keys.capacity();
    parse(b"version\r\n", &small(), &mut request);
    assert!(request.keys.is_empty() && !request.noreply && request.noreply_range.is_none());
    assert!(request.flags.is_none() && request.data.is_none() && request.number.is_none());
    assert_eq!(request.keys.capacity(), capacity);
}

/// Bytes that look like requests more often than random ones do.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(Verb::all().map(|verb| verb.name().as_bytes().to_vec()).collect::<Vec<_>>()),
        proptest::sample::select(
            [
                "ms",
                "mg",
                " ",
                "  ",
                "\r\n",
                "\n",
                "\r",
                "\0",
                "noreply",
                "0",
                "1",
                "-1",
                "12",
                "4294967297",
                "key",
                "+1"
            ]
            .map(|word| word.as_bytes().to_vec())
            .to_vec()
        ),
        Just(b" ".to_vec()),
        Just(b"\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn anything_is_parsed_within_its_bounds(buf in streams()) {
        let mut request = Request::default();
        let mut rest = &buf[..];
        loop {
            match parse(rest, &small(), &mut request) {
                Outcome::Complete { consumed } => {
                    prop_assert!(0 < consumed && consumed <= rest.len());
                    prop_assert_eq!(consumed, request.len as usize);
                    prop_assert!(!rest[..request.line_len as usize].contains(&0));
                    for key in request.keys(rest) {
                        prop_assert!((1..=MAX_KEY_BYTES).contains(&key.len()));
                    }
                    let (head, tail) = request.forward_parts(rest);
                    let forwarded = [head, tail].concat();
                    let mut again = Request::default();
                    let outcome = parse(&forwarded, &small(), &mut again);
                    prop_assert_eq!(outcome, Outcome::Complete { consumed: forwarded.len() });
                    rest = &rest[consumed..];
                }
                Outcome::Rejected { consumed, skip, .. } => {
                    prop_assert!(0 < consumed && consumed <= rest.len());
                    rest = &rest[consumed..];
                    if skip > 0 {
                        prop_assert!(rest.is_empty());
                        break;
                    }
                }
                Outcome::Incomplete { need } => {
                    prop_assert!(need > rest.len());
                    break;
                }
                Outcome::Fatal { .. } => break,
            }
        }
    }

    #[test]
    fn more_bytes_never_change_a_settled_outcome(buf in streams(), more in streams()) {
        let (outcome, _) = parsed(&buf);
        let (with_more, _) = parsed(&[&buf[..], &more].concat());
        match (outcome, with_more) {
            (Outcome::Incomplete { .. }, _) => {}
            (Outcome::Rejected { consumed, skip, reply }, Outcome::Rejected { consumed: c, skip: s, reply: r }) => {
                prop_assert_eq!((consumed as u64 + skip, reply), (c as u64 + s, r));
            }
            (before, after) => prop_assert_eq!(before, after),
        }
    }
}

/// Found by the fuzzer: a line of blanks was as long as it liked if the command behind them had come already.
#[test]
fn whether_a_line_is_too_long_does_not_depend_on_how_much_has_come() {
    let too_long = Outcome::Fatal { reply: Rejection::LineTooLong };
    let line = format!("{}get a\r\n", " ".repeat(1024));
    for cut in 1024..=line.len() {
        assert_eq!(parsed(&line.as_bytes()[..cut]).0, too_long, "{cut}");
    }
    let line = format!("{}get {}\r\n", " ".repeat(1020), "a ".repeat(50));
    assert!(matches!(parsed(&line.as_bytes()[..1024]).0, Outcome::Incomplete { .. }));
    assert_eq!(parsed(line.as_bytes()).0, Outcome::Complete { consumed: line.len() });
}
