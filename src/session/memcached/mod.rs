//! memcached requests: single-key ones go to their server verbatim, multi-key gets in fragments, `flush_all` to all.
//!
//! `noreply` is never sent on: the server answers, and the answer is dropped. A server that answers although it should
//! not (memcached does, when it cannot make out the `noreply`) would otherwise shift every later reply by one.
//!
//! When the server of a key is ejected and no other takes its keys, the request is answered here: an error, or a miss. What
//! goes to a pool that stands in has its expiry time capped.

mod gather;
mod stats;

use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::carried;
use super::meter::Verdict;
use super::{Scratch, Session, Step};
use crate::backend::{self, Connection, Expect, Failure, Ticket};
use crate::io::{Input, Payload};
use crate::pool::{Away, Pool};
use crate::protocol::memcached::lifetime::Cap;
use crate::protocol::memcached::request::{self, Outcome, part};
use crate::protocol::memcached::{Rejection, Request as Parsed, Verb, replies};
use crate::telemetry::{Ending, Trouble};

/// Longest line that memcached takes of every command, in bytes. It closes a connection on which it finds more than so
/// much without a line end, unless it starts with `get` or `gets`; and others have requests on that connection.
const LONGEST_LINE: usize = 2048;

/// Most digits that a capped expiry time takes, with its sign.
const LONGEST_EXPTIME: usize = 20;

/// What a memcached session remembers.
#[derive(Default)]
pub(super) struct State {
    /// Bytes of a refused data block that are still to come, and to be thrown away.
    discard: u64,
}

impl State {
    /// What goes along to another process.
    pub(super) fn carried(&self) -> carried::Memcached {
        carried::Memcached { discard: self.discard }
    }

    /// What has come along.
    pub(super) fn restored(state: &carried::Memcached) -> Self {
        Self { discard: state.discard }
    }
}

/// One request on its way through the session.
struct Request<'a, 'b> {
    session: &'a Rc<Session>,
    pool: &'a Rc<Pool>,
    parsed: &'a Parsed,
    input: &'a mut Input<'b>,
    /// Its length in the input.
    length: usize,
}

/// Takes the request at the front of the input.
pub(super) fn step(
    session: &Rc<Session>,
    pool: &Rc<Pool>,
    state: &mut State,
    scratch: &mut Scratch,
    input: &mut Input<'_>,
) -> Step {
    if state.discard > 0 {
        let now = state.discard.min(input.bytes().len() as u64);
        input.skip(now as usize);
        state.discard -= now;
        return Step::Next;
    }
    let parsed = &mut scratch.text;
    match request::parse(input.bytes(), &pool.shared().limits, parsed) {
        Outcome::Complete { consumed } => Request { session, pool, parsed, input, length: consumed }.dispatch(),
        Outcome::Incomplete { need } if session.refuses_half(input.bytes().len()) => {
            let verdict = Verdict::Rejected(parsed.verb.class(), Trouble::Overload);
            session.answer(!parsed.noreply, verdict, |out| write_overload(out, session));
            if !parsed.verb.is_storage() {
                session.ends_for(Ending::Overload);
                return Step::Close;
            }
            state.discard = need as u64;
            Step::Next
        }
        Outcome::Incomplete { need } => {
            input.incomplete(need);
            Step::Incomplete
        }
        Outcome::Rejected { consumed, skip, reply } => {
            input.skip(consumed);
            state.discard = skip;
            session.answer(!parsed.noreply, Verdict::Own, |out| reply.write(out));
            Step::Next
        }
        Outcome::Fatal { reply } => {
            session.cells.client_err.increment();
            session.answer(true, Verdict::Own, |out| reply.write(out));
            Step::Close
        }
    }
}

/// What a client is told when its request got no reply.
pub(super) fn write_failure(out: &mut Vec<u8>, failure: &Failure<'_>) {
    replies::write_server_error(out, &failure.to_string());
}

fn write_away(out: &mut Vec<u8>, session: &Session, away: Away) {
    replies::write_server_error(out, &session.why_away(away));
}

fn write_overload(out: &mut Vec<u8>, session: &Session) {
    replies::write_server_error(out, &session.shared.overload_text());
}

