//! Keys as they are noticed and shown. A key may be long, and may be nobody's business.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// Bytes of a key that are kept, and shown.
const KEPT: usize = 64;
/// Bytes of a key that count when keys are told apart, with its length. Longer ones that agree so far are taken for one.
const COMPARED: usize = 192;

/// Another one in each process, so that the hash of a key says nothing outside.
static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// How keys are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyForm {
    /// As they are; what cannot be printed is escaped.
    #[default]
    Plain,
    /// As a hash: the same text for the same key, as long as the process runs.
    Hash,
    /// Not at all.
    Off,
}

impl KeyForm {
    /// With the names that they have in files.
    pub const ALL: [(&'static str, Self); 3] = [("plain", Self::Plain), ("hash", Self::Hash), ("off", Self::Off)];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// A key: its beginning, its length, and what tells it from others. Of a fixed size, so that noticing one takes no
/// memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    beginning: [u8; KEPT],
    /// Bytes of the beginning that are there.
    kept: u8,
    length: u32,
    id: u64,
}

impl Key {
    /// The key of this length that begins so. To be told from others it must be known up to its end, or a few hundred
    /// bytes of it.
    pub fn new(known: &[u8], length: usize) -> Self {
        debug_assert!(known.len() <= length);
        let mut beginning = [0; KEPT];
        let kept = known.len().min(KEPT);
        beginning[..kept].copy_from_slice(&known[..kept]);
        let id = SECRET.hash_one((&known[..known.len().min(COMPARED)], length));
        Self { beginning, kept: kept as u8, length: u32::try_from(length).unwrap_or(u32::MAX), id }
    }

    /// The same for the same key, another one in another process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its length in bytes, if that is more than is shown.
    pub fn cut_length(&self, form: KeyForm) -> Option<u32> {
        (form == KeyForm::Plain && self.length > u32::from(self.kept)).then_some(self.length)
    }

    /// As text.
    pub fn shown(&self, form: KeyForm) -> String {
        match form {
            KeyForm::Plain => escaped(&self.beginning[..usize::from(self.kept)]),
            KeyForm::Hash => format!("{:016x}", self.id),
            KeyForm::Off => String::new(),
        }
    }
}

/// Printable text as it is, every other byte as `\x00`, a backslash twice.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' | '\'' => text.push(character),
                // Of what is not printable it makes an escape sequence.
                _ if character.escape_debug().count() > 1 => {
                    let mut bytes = [0; 4];
                    character.encode_utf8(&mut bytes).bytes().for_each(|byte| push_byte(&mut text, byte));
                }
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_byte(&mut text, *byte));
    }
    text
}

fn push_byte(text: &mut String, byte: u8) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    text.push_str("\\x");
    text.extend([byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(bytes: &[u8]) -> Key {
        Key::new(bytes, bytes.len())
    }

    #[test]
    fn plain_keys_are_text_that_harms_no_terminal() {
        let shown = |bytes: &[u8]| key(bytes).shown(KeyForm::Plain);
        assert_eq!(shown(b"user:42 'x' \"y\""), "user:42 'x' \"y\"");
        assert_eq!(shown("ключ".as_bytes()), "ключ");
        assert_eq!(shown(b"a\0b\r\n\x1b[31m\x7f\\"), r"a\x00b\x0d\x0a\x1b[31m\x7f\\");
        assert_eq!(shown(b"\xff\xfeok\xd0"), r"\xff\xfeok\xd0");
        // A right-to-left override.
        assert_eq!(shown("\u{202e}".as_bytes()), r"\xe2\x80\xae");
    }

    #[test]
    fn a_long_key_is_cut_and_says_how_long_it_is() {
        let long = key(&[b'x'; 300]);
        assert_eq!((long.shown(KeyForm::Plain), long.cut_length(KeyForm::Plain)), ("x".repeat(64), Some(300)));
        assert_eq!(key(&[b'x'; 64]).cut_length(KeyForm::Plain), None);
        assert_eq!(long.cut_length(KeyForm::Off), None, "its length says something, too");
        // Of a request that was not kept to its end there may be less.
        let part = Key::new(b"x", 20);
        assert_eq!((part.shown(KeyForm::Plain), part.cut_length(KeyForm::Plain)), ("x".to_owned(), Some(20)));
    }

    #[test]
    fn a_hash_is_the_same_for_the_same_key_and_not_that_of_another_process() {
        assert_eq!(key(b"a").shown(KeyForm::Hash), key(b"a").shown(KeyForm::Hash));
        assert_eq!(key(b"a").shown(KeyForm::Hash).len(), 16);
        let elsewhere = RandomState::new().hash_one((&b"a"[..], 1_usize));
        assert_ne!(key(b"a").id(), elsewhere);
        assert_eq!(key(b"a").shown(KeyForm::Off), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn keys_are_told_apart(one: Vec<u8>, other: Vec<u8>) {
            prop_assert_eq!(one == other, key(&one).id() == key(&other).id());
            prop_assert!(key(&one).shown(KeyForm::Plain).chars().all(|c| !c.is_control()));
        }

        #[test]
        fn what_is_known_beyond_what_is_compared_makes_no_difference(long in prop::collection::vec(any::<u8>(), 192..600)) {
            prop_assert_eq!(Key::new(&long[..192], long.len()), key(&long));
        }
    }
}
