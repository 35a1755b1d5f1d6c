//! Redis requests: whole, cut at any byte and pipelined they are the same requests, and those of the reference.

use outrigger::protocol::redis::commands::{self, Resolved};
use outrigger::protocol::redis::request::{self, Arguments, RequestError};
use outrigger::protocol::{Limits, Parsed};
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;

use super::{both_limits, cuts, shown};

/// What is at the front of a stream, with what holds of every outcome checked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Front {
    Request { consumed: usize, words: Vec<Vec<u8>>, inline: bool },
    Incomplete { need: usize },
    Error(RequestError),
}

pub fn check(data: &[u8]) {
    for limits in both_limits() {
        let mut rest = data;
        // Pipelined: one after the other, as long as there are whole ones.
        while let Front::Request { consumed, .. } = same_when_cut(rest, &limits) {
            rest = &rest[consumed..];
        }
    }
}

/// The front of a stream; whatever the cut, no other.
fn same_when_cut(stream: &[u8], limits: &Limits) -> Front {
    let whole = front(stream, limits);
    if let Front::Request { consumed, words, inline } = &whole {
        sound(&stream[..*consumed], words, *inline, limits);
    }
    let mut needed = 0;
    for cut in cuts(stream.len()) {
        let part = front(&stream[..cut], limits);
        let at = || format!("cut at {cut}: {part:?}, whole: {whole:?}, {}", shown(stream));
        match (&part, &whole) {
            (Front::Request { consumed, .. }, _) => {
                assert_eq!(part, whole, "{}", at());
                assert!(*consumed >= needed, "it was to need {needed} bytes; {}", at());
            }
            (Front::Incomplete { need }, Front::Request { consumed, .. }) => {
                assert!(need <= consumed, "{}", at());
                needed = needed.max(*need);
            }
            (Front::Incomplete { need }, _) => needed = needed.max(*need),
            // What is wrong in part is wrong as a whole, although something else may strike first.
            (Front::Error(_), _) => assert!(matches!(whole, Front::Error(_)), "{}", at()),
        }
    }
    whole
}

fn front(buf: &[u8], limits: &Limits) -> Front {
    let mut args = Arguments::new();
    let consumed = match request::parse(buf, limits, &mut args) {
        Ok(Parsed::Complete(consumed)) => consumed,
        Ok(Parsed::Incomplete { need }) => {
            assert!(need > buf.len(), "needs {need}, has {}: {}", buf.len(), shown(buf));
            assert!(need <= limits.max_request_bytes, "needs {need}, beyond the limit: {}", shown(buf));
            return Front::Incomplete { need };
        }
        Err(error) => return Front::Error(error),
    };
    assert!((1..=buf.len()).contains(&consumed), "{consumed} of {}: {}", buf.len(), shown(buf));
    let words: Vec<Vec<u8>> = args.iter(buf).map(<[u8]>::to_vec).collect();
    assert_eq!(words.len(), args.len(), "an argument has no place: {}", shown(buf));
    Front::Request { consumed, words, inline: args.is_inline() }
}

/// What holds of every request, alone in its bytes.
fn sound(buf: &[u8], words: &[Vec<u8>], inline: bool, limits: &Limits) {
    let mut args = Arguments::new();
    assert_eq!(request::parse(buf, limits, &mut args), Ok(Parsed::Complete(buf.len())), "{}", shown(buf));
    assert_eq!(args.get(buf, args.len()), None);
    assert!(args.len() <= limits.max_arguments && buf.len() <= limits.max_request_bytes, "{}", shown(buf));
    if inline {
        assert!(buf.len() <= limits.max_line_bytes, "{}", shown(buf));
    } else {
        let bounds = buf.as_ptr_range();
        let inside = |word: &[u8]| bounds.start <= word.as_ptr() && word.as_ptr_range().end <= bounds.end;
        assert!(args.iter(buf).all(inside), "an argument is outside of its request: {}", shown(buf));
        assert_eq!(args.frame(buf), buf);
    }
    forwarded(args.frame(buf), words);
    look_up(words);
}

/// What a server gets must be, for the reference, an array of just these words.
fn forwarded(frame: &[u8], words: &[Vec<u8>]) {
    if words.is_empty() {
        return;
    }
    let Ok(Some((OwnedFrame::Array(items), length))) = decode(frame) else {
        panic!("the reference does not take {}", shown(frame));
    };
    assert_eq!(length, frame.len(), "the reference takes another length of {}", shown(frame));
    let same = |(item, word): (&OwnedFrame, &Vec<u8>)| matches!(item, OwnedFrame::BulkString(text) if text == word);
    assert!(items.len() == words.len() && items.iter().zip(words).all(same), "{items:?}, {words:?}");
}

/// The table finds its way through any arguments.
fn look_up(words: &[Vec<u8>]) {
    let arg = |index: usize| words.get(index).map(Vec::as_slice);
    if let Resolved::Command(command) = commands::resolve(words.len(), arg) {
        let mut keys = Vec::new();
        let found = command.keys(words.len(), arg, &mut keys);
        let possible = |key: &u32| (1..words.len()).contains(&(*key as usize));
        assert!(found.is_err() || keys.iter().all(possible), "{}: keys {keys:?} of {words:?}", command.name);
        assert!(command.first_key_only().is_none_or(|key| key < words.len()), "{}", command.name);
        let _ = command.blocks(words.len(), arg);
    }
}
