//! Many pipelined clients that check that every reply belongs to its request.
//!
//! Nearly every reply names its key: values do, `EVAL` and `gets` do even on a miss or a hit. A client that is told an
//! error notes it with the time; whether there was a reason for it is judged at the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Address, Client, Reply, resp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    Memcached,
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
}

/// Running clients.
pub struct Fleet {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Fleet {
    /// `longest`: no reply may take longer.
    pub fn sail(clients: usize, dialect: Dialect, address: &Address, longest: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number| {
            let (stop, address) = (stop.clone(), address.clone());
            thread::spawn(move || {
                let mut client = address.connect().unwrap();
                client.patience(longest);
                Sailor { client, dialect, number, random: 0x9e37_79b9 ^ (number as u64 + 1), seen: Seen::default() }
                    .run(&stop)
            })
        };
        Self { clients: (0..clients).map(start).collect(), stop }
    }

    /// Stops all clients and sums up.
    pub fn land(self) -> Seen {
        self.stop.store(true, SeqCst);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = client.join().unwrap();
            all.answered += seen.answered;
            all.matched += seen.matched;
            all.errors.extend(seen.errors);
            all.wrong.extend(seen.wrong);
        }
        all
    }
}

/// What a request is answered with.
enum Want {
    /// A value of this key, or nothing.
    Value(String),
    /// The key itself.
    Key(String),
    /// Values of these keys, in this order, each or nothing.
    Values(Vec<String>),
    /// No key, but a known shape.
    Done,
}

struct Sailor {
    client: Client,
    dialect: Dialect,
    number: usize,
    random: u64,
    seen: Seen,
}

const KEYS: u64 = 40;
const DEEPEST: u64 = 24;

