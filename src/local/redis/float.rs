//! INCRBYFLOAT's numbers: x86's 80-bit `long double`, in which Redis computes, with its `%.17Lf`.
//!
//! `f64` would show: 0.1 + 0.2 is 0.3 in Redis and 0.30000000000000004 in `f64`. Everything is exact integer
//! arithmetic with one rounding (nearest, ties to even) at the end of each operation.

use std::cmp::Ordering;

/// Longest number that Redis reads, in bytes.
const MAX_TEXT: usize = 5 * 1024 - 1;
/// Values of 2^16384 and more are infinite.
const MAX_EXPONENT: i32 = 16384;
/// Below this power of two the smallest denormal rounds to zero.
const MIN_EXPONENT: i32 = -16446;
/// Beyond these powers every text of at most [`MAX_TEXT`] digits is out of range.
const MAX_POWER_OF_TWO: i32 = 40_000;
const MAX_POWER_OF_TEN: i32 = 12_000;

/// A finite `long double`: ±`mantissa` × 2^`exponent`; the mantissa is zero or has its top bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// What a text is, read as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    Finite(Extended),
    Infinite,
}

/// Reads a decimal or hexadecimal number as `strtold` would; `None` for anything else, `nan` included.
pub fn parse(text: &[u8]) -> Option<Number> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let (negative, unsigned) = match text.first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
        return Some(Number::Infinite);
    }
    match unsigned {
        [b'0', b'x' | b'X', hexadecimal @ ..] => {
            let (digits, places, power) = digits(hexadecimal, 16, b'p')?;
            let (top, dropped, sticky) = digits.top_bits();
            let power = if top == 0 { 0 } else { power - 4 * places };
            let power = i32::try_from(power).ok().filter(|p| p.abs() <= MAX_POWER_OF_TWO)? + dropped;
            Extended::rounded(negative, top, power, sticky)
        }
        decimal => {
            let (digits, places, power) = digits(decimal, 10, b'e')?;
            Extended::from_decimal(negative, digits, power - places)
        }
    }
    .map(Number::Finite)
}

/// The digits of a number without its point, how many come after the point, and the exponent after `marker`.
fn digits(text: &[u8], base: u32, marker: u8) -> Option<(Natural, i64, i64)> {
    let (fixed, power) = match text.iter().position(|b| b.to_ascii_lowercase() == marker) {
        Some(at) => (text.get(..at)?, exponent(text.get(at + 1..)?)?),
        None => (text, 0),
    };
    let point = fixed.iter().position(|b| *b == b'.');
    let (whole, fraction) = match point {
        Some(at) => (fixed.get(..at)?, fixed.get(at + 1..)?),
        None => (fixed, [].as_slice()),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut digits = Natural::default();
    for byte in whole.iter().chain(fraction) {
        digits.multiply_add(base, char::from(*byte).to_digit(base)?);
    }
    Some((digits, fraction.len() as i64, power))
}

/// An exponent of any length, held at a billion: only zero is still in range there.
fn exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let add = |n: i64, byte: &u8| Some((n * 10 + i64::from(char::from(*byte).to_digit(10)?)).min(1_000_000_000));
    digits.iter().try_fold(0, add).map(|n| sign * n)
}

impl Extended {
    /// `digits` × 10^`power`; `None` if that is out of range.
    fn from_decimal(negative: bool, mut digits: Natural, power: i64) -> Option<Self> {
        if digits.bits() == 0 {
            return Some(Self { negative, mantissa: 0, exponent: 0 });
        }
        let power = i32::try_from(power).ok().filter(|p| p.abs() <= MAX_POWER_OF_TEN)?;
        if power >= 0 {
            for _ in 0..power {
                digits.multiply_add(10, 0);
            }
            let (top, dropped, sticky) = digits.top_bits();
            return Self::rounded(negative, top, dropped, sticky);
        }
        let mut divisor = Natural::from(1);
        for _ in 0..-power {
            divisor.multiply_add(10, 0);
        }
        // A quotient of 66 or 67 bits: the mantissa, a rounding bit, and one to spare.
        let shift = (66 + divisor.bits() as i32 - digits.bits() as i32).max(0);
        digits.shift_left(shift as usize);
        let quotient = digits.divide(&divisor);
        let (top, dropped, sticky) = quotient.top_bits();
        Self::rounded(negative, top, dropped - shift, sticky || digits.bits() != 0)
    }

