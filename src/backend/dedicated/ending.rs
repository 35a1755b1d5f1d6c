//! How a dedicated connection ends, and who is told.
//!
//! | what | after |
//! |---|---|
//! | an attempt to connect | `connect_timeout` |
//! | a request is not answered | its time, see [`Wait`]; the connection is lost with it |
//! | the link is lost | at once |
//! | the server is ejected, or was removed | at once; by order when what is in flight is answered; `drain_timeout` |
//! | it is given back and nobody else may have it | when what is queued was handed to the kernel |
//!
//! Invariant: a connection is lost once. In that moment, and never again, its keeper and its tenant are told; the link is
//! closed by the task, which may be in the middle of reading from it.

use std::rc::Rc;
use std::time::Instant;

use super::{Dedicated, Reason, Server, Wait};
use crate::io::Stream;

impl Dedicated {
    /// The task is over: so is the connection.
    pub(super) fn end(&self, reason: &Reason) {
        let (was_up, idle) = (self.wire.is_up(), self.in_flight() == 0);
        let link = self.wire.take_link();
        if !self.closing.get() {
            // What the kernel still holds of requests that fail now must not run later.
            link.iter().for_each(Stream::abort);
        }
        drop(link);
        if !self.lost.get() && !self.closing.get() {
            self.report(reason, was_up, idle);
        }
        self.lose(reason);
    }

    /// Counts how it ended, and tells of it if the server is to blame. `idle`: nothing was in flight.
    fn report(&self, reason: &Reason, was_up: bool, idle: bool) {
        let cells = &self.wire.cells;
        match reason {
            Reason::Ejected | Reason::Removed | Reason::Moved => return,
            Reason::Closed => cells.server_eof.increment(),
            _ => cells.server_err.increment(),
        }
        let server = self.server.borrow().clone();
        let Server { pool, name, .. } = &*server;
        if was_up && idle {
            return tracing::debug!(pool, server = name, %reason, "a dedicated connection was closed while idle");
        }
        cells.connection_errors.of(reason.trouble()).increment();
        let Some(keeper) = self.keeper.upgrade() else { return };
        let begun = self.begun.get();
        if reason.is_failure() && !(was_up && self.heard.get()) {
            keeper.not_connected(begun, was_up, reason);
        }
        match (reason.is_failure(), was_up) {
            (true, true) if keeper.is_news(begun) => keeper.health().failed(begun, reason, "connection lost"),
            (true, false) => keeper.health().failed(begun, reason, "cannot connect"),
            _ => tracing::debug!(pool, server = name, %reason, "dedicated connection given up"),
        }
    }

    /// It is over, for this reason: fails what is unanswered.
    pub(super) fn lose(&self, reason: &Reason) {
        if self.lost.replace(true) {
            return;
        }
        self.due.set(None);
        let unanswered = self.wire.clear();
        let tenancy = self.tenancy.take();
        if let Some(keeper) = self.keeper.upgrade() {
            keeper.lost(self.number);
        }
        if let Some((tenant, line)) = tenancy {
            let server = self.server.borrow().clone();
            let failure = server.failure(reason);
            for entry in unanswered.into_iter().map(|taken| taken.entry) {
                if entry.requester.is_some_and(|claim| claim.wanted) {
                    tenant.clone().fail(entry.ticket, &failure);
                }
            }
            tenant.lost(line, &failure);
        }
        self.wire.wake_waiting(&self.server());
        self.wire.wake();
    }

    /// Called by the worker's ticker: gives up what is overdue. True while something has a deadline.
    pub fn check_deadlines(&self, now: Instant) -> bool {
        if self.lost.get() {
            return false;
        }
        if let Some(reason) = self.wire.connects_too_long(&self.server(), now) {
            self.give_up(reason);
        } else if self.due.get().is_some_and(|due| due <= now) && !self.paused.get() {
            self.expire();
        }
        self.due.get().is_some() || self.wire.connect_by.get().is_some()
    }

    /// The oldest request has taken too long. What the server is in the middle of cannot be known, so the connection is over.
    fn expire(&self) {
        let Some((wait, due)) = self.oldest_wait().zip(self.due.get()) else { return };
        let limit = self.limit(wait).unwrap_or_default();
        let reason = Reason::TimedOut(limit.as_millis());
        self.wire.cells.server_timedout.increment();
        self.wire.cells.connection_errors.of(reason.trouble()).increment();
        if matches!(wait, Wait::Usual | Wait::Slow)
            && let Some(keeper) = self.keeper.upgrade()
        {
            keeper.health().failed(due.checked_sub(limit).unwrap_or(due), &reason, "no reply in time");
        }
        self.lose(&reason);
    }

    pub(super) fn give_up(&self, reason: Reason) {
        self.broken.borrow_mut().get_or_insert(reason);
        self.wire.wake();
    }

    /// Ends as soon as what is queued was handed to the kernel; nobody is told.
    pub fn close(self: &Rc<Self>) {
        self.tenancy.take();
        self.closing.set(true);
        self.due.set(None);
        self.wire.wake();
    }

    /// Ends now: fails what is unanswered.
    pub fn abandon(&self, reason: &Reason) {
        self.lose(reason);
    }

    /// The server was ejected by order although it is well: what is in flight is still answered, unless that may take long.
    pub fn release(&self) {
        match self.oldest_wait() {
            Some(Wait::Usual | Wait::Slow) if self.is_up() => self.released.set(true),
            _ => self.lose(&Reason::Ejected),
        }
    }
}