impl Sailor {
    fn run(mut self, stop: &AtomicBool) -> Seen {
        while !stop.load(SeqCst) && self.seen.wrong.is_empty() {
            let (mut bytes, mut wants) = (Vec::new(), Vec::new());
            for _ in 0..=self.below(DEEPEST) {
                wants.push(self.request(&mut bytes));
            }
            self.client.send_aside(bytes);
            for want in wants {
                if let Err(error) = self.check(&want) {
                    let client = self.number;
                    self.seen.wrong.push(format!("client {client}: {error}"));
                    break;
                }
            }
            // Not flat out: the machine has to run the servers as well.
            thread::park_timeout(Duration::from_millis(2 + self.below(12)));
        }
        self.seen
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    fn key(&mut self) -> String {
        let key = self.below(KEYS);
        format!("k{}:{key}", self.number)
    }

    /// Starts with the key; now and then too large to be copied.
    fn value(&mut self, key: &str) -> String {
        let size = if self.below(50) == 0 { 20_000 + self.below(40_000) } else { self.below(200) };
        format!("{key}={}", "v".repeat(size as usize))
    }

    fn request(&mut self, bytes: &mut Vec<u8>) -> Want {
        match self.dialect {
            Dialect::Redis => self.redis_request(bytes),
            Dialect::Memcached => self.memcached_request(bytes),
        }
    }

    fn redis_request(&mut self, bytes: &mut Vec<u8>) -> Want {
        let key = self.key();
        match self.below(8) {
            0..=2 => {
                bytes.extend(resp(&["GET", &key]));
                Want::Value(key)
            }
            3..=4 => {
                let value = self.value(&key);
                bytes.extend(resp(&["SET", &key, &value, "GET"]));
                Want::Value(key)
            }
            5 => {
                bytes.extend(resp(&["EVAL", "return KEYS[1]", "1", &key]));
                Want::Key(key)
            }
            6 => {
                let keys = self.several();
                let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
                bytes.extend(resp(&words));
                Want::Values(keys)
            }
            _ => {
                bytes.extend(resp(&["DEL", &key, &self.key()]));
                Want::Done
            }
        }
    }

    fn memcached_request(&mut self, bytes: &mut Vec<u8>) -> Want {
        let key = self.key();
        match self.below(8) {
            0..=3 => {
                bytes.extend(format!("get {key}\r\n").into_bytes());
                Want::Value(key)
            }
            4..=5 => {
                let value = self.value(&key);
                let noreply = if self.below(3) == 0 { " noreply" } else { "" };
                bytes.extend(format!("set {key} 0 0 {}{noreply}\r\n{value}\r\n", value.len()).into_bytes());
                if !noreply.is_empty() {
                    // Something must be answered for each call.
                    bytes.extend(format!("get {key}\r\n").into_bytes());
                    return Want::Value(key);
                }
                Want::Done
            }
            6 => {
                let keys = self.several();
                bytes.extend(format!("gets {}\r\n", keys.join(" ")).into_bytes());
                Want::Values(keys)
            }
            _ => {
                bytes.extend(format!("delete {key}\r\n").into_bytes());
                Want::Done
            }
        }
    }

    fn several(&mut self) -> Vec<String> {
        (0..2 + self.below(6)).map(|_| self.key()).collect()
    }

    /// Reads one reply; `Err` is what must not be.
    fn check(&mut self, want: &Want) -> Result<(), String> {
        let told = |error: io::Error| format!("no reply: {error}");
        match self.dialect {
            Dialect::Redis => {
                let reply = self.client.try_reply().map_err(told)?;
                self.seen.answered += 1;
                self.check_redis(&reply, want)
            }
            Dialect::Memcached => {
                let reply = self.client.try_memcached_reply().map_err(told)?;
                self.seen.answered += 1;
                self.check_memcached(&reply, want)
            }
        }
    }

    fn check_redis(&mut self, reply: &Reply, want: &Want) -> Result<(), String> {
        match (reply, want) {
            (Reply::Error(text), _) => {
                self.seen.errors.push((Instant::now(), text.clone()));
                Ok(())
            }
            (Reply::Nil, Want::Value(_)) | (Reply::Integer(0..=2), Want::Done) => Ok(()),
            (Reply::Bulk(bytes), Want::Value(key)) => self.belongs(&String::from_utf8_lossy(bytes), key),
            (Reply::Bulk(bytes), Want::Key(key)) if bytes == key.as_bytes() => {
                self.seen.matched += 1;
                Ok(())
            }
            (Reply::Array(items), Want::Values(keys)) if items.len() == keys.len() => {
                let mut pairs = items.iter().zip(keys);
                pairs.try_for_each(|(item, key)| self.check_redis(item, &Want::Value(key.clone())))
            }
            _ => Err(format!("swapped: {:.200}", reply.to_string())),
        }
    }

    fn check_memcached(&mut self, reply: &str, want: &Want) -> Result<(), String> {
        let keys = match want {
            _ if reply.starts_with("SERVER_ERROR ") => {
                self.seen.errors.push((Instant::now(), reply.to_owned()));
                return Ok(());
            }
            Want::Done if ["STORED", "DELETED", "NOT_FOUND"].contains(&reply) => return Ok(()),
            Want::Value(key) => std::slice::from_ref(key),
            Want::Values(keys) => keys,
            _ => return Err(format!("swapped: {reply:.200}")),
        };
        let mut rest = reply.strip_suffix("END").ok_or_else(|| format!("swapped: {reply:.200}"))?;
        for key in keys {
            let Some(after) = rest.strip_prefix(&format!("VALUE {key} ")) else { continue };
            let (_, block) = after.split_once('|').ok_or("no header")?;
            let (value, after) = block.split_once('|').ok_or("no block")?;
            self.belongs(value, key)?;
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("not asked for: {rest:.200}")) }
    }

    fn belongs(&mut self, value: &str, key: &str) -> Result<(), String> {
        if value.split_once('=').is_some_and(|(name, rest)| name == key && rest.bytes().all(|b| b == b'v')) {
            self.seen.matched += 1;
            return Ok(());
        }
        Err(format!("asked for {key}, got {value:.200}"))
    }
}
