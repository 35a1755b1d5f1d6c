//! COMMAND: what the table knows, in the shape in which Redis 7 tells it, in RESP3.
//!
//! Differences from Redis: no tips (they tell cluster clients how to spread requests, which is the proxy's work) and no
//! notes; DOCS has neither summary nor complexity, history or arguments; GETKEYSANDFLAGS gives for SET and BITFIELD the
//! flags of all their forms; keys and values that do not pair up are no valid arguments.

use super::commands::keys::{Begin, Find, INCOMPLETE, KEY_FLAG_NAMES, KeyFlags, KeySpec, VARIABLE_FLAGS};
use super::commands::{CATEGORY_NAMES, Command, FLAG_NAMES, all, lookup};
use super::reply::{
    NULL_3, write_array_header, write_bulk, write_error, write_integer, write_map_header, write_set_header,
    write_simple,
};
use super::{errors, glob};

/// A command that is not in the table, by its name or as `container|name`.
pub type Learnt<'a> = &'a dyn Fn(&[u8]) -> Option<&'static Command>;

/// Answers COMMAND and its subcommands. The subcommand exists and the number of arguments is possible. INFO and the GETKEYS
/// know what was learnt, too.
pub fn command<'a>(out: &mut Vec<u8>, argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>, learnt: Learnt<'_>) {
    let name = arg(1).unwrap_or_default().to_ascii_lowercase();
    match name.as_slice() {
        b"" => info(out, all()),
        b"count" => write_integer(out, all().count() as i64),
        b"info" if argc > 2 => {
            write_array_header(out, argc - 2);
            for index in 2..argc {
                let name = arg(index).unwrap_or_default();
                match find(name).or_else(|| learnt(name)) {
                    Some(command) => write_info(out, command),
                    None => out.extend_from_slice(NULL_3),
                }
            }
        }
        b"info" => info(out, all()),
        b"docs" if argc > 2 => docs(out, (2..argc).filter_map(|index| find(arg(index)?))),
        b"docs" => docs(out, all()),
        b"list" => list(out, argc, arg),
        b"getkeys" => get_keys(out, argc - 2, |index| arg(index + 2), learnt, false),
        b"getkeysandflags" => get_keys(out, argc - 2, |index| arg(index + 2), learnt, true),
        _ => help(out),
    }
}

/// The command of that name, or the subcommand called `container|name`.
fn find(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|&byte| byte == b'|') {
        Some(at) => lookup(&name[..at])?.subcommand(&name[at + 1..]),
        None => lookup(name),
    }
}

fn info(out: &mut Vec<u8>, commands: impl Iterator<Item = &'static Command> + Clone) {
    write_array_header(out, commands.clone().count());
    commands.for_each(|command| write_info(out, command));
}

/// The ten elements that COMMAND INFO has for a command.
fn write_info(out: &mut Vec<u8>, command: &Command) {
    let legacy = LegacyRange::of(command);
    write_array_header(out, 10);
    write_bulk(out, command.name.as_bytes());
    write_integer(out, i64::from(command.arity));
    let movable = legacy.movable.then_some("movablekeys");
    let flags = FLAG_NAMES.iter().filter(|(flag, _)| command.flags & flag != 0).map(|&(_, name)| name);
    write_simples(out, flags.chain(movable));
    write_integer(out, legacy.first);
    write_integer(out, legacy.last);
    write_integer(out, legacy.step);
    write_simples(out, categories(command));
    write_set_header(out, 0);
    write_set_header(out, command.key_specs.len());
    command.key_specs.iter().for_each(|spec| write_key_spec(out, spec));
    // Redis itself has an array where there are some, and a set where there are none.
    match command.subcommands {
        [] => write_set_header(out, 0),
        some => info(out, some.iter()),
    }
}

fn categories(command: &Command) -> impl Iterator<Item = &'static str> + Clone {
    let categories = command.categories();
    CATEGORY_NAMES.into_iter().enumerate().filter(move |(bit, _)| categories & (1 << bit) != 0).map(|(_, name)| name)
}

