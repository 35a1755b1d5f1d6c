//! What a server tells of a command: its reply to `COMMAND INFO name`, of Redis 2.8 to 8 and Valkey, RESP2 or RESP3.

use thiserror::Error;

use super::keys::{Begin, Find, INCOMPLETE, KEY_FLAG_NAMES, KeyFlags, KeySpec};
use super::learnt::{Description, keyword};
use super::{CATEGORY_NAMES, FLAG_NAMES, READONLY, WRITE};
use crate::protocol::redis::response::{self, Elements, text};

/// Subcommands of one container.
const MOST_SUBCOMMANDS: usize = 100;

/// Why a reply tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Untold {
    /// The server has no such command, or is so old that it has no COMMAND.
    #[error("there is no such command")]
    Unknown,
    /// It does not let us ask.
    #[error("{0}")]
    Refused(String),
    /// Something else than a description.
    #[error("its description cannot be understood")]
    Unclear,
}

/// The description of the one command that was asked for.
pub fn read(reply: &[u8]) -> Result<Description, Untold> {
    if response::is_error(reply) {
        let text = String::from_utf8_lossy(reply.get(1..).unwrap_or_default()).trim_end().to_owned();
        // A server without COMMAND, or one on which it has another name.
        return Err(if text.starts_with("ERR unknown") { Untold::Unknown } else { Untold::Refused(text) });
    }
    let mut commands = response::elements(reply);
    match (commands.next(), commands.next()) {
        (Some(b"*-1\r\n" | b"$-1\r\n" | b"_\r\n"), None) => Err(Untold::Unknown),
        (Some(command), None) => describe(command, true).ok_or(Untold::Unclear),
        _ => Err(Untold::Unclear),
    }
}

/// From the elements name, arity, flags, first key, last key, step; from Redis 6 on categories; from 7 on tips, key
/// specifications, subcommands.
fn describe(command: &[u8], outermost: bool) -> Option<Description> {
    let mut elements = items(command)?;
    let name = std::str::from_utf8(text(elements.next()?)?).ok()?.to_ascii_lowercase();
    let arity = i16::try_from(response::integer(elements.next()?)?).ok().filter(|arity| *arity != 0)?;
    let told = elements.next()?;
    let flags = bits(told, |flag| FLAG_NAMES.iter().find(|(_, name)| name.as_bytes() == flag).map(|(bit, _)| *bit))?;
    let movable = items(told)?.any(|flag| text(flag) == Some(b"movablekeys"));
    let mut number = || response::integer(elements.next()?);
    let legacy = (number()?, number()?, number()?);
    let category = |name: &[u8]| CATEGORY_NAMES.iter().position(|known| known.as_bytes() == name).map(|bit| 1 << bit);
    let categories = elements.next().map_or(Some(0), |told| bits(told, category))?;
    let specs = elements.nth(1);
    let mut key_specs = Vec::new();
    for spec in specs.into_iter().filter_map(items).flatten() {
        key_specs.push(key_spec(spec)?);
    }
    // Several ranges, or words, are told as moving because one range cannot tell them. If one range can, or there is none, a
    // function of the server's finds more.
    let one_range = |spec: &KeySpec| matches!((spec.begin, spec.find), (Begin::Index(_), Find::Range { .. }));
    let more_keys = movable && matches!(&key_specs[..], [] | [_]) && key_specs.iter().all(one_range);
    if key_specs.is_empty() {
        key_specs.extend(of_legacy(legacy, flags)?);
    }
    let told = elements.next().filter(|_| outermost).and_then(items);
    let mut subcommands = Vec::new();
    for subcommand in told.into_iter().flatten() {
        let described = describe(subcommand, false).filter(|sub| sub.name.starts_with(&format!("{name}|")))?;
        subcommands.push(described);
    }
    let fits = subcommands.len() <= MOST_SUBCOMMANDS;
    fits.then_some(Description { name, arity, flags, categories, key_specs, more_keys, subcommands })
}

/// The one range that servers before Redis 7, and many modules, tell; `None`: it makes no sense.
fn of_legacy((first, last, step): (i64, i64, i64), flags: super::Flags) -> Option<Option<KeySpec>> {
    if first <= 0 {
        return Some(None);
    }
    let last = if last >= first { last - first } else { last };
    let find = Find::Range { last: i16::try_from(last).ok()?, step: u16::try_from(step).ok()?, limit: 0 };
    let does = if flags & WRITE != 0 || flags & READONLY == 0 { super::keys::CHANGE } else { super::keys::READ };
    Some(Some(KeySpec { begin: Begin::Index(i16::try_from(first).ok()?), find, flags: does }))
}

