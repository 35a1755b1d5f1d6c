//! What comes: replies go to the requests in their order, messages to the tenant at once.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::kind::{Kind, kind_of};
use super::{Answer, Claim, Dedicated, Entry, Expect, Reason, Tenant};
use crate::backend::signs::Signs;
use crate::io::Input;
use crate::protocol::Parsed;
use crate::telemetry::Stamp;

impl Dedicated {
    /// Hands on every whole reply and message.
    pub(super) fn consume(&self, input: &mut Input<'_>) -> Result<(), Reason> {
        let mut signs = Signs::default();
        while !input.bytes().is_empty() && !self.lost.get() {
            let length = match self.measure.borrow_mut().reply_or_push(input.bytes(), &self.server().limits)? {
                Parsed::Complete(length) => length,
                Parsed::Incomplete { need } => {
                    self.check_wanted(input.bytes())?;
                    input.incomplete(need);
                    break;
                }
            };
            self.wire.cells.response_bytes.add(length as u64);
            if self.is_message(&input.bytes()[..length])? {
                let payload = input.take(length);
                if let Some((tenant, line)) = self.tenancy() {
                    tenant.message(line, payload);
                }
                continue;
            }
            self.check_wanted(input.bytes())?;
            let Some(entry) = self.wire.in_flight.borrow_mut().answered() else { break };
            let Some(claim) = entry.requester else { break };
            self.note_answered(&entry, claim);
            let payload = input.take(length);
            signs.note(&self.server(), Expect::Resp, payload.as_slice(), true, || self.time_of(entry.queued));
            self.start_clock();
            if let (true, Some((tenant, _))) = (claim.wanted, self.tenancy()) {
                tenant.reply(entry.ticket, payload);
            }
        }
        if let Some(keeper) = self.keeper.upgrade() {
            if !self.heard.replace(true) {
                keeper.heard();
            }
            signs.tell(&*keeper.health());
        }
        Ok(())
    }

    /// Nothing may come that no request asked for but messages: it would be taken for the reply to the next request, which may
    /// be another tenant's.
    pub(super) fn check_wanted(&self, bytes: &[u8]) -> Result<(), Reason> {
        let asked = self.wire.in_flight.borrow().next().is_some() || self.is_subscribed();
        if asked || bytes.first() == Some(&b'>') {
            return Ok(());
        }
        Err(Reason::Protocol("a reply that no request asked for".into()))
    }

    fn tenancy(&self) -> Option<(Rc<dyn Tenant>, u32)> {
        self.tenancy.borrow().clone()
    }

    fn time_of(&self, stamp: Stamp) -> Instant {
        let (now, ago) = (self.wire.pass.now(), self.wire.pass.stamp().since(stamp));
        now.checked_sub(Duration::from_micros(ago.into())).unwrap_or(now)
    }

    /// Counts what was answered.
    fn note_answered(&self, entry: &Entry<Claim>, claim: Claim) {
        self.confirmed.set(0);
        let cells = &self.wire.cells;
        cells.responses.increment();
        let held_up = self.held_up.get();
        self.held_up.set(if claim.is_measured() { held_up.saturating_sub(1) } else { self.in_flight() });
        if claim.is_measured() && held_up == 0 && self.wire.pass.measures() {
            cells.latency.record(self.wire.pass.stamp().since(entry.written));
            cells.queue_latency.record(entry.written.since(entry.queued));
        }
    }

    /// Whether what has come answers no request, or not yet all of it.
    fn is_message(&self, whole: &[u8]) -> Result<bool, Reason> {
        let push = whole.first() == Some(&b'>');
        let in_flight = self.wire.in_flight.borrow();
        let confirmations = match in_flight.next().and_then(|entry| entry.requester) {
            Some(Claim { answer: Answer::Confirmations(count), .. }) => Some(count),
            _ => None,
        };
        if !push && !self.is_subscribed() && confirmations.is_none() {
            return Ok(false);
        }
        if push && self.tenancy.borrow().is_none() && !self.closing.get() {
            return Err(Reason::Protocol("a push on a connection without subscriptions".into()));
        }
        match kind_of(whole) {
            Kind::Message => Ok(true),
            Kind::Confirmation(family, count) => {
                let mut subscriptions = self.subscriptions.get();
                subscriptions[family as usize] = count;
                self.subscriptions.set(subscriptions);
                self.confirmed.set(self.confirmed.get() + u32::from(confirmations.is_some()));
                Ok(confirmations.is_none_or(|count| self.confirmed.get() < count))
            }
            Kind::Other => Ok(push),
        }
    }
}
