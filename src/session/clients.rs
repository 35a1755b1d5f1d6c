//! The sessions of the process as clients see them through CLIENT LIST and its kin: a card for each, on whichever worker it
//! is, and a gate for each pool that CLIENT PAUSE shuts.
//!
//! Requests take no lock and change no card: a session notes on its own card, once a read, when it heard what. Others read
//! the cards, and tell a session something by an order on its card and a wake of its task.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use Ordering::{Relaxed, SeqCst};

use super::posts::Posts;
use crate::backend::Variant;
use crate::config::User;
use crate::io::Stream;
use crate::pool::PoolId;

/// What others may know of a session, and tell it. About 300 bytes, its texts and its place on the roll included.
pub struct Card {
    pub id: u64,
    /// Of the client, and where it connected to: `host:port`, or the path of a unix socket and `:0`, as Redis has it.
    pub address: Box<str>,
    pub local_address: Box<str>,
    pub descriptor: i32,
    pub is_unix: bool,
    since: Instant,
    /// Seconds from `since` to when it last sent something.
    heard: AtomicU32,
    /// The last command: where it is in memory; 0: none yet.
    pub command: AtomicUsize,
    /// Bytes of the client's that are no whole request yet, or wait.
    pub input: AtomicUsize,
    /// Bytes of replies that the client's socket did not take.
    pub output: AtomicUsize,
    pub database: AtomicU32,
    /// RESP2 or RESP3.
    pub protocol: AtomicU8,
    /// What it is subscribed to: channels, patterns, shards.
    pub subscriptions: [AtomicU32; 3],
    /// Requests since MULTI; -1: none was said.
    pub queued: AtomicI32,
    /// It waits for something to happen at a server.
    pub blocks: AtomicBool,
    /// Where that is, as far as the servers have said what they call the connections.
    pub posts: Posts,
    pub no_evict: AtomicBool,
    pub no_touch: AtomicBool,
    /// The session is to end.
    killed: AtomicBool,
    /// Written when the client says something about itself; never while a request is on its way.
    told: Mutex<Told>,
    waker: Mutex<Option<Waker>>,
}

/// What a client has told about itself.
#[derive(Default, Clone)]
pub struct Told {
    /// One of the pool's users; `None`: the one who may do everything, or nobody yet.
    pub user: Option<Arc<User>>,
    /// `CLIENT SETNAME`
    pub name: Box<str>,
    /// `CLIENT SETINFO`
    pub library: Box<str>,
    pub library_version: Box<str>,
}

impl Card {
    pub fn new(id: u64, stream: &Stream) -> Self {
        let (address, local_address) = stream.addresses();
        Self {
            id,
            address: address.into(),
            local_address: local_address.into(),
            descriptor: stream.descriptor(),
            is_unix: stream.is_unix(),
            since: Instant::now(),
            heard: AtomicU32::new(0),
            command: AtomicUsize::new(0),
            input: AtomicUsize::new(0),
            output: AtomicUsize::new(0),
            database: AtomicU32::new(0),
            protocol: AtomicU8::new(2),
            subscriptions: Default::default(),
            queued: AtomicI32::new(-1),
            blocks: AtomicBool::new(false),
            posts: Posts::default(),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            told: Mutex::default(),
            waker: Mutex::default(),
        }
    }

    /// The version of the protocol and the database that it goes by.
    pub(super) fn show(&self, variant: Variant) {
        self.database.store(variant.database, Relaxed);
        self.protocol.store(variant.version.number(), Relaxed);
    }

    /// The client has sent something.
    #[inline]
    pub fn hear(&self, now: Instant) {
        self.heard.store(now.saturating_duration_since(self.since).as_secs() as u32, Relaxed);
    }

    /// It has subscriptions.
    pub fn is_subscribed(&self) -> bool {
        self.subscriptions.iter().any(|count| count.load(Relaxed) > 0)
    }

    /// For how long the session has been there.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Seconds since the client last sent something.
    pub fn idle(&self, now: Instant) -> u64 {
        self.age(now).as_secs().saturating_sub(u64::from(self.heard.load(Relaxed)))
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }

    /// Has the session end, wherever it is.
    pub fn kill(&self) {
        self.killed.store(true, SeqCst);
        // Paired with the one in `waits_with`: either the session sees the order, or its waker is seen here.
        std::sync::atomic::fence(SeqCst);
        let waker = lock(&self.waker).clone();
        waker.into_iter().for_each(Waker::wake);
    }

    #[inline]
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// This wakes the session's task from now on.
    pub(super) fn waits_with(&self, waker: Waker) {
        *lock(&self.waker) = Some(waker);
        std::sync::atomic::fence(SeqCst);
    }
}

/// Which requests of a pool wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Those that may change something.
    Writes = 1,
    All = 2,
}

/// Shut for a time by CLIENT PAUSE. Sessions whose request must wait keep it in their input, and read no further.
pub struct Gate {
    /// 0: open; a [`Pause`].
    shut: AtomicU8,
    /// Milliseconds from `since`.
    until: AtomicU64,
    since: Instant,
    /// By session: who waits, each once. Held while it is shut or opened.
    waiting: Mutex<HashMap<u64, Waker>>,
}

impl Gate {
    fn new() -> Self {
        let (shut, until) = (AtomicU8::new(0), AtomicU64::new(0));
        Self { shut, until, since: Instant::now(), waiting: Mutex::default() }
    }