fn key_spec(told: &[u8]) -> Option<KeySpec> {
    let bit = |flag: &[u8]| KEY_FLAG_NAMES.iter().find(|(_, name)| name.as_bytes() == flag).map(|(bit, _)| *bit);
    let flags: KeyFlags = bits(field(told, b"flags")?, bit)?;
    let (kind, begin) = rule(field(told, b"begin_search")?)?;
    let begin = match kind {
        b"index" => Begin::Index(small(begin, b"index").filter(|index| *index > 0)?),
        b"keyword" => {
            let word = std::str::from_utf8(text(field(begin, b"keyword")?)?).ok()?;
            Begin::Keyword { word: keyword(word)?, from: small(begin, b"startfrom")? }
        }
        _ => Begin::Unknown,
    };
    let (kind, find) = rule(field(told, b"find_keys")?)?;
    let find = match kind {
        b"range" => Find::Range {
            last: small(find, b"lastkey")?,
            step: small(find, b"keystep")?,
            limit: small(find, b"limit")?,
        },
        b"keynum" => Find::Count {
            number: small(find, b"keynumidx")?,
            first: small(find, b"firstkey")?,
            step: small(find, b"keystep")?,
        },
        _ => Find::Unknown,
    };
    let unknown = begin == Begin::Unknown || find == Find::Unknown;
    Some(KeySpec { begin, find, flags: if unknown { flags | INCOMPLETE } else { flags } })
}

/// The type of a rule, and its fields.
fn rule(told: &[u8]) -> Option<(&[u8], &[u8])> {
    Some((text(field(told, b"type")?)?, field(told, b"spec")?))
}

/// A number that has to fit.
fn small<T: TryFrom<i64>>(fields: &[u8], name: &[u8]) -> Option<T> {
    T::try_from(response::integer(field(fields, name)?)?).ok()
}

/// The value of a field, of names and values in turn.
fn field<'a>(fields: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut items = items(fields)?;
    while let Some(key) = items.next() {
        let value = items.next()?;
        if text(key) == Some(name) {
            return Some(value);
        }
    }
    None
}

/// The bits of those names that are known.
fn bits<B: std::ops::BitOr<Output = B> + From<u8>>(told: &[u8], bit: impl Fn(&[u8]) -> Option<B>) -> Option<B> {
    Some(items(told)?.filter_map(|name| bit(text(name)?)).fold(B::from(0), |all, bit| all | bit))
}

/// The elements of an array, of a set, or of a map, its names and values in turn; `None`: it is none of these.
fn items(value: &[u8]) -> Option<Elements<'_>> {
    matches!(value.first(), Some(b'*' | b'~' | b'%')).then(|| response::elements(value))
}

#[cfg(test)]
mod tests {
    use super::super::keys::{key, range, streams};
    use super::super::learnt::learn;
    use super::super::{BLOCKING, C_READ, Command, FAST, Route, all, lookup};
    use super::*;
    use crate::protocol::redis::introspect;

    /// What we tell of a command of the table, and what is read of that.
    fn again(command: &Command) -> Description {
        let mut told = Vec::new();
        let arg = |index: usize| Some([&b"COMMAND"[..], b"INFO", command.name.as_bytes()][index]);
        introspect::command(&mut told, 3, arg, &|_| None);
        read(&told).unwrap_or_else(|error| panic!("{}: {error}", command.name))
    }

    #[test]
    fn what_is_read_is_what_was_told() {
        let every = all().flat_map(|command| std::iter::once(command).chain(command.subcommands));
        for command in every {
            let read = again(command);
            assert_eq!((&read.name[..], read.arity, read.flags), (command.name, command.arity, command.flags));
            assert_eq!(read.categories, command.categories(), "{}", command.name);
            assert_eq!(read.subcommands.len(), command.subcommands.len());
            let plain = |spec: &KeySpec| KeySpec { flags: spec.flags & !INCOMPLETE, ..*spec };
            let specs: Vec<KeySpec> = command.key_specs.iter().map(plain).collect();
            assert_eq!(read.key_specs.iter().map(plain).collect::<Vec<_>>(), specs, "{}", command.name);
            assert!(
                !read.more_keys || command.key_specs.iter().any(|spec| spec.flags & INCOMPLETE != 0),
                "{}",
                command.name
            );
        }
    }

