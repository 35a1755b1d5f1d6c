//! Redis requests: what the command table says about each decides where it goes.
//!
//! ```text
//!   Key    one key: verbatim to its server                    the usual case
//!   Keys   several: verbatim when one server owns them all
//!   Split  a fragment per server, merged                      split.rs
//!   Proxy  answered here                                      local.rs
//!   Refused  an error, in its turn; the connection lives
//! ```
//! When the server of a key is ejected and no other takes its keys, the request is answered here: an error, or a miss. What
//! is written to a pool that stands in is followed by an EXPIRE for each key, whose reply is dropped.

mod local;
mod split;
mod stand_in;

use std::rc::Rc;

use super::carried::{self, Replies as ReplyMode};
use super::meter::Verdict;
use super::{Scratch, Session, Step};
use crate::backend::{self, Expect, Failure};
use crate::io::{Input, Payload};
use crate::pool::{Away, Pool};
use crate::protocol::Parsed;
use crate::protocol::redis::commands::{self, Command, Resolved, Route};
use crate::protocol::redis::request::{self, Arguments};
use crate::protocol::redis::{errors, reply};
use crate::telemetry::{Class, Ending, Trouble};

pub(super) use stand_in::cap_lifetime;

/// What a Redis session remembers.
#[derive(Default)]
pub(super) struct State {
    /// The client has given the pool's password, or the pool has none.
    authenticated: bool,
    /// What it has told about itself; most clients of long ago say nothing.
    client: Option<Box<Client>>,
    replies: ReplyMode,
}

/// `CLIENT SETNAME` and `CLIENT SETINFO`.
#[derive(Default)]
struct Client {
    name: String,
    library: String,
    library_version: String,
}

impl State {
    pub(super) fn new(pool: &Pool) -> Self {
        Self { authenticated: pool.settings.redis_auth.is_none(), ..Self::default() }
    }

    /// What goes along to another process.
    pub(super) fn carried(&self) -> carried::Redis {
        let (name, library, library_version) = self
            .client
            .as_ref()
            .map(|client| (client.name.clone(), client.library.clone(), client.library_version.clone()))
            .unwrap_or_default();
        carried::Redis { authenticated: self.authenticated, name, library, library_version, replies: self.replies }
    }

    /// What has come along.
    pub(super) fn restored(state: &carried::Redis) -> Self {
        let carried::Redis { authenticated, name, library, library_version, replies } = state.clone();
        let told = !(name.is_empty() && library.is_empty() && library_version.is_empty());
        let client = told.then(|| Box::new(Client { name, library, library_version }));
        Self { authenticated, client, replies }
    }

    /// Whether the request at hand gets a reply.
    fn replies(&self) -> bool {
        matches!(self.replies, ReplyMode::On | ReplyMode::SkipNext)
    }

    /// A request was dealt with.
    fn advance(&mut self) {
        self.replies = match self.replies {
            ReplyMode::SkipNext => ReplyMode::SkipThis,
            ReplyMode::SkipThis => ReplyMode::On,
            other => other,
        };
    }
}

/// One request on its way through the session.
struct Request<'a, 'b> {
    session: &'a Rc<Session>,
    pool: &'a Rc<Pool>,
    state: &'a mut State,
    args: &'a Arguments,
    /// Scratch for the positions of keys.
    keys: &'a mut Vec<u32>,
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
    let Scratch { arguments: args, keys, .. } = scratch;
    let length = match request::parse(input.bytes(), &pool.shared().limits, args) {
        Ok(Parsed::Complete(length)) => length,
        Ok(Parsed::Incomplete { .. }) if session.refuses_half(input.bytes().len()) => {
            // Where its end will be is not known.
            session.ends_for(Ending::Overload);
            let verdict = Verdict::Rejected(Class::Other, Trouble::Overload);
            session.answer(true, verdict, |out| write_overload(out, session));
            return Step::Close;
        }
        Ok(Parsed::Incomplete { need }) => {
            input.incomplete(need);
            return Step::Incomplete;
        }
        Err(error) => {
            session.cells.client_err.increment();
            session.answer(true, Verdict::Own, |out| errors::protocol(out, &error));
            return Step::Close;
        }
    };
    if args.is_empty() {
        input.skip(length);
        return Step::Next;
    }
    let mut request = Request { session, pool, state, args, keys, input, length };
    let step = request.dispatch();
    if !matches!(step, Step::NoRoom) {
        request.state.advance();
    }
    step
}

