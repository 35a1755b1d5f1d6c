//! What the servers of a pool say that they are, in their reply to HELLO: clients ask the proxy the same. All workers share
//! it, and the last word counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwapOption;

use crate::protocol::redis::response::{elements, is_error, text};
use crate::protocol::redis::{reply, response};

/// Longest name or version that is believed, in bytes.
const LONGEST: usize = 128;
/// A longer list of modules is not passed on, in bytes.
const MOST_MODULES: usize = 64 * 1024;

/// What servers said last, and whether that may have changed.
#[derive(Debug, Default)]
pub struct Facts {
    said: ArcSwapOption<Said>,
    /// A server was asked since the last doubt.
    settled: AtomicBool,
    /// The server that was asked last does not know HELLO.
    without_hello: AtomicBool,
}

/// A server in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// `redis`, `valkey`.
    pub server: String,
    pub version: String,
    /// A whole array of RESP3, a map for each module.
    pub modules: Vec<u8>,
}

impl Facts {
    /// Takes the reply of a server to HELLO, of either version. An error leaves what was known.
    pub fn learn(&self, hello: &[u8]) {
        self.without_hello.store(hello.starts_with(b"-ERR unknown command"), Relaxed);
        if let Some(said) = Said::of(hello) {
            self.said.store(Some(Arc::new(said)));
        }
        self.settled.store(true, Relaxed);
    }

    /// A server may have become another one: it was restarted, perhaps.
    pub fn doubt(&self) {
        self.settled.store(false, Relaxed);
    }

    /// Other servers now.
    pub fn forget(&self) {
        self.said.store(None);
        self.without_hello.store(false, Relaxed);
        self.doubt();
    }

    /// Nobody need be asked.
    pub fn are_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// Servers are too old for RESP3.
    pub fn lack_hello(&self) -> bool {
        self.without_hello.load(Relaxed)
    }

    /// What is known, in doubt or not.
    pub fn known(&self) -> Option<Arc<Said>> {
        self.said.load_full()
    }
}

impl Said {
    fn of(hello: &[u8]) -> Option<Self> {
        if is_error(hello) {
            return None;
        }
        let mut fields = elements(hello);
        let (mut server, mut version, mut modules) = (None, None, Vec::new());
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            let word =
                || text(value).filter(|text| text.len() <= LONGEST).map(|t| String::from_utf8_lossy(t).into_owned());
            match text(name) {
                Some(b"server") => server = word(),
                Some(b"version") => version = word(),
                Some(b"modules") => modules = maps(value),
                _ => {}
            }
        }
        if modules.is_empty() || modules.len() > MOST_MODULES {
            modules = reply::EMPTY_ARRAY.to_vec();
        }
        Some(Self { server: server?, version: version?, modules })
    }
}

/// An array of maps, which in RESP2 are arrays, as one of RESP3.
fn maps(array: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let all: Vec<response::Elements<'_>> = elements(array).map(elements).collect();
    reply::write_array_header(&mut out, all.len());
    for fields in all {
        reply::write_map_header(&mut out, fields.left() / 2);
        fields.for_each(|field| out.extend_from_slice(field));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESP2: &[u8] = b"*8\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n9.0.1\r\n$5\r\nproto\r\n:2\r\n\
        $7\r\nmodules\r\n*1\r\n*6\r\n$4\r\nname\r\n$2\r\nbf\r\n$3\r\nver\r\n:1\r\n$4\r\nargs\r\n*0\r\n";
    const RESP3: &[u8] = b"%4\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n9.0.1\r\n$5\r\nproto\r\n:3\r\n\
        $7\r\nmodules\r\n*1\r\n%3\r\n$4\r\nname\r\n$2\r\nbf\r\n$3\r\nver\r\n:1\r\n$4\r\nargs\r\n*0\r\n";
    const MODULES: &[u8] = b"*1\r\n%3\r\n$4\r\nname\r\n$2\r\nbf\r\n$3\r\nver\r\n:1\r\n$4\r\nargs\r\n*0\r\n";

    #[test]
    fn either_version_says_the_same() {
        for hello in [RESP2, RESP3] {
            let facts = Facts::default();
            assert!(!facts.are_settled() && facts.known().is_none());
            facts.learn(hello);
            let expected = Said { server: "valkey".into(), version: "9.0.1".into(), modules: MODULES.into() };
            assert_eq!(facts.known().as_deref(), Some(&expected));
            assert!(facts.are_settled());
        }
    }

    #[test]
    fn what_was_known_stays_until_there_are_other_servers() {
        let facts = Facts::default();
        facts.learn(RESP3);
        facts.doubt();
        assert!(!facts.are_settled() && facts.known().is_some());
        facts.learn(b"-ERR unknown command `HELLO`, with args beginning with: \r\n");
        assert!(facts.are_settled() && facts.known().is_some() && facts.lack_hello());
        facts.learn(RESP2);
        assert!(!facts.lack_hello());
        facts.forget();
        assert!(!facts.are_settled() && facts.known().is_none());
    }

    #[test]
    fn what_is_no_answer_teaches_nothing() {
        let long = format!("%2\r\n+server\r\n+{}\r\n+version\r\n+1\r\n", "x".repeat(LONGEST + 1));
        for hello in ["+OK\r\n", "*0\r\n", "%1\r\n+server\r\n+redis\r\n", "*1\r\n+server\r\n", &long] {
            let facts = Facts::default();
            facts.learn(hello.as_bytes());
            assert_eq!(facts.known(), None, "{hello}");
        }
    }
}
