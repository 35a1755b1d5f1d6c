//! The model in Redis's protocol: what a request gets is a function of the request.

use outrigger::backend::Expect;
use outrigger::protocol::Parsed;
use outrigger::protocol::redis::commands::{self, Command, FanOut, ProxyCommand, Resolved, Route, Split};
use outrigger::protocol::redis::cursor::digits;
use outrigger::protocol::redis::gather::{Hint, gather};
use outrigger::protocol::redis::request::{self, Arguments};
use outrigger::protocol::redis::response::is_error;

use super::choices::Choices;
use super::ledger::{Fate, Ledger, Token, Want, hash};

type Words = Vec<Vec<u8>>;

/// What a session remembers of its client.
#[derive(Default)]
pub struct Dialogue {
    replies: Replies,
}

/// `CLIENT REPLY`.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Replies {
    #[default]
    On,
    Off,
    SkipNext,
    SkipThis,
}

impl Dialogue {
    /// The length and the fate of the request at the front; none if it is not whole.
    pub fn next(&mut self, stream: &[u8], ledger: &Ledger) -> Option<(usize, Fate)> {
        let mut args = Arguments::new();
        let consumed = match request::parse(stream, &ledger.limits, &mut args) {
            Ok(Parsed::Complete(consumed)) => consumed,
            Ok(Parsed::Incomplete { .. }) => return None,
            Err(_) => {
                let fate = fate(Some(Want::Line(b"-ERR Protocol error: ")), vec![], true);
                return Some((stream.len(), Fate { unsure: may_wait(stream, ledger), ..fate }));
            }
        };
        let words: Words = args.iter(stream).map(<[u8]>::to_vec).collect();
        if words.is_empty() {
            return Some((consumed, fate(None, vec![], false)));
        }
        let mut fate = self.fate(&words, ledger);
        if matches!(self.replies, Replies::Off | Replies::SkipThis) {
            fate.want = None;
        }
        self.replies = match self.replies {
            Replies::SkipNext => Replies::SkipThis,
            Replies::SkipThis => Replies::On,
            other => other,
        };
        Some((consumed, fate))
    }

    fn fate(&mut self, words: &Words, ledger: &Ledger) -> Fate {
        let refused = |line| fate(Some(Want::Line(line)), vec![], false);
        let command = match commands::resolve(words.len(), |i| words.get(i).map(Vec::as_slice)) {
            Resolved::Command(command) => command,
            Resolved::Unknown => return refused(b"-ERR unknown command '"),
            Resolved::UnknownSubcommand(_) => return refused(b"-ERR unknown subcommand '"),
            Resolved::WrongArity(_) => return refused(b"-ERR wrong number of arguments for '"),
        };
        let one = ledger.pool.servers() == 1;
        let look = words.get(1).map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        let debugs = command.route == Route::Debug && look != b"object" && look != b"help";
        // The pool has no administrators.
        if command.restricted || debugs {
            return refused(b"-ERR ");
        }
        match command.route {
            Route::FanOut(kind) => fan_out(command, kind, words, ledger),
            Route::Debug if words.len() > 2 && look == b"object" => forwarded(command, &[2], words, ledger),
            Route::Debug if look == b"object" => everywhere(command, words, Some(Want::Exact(reply(words))), ledger),
            Route::One | Route::Debug => somewhere(command, words),
            Route::Only(_) if one => somewhere(command, words),
            Route::Proxy(what) => self.answered_here(what, words),
            Route::Key => match command.first_key_only() {
                Some(key) => forwarded(command, &[key], words, ledger),
                None => together(command, words, ledger),
            },
            Route::Keys => together(command, words, ledger),
            Route::Split(kind) => split(command, kind, words, ledger),
            _ => refused(b"-ERR "),
        }
    }

