//! The model in memcached's protocol: what a request gets is a function of the request.

use outrigger::backend::Expect;
use outrigger::protocol::memcached::request::{parse, part};
use outrigger::protocol::memcached::{self, Outcome, Request, Verb};

use super::choices::Choices;
use super::ledger::{Fate, Ledger, Token, Want, hash};

/// Longest line that is forwarded for other commands than `get` and `gets`.
const LONGEST_LINE: u32 = 2048;

/// What a server says that has not understood a storage request, and so may take its data block for commands.
pub const OUT_OF_STEP: &[u8] = b"CLIENT_ERROR model is out of step\r\n";

/// What a session remembers of its client.
#[derive(Default)]
pub struct Dialogue {
    /// Bytes of a refused data block that are still to come.
    discard: u64,
}

impl Dialogue {
    /// The length and the fate of the request at the front; none if it is not whole.
    pub fn next(&mut self, stream: &[u8], ledger: &Ledger) -> Option<(usize, Fate)> {
        if self.discard > 0 && !stream.is_empty() {
            let now = self.discard.min(stream.len() as u64);
            self.discard -= now;
            return Some((now as usize, fate(None, Verb::Version, vec![])));
        }
        if stream.is_empty() {
            return None;
        }
        let mut request = Request::default();
        let refusal = |line: &str| Want::Exact(format!("{line}\r\n").into_bytes());
        match parse(stream, &ledger.limits, &mut request) {
            Outcome::Complete { consumed } => Some((consumed, whole(&request, &stream[..consumed], ledger))),
            Outcome::Incomplete { .. } => None,
            Outcome::Rejected { consumed, skip, reply } => {
                self.discard = skip;
                let want = (!request.noreply).then(|| refusal(reply.line()));
                Some((consumed, fate(want, Verb::Version, vec![])))
            }
            Outcome::Fatal { reply } => {
                Some((stream.len(), Fate { last: true, ..fate(Some(refusal(reply.line())), Verb::Version, vec![]) }))
            }
        }
    }
}

fn fate(want: Option<Want>, verb: Verb, tokens: Vec<(usize, Token)>) -> Fate {
    Fate { want, expect: Expect::Memcached(verb.expect()), tokens, last: false, unsure: false }
}

fn whole(request: &Request, bytes: &[u8], ledger: &Ledger) -> Fate {
    let verb = request.verb;
    let retrieval = verb.is_retrieval();
    let taken = request.line_len <= LONGEST_LINE || bytes.starts_with(b"get ") || bytes.starts_with(b"gets ");
    if !taken && !retrieval {
        let line = Want::Exact(b"CLIENT_ERROR line too long\r\n".to_vec());
        return fate((!request.noreply).then_some(line), verb, vec![]);
    }
    let asked = Asked::of(request, bytes);
    let want = match verb {
        Verb::Quit => return Fate { last: true, ..fate(None, verb, vec![]) },
        Verb::Version => Want::Line(b"VERSION "),
        Verb::Verbosity => Want::Exact(b"OK\r\n".to_vec()),
        Verb::Stats => Want::Whole,
        // An error of any of them is the error of the whole.
        _ if retrieval && asked.keys.iter().any(|key| fails(key)) => {
            Want::OneOf(asked.keys.iter().filter(|key| fails(key)).map(|key| failure(key)).collect())
        }
        _ => Want::Exact(asked.reply()),
    };
    let owners: Vec<usize> = match verb {
        Verb::FlushAll => (0..ledger.conduct.len()).collect(),
        _ => asked.keys.iter().map(|key| ledger.owner(key)).collect(),
    };
    let tokens = match verb {
        Verb::FlushAll => {
            owners.into_iter().flat_map(|owner| asked.tokens().into_iter().map(move |t| (owner, t))).collect()
        }
        Verb::Version | Verb::Verbosity | Verb::Stats => vec![],
        _ => owners.into_iter().zip(asked.tokens()).collect(),
    };
    let noreply = request.noreply;
    fate((!noreply).then_some(want), verb, tokens)
}

/// A request, for both sides.
struct Asked {
    verb: Verb,
    keys: Vec<Vec<u8>>,
    /// Everything else that matters.
    rest: Vec<Vec<u8>>,
}

impl Asked {
    fn of(request: &Request, bytes: &[u8]) -> Self {
        let rest = [request.flags, request.exptime, request.number, request.data];
        let rest = rest.into_iter().map(|span| span.map_or_else(Vec::new, |span| part(bytes, span).to_vec())).collect();
        Self { verb: request.verb, keys: request.keys(bytes).map(<[u8]>::to_vec).collect(), rest }
    }

    /// One a key, since a retrieval can come in fragments.
    fn tokens(&self) -> Vec<Token> {
        let name = self.verb.name().as_bytes();
        let write = !self.verb.is_retrieval();
        let token =
            |key: &[u8]| Token { hash: hash([name, key].into_iter().chain(self.rest.iter().map(|r| &r[..]))), write };
        if self.verb == Verb::FlushAll { vec![token(b"")] } else { self.keys.iter().map(|key| token(key)).collect() }
    }

