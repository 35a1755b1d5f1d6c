//! The proxy in front of one redis-server against a second redis-server: the same requests, at random from a seed, and every
//! reply compared byte for byte, in both versions of the protocol; afterwards the data of both.
//!
//! What is compared without being equal byte for byte is listed in `differential/known.rs`. A difference is cut down to few
//! requests before it is shown. `OUTRIGGER_DIFFERENTIAL=SECONDS` looks for longer, from a seed that is printed;
//! `OUTRIGGER_DIFFERENTIAL_SEED=N` begins at that seed.

#[path = "differential/generator.rs"]
mod generator;
#[path = "differential/grammar.rs"]
mod grammar;
#[path = "differential/known.rs"]
mod known;
mod support;
#[path = "differential/wire.rs"]
mod wire;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use generator::{Case, Generator, Request, SCRIPTS, Samples, name_of};
use support::client::resp;
use support::{Outrigger, Pool, Server};
use wire::{Connection, Value};

/// Cases of the short form.
const CASES: u64 = 150;
/// How often a difference is tried again with less.
const ATTEMPTS: usize = 400;

struct Pair {
    proxy: Option<Outrigger>,
    behind: Server,
    plain: Server,
}

/// Where two replies differ.
struct Difference {
    /// The step, and how many of its requests are needed.
    at: (usize, usize),
    request: String,
    ours: String,
    theirs: String,
    /// What the proxy said is documented, and the case is at its end.
    intended: bool,
}

impl Pair {
    /// Two servers, and the proxy in front of the first.
    fn start() -> Option<Self> {
        let mut pair = Self::without_proxy()?;
        let pool = Pool::redis("cache", std::slice::from_ref(&pair.behind))
            .set("databases: 16")
            .set("allow_admin_commands: true")
            // LCS of two long strings takes its time.
            .set("timeout: 20s");
        pair.proxy = Some(Outrigger::start([pool]));
        Some(pair)
    }

    fn without_proxy() -> Option<Self> {
        // Blocked clients run into their time limits at the beat of the server.
        let server = || Server::redis_with(&["--enable-debug-command", "local", "--hz", "500"]);
        Some(Self { proxy: None, behind: server()?, plain: server()? })
    }

    fn both(&self) -> [&Server; 2] {
        [&self.behind, &self.plain]
    }

    /// Bytes that only a server can make, from both, as scripts are to be known to both.
    fn samples(&self) -> Samples {
        let mut samples = Samples { payloads: Vec::new(), digests: Vec::new() };
        for server in self.both() {
            let mut direct = Connection::open(server.socket_address());
            let mut ask = |words: &[&str]| {
                direct.send(&[words.iter().map(|word| word.as_bytes().to_vec()).collect()], None);
                match direct.reply().unwrap() {
                    Value::Bytes(_, bytes) => bytes,
                    _ => Vec::new(),
                }
            };
            samples.digests = SCRIPTS.iter().map(|script| ask(&["SCRIPT", "LOAD", script])).collect();
            ask(&["SET", "s", "a string"]);
            ask(&["RPUSH", "l", "1", "two", "3"]);
            ask(&["ZADD", "z", "1", "one", "2.5", "two"]);
            samples.payloads = ["s", "l", "z"].iter().map(|key| ask(&["DUMP", key])).collect();
        }
        samples
    }

    /// Runs the case from nothing; the first difference, if there is one.
    fn run(&self, case: &Case) -> Option<Difference> {
        for server in self.both() {
            let mut direct = server.client();
            assert_eq!(direct.ask("FLUSHALL"), "+OK");
            assert_eq!(direct.ask("FUNCTION FLUSH"), "+OK");
        }
        let open = |address| [Connection::open(address), Connection::open(address)];
        let ours = self.proxy.as_ref().map_or_else(|| self.behind.socket_address(), |proxy| proxy.socket_address(0));
        let mut ours = open(ours);
        let mut theirs = open(self.plain.socket_address());
        let mut queued = [Vec::new(), Vec::new()];
        let mut pushes = [Pushes::default(), Pushes::default()];
        let hello = vec![vec![b"HELLO".to_vec(), case.version.to_string().into_bytes()]];
        for client in [0, 1] {
            let pair = [&mut ours[client], &mut theirs[client]];
            if let Some(found) = exchange(pair, &hello, None, &mut queued[client]) {
                return Some(found);
            }
        }
        for (number, step) in case.steps.iter().enumerate() {
            let client = step.client;
            let pair = [&mut ours[client], &mut theirs[client]];
            let found = if case.subscribes {
                let mark = format!("mark-{number}");
                let other = 1 - client;
                listen(pair, &step.requests, step.cut, &mark, &mut pushes[client])
                    .or_else(|| listen([&mut ours[other], &mut theirs[other]], &[], None, &mark, &mut pushes[other]))
                    .or_else(|| (0..2).find_map(|client| pushes[client].differ(&mut ours[client])))
            } else {
                exchange(pair, &step.requests, step.cut, &mut queued[client])
            };
            if let Some(found) = found {
                return Some(Difference { at: (number, found.at.1), ..found });
            }
        }
        let found = self.states_differ();
        found.map(|found| Difference { at: (case.steps.len(), 0), ..found })
    }