    /// ±`bits` × 2^`exponent`, rounded to 64 bits; `sticky`: something non-zero was dropped below.
    fn rounded(negative: bool, bits: u128, exponent: i32, sticky: bool) -> Option<Self> {
        if bits == 0 {
            return Some(Self { negative: false, mantissa: 0, exponent: 0 });
        }
        let zeros = bits.leading_zeros();
        let bits = bits << zeros;
        let mut exponent = exponent - zeros as i32 + 64;
        let (mut mantissa, rest) = ((bits >> 64) as u64, bits as u64);
        let half = 1 << 63;
        if rest > half || (rest == half && (sticky || mantissa & 1 == 1)) {
            let (next, carried) = mantissa.overflowing_add(1);
            (mantissa, exponent) = if carried { (half, exponent + 1) } else { (next, exponent) };
        }
        let in_range = exponent + 64 <= MAX_EXPONENT && exponent + 64 > MIN_EXPONENT;
        in_range.then_some(Self { negative, mantissa, exponent })
    }

    /// The sum; `None` if it is infinite.
    pub fn plus(self, other: Self) -> Option<Self> {
        let (large, small) = if self.magnitude() >= other.magnitude() { (self, other) } else { (other, self) };
        if small.mantissa == 0 {
            return Some(large);
        }
        // 62 bits below the mantissa for what the smaller one adds, one bit above it for the carry.
        let distance = (large.exponent - small.exponent) as u32;
        let (top, addend) = (u128::from(large.mantissa) << 62, u128::from(small.mantissa) << 62);
        let shifted = addend.checked_shr(distance).unwrap_or(0);
        let lost = shifted.checked_shl(distance).unwrap_or(0) != addend;
        let addend = shifted | u128::from(lost);
        let sum = if large.negative == small.negative { top + addend } else { top - addend };
        Self::rounded(large.negative, sum, large.exponent - 62, false)
    }

    /// Orders by absolute value: zero, then by exponent, since mantissas are normalised.
    fn magnitude(self) -> (bool, i32, u64) {
        (self.mantissa != 0, if self.mantissa == 0 { 0 } else { self.exponent }, self.mantissa)
    }

    /// `%.17Lf` without trailing zeros; never `-0`.
    pub fn to_text(self) -> String {
        let text = if self.exponent >= 0 {
            let mut whole = Natural::from(self.mantissa);
            whole.shift_left(self.exponent as usize);
            whole.to_decimal()
        } else {
            self.fixed_point()
        };
        if self.negative && text != "0" { format!("-{text}") } else { text }
    }

