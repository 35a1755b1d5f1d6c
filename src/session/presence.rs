//! What a session has to do with the others of its pool: its place on the roll, the gate that CLIENT PAUSE shuts, and its
//! user, who may be gone after a reload.

use std::time::{Duration, Instant};

use super::clients::Pause;
use super::{Dialect, Session, Shared, Step};
use crate::telemetry::Ending;

impl Shared {
    /// Whether a request of some session waits at the gate of its pool.
    pub fn holds(&self) -> bool {
        self.held.get() > 0
    }
}

impl Session {
    /// Goes by the newest rights of the client's user. `false`: there is no such user any more, and the session ends when all
    /// that is owed is sent.
    #[inline]
    pub(super) fn follow_users(&self) -> bool {
        self.followed.get() || self.look_up_user()
    }

    #[cold]
    fn look_up_user(&self) -> bool {
        let pool = self.pool();
        let known = match &mut *self.dialect.borrow_mut() {
            Dialect::Redis(state) => state.follow(&pool.settings, &self.card),
            Dialect::Memcached(_) => true,
        };
        if !known {
            self.ends_for(Ending::UserRemoved);
            // Nobody waits until something happens at a server.
            self.gone.set(self.gone.get() || self.stalled.get());
            self.closing.set(true);
        }
        self.followed.set(known);
        known
    }

    /// It has ended.
    pub(super) fn take_off_the_roll(&self) {
        self.set_held(false);
        self.shared.common.roll.leave(self.pool_id(), self.id);
    }

    /// Whether a request that `writes` or not must wait. Of those that are to end at once nobody waits.
    pub(super) fn is_held_back(&self, writes: bool) -> bool {
        let held = match self.gate.holds(self.shared.pass.now()) {
            Some(Pause::All) => true,
            Some(Pause::Writes) => writes,
            None => false,
        };
        held && !self.shared.draining.get() && !self.leaving.get()
    }

    /// The request at hand waits until the gate opens.
    pub(super) fn wait_at_the_gate(&self) -> Step {
        let waker = self.waker.borrow();
        let waits = waker.as_ref().is_some_and(|waker| self.gate.wait(self.id, waker));
        self.set_held(waits);
        if waits {
            self.shared.pass.watch_deadlines();
        } else {
            // It has just opened.
            waker.iter().for_each(|waker| waker.wake_by_ref());
        }
        Step::NoRoom
    }

    /// The request at hand waits no more.
    pub(super) fn set_held(&self, held: bool) {
        if self.held.replace(held) == held {
            return;
        }
        let all = &self.shared.held;
        all.set(if held { all.get() + 1 } else { all.get() - 1 });
        if !held {
            self.gate.forget(self.id);
        }
    }

    /// Called by the worker at its ticks: wakes the session if its time at the gate is over; otherwise how much is left.
    pub fn check_gate(&self, now: Instant) -> Option<Duration> {
        if !self.held.get() {
            return None;
        }
        let left = self.gate.left(now);
        if left.is_none() {
            self.wake();
        }
        left
    }
}
