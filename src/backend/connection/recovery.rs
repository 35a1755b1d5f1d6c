//! What becomes of requests whose connection was lost or not made, and when it is tried again.
//!
//! | a request | the server stays | the server was ejected |
//! |---|---|---|
//! | not a byte of it written, connection lost | goes out on the next connection | offered to another server |
//! | not a byte of it written, no connection made | fails; waits while failures are left until the ejection | offered to another server |
//! | written, a read, for the first time, within the retry budget | goes out again on the next connection | offered to another server |
//! | written, anything else | fails: whether the server ran it cannot be known | fails |
//! | expired | is forgotten | is forgotten |
//!
//! What goes out again keeps its place in the order. After an attempt that failed the next one waits, each time longer;
//! meanwhile requests fail at once with the reason of that attempt, unless its failures will eject the server in the end. One attempt more is made when the wait is over if a
//! request was turned away meanwhile, or at once when another connection has heard from the server.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Connection, Entry, Failure, Lost, Measure, Outbound, Reason, Requester, Server, Ticket};
use crate::backend::in_flight::Taken;
use crate::health::Backoff;
use crate::io::{Payload, Stream};
use crate::telemetry::Fold;

/// Wait after the first failed attempt.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// Connections lost in a row, without having heard from the server, after which requests do not wait for the next one.
const UNHEARD: u32 = 2;

/// How a connection fares.
pub(super) struct Recovery {
    backoff: RefCell<Backoff>,
    /// No attempt before this.
    retry_at: Cell<Option<Instant>>,
    /// A request was turned away since the last attempt.
    wanted: Cell<bool>,
    /// The server's count of recoveries at the last attempt.
    recoveries: Cell<u64>,
    /// Why the last attempt failed; forgotten when the server is heard.
    reason: RefCell<Option<Reason>>,
    /// When the attempt that made the link began.
    begun: Cell<Option<Instant>>,
    /// Links made and lost since the server was last heard.
    unheard: Cell<u32>,
    /// Attempts that failed for want of something here.
    blameless: Fold,
}

impl Recovery {
    pub(super) fn new(max_delay: Duration) -> Self {
        let seed = RandomState::new().hash_one(std::process::id());
        Self {
            backoff: RefCell::new(Backoff::new(FIRST_DELAY.min(max_delay), max_delay, 2.0, 0.3, seed)),
            retry_at: Cell::new(None),
            wanted: Cell::new(false),
            recoveries: Cell::new(0),
            reason: RefCell::default(),
            begun: Cell::new(None),
            unheard: Cell::new(0),
            blameless: Fold::default(),
        }
    }

    pub(super) fn connected(&self, begun: Instant) {
        self.begun.set(Some(begun));
        self.unheard.set(self.unheard.get() + 1);
    }

    /// Nothing that was learnt applies any more.
    pub(super) fn start_anew(&self, max_delay: Duration) {
        let fresh = Self::new(max_delay);
        *self.backoff.borrow_mut() = fresh.backoff.into_inner();
        *self.reason.borrow_mut() = None;
        self.unheard.set(0);
    }

    pub(super) fn heard(&self) {
        if self.unheard.replace(0) > 0 {
            self.backoff.borrow_mut().reset();
            *self.reason.borrow_mut() = None;
        }
    }
}

/// What becomes of a request.
enum Fate {
    /// It was not written, and is as soon as there is a link.
    Stays,
    /// It was written, and is written again.
    Again,
    /// It is offered to another server.
    Offered,
    Fails,
}

/// A request that this connection has done with.
struct Gone {
    requester: Rc<dyn Requester>,
    ticket: Ticket,
    lost: Option<Lost>,
}

type Asked = Taken<Rc<dyn Requester>>;

impl Connection {
    /// No attempt to connect is to be made yet.
    pub(super) fn is_backing_off(&self) -> bool {
        let Some(until) = self.recovery.retry_at.get() else { return false };
        if self.wire.pass.now() < until && self.recovery.recoveries.get() == self.health().recoveries() {
            return true;
        }
        self.wait_until(None);
        false
    }

    /// No attempt to connect before this.
    pub(super) fn wait_until(&self, until: Option<Instant>) {
        match (self.recovery.retry_at.replace(until), until) {
            (None, Some(_)) => self.wire.cells.waiting.add(1),
            (Some(_), None) => self.wire.cells.waiting.sub(1),
            _ => {}
        }
    }

    /// Fails what is queued with the reason of the last attempt.
    pub(super) fn turn_away(&self) {
        if self.wire.in_flight.borrow().is_empty() {
            return;
        }
        self.recovery.wanted.set(true);
        self.wire.pass.watch_deadlines();
        let reason = self.last_reason();
        if !self.is_worth_waiting(&reason) {
            self.fail_queued(&reason);
        }
    }

