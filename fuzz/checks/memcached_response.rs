//! memcached replies: whole or cut they have one length, in every shape that a request can ask for, and the values found in
//! them are all there is.

use outrigger::protocol::memcached::response::{error_line, leaves_out_of_step, scan, values};
use outrigger::protocol::memcached::{Expect, ScanError};
use outrigger::protocol::{Limits, Parsed};

use super::{both_limits, cuts, shown};

const SHAPES: [Expect; 11] = [
    Expect::Values,
    Expect::ValuesUnique,
    Expect::Stored,
    Expect::StoredUnique,
    Expect::Number,
    Expect::Deleted,
    Expect::Touched,
    Expect::Ok,
    Expect::Version,
    Expect::Stats,
    Expect::Nothing,
];

pub fn check(data: &[u8]) {
    for limits in both_limits() {
        for expect in SHAPES {
            let mut rest = data;
            while let Ok(Parsed::Complete(length @ 1..)) = same_when_cut(rest, expect, &limits) {
                assert!(length <= rest.len() && length <= limits.max_response_bytes.max(limits.max_line_bytes));
                taken_apart(&rest[..length], expect);
                rest = &rest[length..];
            }
        }
    }
}

fn same_when_cut(stream: &[u8], expect: Expect, limits: &Limits) -> Result<Parsed<usize>, ScanError> {
    let whole = scan(stream, expect, limits);
    if expect == Expect::Nothing {
        assert_eq!(whole.is_ok(), stream.is_empty());
        return whole;
    }
    let mut needed = 0;
    for cut in cuts(stream.len()) {
        let part = scan(&stream[..cut], expect, limits);
        let at = || format!("{expect:?}, cut at {cut}: {part:?}, whole: {whole:?}, {}", shown(stream));
        match (&part, &whole) {
            (Ok(Parsed::Complete(length)), _) => {
                assert_eq!(part, whole, "{}", at());
                assert!(*length >= needed && *length <= cut, "it was to need {needed} bytes; {}", at());
            }
            (Ok(Parsed::Incomplete { need }), _) => {
                assert!(*need > cut, "{}", at());
                let fits = !matches!(whole, Ok(Parsed::Complete(length)) if *need > length);
                assert!(fits, "{}", at());
                needed = needed.max(*need);
            }
            (Err(_), _) => assert!(whole.is_err(), "{}", at()),
        }
    }
    whole
}

fn taken_apart(reply: &[u8], expect: Expect) {
    let at = || format!("{expect:?}: {}", shown(reply));
    assert!(reply.ends_with(b"\r\n"), "{}", at());
    if !expect.is_values() {
        let error = error_line(reply);
        assert!(error.is_none_or(|line| expect == Expect::Stats || line.len() + 2 == reply.len()), "{}", at());
        if leaves_out_of_step(reply, expect) {
            assert!(error.is_some(), "{}", at());
        }
        return;
    }
    let mut end = 0;
    for value in values(reply) {
        assert_eq!(value.whole, &reply[end..end + value.whole.len()], "{}", at());
        assert!(value.whole[..value.whole.len() - 2].ends_with(value.data), "{}", at());
        assert!(!value.key.is_empty() && !value.key.contains(&b' '), "{}", at());
        end += value.whole.len();
    }
    match error_line(reply) {
        Some(line) => assert_eq!(end + line.len() + 2, reply.len(), "{}", at()),
        None => assert_eq!(&reply[end..], b"END\r\n", "{}", at()),
    }
}
