//! The table against itself; `tests/redis_protocol.rs` holds it against a live server.

use super::keys::*;
use super::*;

fn keys(line: &str) -> Result<Vec<u32>, KeyError> {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let Resolved::Command(command) = resolve(args.len(), |index| args.get(index).copied()) else { panic!("{line}") };
    let mut found = vec![99];
    command.keys(args.len(), |index| args.get(index).copied(), &mut found).map(|()| found)
}

fn every_command() -> impl Iterator<Item = &'static Command> {
    all().flat_map(|command| std::iter::once(command).chain(command.subcommands))
}

#[test]
fn finds_every_command_in_any_case_and_nothing_else() {
    for command in all() {
        assert_eq!(lookup(command.name.as_bytes()), Some(command));
        assert_eq!(lookup(command.name.to_uppercase().as_bytes()), Some(command));
        assert_eq!(lookup(format!("{}#", command.name).as_bytes()), None);
        for subcommand in command.subcommands {
            assert_eq!(command.subcommand(subcommand.own_name().to_uppercase().as_bytes()), Some(subcommand));
            assert_eq!(lookup(subcommand.name.as_bytes()), None);
        }
    }
    for none in [&b""[..], b"g", b"get ", b"GET\0", b"zrangebyscorezrangebyscore", &[0xff; 8], &[b'a'; 100_000]] {
        assert_eq!(lookup(none), None);
    }
    assert_eq!(lookup(b"client").unwrap().subcommand(b""), None);
}

#[test]
fn the_table_is_well_formed() {
    let names: std::collections::HashSet<&str> = every_command().map(|command| command.name).collect();
    assert_eq!(names.len(), every_command().count(), "a name stands twice");
    assert!(all().count() * 2 < SLOTS, "the index is too full");
    for command in every_command() {
        let name = command.name;
        assert_eq!(name, name.to_lowercase());
        assert_ne!(command.arity, 0, "{name}");
        for subcommand in command.subcommands {
            assert_eq!(subcommand.name.split_once('|').map(|(container, _)| container), Some(name));
        }
        match command.route {
            Route::Key => assert!(command.first_key_only().is_some(), "{name} has not one key"),
            Route::Transaction(TransactionCommand::Watch) => assert!(command.has_keys()),
            Route::Keys | Route::Split(_) => {
                assert!(command.has_keys() && command.first_key_only().is_none(), "{name}");
            }
            Route::Refused(_) => {}
            _ => assert!(!command.has_keys(), "{name} has keys"),
        }
        if command.flags & BLOCKING != 0 && !matches!(name, "xread" | "xreadgroup") {
            assert!(matches!(command.route, Route::Keys | Route::Wait), "{name} blocks");
        }
        if let Some(index) = command.first_key_only() {
            assert!(command.arity.unsigned_abs() as usize > index, "{name} may lack its key");
        }
    }
}

#[test]
fn resolves_names_subcommands_and_arity_in_this_order() {
    let resolved = |line: &str| {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        resolve(args.len(), |index| args.get(index).copied())
    };
    let name = |line: &str| match resolved(line) {
        Resolved::Command(command) => command.name,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(name("GET k"), "get");
    assert_eq!(name("xgroup CREATE s g $"), "xgroup|create");
    assert_eq!(name("COMMAND"), "command");
    assert_eq!(resolved("GETT k"), Resolved::Unknown);
    assert_eq!(resolved("GET"), Resolved::WrongArity(lookup(b"get").unwrap()));
    assert_eq!(resolved("GET a b"), Resolved::WrongArity(lookup(b"get").unwrap()));
    let client = lookup(b"client").unwrap();
    assert_eq!(resolved("CLIENT"), Resolved::WrongArity(client));
    assert_eq!(resolved("CLIENT MAINT_NOTIFICATIONS on"), Resolved::UnknownSubcommand(client));
    assert_eq!(resolved("CLIENT SETNAME"), Resolved::WrongArity(client.subcommand(b"setname").unwrap()));
    assert_eq!(resolve(0, |_| None), Resolved::Unknown);
}

#[test]
fn collects_keys() {
    for (line, expected) in [
        ("GET k", &[1][..]),
        ("OBJECT ENCODING k", &[2]),
        ("MGET a b c", &[1, 2, 3]),
        ("MSET a 1 b 2", &[1, 3]),
        ("DEL a", &[1]),
        ("EVAL s 2 a b c", &[3, 4]),
        ("EVAL s 0 a", &[]),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", &[1, 3, 4]),
        ("XREAD COUNT 1 STREAMS a b 0 0", &[4, 5]),
        ("XREADGROUP GROUP STREAMS c STREAMS s >", &[5]),
        ("SORT k BY STORE LIMIT 0 1 STORE d", &[1, 8]),
        ("SORT k", &[1]),
        ("SORT k STORE", &[1]),
        ("GEORADIUS k 0 0 1 m STORE d", &[1, 7]),
        ("GEORADIUS k 0 0 1 m", &[1]),
        ("PING", &[]),
    ] {
        assert_eq!(keys(line), Ok(expected.to_vec()), "{line}");
    }
}

#[test]
fn refuses_key_counts_that_lie() {
    for (line, error) in [
        ("EVAL s x a", KeyError::NotInteger),
        ("EVAL s +1 a", KeyError::NotInteger),
        ("EVAL s 99999999999999999999 a", KeyError::NotInteger),
        ("EVAL s -1 a", KeyError::TooFew),
        ("EVAL s 2 a", KeyError::TooMany),
        ("EVAL s 9223372036854775807 a", KeyError::TooMany),
        ("EVAL s 1", KeyError::TooMany),
        ("ZUNION 0 a", KeyError::TooFew),
        ("LMPOP 3 a LEFT", KeyError::TooMany),
        ("XREAD COUNT 1 a", KeyError::Syntax),
        ("XREAD COUNT 1 STREAMS", KeyError::Syntax),
        ("MSET a 1 b", KeyError::Pairs),
    ] {
        assert_eq!(keys(line), Err(error), "{line}");
    }
}
