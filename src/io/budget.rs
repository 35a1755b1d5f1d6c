//! The budget: how many bytes the process holds for clients and servers, and how hard it is pressed for room.
//!
//! ```text
//!   level      begins at   ends below
//!   Calm
//!   Full       limit       7/8          sessions that hold something are read no further
//!   Refusing   9/8         limit        requests for servers are refused at once
//!   Cutting    5/4         9/8          clients that do not read and still get more are cut
//! ```
//! Workers count in cells of their own ([`Held`], [`Pass`]) and bring the difference here once a pass, so that the one
//! number they share is touched seldom, and not at all while nothing is held. The counts are of payload: what allocators
//! and queues need on top is not in them.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::Pass;

/// How pressed for room the process is; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Calm,
    Full,
    Refusing,
    Cutting,
}

const LEVELS: [Level; 4] = [Level::Calm, Level::Full, Level::Refusing, Level::Cutting];

/// The bytes held by the whole process.
#[derive(Debug)]
pub struct Budget {
    /// May be set while bytes are held.
    limit: AtomicUsize,
    total: Apart<AtomicUsize>,
    /// Index in [`LEVELS`]. Read for each request, so it does not share a cache line with what is written often.
    level: Apart<AtomicU8>,
    /// The most since the level was last calm.
    peak: AtomicUsize,
    story: Mutex<Story>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// For the log: what is known of the overload at hand, and of the last one that was told of.
#[derive(Debug, Default)]
struct Story {
    began: Option<Instant>,
    /// When the log last said that an overload began.
    told: Option<Instant>,
    /// The overload at hand was told of.
    telling: bool,
    /// Overloads since then that were not told of.
    untold: u64,
}

/// An overload is told of in the log when the last one that was is this old: they may come and go many times a second.
const QUIET: Duration = Duration::from_secs(10);

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            total: Apart::default(),
            level: Apart::default(),
            peak: AtomicUsize::new(0),
            story: Mutex::default(),
        }
    }

    /// Bytes held now, as far as workers have told.
    pub fn total(&self) -> usize {
        // Workers tell differences, and not in the order in which these arose.
        self.total.0.load(Relaxed).cast_signed().max(0).cast_unsigned()
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Sets another limit, also one below what is held; the level follows at once.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, SeqCst);
        self.settle();
    }

    #[inline]
    pub fn level(&self) -> Level {
        LEVELS[usize::from(self.level.0.load(Relaxed)) & 3]
    }

    /// A worker holds so many bytes more or less than when it last told.
    fn change(&self, bytes: isize) {
        self.total.0.fetch_add(bytes.cast_unsigned(), SeqCst);
        self.settle();
    }

    /// Brings the level in line with the total and the limit, after a change of either.
    fn settle(&self) {
        // Whoever changes one of the three looks at the other two afterwards: so the last of those that do it at once sees
        // what all have done, and the level fits when all are through.
        loop {
            let (level, total) = (LEVELS[usize::from(self.level.0.load(SeqCst)) & 3], self.total_now());
            if level != Level::Calm {
                self.peak.fetch_max(total, Relaxed);
            }
            if next_level(level, total, self.limit.load(SeqCst)) == level {
                return;
            }
            self.turn();
        }
    }

    fn total_now(&self) -> usize {
        self.total.0.load(SeqCst).cast_signed().max(0).cast_unsigned()
    }

    #[cold]
    fn turn(&self) {
        let Ok(mut story) = self.story.lock() else { return };
        let (level, total) = (self.level(), self.total_now());
        let limit = self.limit.load(SeqCst);
        let next = next_level(level, total, limit);
        self.level.0.store(next as u8, SeqCst);
        match (level, next) {
            (Level::Calm, Level::Calm) => {}
            (Level::Calm, _) => self.begin(&mut story, total, limit),
            (_, Level::Calm) => self.end(&mut story, total, limit),
            _ => tracing::debug!(buffered_bytes = total, limit, from = ?level, to = ?next, "overload"),
        }
    }

    fn begin(&self, story: &mut Story, total: usize, limit: usize) {
        let now = Instant::now();
        self.peak.store(total, Relaxed);
        story.began = Some(now);
        story.telling = story.told.is_none_or(|told| now.duration_since(told) >= QUIET);
        if !story.telling {
            story.untold += 1;
            return;
        }
        story.told = Some(now);
        let untold = std::mem::take(&mut story.untold);
        tracing::warn!(buffered_bytes = total, limit, untold, "overload: clients that hold much are read no further");
    }

    fn end(&self, story: &mut Story, total: usize, limit: usize) {
        let lasted = story.began.take().map_or(0, |began| began.elapsed().as_millis());
        let peak = self.peak.load(Relaxed);
        if story.telling {
            tracing::info!(buffered_bytes = total, limit, peak, lasted_ms = lasted, "overload is over");
        }
    }
}