    /// What the model answers.
    fn reply(&self) -> Vec<u8> {
        if let Some(key) = self.keys.iter().find(|key| fails(key)) {
            return failure(key);
        }
        let one = |lines: &[&str]| {
            let key = &self.keys[0];
            lines[(hash([&key[..], b"outcome"]) % lines.len() as u64) as usize].as_bytes().to_vec()
        };
        match self.verb.expect() {
            memcached::Expect::Values => self.values(false),
            memcached::Expect::ValuesUnique => self.values(true),
            memcached::Expect::Stored => one(&["STORED\r\n", "NOT_STORED\r\n"]),
            memcached::Expect::StoredUnique => one(&["STORED\r\n", "EXISTS\r\n", "NOT_FOUND\r\n"]),
            memcached::Expect::Deleted => one(&["DELETED\r\n", "NOT_FOUND\r\n"]),
            memcached::Expect::Touched => one(&["TOUCHED\r\n", "NOT_FOUND\r\n"]),
            memcached::Expect::Number => format!("{}\r\n", hash(&self.keys)).into_bytes(),
            _ => b"OK\r\n".to_vec(),
        }
    }

    fn values(&self, unique: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for key in &self.keys {
            let hash = hash([key]);
            let length = match hash % 64 {
                0..8 => continue,
                8 => 20_000,
                9..12 => 3000,
                _ => key.len(),
            };
            let text = [key, format!("={hash:x};\r\nEND\r\n").as_bytes()].concat();
            let data = text.repeat(length / text.len() + 1);
            let unique = unique.then_some(hash);
            memcached::replies::write_value(&mut out, key, hash as u32, &data, unique);
        }
        out.extend_from_slice(b"END\r\n");
        out
    }
}

/// One key in ten has a server that fails for it.
fn fails(key: &[u8]) -> bool {
    hash([key, b"fails"]) % 10 == 0
}

fn failure(key: &[u8]) -> Vec<u8> {
    format!("SERVER_ERROR out of memory for {:x}\r\n", hash([key])).into_bytes()
}

/// A request at a server.
pub struct Arrived {
    pub tokens: Vec<Token>,
    pub keys: Vec<Vec<u8>>,
    pub reply: Vec<u8>,
    /// Storage: with a data block.
    pub storage: bool,
}

/// The request at the front of what a server was sent: nothing that a server could refuse, and never `noreply`.
pub fn arrived(stream: &[u8]) -> Option<(usize, Arrived)> {
    if stream.is_empty() {
        return None;
    }
    let mut request = Request::default();
    let limits = outrigger::protocol::Limits::default();
    match parse(stream, &limits, &mut request) {
        Outcome::Complete { consumed } => {
            assert!(!request.noreply, "a server was sent {}", super::super::shown(stream));
            let asked = Asked::of(&request, &stream[..consumed]);
            let (tokens, reply) = (asked.tokens(), asked.reply());
            Some((consumed, Arrived { tokens, keys: asked.keys, reply, storage: request.verb.is_storage() }))
        }
        Outcome::Incomplete { .. } => None,
        outcome => panic!("a server was sent {}: {outcome:?}", super::super::shown(stream)),
    }
}

/// Bytes that no reply can begin with.
pub const GARBAGE: [&[u8]; 6] =
    [b"garbage\r\n", b"\r\n", b"+PONG\r\n", b"VALUE \r\n", b"\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"];

/// A good reply that nothing asked for.
pub const EXTRA: &[u8] = b"SERVER_ERROR extra\r\n";

/// A request of a client; `key` makes keys that are this request's alone.
pub fn compose(choices: &mut Choices<'_>, key: &dyn Fn(usize) -> String, out: &mut Vec<u8>) {
    let one = key(0);
    let several = |choices: &mut Choices<'_>| {
        let keys: Vec<String> = (0..1 + choices.below(8)).map(key).collect();
        keys.join(" ")
    };
    let noreply = |choices: &mut Choices<'_>| choices.pick(&["", "", " noreply"]);
    let storage = |name: &str, extra: &str, noreply: &str, data: &str| {
        format!("{name} {one} 5 0 {}{extra}{noreply}\r\n{data}\r\n", data.len())
    };
    let text = match choices.below(24) {
        0..=4 => format!("get {one}\r\n"),
        5 => format!("gets {one}\n"),
        6..=8 => format!("get {}\r\n", several(choices)),
        9 => format!("gats 60 {}\r\n", several(choices)),
        10..=12 => storage("set", "", noreply(choices), "value"),
        13 => {
            let size = choices.pick(&[0, 300, 3500, 17_000, 70_000]);
            storage(choices.pick(&["set", "add", "append"]), "", noreply(choices), &"v".repeat(size))
        }
        14 => storage("cas", " 77", noreply(choices), "\r\nget c\r\n"),
        15 => format!("incr {one} 5{}\r\n", noreply(choices)),
        16 => format!("delete {one}{}\r\n", noreply(choices)),
        17 => format!("touch {one} 60{}\r\n", noreply(choices)),
        18 => format!("flush_all{}{}\r\n", choices.pick(&["", " 10"]), noreply(choices)),
        19 => choices.pick(&["version\r\n", "verbosity 1\r\n", "stats\r\n", "stats items\r\n", "mg key v\r\n"]).into(),
        20 => choices.pick(&["\r\n", "get\r\n", "GET a\r\n", "incr a\r\n", "delete a 5\r\n", "set a 0 0 x\r\n"]).into(),
        // The data block is longer than it says.
        21 => format!("set {one} 0 0 2{}\r\nabc\r\n", noreply(choices)),
        22 => format!("set {one} 0 0 +1\r\nx\r\n"),
        _ => match choices.below(4) {
            0 => "quit\r\n".into(),
            1 => format!("{}get {}\r\n", " ".repeat(2100), several(choices)),
            2 => format!("touch {one} {}60\r\n", " ".repeat(2100)),
            _ => format!("get {}\r\n", "k".repeat(260)),
        },
    };
    out.extend_from_slice(text.as_bytes());
}
