//! memcached requests: whole, cut at any byte and pipelined they are the same, refused ones end at the same byte, and what
//! is forwarded is the same request without `noreply`.

use outrigger::protocol::Limits;
use outrigger::protocol::memcached::request::{MAX_KEY_BYTES, Span, parse, part};
use outrigger::protocol::memcached::{Outcome, Request};

use super::{both_limits, cuts, shown};

pub fn check(data: &[u8]) {
    for limits in both_limits() {
        let mut rest = data;
        loop {
            let mut request = Request::default();
            let outcome = front(rest, &limits, &mut request);
            same_when_cut(rest, &limits, outcome, &request);
            match outcome {
                Outcome::Complete { consumed } => rest = &rest[consumed..],
                // Whatever is to be skipped is not here.
                Outcome::Rejected { consumed, skip: 0, .. } => rest = &rest[consumed..],
                _ => break,
            }
        }
    }
}

fn front(buf: &[u8], limits: &Limits, request: &mut Request) -> Outcome {
    let outcome = parse(buf, limits, request);
    let at = || format!("{outcome:?}: {}", shown(buf));
    match outcome {
        Outcome::Complete { consumed } => {
            assert!((1..=buf.len()).contains(&consumed), "{}", at());
            described(&buf[..consumed], limits, request);
        }
        Outcome::Incomplete { need } => assert!(need > buf.len(), "{}", at()),
        Outcome::Rejected { consumed, skip, .. } => {
            assert!((1..=buf.len()).contains(&consumed), "{}", at());
            assert!(skip == 0 || consumed == buf.len(), "to skip what has come: {}", at());
        }
        Outcome::Fatal { .. } => assert!(!buf.is_empty(), "{}", at()),
    }
    outcome
}

/// The description of a whole request agrees with its bytes.
fn described(bytes: &[u8], limits: &Limits, request: &Request) {
    let at = || format!("{request:?}: {}", shown(bytes));
    assert_eq!(request.len as usize, bytes.len(), "{}", at());
    let (line_end, line_len) = (request.line_end as usize, request.line_len as usize);
    assert!(line_end < line_len && line_len <= bytes.len(), "{}", at());
    assert!(matches!(&bytes[line_end..line_len], b"\n" | b"\r\n"), "{}", at());
    let word = |(start, end): Span| start < end && end as usize <= line_end;
    let optional = [request.noreply_range, request.flags, request.exptime, request.number];
    assert!(optional.into_iter().flatten().chain(request.keys.iter().copied()).all(word), "{}", at());
    let longest = limits.max_key_bytes.min(MAX_KEY_BYTES);
    let sound = |key: &[u8]| key.len() <= longest && key.iter().all(|byte| !b" \0\n".contains(byte));
    assert!(request.keys(bytes).all(sound) && request.keys.len() < limits.max_arguments.max(2), "{}", at());
    assert_eq!(request.noreply, request.noreply_range.is_some(), "{}", at());
    assert_eq!(request.data.is_some(), request.verb.is_storage(), "{}", at());
    match request.data {
        Some(data) => {
            assert_eq!((data.0 as usize, data.1 as usize + 2), (line_len, bytes.len()), "{}", at());
            assert!(bytes.ends_with(b"\r\n") && bytes.len() <= limits.max_request_bytes, "{}", at());
        }
        None => assert_eq!(line_len, bytes.len(), "{}", at()),
    }
    forwarded(bytes, limits, request);
}

/// What a server gets is the same request, and asks for a reply.
fn forwarded(bytes: &[u8], limits: &Limits, request: &Request) {
    let (head, tail) = request.forward_parts(bytes);
    let sent = [head, tail].concat();
    if request.noreply_range.is_none() {
        assert_eq!(sent, bytes);
        return;
    }
    let mut theirs = Request::default();
    let outcome = parse(&sent, limits, &mut theirs);
    let at = || format!("{}, forwarded as {}: {outcome:?}", shown(bytes), shown(&sent));
    assert_eq!(outcome, Outcome::Complete { consumed: sent.len() }, "{}", at());
    assert_eq!(theirs.verb, request.verb, "{}", at());
    let text = |buf: &[u8], span: Option<Span>| span.map(|span| part(buf, span).to_vec());
    for (ours, spans) in [
        (request.data, theirs.data),
        (request.exptime, theirs.exptime),
        (request.number, theirs.number),
        (request.flags, theirs.flags),
    ] {
        assert_eq!(text(bytes, ours), text(&sent, spans), "{}", at());
    }
    assert!(request.keys(bytes).eq(theirs.keys(&sent)), "{}", at());
}

fn same_when_cut(stream: &[u8], limits: &Limits, whole: Outcome, request: &Request) {
    let mut needed = 0;
    let mut theirs = Request::default();
    for cut in cuts(stream.len()) {
        let outcome = front(&stream[..cut], limits, &mut theirs);
        let at = || format!("cut at {cut}: {outcome:?}, whole: {whole:?}, {}", shown(stream));
        match (outcome, whole) {
            (Outcome::Complete { consumed }, _) => {
                assert_eq!(outcome, whole, "{}", at());
                assert_eq!(format!("{request:?}"), format!("{theirs:?}"), "{}", at());
                assert!(consumed >= needed, "it was to need {needed} bytes; {}", at());
            }
            (Outcome::Incomplete { need }, Outcome::Complete { consumed }) => {
                assert!(need <= consumed, "{}", at());
                needed = needed.max(need);
            }
            (Outcome::Incomplete { need }, _) => needed = needed.max(need),
            (
                Outcome::Rejected { consumed, skip, reply },
                Outcome::Rejected { consumed: all, skip: rest, reply: same },
            ) => {
                assert_eq!((consumed as u64 + skip, reply), (all as u64 + rest, same), "{}", at());
                assert_eq!(theirs.noreply, request.noreply, "{}", at());
            }
            (Outcome::Fatal { .. }, Outcome::Fatal { .. }) => assert_eq!(outcome, whole, "{}", at()),
            _ => panic!("{}", at()),
        }
    }
}
