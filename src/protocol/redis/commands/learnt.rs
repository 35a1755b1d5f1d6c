//! Commands that the table does not have: modules' and those of newer servers, as a server or the configuration describes
//! them.
//!
//! A description becomes a [`Command`] that lives as long as the process, like those of the table, so that everything else
//! treats both alike. Equal descriptions are one command, however often and for however many pools they are learnt, and
//! there are at most [`MOST`]: so what is never given back is bounded, by some hundred KiB.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::keys::{Begin, Find, INCOMPLETE, KeySpec, NOT_KEY};
use super::{
    ADMIN, BLOCKING, C_ADMIN, C_CONNECTION, C_DANGEROUS, C_PUBSUB, C_TRANSACTION, Categories, Command, Flags, Group,
    PUBSUB, Refusal, Route, effects,
};

/// Commands and subcommands that one process learns, all in all. A Redis with every module has some four hundred.
pub const MOST: usize = 1000;
/// Longest name of a command, that of its container included, in bytes.
pub const LONGEST_NAME: usize = 64;
/// Key specifications of one command. Those of Redis have at most three.
const MOST_SPECS: usize = 16;
/// Different keywords of key specifications.
const MOST_WORDS: usize = 200;

/// What is said of a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Description {
    /// In lower case; `container|name` for a subcommand.
    pub name: String,
    /// As [`Command::arity`].
    pub arity: i16,
    pub flags: Flags,
    pub categories: Categories,
    pub key_specs: Vec<KeySpec>,
    /// It may have keys that the specifications do not find.
    pub more_keys: bool,
    pub subcommands: Vec<Description>,
}

#[derive(Default)]
struct Registry {
    commands: HashMap<Description, &'static Command>,
    /// What was learnt last under a name.
    by_name: HashMap<&'static str, &'static Command>,
    words: HashSet<&'static str>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, Registry> {
    // It is whole after each step.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The command that is described so; `None`: there are too many already.
pub fn learn(description: &Description) -> Option<&'static Command> {
    let mut registry = registry();
    let command = match registry.commands.get(description) {
        Some(known) => known,
        None => registry.add(description)?,
    };
    registry.by_name.insert(command.name, command);
    Some(command)
}

/// What was learnt last, by any pool, under this name: for those who only tell what they have seen.
pub fn last_learnt(name: &[u8]) -> Option<&'static Command> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let name = name.to_ascii_lowercase();
    registry().by_name.get(std::str::from_utf8(&name).ok()?).copied()
}

/// A word that key specifications look for; `None`: there are too many already.
pub fn keyword(text: &str) -> Option<&'static str> {
    let words = &mut registry().words;
    if let Some(known) = words.get(text) {
        return Some(known);
    }
    if words.len() >= MOST_WORDS || text.len() > LONGEST_NAME {
        return None;
    }
    let word: &'static str = Box::leak(text.into());
    words.insert(word);
    Some(word)
}

impl Registry {
    fn add(&mut self, description: &Description) -> Option<&'static Command> {
        let count = 1 + description.subcommands.len();
        let total: usize = self.commands.keys().map(|known| 1 + known.subcommands.len()).sum();
        let Description { name, key_specs, subcommands, .. } = description;
        let long = |one: &Description| one.name.len() > LONGEST_NAME || one.key_specs.len() > MOST_SPECS;
        if total + count > MOST || long(description) || subcommands.iter().any(long) {
            return None;
        }
        let subcommands: Vec<Command> = subcommands.iter().map(|sub| made_of(sub, leak(&sub.name), &[])).collect();
        let command: &'static Command = Box::leak(Box::new(made_of(description, leak(name), Vec::leak(subcommands))));
        debug_assert_eq!(command.key_specs.len(), key_specs.len());
        self.commands.insert(description.clone(), command);
        Some(command)
    }
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.into())
}

fn made_of(description: &Description, name: &'static str, subcommands: &'static [Command]) -> Command {
    let Description { arity, flags, categories, key_specs, .. } = description;
    let restricted = flags & ADMIN != 0 || categories & (C_ADMIN | C_DANGEROUS) != 0;
    Command {
        name,
        arity: *arity,
        flags: *flags,
        key_specs: Vec::leak(key_specs.clone()),
        since: "",
        deprecated: None,
        group: Group::Module,
        route: route(description),
        subcommands,
        restricted,
        names_database: false,
        guarded: restricted,
        slow: false,
        class: effects::class(Group::Module, *flags),
        more_categories: *categories,
        fewer_categories: !categories,
    }
}

