//! One server's state. Every change goes through [`Group`](super::Group), which keeps the guard.
//!
//! Invariants:
//! - An episode is one failure: a failure counts only if what failed began after the last counted one was noticed. A
//!   server that dies under a hundred connections has failed once; the connection refused after that is the second time.
//! - Ejected → anything else happens at a good probe (or the flush that follows it), or by somebody's order, and nowhere
//!   else: not before `until`, not with fewer than `probe_successes` good probes in a row, the last of them just now.

use std::time::{Duration, Instant};

use super::backoff::grown;
use super::{Jitter, Policy, Report, Standing, Transition};

/// Each ejection soon after another lasts so many times as long.
const GROWTH: f64 = 1.5;
/// The longest ejection, before jitter; a longer `retry_timeout` stands.
const LONGEST: Duration = Duration::from_secs(600);
/// The shares of a returning server: 10, 20, ... 90 hundredths.
const STEPS: u32 = 9;

/// Failures in a row.
#[derive(Debug, Clone, Default)]
struct Row {
    count: u32,
    /// Of the first one; meaningless while there is none.
    since: Option<Instant>,
}

impl Row {
    fn add(&mut self, now: Instant) {
        if self.count == 0 {
            self.since = Some(now);
        }
        self.count = self.count.saturating_add(1);
    }
}