    #[test]
    fn what_is_learnt_goes_where_the_table_has_it_go() {
        for name in ["get", "set", "mset", "zunionstore", "xread", "blmpop", "object"] {
            let (known, learnt) =
                (lookup(name.as_bytes()).unwrap(), learn(&again(lookup(name.as_bytes()).unwrap())).unwrap());
            match known.route {
                Route::Key | Route::Keys | Route::One => assert_eq!(learnt.route, known.route, "{name}"),
                _ => assert_eq!(learnt.route, Route::Keys, "{name}"),
            }
            assert_eq!(learnt.subcommands.len(), known.subcommands.len());
            assert_eq!(learnt.is_read(), known.is_read(), "{name}");
        }
    }

    const OLD: &str = "*1\r\n*6\r\n$8\r\nMod.Copy\r\n:-3\r\n*2\r\n+readonly\r\n+nonsense\r\n:1\r\n:-1\r\n:2\r\n";

    #[test]
    fn old_servers_tell_one_range() {
        let read = read(OLD.as_bytes()).unwrap();
        assert_eq!((&read.name[..], read.arity, read.flags, read.categories), ("mod.copy", -3, READONLY, 0));
        assert_eq!(read.key_specs, [range(1, -1, 2, super::super::keys::READ)]);
        let with = |numbers: &str| super::read(OLD.replace(":1\r\n:-1\r\n:2\r\n", numbers).as_bytes());
        assert_eq!(with(":2\r\n:2\r\n:1\r\n").unwrap().key_specs, [key(2, super::super::keys::READ)]);
        assert_eq!(with(":2\r\n:4\r\n:1\r\n").unwrap().key_specs, [range(2, 2, 1, super::super::keys::READ)]);
        assert_eq!(with(":0\r\n:0\r\n:0\r\n").unwrap().key_specs, []);
        assert_eq!(with(":1\r\n:99999\r\n:1\r\n"), Err(Untold::Unclear));
        assert_eq!(with(":1\r\n:1\r\n:-1\r\n"), Err(Untold::Unclear));
    }

    #[test]
    fn keys_that_move_are_told_as_such() {
        let told = OLD.replace("+nonsense", "+movablekeys");
        assert!(read(told.as_bytes()).unwrap().more_keys);
        assert!(read(told.replace(":1\r\n:-1\r\n:2", ":0\r\n:0\r\n:0").as_bytes()).unwrap().more_keys);
    }

    #[test]
    fn resp3_is_read_as_well() {
        let told = "*1\r\n*10\r\n$7\r\nmod.new\r\n:2\r\n~3\r\n+readonly\r\n+fast\r\n+blocking\r\n:1\r\n:1\r\n:1\r\n~1\r\n+@read\r\n~0\r\n\
            *1\r\n%3\r\n$5\r\nflags\r\n~1\r\n+RO\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$7\r\nkeyword\r\n$4\r\nspec\r\n\
            %2\r\n$7\r\nkeyword\r\n$7\r\nSTREAMS\r\n$9\r\nstartfrom\r\n:1\r\n$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n\
            $4\r\nspec\r\n%3\r\n$7\r\nlastkey\r\n:-1\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:2\r\n*0\r\n";
        let read = read(told.as_bytes()).unwrap();
        assert_eq!((read.flags, read.categories), (READONLY | FAST | BLOCKING, C_READ));
        assert_eq!(read.key_specs, [streams(1, super::super::keys::RO)]);
    }

    #[test]
    fn what_tells_nothing_says_so() {
        for (reply, expected) in [
            ("*1\r\n*-1\r\n", Untold::Unknown),
            ("*1\r\n$-1\r\n", Untold::Unknown),
            ("*1\r\n_\r\n", Untold::Unknown),
            ("-ERR unknown command 'COMMAND'\r\n", Untold::Unknown),
            ("-NOPERM no\r\n", Untold::Refused("NOPERM no".to_owned())),
            ("+OK\r\n", Untold::Unclear),
            ("*0\r\n", Untold::Unclear),
            ("*1\r\n+get\r\n", Untold::Unclear),
            ("*1\r\n*0\r\n", Untold::Unclear),
        ] {
            assert_eq!(read(reply.as_bytes()), Err(expected), "{reply}");
        }
    }

    #[test]
    fn no_reply_cut_or_changed_makes_it_panic() {
        let mut told = Vec::new();
        introspect::command(&mut told, 3, |index| Some([&b"COMMAND"[..], b"INFO", b"xread"][index]), &|_| None);
        for at in 0..told.len() {
            let _ = read(&told[..at]);
            for byte in [b'9', b'-', b'*', b'\n'] {
                let mut changed = told.clone();
                changed[at] = byte;
                let _ = read(&changed);
            }
        }
    }
}