    /// The data of both servers.
    fn states_differ(&self) -> Option<Difference> {
        let digests = || self.both().map(|server| server.client().ask("DEBUG DIGEST"));
        let end = Instant::now() + Duration::from_secs(1);
        // What has run out is there until the server comes across it.
        while digests()[0] != digests()[1] {
            if Instant::now() > end {
                let [ours, theirs] = self.both().map(|server| contents(server).join("\n    "));
                let request = "the data afterwards".to_owned();
                return Some(Difference { at: (0, 0), request, ours, theirs, intended: false });
            }
        }
        None
    }

    /// A case of fewer requests that still differs.
    fn shrink(&self, mut case: Case, found: &Difference) -> Case {
        let mut attempts = ATTEMPTS;
        let mut differs = |case: &Case| {
            attempts = attempts.saturating_sub(1);
            // Thrice, as it may be one of time.
            attempts > 0 && (0..3).any(|_| self.run(case).is_some_and(|found| !found.intended))
        };
        // What came after it had no part in it.
        let (step, requests) = found.at;
        let mut less = case.clone();
        less.steps.truncate(step + 1);
        if let Some(last) = less.steps.get_mut(step) {
            last.requests.truncate(requests);
        }
        if differs(&less) {
            case = less;
        }
        let count = case.steps.len();
        remove(&mut case, count, |case, range| drop(case.steps.drain(range)), &mut differs);
        for step in 0..case.steps.len() {
            let count = case.steps[step].requests.len();
            remove(&mut case, count, |case, range| drop(case.steps[step].requests.drain(range)), &mut differs);
            let mut less = case.clone();
            less.steps[step].cut = None;
            if differs(&less) {
                case = less;
            }
        }
        case
    }
}

/// Takes out of so many parts those without which it still differs: half of them, then a quarter, and so on.
fn remove(
    case: &mut Case,
    mut count: usize,
    take: impl Fn(&mut Case, std::ops::Range<usize>),
    differs: &mut impl FnMut(&Case) -> bool,
) {
    let mut size = count.div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < count {
            let end = (at + size).min(count);
            let mut less = case.clone();
            take(&mut less, at..end);
            if differs(&less) {
                *case = less;
                count -= end - at;
            } else {
                at = end;
            }
        }
        size /= 2;
    }
}

/// Each key with what it holds, in all databases.
fn contents(server: &Server) -> Vec<String> {
    let mut direct = Connection::open(server.socket_address());
    let mut ask = |words: &[&[u8]]| {
        direct.send(&[words.iter().map(|word| word.to_vec()).collect()], None);
        direct.reply().unwrap()
    };
    let mut lines = Vec::new();
    for database in 0..16 {
        ask(&[b"SELECT", database.to_string().as_bytes()]);
        let keys = ask(&[b"KEYS", b"*"]);
        for key in keys.elements() {
            let Value::Bytes(_, name) = key else { continue };
            let (digest, left) = (ask(&[b"DEBUG", b"DIGEST-VALUE", name]), ask(&[b"TTL", name]));
            lines.push(format!("{database} {key:?} {:?} {digest:?} {left:?}", ask(&[b"TYPE", name])));
        }
    }
    lines.sort();
    lines
}

fn difference(
    number: usize,
    request: &Request,
    ours: &dyn std::fmt::Debug,
    theirs: &dyn std::fmt::Debug,
) -> Option<Difference> {
    let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
    Some(Difference { at: (0, number + 1), request: shown(request), ours, theirs, intended: false })
}