/// What a client is told when its request got no reply.
pub(super) fn write_failure(out: &mut Vec<u8>, failure: &Failure<'_>) {
    reply::write_error(out, &format!("ERR {failure}"));
}

fn write_overload(out: &mut Vec<u8>, session: &Session) {
    reply::write_error(out, &format!("ERR {}", session.shared.overload_text()));
}

fn write_away(out: &mut Vec<u8>, session: &Session, away: Away) {
    reply::write_error(out, &format!("ERR {}", session.why_away(away)));
}

impl Request<'_, '_> {
    fn arg(&self, index: usize) -> &[u8] {
        self.args.get(self.input.bytes(), index).unwrap_or_default()
    }

    fn dispatch(&mut self) -> Step {
        let (args, bytes) = (self.args, self.input.bytes());
        let command = match commands::resolve(args.len(), |i| args.get(bytes, i)) {
            Resolved::Command(command) => command,
            Resolved::Unknown => return self.unknown(),
            Resolved::UnknownSubcommand(command) => {
                let verdict = Verdict::Rejected(Class::Other, Trouble::Unsupported);
                return self.answer_as(verdict, |out, r| errors::unknown_subcommand(out, command, r.arg(1)));
            }
            Resolved::WrongArity(command) => return self.reject(command, |out, _| errors::wrong_arity(out, command)),
        };
        if !self.is_authenticated() && !local::is_allowed_before_auth(command) {
            let verdict = Verdict::Rejected(command.class(), Trouble::Unauthenticated);
            return self.answer_as(verdict, |out, _| out.extend_from_slice(errors::NOAUTH));
        }
        self.route(command)
    }

    fn route(&mut self, command: &'static Command) -> Step {
        match command.route {
            Route::Key => match command.first_key_only() {
                Some(key) => self.forward_by(command, key),
                None => self.forward_together(command),
            },
            Route::Keys => self.forward_together(command),
            Route::Split(kind) => self.split(command, kind),
            Route::Proxy(what) => self.answer_locally(command, what),
            Route::Refused(reason) => {
                self.answer_as(unsupported(command), |out, _| errors::refused(out, command, reason))
            }
        }
    }

    fn unknown(&mut self) -> Step {
        let verdict = Verdict::Rejected(Class::Other, Trouble::Unsupported);
        self.answer_as(verdict, |out, r| {
            errors::unknown_command(out, r.args.len(), |i| r.args.get(r.input.bytes(), i));
        })
    }

