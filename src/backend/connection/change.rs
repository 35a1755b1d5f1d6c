//! What happens to a connection when its server is described anew, has other addresses, or is not wanted any more.
//!
//! | | the link | requests |
//! |---|---|---|
//! | other limits and times | stays | the next ones go by them |
//! | another address or login | *retires*: is answered out, then made anew | those not written wait for the new one |
//! | not used for long, and not wanted while it is not | retires, and is made anew with the next request | none wait |
//! | not wanted any more | *leaves*: is answered out, and is not made anew | all that wait are still sent and answered |
//! | not wanted, and out of time | ends | fail |

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, Reason, ServerHealth};
use crate::backend::Server;
use crate::backend::connect::{address, is_current};

impl Connection {
    /// Goes by another description of its server, and of its health, from now on.
    pub fn update(&self, server: Arc<Server>, health: Rc<dyn ServerHealth>) {
        let before = self.server.replace(server.clone());
        self.notice.follow(&server);
        *self.health.borrow_mut() = health;
        if before.max_reconnect_delay != server.max_reconnect_delay || !before.leads_to_same(&server) {
            self.recovery.start_anew(server.max_reconnect_delay);
            self.wait_until(None);
        }
        if before.leads_to_same(&server) {
            return;
        }
        if self.is_up() {
            self.follow();
        } else {
            // An attempt to connect to where the server was is called off, whatever else is about to end it; there may be
            // none.
            *self.broken.borrow_mut() = Some(Reason::Moved);
            self.wake();
        }
    }

    /// Lets the server answer what it was asked, then makes the connection anew for what comes after.
    pub fn retire(&self) {
        if self.is_up() {
            self.retiring.set(true);
            self.wake();
        }
    }

    /// Closes the link if it was not used for so long; the next request makes another one. How long until then, while there
    /// is a link.
    pub fn close_unused(&self, now: Instant, limit: Duration) -> Option<Duration> {
        if !self.is_up() {
            return None;
        }
        if self.in_flight() > 0 {
            return Some(limit);
        }
        let left = limit.saturating_sub(now.saturating_duration_since(self.heard.get()));
        if left.is_zero() {
            self.retire();
            return None;
        }
        Some(left)
    }

    /// Retires the link if a new one would lead elsewhere, or log in otherwise.
    pub fn follow(&self) {
        let stale = self.wire.look_at_link(|link| !is_current(&self.server().endpoint, link)).unwrap_or(false);
        let made_for = self.made_for.borrow();
        if stale || made_for.as_ref().is_some_and(|made_for| !made_for.leads_to_same(&self.server())) {
            self.retire();
        }
    }

    /// Where its link leads, or would if it were made now.
    pub fn address(&self) -> String {
        let of_link = self.wire.look_at_link(|link| address(&self.server().endpoint, Some(link)));
        of_link.unwrap_or_else(|| address(&self.server().endpoint, None))
    }

    /// Ends when all that was sent on it is answered. Nothing may be sent on it any more.
    pub fn leave(&self) {
        self.leaving.set(true);
        self.wake();
    }

    /// It has left.
    pub fn is_over(&self) -> bool {
        self.may_end() && !self.is_up()
    }

    /// Leaves at once: what was sent on it fails.
    pub fn end(&self) {
        self.leaving.set(true);
        if self.is_up() {
            self.disconnected(Reason::Removed);
        }
        self.fail_queued(&Reason::Removed);
        self.give_up(Reason::Removed);
    }

    /// What the link shows is news of the server as it is described now, not of where it was before.
    pub(super) fn is_telling(&self) -> bool {
        self.made_for.borrow().as_ref().is_none_or(|made_for| made_for.endpoint == self.server().endpoint)
    }

    /// Nobody waits for anything, or will.
    pub(super) fn may_end(&self) -> bool {
        self.leaving.get() && self.wire.in_flight.borrow().is_empty()
    }

    /// Not a byte of an unanswered request was written.
    pub(super) fn owes_nothing(&self) -> bool {
        self.wire.in_flight.borrow().next().is_none()
    }
}