/// Sends the requests to both, and compares reply by reply: each has one.
fn exchange(
    pair: [&mut Connection; 2],
    requests: &[Request],
    cut: Option<usize>,
    queued: &mut Vec<Request>,
) -> Option<Difference> {
    pair.iter().for_each(|connection| connection.send(requests, cut));
    let [ours, theirs] = pair;
    let mut found: Option<Difference> = None;
    for (number, request) in requests.iter().enumerate() {
        // All are read in any case, so that nothing of this run is still done during the next.
        let both = match (ours.reply(), theirs.reply()) {
            (Ok(ours), Ok(theirs)) => [ours, theirs],
            (ours, theirs) => return found.or_else(|| difference(number, request, &ours, &theirs)),
        };
        if found.is_some() {
            continue;
        }
        let name = name_of(request);
        let both = both.map(|reply| match reply {
            // What the queued requests answered.
            Value::Many(kind, replies) if name == "EXEC" && replies.len() == queued.len() => {
                Value::Many(kind, queued.iter().zip(replies).map(|(one, reply)| known::normal(one, reply)).collect())
            }
            reply => known::normal(request, reply),
        });
        match (&both[1], &name[..]) {
            (Value::Line(line), _) if line == b"+QUEUED" => queued.push(request.clone()),
            (_, "EXEC" | "DISCARD" | "RESET") => queued.clear(),
            _ => {}
        }
        if both[0] != both[1] && !known::is_worded_differently(request, &both[0], &both[1]) {
            let intended = known::is_refused_on_purpose(&both[0], &both[1]);
            found = difference(number, request, &both[0], &both[1]).map(|found| Difference { intended, ..found });
        }
    }
    found
}

/// The same where messages and confirmations come between the replies: everything up to the reply to a mark, the two kinds
/// apart.
fn listen(
    pair: [&mut Connection; 2],
    requests: &[Request],
    cut: Option<usize>,
    mark: &str,
    pushes: &mut Pushes,
) -> Option<Difference> {
    let mut all = requests.to_vec();
    all.push(vec![b"PING".to_vec(), mark.as_bytes().to_vec()]);
    pair.iter().for_each(|connection| connection.send(&all, cut));
    let mut of_both = [&mut pushes.ours, &mut pushes.theirs].into_iter();
    let [ours, theirs] = pair.map(|connection| {
        let pushes = of_both.next().unwrap();
        let mut replies = Vec::new();
        loop {
            match connection.reply() {
                Ok(reply) if reply.mentions(mark.as_bytes()) => return (replies, None),
                Ok(push) if known::is_push(&push) => pushes.push(push),
                Ok(reply) => replies.push(known::unordered(reply)),
                Err(error) => return (replies, Some(error.to_string())),
            }
        }
    });
    let request = all.iter().map(shown).collect::<Vec<_>>().join(" | ");
    (ours != theirs).then(|| Difference {
        at: (0, requests.len()),
        request,
        ours: format!("{ours:?}"),
        theirs: format!("{theirs:?}"),
        intended: false,
    })
}

/// What one client got that was no reply. The proxy has it from a connection of its own, so that it may come later than the
/// replies beside it, but in the same order.
#[derive(Default)]
struct Pushes {
    ours: Vec<Value>,
    theirs: Vec<Value>,
}

impl Pushes {
    /// Waits until as much has come from the proxy as from the server.
    fn differ(&mut self, proxy: &mut Connection) -> Option<Difference> {
        while self.ours.len() < self.theirs.len() {
            match proxy.reply() {
                Ok(push) => self.ours.push(push),
                // It did not come at all.
                Err(_) => break,
            }
        }
        let [ours, theirs] = [&mut self.ours, &mut self.theirs].map(|pushes| known::heard(&std::mem::take(pushes)));
        let at = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        let at = at.or_else(|| (ours.len() != theirs.len()).then(|| ours.len().min(theirs.len())))?;
        let around = |all: &[Value]| format!("{:?}", &all[at.saturating_sub(2)..(at + 3).min(all.len())]);
        Some(Difference {
            at: (0, 0),
            request: "messages".to_owned(),
            ours: around(&ours),
            theirs: around(&theirs),
            intended: false,
        })
    }
}

