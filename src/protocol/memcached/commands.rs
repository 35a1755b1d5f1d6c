//! The commands of the classic text protocol: one table, one line a command.

use super::replies;
use super::response::Expect;
use crate::telemetry::Class;

/// A command of the classic text protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    Set,
    Gets,
    Delete,
    Incr,
    Add,
    Cas,
    Touch,
    Gat,
    Gats,
    Decr,
    Replace,
    Append,
    Prepend,
    Version,
    FlushAll,
    Verbosity,
    Stats,
    Quit,
}

/// What follows the name of a command on its line. `[noreply]` stands where memcached looks for it: it is the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `<key>+`
    Keys,
    /// `<exptime> <key>+`
    ExptimeKeys,
    /// `<key> <flags> <exptime> <bytes> [noreply]`, then a data block.
    Store,
    /// `<key> <flags> <exptime> <bytes> <unique> [noreply]`, then a data block.
    StoreUnique,
    /// `<key> <number> [noreply]`
    KeyNumber,
    /// `<key> [0] [noreply]`
    Delete,
    /// `[<delay>] [noreply]`
    Flush,
    /// `<level> [noreply]`
    Level,
    /// Whatever follows is not looked at here.
    Free,
}

impl Layout {
    /// Fewest and most words after the name; outside of these memcached answers `ERROR`. memcached answers `END` to a
    /// `gat` without a key; here it is an `ERROR`, since there is no server to ask.
    pub(super) fn words(self) -> (usize, usize) {
        match self {
            Layout::Keys => (1, usize::MAX),
            Layout::ExptimeKeys => (2, usize::MAX),
            Layout::Store => (4, 5),
            Layout::StoreUnique => (5, 6),
            Layout::KeyNumber => (2, 3),
            Layout::Delete => (1, 3),
            Layout::Flush => (0, 2),
            Layout::Level => (1, 2),
            Layout::Free => (0, usize::MAX),
        }
    }

    /// The fewest words with which the last one may be `noreply`; `None`: it is not looked for.
    pub(super) fn noreply_from(self) -> Option<usize> {
        match self {
            Layout::Keys | Layout::ExptimeKeys | Layout::Free => None,
            // `delete noreply` deletes a key of that name.
            Layout::Delete => Some(2),
            Layout::Store | Layout::StoreUnique | Layout::KeyNumber | Layout::Flush | Layout::Level => Some(1),
        }
    }
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) verb: Verb,
    pub(super) layout: Layout,
    pub(super) expect: Expect,
}

const fn command(name: &'static str, verb: Verb, layout: Layout, expect: Expect) -> Command {
    Command { name, verb, layout, expect }
}

/// In the order of [`Verb`], which is about that of how often each is used: a look-up goes down the list.
static COMMANDS: [Command; 19] = [
    command("get", Verb::Get, Layout::Keys, Expect::Values),
    command("set", Verb::Set, Layout::Store, Expect::Stored),
    command("gets", Verb::Gets, Layout::Keys, Expect::ValuesUnique),
    command("delete", Verb::Delete, Layout::Delete, Expect::Deleted),
    command("incr", Verb::Incr, Layout::KeyNumber, Expect::Number),
    command("add", Verb::Add, Layout::Store, Expect::Stored),
    command("cas", Verb::Cas, Layout::StoreUnique, Expect::StoredUnique),
    command("touch", Verb::Touch, Layout::KeyNumber, Expect::Touched),
    command("gat", Verb::Gat, Layout::ExptimeKeys, Expect::Values),
    command("gats", Verb::Gats, Layout::ExptimeKeys, Expect::ValuesUnique),
    command("decr", Verb::Decr, Layout::KeyNumber, Expect::Number),
    command("replace", Verb::Replace, Layout::Store, Expect::Stored),
    command("append", Verb::Append, Layout::Store, Expect::Stored),
    command("prepend", Verb::Prepend, Layout::Store, Expect::Stored),
    command("version", Verb::Version, Layout::Free, Expect::Version),
    command("flush_all", Verb::FlushAll, Layout::Flush, Expect::Ok),
    command("verbosity", Verb::Verbosity, Layout::Level, Expect::Ok),
    command("stats", Verb::Stats, Layout::Free, Expect::Stats),
    command("quit", Verb::Quit, Layout::Free, Expect::Nothing),
];

