//! COMMAND GETKEYS of every command that can have keys, with arguments at random, against a live redis-server.

use outrigger::protocol::redis::Version;
use outrigger::protocol::redis::commands::{self, Command};

use super::live::{Server, Value, ask, introspected, value};

/// Requests of each command.
const EACH: usize = 150;

/// What arguments are made of: keys, numbers of keys, and the words that keys are found by.
const WORDS: [&str; 24] = [
    "a",
    "b",
    "c",
    "d",
    "",
    "0",
    "1",
    "2",
    "3",
    "4",
    "-1",
    "x1",
    "STREAMS",
    "streams",
    "STORE",
    "STOREDIST",
    "KEYS",
    "BY",
    "GET",
    "LIMIT",
    "COUNT",
    "BLOCK",
    "GROUP",
    "AUTH2",
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// So many arguments as it can have, or a few more.
fn request(command: &'static Command, random: &mut Random) -> Vec<&'static str> {
    let mut request: Vec<&str> = command.name.split('|').collect();
    let least = usize::from(command.arity.unsigned_abs());
    let count = if command.arity < 0 { least + random.below(7) } else { least };
    while request.len() < count {
        request.push(WORDS[random.below(WORDS.len())]);
    }
    request
}

/// Where the table differs on purpose.
fn differs_on_purpose(words: &[&str]) -> bool {
    match words[0] {
        // A key without a value: an error at once, as the request itself would be.
        "mset" | "msetnx" => words.len().is_multiple_of(2),
        // Without a source Redis runs it, and does not find its key.
        "pfmerge" => words.len() == 2,
        // One alone, of keys and ids: the server says what is wrong when it gets that.
        "xread" | "xreadgroup" => words[words.len() - 2].eq_ignore_ascii_case("streams"),
        // KEYS without any.
        "migrate" => words.last().is_some_and(|word| word.eq_ignore_ascii_case("keys")),
        // WITHSCORE came with 7.2.
        "zrank" | "zrevrank" => words.len() > 3,
        _ => false,
    }
}

#[test]
fn keys_are_found_in_any_arguments_as_the_server_finds_them() {
    let Some(server) = Server::start() else { return };
    let mut stream = server.connect();
    let mut random = Random(1);
    let known = value(&ask(&mut stream, &["COMMAND", "LIST"]));
    let knows = |command: &Command| known.array().iter().any(|name| name.text() == command.name);
    let all = commands::all().flat_map(|command| std::iter::once(command).chain(command.subcommands));
    let (mut compared, mut found) = (0, 0);
    let mut wrong = Vec::new();
    for command in all.filter(|command| command.has_keys() && knows(command)) {
        for _ in 0..EACH {
            let words = request(command, &mut random);
            let asked = [&["COMMAND", "GETKEYS"], words.as_slice()].concat();
            let theirs = value(&ask(&mut stream, &asked));
            let ours = value(&introspected(Version::Resp2, &asked));
            compared += 1;
            found += usize::from(matches!(theirs, Value::Many(..)));
            let both_fail = matches!((&ours, &theirs), (Value::Text(_), Value::Text(_)));
            if ours != theirs && !both_fail && !differs_on_purpose(&words) {
                wrong.push(format!("{}: {ours:?}, the server {theirs:?}", words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong[..wrong.len().min(140)].join("\n"));
    assert!(found > 15_000, "{found} of {compared} have keys");
}
