//! Inputs for the checks from a seed: by grammar, so that they are good, then damaged a little, so that they are not.

use std::fs;
use std::path::Path;

/// The targets, with the check and the dictionary of each.
pub const TARGETS: [Target; 6] = [
    Target { name: "redis_request", check: super::redis_request::check, grammar: redis_requests, dictionary: REDIS },
    Target { name: "redis_response", check: super::redis_response::check, grammar: redis_replies, dictionary: REDIS },
    Target {
        name: "memcached_request",
        check: super::memcached_request::check,
        grammar: memcached_requests,
        dictionary: MEMCACHED,
    },
    Target {
        name: "memcached_response",
        check: super::memcached_response::check,
        grammar: memcached_replies,
        dictionary: MEMCACHED,
    },
    Target { name: "config", check: super::config::check, grammar: configurations, dictionary: CONFIG },
    Target { name: "session", check: super::session::check, grammar: steps, dictionary: "" },
];

const REDIS: &str = include_str!("../dictionaries/redis.dict");
const MEMCACHED: &str = include_str!("../dictionaries/memcached.dict");
const CONFIG: &str = include_str!("../dictionaries/config.dict");

pub struct Target {
    pub name: &'static str,
    pub check: fn(&[u8]),
    grammar: fn(&mut Random) -> Vec<u8>,
    dictionary: &'static str,
}

impl Target {
    pub fn named(name: &str) -> &'static Self {
        TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
    }

    /// The input of this seed.
    pub fn input(&self, seed: u64) -> Vec<u8> {
        let mut random = Random(seed);
        let mut bytes = (self.grammar)(&mut random);
        let tokens = tokens(self.dictionary);
        for _ in 0..random.pick(&[0, 0, 1, 1, 2, 3, 6]) {
            damage(&mut bytes, &tokens, &mut random);
        }
        bytes
    }
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// The quoted strings of a dictionary of libFuzzer.
fn tokens(dictionary: &str) -> Vec<Vec<u8>> {
    let quoted = |line: &str| Some(line.split_once('"')?.1.rsplit_once('"')?.0.to_owned());
    let lines = dictionary.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(quoted).map(|text| unescape(&text)).collect()
}

/// `\xHH`, `\\` and `\"`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [b'x', digits @ ..]) => {
                let digits = std::str::from_utf8(&digits[..2]).expect("two digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                rest = &tail[3..];
            }
            (b'\\', [escaped, ..]) => {
                bytes.push(*escaped);
                rest = &tail[1..];
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

/// What a fault, or an attacker, makes of a message.
fn damage(bytes: &mut Vec<u8>, tokens: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(12)).min(bytes.len());
    match random.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.next() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            let at = random.below(bytes.len() + 1);
            bytes.splice(at..at, piece);
        }
        4 => bytes.truncate(at),
        _ if tokens.is_empty() => bytes.insert(at, random.next() as u8),
        _ => {
            let token = tokens[random.below(tokens.len())].clone();
            bytes.splice(at..at, token);
        }
    }
}

fn word(random: &mut Random) -> Vec<u8> {
    const WORDS: [&str; 28] = [
        "GET",
        "set",
        "MGET",
        "DEL",
        "EVAL",
        "XREAD",
        "STREAMS",
        "BLOCK",
        "COUNT",
        "ZUNIONSTORE",
        "SORT",
        "STORE",
        "BY",
        "CLIENT",
        "REPLY",
        "OFF",
        "PING",
        "MIGRATE",
        "KEYS",
        "0",
        "1",
        "2",
        "-1",
        "99999999999999999999",
        "key",
        "k",
        "",
        "post",
    ];
    match random.below(8) {
        0 => {
            let count = random.below(40);
            random.bytes(count)
        }
        1 => b"x".repeat(random.pick(&[9, 20, 21, 99, 100, 999, 1000, 4096])),
        _ => random.pick(&WORDS).into(),
    }
}

fn bulk(kind: char, payload: &[u8]) -> Vec<u8> {
    [format!("{kind}{}\r\n", payload.len()).as_bytes(), payload, b"\r\n"].concat()
}

fn redis_requests(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + random.below(3) {
        let words: Vec<Vec<u8>> = (0..random.below(7)).map(|_| word(random)).collect();
        match random.below(6) {
            0 => {
                let quote = random.pick(&["", "\"", "'"]);
                let quoted = |word: &Vec<u8>| [quote.as_bytes(), word, quote.as_bytes()].concat();
                out.extend(words.iter().map(quoted).collect::<Vec<_>>().join(&b' '));
                out.extend_from_slice(random.pick(&["\r\n", "\n"]).as_bytes());
            }
            1 => out.extend_from_slice(random.pick(&["*0\r\n", "\r\n", "*-1\r\n", " \n"]).as_bytes()),
            _ => {
                out.extend(format!("*{}\r\n", words.len()).into_bytes());
                out.extend(words.iter().flat_map(|word| bulk('$', word)));
            }
        }
    }
    out
}

fn redis_replies(random: &mut Random) -> Vec<u8> {
    (0..1 + random.below(3)).flat_map(|_| redis_reply(random, 5)).collect()
}