fn write_simples<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a str> + Clone) {
    write_set_header(out, names.clone().count());
    names.for_each(|name| write_simple(out, name));
}

fn write_key_flags(out: &mut Vec<u8>, flags: KeyFlags) {
    write_simples(out, KEY_FLAG_NAMES.iter().filter(|(flag, _)| flags & flag != 0).map(|&(_, name)| name));
}

fn write_key_spec(out: &mut Vec<u8>, spec: &KeySpec) {
    write_map_header(out, 3);
    write_bulk(out, b"flags");
    write_key_flags(out, spec.flags);
    write_bulk(out, b"begin_search");
    match spec.begin {
        Begin::Index(index) => write_rule(out, "index", &[("index", index.into())]),
        Begin::Keyword { word, from } => {
            write_rule_header(out, "keyword", 2);
            write_bulk(out, b"keyword");
            write_bulk(out, word.as_bytes());
            write_bulk(out, b"startfrom");
            write_integer(out, from.into());
        }
        Begin::Unknown => write_rule(out, "unknown", &[]),
    }
    write_bulk(out, b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            write_rule(out, "range", &[("lastkey", last.into()), ("keystep", step.into()), ("limit", limit.into())]);
        }
        Find::Count { number, first, step } => {
            let numbers = [("keynumidx", number.into()), ("firstkey", first.into()), ("keystep", step.into())];
            write_rule(out, "keynum", &numbers);
        }
        Find::Unknown => write_rule(out, "unknown", &[]),
    }
}

fn write_rule(out: &mut Vec<u8>, kind: &str, numbers: &[(&str, i64)]) {
    write_rule_header(out, kind, numbers.len());
    for &(name, number) in numbers {
        write_bulk(out, name.as_bytes());
        write_integer(out, number);
    }
}

fn write_rule_header(out: &mut Vec<u8>, kind: &str, fields: usize) {
    write_map_header(out, 2);
    write_bulk(out, b"type");
    write_bulk(out, kind.as_bytes());
    write_bulk(out, b"spec");
    write_map_header(out, fields);
}

/// The one range of keys that older clients know, and whether it tells all.
struct LegacyRange {
    first: i64,
    last: i64,
    step: i64,
    movable: bool,
}

impl LegacyRange {
    /// Joins the plain ranges of a command's specifications as far as they are consecutive.
    fn of(command: &Command) -> Self {
        let mut legacy = Self { first: 0, last: 0, step: 0, movable: false };
        for spec in command.key_specs {
            let (Begin::Index(first), Find::Range { last, step, .. }) = (spec.begin, spec.find) else {
                legacy.movable = true;
                continue;
            };
            let (first, last) = (i64::from(first), i64::from(last));
            let alone = command.key_specs.len() == 1;
            if !alone && (step != 1 || (legacy.last != 0 && legacy.last != first - 1)) {
                legacy.movable = true;
                continue;
            }
            legacy.movable |= spec.flags & INCOMPLETE != 0;
            if legacy.first == 0 {
                legacy.first = first;
            }
            legacy.last = if last >= 0 { first + last } else { last };
            legacy.step = i64::from(step);
        }
        legacy
    }
}

fn docs(out: &mut Vec<u8>, commands: impl Iterator<Item = &'static Command> + Clone) {
    write_map_header(out, commands.clone().count());
    for command in commands {
        write_bulk(out, command.name.as_bytes());
        let deprecated = command.deprecated.map_or(0, |_| 2);
        let container = usize::from(!command.subcommands.is_empty());
        write_map_header(out, 2 + deprecated + container);
        write_bulk(out, b"since");
        write_bulk(out, command.since.as_bytes());
        write_bulk(out, b"group");
        write_bulk(out, command.group.name().as_bytes());
        if let Some(since) = command.deprecated {
            write_bulk(out, b"doc_flags");
            write_simples(out, std::iter::once("deprecated"));
            write_bulk(out, b"deprecated_since");
            write_bulk(out, since.as_bytes());
        }
        if container > 0 {
            write_bulk(out, b"subcommands");
            docs(out, command.subcommands.iter());
        }
    }
}

