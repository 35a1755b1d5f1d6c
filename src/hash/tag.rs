//! The hash tag: keys that share the enclosed part share a server.

/// The two bytes that enclose the part of a key that is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashTag(pub [u8; 2]);

/// The part of `key` that is hashed: what lies between the first opening byte and the first closing byte after it.
///
/// The whole key where there is no tag, no such pair, or nothing between: there is no second try, so `foo{}{bar}`
/// counts as a whole, and `foo{{bar}}` counts as `{bar`.
#[inline]
pub fn tagged(key: &[u8], tag: Option<HashTag>) -> &[u8] {
    match tag {
        Some(tag) => tag.enclosed(key).unwrap_or(key),
        None => key,
    }
}

impl HashTag {
    /// The non-empty part between the tag's bytes.
    #[inline]
    fn enclosed(self, key: &[u8]) -> Option<&[u8]> {
        let [open, close] = self.0;
        let after = &key[memchr::memchr(open, key)? + 1..];
        match memchr::memchr(close, after)? {
            0 => None,
            length => Some(&after[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_pair_counts_and_only_if_something_is_in_it() {
        let braces = Some(HashTag(*b"{}"));
        for (key, part) in [
            ("user:{42}:name", "42"),
            ("{a}", "a"),
            ("{a}{b}", "a"),
            ("foo{{bar}}zap", "{bar"),
            ("}{a}", "a"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("{}{a}", "{}{a}"),
            ("foo{bar", "foo{bar"),
            ("foo}bar", "foo}bar"),
            ("}x{", "}x{"),
            ("{", "{"),
            ("", ""),
        ] {
            assert_eq!(tagged(key.as_bytes(), braces), part.as_bytes(), "{key}");
        }
    }

    #[test]
    fn both_bytes_of_a_tag_may_be_the_same() {
        let dollars = Some(HashTag(*b"$$"));
        assert_eq!(tagged(b"a$b$c", dollars), b"b");
        assert_eq!(tagged(b"a$$b$c", dollars), b"a$$b$c");
        assert_eq!(tagged(b"a$bc", dollars), b"a$bc");
    }

    #[test]
    fn without_a_tag_the_whole_key_counts() {
        assert_eq!(tagged(b"a{b}", None), b"a{b}");
    }
}