    /// The absolute value for a negative exponent, to 17 places.
    fn fixed_point(self) -> String {
        const PLACES: u128 = 100_000_000_000_000_000;
        let scaled = u128::from(self.mantissa) * PLACES;
        let shift = self.exponent.unsigned_abs();
        let quotient = scaled.checked_shr(shift).unwrap_or(0);
        // Twice the remainder against the divisor decides the rounding; past 127 bits the value is below a half.
        let rounds_up = shift <= 126 && {
            let remainder = scaled - (quotient << shift);
            let half = 1_u128 << (shift - 1);
            remainder > half || (remainder == half && quotient & 1 == 1)
        };
        let quotient = quotient + u128::from(rounds_up);
        let text = format!("{}.{:017}", quotient / PLACES, quotient % PLACES);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// A natural number of any size: 32-bit digits, least first, none of them a leading zero.
#[derive(Debug, Clone, Default)]
struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(n: u64) -> Self {
        let mut natural = Self(vec![n as u32, (n >> 32) as u32]);
        natural.trim();
        natural
    }
}

impl Natural {
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for digit in &mut self.0 {
            carry += u64::from(*digit) * u64::from(factor);
            *digit = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn shift_left(&mut self, bits: usize) {
        if self.0.is_empty() {
            return;
        }
        if !bits.is_multiple_of(32) {
            self.multiply_by_power_of_two(bits % 32);
        }
        self.0.splice(0..0, std::iter::repeat_n(0, bits / 32));
    }

    fn multiply_by_power_of_two(&mut self, bits: usize) {
        self.multiply_add(1 << bits, 0);
    }

    fn shift_right_one(&mut self) {
        let mut carry = 0;
        for digit in self.0.iter_mut().rev() {
            let low = *digit & 1;
            *digit = (*digit >> 1) | (carry << 31);
            carry = low;
        }
        self.trim();
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Takes `other`, which is not larger, away.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (at, digit) in self.0.iter_mut().enumerate() {
            let (difference, first) = digit.overflowing_sub(other.0.get(at).copied().unwrap_or(0));
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *digit = difference;
            borrow = first || second;
        }
        self.trim();
    }

    /// The quotient; the remainder is left. Bit by bit: quotients here are short.
    fn divide(&mut self, divisor: &Self) -> Self {
        let steps = (self.bits() + 1).saturating_sub(divisor.bits());
        let mut shifted = divisor.clone();
        shifted.shift_left(steps);
        let mut quotient = Self::default();
        for _ in 0..=steps {
            quotient.multiply_add(2, 0);
            if self.compare(&shifted) != Ordering::Less {
                self.subtract(&shifted);
                quotient.multiply_add(1, 1);
            }
            shifted.shift_right_one();
        }
        quotient
    }

    /// The most significant 128 bits, how many bits lie below them, and whether any of those is set.
    fn top_bits(&self) -> (u128, i32, bool) {
        let dropped = self.bits().saturating_sub(128);
        let mut top = 0_u128;
        let mut sticky = false;
        for (at, digit) in self.0.iter().enumerate() {
            let (low, digit) = (at * 32, u128::from(*digit));
            if low >= dropped {
                top |= digit << (low - dropped);
            } else if dropped - low < 32 {
                top |= digit >> (dropped - low);
                sticky |= digit & ((1 << (dropped - low)) - 1) != 0;
            } else {
                sticky |= digit != 0;
            }
        }
        (top, dropped as i32, sticky)
    }

    fn to_decimal(&self) -> String {
        const CHUNK: u64 = 1_000_000_000;
        let mut rest = self.0.clone();
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let mut remainder = 0;
            for digit in rest.iter_mut().rev() {
                let value = (remainder << 32) | u64::from(*digit);
                *digit = (value / CHUNK) as u32;
                remainder = value % CHUNK;
            }
            chunks.push(remainder);
            while rest.last() == Some(&0) {
                rest.pop();
            }
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:09}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        match (parse(a.as_bytes()), parse(b.as_bytes())) {
            (Some(Number::Finite(a)), Some(Number::Finite(b))) => {
                a.plus(b).map_or_else(|| "infinite".to_owned(), Extended::to_text)
            }
            other => format!("{other:?}"),
        }
    }

    /// What redis-server 7.0.15 on x86-64 answers.
    #[test]
    fn sums_are_those_of_redis() {
        let cases = [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3.0", "1", "4"),
            ("-1.5", "1.5", "0"),
            ("0", "-0.0", "0"),
            ("1", "-1e-30", "1"),
            ("-1e-20", "0", "0"),
            ("18446744073709551615", "0", "18446744073709551615"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551617", "0", "18446744073709551616"),
            ("1e30", "1", "1000000000000000000024696061952"),
            ("0.5e1", ".5", "5.5"),
            ("5.", "+1", "6"),
            ("1e4931", "-1e4931", "0"),
            ("0e99999999999999999999", "-0e-99999999999999999999", "0"),
            ("0x10", "-0X.8p+1", "15"),
        ];
        for (a, b, expected) in cases {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
            assert_eq!(sum(b, a), expected, "{b} + {a}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "e5",
            "1e",
            "1 ",
            " 1",
            "abc",
            "1.2.3",
            "nan",
            "1e5000",
            "1e-5000",
            "--1",
            "1e99999999999",
            "0x",
            "0x.",
            "0xg",
            "0x1p",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(&[b'1'; MAX_TEXT + 1]), None);
        assert_eq!(parse(b"-Inf"), Some(Number::Infinite));
        assert_eq!(sum("1.1e4932", "1.1e4932"), "infinite");
    }

    #[test]
    fn small_doubles_agree_with_exact_decimal_arithmetic() {
        // Halves, quarters, eighths are exact in every binary format.
        for n in -200_i32..200 {
            let (a, b) = (f64::from(n) / 8.0, f64::from(n * 7 + 3) / 16.0);
            assert_eq!(sum(&a.to_string(), &b.to_string()), (a + b).to_string(), "{a} + {b}");
        }
    }
}