    /// Shuts it for `time` at the least. One that is shut stays so no shorter, and holds back no less.
    pub fn shut(&self, pause: Pause, time: Duration, now: Instant) {
        let _changing = lock(&self.waiting);
        let (until, left) = (now.saturating_duration_since(self.since).saturating_add(time), self.left(now));
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        match left {
            Some(_) => drop(self.until.fetch_max(until, SeqCst)),
            None => self.until.store(until, SeqCst),
        }
        match left {
            Some(_) => drop(self.shut.fetch_max(pause as u8, SeqCst)),
            None => self.shut.store(pause as u8, SeqCst),
        }
    }

    /// Opens it, and wakes those who wait.
    pub fn open(&self) {
        self.open_if(|| true);
    }

    /// Opens it unless somebody, who is seen under the lock, has a reason not to.
    fn open_if(&self, may: impl FnOnce() -> bool) {
        let mut waiting = lock(&self.waiting);
        if !may() {
            return;
        }
        self.shut.store(0, SeqCst);
        let woken = std::mem::take(&mut *waiting);
        drop(waiting);
        woken.into_values().for_each(Waker::wake);
    }

    /// Whether any request may have to wait.
    #[inline]
    pub fn may_hold(&self) -> bool {
        self.shut.load(Relaxed) != 0
    }

    /// What it holds back now. Opens it when its time is over, so that requests need not look at it any more.
    pub fn holds(&self, now: Instant) -> Option<Pause> {
        if self.may_hold() && self.left(now).is_none() {
            // Somebody may be about to shut it again.
            self.open_if(|| self.left(now).is_none());
        }
        self.left(now)?;
        match self.shut.load(SeqCst) {
            0 => None,
            1 => Some(Pause::Writes),
            _ => Some(Pause::All),
        }
    }

    /// For how long it will be shut; `None`: it is open.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        if !self.may_hold() {
            return None;
        }
        let until = Duration::from_millis(self.until.load(SeqCst));
        until.checked_sub(now.saturating_duration_since(self.since)).filter(|left| !left.is_zero())
    }

    /// Has the session woken when it opens. `false`: it has opened meanwhile.
    pub(super) fn wait(&self, id: u64, waker: &Waker) -> bool {
        lock(&self.waiting).insert(id, waker.clone());
        let shut = self.shut.load(SeqCst) != 0;
        if !shut {
            self.forget(id);
        }
        shut
    }

    pub(super) fn forget(&self, id: u64) {
        lock(&self.waiting).remove(&id);
    }
}

/// Every session of the process, by pool.
#[derive(Default)]
pub struct Roll(Mutex<HashMap<PoolId, Members>>);

struct Members {
    gate: Arc<Gate>,
    cards: BTreeMap<u64, Arc<Card>>,
}

impl Roll {
    /// A session begins; the gate of its pool.
    pub(super) fn enter(&self, pool: PoolId, card: Arc<Card>) -> Arc<Gate> {
        let mut pools = lock(&self.0);
        let new = || Members { gate: Arc::new(Gate::new()), cards: BTreeMap::new() };
        let members = pools.entry(pool).or_insert_with(new);
        members.cards.insert(card.id, card);
        members.gate.clone()
    }

    /// A session has ended.
    pub(super) fn leave(&self, pool: PoolId, id: u64) {
        let mut pools = lock(&self.0);
        if let Some(members) = pools.get_mut(&pool) {
            members.cards.remove(&id);
            // Whoever paused the pool may have been its only client.
            if members.cards.is_empty() && members.gate.left(Instant::now()).is_none() {
                pools.remove(&pool);
            }
        }
    }

    /// The sessions of a pool, the oldest first.
    pub fn of(&self, pool: PoolId) -> Vec<Arc<Card>> {
        lock(&self.0).get(&pool).map(|members| members.cards.values().cloned().collect()).unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_shut_for_the_longest_time_and_for_the_most() {
        let (gate, second) = (Gate::new(), Duration::from_secs(1));
        let start = Instant::now();
        assert!(!gate.may_hold() && gate.holds(start).is_none());
        gate.shut(Pause::Writes, 10 * second, start);
        assert_eq!((gate.holds(start), gate.holds(start + 9 * second)), (Some(Pause::Writes), Some(Pause::Writes)));
        gate.shut(Pause::All, second, start);
        assert_eq!(gate.holds(start + 9 * second), Some(Pause::All));
        gate.shut(Pause::Writes, second, start);
        assert_eq!(gate.holds(start + 9 * second), Some(Pause::All));
        assert_eq!(gate.holds(start + 11 * second), None);
        // What was before is over.
        gate.shut(Pause::Writes, 10 * second, start + 20 * second);
        assert_eq!(gate.holds(start + 29 * second), Some(Pause::Writes));
        assert!(gate.may_hold());
        gate.open();
        assert!(!gate.may_hold() && gate.holds(start + 29 * second).is_none());
        assert!(!gate.wait(7, Waker::noop()), "nobody waits at an open gate");
        assert!(lock(&gate.waiting).is_empty());
    }

    #[test]
    fn a_gate_whose_time_is_over_is_open_to_all_from_the_first_who_looks() {
        let (gate, second, start) = (Gate::new(), Duration::from_secs(1), Instant::now());
        gate.shut(Pause::All, second, start);
        assert!(gate.wait(7, Waker::noop()));
        assert_eq!(gate.holds(start), Some(Pause::All));
        assert!(gate.may_hold());
        assert_eq!(gate.holds(start + 2 * second), None);
        assert!(!gate.may_hold(), "nobody need look again");
        assert!(lock(&gate.waiting).is_empty(), "who waited is woken");
        gate.shut(Pause::Writes, second, start + 2 * second);
        assert!(gate.may_hold() && gate.holds(start + 2 * second) == Some(Pause::Writes));
    }
}
