//! What a client knows of its keys, which are nobody else's, and what it may be told.
//!
//! Each configuration says at which server a key lies. While one follows another, a request goes by one of those between
//! the one that every worker is known to go by and the one that was written last; and by none before that of the client's
//! last request. So for each key and each server the client knows the values that may lie there:
//!
//! - a write is what lies at its server, if it can have gone to one only; otherwise it may lie at each of them, beside what
//!   lay there before;
//! - what is read must be one of the values that may lie where it can have been read. If that leaves only newer
//!   configurations, no older one is possible any more; if it leaves one server, the value is what lies there.
//!
//! A request that waits to be written when its server's address changes goes to the new address, although it was the ring
//! before that has sent it there: its server need be the key's in no configuration as a whole.
//!
//! It follows that a key which no change moves is never missed, and that a client reads its own latest write at once; that a
//! key which moved away and back has the value from before, not any; and that no client is taken back to an older
//! configuration.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, RwLock};

use crate::model::{Identity, Place, PoolView, View};

/// Configurations that are behind every client for certain are forgotten.
const REMEMBERED: usize = 64;

/// The configurations, oldest first; each has its index for ever.
pub struct Timeline {
    views: RwLock<(usize, Vec<Arc<View>>)>,
    /// Every worker goes by this one or a newer one.
    settled: AtomicUsize,
}

impl Timeline {
    pub fn new(first: Arc<View>) -> Self {
        Self { views: RwLock::new((0, vec![first])), settled: AtomicUsize::new(0) }
    }

    pub fn settled(&self) -> usize {
        self.settled.load(SeqCst)
    }

    pub fn newest(&self) -> usize {
        let views = self.views.read().unwrap();
        views.0 + views.1.len() - 1
    }

    /// From now on this one may be in force. To be called before the proxy can know of it.
    pub fn push(&self, view: Arc<View>) {
        let mut views = self.views.write().unwrap();
        views.1.push(view);
        let forgotten = self.settled().saturating_sub(REMEMBERED).saturating_sub(views.0);
        views.1.drain(..forgotten);
        views.0 += forgotten;
    }

    /// The newest one is in force everywhere.
    pub fn settle(&self) {
        self.settled.store(self.newest(), SeqCst);
    }

    /// Those that may be in force for what was begun when `from` was.
    pub fn since(&self, from: usize) -> Vec<(usize, Arc<View>)> {
        let views = self.views.read().unwrap();
        let skipped = from.checked_sub(views.0).expect("a client that was not left behind");
        (from..).zip(views.1[skipped..].iter().cloned()).collect()
    }
}

/// Absent.
pub const NOTHING: u64 = 0;

/// The keys of one client.
pub struct Ledger {
    pool: Identity,
    /// Numbers of the values that may lie at a place. Where nothing is noted there is nothing.
    held: HashMap<String, HashMap<Place, BTreeSet<u64>>>,
    /// The number of the last value.
    pub last: u64,
    /// No request of this connection goes by an older configuration.
    pub oldest: usize,
    /// Reads, and those of them that could have but one answer.
    pub reads: u64,
    pub certain: u64,
}

impl Ledger {
    pub fn new(pool: Identity) -> Self {
        Self { pool, held: HashMap::new(), last: 0, oldest: 0, reads: 0, certain: 0 }
    }

    /// A request that was begun when `begun` was settled has written this number, or nothing.
    pub fn wrote(&mut self, timeline: &Timeline, begun: usize, key: &str, number: u64) {
        self.oldest = self.oldest.max(begun);
        let places = self.places(timeline, key);
        let places: BTreeSet<Place> = places.into_iter().flat_map(|(_, places)| places).collect();
        let held = self.held.entry(key.to_owned()).or_default();
        for place in &places {
            let known = held.entry(*place).or_insert_with(|| [NOTHING].into());
            if places.len() == 1 {
                known.clear();
            }
            known.insert(number);
        }
    }

    /// The same for what was read. `Err` is what must not be.
    pub fn read(&mut self, timeline: &Timeline, begun: usize, key: &str, number: u64) -> Result<(), String> {
        self.oldest = self.oldest.max(begun);
        let places = self.places(timeline, key);
        let held = self.held.entry(key.to_owned()).or_default();
        let may_be = |place: &Place| held.get(place).map_or(number == NOTHING, |known| known.contains(&number));
        let fitting: Vec<usize> =
            places.iter().filter(|(_, places)| places.iter().any(may_be)).map(|(index, _)| *index).collect();
        self.reads += 1;
        // The pool is gone; this was read from the last of it.
        if places.is_empty() {
            return Ok(());
        }
        let Some(first) = fitting.first() else {
            return Err(format!(
                "{key}: read {number} (0 is nothing), configurations and places {places:?}, known there {held:?}"
            ));
        };
        let sure: BTreeSet<Place> = places.iter().flat_map(|(_, places)| places.iter().copied()).collect();
        let values = |place: &Place| held.get(place).map_or(1, BTreeSet::len);
        self.certain += u64::from(sure.len() == 1 && sure.iter().all(|place| values(place) == 1));
        self.oldest = *first;
        let left: BTreeSet<Place> =
            places.iter().filter(|(index, _)| index >= first).flat_map(|(_, places)| places.iter().copied()).collect();
        if let (Some(place), 1) = (left.first(), left.len()) {
            held.insert(*place, [number].into());
        }
        Ok(())
    }

    /// Where a request may have gone, by the configuration whose ring has sent it: to where its server is in that one, or in
    /// a later one, if it was not written before that.
    fn places(&self, timeline: &Timeline, key: &str) -> Vec<(usize, BTreeSet<Place>)> {
        let views = timeline.since(self.oldest);
        let pools: Vec<(usize, &PoolView)> =
            views.iter().filter_map(|(index, view)| Some((*index, view.pool(self.pool)?))).collect();
        let later = |from: usize, name: &str, place: Place| {
            let moved: BTreeSet<Place> = pools[from..].iter().filter_map(|(_, pool)| pool.place_of(name)).collect();
            moved.into_iter().chain([place])
        };
        let of = |(from, (index, pool)): (usize, &(usize, &PoolView))| {
            let servers = pool.servers(key).iter();
            (*index, servers.flat_map(|(name, place)| later(from, name, *place)).collect())
        };
        pools.iter().enumerate().map(of).collect()
    }
}