/// The command of this name; names are lower case only, as in memcached.
pub(super) fn lookup(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name.as_bytes() == name)
}

impl Verb {
    /// Every verb, in the order of the table.
    pub fn all() -> impl Iterator<Item = Verb> {
        COMMANDS.iter().map(|command| command.verb)
    }

    /// The verb of this name, if it is one.
    pub fn from_name(name: &[u8]) -> Option<Verb> {
        lookup(name).map(|command| command.verb)
    }

    /// The name as it stands on the wire.
    pub fn name(self) -> &'static str {
        COMMANDS[self as usize].name
    }

    /// The shape of the reply.
    pub fn expect(self) -> Expect {
        COMMANDS[self as usize].expect
    }

    /// `get gets gat gats`: any number of keys, answered by values.
    pub fn is_retrieval(self) -> bool {
        matches!(self, Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats)
    }

    /// `set add replace append prepend cas`: a data block follows the line.
    pub fn is_storage(self) -> bool {
        matches!(COMMANDS[self as usize].layout, Layout::Store | Layout::StoreUnique)
    }

    /// Changes nothing, so that it may be sent a second time. `gat` and `gats` are not: they write an expiry time, which by
    /// then somebody else may have set anew.
    pub fn is_repeatable(self) -> bool {
        matches!(self, Verb::Get | Verb::Gets)
    }

    /// What it is counted as when it goes to a server.
    pub fn class(self) -> Class {
        match self {
            Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => Class::Read,
            Verb::Version | Verb::Verbosity | Verb::Stats | Verb::Quit => Class::Proxy,
            Verb::FlushAll => Class::Other,
            _ => Class::Write,
        }
    }

    /// Concerns all of a server's data: it has `slow_timeout` to answer.
    pub fn is_slow(self) -> bool {
        self == Verb::FlushAll
    }

    /// What is answered if there is no such key and none can be stored. `None` for what has no key, and for `delete`: that
    /// an invalidation was lost must be seen.
    pub fn miss(self) -> Option<&'static [u8]> {
        match self {
            Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => Some(replies::END),
            Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend => Some(replies::NOT_STORED),
            Verb::Cas | Verb::Incr | Verb::Decr | Verb::Touch => Some(replies::NOT_FOUND),
            Verb::Delete | Verb::Version | Verb::FlushAll | Verb::Verbosity | Verb::Stats | Verb::Quit => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::response::scan;
    use super::*;
    use crate::protocol::{Limits, Parsed};

    #[test]
    fn the_table_is_in_the_order_of_the_verbs() {
        for (index, command) in COMMANDS.iter().enumerate() {
            assert_eq!(command.verb as usize, index, "{}", command.name);
            assert_eq!(command.verb.name(), command.name);
            assert_eq!(Verb::from_name(command.name.as_bytes()), Some(command.verb));
        }
        assert_eq!(Verb::all().count(), COMMANDS.len());
    }

    #[test]
    fn a_miss_is_a_reply_that_the_request_can_get() {
        for verb in Verb::all().filter(|verb| verb.miss().is_some()) {
            let miss = verb.miss().unwrap_or_default();
            let scanned = scan(miss, verb.expect(), &Limits::default());
            assert_eq!(scanned, Ok(Parsed::Complete(miss.len())), "{}", verb.name());
        }
        assert_eq!(Verb::Delete.miss(), None);
    }

    #[test]
    fn names_are_exact_and_lower_case() {
        for name in ["", "ge", "GET", "Get", "getss", "flush", "mg", "bget"] {
            assert_eq!(Verb::from_name(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn retrieval_and_storage_are_what_the_layouts_say() {
        for command in &COMMANDS {
            let keys = matches!(command.layout, Layout::Keys | Layout::ExptimeKeys);
            assert_eq!(command.verb.is_retrieval(), keys, "{}", command.name);
            let stored = matches!(command.expect, Expect::Stored | Expect::StoredUnique);
            assert_eq!(command.verb.is_storage(), stored, "{}", command.name);
        }
    }
}
