//! Requests at random, from a seed: mostly right, some wrong in ways that people and programs are.

use super::grammar::{self, Piece};

/// One request, word by word.
pub type Request = Vec<Vec<u8>>;

/// SplitMix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0, and less than that.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// So often of a hundred times.
    pub fn percent(&mut self, often: usize) -> bool {
        self.below(100) < often
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What goes over one connection at once.
#[derive(Clone)]
pub struct Step {
    /// Which of the two clients.
    pub client: usize,
    pub requests: Vec<Request>,
    /// Where the bytes are cut in two writes, in thousandths of their length; none where they are written at once.
    pub cut: Option<usize>,
}

/// What one run asks.
#[derive(Clone)]
pub struct Case {
    /// The version of the protocol.
    pub version: u8,
    /// Subscriptions rather than transactions.
    pub subscribes: bool,
    pub steps: Vec<Step>,
}

/// Bytes that mean something to the servers.
pub struct Samples {
    /// Of DUMP.
    pub payloads: Vec<Vec<u8>>,
    /// Of SCRIPT LOAD.
    pub digests: Vec<Vec<u8>>,
}

pub const SCRIPTS: [&str; 6] = [
    "return {KEYS[1] or false, ARGV[1] or 'none', 7, 3.9, true, false}",
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "return redis.pcall('INCR', KEYS[1])",
    "return redis.call('LPUSH', KEYS[1], unpack(ARGV))",
    "return {double=3.25}",
    "return redis.error_reply('MY error')",
];

const READING_SCRIPTS: [&str; 4] = [
    "return redis.call('TYPE', KEYS[1])",
    "redis.setresp(3) return redis.call('ZSCORE', KEYS[1], 'a')",
    "return redis.call('SET', KEYS[1], 'x')",
    "return {map={a=1}}",
];

const LIBRARIES: [&str; 3] = [
    "#!lua name=one\nredis.register_function('one', function(k, a) return {k, a} end)",
    "#!lua name=two\nredis.register_function{function_name='two', callback=function(k) return redis.call('GET', k[1]) end, flags={'no-writes'}}",
    "#!lua name=bad\nnonsense(",
];

/// What stands where something else should.
const GARBAGE: [&[u8]; 22] = [
    b"",
    b"-1",
    b"0",
    b"01",
    b"+5",
    b" 7",
    b"7 ",
    b"1.5",
    b"1e400",
    b"0x10",
    b"nan",
    b"-inf",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"99999999999999999999999",
    b"abc",
    b"STREAMS",
    b"LIMIT",
    b"\x00\xff\r\n",
    b"\"quoted\"",
    b"{t}",
];

pub struct Generator<'a> {
    pub random: Random,
    samples: &'a Samples,
    data: Vec<Vec<Piece>>,
    transactions: Vec<Vec<Piece>>,
    subscriptions: Vec<Vec<Piece>>,
    /// Of each client: it has probably said MULTI or WATCH.
    transacts: [bool; 2],
    /// No mistakes in what is made up now.
    exact: bool,
}

impl<'a> Generator<'a> {
    pub fn new(samples: &'a Samples) -> Self {
        let [data, transactions, subscriptions] =
            [grammar::DATA, grammar::TRANSACTIONS, grammar::SUBSCRIPTIONS].map(grammar::forms);
        Self { random: Random(0), samples, data, transactions, subscriptions, transacts: [false; 2], exact: false }
    }

    /// The case of a seed.
    pub fn case(&mut self, seed: u64) -> Case {
        self.random = Random(seed);
        self.transacts = [false; 2];
        let version = if self.random.percent(50) { 2 } else { 3 };
        let subscribes = self.random.percent(20);
        let steps = (0..12 + self.random.below(20)).map(|_| self.step(subscribes)).collect();
        Case { version, subscribes, steps }
    }

