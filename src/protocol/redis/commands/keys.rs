//! Where the keys of a command are among its arguments: Redis's key specifications, and the search for them.
//!
//! A specification says where to begin (at an index, or after a keyword) and how to go on from there (a range, or as many
//! as a number says). Indexes count the command's name as 0, and that of its container too.

use thiserror::Error;

use super::Command;
use crate::protocol::redis::number::{decimal, is_canonical};

/// What a command does with a key, as bits.
pub type KeyFlags = u16;

/// Reads.
pub const RO: KeyFlags = 1;
/// Reads and writes.
pub const RW: KeyFlags = 1 << 1;
/// Overwrites.
pub const OW: KeyFlags = 1 << 2;
/// Removes.
pub const RM: KeyFlags = 1 << 3;
/// Returns or copies the value.
pub const ACCESS: KeyFlags = 1 << 4;
/// Changes the value, depending on the old one or not.
pub const UPDATE: KeyFlags = 1 << 5;
/// Adds to the value.
pub const INSERT: KeyFlags = 1 << 6;
/// Takes something from the value, or all of it.
pub const DELETE: KeyFlags = 1 << 7;
/// Routed like a key, but none: a channel.
pub const NOT_KEY: KeyFlags = 1 << 8;
/// There may be keys that the specification does not find.
pub const INCOMPLETE: KeyFlags = 1 << 9;
/// What is done with the key depends on the arguments.
pub const VARIABLE_FLAGS: KeyFlags = 1 << 10;

/// The commonest combinations, by what happens to the key.
pub const READ: KeyFlags = RO | ACCESS;
pub const ADD: KeyFlags = RW | INSERT;
pub const CHANGE: KeyFlags = RW | UPDATE;
pub const EXCHANGE: KeyFlags = RW | ACCESS | UPDATE;
pub const REPLACE: KeyFlags = OW | UPDATE;
pub const REMOVE: KeyFlags = RW | DELETE;
pub const TAKE: KeyFlags = RW | ACCESS | DELETE;

/// The names of the flags, in Redis's order.
pub const KEY_FLAG_NAMES: [(KeyFlags, &str); 11] = [
    (RO, "RO"),
    (RW, "RW"),
    (OW, "OW"),
    (RM, "RM"),
    (ACCESS, "access"),
    (UPDATE, "update"),
    (INSERT, "insert"),
    (DELETE, "delete"),
    (NOT_KEY, "not_key"),
    (INCOMPLETE, "incomplete"),
    (VARIABLE_FLAGS, "variable_flags"),
];

/// One place of a command's arguments that holds keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeySpec {
    /// Where to begin.
    pub begin: Begin,
    /// How to go on.
    pub find: Find,
    /// What the command does with these keys.
    pub flags: KeyFlags,
}

/// Where a key specification begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Begin {
    /// At this argument.
    Index(i16),
    /// After the first argument that is this word; the search starts at `from`, or from the end backwards if negative.
    Keyword { word: &'static str, from: i16 },
    /// No rule can say.
    Unknown,
}

/// Which arguments are keys from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Find {
    /// Up to `last`, counted from the beginning, or from the end if negative; one out of `step`. With `limit` over 1 only
    /// that fraction of the arguments is keys.
    Range { last: i16, step: u16, limit: u16 },
    /// The argument `number` from here is the number of keys, of which the first is `first` from here; then one out of `step`.
    Count { number: u8, first: u8, step: u16 },
    /// No rule can say.
    Unknown,
}

/// One key at `index`.
pub const fn key(index: i16, flags: KeyFlags) -> KeySpec {
    range(index, 0, 1, flags)
}

/// Keys from `index` to `last` (negative: from the end), one out of `step`.
pub const fn range(index: i16, last: i16, step: u16, flags: KeyFlags) -> KeySpec {
    KeySpec { begin: Begin::Index(index), find: Find::Range { last, step, limit: 0 }, flags }
}

/// The number of keys at `index`, the keys behind it.
pub const fn counted(index: i16, flags: KeyFlags) -> KeySpec {
    let find = Find::Count { number: 0, first: 1, step: 1 };
    KeySpec { begin: Begin::Index(index), find, flags }
}

