//! Many pipelined clients that check that every reply belongs to its request.
//!
//! Nearly every reply names its key: values do, `EVAL` and `gets` do even on a miss or a hit. Each client has keys of its own
//! and numbers the values it writes, so that an older value than the one that was acknowledged is seen; it counts the
//! increments that were acknowledged and those whose outcome it does not know. A client that is told an error notes it with
//! the time; whether there was a reason for it is judged at the end.

mod memcached;
mod redis;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Address, Client};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    Memcached,
}

/// How a client asks: so many requests in one write, then a pause.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// At least and at most.
    pub depth: (u64, u64),
    /// Milliseconds, at least and at most.
    pub pause: (u64, u64),
}

impl Manner {
    pub const LONE: Self = Self { depth: (1, 1), pause: (2, 14) };
    pub const PIPELINING: Self = Self { depth: (16, 16), pause: (20, 60) };
    const ANY: Self = Self { depth: (1, 24), pause: (2, 14) };
}

/// The server, by its place in the list, that a key belongs on.
pub type Homes = Arc<dyn Fn(&str) -> usize + Send + Sync>;

/// What became of one request, or of one key of a request with several.
#[derive(Debug, Clone)]
pub struct Sample {
    pub asked: Instant,
    pub answered: Instant,
    /// One bit for each server that one of its keys belongs on.
    pub homes: u8,
    /// It changes nothing.
    pub read: bool,
    /// Nothing that belongs elsewhere was before it in its pipeline: its time is its own.
    pub free: bool,
    pub error: Option<String>,
}

/// What one client has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub answered: u64,
    /// Replies that carried the key, and the right one.
    pub matched: u64,
    pub errors: Vec<(Instant, String)>,
    /// What must never happen.
    pub wrong: Vec<String>,
    /// Values that are older than one that was acknowledged, and were acknowledged themselves.
    pub older: Vec<(Instant, String)>,
    /// The same, but of writes that ended in an error: they reached the server late. No proxy can take them back.
    pub late: u64,
    pub samples: Vec<Sample>,
    /// By counter: increments that were acknowledged, and those that ended in an error.
    pub counted: HashMap<String, (u64, u64)>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.matched += other.matched;
        self.errors.extend(other.errors);
        self.wrong.extend(other.wrong);
        self.older.extend(other.older);
        self.late += other.late;
        self.samples.extend(other.samples);
        self.counted.extend(other.counted);
    }
}

