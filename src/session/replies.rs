//! The replies of one session: a slot for each unanswered request, in the order of the requests, and the out buffer.
//!
//! ```text
//!  requests   7        8         9        10
//!  slots    Waiting  Ready    Merging  Waiting      reply 7 arrives: 7 and 8 go out, 9 becomes the head
//!             ▲ head
//! ```
//! Invariants:
//! - request `n` has slot `n - first`; every slot is filled once, by whoever took its number;
//! - the head is never `Ready`: what can go out has gone to the out buffer. So bytes leave in the order of the requests.

use std::collections::VecDeque;

use bytes::Bytes;

use super::merge::{Merge, Part};
use super::meter::{Asked, Meter};
use super::window::Window;
use crate::backend::Ticket;
use crate::io::{LARGE, Outbound, Pass, Payload};
use crate::protocol::outcome_of;
use crate::telemetry::Outcome;

enum Slot {
    /// Nothing yet.
    Waiting,
    /// Some fragments are still to come; those that have come are so many bytes.
    Merging(Box<dyn Merge>, usize),
    /// Lies in the stash.
    Ready { start: usize, len: usize },
    /// Ready, kept by reference.
    Large(Bytes),
}

/// The place of one reply.
struct Place {
    slot: Slot,
    asked: Asked,
    /// What became of the request, as far as it is known: of several fragments the worst.
    outcome: Outcome,
}

/// The unanswered requests and the unsent replies of one session.
#[derive(Default)]
pub struct Replies {
    slots: VecDeque<Place>,
    /// The number of the request whose slot is the head.
    first: u64,
    /// Replies that came before their turn; those in use belong to `Ready` slots.
    stash: Vec<u8>,
    /// Bytes of the stash that are in use.
    stashed: usize,
    /// Bytes kept by reference in slots.
    large: usize,
    /// Bytes of fragments that wait for others.
    parts: usize,
    /// Slots that nothing, or not everything, has come for.
    due: usize,
    window: Window,
    /// `None`: nothing is counted any more.
    meter: Option<Meter>,
    pub out: Outbound,
}

/// A slot queue that grew beyond this is given back when it is empty.
const KEEP_SLOTS: usize = 64;
/// The stash is compacted when more than this lies unused in it, in bytes.
const STASH_SLACK: usize = 64 * 1024;

impl Replies {
    /// Of a session that may hold `limit` bytes.
    pub fn new(limit: usize, meter: Meter) -> Self {
        Self { window: Window::new(limit), meter: Some(meter), ..Self::default() }
    }

    /// Requests without a reply in the out buffer.
    pub fn unanswered(&self) -> usize {
        self.slots.len()
    }

    /// Bytes held for the client.
    pub fn bytes(&self) -> usize {
        self.out.len() + self.stashed + self.large + self.parts
    }

    /// Whether one more reply may be asked for when the session may hold `limit` bytes.
    pub fn admits(&self, limit: usize) -> bool {
        self.window.admits(self.bytes(), self.due, limit)
    }

    /// No other request came after the one with this ticket.
    pub fn is_newest(&self, ticket: Ticket) -> bool {
        ticket.sequence + 1 == self.first + self.slots.len() as u64
    }

    /// Nothing is owed and nothing is unsent.
    pub fn is_settled(&self) -> bool {
        self.slots.is_empty() && self.out.is_empty()
    }

    /// Takes the next number, for a request that one server answers.
    pub fn reserve(&mut self, asked: Asked) -> Ticket {
        self.due += 1;
        self.push(Slot::Waiting, asked, Outcome::Ok)
    }

    /// Takes the next number, for a request that several servers answer.
    pub fn reserve_merge(&mut self, asked: Asked, merge: Box<dyn Merge>) -> Ticket {
        self.due += 1;
        self.push(Slot::Merging(merge, 0), asked, Outcome::Ok)
    }

    fn push(&mut self, slot: Slot, asked: Asked, outcome: Outcome) -> Ticket {
        let sequence = self.first + self.slots.len() as u64;
        self.slots.push_back(Place { slot, asked, outcome });
        Ticket { sequence, part: 0 }
    }

    /// Answers the next request at once. `judge` says of the answer what the request was and what became of it.
    pub fn answer(
        &mut self,
        pass: &Pass,
        judge: impl FnOnce(&[u8]) -> (Asked, Outcome),
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.slots.is_empty() {
            self.first += 1;
            let out = self.out.tail(pass);
            let start = out.len();
            write(out);
            let (asked, outcome) = judge(&out[start..]);
            self.count(asked, outcome, pass);
        } else {
            let start = self.stash.len();
            let ready = self.stash(pass, write);
            let (asked, outcome) = judge(&self.stash[start..]);
            self.push(ready, asked, outcome);
            self.compact();
        }
    }

    /// A reply has had its turn.
    #[inline]
    fn count(&self, asked: Asked, outcome: Outcome, pass: &Pass) {
        if let Some(meter) = &self.meter {
            meter.done(asked, outcome, pass);
        }
    }

