//! What a user may do, as Redis's access lists have it: commands, keys, channels. Pure.
//!
//! ```text
//!   "+@read -strlen ~app:* %R~shared:* &news"  ──parse──►  Permissions  ──check(command, arguments)──►  may, or why not
//! ```
//! Later rules win over earlier ones. A key must fit a pattern that allows what the command does with it: read, write or
//! both, by the flags of the command's key specifications.
//!
//! Differences from Redis 7: no selectors; and as nobody here sees what a script does, one who may not do everything that a
//! script can may not run any, unless the configuration trusts the user's scripts.

mod describe;
pub mod log;
mod rules;

use std::sync::LazyLock;

use super::commands::keys::{ACCESS, DELETE, INSERT, KeyError, KeyFlags, OW, RM, RO, RW, UPDATE, VARIABLE_FLAGS};
use super::commands::{CATEGORY_NAMES, Command, NO_AUTH, PUBSUB, Route, all, lookup};
use super::glob;

pub use rules::{BadRule, Rules, Wrong, parse};

/// What one user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// A bit for each command and subcommand, by [`number`].
    commands: Vec<u64>,
    /// No command has been taken away since all were given.
    all_commands: bool,
    /// Commands that the table does not have.
    others: bool,
    /// Commands that are allowed with this first argument only, in lower case.
    first_arguments: Vec<(usize, String)>,
    /// The rules that made it so, after `+@all` or `-@all`; what a later one made meaningless is left out.
    rules: Vec<String>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<String>,
    /// Everything that a script can do is allowed.
    scripts: bool,
}

/// Keys, and what may be done with them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyPattern {
    access: Access,
    glob: String,
}

/// Reads and writes, as bits.
type Access = u8;

const READ: Access = 1;
const WRITE: Access = 2;

/// Why a request is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Not this command; or it was learnt, nobody can tell its keys, and the user may not use all.
    Command,
    /// The key at this position among the arguments.
    Key(usize),
    /// The channel at this position.
    Channel(usize),
    /// This option of SORT reads keys that the arguments do not name.
    Sort(&'static str),
    /// The user may not do everything that a script can.
    Script,
    /// Which keys it is about cannot be told: the request is wrong, and Redis refuses it too.
    Unclear(KeyError),
}

impl Default for Permissions {
    /// Nothing at all.
    fn default() -> Self {
        Self {
            commands: vec![0; NUMBERS.len().div_ceil(64)],
            all_commands: false,
            others: false,
            first_arguments: Vec::new(),
            rules: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels: false,
            channels: Vec::new(),
            scripts: false,
        }
    }
}

impl Permissions {
    /// Whether nothing is forbidden, so that requests need no check.
    pub fn are_all(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// What the user's scripts do is not asked about; only the keys that a request names are checked.
    pub fn trust_scripts(&mut self) {
        self.scripts = true;
    }

    /// Whether the request may be run. Its command is that of the arguments, whose number is right.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn check<'a>(
        &self,
        command: &Command,
        argc: usize,
        arg: impl Fn(usize) -> Option<&'a [u8]> + Copy,
    ) -> Result<(), Denied> {
        let hidden_keys = command.is_learnt() && matches!(command.route, Route::Only(_));
        if !self.allows(command, arg) || (hidden_keys && !self.all_keys) {
            return Err(Denied::Command);
        }
        if !self.all_keys && command.has_keys() {
            self.check_keys(command, argc, arg)?;
        }
        if !self.all_channels && command.flags & PUBSUB != 0 {
            self.check_channels(command, argc, arg)?;
        }
        if !self.scripts && runs_a_script(command) { Err(Denied::Script) } else { Ok(()) }
    }