    fn answered_here(&mut self, what: ProxyCommand, words: &Words) -> Fate {
        let exact = |bytes: Vec<u8>| fate(Some(Want::Exact(bytes)), vec![], false);
        match (what, words.len()) {
            (ProxyCommand::Ping, 1) => exact(b"+PONG\r\n".to_vec()),
            (ProxyCommand::Ping, 2) | (ProxyCommand::Echo, _) => exact(bulk(&words[1])),
            (ProxyCommand::Quit, _) => Fate { last: true, ..exact(b"+OK\r\n".to_vec()) },
            (ProxyCommand::Reset, _) => {
                // What SKIP holds back it holds back of RESET, too.
                if self.replies != Replies::SkipThis {
                    self.replies = Replies::On;
                }
                exact(b"+RESET\r\n".to_vec())
            }
            (ProxyCommand::ClientReply, _) => {
                match &words[2].to_ascii_lowercase()[..] {
                    b"on" => {
                        self.replies = Replies::On;
                        return exact(b"+OK\r\n".to_vec());
                    }
                    b"off" => self.replies = Replies::Off,
                    b"skip" if self.replies == Replies::Off => {}
                    b"skip" => self.replies = Replies::SkipNext,
                    _ => return exact(b"-ERR syntax error\r\n".to_vec()),
                }
                fate(None, vec![], false)
            }
            _ => fate(Some(Want::Whole), vec![], false),
        }
    }
}

/// Whether some request is beyond the model: one that has a connection of its own, or that servers are asked about.
pub fn leads_beyond(mut stream: &[u8], ledger: &Ledger) -> bool {
    let mut args = Arguments::new();
    while let Ok(Parsed::Complete(consumed)) = request::parse(stream, &ledger.limits, &mut args) {
        let arg = |index: usize| args.get(stream, index);
        let beyond = match commands::resolve(args.len(), arg) {
            Resolved::Command(command) => {
                let apart = matches!(
                    command.route,
                    Route::Subscribe(_) | Route::Unsubscribe(_) | Route::Transaction(_) | Route::Wait | Route::Channel
                );
                apart || command.blocks(args.len(), arg).is_some()
            }
            Resolved::Unknown => !args.is_empty(),
            Resolved::UnknownSubcommand(_) => true,
            Resolved::WrongArity(_) => false,
        };
        if beyond {
            return true;
        }
        stream = &stream[consumed..];
    }
    false
}

fn fate(want: Option<Want>, tokens: Vec<(usize, Token)>, last: bool) -> Fate {
    Fate { want, expect: Expect::Resp, tokens, last, unsure: false }
}

/// Whether a session that has seen some of this may wait for more than all of it before it looks again.
fn may_wait(stream: &[u8], ledger: &Ledger) -> bool {
    super::super::cuts(stream.len()).any(|cut| {
        let parsed = request::parse(&stream[..cut], &ledger.limits, &mut Arguments::new());
        matches!(parsed, Ok(Parsed::Incomplete { need }) if need > stream.len())
    })
}

fn too_long(keys: &[usize], words: &Words, ledger: &Ledger) -> bool {
    keys.iter().any(|key| words[*key].len() > ledger.limits.max_key_bytes)
}

/// To the server of the first of these keys, whole.
fn forwarded(command: &Command, keys: &[usize], words: &Words, ledger: &Ledger) -> Fate {
    if too_long(keys, words, ledger) {
        return fate(Some(Want::Line(b"-ERR key too long: '")), vec![], false);
    }
    let server = ledger.owner(&words[keys[0]]);
    let tokens = tokens(command, words).into_iter().map(|token| (server, token)).collect();
    fate(Some(Want::Exact(reply(words))), tokens, false)
}

/// To the one server of all its keys, or nowhere.
fn together(command: &'static Command, words: &Words, ledger: &Ledger) -> Fate {
    let arg = |index: usize| words.get(index).map(Vec::as_slice);
    let refused = || fate(Some(Want::Line(b"-ERR ")), vec![], false);
    let mut keys = Vec::new();
    if command.blocks(words.len(), arg).is_some() || command.keys(words.len(), arg, &mut keys).is_err() {
        return refused();
    }
    if keys.is_empty() {
        return somewhere(command, words);
    }
    let keys: Vec<usize> = keys.into_iter().map(|key| key as usize).collect();
    let owner = ledger.owner(&words[keys[0]]);
    if !ledger.shifting && keys.iter().any(|key| ledger.owner(&words[*key]) != owner) {
        return refused();
    }
    forwarded(command, &keys, words, ledger)
}

/// To any server, which is the first.
fn somewhere(command: &Command, words: &Words) -> Fate {
    let tokens = tokens(command, words).into_iter().map(|token| (0, token)).collect();
    fate(Some(Want::Exact(reply(words))), tokens, false)
}