    /// Why there is no connection.
    pub(super) fn last_reason(&self) -> Reason {
        self.recovery.reason.borrow().clone().unwrap_or(Reason::Ejected)
    }

    /// Nothing of what is queued was written, and after a few more failures like this one others may have its keys.
    fn is_worth_waiting(&self, reason: &Reason) -> bool {
        reason.is_failure() && !self.health().is_ejected() && self.health().may_be_ejected()
    }

    /// Tries again when the wait is over and somebody has asked. True while that is to come.
    pub(super) fn reconnect_when_due(&self, now: Instant) -> bool {
        let Some(until) = self.recovery.retry_at.get().filter(|_| self.recovery.wanted.get()) else { return false };
        if until <= now && !self.health().is_ejected() {
            self.wait_until(None);
            self.eager.set(true);
            self.wake();
            return false;
        }
        until > now
    }

    fn back_off(&self, reason: Reason) {
        let delay = self.recovery.backoff.borrow_mut().next();
        self.wait_until(Some(Instant::now() + delay));
        self.recovery.wanted.set(false);
        self.recovery.recoveries.set(self.health().recoveries());
        *self.recovery.reason.borrow_mut() = Some(reason);
    }

    pub(super) fn not_connected(&self, begun: Instant, reason: Reason) {
        match reason {
            Reason::Ejected => return self.fail_queued(&self.last_reason()),
            // What is queued goes to where the server is now; or nothing is queued.
            Reason::Moved | Reason::Removed => return,
            _ => {}
        }
        self.wire.cells.server_err.increment();
        self.wire.cells.connection_errors.of(reason.trouble()).increment();
        self.back_off(reason.clone());
        if reason.is_failure() {
            self.health().failed(begun, &reason, "cannot connect");
        } else if let Some(attempts) = self.recovery.blameless.tell(begun) {
            let Server { pool, name: server, .. } = &*self.server();
            tracing::warn!(pool, server, %reason, attempts, "cannot connect, through no fault of the server");
        }
        let waited = !self.wire.in_flight.borrow().is_empty();
        self.recovery.wanted.set(waited);
        if waited {
            self.wire.pass.watch_deadlines();
        }
        if !self.is_worth_waiting(&reason) {
            self.fail_queued(&reason);
        }
    }

    pub(super) fn disconnected(&self, reason: Reason) {
        let link = self.wire.take_link();
        if reason != Reason::Moved {
            // What the kernel still holds of requests that fail now must not run later.
            link.iter().for_each(Stream::abort);
        }
        drop(link);
        self.wire.facts.doubt();
        *self.measure.borrow_mut() = Measure::default();
        self.known.clear();
        self.takes_transactions.set(false);
        self.roused.set(None);
        let cells = &self.wire.cells;
        match reason {
            Reason::Closed => cells.server_eof.increment(),
            Reason::Moved => {}
            _ => cells.server_err.increment(),
        }
        let description = self.server.borrow().clone();
        let Server { pool, name: server, .. } = &*description;
        if reason == Reason::Closed && self.wire.in_flight.borrow().is_empty() {
            tracing::debug!(pool, server, "server closed an idle connection");
            // Of a request that was answered before all of it was written, the rest is left.
            self.sort(None, |_| Fate::Fails);
            return self.wake_waiting();
        }
        if reason.is_failure() && self.is_telling() {
            let begun = self.recovery.begun.get().unwrap_or_else(Instant::now);
            self.health().failed(begun, &reason, "connection lost");
        } else {
            tracing::debug!(pool, server, %reason, "connection given up");
        }
        // A server that takes connections only to drop them is not asked in circles.
        let in_circles = reason.is_failure() && self.recovery.unheard.get() >= UNHEARD;
        if in_circles {
            self.back_off(reason.clone());
        }
        if !matches!(reason, Reason::Ejected | Reason::Moved | Reason::Removed) {
            cells.connection_errors.of(reason.trouble()).increment();
        }
        let (ejected, now) = (self.health().is_ejected(), Instant::now());
        let for_good = in_circles || reason == Reason::Removed;
        let gone = self.sort(Some(&reason), |asked| match ejected || !for_good {
            true => self.fate_of_lost(asked, ejected, now),
            false => Fate::Fails,
        });
        self.tell(gone, &reason);
    }