fn shown(request: &Request) -> String {
    let words = request.iter().map(|word| match word.len() {
        0 => "\"\"".to_owned(),
        1..200 if word.iter().all(u8::is_ascii_graphic) => String::from_utf8_lossy(word).into_owned(),
        1..400 => format!("\"{}\"", word.escape_ascii()),
        length => format!("({length} bytes)"),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn report(seed: u64, case: &Case, found: &Difference) -> String {
    let mut text = format!("seed {seed}, RESP{}\n", case.version);
    for step in &case.steps {
        let cut = step.cut.map_or(String::new(), |cut| format!(" (cut at {cut}/1000)"));
        text += &format!("  client {}{cut}:\n", step.client);
        step.requests.iter().for_each(|request| text += &format!("    {}\n", shown(request)));
    }
    format!("{text}differs in: {}\n  proxy: {}\n  redis: {}", found.request, found.ours, found.theirs)
}

/// Looks at cases from a seed on, as long as `more` says, and shows what differs, cut down.
fn look(pair: &Pair, first: u64, more: impl Fn(u64) -> bool) {
    let samples = pair.samples();
    let mut generator = Generator::new(&samples);
    let (begin, mut requests, mut seed, mut cut_short) = (Instant::now(), 0, first, 0);
    let mut found = Vec::new();
    while more(seed - first) && found.len() < 5 {
        let case = generator.case(seed);
        requests += case.steps.iter().map(|step| step.requests.len()).sum::<usize>();
        let difference = pair.run(&case);
        cut_short += u64::from(difference.as_ref().is_some_and(|found| found.intended));
        if let Some(difference) = difference.filter(|found| !found.intended) {
            let less = pair.shrink(case.clone(), &difference);
            // It may be one of time, which does not come again.
            found.push(match (0..5).find_map(|_| pair.run(&less)) {
                Some(difference) => report(seed, &less, &difference),
                None => report(seed, &case, &difference) + "\n  (only sometimes)",
            });
        }
        seed += 1;
    }
    let (cases, took) = (seed - first, begin.elapsed());
    println!("{cases} cases from seed {first} ({cut_short} of them cut short), {requests} requests in {took:.1?}");
    assert!(found.is_empty(), "{}", found.join("\n\n"));
    assert!(cut_short * 3 <= cases.max(20), "too much is refused to compare the rest");
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn one_server_behind_the_proxy_answers_as_a_redis_does() {
    let pair = need!(Pair::start());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seconds = setting("OUTRIGGER_DIFFERENTIAL");
    let first = setting("OUTRIGGER_DIFFERENTIAL_SEED").unwrap_or_else(|| seconds.map_or(1, |_| now() << 20));
    let begin = Instant::now();
    look(&pair, first, |done| match seconds {
        Some(seconds) => begin.elapsed() < Duration::from_secs(seconds),
        None => done < CASES,
    });
}

/// Else what the proxy is blamed for would be chance.
#[test]
fn two_servers_do_not_differ() {
    let pair = need!(Pair::without_proxy());
    let begin = Instant::now();
    let seconds = setting("OUTRIGGER_DIFFERENTIAL").map(Duration::from_secs);
    look(&pair, 1, |done| seconds.map_or(done < CASES, |seconds| begin.elapsed() < seconds));
}

#[test]
fn the_generator_is_reproducible_and_varied() {
    let samples = Samples { payloads: vec![b"p".to_vec()], digests: vec![b"d".to_vec()] };
    let mut generator = Generator::new(&samples);
    let bytes = |case: &Case| -> Vec<u8> {
        case.steps.iter().flat_map(|step| step.requests.iter().flat_map(|request| resp(request))).collect()
    };
    assert_eq!(bytes(&generator.case(7)), bytes(&generator.case(7)));
    let cases: Vec<Case> = (0..300).map(|seed| generator.case(seed)).collect();
    let requests = || cases.iter().flat_map(|case| case.steps.iter().flat_map(|step| &step.requests));
    let names: std::collections::BTreeSet<String> = requests().map(name_of).collect();
    for form in [grammar::DATA, grammar::TRANSACTIONS, grammar::SUBSCRIPTIONS].iter().flat_map(|text| text.lines()) {
        let name = form.trim_start_matches('*').split(' ').next().unwrap();
        assert!(name.is_empty() || names.contains(name), "{name} is never asked");
    }
}
