use proptest::prelude::*;

use super::*;
use crate::protocol::redis::commands::keys::key;
use crate::protocol::redis::commands::learnt::{Description, learn};

fn rules(line: &str) -> Rules {
    parse(line).unwrap_or_else(|wrong| panic!("{line}: {wrong:?}"))
}

/// What is denied of a request to one with these rules.
fn denied(line: &str, request: &str) -> Option<Denied> {
    let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
    let mut command = lookup(args[0]).expect("a command");
    if let Some(subcommand) = args.get(1).and_then(|name| command.subcommand(name)) {
        command = subcommand;
    }
    rules(line).permissions.check(command, args.len(), |index| args.get(index).copied()).err()
}

#[test]
fn later_rules_win() {
    for (line, request, expected) in [
        ("+get", "GET a", Some(Denied::Key(1))),
        ("+get ~*", "GET a", None),
        ("+get -get ~*", "GET a", Some(Denied::Command)),
        ("+@read -get ~*", "GET a", Some(Denied::Command)),
        ("-get +@read ~*", "GET a", None),
        ("+@all -@string ~*", "GET a", Some(Denied::Command)),
        ("+@all -config", "CONFIG GET a", Some(Denied::Command)),
        ("+@all -config +config|get", "CONFIG GET a", None),
        ("+config -config|set", "CONFIG SET a b", Some(Denied::Command)),
        ("+config|get", "CONFIG SET a b", Some(Denied::Command)),
        ("+@all nocommands", "PING", Some(Denied::Command)),
        ("+select|0", "SELECT 0", None),
        ("+select|0", "SELECT 1", Some(Denied::Command)),
        ("+select|0 -select", "SELECT 0", Some(Denied::Command)),
        ("~* resetkeys +get", "GET a", Some(Denied::Key(1))),
        ("", "AUTH x", None),
    ] {
        assert_eq!(denied(line, request), expected, "{line}: {request}");
    }
}

#[test]
fn keys_may_be_read_written_or_both() {
    let line = "+@all %R~r:* %W~w:* ~rw:*";
    for (request, expected) in [
        ("GET r:1", None),
        ("GET w:1", Some(Denied::Key(1))),
        ("SET r:1 v", Some(Denied::Key(1))),
        ("SET w:1 v", None),
        ("SET w:1 v GET", Some(Denied::Key(1))),
        ("SET rw:1 v GET", None),
        ("COPY r:1 w:1", None),
        ("COPY w:1 r:1", Some(Denied::Key(1))),
        ("MGET r:1 rw:1 x", Some(Denied::Key(3))),
        ("BITFIELD r:1 GET u8 0", None),
        ("BITFIELD r:1 SET u8 0 1", Some(Denied::Key(1))),
        // Only whether it is there: any right to the key will do.
        ("EXISTS r:1 w:1", None),
        ("ZUNIONSTORE w:1 2 r:1 rw:1", None),
        ("ZUNIONSTORE w:1 2 r:1 w:1", Some(Denied::Key(4))),
        ("ZUNIONSTORE w:1 x r:1", Some(Denied::Unclear(KeyError::NotInteger))),
        ("SORT r:1 BY nosort", None),
        ("SORT r:1 BY w_*", Some(Denied::Sort("BY"))),
        ("SORT r:1 LIMIT 0 1 GET #", Some(Denied::Sort("GET"))),
        ("SORT r:1 STORE r:2", Some(Denied::Key(3))),
    ] {
        assert_eq!(denied(line, request), expected, "{request}");
    }
    assert_eq!(denied("+sort %R~*", "SORT a BY w_* GET x_*"), None);
}

#[test]
fn channels_and_patterns_of_channels() {
    let line = "+@all &news:*";
    for (request, expected) in [
        ("PUBLISH news:1 x", None),
        ("PUBLISH other x", Some(Denied::Channel(1))),
        ("SUBSCRIBE news:1 other", Some(Denied::Channel(2))),
        ("PSUBSCRIBE news:*", None),
        ("PSUBSCRIBE news:1*", Some(Denied::Channel(1))),
        ("UNSUBSCRIBE other", None),
    ] {
        assert_eq!(denied(line, request), expected, "{request}");
    }
}

#[test]
fn scripts_are_for_those_who_may_do_what_scripts_can() {
    for (line, expected) in [
        ("+@all ~* &*", None),
        // A script cannot call these either.
        ("+@all -acl -config -shutdown ~* &*", None),
        ("+@all -flushall ~* &*", Some(Denied::Script)),
        ("+@all ~app:* &*", Some(Denied::Script)),
        ("+@all ~* &news", Some(Denied::Script)),
        ("+@read +eval ~* &*", Some(Denied::Script)),
    ] {
        assert_eq!(denied(line, "EVAL x 1 app:1"), expected, "{line}");
        assert_eq!(
            denied(line, "FCALL_RO x 1 app:1"),
            if line.contains("+eval") { Some(Denied::Command) } else { expected }
        );
    }
    let mut trusted = rules("+@all ~app:*").permissions;
    trusted.trust_scripts();
    let check = |request: &str| {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        trusted.check(lookup(b"eval").unwrap(), args.len(), |index| args.get(index).copied())
    };
    assert_eq!((check("EVAL x 1 app:1"), check("EVAL x 1 b")), (Ok(()), Err(Denied::Key(3))));
}