/// COMMAND LIST [FILTERBY MODULE|ACLCAT|PATTERN x].
fn list<'a>(out: &mut Vec<u8>, argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) {
    let is = |index, word: &str| arg(index).is_some_and(|text: &[u8]| text.eq_ignore_ascii_case(word.as_bytes()));
    let with_subcommands = || all().flat_map(|command| std::iter::once(command).chain(command.subcommands));
    let names: Vec<&str> = match arg(4) {
        None if argc == 2 => with_subcommands().map(|command| command.name).collect(),
        Some(_) if argc != 5 || !is(2, "filterby") => return out.extend_from_slice(errors::SYNTAX),
        Some(_) if is(3, "module") => Vec::new(),
        Some(category) if is(3, "aclcat") => {
            let wanted = |name: &str| name.as_bytes()[1..].eq_ignore_ascii_case(category);
            with_subcommands().filter(|command| categories(command).any(wanted)).map(|command| command.name).collect()
        }
        Some(pattern) if is(3, "pattern") => {
            let fits = |command: &&Command| glob::matches_any_case(pattern, command.name.as_bytes());
            with_subcommands().filter(fits).map(|command| command.name).collect()
        }
        _ => return out.extend_from_slice(errors::SYNTAX),
    };
    write_array_header(out, names.len());
    names.iter().for_each(|name| write_bulk(out, name.as_bytes()));
}

/// COMMAND GETKEYS and GETKEYSANDFLAGS of the request that `arg` gives.
fn get_keys<'a>(
    out: &mut Vec<u8>,
    argc: usize,
    arg: impl Fn(usize) -> Option<&'a [u8]>,
    learnt: Learnt<'_>,
    with_flags: bool,
) {
    let found = arg(0).and_then(|name| lookup(name).or_else(|| learnt(name)));
    let found = match (found, arg(1)) {
        (Some(command), Some(name)) if !command.subcommands.is_empty() => command.subcommand(name),
        _ => found,
    };
    let Some(command) = found else { return write_error(out, "ERR Invalid command specified") };
    if !command.has_keys() {
        return write_error(out, "ERR The command has no key arguments");
    }
    if !command.check_arity(argc) {
        return write_error(out, "ERR Invalid number of arguments specified for command");
    }
    let mut keys = Vec::new();
    let outcome = command.visit_keys(argc, &arg, |index, flags| keys.push((index, flags)));
    if outcome.is_err() && !command.works_without_keys() {
        return write_error(out, "ERR Invalid arguments specified for command");
    }
    write_array_header(out, keys.len());
    for (index, flags) in keys {
        if with_flags {
            write_array_header(out, 2);
        }
        write_bulk(out, arg(index).unwrap_or_default());
        if with_flags {
            write_key_flags(out, flags & !VARIABLE_FLAGS);
        }
    }
}

