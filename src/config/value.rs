//! Reads one scalar value: booleans, numbers, durations, sizes, names from a list. A wrong one is reported with its
//! text and with what is allowed, and reads as `None`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Dialect;
use super::fields::{Context, closest};
use super::report::quoted;
use super::yaml::{Kind, Node};

/// A key's value, not yet looked at.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub key: &'static str,
    pub node: &'a Node,
    pub context: Context<'a>,
}

/// Of a duration; what twemproxy's `int` holds, 24 days.
const MOST_MILLISECONDS: u64 = i32::MAX as u64;
const DURATION_ALLOWED: &str = "allowed: milliseconds (500) or a whole number with a unit, ms, s, m or h (500ms, 2s)";

impl<'a> Value<'a> {
    /// `bad value of 'key': 'text'; <allowed>`.
    pub fn reject(&self, allowed: &str) {
        let found = self.node.describe();
        self.context.report.error(self.node.at, format!("bad value of '{}': {found}; {allowed}", self.key));
    }

    /// The scalar as text; empty ones, lists and mappings are reported.
    pub fn text(&self, allowed: &str) -> Option<&'a str> {
        let null = self.context.dialect == Dialect::Outrigger && self.node.is_null();
        match self.node.scalar() {
            Some(text) if !null => Some(text),
            _ => {
                self.reject(allowed);
                None
            }
        }
    }

    /// `parse` says what the text means, or `None` if it is not allowed.
    pub fn parsed<T>(&self, allowed: &str, parse: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        let value = parse(self.text(allowed)?);
        if value.is_none() {
            self.reject(allowed);
        }
        value
    }

    /// Exactly `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        self.parsed("allowed: true, false", |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// Digits only, as twemproxy.
    pub fn number(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let allowed = format!("allowed: {} to {}", range.start(), range.end());
        self.parsed(&allowed, |text| digits(text).filter(|n| range.contains(n)))
    }

    /// Milliseconds, or in our own format a number with a unit; 0 where it means "none" is the caller's to see.
    pub fn duration(&self) -> Option<Duration> {
        match self.context.dialect {
            Dialect::Twemproxy => {
                let allowed = format!("allowed: milliseconds, 0 to {MOST_MILLISECONDS}");
                let parse = |text| digits(text).filter(|n| *n <= MOST_MILLISECONDS).map(Duration::from_millis);
                self.parsed(&allowed, parse)
            }
            Dialect::Outrigger => self.parsed(&format!("{DURATION_ALLOWED}, at most 24 days"), duration),
        }
    }

    /// The same in our own format, and no shorter than `least`.
    pub fn duration_from(&self, least: Duration) -> Option<Duration> {
        let allowed = format!("{DURATION_ALLOWED}, from {least:?} to 24 days");
        self.parsed(&allowed, |text| duration(text).filter(|d| *d >= least))
    }

    /// A duration in whole seconds, at least one.
    pub fn seconds(&self) -> Option<Duration> {
        let allowed =
            "allowed: whole seconds with a unit, s, m or h (60s), or in milliseconds (60000), from 1s to 24 days";
        self.parsed(allowed, |text| duration(text).filter(|d| !d.is_zero() && d.subsec_nanos() == 0))
    }

    /// Bytes, or a number with a unit.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let allowed = format!(
            "allowed: bytes (65536) or a whole number with a unit, B, KiB, MiB or GiB (64KiB), from {} to {}",
            super::shown::size(*range.start()),
            super::shown::size(*range.end())
        );
        self.parsed(&allowed, |text| size(text).filter(|n| range.contains(n)))
    }

    /// One of a list of names.
    pub fn choice<T: Copy>(&self, names: &[(&'static str, T)]) -> Option<T> {
        let list: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let mut allowed = format!("allowed: {}", list.join(", "));
        if let Some(near) = self.node.scalar().and_then(|text| closest(text, &list)) {
            allowed = format!("did you mean {}? {allowed}", quoted(near));
        }
        self.parsed(&allowed, |text| names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value))
    }
}

impl Node {
    /// `key:` with nothing behind it.
    pub fn is_nothing(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { plain: true, text, .. } if text.is_empty())
    }

    /// YAML's null spelled out, which is text like any other to twemproxy.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { plain: true, text, .. } if matches!(text.as_str(), "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar that is not empty.
    pub fn scalar(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// For messages: the quoted text, or what there is instead of one. Text of several lines is not shown: after a
    /// forgotten quote it may hold anything, a secret too.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Scalar { multiline: true, .. } => "text of several lines".to_owned(),
            Kind::Scalar { .. } => self.scalar().map_or_else(|| "nothing".to_owned(), quoted),
            Kind::Sequence(_) => "a list".to_owned(),
            Kind::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

/// Digits only, no sign, no space.
pub(super) fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Milliseconds, or a number with a unit.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = with_unit(text)?;
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    let milliseconds = number.checked_mul(factor).filter(|n| *n <= MOST_MILLISECONDS)?;
    Some(Duration::from_millis(milliseconds))
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = with_unit(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// `500ms` or `500 ms`: the digits and what follows them.
fn with_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    Some((digits(text.get(..end)?)?, text.get(end..)?.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_default_to_milliseconds() {
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(duration("500"), ms(500));
        assert_eq!(duration("500ms"), ms(500));
        assert_eq!(duration("500 ms"), ms(500));
        assert_eq!(duration("2s"), ms(2000));
        assert_eq!(duration("3m"), ms(180_000));
        assert_eq!(duration("1h"), ms(3_600_000));
        for bad in
            ["", "ms", "-1", "+1", "1.5s", "1d", "1S", "s1", "99999999999999999999", "18446744073709551615h", "25000h"]
        {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("65536"), Some(65536));
        assert_eq!(size("64KiB"), Some(65536));
        assert_eq!(size("1 MiB"), Some(1 << 20));
        assert_eq!(size("1GiB"), Some(1 << 30));
        for bad in ["", "64KB", "64k", "-1", "1TiB", "18446744073709551615GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