/// To each server, as it came.
fn everywhere(command: &Command, words: &Words, want: Option<Want>, ledger: &Ledger) -> Fate {
    // Where servers come and go, to each that there may be.
    let servers = if ledger.shifting { ledger.conduct.len() } else { ledger.pool.servers() };
    let tokens = (0..servers).flat_map(|server| tokens(command, words).into_iter().map(move |token| (server, token)));
    fate(want, tokens.collect(), false)
}

/// To all servers, each of which answers the same.
fn fan_out(command: &'static Command, kind: FanOut, words: &Words, ledger: &Ledger) -> Fate {
    let servers = ledger.pool.servers();
    let reply = reply(words);
    let want = match kind {
        FanOut::Info => return info(command, words, ledger),
        _ if servers == 1 => Want::Exact(reply),
        FanOut::Scan => return scan(command, words),
        FanOut::Random => {
            let sizes = everywhere(lookup("DBSIZE"), &vec![b"DBSIZE".to_vec()], None, ledger);
            let mut fate = everywhere(command, words, Some(Want::Whole), ledger);
            fate.tokens.extend(sizes.tokens);
            return fate;
        }
        // How many, the request says.
        FanOut::Newest => Want::Whole,
        _ if ledger.shifting => Want::Whole,
        _ if is_error(&reply) => Want::Exact(reply),
        _ => {
            let mut merged = Vec::new();
            let replies = vec![&reply[..]; servers];
            match gather(kind, &replies, Hint::default(), &mut merged) {
                Some(()) => Want::Exact(merged),
                None => Want::Line(b"-ERR a server answered "),
            }
        }
    };
    everywhere(command, words, Some(want), ledger)
}

fn lookup(name: &str) -> &'static Command {
    commands::lookup(name.as_bytes()).expect("a command")
}

fn info(command: &'static Command, words: &Words, ledger: &Ledger) -> Fate {
    let is_own = |word: &Vec<u8>| word.eq_ignore_ascii_case(b"outrigger");
    let is_all =
        |word: &Vec<u8>| ["all", "default", "everything"].iter().any(|all| word.eq_ignore_ascii_case(all.as_bytes()));
    match words.len() > 1 && words[1..].iter().all(is_own) {
        true => fate(Some(Want::Whole), vec![], false),
        false
            if ledger.pool.servers() == 1 && words.len() > 1 && !words[1..].iter().any(|w| is_own(w) || is_all(w)) =>
        {
            // Without a server it is the proxy's own.
            Fate { want: Some(Want::Whole), ..somewhere(command, words) }
        }
        false => everywhere(command, words, Some(Want::Whole), ledger),
    }
}

/// From its beginning at the first server. What was made up is no cursor; that it is one by chance is not to be expected.
fn scan(command: &'static Command, words: &Words) -> Fate {
    if digits(&words[1]) != Some(0) {
        return fate(Some(Want::Line(b"-ERR invalid cursor")), vec![], false);
    }
    let mut first = words.clone();
    first[1] = b"0".to_vec();
    Fate { want: Some(Want::Whole), ..somewhere(command, &first) }
}

fn split(command: &'static Command, kind: Split, words: &Words, ledger: &Ledger) -> Fate {
    let step = if kind == Split::Mset { 2 } else { 1 };
    let keys: Vec<usize> = (1..words.len()).step_by(step).collect();
    let one = words.len() == 1 + step || ledger.pool.servers() == 1;
    if too_long(&keys, words, ledger) {
        return fate(Some(Want::Line(b"-ERR ")), vec![], false);
    }
    if !one && !(words.len() - 1).is_multiple_of(step) {
        return fate(Some(Want::Line(b"-ERR wrong number of arguments for '")), vec![], false);
    }
    let owners: Vec<usize> = keys.iter().map(|key| ledger.owner(&words[*key])).collect();
    if one || (!ledger.shifting && owners.iter().all(|owner| *owner == owners[0])) {
        return forwarded(command, &keys, words, ledger);
    }
    let want = match kind {
        Split::Mget => Want::Elements(words[1..].iter().map(|key| value(key)).collect()),
        Split::Mset | Split::Sum => Want::Exact(reply(words)),
    };
    fate(Some(want), owners.into_iter().zip(tokens(command, words)).collect(), false)
}

