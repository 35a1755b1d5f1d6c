//! Scripts: the bodies that clients have sent, remembered for a pool, and which of them a server is known to have.
//!
//! A server that was restarted has no scripts. Clients that load theirs once and then send EVALSHA would all get NOSCRIPT, in
//! the middle of pipelines. So an EVALSHA goes as it is only on a link on which the script has run before; else it goes as
//! the EVAL that does the same, if the body is known. There is nothing to be sent again then, and no request of a client
//! overtakes another.
//!
//! Invariant: a script that a link is said to have was run there, by a request that was answered on this very link, since
//! scripts were last forgotten.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::protocol::redis::commands;
use crate::protocol::redis::request::{self, Arguments};
use crate::protocol::redis::script::{self, Sha};
use crate::protocol::{Limits, Parsed};

/// A longer body is not remembered, in bytes: it would be sent with every EVALSHA until the first is answered.
pub const LONGEST_BODY: usize = 64 * 1024;
/// What a remembered script takes beside its body, about, in bytes.
const OVERHEAD: usize = 128;
/// When there is too much, so much is left: seven eighths, so that not every new script has to look for the oldest one.
const LEFT: (usize, usize) = (7, 8);
/// Scripts that one link is known to have; more than a server should ever have.
const MOST_KNOWN: usize = 4096;
/// How often the use of a script is told to the memory, which all workers share.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The bodies that a pool remembers, for all workers.
#[derive(Debug, Default)]
pub struct Scripts {
    memory: Mutex<Memory>,
    /// Most bytes, `script_memory`; 0: nothing is remembered.
    limit: AtomicUsize,
    /// How often all was forgotten.
    forgotten: AtomicU64,
}

#[derive(Debug, Default)]
struct Memory {
    scripts: HashMap<Sha, Remembered>,
    bytes: usize,
    /// Uses so far.
    uses: u64,
}

#[derive(Debug)]
struct Remembered {
    body: Bytes,
    /// The number of its last use.
    used: u64,
}

impl Scripts {
    /// A memory of so many bytes.
    pub fn new(limit: u64) -> Self {
        let scripts = Self::default();
        scripts.set_limit(limit);
        scripts
    }

    /// From now on at most so many bytes are remembered.
    pub fn set_limit(&self, limit: u64) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.limit.store(limit, Relaxed);
        self.memory().shrink_to(limit);
    }

    /// Whether a body is remembered at all.
    pub fn takes(&self, body: &[u8]) -> bool {
        body.len() <= LONGEST_BODY && body.len() + OVERHEAD <= self.limit.load(Relaxed)
    }

    /// Remembers a body, which is `sha`'s.
    pub fn remember(&self, sha: Sha, body: &[u8]) {
        if !self.takes(body) {
            return;
        }
        let mut memory = self.memory();
        let used = memory.use_one();
        if let Some(known) = memory.scripts.get_mut(&sha) {
            known.used = used;
            return;
        }
        memory.bytes += body.len() + OVERHEAD;
        memory.scripts.insert(sha, Remembered { body: Bytes::copy_from_slice(body), used });
        let limit = self.limit.load(Relaxed);
        if memory.bytes > limit {
            memory.shrink_to(limit / LEFT.1 * LEFT.0);
        }
    }

    /// The body of a script, if it is remembered.
    pub fn body(&self, sha: &Sha) -> Option<Bytes> {
        let mut memory = self.memory();
        let used = memory.use_one();
        let known = memory.scripts.get_mut(sha)?;
        known.used = used;
        Some(known.body.clone())
    }

    /// An EVALSHA or EVALSHA_RO, all of it, as the EVAL of its script; `None`: it is another request, or the body is not
    /// remembered.
    pub fn as_eval(&self, request: &[u8]) -> Option<Vec<u8>> {
        // It was parsed once before, under the limits of its pool.
        let limits = Limits { max_request_bytes: usize::MAX, max_arguments: usize::MAX, ..Limits::default() };
        let mut args = Arguments::new();
        let Ok(Parsed::Complete(_)) = request::parse(request, &limits, &mut args) else { return None };
        let arg = |index| args.get(request, index);
        let name = script::by_body(commands::lookup(arg(0)?)?.name)?;
        let body = self.body(&Sha::parse(arg(1)?)?)?;
        let mut eval = Vec::with_capacity(request.len() + body.len());
        script::write_as_eval(&mut eval, name, &body, args.len(), arg);
        Some(eval)
    }

    /// Forgets everything, what links have included.
    pub fn forget_all(&self) {
        let mut memory = self.memory();
        *memory = Memory { uses: memory.uses, ..Memory::default() };
        self.forgotten.fetch_add(1, Relaxed);
    }

    /// How often all was forgotten.
    pub fn times_forgotten(&self) -> u64 {
        self.forgotten.load(Relaxed)
    }

    /// Scripts, and what they take in bytes.
    pub fn size(&self) -> (usize, usize) {
        let memory = self.memory();
        (memory.scripts.len(), memory.bytes)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // It is whole after each step.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn use_one(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// Forgets those that were not used for longest.
    fn shrink_to(&mut self, limit: usize) {
        if self.bytes <= limit {
            return;
        }
        let mut oldest: Vec<(u64, Sha)> = self.scripts.iter().map(|(sha, script)| (script.used, *sha)).collect();
        oldest.sort_unstable_by_key(|(used, _)| *used);
        for (_, sha) in oldest {
            if self.bytes <= limit {
                break;
            }
            if let Some(script) = self.scripts.remove(&sha) {
                self.bytes -= script.body.len() + OVERHEAD;
            }
        }
    }
}