    fn allows<'a>(&self, command: &Command, arg: impl Fn(usize) -> Option<&'a [u8]>) -> bool {
        if self.all_commands || command.flags & NO_AUTH != 0 {
            return true;
        }
        let Some(number) = number(command) else { return self.others };
        self.has(number)
            || (!self.first_arguments.is_empty()
                && self.first_arguments.iter().any(|(of, text)| {
                    *of == number && arg(1).is_some_and(|given| given.eq_ignore_ascii_case(text.as_bytes()))
                }))
    }

    fn has(&self, number: usize) -> bool {
        self.commands[number / 64] & (1 << (number % 64)) != 0
    }

    fn check_keys<'a>(
        &self,
        command: &Command,
        argc: usize,
        arg: impl Fn(usize) -> Option<&'a [u8]> + Copy,
    ) -> Result<(), Denied> {
        let mut denied = None;
        let visited = command.visit_keys(argc, arg, |index, flags| {
            let wanted = access(command, flags, argc, arg);
            if denied.is_none() && !self.may_touch(arg(index).unwrap_or_default(), wanted) {
                denied = Some(Denied::Key(index));
            }
        });
        visited.map_err(Denied::Unclear)?;
        if command.name == "sort" || command.name == "sort_ro" {
            denied = denied.or_else(|| self.sort_option(argc, arg));
        }
        denied.map_or(Ok(()), Err)
    }

    fn may_touch(&self, key: &[u8], wanted: Access) -> bool {
        let allows = |pattern: &KeyPattern| pattern.access & wanted == wanted;
        self.keys.iter().any(|pattern| allows(pattern) && glob::matches(pattern.glob.as_bytes(), key))
    }

    /// The first option of SORT that needs the right to read every key.
    fn sort_option<'a>(&self, argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) -> Option<Denied> {
        if self.keys.iter().any(|pattern| pattern.glob == "*" && pattern.access & READ != 0) {
            return None;
        }
        let is = |at: usize, word: &str| arg(at).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()));
        let mut at = 2;
        while at + 1 < argc {
            at += match () {
                () if is(at, "get") => return Some(Denied::Sort("GET")),
                () if is(at, "by") && arg(at + 1).is_some_and(|by| by.contains(&b'*')) => {
                    return Some(Denied::Sort("BY"));
                }
                () if is(at, "limit") => 3,
                () if is(at, "by") || is(at, "store") => 2,
                () => 1,
            };
        }
        None
    }

    fn check_channels<'a>(
        &self,
        command: &Command,
        argc: usize,
        arg: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> Result<(), Denied> {
        let (named, pattern) = match command.name {
            "publish" | "spublish" => (1..2, false),
            "subscribe" | "ssubscribe" => (1..argc, false),
            "psubscribe" => (1..argc, true),
            _ => return Ok(()),
        };
        for index in named {
            let channel = arg(index).unwrap_or_default();
            // Of a pattern nobody can say what it will fit: it must be one of the rules itself.
            let fits = |rule: &String| match pattern {
                true => rule.as_bytes() == channel,
                false => glob::matches(rule.as_bytes(), channel),
            };
            if !self.channels.iter().any(fits) {
                return Err(Denied::Channel(index));
            }
        }
        Ok(())
    }
}

/// Whether what it does depends on a text that only servers understand.
fn runs_a_script(command: &Command) -> bool {
    matches!(command.name, "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro")
}

/// What a command needs the right for to touch a key of a specification with these flags.
fn access<'a>(command: &Command, flags: KeyFlags, argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) -> Access {
    let reads = flags & ACCESS != 0;
    let writes = flags & (INSERT | DELETE | UPDATE) != 0;
    let is = |at: usize, word: &str| arg(at).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()));
    let (reads, writes) = match command.name {
        // An old server has not told what it does.
        _ if command.is_learnt() && flags & (RO | RW | OW | RM) == 0 => (true, true),
        _ if flags & VARIABLE_FLAGS == 0 => (reads, writes),
        "set" => ((3..argc).any(|at| is(at, "get")), true),
        "bitfield" => (true, bitfield_writes(argc, is)),
        _ => (reads, writes),
    };
    (u8::from(reads) * READ) | (u8::from(writes) * WRITE)
}

/// Whether BITFIELD does more than GET. What is no form of it counts as more.
fn bitfield_writes(argc: usize, is: impl Fn(usize, &str) -> bool) -> bool {
    let mut at = 2;
    while at < argc {
        let left = argc - at - 1;
        at += match () {
            () if is(at, "get") && left >= 2 => 3,
            () if is(at, "overflow") && left >= 1 => 2,
            () => return true,
        };
    }
    false
}

/// Every row of the command table by its place in memory, ascending.
static NUMBERS: LazyLock<Vec<(usize, &'static Command)>> = LazyLock::new(|| {
    let mut rows: Vec<_> = each().map(|command| (place(command), command)).collect();
    rows.sort_unstable_by_key(|(place, _)| *place);
    rows
});

/// Every command and subcommand of the table.
fn each() -> impl Iterator<Item = &'static Command> {
    all().flat_map(|command| std::iter::once(command).chain(command.subcommands))
}

/// Where a command is in memory: a number that costs nothing to note.
#[inline]
pub fn place(command: &Command) -> usize {
    std::ptr::from_ref(command).addr()
}

/// The number of a row of the command table; `None`: it is none, but was learnt.
fn number(command: &Command) -> Option<usize> {
    NUMBERS.binary_search_by_key(&place(command), |(place, _)| *place).ok()
}

/// The row of the command table at this [`place`].
pub fn command_at(place: usize) -> Option<&'static Command> {
    NUMBERS.binary_search_by_key(&place, |(place, _)| *place).ok().map(|number| NUMBERS[number].1)
}

/// The command that is called so, as rules spell it: `get`, `config|get`; in any case.
pub fn command_named(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|&byte| byte == b'|') {
        Some(at) => lookup(&name[..at])?.subcommand(&name[at + 1..]),
        None => lookup(name),
    }
}

/// The names of all commands and subcommands, as rules spell them.
pub fn command_names() -> impl Iterator<Item = &'static str> {
    each().map(|command| command.name)
}

/// The names of the commands and subcommands of a category, named without its `@`; `None`: there is no such.
pub fn category(name: &[u8]) -> Option<Vec<&'static str>> {
    let bit = CATEGORY_NAMES.iter().position(|known| known.as_bytes()[1..].eq_ignore_ascii_case(name))?;
    let of_it = each().filter(|command| command.categories() & (1 << bit) != 0);
    Some(of_it.map(|command| command.name).collect())
}

#[cfg(test)]
mod tests;
