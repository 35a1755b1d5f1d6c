//! The numbers on a memcached command line, read as memcached reads them: strtol(3), then the end or white space.

/// What memcached makes of a word that should be a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number<T> {
    /// Digits (and a leading `-` where one makes sense) in range: any server reads it so.
    Plain(T),
    /// memcached 1.6.18 reads it so, on a 64-bit machine: signs, white space, bits cut off. Not to be forwarded.
    Odd(T),
    /// memcached refuses it.
    Invalid,
}

impl<T> Number<T> {
    /// The number and whether it is odd, unless it is none.
    pub(super) fn value(self) -> Option<(T, bool)> {
        match self {
            Number::Plain(value) => Some((value, false)),
            Number::Odd(value) => Some((value, true)),
            Number::Invalid => None,
        }
    }
}

/// The length of a data block, in bytes: 32 bits of a C `long`, not negative, with room for the CR LF.
pub(super) fn length(word: &[u8]) -> Number<u32> {
    const LARGEST: i32 = i32::MAX - 2;
    let Some(long) = scan(word).and_then(Scanned::signed) else { return Number::Invalid };
    // memcached cuts off the upper half: 4294967297 is a block of one byte.
    let cut = long as i32;
    if !(0..=LARGEST).contains(&cut) {
        return Number::Invalid;
    }
    if i64::from(cut) == long && only_digits(word) { Number::Plain(cut as u32) } else { Number::Odd(cut as u32) }
}

/// An expiry time or a delay: a C `long`, negative ones included.
pub(super) fn exptime(word: &[u8]) -> Number<i64> {
    let Some(long) = scan(word).and_then(Scanned::signed) else { return Number::Invalid };
    if only_digits(word.strip_prefix(b"-").unwrap_or(word)) { Number::Plain(long) } else { Number::Odd(long) }
}

/// The flags of an item: 32 bits.
pub(super) fn flags(word: &[u8]) -> Number<u32> {
    match unique(word) {
        Number::Plain(long) if long <= u64::from(u32::MAX) => Number::Plain(long as u32),
        Number::Plain(long) | Number::Odd(long) => Number::Odd(long as u32),
        Number::Invalid => Number::Invalid,
    }
}

/// The `cas` value of an item: 64 bits.
pub(super) fn unique(word: &[u8]) -> Number<u64> {
    let Some(scanned) = scan(word) else { return Number::Invalid };
    let value = if scanned.negative { scanned.magnitude.wrapping_neg() } else { scanned.magnitude };
    if (value as i64) < 0 && word.contains(&b'-') {
        return Number::Invalid;
    }
    if only_digits(word) { Number::Plain(value) } else { Number::Odd(value) }
}

struct Scanned {
    negative: bool,
    magnitude: u64,
}

impl Scanned {
    fn signed(self) -> Option<i64> {
        let magnitude = i128::from(self.magnitude);
        i64::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }
}

fn only_digits(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_digit)
}

/// White space as isspace(3) has it in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// White space, a sign, digits that fit 64 bits; then the end, or white space and anything.
fn scan(word: &[u8]) -> Option<Scanned> {
    let blanks = word.iter().take_while(|&&byte| is_space(byte)).count();
    let word = word.get(blanks..)?;
    let (negative, digits) = match word.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, word),
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(count);
    if digits.is_empty() || rest.first().is_some_and(|&byte| !is_space(byte)) {
        return None;
    }
    let mut magnitude = 0u64;
    for digit in digits {
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(Scanned { negative, magnitude })
}

#[cfg(test)]
mod tests {
    use super::Number::{Invalid, Odd, Plain};
    use super::*;

    #[test]
    fn lengths() {
        for (word, number) in [
            ("0", Plain(0)),
            ("01", Plain(1)),
            ("2147483645", Plain(2147483645)),
            ("2147483646", Invalid),
            ("2147483648", Invalid),
            ("4294967297", Odd(1)),
            ("-4294967295", Odd(1)),
            ("18446744073709551617", Invalid),
            ("+1", Odd(1)),
            ("\t1", Odd(1)),
            ("1\tjunk", Odd(1)),
            ("-0", Odd(0)),
            ("-1", Invalid),
            ("", Invalid),
            ("\t", Invalid),
            ("-", Invalid),
            ("1x", Invalid),
            ("0x1", Invalid),
            ("1\u{85}", Invalid),
        ] {
            assert_eq!(length(word.as_bytes()), number, "{word:?}");
        }
    }

    #[test]
    fn exptimes() {
        for (word, number) in [
            ("-1", Plain(-1)),
            ("99999999999", Plain(99_999_999_999)),
            ("-9223372036854775808", Plain(i64::MIN)),
            ("9223372036854775808", Invalid),
            ("--1", Invalid),
            ("+5", Odd(5)),
            ("-", Invalid),
        ] {
            assert_eq!(exptime(word.as_bytes()), number, "{word:?}");
        }
    }

    #[test]
    fn flags_and_uniques() {
        assert_eq!(flags(b"4294967295"), Plain(u32::MAX));
        assert_eq!(flags(b"4294967296"), Odd(0));
        assert_eq!(flags(b"-0"), Odd(0));
        assert_eq!(flags(b"-1"), Invalid);
        assert_eq!(flags(b"-18446744073709551615"), Odd(1));
        assert_eq!(unique(b"18446744073709551615"), Plain(u64::MAX));
        assert_eq!(unique(b"18446744073709551616"), Invalid);
        assert_eq!(unique(b"+5"), Odd(5));
    }
}