/// What is about a connection would be about one that sessions share.
fn route(description: &Description) -> Route {
    let Description { flags, categories, key_specs, more_keys, .. } = description;
    if flags & PUBSUB != 0 || categories & (C_CONNECTION | C_PUBSUB | C_TRANSACTION) != 0 {
        return Route::Refused(Refusal::Connection);
    }
    let keys = || key_specs.iter().filter(|spec| spec.flags & NOT_KEY == 0);
    let tells =
        |spec: &KeySpec| spec.flags & INCOMPLETE == 0 && spec.begin != Begin::Unknown && spec.find != Find::Unknown;
    match &key_specs[..] {
        _ if *more_keys || !keys().all(tells) => Route::Only(Refusal::Keys),
        // A connection of its own is for those that may go by several keys.
        _ if flags & BLOCKING != 0 => Route::Keys,
        _ if keys().next().is_none() => Route::One,
        [KeySpec { begin: Begin::Index(_), find: Find::Range { last: 0, .. }, .. }] => Route::Key,
        _ => Route::Keys,
    }
}

impl Command {
    /// It is not in the table.
    pub fn is_learnt(&self) -> bool {
        matches!(self.group, Group::Module)
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{ADD, READ, after, counted, key, range, unknown};
    use super::super::{BLOCKING, READONLY, WRITE};
    use super::*;
    use crate::telemetry::Class;

    fn described(name: &str, flags: Flags, key_specs: &[KeySpec]) -> Description {
        let key_specs = key_specs.to_vec();
        let (categories, more_keys, subcommands) = (0, false, Vec::new());
        Description { name: name.to_owned(), arity: -2, flags, categories, key_specs, more_keys, subcommands }
    }

    #[test]
    fn equal_descriptions_are_one_command() {
        let description = described("learnt.same", WRITE, &[key(1, ADD)]);
        let one = learn(&description).unwrap();
        assert!(std::ptr::eq(one, learn(&description.clone()).unwrap()));
        let other = learn(&described("learnt.same", READONLY, &[key(1, READ)])).unwrap();
        assert!(!std::ptr::eq(one, other));
        assert!(std::ptr::eq(last_learnt(b"Learnt.SAME").unwrap(), other));
        assert_eq!((last_learnt(b"learnt.none"), last_learnt(&[b'a'; 100])), (None, None));
    }

    #[test]
    fn routes_follow_from_keys_flags_and_categories() {
        let route = |description: &Description| learn(description).unwrap().route;
        for (specs, expected) in [
            (&[][..], Route::One),
            (&[key(1, READ)], Route::Key),
            (&[range(1, -1, 1, READ)], Route::Keys),
            (&[key(1, READ), key(2, READ)], Route::Keys),
            (&[counted(2, READ)], Route::Keys),
            (&[after("STORE", 2, ADD)], Route::Keys),
            (&[key(1, NOT_KEY)], Route::One),
            (&[unknown(READ)], Route::Only(Refusal::Keys)),
            (&[key(1, READ), key(2, READ | INCOMPLETE)], Route::Only(Refusal::Keys)),
        ] {
            assert_eq!(route(&described("learnt.route", READONLY, specs)), expected, "{specs:?}");
        }
        let more_keys = Description { more_keys: true, ..described("learnt.route", READONLY, &[key(1, READ)]) };
        assert_eq!(route(&more_keys), Route::Only(Refusal::Keys));
        for categories in [C_CONNECTION, C_PUBSUB, C_TRANSACTION] {
            let about_connections = Description { categories, ..described("learnt.route", 0, &[]) };
            assert_eq!(route(&about_connections), Route::Refused(Refusal::Connection));
        }
        assert_eq!(route(&described("learnt.route", PUBSUB, &[])), Route::Refused(Refusal::Connection));
    }

    #[test]
    fn what_may_destroy_is_restricted_and_what_reads_is_a_read() {
        let with = |flags, categories| {
            learn(&Description { categories, ..described("learnt.effect", flags, &[key(1, READ)]) }).unwrap()
        };
        assert!(with(ADMIN, 0).restricted && with(0, C_DANGEROUS).restricted && with(0, C_ADMIN).restricted);
        let read = with(READONLY, 0);
        assert!(read.is_read() && !read.restricted && !read.is_slow() && read.is_learnt());
        assert_eq!(
            (read.class(), with(WRITE, 0).class(), with(0, 0).class()),
            (Class::Read, Class::Write, Class::Other)
        );
        assert_eq!(with(READONLY, super::super::C_READ).categories(), super::super::C_READ);
        assert!(with(BLOCKING, 0).blocks(2, |_| Some(&b"1"[..])).is_some());
    }

    #[test]
    fn what_is_too_long_is_not_learnt() {
        assert!(learn(&described(&"n".repeat(LONGEST_NAME), 0, &[])).is_some());
        assert_eq!(learn(&described(&"n".repeat(LONGEST_NAME + 1), 0, &[])), None);
        assert_eq!(learn(&described("learnt.specs", 0, &[key(1, READ); MOST_SPECS + 1])), None);
        let long = Description {
            subcommands: vec![described(&"n".repeat(LONGEST_NAME + 1), 0, &[])],
            ..described("learnt.container", 0, &[])
        };
        assert_eq!(learn(&long), None);
        assert_eq!(keyword("LEARNT").map(str::as_ptr), keyword("LEARNT").map(str::as_ptr));
        assert_eq!(keyword(&"W".repeat(LONGEST_NAME + 1)), None);
    }
}