/// What the server at the other end of a link is known to have.
#[derive(Debug, Default)]
pub(super) struct Known {
    scripts: Arc<Scripts>,
    /// Each with when its use was last told.
    known: RefCell<HashMap<Sha, Instant>>,
    /// [`Scripts::times_forgotten`] as of what is known.
    as_of: Cell<u64>,
}

impl Known {
    pub fn new(scripts: Arc<Scripts>) -> Self {
        Self { scripts, ..Self::default() }
    }

    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Whether the server has this script, and we its body.
    pub fn has(&self, sha: &Sha, now: Instant) -> bool {
        let mut known = self.known.borrow_mut();
        let forgotten = self.scripts.times_forgotten();
        if self.as_of.replace(forgotten) != forgotten {
            known.clear();
        }
        let Some(told) = known.get_mut(sha) else { return false };
        if now < *told + TELL_EVERY {
            return true;
        }
        *told = now;
        let has = self.scripts.body(sha).is_some();
        if !has {
            known.remove(sha);
        }
        has
    }

    /// A request that ran the script was answered. It was sent when everything had been forgotten `as_of` times.
    pub fn ran(&self, sha: Sha, as_of: u64, now: Instant) {
        let mut known = self.known.borrow_mut();
        let forgotten = self.scripts.times_forgotten();
        if self.as_of.replace(forgotten) != forgotten || known.len() >= MOST_KNOWN {
            known.clear();
        }
        if as_of == forgotten {
            known.insert(sha, now);
        }
    }

    /// The server has not got this script.
    pub fn lacks(&self, sha: &Sha) {
        self.known.borrow_mut().remove(sha);
    }