    fn step(&mut self, subscribes: bool) -> Step {
        // Seldom long, so that the buffers of all sides fill up.
        let count = match self.random.below(20) {
            0 => 60 + self.random.below(200),
            1..6 => 5 + self.random.below(20),
            _ => 1 + self.random.below(3),
        };
        let client = usize::from(self.random.percent(30));
        let mut requests: Vec<Request> = (0..count).map(|_| self.request(client, subscribes)).collect();
        // Messages that are on their way to a client that leaves everything are lost; so it does that when there are none.
        if subscribes && self.random.percent(8) {
            requests.insert(0, vec![b"RESET".to_vec()]);
        }
        let cut = self.random.percent(25).then(|| self.random.below(1000));
        Step { client, requests, cut }
    }

    fn request(&mut self, client: usize, subscribes: bool) -> Request {
        loop {
            let form = match self.random.below(100) {
                _ if subscribes => self.random.pick(&self.subscriptions),
                0..18 => self.random.pick(&self.transactions),
                _ => self.random.pick(&self.data),
            }
            .clone();
            let mut request = Request::new();
            // Within MULTI what has no keys is refused at once, by the proxy: then the rest is not compared.
            self.exact = self.transacts[client] && !self.random.percent(4);
            self.fill(&form, &mut request);
            if !self.exact && self.random.percent(14) {
                self.damage(&mut request);
            }
            if self.random.percent(10) {
                request[0] = request[0].iter().map(|byte| byte.to_ascii_lowercase()).collect();
            }
            let name = name_of(&request);
            tame(&name, &mut request);
            match &name[..] {
                "MULTI" | "WATCH" => self.transacts[client] = true,
                "EXEC" | "DISCARD" | "UNWATCH" | "RESET" => self.transacts[client] = false,
                // What concerns the session is refused within transactions; once in a while it is asked for.
                "SELECT" | "CLIENT" | "AUTH" | "HELLO" | "READONLY"
                    if self.transacts[client] && !self.random.percent(2) =>
                {
                    continue;
                }
                _ => {}
            }
            return request;
        }
    }

    fn fill(&mut self, form: &[Piece], request: &mut Request) {
        for piece in form {
            match piece {
                Piece::Word(word) => self.word(word, request),
                Piece::One(all) => {
                    let one = self.random.below(all.len());
                    self.fill(&all[one], request);
                }
                Piece::Maybe(all) => {
                    if let Some(one) = all.get(self.random.below(all.len() * 2)) {
                        self.fill(one, request);
                    }
                }
                Piece::Many(form) => {
                    for _ in 0..1 + self.random.below(4).saturating_sub(self.random.below(3)) {
                        self.fill(form, request);
                    }
                }
            }
        }
    }

    fn word(&mut self, word: &str, request: &mut Request) {
        if let Some(keys) = word.strip_prefix('#').filter(|keys| !keys.is_empty()) {
            let count = self.random.below(3) + usize::from(self.random.percent(90));
            let count = if self.exact { count.max(1) } else { count };
            let said = if self.exact || self.random.percent(93) { count } else { self.random.below(5) };
            request.push(said.to_string().into_bytes());
            (0..count).for_each(|_| self.word(keys, request));
            return;
        }
        let made = if word.starts_with(|c: char| c.is_ascii_lowercase()) { self.made(word) } else { None };
        request.push(made.unwrap_or_else(|| word.as_bytes().to_vec()));
    }

