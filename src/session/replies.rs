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
use super::window::Window;
use crate::backend::Ticket;
use crate::io::{LARGE, Outbound, Pass, Payload};

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

/// The unanswered requests and the unsent replies of one session.
#[derive(Default)]
pub struct Replies {
    slots: VecDeque<Slot>,
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
    pub out: Outbound,
}

/// A slot queue that grew beyond this is given back when it is empty.
const KEEP_SLOTS: usize = 64;
/// The stash is compacted when more than this lies unused in it, in bytes.
const STASH_SLACK: usize = 64 * 1024;

impl Replies {
    /// Of a session that may hold `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { window: Window::new(limit), ..Self::default() }
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

    /// Nothing is owed and nothing is unsent.
    pub fn is_settled(&self) -> bool {
        self.slots.is_empty() && self.out.is_empty()
    }

    /// Takes the next number, for a request that one server answers.
    pub fn reserve(&mut self) -> Ticket {
        self.due += 1;
        self.push(Slot::Waiting)
    }

    /// Takes the next number, for a request that several servers answer.
    pub fn reserve_merge(&mut self, merge: Box<dyn Merge>) -> Ticket {
        self.due += 1;
        self.push(Slot::Merging(merge, 0))
    }

    fn push(&mut self, slot: Slot) -> Ticket {
        let sequence = self.first + self.slots.len() as u64;
        self.slots.push_back(slot);
        Ticket { sequence, part: 0 }
    }

    /// Answers the next request at once.
    pub fn answer(&mut self, pass: &Pass, write: impl FnOnce(&mut Vec<u8>)) {
        if self.slots.is_empty() {
            self.first += 1;
            write(self.out.tail(pass));
        } else {
            let ready = self.stash(pass, write);
            self.push(ready);
            self.compact();
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

    /// Puts an error, a whole message of the client's protocol, in the place of a server's reply.
    pub fn fail(&mut self, ticket: Ticket, error: &[u8], pass: &Pass) {
        self.settle(ticket, Err(error), pass);
    }

    fn settle(&mut self, ticket: Ticket, result: Result<Payload<'_>, &[u8]>, pass: &Pass) {
        let index = ticket.sequence.wrapping_sub(self.first) as usize;
        match self.slots.get_mut(index) {
            Some(Slot::Waiting) => self.fill(index, result.unwrap_or_else(Payload::Borrowed), pass),
            Some(Slot::Merging(merge, held)) => {
                let part = match result {
                    Ok(payload) => Part::Reply(payload.into_bytes()),
                    Err(error) => Part::Error(Bytes::copy_from_slice(error)),
                };
                let (Part::Reply(bytes) | Part::Error(bytes)) = &part;
                *held += bytes.len();
                self.parts += bytes.len();
                if merge.accept(ticket.part as usize, part) {
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
        if index == 0 {
            self.slots.pop_front();
            self.first += 1;
            self.out.push(payload, pass);
            self.advance(pass);
            return;
        }
        self.slots[index] = match payload {
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
        loop {
            match self.slots.front_mut() {
                Some(Slot::Ready { start, len }) => {
                    let (start, len) = (*start, *len);
                    self.out.tail(pass).extend_from_slice(&self.stash[start..start + len]);
                    self.stashed -= len;
                }
                Some(Slot::Large(bytes)) => {
                    let bytes = std::mem::take(bytes);
                    self.large -= bytes.len();
                    self.out.push(Payload::Owned(bytes), pass);
                }
                _ => break,
            }
            self.slots.pop_front();
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
        for slot in &mut self.slots {
            if let Slot::Ready { start, len } = slot {
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