/// One key after `word`, which may be missing, anywhere from `from` on.
pub const fn after(word: &'static str, from: i16, flags: KeyFlags) -> KeySpec {
    KeySpec { begin: Begin::Keyword { word, from }, find: Find::Range { last: 0, step: 1, limit: 0 }, flags }
}

/// All arguments after `word`.
pub const fn all_after(word: &'static str, from: i16, flags: KeyFlags) -> KeySpec {
    KeySpec { begin: Begin::Keyword { word, from }, find: Find::Range { last: -1, step: 1, limit: 0 }, flags }
}

/// The first half of the arguments after `STREAMS`.
pub const fn streams(from: i16, flags: KeyFlags) -> KeySpec {
    let begin = Begin::Keyword { word: "STREAMS", from };
    KeySpec { begin, find: Find::Range { last: -1, step: 1, limit: 2 }, flags }
}

/// Keys that depend on more than the place of the arguments.
pub const fn unknown(flags: KeyFlags) -> KeySpec {
    KeySpec { begin: Begin::Unknown, find: Find::Unknown, flags }
}

/// Why the keys of a request cannot be told. The request is wrong, and Redis would refuse it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The number of keys is no number.
    #[error("the number of keys is not an integer")]
    NotInteger,
    /// The number of keys is negative, or 0 where there must be a key.
    #[error("too small a number of keys")]
    TooFew,
    /// There are fewer arguments than the number of keys says.
    #[error("number of keys greater than number of arguments")]
    TooMany,
    /// Keys and values do not come in pairs.
    #[error("a key without a value")]
    Pairs,
    /// A keyword or its key is missing.
    #[error("syntax error")]
    Syntax,
}

impl Command {
    /// Collects into `found` the indexes of the arguments that are keys, in the order in which Redis gives them. None is
    /// no error for commands that work without, such as EVAL.
    pub fn keys<'a>(
        &self,
        argc: usize,
        arg: impl Fn(usize) -> Option<&'a [u8]>,
        found: &mut Vec<u32>,
    ) -> Result<(), KeyError> {
        found.clear();
        self.visit_keys(argc, arg, |index, _| found.push(index as u32))
    }

    /// Calls `visit` with the index of each key and the flags of its specification.
    pub fn visit_keys<'a>(
        &self,
        argc: usize,
        arg: impl Fn(usize) -> Option<&'a [u8]>,
        mut visit: impl FnMut(usize, KeyFlags),
    ) -> Result<(), KeyError> {
        let mut found = false;
        for spec in self.key_specs {
            let keys = match spec.begin {
                _ if spec.flags & NOT_KEY != 0 => None,
                _ if self.name == "migrate" => migrate_keys(argc, &arg).filter(|_| !found),
                Begin::Index(index) => spec.find(self, index as usize, argc, &arg)?,
                Begin::Keyword { word, from } => match find_keyword(word, from, argc, &arg) {
                    Some(at) if at + 1 < argc => spec.find(self, at + 1, argc, &arg)?,
                    _ => None,
                },
                // Only SORT has such: the keys that BY and GET make from elements are the server's own affair, the
                // destination is not.
                Begin::Unknown if spec.flags & OW != 0 => {
                    sort_destination(argc, &arg).map(|at| (at..at + 1).step_by(1))
                }
                Begin::Unknown => None,
            };
            for index in keys.into_iter().flatten() {
                found = true;
                visit(index, spec.flags);
            }
        }
        if !found && self.has_keys() && !self.works_without_keys() { Err(KeyError::Syntax) } else { Ok(()) }
    }

    /// True if an argument can be a key.
    pub fn has_keys(&self) -> bool {
        self.key_specs.iter().any(|spec| spec.flags & NOT_KEY == 0)
    }

    /// The position of the only key, for a command that has one key and always in the same place.
    #[inline]
    pub fn first_key_only(&self) -> Option<usize> {
        match self.key_specs {
            [KeySpec { begin: Begin::Index(index), find: Find::Range { last: 0, .. }, flags }]
                if flags & NOT_KEY == 0 =>
            {
                Some(*index as usize)
            }
            _ => None,
        }
    }
}

