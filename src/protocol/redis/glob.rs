//! Redis's glob patterns: `*`, `?`, `[a-z]`, `[^...]`, `\`.
//!
//! Goes back to the last star only, so the cost is bounded by the product of the lengths, whatever the pattern.

/// Whether all of `text` fits `pattern`, as Redis's own matcher sees it.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    find(pattern, text, |byte| byte)
}

/// The same without regard to the case of ASCII letters.
pub fn matches_any_case(pattern: &[u8], text: &[u8]) -> bool {
    find(pattern, text, |byte| byte.to_ascii_lowercase())
}

fn find(pattern: &[u8], text: &[u8], fold: impl Fn(u8) -> u8 + Copy) -> bool {
    let (mut rest, mut left) = (pattern, text);
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (rest, left) {
            ([], []) => return true,
            ([b'*', after @ ..], _) => {
                star = Some((after, left));
                Some((after, left))
            }
            ([b'?', after @ ..], [_, next @ ..]) => Some((after, next)),
            ([b'[', set @ ..], [byte, next @ ..]) => match in_set(set, *byte, fold) {
                (true, after) => Some((after, next)),
                (false, _) => None,
            },
            // One that ends the pattern escapes nothing and stands for itself.
            ([b'\\', literal, after @ ..] | [literal, after @ ..], [byte, next @ ..]) => {
                (fold(*literal) == fold(*byte)).then_some((after, next))
            }
            _ => None,
        };
        (rest, left) = match (step, star) {
            (Some(step), _) => step,
            // Let the last star take one byte more.
            (None, Some((after, [_, next @ ..]))) => {
                star = Some((after, next));
                (after, next)
            }
            (None, _) => return false,
        };
    }
}

/// Whether `byte` is in the set whose text, without the opening bracket, starts `set`; and what follows the set.
fn in_set(set: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match set {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let byte = fold(byte);
    let mut found = false;
    loop {
        rest = match rest {
            [] => return (found != negated, rest),
            [b']', after @ ..] => return (found != negated, after),
            [b'\\', one, after @ ..] => {
                found |= fold(*one) == byte;
                after
            }
            [low, b'-', high, after @ ..] => {
                let (low, high) = (fold(*low), fold(*high));
                found |= (low.min(high)..=low.max(high)).contains(&byte);
                after
            }
            [one, after @ ..] => {
                found |= fold(*one) == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_and_what_does_not() {
        let fits =
            [("*", ""), ("*", "a"), ("a*b*c", "axxbyyc"), ("?", "a"), ("[a-c]", "b"), ("[c-a]", "b"), ("\\*", "*")];
        let more =
            [("a**", "a"), ("[^b]", "a"), ("[\\]]", "]"), ("\\", "\\"), ("a\\", "a\\"), ("[^]", "x"), ("[a", "a")];
        for (pattern, text) in fits.into_iter().chain(more) {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        let not =
            [("", "a"), ("a", ""), ("a*b", "abc"), ("[^b]", "b"), ("\\*", "x"), ("?", ""), ("[", ""), ("[]", "a")];
        for (pattern, text) in not.into_iter().chain([("app:*", "ap:1"), ("A", "a"), ("[A-C]", "b")]) {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn letters_of_any_case() {
        for (pattern, text) in [("A", "a"), ("[A-C]x", "bX"), ("*OBJ*", "object"), ("\\A", "a")] {
            assert!(matches_any_case(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        assert!(!matches_any_case(b"[a-c]", b"d"));
    }

    #[test]
    fn many_stars_cost_little() {
        assert!(!matches("*a".repeat(2000).as_bytes(), "a".repeat(1000).as_bytes()));
    }
}