/// Running clients.
pub struct Fleet {
    stop: Arc<AtomicBool>,
    last_error: Arc<Mutex<Option<Instant>>>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Fleet {
    /// `longest`: no reply may take longer.
    pub fn sail(clients: usize, dialect: Dialect, address: &Address, longest: Duration) -> Self {
        Self::launch(&[(clients, Manner::ANY)], dialect, address, longest, &(Arc::new(|_: &str| 0_usize) as Homes))
    }

    /// So many clients of each manner, who know where their keys belong.
    pub fn launch(
        crews: &[(usize, Manner)],
        dialect: Dialect,
        address: &Address,
        longest: Duration,
        homes: &Homes,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let last_error = Arc::new(Mutex::new(None));
        let manners = crews.iter().flat_map(|(clients, manner)| std::iter::repeat_n(*manner, *clients));
        let start = |(number, manner): (usize, Manner)| {
            let (stop, last_error) = (stop.clone(), last_error.clone());
            let mut client = address.connect().unwrap();
            client.patience(longest);
            let sailor = Sailor::new(client, dialect, number, manner, homes, last_error);
            thread::spawn(move || sailor.run(&stop))
        };
        Self { clients: manners.enumerate().map(start).collect(), stop, last_error }
    }

    /// When somebody was last told an error.
    pub fn last_error(&self) -> Option<Instant> {
        *self.last_error.lock().unwrap()
    }

    /// Stops all clients and sums up.
    pub fn land(self) -> Seen {
        self.stop.store(true, SeqCst);
        let mut all = Seen::default();
        self.clients.into_iter().for_each(|client| all.add(client.join().unwrap()));
        all
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
enum Want {
    /// A value of this key, or nothing.
    Value(String),
    /// The same, and the value with this number is written.
    Old(String, u64),
    /// The key itself.
    Key(String),
    /// Values of these keys, in this order, each or nothing.
    Values(Vec<String>),
    /// No key, but a known shape.
    Done,
    /// The value of this key with this number is written.
    Stored(String, u64),
    /// A number, or that there is no such counter.
    Count(String),
}

/// A request that was sent.
struct Ask {
    want: Want,
    homes: u8,
    free: bool,
    at: Instant,
}

/// What a client knows of one of its keys.
#[derive(Default)]
struct Book {
    /// The number of the last value that was sent.
    sent: u64,
    /// Of the last one that was acknowledged.
    known: u64,
    /// Those that may or may not be written, now or later.
    unknown: HashSet<u64>,
}

struct Sailor {
    client: Client,
    dialect: Dialect,
    number: usize,
    manner: Manner,
    random: u64,
    homes: Homes,
    /// By home; those without a key are left out.
    keys: Vec<Vec<String>>,
    /// All keys of the current batch belong here.
    bound: Option<usize>,
    /// Where the keys of the current request belong.
    asked_for: u8,
    books: HashMap<String, Book>,
    last_error: Arc<Mutex<Option<Instant>>>,
    seen: Seen,
}

const KEYS: u64 = 40;
const COUNTERS: u64 = 6;
/// More than this is written on another thread: both ends could be blocked by it.
const SMALL: usize = 64 << 10;

impl Sailor {
    fn new(
        client: Client,
        dialect: Dialect,
        number: usize,
        manner: Manner,
        homes: &Homes,
        last_error: Arc<Mutex<Option<Instant>>>,
    ) -> Self {
        let mut keys: Vec<Vec<String>> = vec![Vec::new(); 8];
        (0..KEYS).map(|n| format!("k{number}:{n}")).for_each(|key| keys[homes(&key)].push(key));
        keys.retain(|keys| !keys.is_empty());
        Self {
            client,
            dialect,
            number,
            manner,
            random: 0x9e37_79b9 ^ (number as u64 + 1),
            homes: homes.clone(),
            keys,
            bound: None,
            asked_for: 0,
            books: HashMap::new(),
            last_error,
            seen: Seen::default(),
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Seen {
        self.make_counters();
        while !stop.load(SeqCst) && self.seen.wrong.is_empty() {
            let asks = self.ask();
            for ask in asks {
                if let Err(error) = self.hear(&ask) {
                    let client = self.number;
                    self.seen.wrong.push(format!("client {client}: {error}"));
                    break;
                }
            }
            // Not flat out: the machine has to run the servers as well.
            let pause = self.between(self.manner.pause);
            thread::park_timeout(Duration::from_millis(pause));
        }
        self.seen
    }

    /// memcached counts only what is there.
    fn make_counters(&mut self) {
        if self.dialect == Dialect::Memcached {
            for n in 0..COUNTERS {
                self.client.tell(&format!("add n{}:{n} 0 0 1|0", self.number));
            }
        }
    }

    /// Writes a batch.
    fn ask(&mut self) -> Vec<Ask> {
        let depth = self.between(self.manner.depth);
        // Some pipelines ask for keys of one server, which no other server can hold up.
        let one_home = self.below(8) == 0;
        self.bound = one_home.then(|| self.below(self.keys.len() as u64) as usize);
        let (mut bytes, mut asks) = (Vec::new(), Vec::new());
        for _ in 0..depth {
            self.asked_for = 0;
            let want = self.request(&mut bytes);
            let free = self.asked_for.count_ones() == 1 && (one_home || depth == 1);
            asks.push(Ask { want, homes: self.asked_for, free, at: Instant::now() });
        }
        match bytes.len() {
            0..SMALL => self.client.send(bytes),
            _ => self.client.send_aside(bytes),
        }
        asks
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    fn between(&mut self, (least, most): (u64, u64)) -> u64 {
        least + self.below(most - least + 1)
    }

    fn key(&mut self) -> String {
        let home = match self.bound {
            Some(home) => home,
            None => self.below(self.keys.len() as u64) as usize,
        };
        let number = self.keys[home].len() as u64;
        let number = self.below(number) as usize;
        let key = self.keys[home][number].clone();
        self.asked_for |= 1 << (self.homes)(&key);
        key
    }

    fn several(&mut self) -> Vec<String> {
        (0..2 + self.below(6)).map(|_| self.key()).collect()
    }

    /// A counter that belongs where the batch is bound for, if there is one; else a key.
    fn counter(&mut self) -> Option<String> {
        let counter = self.below(COUNTERS);
        let key = format!("n{}:{counter}", self.number);
        let home = (self.homes)(&key);
        let welcome = self.bound.is_none_or(|bound| (self.homes)(&self.keys[bound][0]) == home);
        welcome.then(|| {
            self.asked_for |= 1 << home;
            key
        })
    }

    /// Starts with the key and its number; now and then too large to be copied.
    fn value(&mut self, key: &str) -> (String, u64) {
        let size = if self.below(50) == 0 { 20_000 + self.below(40_000) } else { self.below(200) };
        let book = self.books.entry(key.to_owned()).or_default();
        book.sent += 1;
        (format!("{key}={}.{}", book.sent, "v".repeat(size as usize)), book.sent)
    }

    fn request(&mut self, bytes: &mut Vec<u8>) -> Want {
        match self.dialect {
            Dialect::Redis => self.redis_request(bytes),
            Dialect::Memcached => self.memcached_request(bytes),
        }
    }

    /// Reads one reply; `Err` is what must not be.
    fn hear(&mut self, ask: &Ask) -> Result<(), String> {
        let told = |error: io::Error| format!("no reply within {:?}: {error}", ask.at.elapsed());
        match self.dialect {
            Dialect::Redis => {
                let reply = self.client.try_reply().map_err(told)?;
                self.seen.answered += 1;
                self.hear_redis(&reply, ask)
            }
            Dialect::Memcached => {
                let reply = self.client.try_memcached_reply().map_err(told)?;
                self.seen.answered += 1;
                self.hear_memcached(&reply, ask)
            }
        }
    }

    fn failed(&mut self, ask: &Ask, text: &str) {
        let now = Instant::now();
        *self.last_error.lock().unwrap() = Some(now);
        self.seen.errors.push((now, text.to_owned()));
        match &ask.want {
            Want::Count(key) => self.seen.counted.entry(key.clone()).or_default().1 += 1,
            Want::Stored(key, number) | Want::Old(key, number) => self.unknown(key, *number),
            _ => {}
        }
        self.sample(ask, Some(text.to_owned()));
    }

    fn sample(&mut self, ask: &Ask, error: Option<String>) {
        let Ask { homes, free, at, .. } = *ask;
        let read = matches!(ask.want, Want::Value(_) | Want::Values(_));
        self.seen.samples.push(Sample { asked: at, answered: Instant::now(), homes, read, free, error });
    }

    fn stored(&mut self, key: &str, number: u64) {
        let book = self.books.entry(key.to_owned()).or_default();
        book.known = book.known.max(number);
    }

    fn unknown(&mut self, key: &str, number: u64) {
        self.books.entry(key.to_owned()).or_default().unknown.insert(number);
    }

    fn counted(&mut self, key: &str) {
        self.seen.counted.entry(key.to_owned()).or_default().0 += 1;
    }

    /// This value was given for this key.
    fn belongs(&mut self, value: &str, key: &str) -> Result<(), String> {
        let stranger = || format!("asked for {key}, got {value:.200}");
        let (name, rest) = value.split_once('=').ok_or_else(stranger)?;
        let (number, rest) = rest.split_once('.').ok_or_else(stranger)?;
        let number: u64 = number.parse().map_err(|_| stranger())?;
        let book = self.books.entry(key.to_owned()).or_default();
        if name != key || number > book.sent || rest.bytes().any(|b| b != b'v') {
            return Err(stranger());
        }
        self.seen.matched += 1;
        if number < book.known && book.unknown.contains(&number) {
            self.seen.late += 1;
        } else if number < book.known {
            let text = format!("{key}: value {number} although {} was acknowledged", book.known);
            self.seen.older.push((Instant::now(), text));
        }
        Ok(())
    }
}