/// Indexes of arguments.
type Places = std::iter::StepBy<std::ops::Range<usize>>;

impl KeySpec {
    /// The keys that start at `first`, or none where that is allowed.
    fn find<'a>(
        &self,
        command: &Command,
        first: usize,
        argc: usize,
        arg: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> Result<Option<Places>, KeyError> {
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let from_end = usize::from(last.unsigned_abs());
                let last = match (last, limit) {
                    (0.., _) => first.checked_add(from_end),
                    (_, 0 | 1) => argc.checked_sub(from_end),
                    // One alone, of pairs, is a key that the server will complain about.
                    _ => (first + (argc.saturating_sub(first) / usize::from(limit)).max(1)).checked_sub(from_end),
                };
                // PFMERGE may have no source.
                if first == argc && limit == 0 && command.key_specs.len() > 1 {
                    return Ok(None);
                }
                (first, last.ok_or(KeyError::Syntax)?, usize::from(step).max(1))
            }
            Find::Count { number, first: offset, step } => {
                let (number, first, step) =
                    (first + usize::from(number), first + usize::from(offset), step.max(1).into());
                match count(arg(number).unwrap_or_default(), argc.saturating_sub(first).div_ceil(step))? {
                    0 if command.works_without_keys() => return Ok(None),
                    0 => return Err(KeyError::TooFew),
                    count => return Ok(Some((first..first + (count - 1) * step + 1).step_by(step))),
                }
            }
            Find::Unknown => return Ok(None),
        };
        if first >= argc || last >= argc || last < first {
            return Err(KeyError::Syntax);
        }
        if !(last + 1 - first).is_multiple_of(step) {
            return Err(KeyError::Pairs);
        }
        Ok(Some((first..last + 1).step_by(step)))
    }
}

/// A number of keys, of which there can be `most`.
fn count(text: &[u8], most: usize) -> Result<usize, KeyError> {
    let number = decimal(text).filter(|_| is_canonical(text)).ok_or(KeyError::NotInteger)?;
    let number = usize::try_from(number).map_err(|_| KeyError::TooFew)?;
    if number > most { Err(KeyError::TooMany) } else { Ok(number) }
}

/// The argument that is `word`, looked for from `from` on, or backwards from the end if that is negative.
fn find_keyword<'a>(word: &str, from: i16, argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) -> Option<usize> {
    let is_word = |&at: &usize| arg(at).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()));
    let distance = usize::from(from.unsigned_abs());
    if from >= 0 { (distance..argc).find(is_word) } else { (1..=argc.checked_sub(distance)?).rev().find(is_word) }
}

/// The destination of SORT: what follows the last STORE that is not itself the argument of another option.
fn sort_destination<'a>(argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) -> Option<usize> {
    let mut destination = None;
    let mut at = 2;
    while at < argc {
        let word = arg(at)?;
        at += match word {
            _ if word.eq_ignore_ascii_case(b"limit") => 3,
            _ if word.eq_ignore_ascii_case(b"get") || word.eq_ignore_ascii_case(b"by") => 2,
            _ if word.eq_ignore_ascii_case(b"store") && at + 1 < argc => {
                destination = Some(at + 1);
                1
            }
            _ => 1,
        };
    }
    destination
}

/// MIGRATE has its one key in the fourth place, unless that is empty and KEYS follows.
fn migrate_keys<'a>(argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) -> Option<Places> {
    let mut at = 6;
    while at < argc {
        let word = arg(at)?;
        at += match word {
            _ if word.eq_ignore_ascii_case(b"auth") => 2,
            _ if word.eq_ignore_ascii_case(b"auth2") => 3,
            _ if word.eq_ignore_ascii_case(b"keys") => {
                return arg(3)?.is_empty().then(|| (at + 1..argc).step_by(1));
            }
            _ => 1,
        };
    }
    (argc > 3).then(|| (3..4).step_by(1))
}