fn redis_reply(random: &mut Random, levels: usize) -> Vec<u8> {
    let text = random.pick(&["", "OK", "ERR no", "1", "-1", "message"]);
    match random.below(if levels == 0 { 12 } else { 20 }) {
        0 => format!("+{text}\r\n").into_bytes(),
        1 => format!("-{text}\r\n").into_bytes(),
        2 => format!(":{}\r\n", random.next() as i64 >> random.below(64)).into_bytes(),
        3..=5 => bulk('$', &word(random)),
        6 => random.pick(&["$-1\r\n", "*-1\r\n", "_\r\n", "#t\r\n", "#f\r\n", "*0\r\n", "%0\r\n", "~0\r\n"]).into(),
        7 => format!(",{}\r\n", random.pick(&["1.5", "-inf", "nan", "1e9", "0"])).into_bytes(),
        8 => format!("({}{}\r\n", random.pick(&["", "-"]), "1234567890".repeat(1 + random.below(4))).into_bytes(),
        9 => bulk('!', text.as_bytes()),
        10 => bulk('=', format!("txt:{text}").as_bytes()),
        11 => random.pick(&[">1\r\n:1\r\n", "|1\r\n+a\r\n+b\r\n:1\r\n", "|0\r\n:1\r\n"]).into(),
        kind => {
            let (sign, per_entry) =
                [("*", 1), ("*", 1), ("*", 1), ("~", 1), ("%", 2), (">", 1), ("|", 2), ("*", 1)][kind - 12];
            let entries = random.below(5);
            let items = (0..entries * per_entry).map(|_| redis_reply(random, levels - 1));
            let items: Vec<u8> = items.collect::<Vec<_>>().concat();
            let behind = if sign == "|" { redis_reply(random, levels - 1) } else { Vec::new() };
            [format!("{sign}{entries}\r\n").into_bytes(), items, behind].concat()
        }
    }
}

fn memcached_requests(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + random.below(3) {
        let key = random.pick(&["a", "key", "k:1", "noreply", "twenty-one-characters"]);
        let noreply = random.pick(&["", "", " noreply"]);
        let exptime = random.pick(&["0", "-1", "60", "+5", "x", "99999999999"]);
        let end = random.pick(&["\r\n", "\r\n", "\n"]);
        let data = word(random);
        let line = match random.below(14) {
            0..=2 => format!("{} {key}{end}", random.pick(&["get", "gets"])),
            3 => format!("get {}{end}", [key; 8][..1 + random.below(8)].join(random.pick(&[" ", "  "]))),
            4 => format!("{} {exptime} {key} b{end}", random.pick(&["gat", "gats"])),
            5..=8 => {
                let name = random.pick(&["set", "add", "replace", "append", "prepend"]);
                let length = random.pick(&["", "+", "0", "x"]);
                format!("{name} {key} 0 {exptime} {length}{}{noreply}{end}", data.len())
            }
            9 => format!("cas {key} 0 {exptime} {} 77{noreply}{end}", data.len()),
            10 => format!("{} {key} 5{noreply}{end}", random.pick(&["incr", "decr", "touch"])),
            11 => format!("delete {key}{}{noreply}{end}", random.pick(&["", " 0", " 1"])),
            12 => format!("{}{noreply}{end}", random.pick(&["flush_all", "flush_all 10", "verbosity 1", "version"])),
            _ => format!("{}{end}", random.pick(&["stats", "quit", "mg a v", "ms a 3", "nothing", "", "\x00"])),
        };
        let storage = ["set ", "add ", "repl", "appe", "prep", "cas ", "ms "].iter().any(|name| line.starts_with(name));
        out.extend(line.into_bytes());
        if storage {
            out.extend([&data[..], b"\r\n"].concat());
        }
    }
    out
}

fn memcached_replies(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let unique = random.pick(&["", "", " 77"]);
    match random.below(6) {
        0..=3 => {
            for _ in 0..random.below(5) {
                let data = word(random);
                out.extend(format!("VALUE {} 5 {}{unique}\r\n", random.pick(&["a", "key"]), data.len()).into_bytes());
                out.extend([&data[..], b"\r\n"].concat());
            }
            out.extend_from_slice(random.pick(&["END\r\n", "END\r\n", "SERVER_ERROR out of memory\r\n"]).as_bytes());
        }
        4 => out.extend_from_slice(b"STAT pid 1\r\nSTAT uptime 2\r\nEND\r\n"),
        _ => {}
    }
    let lines = [
        "STORED",
        "NOT_STORED",
        "EXISTS",
        "NOT_FOUND",
        "DELETED",
        "TOUCHED",
        "OK",
        "VERSION 1.6",
        "17",
        "ERROR",
        "RESET",
        "CLIENT_ERROR bad data chunk",
        "SERVER_ERROR",
    ];
    for _ in 0..random.below(3) {
        out.extend(format!("{}\r\n", random.pick(&lines)).into_bytes());
    }
    out
}

/// The samples that the program comes with, and those of its tests.
fn configurations(random: &mut Random) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The project itself, or `fuzz` in it.
    let root = if root.join("config").is_dir() { root } else { root.parent().unwrap_or(root) };
    let mut files: Vec<_> = ["config", "tests/config"]
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).expect("samples"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    files.sort();
    fs::read(&files[random.below(files.len())]).expect("a sample")
}

fn steps(random: &mut Random) -> Vec<u8> {
    let count = random.below(500);
    random.bytes(count)
}
