//! What follows from a row of the table for a server that fails: may the command be sent again, may it work for long, and
//! which keys can it leave behind?

use super::keys::{DELETE, KeyError, OW, RW};
use super::{Command, Flags, Group, READONLY, WRITE};
use crate::telemetry::Class;

/// Commands whose work grows with all the data they name, and that are run knowing so: they have `slow_timeout` in place of
/// `timeout`. What walks through one value to hand it out (HGETALL, LRANGE, SMEMBERS, DUMP, BITCOUNT) is not among them: a
/// client that waits for a page of its shop wants an answer or an error soon.
#[rustfmt::skip]
pub(super) const SLOW: &[&str] = &[
    // What a script does, only its author knows.
    "eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro",
    "sort", "sort_ro",
    "sdiff", "sinter", "sintercard", "sunion", "sdiffstore", "sinterstore", "sunionstore",
    "zdiff", "zinter", "zintercard", "zunion", "zdiffstore", "zinterstore", "zunionstore", "zrangestore",
    "geosearch", "geosearchstore", "georadius", "georadius_ro", "georadiusbymember", "georadiusbymember_ro",
    "bitop", "lcs", "pfcount", "pfmerge",
    // They make a whole value, however large, or walk through one.
    "copy", "restore", "migrate", "memory|usage",
    // All that a server has.
    "keys", "flushall", "flushdb", "save", "bgsave", "bgrewriteaof", "debug",
    "memory|doctor", "memory|malloc-stats", "memory|purge", "memory|stats",
    "script|flush", "script|load", "function|delete", "function|dump", "function|flush", "function|load",
    "function|restore",
];

/// Commands that may name another database than the one they work in.
pub(super) const NAME_DATABASES: &[&str] = &["copy", "move", "swapdb"];

/// What a command of this group and with these flags is counted as. Scripts are neither reads nor writes, whatever they say.
pub(super) const fn class(group: Group, flags: Flags) -> Class {
    match flags & (READONLY | WRITE) {
        _ if matches!(group, Group::Scripting) => Class::Other,
        READONLY => Class::Read,
        WRITE => Class::Write,
        _ => Class::Other,
    }
}

