//! Redis replies: measured whole, cut and in instalments they have one length, which is the reference's, and no reply is
//! larger or deeper than its limits.

use outrigger::protocol::redis::convert;
use outrigger::protocol::redis::response::{NESTING_CAP, ScanError, Scanner, elements, integer, is_error, scan};
use outrigger::protocol::{Limits, Parsed};

use super::{both_limits, cuts, shown};

type Outcome = Result<Parsed<usize>, ScanError>;

pub fn check(data: &[u8]) {
    for limits in both_limits() {
        let mut rest = data;
        while let Ok(Parsed::Complete(length)) = same_when_cut(rest, &limits) {
            let (reply, behind) = rest.split_at(length);
            assert!((3..=limits.max_response_bytes).contains(&length), "{length}: {}", shown(rest));
            assert!(depth(reply) <= limits.max_nesting.min(NESTING_CAP), "too deep: {}", shown(reply));
            taken_apart(reply);
            converted(reply, &limits);
            as_the_reference_has_it(reply);
            rest = behind;
        }
    }
}

fn same_when_cut(stream: &[u8], limits: &Limits) -> Outcome {
    let whole = scan(stream, limits);
    in_instalments(stream, limits, &whole);
    let mut needed = 0;
    for cut in cuts(stream.len()) {
        let part = scan(&stream[..cut], limits);
        let at = || format!("cut at {cut}: {part:?}, whole: {whole:?}, {}", shown(stream));
        match (&part, &whole) {
            (Ok(Parsed::Complete(length)), _) => {
                assert_eq!(part, whole, "{}", at());
                assert!(*length >= needed && *length <= cut, "it was to need {needed} bytes; {}", at());
            }
            (Ok(Parsed::Incomplete { need }), _) => {
                assert!(*need > cut && *need <= limits.max_response_bytes, "{}", at());
                let fits = !matches!(whole, Ok(Parsed::Complete(length)) if *need > length);
                assert!(fits, "{}", at());
                needed = needed.max(*need);
            }
            (Err(_), _) => assert!(whole.is_err(), "{}", at()),
        }
    }
    whole
}

/// As a connection does it: the same scanner goes on where it stopped.
fn in_instalments(stream: &[u8], limits: &Limits, whole: &Outcome) {
    for step in [1, 7, 64] {
        let mut scanner = Scanner::default();
        // Long streams in fewer steps: what counts is where the steps end.
        let step = step.max(stream.len() / 512);
        for end in (0..stream.len()).step_by(step).chain([stream.len()]) {
            match scanner.resume(&stream[..end], limits) {
                Ok(Parsed::Incomplete { need }) => {
                    assert!(need > end, "in steps of {step}, at {end}: {need}, {}", shown(stream));
                    // Only a whole reply or an error may be found early.
                    assert!(end < stream.len() || whole.is_ok(), "in steps of {step}: {whole:?}, {}", shown(stream));
                }
                Ok(complete) => {
                    assert_eq!(Ok(complete), *whole, "in steps of {step}, at {end}: {}", shown(stream));
                    return;
                }
                Err(error) => {
                    assert!(whole.is_err(), "in steps of {step}, at {end}: {error}, {whole:?}, {}", shown(stream));
                    return;
                }
            }
        }
        assert!(!matches!(whole, Ok(Parsed::Complete(_))), "in steps of {step}: never whole, {}", shown(stream));
    }
}

/// Levels of aggregates that have elements.
fn depth(reply: &[u8]) -> usize {
    let mut rest = &reply[line(reply)..];
    let mut deepest = 0;
    let count = elements_of(reply);
    for _ in 0..count {
        deepest = deepest.max(depth(rest));
        rest = &rest[span(rest)..];
    }
    deepest + usize::from(count > 0)
}

/// How many elements follow the header of a reply that is known to be whole.
fn elements_of(reply: &[u8]) -> usize {
    let count = || usize::try_from(number(&reply[1..])).unwrap_or(0);
    match reply[0] {
        b'*' | b'~' | b'>' => count(),
        b'%' => count() * 2,
        // The reply that attributes belong to stands behind them.
        b'|' => count() * 2 + 1,
        _ => 0,
    }
}

/// The length of a reply that is known to be whole.
fn span(reply: &[u8]) -> usize {
    let header = line(reply);
    match reply[0] {
        b'$' | b'!' | b'=' => usize::try_from(number(&reply[1..])).map_or(header, |length| header + length + 2),
        _ => (0..elements_of(reply)).fold(header, |at, _| at + span(&reply[at..])),
    }
}

fn line(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 1
}

fn number(digits: &[u8]) -> i64 {
    let text = digits.split(|byte| *byte == b'\r').next().and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).expect("a number")
}

/// What a client of RESP2 gets of it.
fn converted(reply: &[u8], limits: &Limits) {
    let mut two = Vec::new();
    convert::to_resp2(reply, &mut two);
    let unlimited = Limits { max_response_bytes: usize::MAX, ..limits.clone() };
    assert_eq!(scan(&two, &unlimited), Ok(Parsed::Complete(two.len())), "{} of {}", shown(&two), shown(reply));
    let mut again = Vec::new();
    convert::to_resp2(&two, &mut again);
    assert_eq!(again, two, "of {}", shown(reply));
}

/// What merges do with a reply.
fn taken_apart(reply: &[u8]) {
    let mut parts = elements(reply);
    let (announced, mut found, mut bytes) = (parts.left(), 0, 0);
    for part in parts.by_ref() {
        (found, bytes) = (found + 1, bytes + part.len());
    }
    assert_eq!(found, announced, "elements of {}", shown(reply));
    if announced > 0 {
        assert_eq!(bytes + line(reply), reply.len(), "elements of {}", shown(reply));
    }
    assert_eq!(integer(reply).is_some(), reply[0] == b':', "{}", shown(reply));
    assert_eq!(is_error(reply), matches!(reply[0], b'-' | b'!'));
}

/// `redis-protocol` finds the same length where it takes the reply at all. It recurses, so nothing deep is shown to it.
fn as_the_reference_has_it(reply: &[u8]) {
    use redis_protocol::{resp2, resp3};
    if let Ok(found) = resp3::decode::complete::decode_range(reply) {
        assert_eq!(found.map(|(_, length)| length), Some(reply.len()), "RESP3: {}", shown(reply));
    }
    match resp2::decode::decode_range(reply) {
        Ok(found) => assert_eq!(found.map(|(_, length)| length), Some(reply.len()), "RESP2: {}", shown(reply)),
        // A type of RESP3, be it inside.
        Err(_) => assert!(reply.iter().any(|byte| b"%~|>(#_,!=".contains(byte)), "RESP2: {}", shown(reply)),
    }
}