    /// What a word in small letters stands for; nothing where it stands for itself.
    fn made(&mut self, word: &str) -> Option<Vec<u8>> {
        let random = &mut self.random;
        let number = |random: &mut Random| random.below(6).to_string();
        let some = |random: &mut Random, of: &[&str]| (*random.pick(of)).to_owned();
        let text = match word {
            "k" | "ks" | "kl" | "kh" | "kx" | "kz" | "kt" | "kg" | "kp" | "kq" => return Some(self.key(word)),
            "v" => return Some(self.value()),
            "i" if random.percent(8) => return Some(random.pick(&GARBAGE[12..16]).to_vec()),
            "i" => (random.below(14) as i64 - 5).to_string(),
            "n" => number(random),
            "many" => "100000".to_owned(),
            "f" => some(random, &["0", "1", "2.5", "-3.25", "1e3", "3.0000000000000001", "inf", "-inf", "10000000000"]),
            "sc" => some(random, &["0", "1", "2", "3", "-1", "2.5", "1e10", "inf", "-inf", "0.1"]),
            "bnd" => some(random, &["0", "1", "(1", "(2.5", "-inf", "+inf", "10", "(a"]),
            "lex" => some(random, &["-", "+", "[a", "(a", "[m", "[", "(zz", "x"]),
            "o" => some(random, &["0", "1", "7", "8", "100", "#1", "-1", "4294967296", "1099511627776"]),
            "type" => some(random, &["u8", "i8", "u1", "i64", "u63", "i5", "u64", "x3"]),
            "ttl" => some(random, &["100000", "200000", "0", "-1", "9223372036854775807", "100000"]),
            "at" => some(random, &["4102444800", "4102444800123", "1", "0", "-5", "9223372036854775807"]),
            "tmo" => some(random, &["0.001", "0.001", "-1", "x"]),
            "ms" => some(random, &["1", "1", "-1"]),
            "cur" => some(random, &["0", "0", "0", "x"]),
            "id" if random.percent(10) => {
                some(random, &["0", "0-0", "x", "5-5-5", "18446744073709551615-18446744073709551615", "$"])
            }
            "id" => format!("{}-{}", random.below(6), random.below(6)),
            "rid" => {
                let one = number(random);
                if random.percent(70) { some(random, &["-", "+"]) } else { some(random, &["", "("]) + &one }
            }
            "fld" => some(random, &["f", "g", "h", "", "field", "\u{0}\r\n"]),
            "grp" => some(random, &["g", "other"]),
            "con" => some(random, &["me", "you"]),
            "lon" => some(random, &["13.36", "15.08", "0", "-122.4", "181"]),
            "lat" => some(random, &["38.11", "37.5", "0", "51.5", "86"]),
            "pat" => {
                some(random, &["*", "s*", "?1", "[a-k]1", "n*", "nosuch", "[", "\\*", "news", "x_*", "h1->f", "#"])
            }
            "chn" => some(random, &["news", "other", "n", "", "ch\r\nx"]),
            "cli" => some(random, &["me", "", "my-name"]),
            "name" => some(random, &["one", "two", "none"]),
            "script" => some(random, &SCRIPTS),
            "roscript" => some(random, &READING_SCRIPTS),
            "library" => some(random, &LIBRARIES),
            "sha" if random.percent(20) => "0123456789012345678901234567890123456789".to_owned(),
            "sha" => return Some(random.pick(&self.samples.digests).clone()),
            "payload" if random.percent(20) => "nonsense".to_owned(),
            "payload" => return Some(random.pick(&self.samples.payloads).clone()),
            // As it stands: `x`, `nosuch`, names of types, a script.
            _ => return None,
        };
        Some(text.into_bytes())
    }