/// How a request may be told when it arrives: one that can come in fragments by its keys, others as a whole.
fn tokens(command: &Command, words: &Words) -> Vec<Token> {
    let write = !command.is_read();
    let token = |parts: &[&[u8]]| Token { hash: hash(parts), write };
    let name = command.name.as_bytes();
    match command.route {
        Route::Split(Split::Mset) => {
            words[1..].chunks(2).map(|pair| token(&[name, &pair[0], pair.get(1).map_or(b"", |v| v)])).collect()
        }
        Route::Split(_) => words[1..].iter().map(|key| token(&[name, key])).collect(),
        _ => vec![Token { hash: hash(words), write }],
    }
}

/// A request at a server.
pub struct Arrived {
    pub tokens: Vec<Token>,
    pub keys: Words,
    pub reply: Vec<u8>,
}

/// The request at the front of what a server was sent. A server is stricter than a client's proxy: an array of bulk
/// strings, written as Redis writes numbers.
pub fn arrived(stream: &[u8]) -> Option<(usize, Arrived)> {
    let mut at = 0;
    let count = number(stream, &mut at, b'*')?;
    let mut words = Words::new();
    for _ in 0..count {
        let length = number(stream, &mut at, b'$')?;
        let word = stream.get(at..at + length)?;
        let end = stream.get(at + length..at + length + 2)?;
        assert_eq!(end, b"\r\n", "a server was sent {}", super::super::shown(stream));
        words.push(word.to_vec());
        at += length + 2;
    }
    let arg = |index: usize| words.get(index).map(Vec::as_slice);
    let Resolved::Command(command) = commands::resolve(words.len(), arg) else {
        panic!("a server was sent what is no command: {}", super::super::shown(stream));
    };
    let mut keys = Vec::new();
    let _ = command.keys(words.len(), arg, &mut keys);
    let keys: Words = keys.into_iter().map(|key| words[key as usize].clone()).collect();
    Some((at, Arrived { tokens: tokens(command, &words), keys, reply: reply(&words) }))
}

fn number(stream: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let line = stream.get(*at..)?;
    let end = line.iter().position(|byte| *byte == b'\n')?;
    let text = std::str::from_utf8(&line[1..end]).ok().and_then(|text| text.strip_suffix('\r'));
    let value = text.and_then(|text| text.parse::<usize>().ok());
    let sound = line[0] == kind && value.is_some_and(|value| Some(value.to_string().as_str()) == text);
    assert!(sound, "a server was sent {}", super::super::shown(stream));
    *at += end + 1;
    value
}

/// What the model answers.
fn reply(words: &Words) -> Vec<u8> {
    match &words[0].to_ascii_lowercase()[..] {
        b"get" => value(&words[1]),
        b"mget" => array(words[1..].iter().map(|key| value(key))),
        b"mset" => b"+OK\r\n".to_vec(),
        b"del" | b"unlink" | b"exists" | b"touch" => {
            let there = words[1..].iter().filter(|key| hash([key]) % 3 != 0).count();
            format!(":{there}\r\n").into_bytes()
        }
        _ => shaped(words),
    }
}

/// The value of a key: none, short, long, or so long that it is handed on without a copy.
fn value(key: &[u8]) -> Vec<u8> {
    let hash = hash([key]);
    let length = match hash % 64 {
        0..8 => return b"$-1\r\n".to_vec(),
        8 => 20_000,
        9..12 => 3000,
        _ => 20 + key.len(),
    };
    let text = [key, format!("={hash:x};").as_bytes()].concat();
    bulk(&text.repeat(length / text.len() + 1))
}

