//! What is sent: the rows of the bench, and for each key its requests and the exact bytes that answer them.

use clap::ValueEnum;

/// Preloaded on both servers, so every GET hits wherever the ring puts it.
pub const KEYS: u32 = 10_000;
const VALUE_LENGTH: usize = 100;
/// One SET for each ten GETs.
const SET_EVERY: u64 = 11;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Redis,
    Memcached,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Redis, Self::Memcached];

    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memcached => "memcached",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub label: &'static str,
    pub clients: usize,
    /// Requests a client has under way at a time; with a rate it is not limited.
    pub depth: usize,
    /// Requests a second over all clients, evenly spaced in time; `None`: flat out.
    pub rate: Option<u32>,
    /// CPU per request against nutcracker that is to be reached: redis, memcached.
    pub cpu_target: Option<[f64; 2]>,
}

impl Scenario {
    pub fn cpu_target(&self, protocol: Protocol) -> Option<f64> {
        self.cpu_target.map(|[redis, memcached]| match protocol {
            Protocol::Redis => redis,
            Protocol::Memcached => memcached,
        })
    }

    /// One client alone shows the latency of the proxy; its throughput is the same number upside down.
    pub fn is_latency_row(&self) -> bool {
        self.clients == 1
    }
}

#[rustfmt::skip]
pub const SCENARIOS: [Scenario; 5] = [
    Scenario { name: "50x1", label: "50 clients, depth 1, flat out", clients: 50, depth: 1, rate: None, cpu_target: Some([0.90, 0.85]) },
    Scenario { name: "50x16", label: "50 clients, depth 16, flat out", clients: 50, depth: 16, rate: None, cpu_target: Some([0.45, 0.72]) },
    Scenario { name: "200x1", label: "200 clients, depth 1, flat out", clients: 200, depth: 1, rate: None, cpu_target: Some([0.88, 0.88]) },
    Scenario { name: "20k", label: "50 clients, 20,000 requests/s offered", clients: 50, depth: 1, rate: Some(20_000), cpu_target: Some([0.85, 0.85]) },
    Scenario { name: "1x1", label: "1 client, depth 1", clients: 1, depth: 1, rate: None, cpu_target: None },
];

/// One request: a key, and whether it is a SET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation(u32);

impl Operation {
    pub fn get(key: u32) -> Self {
        Self(key << 1)
    }

    pub fn set(key: u32) -> Self {
        Self(key << 1 | 1)
    }

    fn key(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn is_set(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The bytes of all operations. A value repeats its key, and a reply is compared whole: a swapped reply shows at once.
pub struct Script {
    gets: Vec<Vec<u8>>,
    sets: Vec<Vec<u8>>,
    hits: Vec<Vec<u8>>,
    stored: &'static [u8],
}

impl Script {
    pub fn new(protocol: Protocol) -> Self {
        let mut script = Self { gets: Vec::new(), sets: Vec::new(), hits: Vec::new(), stored: b"" };
        for number in 0..KEYS {
            let key = format!("bench:{number:010}");
            let value: String = key.chars().chain(" ".chars()).cycle().take(VALUE_LENGTH).collect();
            let (get, set, hit) = match protocol {
                Protocol::Redis => (
                    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()),
                    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE_LENGTH}\r\n{value}\r\n", key.len()),
                    format!("${VALUE_LENGTH}\r\n{value}\r\n"),
                ),
                Protocol::Memcached => (
                    format!("get {key}\r\n"),
                    format!("set {key} 0 0 {VALUE_LENGTH}\r\n{value}\r\n"),
                    format!("VALUE {key} 0 {VALUE_LENGTH}\r\n{value}\r\nEND\r\n"),
                ),
            };
            script.gets.push(get.into_bytes());
            script.sets.push(set.into_bytes());
            script.hits.push(hit.into_bytes());
        }
        script.stored = match protocol {
            Protocol::Redis => b"+OK\r\n",
            Protocol::Memcached => b"STORED\r\n",
        };
        script
    }

    pub fn request(&self, operation: Operation) -> &[u8] {
        if operation.is_set() { &self.sets[operation.key()] } else { &self.gets[operation.key()] }
    }

    pub fn reply(&self, operation: Operation) -> &[u8] {
        if operation.is_set() { self.stored } else { &self.hits[operation.key()] }
    }
}

/// A reproducible stream of operations: within a round every contender gets the same one.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next_operation(&mut self) -> Operation {
        // xorshift64; its high bits are the good ones.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let key = (((self.0 >> 32) * u64::from(KEYS)) >> 32) as u32;
        if self.0.is_multiple_of(SET_EVERY) { Operation::set(key) } else { Operation::get(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_its_key() {
        for protocol in Protocol::ALL {
            let script = Script::new(protocol);
            let replies: std::collections::HashSet<_> =
                (0..KEYS).map(|key| script.reply(Operation::get(key))).collect();
            assert_eq!(replies.len(), KEYS as usize);
        }
    }

    #[test]
    fn requests_are_what_the_protocols_want() {
        let (redis, memcached) = (Script::new(Protocol::Redis), Script::new(Protocol::Memcached));
        assert_eq!(redis.request(Operation::get(7)), b"*2\r\n$3\r\nGET\r\n$16\r\nbench:0000000007\r\n");
        assert_eq!(memcached.request(Operation::get(7)), b"get bench:0000000007\r\n");
        assert!(
            memcached.request(Operation::set(7)).starts_with(b"set bench:0000000007 0 0 100\r\nbench:0000000007 bench")
        );
        let set = b"*3\r\n$3\r\nSET\r\n$16\r\nbench:0000000007\r\n$100\r\nbench:0000000007 bench";
        assert!(redis.request(Operation::set(7)).starts_with(set));
        assert_eq!(redis.reply(Operation::get(7)).len(), "$100\r\n".len() + VALUE_LENGTH + "\r\n".len());
    }

    #[test]
    fn one_set_in_eleven_over_all_keys() {
        let mut dice = Dice::new(1);
        let operations: Vec<_> = (0..110_000).map(|_| dice.next_operation()).collect();
        let sets = operations.iter().filter(|operation| operation.is_set()).count();
        assert!((9_500..10_500).contains(&sets), "{sets} sets");
        let keys: std::collections::HashSet<_> = operations.iter().map(|operation| operation.key()).collect();
        assert!(keys.len() > KEYS as usize * 99 / 100, "{} keys", keys.len());
    }
}