    fn fate_of_lost(&self, asked: &Asked, ejected: bool, now: Instant) -> Fate {
        let entry = &asked.entry;
        if entry.expired {
            return Fate::Fails;
        }
        if asked.written == 0 {
            return if ejected { Fate::Offered } else { Fate::Stays };
        }
        // With less than that left it would time out at a server that is well.
        let needed = self.server().timeout.unwrap_or_default() / 8;
        let in_time = entry.deadline.is_none_or(|deadline| deadline > now + needed);
        if !entry.repeatable || entry.attempts > 0 || !in_time {
            return Fate::Fails;
        }
        if !self.health().may_repeat() {
            self.wire.cells.server_retries_denied.increment();
            return Fate::Fails;
        }
        self.wire.cells.server_retries.increment();
        if ejected { Fate::Offered } else { Fate::Again }
    }

    /// Fails everything that is queued; nothing of it was written.
    pub(super) fn fail_queued(&self, reason: &Reason) {
        let ejected = self.health().is_ejected();
        let gone = self.sort(Some(reason), |asked| {
            let untouched = asked.written == 0 && !asked.entry.expired;
            if ejected && untouched { Fate::Offered } else { Fate::Fails }
        });
        self.tell(gone, reason);
    }

    pub(super) fn forget_expired(&self) {
        // Their requesters have been told.
        self.sort(None, |asked| if asked.entry.expired { Fate::Fails } else { Fate::Stays });
        self.wake_waiting();
        if self.may_end() {
            self.wake();
        }
    }

    /// Takes both queues apart and puts back, in their order, those requests that remain. `reason`: why the others fail;
    /// `None` if it is known or nobody waits.
    fn sort(&self, reason: Option<&Reason>, fate: impl Fn(&Asked) -> Fate) -> Vec<Gone> {
        let (orphaned, all) = self.wire.in_flight.borrow_mut().take_apart();
        let mut out = self.wire.out.replace(Outbound::keeping());
        let mut copies = self.replay.take();
        out.advance(orphaned);
        let mut gone = Vec::new();
        for asked in all {
            let fate = fate(&asked);
            let copy = copies.front(asked.entry.kept).to_vec();
            copies.release(asked.entry.kept);
            let unwritten = out.take(asked.bytes - asked.written);
            match fate {
                Fate::Stays if asked.entry.script && asked.written == 0 => {
                    let eval = self.known.scripts().as_eval(unwritten.as_slice());
                    let bytes = eval.as_ref().map_or(asked.bytes, Vec::len);
                    let mut entry = asked.entry;
                    entry.script = eval.is_none();
                    let whole = eval.map_or(unwritten, |eval| Payload::Owned(eval.into()));
                    self.put_back(entry, &copy, |out| out.push(whole, &self.wire.pass), bytes);
                }
                Fate::Stays => {
                    self.put_back(asked.entry, &copy, |out| out.push(unwritten, &self.wire.pass), asked.bytes)
                }
                Fate::Again => {
                    let mut entry = asked.entry;
                    entry.attempts += 1;
                    let whole = Payload::Borrowed(&copy);
                    self.put_back(entry, &copy, |out| out.push(whole, &self.wire.pass), asked.bytes);
                }
                Fate::Offered | Fate::Fails => {
                    if let (Fate::Fails, Some(reason)) = (&fate, reason) {
                        self.notice_lost(&asked, &copy, reason.trouble());
                    }
                    let entry = asked.entry;
                    let Some(requester) = entry.requester else { continue };
                    let lost = matches!(fate, Fate::Offered).then(|| Lost {
                        bytes: if asked.written == 0 { unwritten.into_bytes() } else { copy.into() },
                        expect: entry.expect,
                        repeatable: entry.repeatable,
                        attempts: entry.attempts,
                        deadline: entry.deadline,
                    });
                    gone.push(Gone { requester, ticket: entry.ticket, lost });
                }
            }
        }
        out.clear(&self.wire.pass);
        self.wire.count_queues();
        gone
    }

    fn put_back(
        &self,
        mut entry: Entry<Rc<dyn Requester>>,
        copy: &[u8],
        write: impl FnOnce(&mut Outbound),
        bytes: usize,
    ) {
        write(&mut self.wire.out.borrow_mut());
        entry.kept = if copy.is_empty() { 0 } else { self.replay.borrow_mut().keep(copy) };
        entry.repeatable &= entry.kept > 0;
        self.wire.in_flight.borrow_mut().push(entry, bytes);
    }

    fn tell(&self, gone: Vec<Gone>, reason: &Reason) {
        let server = self.server.borrow().clone();
        for Gone { requester, ticket, lost } in gone {
            let failure = Failure { lost: lost.as_ref(), ..server.failure(reason) };
            requester.fail(ticket, &failure);
        }
        self.wake_waiting();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_connections_wait_in_step() {
        let wait = |_| Recovery::new(Duration::from_secs(1)).backoff.borrow_mut().next();
        let waits: std::collections::HashSet<Duration> = (0..10).map(wait).collect();
        assert_eq!(waits.len(), 10, "{waits:?}");
    }
}