/// The level that follows from so many bytes. Pure.
fn next_level(level: Level, total: usize, limit: usize) -> Level {
    let eighth = limit / 8;
    let reached = |eighths: usize| total >= limit.saturating_add(eighths.saturating_mul(eighth));
    // A level is kept until the total falls an eighth below where it began.
    if reached(2) || (level == Level::Cutting && reached(1)) {
        Level::Cutting
    } else if reached(1) || (level >= Level::Refusing && reached(0)) {
        Level::Refusing
    } else if reached(0) || (level >= Level::Full && total >= limit - eighth) {
        Level::Full
    } else {
        Level::Calm
    }
}

/// What one session or connection holds, as counted; given back when dropped.
pub struct Held {
    pass: Rc<Pass>,
    bytes: Cell<usize>,
}

impl Held {
    /// Nothing yet.
    pub fn new(pass: Rc<Pass>) -> Self {
        Self { pass, bytes: Cell::new(0) }
    }

    /// It holds so many bytes now.
    #[inline]
    pub fn set(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        if before != bytes {
            self.pass.hold(bytes.wrapping_sub(before).cast_signed());
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// From so many bytes on a worker tells at once: one pass may take in very much.
const AT_ONCE: usize = 256 * 1024;

/// What one worker has counted and not told yet.
#[derive(Debug, Default)]
pub(super) struct Untold(Cell<isize>);

impl Untold {
    /// True when it is so much that it should be told at once.
    #[inline]
    pub(super) fn add(&self, bytes: isize) -> bool {
        self.0.set(self.0.get() + bytes);
        self.0.get().unsigned_abs() >= AT_ONCE
    }

    /// Tells it; how much it was.
    #[inline]
    pub(super) fn tell(&self, budget: &Budget) -> isize {
        let change = self.0.take();
        if change != 0 {
            budget.change(change);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_level_begins_and_ends_where_the_table_says() {
        use Level::{Calm, Cutting, Full, Refusing};
        let budget = Budget::new(800);
        let mut before = 0;
        let up = [(799, Calm), (800, Full), (899, Full), (900, Refusing), (999, Refusing), (1000, Cutting)];
        let down = [(900, Cutting), (899, Refusing), (800, Refusing), (799, Full), (700, Full), (699, Calm)];
        for (total, level) in up.into_iter().chain(down).chain([(5000, Cutting), (0, Calm)]) {
            budget.change(total - before);
            before = total;
            assert_eq!((budget.total(), budget.level()), (total.cast_unsigned(), level));
        }
    }

    #[test]
    fn the_level_follows_a_new_limit_at_once() {
        use Level::{Calm, Cutting, Full, Refusing};
        let budget = Budget::new(8000);
        budget.change(1000);
        for (limit, level) in [(1000, Full), (1001, Full), (880, Refusing), (8, Cutting), (2000, Calm), (1, Cutting)] {
            budget.set_limit(limit);
            assert_eq!((budget.total(), budget.limit(), budget.level()), (1000, limit, level));
        }
        budget.change(-1000);
        assert_eq!(budget.level(), Calm);
        budget.set_limit(800);
        budget.change(799);
        assert_eq!(budget.level(), Calm);
        budget.change(1);
        assert_eq!(budget.level(), Full);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_level_never_flaps_within_an_eighth(limit in 64..10_000usize, totals in proptest::collection::vec(0..20_000usize, 1..50)) {
            let mut level = Level::Calm;
            for total in totals {
                let next = next_level(level, total, limit);
                prop_assert_eq!(next_level(next, total, limit), next, "it settles at once");
                if next > level {
                    prop_assert_eq!(next_level(next, total - limit / 8 + 1, limit), next, "it is kept for an eighth");
                }
                level = next;
            }
        }
    }

    #[test]
    fn what_workers_tell_at_once_adds_up_and_the_level_fits() {
        let budget = Arc::new(Budget::new(1000));
        let tell = |seed: isize| {
            let budget = budget.clone();
            std::thread::spawn(move || {
                for n in 0..20_000 {
                    let bytes = (seed * 7 + n * 13) % 500;
                    budget.change(bytes);
                    budget.change(-bytes);
                }
            })
        };
        let threads: Vec<_> = (1..5).map(tell).collect();
        for n in 0..20_000 {
            budget.set_limit(if n % 2 == 0 { 100 } else { 1000 });
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((budget.total(), budget.level()), (0, Level::Calm));
    }

    #[test]
    fn what_is_held_is_told_at_the_end_of_the_pass_or_when_it_is_much_and_given_back_in_the_end() {
        let budget = Arc::new(Budget::new(1 << 20));
        let pass = Pass::with_budget(budget.clone());
        pass.install();
        let (one, two) = (Held::new(pass.clone()), Held::new(pass.clone()));
        one.set(100);
        two.set(50);
        one.set(70);
        assert_eq!(budget.total(), 0);
        Pass::before_park();
        assert_eq!(budget.total(), 120);
        one.set(AT_ONCE + 70);
        assert_eq!(budget.total(), AT_ONCE + 120);
        drop((one, two));
        Pass::before_park();
        assert_eq!(budget.total(), 0);
        Pass::uninstall();
    }
}