fn help(out: &mut Vec<u8>) {
    const LINES: [&str; 15] = [
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)",
        "    Return details about all commands.",
        "COUNT",
        "    Return the number of commands.",
        "DOCS [<command-name> ...]",
        "    Return since when commands exist, and their group.",
        "GETKEYS <full-command>, GETKEYSANDFLAGS <full-command>",
        "    Return the keys of a command, and what it does with them.",
        "INFO [<command-name> ...]",
        "    Return details about some commands, or all.",
        "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
        "    Return the names of commands.",
        "HELP",
        "    Print this help.",
    ];
    write_array_header(out, LINES.len());
    LINES.iter().for_each(|line| write_simple(out, line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::redis::commands::{Resolved, resolve};
    use crate::protocol::redis::convert;

    fn answer(line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let arg = |index| args.get(index).copied();
        assert!(matches!(resolve(args.len(), arg), Resolved::Command(_)), "{line}");
        let (mut three, mut out) = (Vec::new(), Vec::new());
        command(&mut three, args.len(), arg, &|_| None);
        convert::to_resp2(&three, &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn info_has_ten_elements_and_null_for_the_unknown() {
        let expected = "*2 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@string +@fast *0 *1 *6 $5 flags *2 +RO +access \
            $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :1 \
            $9 find_keys *4 $4 type $5 range $4 spec *6 $7 lastkey :0 $7 keystep :1 $5 limit :0 *0 $-1 ";
        assert_eq!(answer("COMMAND INFO GeT nosuch"), expected);
    }

    #[test]
    fn sets_and_maps_are_such_in_resp3() {
        let mut out = Vec::new();
        command(&mut out, 4, |index| [&b"COMMAND"[..], b"INFO", b"GET", b"nosuch"].get(index).copied(), &|_| None);
        let expected = "*2 *10 $3 get :2 ~2 +readonly +fast :1 :1 :1 ~3 +@read +@string +@fast ~0 ~1 %3 $5 flags ~2 +RO +access \
            $12 begin_search %2 $4 type $5 index $4 spec %1 $5 index :1 \
            $9 find_keys %2 $4 type $5 range $4 spec %3 $7 lastkey :0 $7 keystep :1 $5 limit :0 ~0 _ ";
        assert_eq!(String::from_utf8(out).unwrap().replace("\r\n", " "), expected);
    }

    #[test]
    fn docs_leave_out_the_unknown() {
        let expected = "*2 $6 getset *8 $5 since $5 1.0.0 $5 group $6 string \
            $9 doc_flags *1 +deprecated $16 deprecated_since $5 6.2.0 ";
        assert_eq!(answer("COMMAND DOCS nosuch GETSET"), expected);
        assert_eq!(answer("COMMAND DOCS object|freq"), "*2 $11 object|freq *4 $5 since $5 4.0.0 $5 group $7 generic ");
    }

    #[test]
    fn lists_with_filters() {
        assert!(answer("COMMAND LIST").contains(" $6 xgroup $13 xgroup|create "));
        assert_eq!(answer("COMMAND LIST FILTERBY PATTERN X[^a-f]R?[b-m]"), "*1 $5 xtrim ");
        assert_eq!(answer("COMMAND LIST FILTERBY PATTERN *object|*q*"), "*1 $11 object|freq ");
        assert_eq!(answer("command list filterby aclcat hyperloglog").split(' ').next(), Some("*5"));
        assert_eq!(answer("COMMAND LIST FILTERBY MODULE x"), "*0 ");
        for wrong in ["COMMAND LIST FILTERBY", "COMMAND LIST x", "COMMAND LIST FILTERBY x y", "COMMAND LIST a b c d"] {
            assert_eq!(answer(wrong), "-ERR syntax error ", "{wrong}");
        }
    }

    #[test]
    fn tells_keys_and_flags() {
        assert_eq!(answer("COMMAND GETKEYS RENAME a b"), "*2 $1 a $1 b ");
        assert_eq!(
            answer("COMMAND GETKEYSANDFLAGS RENAME a b"),
            "*2 *2 $1 a *3 +RW +access +delete *2 $1 b *2 +OW +update "
        );
        assert_eq!(answer("COMMAND GETKEYS nosuch x"), "-ERR Invalid command specified ");
        assert_eq!(answer("COMMAND GETKEYS PING x"), "-ERR The command has no key arguments ");
        assert_eq!(answer("COMMAND GETKEYS GET a b"), "-ERR Invalid number of arguments specified for command ");
    }

    #[test]
    fn help_is_an_array_of_lines() {
        assert!(answer("COMMAND HELP").starts_with("*15 +COMMAND <subcommand>"));
    }
}