    fn key(&mut self, kind: &str) -> Vec<u8> {
        let kinds = ["ks", "kl", "kh", "kx", "kz", "kt", "kg", "kp"];
        let random = &mut self.random;
        let kind = if kind == "k" || random.percent(8) { *random.pick(&kinds) } else { kind };
        match random.below(100) {
            0 => Vec::new(),
            1 => b"\x00\xff\r\n*3".to_vec(),
            2 => vec![b'k'; 300],
            _ => format!("{}{}", &kind[1..], random.below(3)).into_bytes(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        match random.below(40) {
            0 => Vec::new(),
            1 => b"\r\n$5\r\nfalse\r\n".to_vec(),
            2 => vec![b'x'; random.below(9_000)],
            3 => (0..=255).collect(),
            4..13 => random.below(20).to_string().into_bytes(),
            13 => b"3.5".to_vec(),
            _ => random.pick(&["a", "b", "c", "m", "hello", "value"]).as_bytes().to_vec(),
        }
    }

    fn damage(&mut self, request: &mut Request) {
        let at = self.random.below(request.len());
        match self.random.below(6) {
            0 => request.truncate(1.max(request.len() - 1)),
            1 => request.push(self.random.pick(&GARBAGE).to_vec()),
            2 => request.truncate(1),
            3 if at > 0 => {
                request.remove(at);
            }
            4 if at > 0 => request.insert(at, self.value()),
            _ if at > 0 => request[at] = self.random.pick(&GARBAGE).to_vec(),
            _ => request[0].push(b'x'),
        }
    }
}

/// In capitals.
pub fn name_of(request: &Request) -> String {
    String::from_utf8_lossy(&request[0]).to_ascii_uppercase()
}

/// Takes out what would wait for long, run out by itself, or choose at random what to change.
fn tame(name: &str, request: &mut Request) {
    let number = |word: &[u8]| std::str::from_utf8(word).ok().and_then(|text| text.trim().parse::<f64>().ok());
    let last = request.len() - 1;
    let timeout = match name {
        "BLPOP" | "BRPOP" | "BLMOVE" | "BRPOPLPUSH" | "BZPOPMIN" | "BZPOPMAX" => Some((last, "0.001")),
        "BLMPOP" | "BZMPOP" => Some((1, "0.001")),
        "WAIT" => Some((2, "1")),
        "XREAD" | "XREADGROUP" => {
            let block = request.iter().position(|word| word.eq_ignore_ascii_case(b"BLOCK"));
            block.map(|at| (at + 1, "1"))
        }
        _ => None,
    };
    if let Some((at, least)) = timeout
        && (1..=last).contains(&at)
        && number(&request[at]).is_none_or(|value| value >= 0.0 || value.is_nan())
        && !(request[at].starts_with(b"x") && name.starts_with('B'))
    {
        request[at] = least.into();
    }
    let (from, runs_out) = match name {
        "SETEX" | "PSETEX" | "EXPIRE" | "PEXPIRE" | "RESTORE" => (2, true),
        "SET" | "GETEX" => (3, true),
        _ => (0, false),
    };
    for word in request.iter_mut().skip(from) {
        if runs_out && number(word).is_some_and(|value| (0.5..99_999.0).contains(&value)) {
            *word = b"100000".to_vec();
        }
    }
    // What SET puts in the past is there until the server comes across it.
    for at in 1..last {
        if request[at].eq_ignore_ascii_case(b"EXAT") || request[at].eq_ignore_ascii_case(b"PXAT") {
            let late = number(&request[at + 1]).is_some_and(|value| value > 0.0);
            let time = if request[at].eq_ignore_ascii_case(b"EXAT") { "4102444800" } else { "4102444800123" };
            if late {
                request[at + 1] = time.into();
            }
        }
    }
    // Where no element has a weight, their order by the alphabet is none.
    if name == "SORT" && request.iter().any(|word| word.eq_ignore_ascii_case(b"BY")) {
        request.retain(|word| !word.eq_ignore_ascii_case(b"ALPHA"));
        return;
    }
    if name == "SPOP" && last >= 1 {
        request.truncate(2);
        request.push(b"100000".to_vec());
    }
    // Between members of unequal scores a lexical order means nothing.
    let lexical =
        name.ends_with("LEX") || name == "ZLEXCOUNT" || request.iter().any(|word| word.eq_ignore_ascii_case(b"BYLEX"));
    let first = request.get(1).and_then(|key| key.first()).copied();
    if lexical && last >= 1 && first != Some(b'q') {
        request[1] = b"q0".to_vec();
    }
    if (name.starts_with("ZADD") || name == "ZINCRBY") && first == Some(b'q') {
        request.iter_mut().skip(2).filter(|word| number(word).is_some()).for_each(|word| *word = b"0".to_vec());
    }
    // An id of the server's making is another one each time.
    if name == "XADD" {
        request.iter_mut().skip(2).filter(|word| **word == b"*").for_each(|word| *word = b"9-9".to_vec());
    }
}