/// The expiry time to send to a pool that stands in; `None`: the request has none, or goes to the pool itself.
pub(super) fn capped_exptime(pool: &Pool, place: usize, parsed: &Parsed, bytes: &[u8]) -> Option<i64> {
    if !pool.is_stand_in(place) {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    parsed.capped_exptime(bytes, Cap { seconds: pool.settings.health.gutter_ttl.as_secs() as i64, now })
}

impl Request<'_, '_> {
    fn dispatch(&mut self) -> Step {
        let retrieval = self.parsed.verb.is_retrieval();
        if !self.is_line_taken() && !retrieval {
            return self.reject(Rejection::LineTooLong);
        }
        match self.parsed.verb {
            Verb::Quit => {
                self.input.skip(self.length);
                self.session.ends_for(Ending::Quit);
                Step::Close
            }
            Verb::Version => self.answer(|out, _| replies::write_version(out, env!("CARGO_PKG_VERSION"))),
            Verb::Verbosity => self.answer(|out, _| out.extend_from_slice(replies::OK)),
            Verb::Stats => self.stats(),
            Verb::FlushAll => self.flush_all(),
            // Fragments are written anew, without what made the line too long.
            _ if retrieval && (self.parsed.keys.len() > 1 || !self.is_line_taken()) => self.gather(),
            _ => self.forward_by_key(),
        }
    }

    /// Whether a server takes the line as the client wrote it.
    fn is_line_taken(&self) -> bool {
        let bytes = self.input.bytes();
        self.parsed.line_len as usize <= LONGEST_LINE || bytes.starts_with(b"get ") || bytes.starts_with(b"gets ")
    }

    /// The same with an expiry time that takes more digits.
    fn is_longer_line_taken(&self) -> bool {
        self.parsed.line_len as usize + LONGEST_EXPTIME <= LONGEST_LINE
    }

    fn key(&self, index: usize) -> &[u8] {
        part(self.input.bytes(), self.parsed.keys.get(index).copied().unwrap_or_default())
    }

    /// Answers here and takes the request.
    fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>, &Self)) -> Step {
        self.answer_as(Verdict::Own, write)
    }

    fn answer_as(&mut self, verdict: Verdict, write: impl FnOnce(&mut Vec<u8>, &Self)) -> Step {
        self.session.answer(!self.parsed.noreply, verdict, |out| write(out, self));
        self.input.skip(self.length);
        Step::Next
    }

    /// There is no room for the request in the process.
    fn refuse(&mut self) -> Step {
        let verdict = Verdict::Rejected(self.parsed.verb.class(), Trouble::Overload);
        self.answer_as(verdict, |out, r| write_overload(out, r.session))
    }

    /// The request cannot be sent on.
    fn reject(&mut self, why: Rejection) -> Step {
        let verdict = Verdict::Rejected(self.parsed.verb.class(), Trouble::Invalid);
        self.answer_as(verdict, |out, _| why.write(out))
    }

    /// In place of a server that is ejected: a miss if the pool's policy is that, or an error.
    fn answer_away(&mut self, away: Away) -> Step {
        self.answer_as(Verdict::Away(self.parsed.verb.class()), |out, r| {
            match r.parsed.verb.miss().filter(|_| away.is_miss()) {
                Some(miss) => out.extend_from_slice(miss),
                None => write_away(out, r.session, away),
            }
        })
    }

    fn capped_exptime(&self, place: usize) -> Option<i64> {
        capped_exptime(self.pool, place, self.parsed, self.input.bytes())
    }

    /// This request, or a fragment of it, on its way to a connection.
    fn sent(&self, ticket: Ticket) -> backend::Request {
        let verb = self.parsed.verb;
        let time = if verb.is_slow() { backend::Time::Slow } else { backend::Time::Usual };
        let once = backend::Request::once(ticket, Expect::Memcached(verb.expect()));
        backend::Request { repeatable: verb.is_repeatable(), time, ..once }
    }

    fn forward_by_key(&mut self) -> Step {
        match self.pool.route(self.key(0)) {
            Ok(place) => self.forward(place),
            Err(away) => self.answer_away(away),
        }
    }

    /// Hands the request, without its `noreply`, to a server.
    fn forward(&mut self, place: usize) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse();
        }
        let connection = self.pool.connection(place, session.id, session.variant());
        if !connection.has_room() {
            return session.wait_for(connection);
        }
        let exptime = self.capped_exptime(place);
        if exptime.is_some() && !self.parsed.verb.is_retrieval() && !self.is_longer_line_taken() {
            return self.reject(Rejection::LineTooLong);
        }
        let (requester, ticket) = session.asker(self.parsed.verb.class(), !self.parsed.noreply);
        let request = self.sent(ticket);
        let (parsed, input, length) = (self.parsed, &mut *self.input, self.length);
        connection.send(Some(requester), request, |out, pass| {
            if let Some(exptime) = exptime {
                parsed.write_with_exptime(input.bytes(), exptime, out.tail(pass));
                input.skip(length);
            } else if parsed.noreply {
                let (before, after) = parsed.forward_parts(input.bytes());
                out.push(Payload::Borrowed(before), pass);
                out.push(Payload::Borrowed(after), pass);
                input.skip(length);
            } else {
                out.push(input.take(length), pass);
            }
        });
        Step::Next
    }

    fn connection(&self, server: usize) -> &Rc<Connection> {
        self.pool.connection(server, self.session.id, self.session.variant())
    }
}
