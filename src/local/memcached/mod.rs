//! The memcached engine: all classic text commands, with memcached 1.6's replies, on a bounded [`Store`].

mod commands;

#[cfg(test)]
mod tests;

use std::mem;

use bytes::{Buf, BytesMut};

use super::server::{Engine, Flow, OUTPUT_LIMIT};
use super::store::{Millis, Store};
use crate::protocol::Limits;
use crate::protocol::memcached::request::{self, Outcome, Request};
use crate::protocol::memcached::{Rejection, Verb};

/// A request may be so much larger than the largest item: its line.
const LINE_ROOM: usize = 4096;

/// Longest command line, in bytes; only a get of thousands of keys comes near.
const MAX_LINE: usize = 1024 * 1024;

/// One memcached server.
pub struct MemcachedServer {
    store: Store,
    limits: Limits,
    /// When a delayed flush_all empties the store.
    flush_at: Option<Millis>,
    counters: Counters,
    /// Scratch: one parse at a time.
    request: Request,
}

/// What `stats` shows.
#[derive(Default)]
struct Counters {
    /// Keys asked for, and those of them that were there.
    gets: u64,
    hits: u64,
    /// Storage commands, and those of them that stored.
    sets: u64,
    stored: u64,
    flushes: u64,
}

/// One connection to it.
#[derive(Default)]
pub struct MemcachedSession {
    /// Bytes of a refused request that are still to come, and to be thrown away.
    skip: u64,
}

impl Engine for MemcachedServer {
    type Session = MemcachedSession;

    fn new(capacity: u64) -> Self {
        let store = Store::new(capacity);
        let limits = Limits {
            max_request_bytes: store.max_item_bytes() + LINE_ROOM,
            max_line_bytes: MAX_LINE,
            ..Limits::default()
        };
        Self { store, limits, flush_at: None, counters: Counters::default(), request: Request::default() }
    }

    fn session(&self) -> MemcachedSession {
        MemcachedSession::default()
    }

    fn serve(
        &mut self,
        session: &mut MemcachedSession,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
        now: Millis,
    ) -> Flow {
        // Nothing is stored between the moment of a delayed flush and the first request after it, so that is in time.
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.store.clear();
        }
        let mut request = mem::take(&mut self.request);
        let mut flow = Flow::OutputFull;
        while output.len() < OUTPUT_LIMIT {
            if let Some(other) = self.serve_one(&mut request, session, input, output, now) {
                flow = other;
                break;
            }
        }
        self.request = request;
        flow
    }
}

impl MemcachedServer {
    /// Answers the request at the front of `input`; `None`: there may be another one behind it.
    fn serve_one(
        &mut self,
        request: &mut Request,
        session: &mut MemcachedSession,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
        now: Millis,
    ) -> Option<Flow> {
        let skipped = usize::try_from(session.skip).unwrap_or(usize::MAX).min(input.len());
        input.advance(skipped);
        session.skip -= skipped as u64;
        if input.is_empty() {
            return Some(Flow::NeedsInput);
        }
        match request::parse(input, &self.limits, request) {
            Outcome::Incomplete { .. } => return Some(Flow::NeedsInput),
            Outcome::Complete { .. } if request.verb == Verb::Quit => return Some(Flow::Close),
            Outcome::Complete { consumed } => {
                self.execute(request, input, output, now);
                input.advance(consumed);
            }
            Outcome::Rejected { consumed, skip, reply } => {
                if reply == Rejection::TooLarge {
                    self.drop_stale(request, input, now);
                }
                if !request.noreply {
                    reply.write(output);
                }
                input.advance(consumed.min(input.len()));
                session.skip = skip;
            }
            Outcome::Fatal { reply } => {
                reply.write(output);
                return Some(Flow::Close);
            }
        }
        None
    }

    /// As memcached: what was to be replaced and could not be is stale now.
    fn drop_stale(&mut self, request: &Request, input: &[u8], now: Millis) {
        for key in request.keys(input) {
            self.store.remove(key, now);
        }
    }
}
