//! The clients of one pool: those that stay, pipelined, and those that come, ask and leave.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::changes::Random;
use crate::ledger::{Ledger, NOTHING, Timeline};
use crate::model::{Ground, Identity};
use crate::support::client::{Address, Client, Reply, resp};
use crate::support::fleet::Dialect;
use crate::support::{PATIENCE, eventually};

/// Of each pool.
const STAYING: usize = 5;
const COMING: usize = 2;
const KEYS: usize = 24;

/// What all clients share.
pub struct Sea {
    pub ground: Ground,
    pub timeline: Timeline,
    /// What must not be.
    pub troubles: Mutex<Vec<String>>,
    /// While this is set nobody comes.
    pub calm: AtomicBool,
    pub replies: AtomicU64,
    pub reads: AtomicU64,
    /// Reads that could have but one answer.
    pub certain: AtomicU64,
    /// Clients that came.
    pub visits: AtomicU64,
    clients: AtomicU64,
}

impl Sea {
    pub fn new(ground: Ground, timeline: Timeline) -> Self {
        Self {
            ground,
            timeline,
            troubles: Mutex::default(),
            calm: AtomicBool::new(false),
            replies: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            certain: AtomicU64::new(0),
            visits: AtomicU64::new(0),
            clients: AtomicU64::new(0),
        }
    }

    fn trouble(&self, text: String) {
        self.troubles.lock().unwrap().push(text);
    }

    pub fn all_is_well(&self) -> Result<(), String> {
        let troubles = self.troubles.lock().unwrap();
        if troubles.is_empty() { Ok(()) } else { Err(troubles.join("\n")) }
    }
}

/// All clients of one pool.
pub struct Crew {
    pub pool: Identity,
    orders: Arc<Orders>,
    threads: Vec<JoinHandle<()>>,
}

/// What a crew is told.
#[derive(Default)]
struct Orders {
    /// To end, between two requests.
    land: AtomicBool,
    /// The pool is to be removed: what is sent from now on may be answered with the end of the connection.
    removed: AtomicBool,
}

impl Crew {
    /// Of a pool that every worker knows.
    pub fn launch(sea: &Arc<Sea>, pool: Identity, dialect: Dialect) -> Self {
        let orders = Arc::new(Orders::default());
        let client = |coming: bool| {
            let number = sea.clients.fetch_add(1, SeqCst);
            let hand = Hand {
                sea: sea.clone(),
                orders: orders.clone(),
                pool,
                dialect,
                number,
                random: Random::new(number + 1),
                ledger: Ledger::new(pool),
                heard: 0,
            };
            thread::spawn(move || {
                let sea = hand.sea.clone();
                let told = if coming { hand.come_and_go() } else { hand.stay() };
                told.unwrap_or_else(|trouble| sea.trouble(format!("client {number} of pool {pool}: {trouble}")));
            })
        };
        let threads = (0..STAYING + COMING).map(|index| client(index >= STAYING)).collect();
        Self { pool, orders, threads }
    }

    /// To be called before the proxy can know that the pool goes.
    pub fn will_be_removed(&self) {
        self.orders.removed.store(true, SeqCst);
    }