    /// Answers here and takes the request.
    fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>, &Self)) -> Step {
        self.answer_as(Verdict::Own, write)
    }

    /// Refuses a request that makes no sense.
    fn reject(&mut self, command: &Command, write: impl FnOnce(&mut Vec<u8>, &Self)) -> Step {
        self.answer_as(Verdict::Rejected(command.class(), Trouble::Invalid), write)
    }

    /// There is no room for the request in the process.
    fn refuse(&mut self, command: &Command) -> Step {
        let verdict = Verdict::Rejected(command.class(), Trouble::Overload);
        self.answer_as(verdict, |out, r| write_overload(out, r.session))
    }

    fn answer_as(&mut self, verdict: Verdict, write: impl FnOnce(&mut Vec<u8>, &Self)) -> Step {
        self.session.answer(self.state.replies(), verdict, |out| write(out, self));
        self.input.skip(self.length);
        Step::Next
    }

    /// To the server of the key at this position.
    fn forward_by(&mut self, command: &Command, key: usize) -> Step {
        match self.home(command, key) {
            Ok(Ok(place)) => self.forward(place, command),
            Ok(Err(away)) => self.answer_away(command, away),
            Err(refused) => refused,
        }
    }

    /// Where the key at this position is now; or the request is refused since the key is too long.
    fn home(&mut self, command: &Command, position: usize) -> Result<Home, Step> {
        let (key, longest) = (self.arg(position), self.pool.shared().limits.max_key_bytes);
        if key.len() > longest {
            return Err(self.reject(command, |out, r| errors::key_too_long(out, r.arg(position), longest)));
        }
        Ok(self.pool.route(key))
    }

    /// In place of a server that is ejected: a miss if the pool's policy is that, or an error.
    fn answer_away(&mut self, command: &Command, away: Away) -> Step {
        self.answer_as(Verdict::Away(command.class()), |out, r| {
            let arg = |index| r.args.get(r.input.bytes(), index);
            if !away.is_miss() || !command.write_miss(r.args.len(), arg, out) {
                write_away(out, r.session, away);
            }
        })
    }

    /// The first of these keys that is longer than the limit; [`Request::home`] refuses it.
    fn too_long(&self, mut keys: impl Iterator<Item = usize>) -> Option<usize> {
        keys.find(|key| self.arg(*key).len() > self.pool.shared().limits.max_key_bytes)
    }

    /// To the one server that owns all keys of the request, or nowhere.
    fn forward_together(&mut self, command: &'static Command) -> Step {
        let (args, bytes) = (self.args, self.input.bytes());
        if command.blocks(args.len(), |i| args.get(bytes, i)) {
            return self.answer_as(unsupported(command), |out, _| errors::refused_block(out, command));
        }
        if let Err(error) = command.keys(args.len(), |i| args.get(bytes, i), self.keys) {
            return self.reject(command, |out, _| errors::key_error(out, command, error));
        }
        let Some(&first) = self.keys.first() else {
            return self.reject(command, |out, _| errors::refused_without_keys(out, command));
        };
        let first = first as usize;
        if let Some(key) = self.too_long(self.keys.iter().map(|k| *k as usize)) {
            return self.forward_by(command, key);
        }
        if self.pool.is_keyed() {
            let owner = self.pool.route(self.arg(first));
            let elsewhere = self.keys[1..].iter().find(|k| self.pool.route(self.arg(**k as usize)) != owner);
            if let Some(&other) = elsewhere {
                return self.reject(command, |out, r| r.write_apart(out, command, first, other as usize));
            }
        }
        self.forward_by(command, first)
    }

    fn write_apart(&self, out: &mut Vec<u8>, command: &Command, one: usize, other: usize) {
        let pool = self.pool;
        let name = |key: &[u8]| match pool.route(key) {
            Ok(place) | Err(Away::Ejected(place) | Away::Missing(place)) => pool.name_of(place),
            Err(Away::NoServer | Away::NoStandIn) => "none",
        };
        let (one, other) = (self.arg(one), self.arg(other));
        errors::cross_server(out, command, (one, name(one)), (other, name(other)));
    }

    /// Hands the request as it is to the server at this place.
    fn forward(&mut self, place: usize, command: &Command) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse(command);
        }
        let connection = self.pool.connection(place, session.id);
        if !connection.has_room() {
            return session.wait_for(connection);
        }
        let (requester, ticket) = session.asker(command.class(), self.state.replies());
        let request = sent(command, ticket);
        if self.pool.is_stand_in(place) {
            return self.forward_to_stand_in(connection, requester, request, command);
        }
        let (args, input, length) = (self.args, &mut *self.input, self.length);
        connection.send(Some(requester), request, |out, pass| {
            if args.is_inline() {
                out.push(Payload::Borrowed(args.frame(&[])), pass);
                input.skip(length);
            } else {
                out.push(input.take(length), pass);
            }
        });
        Step::Next
    }
}

/// Where a key is now.
type Home = Result<usize, Away>;

fn unsupported(command: &Command) -> Verdict {
    Verdict::Rejected(command.class(), Trouble::Unsupported)
}

/// A request of this command on its way to a connection.
fn sent(command: &Command, ticket: backend::Ticket) -> backend::Request {
    let time = if command.is_slow() { backend::Time::Slow } else { backend::Time::Usual };
    let once = backend::Request::once(ticket, Expect::Resp);
    backend::Request { repeatable: command.is_read(), time, ..once }
}