#[test]
fn a_command_that_the_table_does_not_have_is_for_those_who_have_all() {
    // What has been learnt is a copy somewhere else.
    let learnt = lookup(b"ping").unwrap().clone();
    let may = |line: &str| rules(line).permissions.check(&learnt, 1, |_| None).is_ok();
    assert!(may("+@all") && may("+@all -get") && !may("+@read +ping") && !may("+@all -@all +ping"));
}

#[test]
fn keys_of_learnt_commands_are_taken_for_read_and_written_and_must_be_known() {
    let learnt = |name: &str, more_keys: bool| {
        let (key_specs, subcommands) = (vec![key(1, 0)], Vec::new());
        let description =
            Description { name: name.into(), arity: 2, flags: 0, categories: 0, key_specs, more_keys, subcommands };
        learn(&description).unwrap()
    };
    let (plain, hiding) = (learnt("acl.plain", false), learnt("acl.hiding", true));
    let check = |line: &str, command: &Command| {
        let args: [&[u8]; 2] = [command.name.as_bytes(), b"a"];
        rules(line).permissions.check(command, 2, |index| args.get(index).copied())
    };
    for (line, of_plain, of_hiding) in [
        ("+@all ~*", Ok(()), Ok(())),
        ("+@all ~a", Ok(()), Err(Denied::Command)),
        ("+@all %R~a", Err(Denied::Key(1)), Err(Denied::Command)),
        ("+@read ~*", Err(Denied::Command), Err(Denied::Command)),
    ] {
        assert_eq!((check(line, plain), check(line, hiding)), (of_plain, of_hiding), "{line}");
    }
}

#[test]
fn words_that_are_no_rules() {
    let wrong = |line: &str| parse(line).unwrap_err().remove(0);
    assert_eq!(wrong("+get +nosuch").at, 5);
    for (line, why) in [
        ("+nosuch", BadRule::Command("nosuch".into())),
        ("+config|nosuch", BadRule::Command("config|nosuch".into())),
        ("+config|get|x", BadRule::Argument("config|get|x".into())),
        ("-select|0", BadRule::Command("select|0".into())),
        ("+@nosuch", BadRule::Category("nosuch".into())),
        ("~* ~a", BadRule::KeysAfterAll("~a".into())),
        ("&* &a", BadRule::ChannelsAfterAll("&a".into())),
        ("%X~a", BadRule::Access("%X~a".into())),
        ("%~a", BadRule::Access("%~a".into())),
        (">secret", BadRule::Password),
        ("nopass", BadRule::Password),
        ("(+get", BadRule::Selector),
        ("get", BadRule::Unknown("get".into())),
        ("+", BadRule::Unknown("+".into())),
    ] {
        assert_eq!(wrong(line).why, why, "{line}");
    }
    assert_eq!(parse("x y +get z").unwrap_err().len(), 3);
}

#[test]
fn rules_are_shown_as_redis_shows_them() {
    for (line, shown) in [
        ("", "resetchannels -@all"),
        ("+@all ~* &*", "~* &* +@all"),
        (
            "+@read +GET +config|get -strlen ~a* %R~b %RW~c %W~b &x",
            "~a* ~b ~c resetchannels &x -@all +@read +get +config|get -strlen",
        ),
        ("+config|get +config|set -config", "resetchannels -@all -config"),
        ("+get -get +get", "resetchannels -@all +get"),
        ("%R~a %W~b allchannels", "%R~a %W~b &* -@all"),
    ] {
        assert_eq!(rules(line).permissions.line(), shown, "{line}");
    }
    assert!(!rules("+get off").on && rules("+get off on").on && !rules("+get reset").on);
}

fn word() -> impl Strategy<Value = String> {
    let names: Vec<&'static str> = command_names().collect();
    let command = proptest::sample::select(names);
    prop_oneof![
        4 => (prop_oneof![Just('+'), Just('-')], command).prop_map(|(sign, name)| format!("{sign}{name}")),
        3 => (prop_oneof![Just('+'), Just('-')], proptest::sample::select(CATEGORY_NAMES.to_vec()))
            .prop_map(|(sign, name)| format!("{sign}{name}")),
        1 => prop_oneof![Just("+@all"), Just("-@all"), Just("resetkeys"), Just("resetchannels")].prop_map(str::to_owned),
        2 => "(~|%R~|%W~|&)[a-c]{1,2}\\*".prop_map(|text| text),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is shown means the same.
    #[test]
    fn what_is_shown_means_the_same(words in proptest::collection::vec(word(), 0..20)) {
        let first = rules(&words.join(" ")).permissions;
        let again = rules(&first.line()).permissions;
        prop_assert_eq!(&first.commands, &again.commands);
        prop_assert_eq!((&first.keys, first.others, &first.channels), (&again.keys, again.others, &again.channels));
    }

    #[test]
    fn no_text_is_too_much_for_it(text in "[ -~]{0,80}") {
        let _ = parse(&text);
    }
}
