//! THE table of Redis commands, 7.0 to 7.4 and some of 8.0: what each is called, how many arguments it takes, where its
//! keys are, and what the proxy does with it.
//!
//! A row is one line in the file of its group:
//! `string("get", 2, READONLY | FAST, &[key(1, RO | ACCESS)], "1.0.0", Key)`: name, arity (negative: at least that many),
//! flags, key specifications, the version it came with, route. A new command is one more line. The facts are those of
//! Redis's own COMMAND, and a test compares them with a live server.

use std::sync::LazyLock;

mod blocking;
mod collections;
mod effects;
mod generic;
pub mod keys;
pub mod learnt;
mod miss;
mod route;
mod server;
mod streams;
mod strings;
pub mod told;

pub use blocking::Blocks;
pub use keys::KeyError;
use keys::KeySpec;
pub use route::{
    AclCommand, ClientCommand, FanOut, ProxyCommand, Refusal, Route, Split, Subscription, TransactionCommand,
};

use crate::telemetry::Class;

/// The files of the table.
static TABLES: [&[Command]; 5] = [strings::ROWS, collections::ROWS, streams::ROWS, generic::ROWS, server::ROWS];

/// Properties of a command, as bits.
pub type Flags = u32;

pub const WRITE: Flags = 1;
pub const READONLY: Flags = 1 << 1;
pub const DENYOOM: Flags = 1 << 2;
pub const ADMIN: Flags = 1 << 3;
pub const PUBSUB: Flags = 1 << 4;
pub const NOSCRIPT: Flags = 1 << 5;
pub const BLOCKING: Flags = 1 << 6;
pub const LOADING: Flags = 1 << 7;
pub const STALE: Flags = 1 << 8;
pub const SKIP_MONITOR: Flags = 1 << 9;
pub const SKIP_SLOWLOG: Flags = 1 << 10;
pub const ASKING: Flags = 1 << 11;
pub const FAST: Flags = 1 << 12;
pub const NO_AUTH: Flags = 1 << 13;
pub const NO_MANDATORY_KEYS: Flags = 1 << 14;
pub const NO_ASYNC_LOADING: Flags = 1 << 15;
pub const NO_MULTI: Flags = 1 << 16;
pub const ALLOW_BUSY: Flags = 1 << 17;

/// Combinations that many commands of a kind share.
const SESSION: Flags = NOSCRIPT | LOADING | STALE;
const OPERATING: Flags = ADMIN | SESSION;
const SUBSCRIBING: Flags = PUBSUB | SESSION;
const RUNNING: Flags = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS;

