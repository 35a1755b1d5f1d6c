//! Inline commands: one line, split into words by the same quoting rules as Redis's `sdssplitargs`.
//!
//! `"..."` knows `\n \r \t \b \a`, `\xHH` and `\` before anything else for that itself; `'...'` knows only `\'`. A
//! closing quote must be followed by blank space or the end. A NUL byte ends the line, as it does in C.

/// The words of `line`, which has no line end; none if its quotes are unbalanced.
pub(super) fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = line.split(|&byte| byte == 0).next().unwrap_or(line);
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|&&byte| is_space(byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Appends the first word of `rest` to `word` and returns what follows it. A closing quote ends the word, a quote may
/// open in the middle of one.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match *rest {
            [] => return Some(rest),
            // Vertical tab and form feed separate words only when a blank comes first: Redis's own inconsistency.
            [b' ' | b'\n' | b'\r' | b'\t', ref after @ ..] => return Some(after),
            [b'"', ref quoted @ ..] => return followed_by_space(take_double_quoted(quoted, word)?),
            [b'\'', ref quoted @ ..] => return followed_by_space(take_single_quoted(quoted, word)?),
            [byte, ref after @ ..] => {
                word.push(byte);
                rest = after;
            }
        }
    }
}

fn followed_by_space(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|&byte| is_space(byte)).then_some(rest)
}

/// Appends up to the closing quote and returns what follows it.
fn take_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match *rest {
            [] => return None,
            [b'"', ref after @ ..] => return Some(after),
            [b'\\', b'x', high, low, ref after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(high) << 4 | hex(low), after)
            }
            [b'\\', escaped, ref after @ ..] => (unescape(escaped), after),
            [byte, ref after @ ..] => (byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

/// Appends up to the closing quote and returns what follows it.
fn take_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match *rest {
            [] => return None,
            [b'\'', ref after @ ..] => return Some(after),
            [b'\\', b'\'', ref after @ ..] => (b'\'', after),
            [byte, ref after @ ..] => (byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split(line.as_bytes())?;
        Some(words.iter().map(|word| word.escape_ascii().to_string()).collect())
    }

    #[test]
    fn splits_as_redis_does() {
        for (line, expected) in [
            ("", &[][..]),
            (" \t\r ", &[]),
            ("GET key", &["GET", "key"]),
            ("  GET \t key  ", &["GET", "key"]),
            ("GET \"\"", &["GET", ""]),
            ("GET ''", &["GET", ""]),
            (r#"SET "a b" 'c d'"#, &["SET", "a b", "c d"]),
            (r#""\n\r\t\b\a\\\"\q""#, &[r#"\n\r\t\x08\x07\\\"q"#]),
            (r#""\x41\xfF\xg1\x4""#, &[r"A\xffxg1x4"]),
            (r"'\n\'\x41'", &[r"\\n\'\\x41"]),
            (r#"foo"bar" baz"#, &["foobar", "baz"]),
            (r#"foo'b"r' baz"#, &[r#"foob\"r"#, "baz"]),
            ("a\\nb", &[r"a\\nb"]),
            ("\u{b}a\u{c}b", &[r"a\x0cb"]),
            ("\"a\"\u{c}b", &["a", "b"]),
            ("GET a\0b c", &["GET", "a"]),
        ] {
            let expected = expected.iter().map(|word| word.to_string()).collect();
            assert_eq!(words(line), Some(expected), "{line:?}");
        }
    }

    #[test]
    fn refuses_unbalanced_quotes() {
        for line in
            ["\"", "'", "GET \"a", "GET 'a", "\"a\"b", "'a'b", "\"a\"\"b\"", "\"a\\\"", "'a\\'", "\"a\0\"", "\"\\"]
        {
            assert_eq!(words(line), None, "{line:?}");
        }
    }
}
