//! The lines that hold one number: `*3`, `$16`, `:42`. Shared by requests and replies.

/// Longest such line: a type byte, a sign, 19 digits, CR, LF, and some room for leading zeros. In bytes.
const LONGEST: usize = 24;

/// What stands where a line with a number must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The number, and the position after the line end.
    Number { value: i64, end: usize },
    /// Not whole yet; the least length of the buffer that could make it so.
    Need(usize),
    /// Whole or not, it cannot become a number of 64 bits.
    Invalid,
    /// A number followed by a CR that is followed by something else than LF.
    MissingLf,
}

/// Reads the line that starts, with its type byte, at `pos`; `pos` is inside `buf`.
#[inline]
pub(super) fn number_line(buf: &[u8], pos: usize) -> Line {
    let line = &buf[pos..];
    // One to three digits are the commonest by far.
    match *line {
        [_, a @ b'0'..=b'9', b'\r', b'\n', ..] => Line::Number { value: digit(a), end: pos + 4 },
        [_, a @ b'0'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Line::Number { value: digit(a) * 10 + digit(b), end: pos + 5 }
        }
        [_, a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Line::Number { value: digit(a) * 100 + digit(b) * 10 + digit(c), end: pos + 6 }
        }
        _ => any_number_line(buf, pos),
    }
}

fn any_number_line(buf: &[u8], pos: usize) -> Line {
    let line = &buf[pos..];
    let window = &line[..line.len().min(LONGEST)];
    let Some(at) = window.iter().position(|&byte| byte == b'\r') else {
        // A sign alone may still become a number, any other text must be one already.
        let text = &window[1..];
        let promising = matches!(text, [] | [b'-' | b'+']) || decimal(text).is_some();
        if window.len() == LONGEST || !promising {
            return Line::Invalid;
        }
        return Line::Need((buf.len() + 2).max(pos + 4));
    };
    let Some(value) = window.get(1..at).and_then(decimal) else { return Line::Invalid };
    match line.get(at + 1) {
        Some(b'\n') => Line::Number { value, end: pos + at + 2 },
        Some(_) => Line::MissingLf,
        None => Line::Need(pos + at + 2),
    }
}

fn digit(byte: u8) -> i64 {
    i64::from(byte - b'0')
}

/// An optional sign and at least one digit, within 64 bits.
pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        // Downwards, since the smallest number has no positive twin.
        value = value.checked_mul(10)?.checked_sub(digit(byte))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// True if the number is written in the only way that Redis accepts in a request: no plus sign, no leading zero.
pub(super) fn is_canonical(text: &[u8]) -> bool {
    match text.strip_prefix(b"-").unwrap_or(text) {
        [b'0'] => text.len() == 1,
        [first, ..] => (b'1'..=b'9').contains(first),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_of_every_length() {
        for value in [0, 7, 42, 999, 1000, 123_456_789, i64::MAX, i64::MIN, -1, -10] {
            let line = format!("xx${value}\r\nrest");
            let end = line.len() - 4;
            assert_eq!(number_line(line.as_bytes(), 2), Line::Number { value, end }, "{line:?}");
            for cut in 3..end {
                let Line::Need(need) = number_line(&line.as_bytes()[..cut], 2) else { panic!("{line:?} cut at {cut}") };
                assert!(need > cut && need <= end, "{line:?} cut at {cut}: {need}");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_number_as_soon_as_it_shows() {
        for line in ["$x", "$\r", "$\n", "$1x", "$-\r\n", "$--1", "$9223372036854775808", "$ 1", "$1\n", "$?"] {
            assert_eq!(number_line(line.as_bytes(), 0), Line::Invalid, "{line:?}");
        }
        assert_eq!(number_line(b"$1\rx", 0), Line::MissingLf);
        assert_eq!(number_line(&[b'0'; 25], 0), Line::Invalid);
    }

    #[test]
    fn knows_the_form_that_redis_accepts() {
        for text in ["0", "1", "10", "-1", "-90"] {
            assert!(is_canonical(text.as_bytes()), "{text:?}");
        }
        for text in ["", "-", "+1", "01", "00", "-0", "-01"] {
            assert!(!is_canonical(text.as_bytes()), "{text:?}");
        }
    }
}
