//! Replies of RESP3 as a client of RESP2 gets them.
//!
//! | RESP3 | | RESP2 |
//! |---|---|---|
//! | map, set, push | `%2`, `~2`, `>2` | array: `*4`, `*2`, `*2` |
//! | double, big number | `,1.5`, `(12` | bulk string |
//! | boolean | `#t` | integer: `:1` |
//! | null | `_` | null bulk string: `$-1` |
//! | verbatim string | `=9` `txt:hello` | bulk string, without its format |
//! | bulk error | `!9` `ERR a\r\nb` | error line, its line ends as spaces |
//! | attribute | `\|1` ... | nothing |
//!
//! Redis itself answers a few commands with the null array `*-1` in RESP2; in RESP3 that is `_` like any other null, and so
//! comes out here as `$-1`.

use super::number::{Line, number_line};
use super::reply::{write_array_header, write_bulk, write_line_text};

/// Appends a RESP3 reply, which is whole, in the form of RESP2. A reply of RESP2 is one of RESP3 and stays as it is.
///
/// Elements come out in the order in which they lie there, each aggregate as its header alone, so there is no recursion and
/// no limit of depth.
pub fn to_resp2(reply: &[u8], out: &mut Vec<u8>) {
    let mut rest = reply;
    while let Some(element) = Element::at(rest) {
        let body = &rest[element.body.clone()];
        match rest[0] {
            // The pairs are not for this client, what they are about follows.
            b'|' => {
                rest = without(&rest[element.end..], element.children);
                continue;
            }
            b'%' | b'~' | b'>' => write_array_header(out, element.children),
            b',' | b'(' => write_bulk(out, body),
            b'#' => out.extend_from_slice(if body == b"t" { b":1\r\n" } else { b":0\r\n" }),
            b'_' => out.extend_from_slice(super::reply::NULL),
            b'=' => write_bulk(out, body.get(4..).unwrap_or_default()),
            b'!' => {
                out.push(b'-');
                write_line_text(out, body);
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(&rest[..element.end]),
        }
        rest = &rest[element.end..];
    }
}

/// What is left without the next so many elements, whatever is in them.
fn without(mut rest: &[u8], elements: usize) -> &[u8] {
    let mut left = elements;
    while left > 0
        && let Some(element) = Element::at(rest)
    {
        // An attribute is none itself: the element that it is about follows.
        let counted = usize::from(rest[0] != b'|');
        left = (left - counted).saturating_add(element.children);
        rest = &rest[element.end..];
    }
    rest
}

/// One scalar, or the header of one aggregate.
struct Element {
    /// The text of it, without type, length and line ends.
    body: std::ops::Range<usize>,
    /// Behind the scalar or the header.
    end: usize,
    /// Elements that follow and belong to it.
    children: usize,
}

impl Element {
    /// What begins here; `None`: nothing, or nothing whole.
    fn at(bytes: &[u8]) -> Option<Self> {
        let number = || match number_line(bytes, 0) {
            Line::Number { value, end } => Some((value, end)),
            _ => None,
        };
        let (body, end, children) = match bytes.first()? {
            b'$' | b'=' | b'!' => {
                let (length, start) = number()?;
                match usize::try_from(length) {
                    Ok(length) => {
                        let end = start.checked_add(length)?;
                        (start..end, end.checked_add(2)?, 0)
                    }
                    Err(_) => (start..start, start, 0),
                }
            }
            kind @ (b'*' | b'%' | b'~' | b'>' | b'|') => {
                let (count, end) = number()?;
                let count = usize::try_from(count).unwrap_or(0);
                (end..end, end, if matches!(kind, b'%' | b'|') { count.checked_mul(2)? } else { count })
            }
            _ => {
                let end = memchr::memchr(b'\n', bytes)? + 1;
                (1..end.saturating_sub(2).max(1), end, 0)
            }
        };
        (end <= bytes.len()).then_some(Self { body, end, children })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::redis::response::scan;
    use crate::protocol::{Limits, Parsed};

    fn converted(reply: &str) -> String {
        let mut out = b"before ".to_vec();
        to_resp2(reply.as_bytes(), &mut out);
        String::from_utf8(out).unwrap().strip_prefix("before ").unwrap().to_owned()
    }

    #[test]
    fn every_type_has_its_form() {
        for (three, two) in [
            ("+OK\r\n", "+OK\r\n"),
            ("-ERR x\r\n", "-ERR x\r\n"),
            (":-5\r\n", ":-5\r\n"),
            ("$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
            ("$-1\r\n", "$-1\r\n"),
            ("*-1\r\n", "*-1\r\n"),
            ("*0\r\n", "*0\r\n"),
            ("_\r\n", "$-1\r\n"),
            ("#t\r\n", ":1\r\n"),
            ("#f\r\n", ":0\r\n"),
            (",1.5\r\n", "$3\r\n1.5\r\n"),
            (",-inf\r\n", "$4\r\n-inf\r\n"),
            ("(123456789012345678901234567890\r\n", "$30\r\n123456789012345678901234567890\r\n"),
            ("=9\r\ntxt:hello\r\n", "$5\r\nhello\r\n"),
            ("=4\r\ntxt:\r\n", "$0\r\n\r\n"),
            ("!8\r\nERR a\r\nb\r\n", "-ERR a  b\r\n"),
            ("%1\r\n+a\r\n~1\r\n_\r\n", "*2\r\n+a\r\n*1\r\n$-1\r\n"),
            (">2\r\n+message\r\n:1\r\n", "*2\r\n+message\r\n:1\r\n"),
            ("|1\r\n+ttl\r\n%1\r\n:1\r\n|1\r\n+a\r\n+b\r\n~0\r\n:7\r\n", ":7\r\n"),
            ("*2\r\n|1\r\n+a\r\n*1\r\n*0\r\n,2\r\n#t\r\n", "*2\r\n$1\r\n2\r\n:1\r\n"),
        ] {
            assert_eq!(converted(three), two, "{three:?}");
        }
    }

    /// A reply as a tree.
    #[derive(Debug, Clone)]
    enum Tree {
        /// The bytes in RESP3, and in RESP2.
        Leaf(Vec<u8>, Vec<u8>),
        /// The byte of the type, and elements: of a map keys and values.
        Many(u8, Vec<Tree>),
        /// Attributes, and what they are about.
        About(Vec<Tree>, Box<Tree>),
    }

    impl Tree {
        fn resp3(&self, out: &mut Vec<u8>) {
            match self {
                Self::Leaf(three, _) => out.extend(three),
                Self::Many(kind, elements) => {
                    let count = if *kind == b'%' { elements.len() / 2 } else { elements.len() };
                    out.extend(format!("{}{count}\r\n", char::from(*kind)).bytes());
                    elements.iter().for_each(|element| element.resp3(out));
                }
                Self::About(pairs, what) => {
                    out.extend(format!("|{}\r\n", pairs.len() / 2).bytes());
                    pairs.iter().for_each(|element| element.resp3(out));
                    what.resp3(out);
                }
            }
        }

        fn resp2(&self, out: &mut Vec<u8>) {
            match self {
                Self::Leaf(_, two) => out.extend(two),
                Self::Many(_, elements) => {
                    out.extend(format!("*{}\r\n", elements.len()).bytes());
                    elements.iter().for_each(|element| element.resp2(out));
                }
                Self::About(_, what) => what.resp2(out),
            }
        }
    }

    fn leaf() -> impl Strategy<Value = Tree> {
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len()).into_bytes();
        let same = |text: String| Tree::Leaf(text.clone().into_bytes(), text.into_bytes());
        prop_oneof![
            any::<i64>().prop_map(move |n| same(format!(":{n}\r\n"))),
            "[ -~]{0,8}".prop_map(move |text| same(format!("+{text}\r\n"))),
            "[ -~]{0,8}".prop_map(move |text| same(format!("-{text}\r\n"))),
            "[ -~\r\n]{0,8}".prop_map(move |text| same(format!("${}\r\n{text}\r\n", text.len()))),
            Just(Tree::Leaf(b"_\r\n".to_vec(), b"$-1\r\n".to_vec())),
            any::<bool>().prop_map(|yes| {
                let two = format!(":{}\r\n", u8::from(yes)).into_bytes();
                Tree::Leaf(format!("#{}\r\n", if yes { 't' } else { 'f' }).into_bytes(), two)
            }),
            any::<f64>().prop_map(move |n| Tree::Leaf(format!(",{n}\r\n").into_bytes(), bulk(&n.to_string()))),
            "-?[0-9]{1,30}".prop_map(move |n| Tree::Leaf(format!("({n}\r\n").into_bytes(), bulk(&n))),
            "[ -~\r\n]{0,8}".prop_map(move |text| {
                Tree::Leaf(format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into_bytes(), bulk(&text))
            }),
            "[ -~\r\n]{0,8}".prop_map(|text| {
                let line = text.replace(['\r', '\n'], " ");
                Tree::Leaf(format!("!{}\r\n{text}\r\n", text.len()).into_bytes(), format!("-{line}\r\n").into_bytes())
            }),
        ]
    }

    fn tree() -> impl Strategy<Value = Tree> {
        leaf().prop_recursive(5, 64, 6, |inner| {
            let pairs = || {
                vec((inner.clone(), inner.clone()), 0..3)
                    .prop_map(|pairs| pairs.into_iter().flat_map(<[_; 2]>::from).collect())
            };
            prop_oneof![
                (prop::sample::select(b"*~>".to_vec()), vec(inner.clone(), 0..5))
                    .prop_map(|(kind, all)| Tree::Many(kind, all)),
                pairs().prop_map(|pairs| Tree::Many(b'%', pairs)),
                (pairs(), inner.clone()).prop_map(|(pairs, what)| Tree::About(pairs, Box::new(what))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_reply_comes_out_as_its_tree_says(tree in tree()) {
            let (mut three, mut two, mut out) = (Vec::new(), Vec::new(), Vec::new());
            tree.resp3(&mut three);
            tree.resp2(&mut two);
            prop_assert_eq!(scan(&three, &Limits::default()), Ok(Parsed::Complete(three.len())));
            to_resp2(&three, &mut out);
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&two));
            prop_assert_eq!(scan(&out, &Limits::default()), Ok(Parsed::Complete(out.len())));
            // It is one of RESP3 as well.
            let mut again = Vec::new();
            to_resp2(&out, &mut again);
            prop_assert_eq!(again, out);
        }

        #[test]
        fn what_is_no_reply_does_no_harm(bytes in vec(prop_oneof![any::<u8>(), prop::sample::select(b"$*%~>|=!_#,(\r\n0129-".to_vec())], 0..40)) {
            to_resp2(&bytes, &mut Vec::new());
        }
    }
}