/// Any kind of reply, with something in it that is the request's alone.
fn shaped(words: &Words) -> Vec<u8> {
    let hash = hash(words);
    let digest = format!("{hash:016x}").into_bytes();
    match hash % 7 {
        0 => [b"+", &digest[..], b"\r\n"].concat(),
        1 => [b"-MODEL ", &digest[..], b"\r\n"].concat(),
        2 => format!(":{}\r\n", hash as i64).into_bytes(),
        3 => bulk(&digest),
        4 => array([bulk(&digest), b"*-1\r\n".to_vec(), array([b":1\r\n".to_vec(), bulk(b"")])]),
        5 => array((0..hash % 50).map(|_| bulk(&digest)).chain([b"*0\r\n".to_vec(), bulk(&digest)])),
        _ => bulk(&digest.repeat(if hash % 128 < 8 { 2000 } else { 10 })),
    }
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Words = items.into_iter().collect();
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

/// Bytes that no reply can begin with.
pub const GARBAGE: [&[u8]; 8] = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\r\n",
    b"$-2\r\n",
    b":one\r\n",
    b">1\r\n+message\r\n",
    b"*99999999999\r\n",
    b"$?\r\n",
    &[0],
];

/// A good reply that nothing asked for.
pub const EXTRA: &[u8] = b"$5\r\nextra\r\n";

/// A request of a client; `key` makes keys that are this request's alone.
pub fn compose(choices: &mut Choices<'_>, key: &dyn Fn(usize) -> String, out: &mut Vec<u8>) {
    let one = key(0);
    let several = |choices: &mut Choices<'_>, step: usize| -> Vec<String> {
        let count = 1 + choices.below(6);
        let word = |index: usize| if index.is_multiple_of(step) { key(index) } else { format!("value-{index}") };
        (0..count * step).map(word).collect()
    };
    let command =
        |name: &str, words: &[String]| array([name.to_owned()].iter().chain(words).map(|word| bulk(word.as_bytes())));
    let bytes = match choices.below(25) {
        0..=5 => command("GET", &[one]),
        6 => command("set", &[one, "value".into()]),
        7 => {
            let size = choices.pick(&[0, 300, 3000, 17_000, 70_000]);
            command("SET", &[one, "v".repeat(size)])
        }
        8 => command("INCR", &[one]),
        9 => command("LRANGE", &[one, "0".into(), "-1".into()]),
        10 => command("DEL", &several(choices, 1)),
        11 | 12 => command("MGET", &several(choices, 1)),
        13 | 14 => command("MSET", &several(choices, 2)),
        15 => command("EXISTS", &several(choices, 1)),
        16 => format!("GET {one}\r\n").into_bytes(),
        17 => format!("set {one} \"a b\\x00\"\n").into_bytes(),
        18 => command("RENAME", &several(choices, 1)[..1].iter().cloned().chain([key(9)]).collect::<Vec<_>>()),
        19 => command("EVAL", &["return 1".into(), "1".into(), one]),
        20 => command("PING", &[]),
        21 => command(
            choices.pick(&["MULTI", "UNWATCH", "PUBLISH", "GET", "FLUSHALL", "COMMAND"]),
            &[one, key(1), key(2)],
        ),
        22 => match choices.below(8) {
            0 => command("QUIT", &[]),
            1 => command("RESET", &[]),
            mode => command("CLIENT", &["REPLY".into(), ["ON", "OFF", "SKIP"][mode % 3].into()]),
        },
        23 => {
            let own = key(0);
            let line = choices.pick(&[
                "DBSIZE",
                "KEYS k",
                "SCAN 0 MATCH k",
                "SCAN k",
                "SCAN 4711 COUNT k",
                "RANDOMKEY",
                "INFO",
                "INFO k",
                "INFO outrigger",
                "SCRIPT LOAD k",
                "SCRIPT EXISTS k",
                "FUNCTION LOAD k",
                "FUNCTION LIST k",
                "PUBSUB NUMSUB k",
                "PUBSUB CHANNELS k",
                "SLOWLOG GET 3",
                "LATENCY HISTORY k",
                "CONFIG GET k",
                "CONFIG SET k 1",
                "CLUSTER KEYSLOT k",
                "MEMORY DOCTOR",
                "DEBUG OBJECT k",
                "DEBUG SLEEP 0",
            ]);
            let words: Vec<String> =
                line.split(' ').map(|word| if word == "k" { own.clone() } else { word.to_owned() }).collect();
            command(&words[0], &words[1..])
        }
        _ => choices.pick(&[&b"*0\r\n"[..], b"\r\n", b"*-1\r\n", b"*2\r\n$4\r\nECHO\r\n$3\r\n\r\n\0\r\n"]).to_vec(),
    };
    out.extend_from_slice(&bytes);
}