/// Whether `names` holds `name`; for the table, which is made by the compiler.
pub(super) const fn holds(names: &[&str], name: &str) -> bool {
    let mut at = 0;
    while at < names.len() {
        if equal(names[at].as_bytes(), name.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn equal(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

impl Command {
    /// True if it changes nothing, so that it may be sent a second time, and be answered as a miss. GETEX is no read (it
    /// sets a time to live); TOUCH is one (it changes what is evicted first, and does so as well the second time). A script
    /// is none even if it only reads: when its server fails under it, that may be the script's doing.
    #[inline]
    pub fn is_read(&self) -> bool {
        self.flags & READONLY != 0 && !matches!(self.group, Group::Scripting)
    }

    /// What it is counted as when it goes to a server.
    #[inline]
    pub fn class(&self) -> Class {
        self.class
    }

    /// True if it has `slow_timeout` to answer.
    #[inline]
    pub fn is_slow(&self) -> bool {
        self.slow
    }

    /// Collects into `found` the indexes of the keys that may exist afterwards with another value or another time to live
    /// than before. Not those that it only reads, removes or takes something from.
    pub fn written_keys<'a>(
        &self,
        argc: usize,
        arg: impl Fn(usize) -> Option<&'a [u8]>,
        found: &mut Vec<u32>,
    ) -> Result<(), KeyError> {
        found.clear();
        if self.flags & READONLY != 0 {
            return Ok(());
        }
        self.visit_keys(argc, arg, |index, flags| {
            if flags & (RW | OW) != 0 && flags & DELETE == 0 {
                found.push(index as u32);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Resolved, Route, WRITE, all, lookup, resolve};
    use super::*;

    fn every_command() -> impl Iterator<Item = &'static Command> {
        all().flat_map(|command| std::iter::once(command).chain(command.subcommands))
    }

    fn written(line: &str) -> Vec<u32> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let arg = |index: usize| args.get(index).copied();
        let Resolved::Command(command) = resolve(args.len(), arg) else { panic!("{line}") };
        let mut found = vec![99];
        command.written_keys(args.len(), arg, &mut found).unwrap();
        found
    }

    #[test]
    fn the_list_of_slow_commands_names_what_exists_and_is_offered() {
        let find = |name: &str| every_command().find(|command| command.name == name);
        assert!(NAME_DATABASES.iter().all(|name| find(name).is_some()));
        for name in SLOW {
            let command = find(name).unwrap_or_else(|| panic!("no command {name}"));
            assert!(!matches!(command.route, Route::Proxy(_) | Route::Refused(_)), "{name} is not forwarded");
        }
        let slow: Vec<_> = every_command().filter(|command| command.is_slow()).map(|command| command.name).collect();
        assert_eq!(slow.len(), SLOW.len());
        for name in ["get", "mget", "hgetall", "lrange", "smembers", "xrange", "sor", "sortx", "del"] {
            assert!(!slow.contains(&name), "{name}");
        }
    }

    #[test]
    fn reads_change_nothing() {
        let is_read = |name: &[u8]| lookup(name).unwrap().is_read();
        for name in
            [&b"get"[..], b"mget", b"touch", b"exists", b"sscan", b"xread", b"pfcount", b"geosearch", b"sort_ro"]
        {
            assert!(is_read(name), "{}", name.escape_ascii());
        }
        for name in
            [&b"set"[..], b"getex", b"getdel", b"sort", b"eval", b"eval_ro", b"fcall_ro", b"xreadgroup", b"georadius"]
        {
            assert!(!is_read(name), "{}", name.escape_ascii());
        }
        assert!(lookup(b"object").unwrap().subcommand(b"freq").unwrap().is_read());
        assert!(every_command().all(|command| !(command.is_read() && command.flags & WRITE != 0)));
    }

    #[test]
    fn written_keys_are_those_that_may_stay_behind() {
        for (line, expected) in [
            ("SET k v", &[1][..]),
            ("SET k v EX 10", &[1]),
            ("MSET a 1 b 2", &[1, 3]),
            ("INCR k", &[1]),
            ("GETEX k PERSIST", &[1]),
            ("PERSIST k", &[1]),
            ("EXPIRE k 9", &[1]),
            ("HSET k f v", &[1]),
            ("RENAME a b", &[2]),
            ("COPY a b", &[2]),
            ("LMOVE a b LEFT LEFT", &[2]),
            ("SMOVE a b m", &[2]),
            ("SORT a", &[]),
            ("SORT a STORE b", &[3]),
            ("ZUNIONSTORE d 2 a b", &[1]),
            ("BITOP AND d a b", &[2]),
            ("GEORADIUS k 0 0 1 m STORE d", &[7]),
            ("EVAL s 2 a b", &[3, 4]),
            ("EVAL_RO s 2 a b", &[]),
            ("XGROUP CREATE s g $ MKSTREAM", &[2]),
            ("DEL a b", &[]),
            ("UNLINK a", &[]),
            ("GETDEL a", &[]),
            ("LPOP a", &[]),
            ("HDEL a f", &[]),
            ("GET a", &[]),
            ("PFCOUNT a b", &[]),
        ] {
            assert_eq!(written(line), expected, "{line}");
        }
    }

    #[test]
    fn every_key_that_a_command_may_create_is_a_written_key() {
        // Judged by the flag that says that a command may need memory, which only these few need without a key.
        for command in every_command().filter(|command| command.flags & super::super::DENYOOM != 0) {
            if !command.has_keys() || matches!(command.name, "sort" | "georadius" | "georadiusbymember") {
                continue;
            }
            let written = |spec: &super::super::keys::KeySpec| spec.flags & (RW | OW) != 0 && spec.flags & DELETE == 0;
            assert!(command.key_specs.iter().any(written), "{}", command.name);
        }
    }
}
