//! Scripts by their SHA1: the number itself, and EVALSHA turned into the EVAL that does the same. Pure.

use sha1::{Digest, Sha1};

use super::number::{Line, number_line};
use super::reply::{write_array_header, write_bulk};

/// The SHA1 of a script's body, which EVALSHA calls it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha([u8; 20]);

impl Sha {
    /// Of this body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha1::digest(body).into())
    }

    /// From 40 hexadecimal digits of any case; `None` for anything else, which is the name of no script.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (pairs, []) = text.as_chunks::<2>() else { return None };
        let mut sha = [0; 20];
        if pairs.len() != sha.len() {
            return None;
        }
        for (byte, [high, low]) in sha.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(sha))
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// The script that an EVALSHA or EVALSHA_RO asks for, told from a copy of the request that may lack its end.
pub fn sha_of_request(request: &[u8]) -> Option<Sha> {
    if request.first() != Some(&b'*') {
        return None;
    }
    let Line::Number { end, .. } = number_line(request, 0) else { return None };
    let (_, end) = bulk(request, end)?;
    Sha::parse(bulk(request, end)?.0)
}

/// The bulk string that begins here, and where it ends.
fn bulk(request: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if request.get(at) != Some(&b'$') {
        return None;
    }
    let Line::Number { value, end: start } = number_line(request, at) else { return None };
    let end = start.checked_add(usize::try_from(value).ok()?)?;
    Some((request.get(start..end)?, end.checked_add(2)?))
}

/// The script is not there, says this reply.
pub fn is_noscript(reply: &[u8]) -> bool {
    reply.starts_with(b"-NOSCRIPT ")
}

/// What runs a script by its body, in place of the command that runs it by its SHA1; `None`: it is another command.
pub fn by_body(command: &str) -> Option<&'static str> {
    match command {
        "evalsha" => Some("EVAL"),
        "evalsha_ro" => Some("EVAL_RO"),
        _ => None,
    }
}

/// An EVALSHA with all its arguments as the EVAL of this body; `name` as [`by_body`] gives it.
pub fn write_as_eval<'a>(
    out: &mut Vec<u8>,
    name: &str,
    body: &[u8],
    argc: usize,
    arg: impl Fn(usize) -> Option<&'a [u8]>,
) {
    write_array_header(out, argc);
    write_bulk(out, name.as_bytes());
    write_bulk(out, body);
    (2..argc).for_each(|index| write_bulk(out, arg(index).unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::redis::reply::write_command;

    const BODY: &[u8] = b"return 1";
    const HEX: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

    #[test]
    fn a_script_is_called_by_what_redis_calls_it() {
        assert_eq!(Sha::parse(HEX.as_bytes()), Some(Sha::of(BODY)));
        assert_eq!(Sha::parse(HEX.to_ascii_uppercase().as_bytes()), Some(Sha::of(BODY)));
        assert_ne!(Sha::parse(HEX.as_bytes()), Some(Sha::of(b"return 2")));
        for wrong in ["", "e0", &HEX[1..], &format!("{HEX}0"), &format!("{}g", &HEX[1..]), &format!("+{}", &HEX[1..])] {
            assert_eq!(Sha::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_script_of_a_request_is_seen_once_it_is_there() {
        let mut request = Vec::new();
        write_command(&mut request, &["evalsha", HEX, "1", "key", "value"]);
        let whole = request.windows(HEX.len()).position(|part| part == HEX.as_bytes()).unwrap() + HEX.len();
        for cut in 0..=request.len() {
            assert_eq!(sha_of_request(&request[..cut]), (cut >= whole).then(|| Sha::of(BODY)), "{cut}");
        }
        for other in [&b""[..], b"GET a\r\n", b"*1\r\n:5\r\n", b"*2\r\n$7\r\nEVALSHA\r\n$9999999999999999999\r\n"] {
            assert_eq!(sha_of_request(other), None);
        }
    }

    #[test]
    fn an_eval_has_the_arguments_of_the_evalsha() {
        let arguments: [&[u8]; 5] = [b"EvalSha", HEX.as_bytes(), b"1", b"key", b"a\r\nb"];
        let (mut got, mut expected) = (Vec::new(), Vec::new());
        let name = by_body("evalsha").unwrap();
        write_as_eval(&mut got, name, BODY, arguments.len(), |index| arguments.get(index).copied());
        write_command(&mut expected, &[b"EVAL", BODY, b"1", b"key", b"a\r\nb"]);
        assert_eq!(got, expected);
        assert_eq!((by_body("evalsha_ro"), by_body("eval"), by_body("fcall")), (Some("EVAL_RO"), None, None));
    }
}