    /// Nothing is known of the server any more.
    pub fn clear(&self) {
        self.known.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(n: usize, length: usize) -> Vec<u8> {
        let mut body = format!("return {n} ").into_bytes();
        body.resize(length, b' ');
        body
    }

    fn learn(scripts: &Scripts, body: &[u8]) -> Sha {
        let sha = Sha::of(body);
        scripts.remember(sha, body);
        sha
    }

    #[test]
    fn bodies_come_back_under_their_sha() {
        let scripts = Scripts::new(1 << 20);
        let shas: Vec<Sha> = (0..100).map(|n| learn(&scripts, &body(n, 50))).collect();
        for (n, sha) in shas.iter().enumerate() {
            assert_eq!(scripts.body(sha).as_deref(), Some(&body(n, 50)[..]));
        }
        assert_eq!(scripts.size(), (100, 100 * (50 + OVERHEAD)));
        assert_eq!(scripts.body(&Sha::of(b"other")), None);
        scripts.forget_all();
        assert_eq!((scripts.size(), scripts.body(&shas[0]), scripts.times_forgotten()), ((0, 0), None, 1));
    }

    #[test]
    fn an_evalsha_of_a_known_body_becomes_an_eval() {
        let scripts = Scripts::new(1 << 20);
        learn(&scripts, b"return 1");
        let request = |name: &str, sha: &str| {
            format!("*4\r\n${}\r\n{name}\r\n${}\r\n{sha}\r\n$1\r\n1\r\n$1\r\nk\r\n", name.len(), sha.len()).into_bytes()
        };
        let sha = "E0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        let eval = |name: &str| scripts.as_eval(&request(name, sha)).map(|eval| String::from_utf8(eval).unwrap());
        assert_eq!(eval("EvalSha").unwrap(), "*4\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n1\r\n$1\r\nk\r\n");
        assert!(eval("evalsha_ro").unwrap().contains("\r\nEVAL_RO\r\n"));
        assert_eq!((eval("eval"), eval("get"), eval("nosuch")), (None, None, None));
        assert_eq!(scripts.as_eval(&request("evalsha", &sha.replace('E', "f"))), None);
        assert_eq!(scripts.as_eval(&request("evalsha", sha)[..50]), None);
    }

    #[test]
    fn the_memory_is_bounded_and_what_is_used_stays() {
        let limit = 64 << 10;
        let scripts = Scripts::new(limit as u64);
        let favourite = learn(&scripts, b"return 'favourite'");
        for n in 0..5000 {
            learn(&scripts, &body(n, 40 + n % 300));
            assert!(scripts.size().1 <= limit);
            assert!(n % 50 > 0 || scripts.body(&favourite).is_some(), "{n}");
        }
        assert!(scripts.size().1 > limit / 2, "{:?}", scripts.size());
        scripts.set_limit(1000);
        assert!(scripts.size().1 <= 1000);
    }

    #[test]
    fn nothing_is_remembered_that_is_too_long_or_without_a_memory() {
        let scripts = Scripts::new(10 << 20);
        assert!(scripts.takes(&body(0, LONGEST_BODY)) && !scripts.takes(&body(0, LONGEST_BODY + 1)));
        let long = learn(&scripts, &body(0, LONGEST_BODY + 1));
        assert_eq!((scripts.body(&long), scripts.size()), (None, (0, 0)));
        let off = Scripts::new(0);
        let sha = learn(&off, b"return 1");
        assert_eq!((off.body(&sha), off.takes(b"")), (None, false));
        assert!(!Scripts::new(100).takes(b""), "no room for one");
    }

    #[test]
    fn a_link_has_what_ran_on_it_until_it_is_lost_or_all_is_forgotten() {
        let scripts = Arc::new(Scripts::new(1 << 20));
        let (known, now) = (Known::new(scripts.clone()), Instant::now());
        let (one, two) = (learn(&scripts, b"return 1"), learn(&scripts, b"return 2"));
        assert!(!known.has(&one, now));
        known.ran(one, 0, now);
        assert!(known.has(&one, now) && !known.has(&two, now));
        known.lacks(&one);
        assert!(!known.has(&one, now));
        known.ran(one, 0, now);
        known.clear();
        assert!(!known.has(&one, now));
        known.ran(one, 0, now);
        scripts.forget_all();
        assert!(!known.has(&one, now));
        // The server may have run it before it forgot it.
        known.ran(one, 0, now);
        assert!(!known.has(&one, now));
        known.ran(one, 1, now);
        assert!(known.has(&one, now));
    }

    #[test]
    fn what_is_used_on_links_only_is_used() {
        let scripts = Arc::new(Scripts::new(64 << 10));
        let (known, mut now) = (Known::new(scripts.clone()), Instant::now());
        let sha = learn(&scripts, b"return 'favourite'");
        known.ran(sha, 0, now);
        for n in 0..2000 {
            learn(&scripts, &body(n, 100));
            now += Duration::from_millis(200);
            assert!(known.has(&sha, now), "{n}");
        }
        // Of what is forgotten the link knows it as soon as it looks.
        scripts.set_limit(0);
        assert!(!known.has(&sha, now + TELL_EVERY));
    }
}