#[derive(Debug, Clone)]
enum State {
    Live,
    Ejected {
        until: Instant,
        /// Good probes in a row, and when the first of them was.
        good: u32,
        good_since: Option<Instant>,
        /// At the last good probe nothing was missing but the flush.
        awaits_flush: bool,
        /// That it could not be emptied has been said.
        said: bool,
        /// Somebody wanted it, while it was well.
        by_order: bool,
        /// It does not follow the settings.
        fixed: bool,
    },
    Returning {
        /// In [`STEPS`], counted from 1.
        step: u32,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Server {
    state: State,
    /// Failures of traffic: connections and requests.
    traffic: Row,
    probes: Row,
    /// When the last counted failure of traffic was noticed; or the return, if that was later.
    noticed: Option<Instant>,
    ejected_at: Option<Instant>,
    why: String,
    /// How long the last ejection was to last.
    sentence: Duration,
    /// When it last left `Ejected`.
    returned_at: Option<Instant>,
    /// Ejections that are not forgotten: for every time as long as its last ejection that a server does well, one is.
    recent: u32,
    ejections: u64,
    /// When it was last said that it stays only because of the guard, if the same servers are still ejected.
    kept: Option<Instant>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            state: State::Live,
            traffic: Row::default(),
            probes: Row::default(),
            noticed: None,
            ejected_at: None,
            why: String::new(),
            sentence: Duration::ZERO,
            returned_at: None,
            recent: 0,
            ejections: 0,
            kept: None,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.state {
            State::Live => Standing::Live,
            State::Returning { step } => Standing::Returning((step * 100 / (STEPS + 1)) as u8),
            State::Ejected { .. } => Standing::Ejected,
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        matches!(self.state, State::Ejected { .. })
    }

    pub(super) fn ejections(&self) -> u64 {
        self.ejections
    }

    /// Failures of traffic since the last good reply.
    pub(super) fn is_suspect(&self) -> bool {
        self.traffic.count > 0
    }

    /// Counts a failure of traffic; true if the server is to be ejected for it.
    pub(super) fn failed(&mut self, begun: Instant, now: Instant, policy: &Policy) -> bool {
        if self.is_ejected() || self.noticed.is_some_and(|noticed| begun <= noticed) {
            return false;
        }
        self.noticed = Some(now);
        self.traffic.add(now);
        self.is_through(self.traffic.count, policy)
    }

    pub(super) fn answered(&mut self) {
        self.traffic.count = 0;
    }

    /// Counts a bad probe; true if the server is to be ejected for it.
    pub(super) fn probe_failed(&mut self, now: Instant, policy: &Policy) -> bool {
        if let State::Ejected { good, good_since, awaits_flush, .. } = &mut self.state {
            (*good, *good_since, *awaits_flush) = (0, None, false);
            return false;
        }
        self.probes.add(now);
        self.is_through(self.probes.count, policy)
    }

    fn is_through(&self, failures: u32, policy: &Policy) -> bool {
        matches!(self.state, State::Returning { .. }) || failures >= policy.failure_limit
    }

    /// A good probe. The last one that was missing ends the ejection, if the server need not be emptied first.
    pub(super) fn probe_succeeded(&mut self, now: Instant, policy: &Policy) -> Option<Transition> {
        self.probes.count = 0;
        let State::Ejected { until, good, good_since, awaits_flush, .. } = &mut self.state else { return None };
        *good = good.saturating_add(1);
        let healthy = now.saturating_duration_since(*good_since.get_or_insert(now));
        let ready = now >= *until && *good >= policy.probe_successes && healthy >= policy.quarantine;
        *awaits_flush = ready && policy.flush;
        (ready && !policy.flush).then(|| self.comes_back(now, policy))
    }

    pub(super) fn wants_flush(&self) -> bool {
        matches!(self.state, State::Ejected { awaits_flush: true, .. })
    }

    /// It was emptied, or could not be: then the next good probe has it tried again.
    pub(super) fn flushed(&mut self, result: Result<(), &str>, now: Instant, policy: &Policy) -> Option<Transition> {
        let since = self.ejected_at.unwrap_or(now);
        let State::Ejected { awaits_flush, said, .. } = &mut self.state else { return None };
        if !std::mem::take(awaits_flush) {
            // A probe has failed meanwhile: who knows what it holds after that.
            return None;
        }
        match result {
            Ok(()) => Some(self.comes_back(now, policy)),
            Err(why) => (!std::mem::replace(said, true)).then(|| Transition::NotFlushed { why: why.to_owned(), since }),
        }
    }

    /// Ejects it. The caller has made sure that it may be.
    pub(super) fn eject(&mut self, now: Instant, why: &str, policy: &Policy, jitter: &mut Jitter) -> Transition {
        let since = self.failing_since(now);
        let well = self.returned_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let forgotten = well.as_nanos().checked_div(self.sentence.as_nanos()).unwrap_or(0);
        self.recent = self.recent.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        let sentence = grown(policy.retry_timeout, GROWTH, self.recent).min(LONGEST.max(policy.retry_timeout));
        self.sentence = sentence + jitter.below(sentence / 5);
        self.recent = self.recent.saturating_add(1);
        self.ejections += 1;
        self.ejected_at = Some(now);
        why.clone_into(&mut self.why);
        self.traffic.count = 0;
        self.probes.count = 0;
        self.kept = None;
        let until = now + self.sentence;
        self.state = State::Ejected {
            until,
            good: 0,
            good_since: None,
            awaits_flush: false,
            said: false,
            by_order: false,
            fixed: false,
        };
        Transition::Ejected { why: why.to_owned(), since, until }
    }

    /// Ejects it for so long by somebody's order, which says nothing about the server: its next ejection is no longer for it.
    pub(super) fn send_away(&mut self, now: Instant, time: Duration, why: &str) -> Transition {
        let by_order = !self.is_ejected();
        if by_order {
            self.ejections += 1;
            self.ejected_at = Some(now);
        }
        why.clone_into(&mut self.why);
        self.traffic.count = 0;
        self.probes.count = 0;
        self.kept = None;
        let until = now + time;
        self.state = State::Ejected {
            until,
            good: 0,
            good_since: None,
            awaits_flush: false,
            said: false,
            by_order,
            fixed: true,
        };
        Transition::Ejected { why: why.to_owned(), since: now, until }
    }

    /// Ends its ejection by somebody's order; if it must be emptied before, at the flush.
    pub(super) fn call_back(&mut self, now: Instant, policy: &Policy) -> Option<Transition> {
        let State::Ejected { until, good, awaits_flush, .. } = &mut self.state else { return None };
        if policy.flush {
            // Should the flush fail, a good probe has it tried again.
            (*until, *good, *awaits_flush) = (now, policy.probe_successes, true);
            return None;
        }
        Some(self.comes_back(now, policy))
    }

    /// A shorter `retry_timeout` shortens the ejection that it is in; a longer one counts from the next.
    pub(super) fn change_retry_timeout(&mut self, before: Duration, after: Duration) {
        if after < before {
            self.sentence = self.sentence.mul_f64(after.as_secs_f64() / before.as_secs_f64());
            if let (State::Ejected { until, fixed: false, .. }, Some(at)) = (&mut self.state, self.ejected_at) {
                *until = at + self.sentence;
            }
        }
    }

    /// The guard keeps it. Says so if that is news: not at each failure, and not at each relapse of one that flaps.
    pub(super) fn keep(&mut self, now: Instant, why: &str, policy: &Policy) -> Option<Transition> {
        let since = self.failing_since(now);
        let old = self.kept.is_some_and(|said| since <= said || now < said + policy.retry_timeout);
        if old {
            return None;
        }
        self.kept = Some(now);
        Some(Transition::Kept { why: why.to_owned(), since })
    }

    /// Other servers are ejected than before: if the guard keeps this one still, that is news again.
    pub(super) fn forget_kept(&mut self) {
        self.kept = None;
    }

    /// The first failure of the rows that there are.
    fn failing_since(&self, now: Instant) -> Instant {
        let rows = [&self.traffic, &self.probes].into_iter().filter(|row| row.count > 0);
        rows.filter_map(|row| row.since).min().unwrap_or(now)
    }

    fn comes_back(&mut self, now: Instant, policy: &Policy) -> Transition {
        let since = self.ejected_at.unwrap_or(now);
        self.returned_at = Some(now);
        // What was begun before is no evidence against it.
        self.noticed = Some(now);
        self.traffic.count = 0;
        if policy.slow_start.is_zero() {
            self.state = State::Live;
            return Transition::Readmitted { since };
        }
        self.state = State::Returning { step: 1 };
        Transition::Returning { share: self.share(), since, until: now + policy.slow_start }
    }

    fn share(&self) -> u8 {
        match self.standing() {
            Standing::Live => 100,
            Standing::Returning(share) => share,
            Standing::Ejected => 0,
        }
    }

    /// The slow start goes on.
    pub(super) fn tick(&mut self, now: Instant, policy: &Policy) -> Option<Transition> {
        let (State::Returning { step }, Some(at)) = (&mut self.state, self.returned_at) else { return None };
        if now >= at + policy.slow_start {
            self.state = State::Live;
            return Some(Transition::Readmitted { since: self.ejected_at.unwrap_or(at) });
        }
        let before = *step;
        while *step < STEPS && now >= at + policy.slow_start / STEPS * *step {
            *step += 1;
        }
        (*step != before).then(|| Transition::Grown { share: self.share() })
    }

    pub(super) fn next_tick(&self, policy: &Policy) -> Option<Instant> {
        let (State::Returning { step }, Some(at)) = (&self.state, self.returned_at) else { return None };
        let wait = if *step < STEPS { policy.slow_start / STEPS * *step } else { policy.slow_start };
        Some(at + wait)
    }

    pub(super) fn report(&self, policy: &Policy) -> Report {
        let (since, until) = match self.state {
            State::Live => (self.returned_at, None),
            State::Ejected { until, .. } => (self.ejected_at, Some(until)),
            State::Returning { .. } => (self.returned_at, self.returned_at.map(|at| at + policy.slow_start)),
        };
        Report {
            standing: self.standing(),
            failures: self.traffic.count.max(self.probes.count),
            ejected_at: self.ejected_at,
            why: self.why.clone(),
            since,
            until,
            by_order: matches!(self.state, State::Ejected { by_order: true, .. }),
            wanted: matches!(self.state, State::Ejected { fixed: true, .. }),
            ejections: self.ejections,
        }
    }
}