    /// The pool is gone: every client has seen the end.
    pub fn see_the_end(self) {
        let threads = self.threads;
        eventually("the clients of a removed pool to see the end", || {
            threads.iter().all(JoinHandle::is_finished).then_some(())
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    pub fn land(self) {
        self.orders.land.store(true, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// One client.
struct Hand {
    sea: Arc<Sea>,
    orders: Arc<Orders>,
    pool: Identity,
    dialect: Dialect,
    number: u64,
    random: Random,
    ledger: Ledger,
    /// Replies on this connection.
    heard: u64,
}

enum Want {
    Read(Vec<String>),
    Stored(String, u64),
    Deleted(Vec<String>),
    Key(String),
}

/// How a batch ended.
#[derive(PartialEq, Eq)]
enum End {
    Answered,
    /// The proxy closed, between two replies.
    Closed,
}

impl Hand {
    fn stay(mut self) -> Result<(), String> {
        let mut client = self.arrive().ok_or("no place in the beginning")?;
        let lone = self.number.is_multiple_of(2);
        while !self.orders.land.load(SeqCst) {
            let depth = if lone { 1 } else { 1 + self.random.below(24) };
            if self.batch(&mut client, depth)? == End::Closed {
                return Ok(());
            }
            thread::park_timeout(Duration::from_millis(2 + self.random.below(12) as u64));
        }
        Ok(())
    }

    fn come_and_go(mut self) -> Result<(), String> {
        while !self.orders.land.load(SeqCst) && !self.orders.removed.load(SeqCst) {
            thread::park_timeout(Duration::from_millis(5 + self.random.below(10) as u64));
            if self.sea.calm.load(SeqCst) {
                continue;
            }
            // Another connection may be one worker's that goes by an older configuration than the last one did.
            (self.ledger.oldest, self.heard) = (self.sea.timeline.settled(), 0);
            let Some(mut client) = self.arrive() else { continue };
            self.sea.visits.fetch_add(1, SeqCst);
            for _ in 0..=self.random.below(3) {
                let depth = 1 + self.random.below(4);
                if self.batch(&mut client, depth)? == End::Closed {
                    return Ok(());
                }
            }
            self.leave(client)?;
        }
        Ok(())
    }

    fn leave(&mut self, mut client: Client) -> Result<(), String> {
        match self.random.below(3) {
            0 => {}
            1 => {
                client.half_close();
                if !client.rest().is_empty() {
                    return Err("more bytes than were asked for".to_owned());
                }
            }
            _ => {
                client.send(if self.dialect == Dialect::Redis { "QUIT\r\n" } else { "quit\r\n" });
                let (rest, said) = (client.rest(), if self.dialect == Dialect::Redis { "+OK\r\n" } else { "" });
                if rest != said && !(rest.is_empty() && self.orders.removed.load(SeqCst)) {
                    return Err(format!("to the farewell: {rest:?}"));
                }
            }
        }
        Ok(())
    }

    /// Connects to where the pool listens. While that changes it tries the old address first, where only this pool can have
    /// been, then the new one; one of them must let it in. Where an address passes from one pool to another nobody knows who
    /// answers: it must let in all the same, and that is all. `None`: not this time.
    fn arrive(&self) -> Option<Client> {
        let (sea, timeline) = (&self.sea, &self.sea.timeline);
        for _ in 0..100 {
            let views = timeline.since(timeline.settled());
            let newest = views.last()?.0;
            let mut ats: Vec<usize> = views.iter().filter_map(|(_, view)| Some(view.pool(self.pool)?.at)).collect();
            ats.dedup();
            let alone =
                |at: &usize| views.iter().all(|(_, view)| view.owner(*at).is_none_or(|owner| owner == self.pool));
            let mut refused = Vec::new();
            for at in ats.iter().filter(|at| alone(at)) {
                match connect(&sea.ground.addresses[*at]) {
                    Ok(client) => return Some(client),
                    Err(error) => refused.push(format!("{:?}: {error}", sea.ground.addresses[*at])),
                }
            }
            let contested = |at: &&usize| views.iter().all(|(_, view)| view.owner(**at).is_some());
            if let Some(at) = ats.iter().find(contested) {
                match connect(&sea.ground.addresses[*at]) {
                    Ok(_) => return None,
                    Err(error) => refused.push(format!("{:?}: {error}", sea.ground.addresses[*at])),
                }
            } else if !ats.iter().all(alone) {
                // It may be where another pool was and then, for a moment, nobody.
                return None;
            }
            if refused.is_empty() || self.orders.removed.load(SeqCst) {
                return None;
            }
            // If nothing was written meanwhile there is no excuse.
            if timeline.newest() == newest {
                sea.trouble(format!("client {} of pool {} was refused: {refused:?}", self.number, self.pool));
                return None;
            }
        }
        None
    }

    fn key(&mut self) -> String {
        let number = self.random.below(KEYS);
        format!("c{}:{{t{}}}:{number}", self.number, number % 7)
    }

    fn several(&mut self) -> Vec<String> {
        let mut keys: Vec<String> = (0..2 + self.random.below(5)).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Asks so many requests in one write and checks what comes.
    fn batch(&mut self, client: &mut Client, depth: usize) -> Result<End, String> {
        let begun = self.sea.timeline.settled();
        let (mut bytes, mut wants) = (Vec::new(), Vec::new());
        for _ in 0..depth {
            self.request(&mut bytes, &mut wants);
        }
        client.send(bytes);
        let owed = !self.orders.removed.load(SeqCst);
        let count = wants.len();
        for (index, want) in wants.into_iter().enumerate() {
            let asked = Instant::now();
            let told = |error: io::Error| format!("reply {index} of {count}, waited {:?}: {error}", asked.elapsed());
            if client.is_at_end().map_err(told)? {
                let removed = self.orders.removed.load(SeqCst);
                return match removed && !owed {
                    true => Ok(End::Closed),
                    // A client that was let in a moment before its pool went was not served yet.
                    false if removed && self.heard == 0 => Ok(End::Closed),
                    false => Err(format!("closed before reply {index} of {count}; its pool goes: {removed}")),
                };
            }
            self.hear(client, want, begun).map_err(|error| format!("reply {index} of {count}: {error}"))?;
            self.heard += 1;
            self.sea.replies.fetch_add(1, SeqCst);
        }
        Ok(End::Answered)
    }

    fn request(&mut self, bytes: &mut Vec<u8>, wants: &mut Vec<Want>) {
        let key = self.key();
        match (self.random.below(10), self.dialect) {
            (0..=3, dialect) => {
                bytes.extend(match dialect {
                    Dialect::Redis => resp(&["GET", &key]),
                    Dialect::Memcached => format!("get {key}\r\n").into_bytes(),
                });
                wants.push(Want::Read(vec![key]));
            }
            (4..=6, dialect) => {
                self.ledger.last += 1;
                let number = self.ledger.last;
                let size = if self.random.below(40) == 0 { 30_000 } else { self.random.below(150) };
                let value = format!("{key}={number}.{}", "v".repeat(size));
                let quietly = self.random.below(3) == 0;
                bytes.extend(match dialect {
                    Dialect::Redis => resp(&["SET", &key, &value]),
                    Dialect::Memcached if !quietly => {
                        format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()).into_bytes()
                    }
                    // Answered by what comes after it.
                    Dialect::Memcached => {
                        let set = format!("set {key} 0 0 {} noreply\r\n{value}\r\n", value.len());
                        format!("{set}set {key} 0 0 {}\r\n{value}\r\n", value.len()).into_bytes()
                    }
                });
                wants.push(Want::Stored(key.clone(), number));
                // Its own write at once.
                bytes.extend(match dialect {
                    Dialect::Redis => resp(&["GET", &key]),
                    Dialect::Memcached => format!("get {key}\r\n").into_bytes(),
                });
                wants.push(Want::Read(vec![key]));
            }
            (7, Dialect::Redis) => {
                bytes.extend(resp(&["EVAL", "return KEYS[1]", "1", &key]));
                wants.push(Want::Key(key));
            }
            (8, Dialect::Redis) => {
                let keys = self.several();
                let words: Vec<&str> = std::iter::once("DEL").chain(keys.iter().map(String::as_str)).collect();
                bytes.extend(resp(&words));
                wants.push(Want::Deleted(keys));
            }
            (7..=8, Dialect::Memcached) => {
                bytes.extend(format!("delete {key}\r\n").into_bytes());
                wants.push(Want::Deleted(vec![key]));
            }
            (_, dialect) => {
                let keys = self.several();
                bytes.extend(match dialect {
                    Dialect::Redis => {
                        let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
                        resp(&words)
                    }
                    Dialect::Memcached => format!("gets {}\r\n", keys.join(" ")).into_bytes(),
                });
                wants.push(Want::Read(keys));
            }
        }
    }

    fn hear(&mut self, client: &mut Client, want: Want, begun: usize) -> Result<(), String> {
        match self.dialect {
            Dialect::Redis => {
                let reply = client.try_reply().map_err(|error| error.to_string())?;
                self.hear_redis(&reply, want, begun)
            }
            Dialect::Memcached => {
                let reply = client.try_memcached_reply().map_err(|error| error.to_string())?;
                self.hear_memcached(&reply, want, begun)
            }
        }
    }

    fn hear_redis(&mut self, reply: &Reply, want: Want, begun: usize) -> Result<(), String> {
        let swapped = || Err(format!("{:.200}", reply.to_string()));
        match (want, reply) {
            (Want::Stored(key, number), Reply::Simple(text)) if text == "OK" => self.wrote(begun, &key, number),
            (Want::Deleted(keys), Reply::Integer(count)) if (0..=keys.len() as i64).contains(count) => {
                keys.iter().for_each(|key| self.wrote(begun, key, NOTHING));
            }
            (Want::Key(key), Reply::Bulk(bytes)) if *bytes == key.as_bytes() => {}
            (Want::Read(keys), Reply::Array(items)) if items.len() == keys.len() => {
                for (item, key) in items.iter().zip(keys) {
                    self.hear_redis(item, Want::Read(vec![key]), begun)?;
                }
            }
            (Want::Read(keys), Reply::Nil) if keys.len() == 1 => self.read(begun, &keys[0], None)?,
            (Want::Read(keys), Reply::Bulk(bytes)) if keys.len() == 1 => {
                self.read(begun, &keys[0], Some(&String::from_utf8_lossy(bytes)))?;
            }
            (Want::Read(keys), _) => return Err(format!("{:.200}, asked for {keys:?}", reply.to_string())),
            _ => return swapped(),
        }
        Ok(())
    }

    fn hear_memcached(&mut self, reply: &str, want: Want, begun: usize) -> Result<(), String> {
        match want {
            Want::Stored(key, number) if reply == "STORED" => self.wrote(begun, &key, number),
            Want::Deleted(keys) if ["DELETED", "NOT_FOUND"].contains(&reply) => self.wrote(begun, &keys[0], NOTHING),
            Want::Read(keys) => {
                let swapped = || format!("{reply:.200}, asked for {keys:?}");
                let mut rest = reply.strip_suffix("END").ok_or_else(swapped)?;
                for key in &keys {
                    let Some(after) = rest.strip_prefix(&format!("VALUE {key} ")) else {
                        self.read(begun, key, None)?;
                        continue;
                    };
                    let (_, block) = after.split_once('|').ok_or_else(swapped)?;
                    let (value, after) = block.split_once('|').ok_or_else(swapped)?;
                    self.read(begun, key, Some(value))?;
                    rest = after;
                }
                if !rest.is_empty() {
                    return Err(swapped());
                }
            }
            _ => return Err(format!("{reply:.200}")),
        }
        Ok(())
    }

    fn wrote(&mut self, begun: usize, key: &str, number: u64) {
        self.ledger.wrote(&self.sea.timeline, begun, key, number);
    }

    fn read(&mut self, begun: usize, key: &str, value: Option<&str>) -> Result<(), String> {
        let number = match value {
            None => NOTHING,
            Some(value) => number_in(value, key).ok_or_else(|| format!("asked for {key}, got {value:.200}"))?,
        };
        let before = (self.ledger.reads, self.ledger.certain);
        let result = self.ledger.read(&self.sea.timeline, begun, key, number);
        self.sea.reads.fetch_add(self.ledger.reads - before.0, SeqCst);
        self.sea.certain.fetch_add(self.ledger.certain - before.1, SeqCst);
        result
    }
}

/// The number of this key's value.
fn number_in(value: &str, key: &str) -> Option<u64> {
    let (number, rest) = value.strip_prefix(key)?.strip_prefix('=')?.split_once('.')?;
    rest.bytes().all(|b| b == b'v').then(|| number.parse().ok())?
}

fn connect(address: &Address) -> io::Result<Client> {
    let mut client = address.connect()?;
    client.patience(PATIENCE);
    Ok(client)
}