/// The names of the flags, in Redis's order. `movablekeys` follows from the key specifications.
pub const FLAG_NAMES: [(Flags, &str); 18] = [
    (WRITE, "write"),
    (READONLY, "readonly"),
    (DENYOOM, "denyoom"),
    (ADMIN, "admin"),
    (PUBSUB, "pubsub"),
    (NOSCRIPT, "noscript"),
    (BLOCKING, "blocking"),
    (LOADING, "loading"),
    (STALE, "stale"),
    (SKIP_MONITOR, "skip_monitor"),
    (SKIP_SLOWLOG, "skip_slowlog"),
    (ASKING, "asking"),
    (FAST, "fast"),
    (NO_AUTH, "no_auth"),
    (NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (NO_ASYNC_LOADING, "no_async_loading"),
    (NO_MULTI, "no_multi"),
    (ALLOW_BUSY, "allow_busy"),
];

/// Categories of access control, as bits. Most follow from the flags and the group of a command.
pub type Categories = u32;

pub const C_KEYSPACE: Categories = 1;
pub const C_READ: Categories = 1 << 1;
pub const C_WRITE: Categories = 1 << 2;
pub const C_SET: Categories = 1 << 3;
pub const C_SORTEDSET: Categories = 1 << 4;
pub const C_LIST: Categories = 1 << 5;
pub const C_HASH: Categories = 1 << 6;
pub const C_STRING: Categories = 1 << 7;
pub const C_BITMAP: Categories = 1 << 8;
pub const C_HYPERLOGLOG: Categories = 1 << 9;
pub const C_GEO: Categories = 1 << 10;
pub const C_STREAM: Categories = 1 << 11;
pub const C_PUBSUB: Categories = 1 << 12;
pub const C_ADMIN: Categories = 1 << 13;
pub const C_FAST: Categories = 1 << 14;
pub const C_SLOW: Categories = 1 << 15;
pub const C_BLOCKING: Categories = 1 << 16;
pub const C_DANGEROUS: Categories = 1 << 17;
pub const C_CONNECTION: Categories = 1 << 18;
pub const C_TRANSACTION: Categories = 1 << 19;
pub const C_SCRIPTING: Categories = 1 << 20;

/// The names of the categories, in Redis's order: bit 0 first.
pub const CATEGORY_NAMES: [&str; 21] = [
    "@keyspace",
    "@read",
    "@write",
    "@set",
    "@sortedset",
    "@list",
    "@hash",
    "@string",
    "@bitmap",
    "@hyperloglog",
    "@geo",
    "@stream",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@blocking",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    Bitmap,
    Cluster,
    Connection,
    Generic,
    Geo,
    Hash,
    Hyperloglog,
    List,
    /// A module's, or a newer server's: learnt, not in the table.
    Module,
    Pubsub,
    Scripting,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
}

impl Group {
    /// As Redis spells it, and the category that its commands belong to.
    const fn facts(self) -> (&'static str, Categories) {
        match self {
            Self::Bitmap => ("bitmap", C_BITMAP),
            Self::Cluster => ("cluster", 0),
            Self::Connection => ("connection", C_CONNECTION),
            Self::Generic => ("generic", C_KEYSPACE),
            Self::Geo => ("geo", C_GEO),
            Self::Hash => ("hash", C_HASH),
            Self::Hyperloglog => ("hyperloglog", C_HYPERLOGLOG),
            Self::List => ("list", C_LIST),
            Self::Module => ("module", 0),
            Self::Pubsub => ("pubsub", C_PUBSUB),
            Self::Scripting => ("scripting", C_SCRIPTING),
            Self::Server => ("server", 0),
            Self::Set => ("set", C_SET),
            Self::SortedSet => ("sorted-set", C_SORTEDSET),
            Self::Stream => ("stream", C_STREAM),
            Self::String => ("string", C_STRING),
            Self::Transactions => ("transactions", C_TRANSACTION),
        }
    }

    /// As Redis spells it.
    pub const fn name(self) -> &'static str {
        self.facts().0
    }
}

/// One command or subcommand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// In lower case; a subcommand is called `container|name`.
    pub name: &'static str,
    /// Number of arguments, the name included (both names of a subcommand); negative: at least that many.
    pub arity: i16,
    /// Properties.
    pub flags: Flags,
    /// Where its keys are.
    pub key_specs: &'static [KeySpec],
    /// The version of Redis that brought it.
    pub since: &'static str,
    /// The version of Redis that advised against it.
    pub deprecated: Option<&'static str>,
    /// What it is about.
    pub group: Group,
    /// What the proxy does with it.
    pub route: Route,
    /// What may follow its name, if it is a container.
    pub subcommands: &'static [Command],
    /// It can destroy what others rely on: only where the pool's `allow_admin_commands` says so.
    pub restricted: bool,
    /// It may name another database than the one it works in.
    pub names_database: bool,
    /// One of these two, or DEBUG, of which it depends: to be looked at more closely.
    pub guarded: bool,
    /// It may work for long; see `effects`.
    slow: bool,
    /// What it is counted as.
    class: Class,
    /// Categories that do not follow from flags and group, and some that wrongly would.
    more_categories: Categories,
    fewer_categories: Categories,
}

/// A row of the table.
const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    key_specs: &'static [KeySpec],
    since: &'static str,
    group: Group,
    route: Route,
) -> Command {
    let (deprecated, subcommands) = (None, &[] as &[Command]);
    let names_database = effects::holds(effects::NAME_DATABASES, name);
    let (slow, more_categories, fewer_categories) = (effects::holds(effects::SLOW, name), 0, 0);
    Command {
        name,
        arity,
        flags,
        key_specs,
        since,
        deprecated,
        group,
        route,
        subcommands,
        restricted: false,
        names_database,
        guarded: names_database || matches!(route, Route::Debug),
        slow,
        class: effects::class(group, flags),
        more_categories,
        fewer_categories,
    }
}

impl Command {
    /// A container of `subcommands`.
    const fn of(mut self, subcommands: &'static [Command]) -> Self {
        self.subcommands = subcommands;
        self.fewer_categories = self.group.facts().1;
        self
    }