    fn stash(&mut self, pass: &Pass, write: impl FnOnce(&mut Vec<u8>)) -> Slot {
        if self.stash.capacity() == 0 {
            self.stash = pass.take_buffer();
        }
        let start = self.stash.len();
        write(&mut self.stash);
        let len = self.stash.len() - start;
        self.stashed += len;
        // An empty reply lies nowhere: the stash may be given back while it waits.
        if len == 0 { Slot::Large(Bytes::new()) } else { Slot::Ready { start, len } }
    }

    /// Puts a server's reply in its place; everything whose turn has come goes to the out buffer.
    pub fn deliver(&mut self, ticket: Ticket, payload: Payload<'_>, pass: &Pass) {
        self.settle(ticket, Ok(payload), pass);
    }

    /// Puts an error, a whole message of the client's protocol, in the place of a server's reply. False: another fragment
    /// of the request has failed before.
    pub fn fail(&mut self, ticket: Ticket, error: &[u8], pass: &Pass) -> bool {
        let place = self.slots.get(ticket.sequence.wrapping_sub(self.first) as usize);
        let first = place.is_none_or(|place| place.outcome != Outcome::Failed);
        self.settle(ticket, Err(error), pass);
        first
    }

    fn settle(&mut self, ticket: Ticket, result: Result<Payload<'_>, &[u8]>, pass: &Pass) {
        let index = ticket.sequence.wrapping_sub(self.first) as usize;
        let Some(place) = self.slots.get_mut(index) else {
            return debug_assert!(false, "a reply for a request that nobody made, or that has one: {ticket:?}");
        };
        if result.is_err() {
            place.outcome = Outcome::Failed;
        }
        match &mut place.slot {
            Slot::Waiting => self.fill(index, result.unwrap_or_else(Payload::Borrowed), pass),
            Slot::Merging(merge, held) => {
                let part = match result {
                    Ok(payload) => Part::Reply(payload.into_bytes()),
                    Err(error) => Part::Error(Bytes::copy_from_slice(error)),
                };
                let whole = merge.parts().accept(ticket.part as usize, part);
                let before = std::mem::replace(held, merge.parts().bytes());
                self.parts = self.parts - before + *held;
                if whole {
                    let mut buffer = pass.take_buffer();
                    merge.finish(&mut buffer);
                    self.parts -= *held;
                    self.fill_and_recycle(index, buffer, pass);
                }
            }
            _ => debug_assert!(false, "a reply for a request that has one: {ticket:?}"),
        }
    }

    fn fill_and_recycle(&mut self, index: usize, buffer: Vec<u8>, pass: &Pass) {
        if buffer.len() >= LARGE {
            self.fill(index, Payload::Owned(buffer.into()), pass);
        } else {
            self.fill(index, Payload::Borrowed(&buffer), pass);
            pass.give_buffer(buffer);
        }
    }

    fn fill(&mut self, index: usize, payload: Payload<'_>, pass: &Pass) {
        self.due -= 1;
        self.window.observe(payload.as_slice().len());
        let Some(place) = self.slots.get_mut(index) else { return };
        if pass.measures() && place.outcome != Outcome::Failed {
            place.outcome = outcome_of(payload.as_slice());
        }
        if index == 0 {
            let (asked, outcome) = (place.asked, place.outcome);
            self.count(asked, outcome, pass);
            self.slots.pop_front();
            self.first += 1;
            self.out.push(payload, pass);
            self.advance(pass);
            return;
        }
        self.slots[index].slot = match payload {
            Payload::Owned(bytes) if bytes.len() >= LARGE => {
                self.large += bytes.len();
                Slot::Large(bytes)
            }
            other => self.stash(pass, |stash| stash.extend_from_slice(other.as_slice())),
        };
        self.compact();
    }

    /// Moves the ready head slots to the out buffer.
    fn advance(&mut self, pass: &Pass) {
        while let Some(place) = self.slots.front_mut() {
            match &mut place.slot {
                Slot::Ready { start, len } => {
                    let (start, len) = (*start, *len);
                    self.out.tail(pass).extend_from_slice(&self.stash[start..start + len]);
                    self.stashed -= len;
                }
                Slot::Large(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.large -= bytes.len();
                    self.out.push(Payload::Owned(bytes), pass);
                }
                _ => break,
            }
            if let Some(Place { asked, outcome, .. }) = self.slots.pop_front() {
                self.count(asked, outcome, pass);
            }
            self.first += 1;
        }
        if self.stashed == 0 && self.stash.capacity() > 0 {
            pass.give_buffer(std::mem::take(&mut self.stash));
        }
        if self.slots.is_empty() && self.slots.capacity() > KEEP_SLOTS {
            self.slots = VecDeque::new();
        }
        self.compact();
    }

    /// Keeps the stash in proportion to what is in use: a client that always has one reply out of turn must not make it
    /// grow for ever.
    fn compact(&mut self) {
        if self.stash.len() < 2 * self.stashed + STASH_SLACK {
            return;
        }
        let mut compacted = Vec::with_capacity(self.stashed);
        for place in &mut self.slots {
            if let Slot::Ready { start, len } = &mut place.slot {
                let moved = compacted.len();
                compacted.extend_from_slice(&self.stash[*start..*start + *len]);
                *start = moved;
            }
        }
        debug_assert_eq!(compacted.len(), self.stashed);
        self.stash = compacted;
    }
}

#[cfg(test)]
mod tests;