    /// For those who may destroy things.
    const fn restricted(mut self) -> Self {
        self.restricted = true;
        self.guarded = true;
        self
    }

    const fn deprecated(mut self, since: &'static str) -> Self {
        self.deprecated = Some(since);
        self
    }

    const fn also(mut self, categories: Categories) -> Self {
        self.more_categories = categories;
        self
    }

    const fn not(mut self, categories: Categories) -> Self {
        self.fewer_categories = categories;
        self
    }

    /// The name without that of the container.
    pub fn own_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, name)| name)
    }

    /// The subcommand of this container with that name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Command> {
        self.subcommands.iter().find(|subcommand| subcommand.own_name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// True if it can have `argc` arguments, its name included.
    #[inline]
    pub fn check_arity(&self, argc: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 { argc == least } else { argc >= least }
    }

    /// True if no key at all is as good as some.
    pub fn works_without_keys(&self) -> bool {
        self.flags & NO_MANDATORY_KEYS != 0
    }

    /// All categories of access control that it is in.
    pub fn categories(&self) -> Categories {
        let flag = |flag, categories| if self.flags & flag != 0 { categories } else { 0 };
        let by_flags = flag(WRITE, C_WRITE)
            | flag(READONLY, if matches!(self.group, Group::Scripting) { 0 } else { C_READ })
            | flag(ADMIN, C_ADMIN | C_DANGEROUS)
            | flag(PUBSUB, C_PUBSUB)
            | flag(BLOCKING, C_BLOCKING)
            | if self.flags & FAST != 0 { C_FAST } else { C_SLOW };
        (by_flags | self.group.facts().1) & !self.fewer_categories | self.more_categories
    }
}

/// All commands that are no subcommands, group by group.
pub fn all() -> impl Iterator<Item = &'static Command> + Clone {
    TABLES.iter().flat_map(|table| table.iter())
}

/// The command with that name, in any case; a container for its subcommands.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    let index: &Index = &INDEX;
    let mut slot = hash(name);
    while let Some(command) = index[slot % SLOTS] {
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        slot += 1;
    }
    None
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// This, with a possible number of arguments.
    Command(&'static Command),
    /// No command has that name.
    Unknown,
    /// The container has no such subcommand.
    UnknownSubcommand(&'static Command),
    /// The command does not take that many arguments.
    WrongArity(&'static Command),
}

/// Finds the command or subcommand of a request and checks the number of its arguments, in the order in which Redis does.
#[inline]
pub fn resolve<'a>(argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) -> Resolved {
    match arg(0).and_then(lookup) {
        Some(command) => resolve_within(command, argc, arg),
        None => Resolved::Unknown,
    }
}

/// The same for a request whose first argument is the name of this command.
#[inline]
pub fn resolve_within<'a>(
    mut command: &'static Command,
    argc: usize,
    arg: impl Fn(usize) -> Option<&'a [u8]>,
) -> Resolved {
    if !command.subcommands.is_empty()
        && let Some(name) = arg(1)
    {
        match command.subcommand(name) {
            Some(subcommand) => command = subcommand,
            None => return Resolved::UnknownSubcommand(command),
        }
    }
    if command.check_arity(argc) { Resolved::Command(command) } else { Resolved::WrongArity(command) }
}

/// Slots of the index: a power of two, and at least twice as many as commands, so that chains are short and end.
const SLOTS: usize = 1024;

/// Open addressing with linear probing.
type Index = [Option<&'static Command>; SLOTS];

static INDEX: LazyLock<Box<Index>> = LazyLock::new(|| {
    let mut index: Box<Index> = Box::new([None; SLOTS]);
    for command in all() {
        let mut slot = hash(command.name.as_bytes());
        while index[slot % SLOTS].is_some() {
            slot += 1;
        }
        index[slot % SLOTS] = Some(command);
    }
    index
});

/// Depends on the first and the last eight bytes, in any case, and the length.
#[inline]
fn hash(name: &[u8]) -> usize {
    /// Sets the bit that tells lower from upper case in each byte.
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let (head, tail) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => (name.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0),
    };
    let mixed = (head | LOWER).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (tail | LOWER).rotate_left(29).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
        ^ name.len() as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

#[cfg(test)]
mod tests;
