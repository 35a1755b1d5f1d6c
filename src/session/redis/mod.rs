//! Redis requests: what the command table says about each decides where it goes.
//!
//! ```text
//!   Key    one key: verbatim to its server                    the usual case
//!   Keys   several: verbatim when one server owns them all
//!   Split  a fragment per server, merged                      split.rs
//!   FanOut to all servers, merged                             fan_out.rs, scan.rs, info.rs
//!   One    to any server
//!   Transaction, Subscribe, and what blocks: on a connection   transaction.rs, subscriptions.rs, blocking.rs
//!          of the session's own
//!   Proxy  answered here                                      local.rs, identity.rs, client.rs, others.rs, access.rs
//!   Refused  an error, in its turn; the connection lives
//! ```
//! When the server of a key is ejected and no other takes its keys, the request is answered here: an error, or a miss. What
//! is written to a pool that stands in is followed by an EXPIRE for each key, whose reply is dropped.

mod access;
mod blocking;
mod client;
mod fan_out;
mod guard;
mod identity;
mod info;
mod learnt;
mod local;
mod others;
mod scan;
mod scripts;
mod split;
mod stand_in;
mod subscriptions;
mod transaction;
mod unblock;
mod users;

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use super::carried::{self, Replies as ReplyMode};
use super::clients::{Card, Told};
use super::meter::Verdict;
use super::{Scratch, Session, Step};
use crate::backend::{self, Expect, Failure, Variant};
use crate::io::{Input, Outbound, Pass, Payload};
use crate::pool::{Away, Pool};
use crate::protocol::Parsed;
use crate::protocol::redis::commands::{Command, Refusal, Route, TransactionCommand};
use crate::protocol::redis::request::{self, Arguments};
use crate::protocol::redis::{Version, acl, errors, reply};
use crate::telemetry::{Class, Ending, Trouble};

pub(super) use learnt::known;
pub(super) use stand_in::cap_lifetime;
use transaction::Transaction;
use users::Who;

/// What a Redis session remembers.
#[derive(Default)]
pub(super) struct State {
    /// The client has logged in, or needs not to.
    authenticated: bool,
    who: Who,
    /// The last command: where it is in memory.
    last: usize,
    replies: ReplyMode,
    /// Between WATCH or MULTI and the end of what they have begun.
    transaction: Option<Box<Transaction>>,
    /// For the HELLO at hand a server was asked what it is: the number of the question.
    asked: Option<u64>,
}

impl State {
    pub(super) fn new(pool: &Pool, card: &Card) -> Self {
        let mut state = Self::default();
        state.log_out(&pool.settings, card);
        state
    }

    /// What goes along to another process.
    pub(super) fn carried(&self, session: &Session) -> carried::Redis {
        let Told { name, library, library_version, .. } = session.card.told().clone();
        let (variant, usual) = (session.variant(), session.pool().usual());
        carried::Redis {
            authenticated: self.authenticated,
            user: self.who.name().to_owned(),
            name: name.into(),
            library: library.into(),
            library_version: library_version.into(),
            replies: self.replies,
            resp3: variant.version == Version::Resp3,
            database: (variant.database != usual.database).then_some(variant.database),
        }
    }

    /// What has come along.
    pub(super) fn restored(state: &carried::Redis, session: &Session) -> Self {
        let carried::Redis { authenticated, user, name, library, library_version, replies, resp3, database } =
            state.clone();
        let version = if resp3 { Version::Resp3 } else { Version::Resp2 };
        session.set_variant(Variant { version, database: database.unwrap_or(session.variant().database) });
        let mut told = session.card.told();
        (told.name, told.library, told.library_version) = (name.into(), library.into(), library_version.into());
        Self { authenticated, who: Who::named(&user), replies, ..Self::default() }
    }

    /// Tells others which command was the last.
    pub(super) fn note_command(&self, card: &Card) {
        card.command.store(self.last, Relaxed);
    }

    /// Forgets connections of its own, which are given back.
    pub(super) fn disengage(&mut self) {
        self.transaction = None;
    }

    /// It has begun something that it cannot leave in the middle of.
    pub(super) fn is_engaged(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| !transaction.is_over())
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
        let command = match self.resolve() {
            Ok(command) => command,
            Err(step) => return step,
        };
        self.state.last = acl::place(command);
        if self.is_plain(command) {
            return self.route(command);
        }
        self.look_closely(command)
    }

    /// Nothing stands in the way of the request: what is so of most, in one branch.
    #[inline(always)]
    fn is_plain(&self, command: &Command) -> bool {
        let (state, session) = (&*self.state, self.session);
        let own_database = session.variant().database == self.pool.usual().database;
        state.authenticated
            & !state.who.restricted
            & !session.gate.may_hold()
            & !command.guarded
            & own_database
            & !session.subscribing.get()
            & state.transaction.is_none()
    }

    /// Goes through all that may stand in the way of a request, in the order in which Redis does.
    #[inline(never)]
    fn look_closely(&mut self, command: &'static Command) -> Step {
        if !self.is_authenticated() && !users::is_allowed_before_auth(command) {
            let verdict = Verdict::Rejected(command.class(), Trouble::Unauthenticated);
            return self.answer_as(verdict, |out, _| out.extend_from_slice(errors::NOAUTH));
        }
        if let Some(refused) = self.forbid(command) {
            return refused;
        }
        if self.session.gate.may_hold() && self.waits_for_the_gate(command) {
            return self.session.wait_at_the_gate();
        }
        if command.guarded
            && let Some(refused) = self.guard(command)
        {
            return refused;
        }
        if let Some(refused) = self.guard_its_database(command) {
            return refused;
        }
        if self.session.subscribing.get()
            && let Some(step) = self.while_subscribed(command)
        {
            return step;
        }
        if self.state.transaction.is_some()
            && let Some(step) = self.in_transaction(command)
        {
            return step;
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
            Route::FanOut(kind) => {
                self.notice_script(command);
                self.fan_out(command, kind)
            }
            Route::One => self.forward_to_one(command),
            Route::Only(_) if self.pool.places() == 1 => self.forward_to_one(command),
            Route::Debug => self.debug(command),
            Route::Wait => self.wait_for_replicas(command),
            Route::Transaction(what) => self.transaction(command, what),
            Route::Subscribe(what) => self.subscribe(command, what),
            Route::Unsubscribe(what) => self.unsubscribe(command, what),
            Route::Channel => self.publish(command),
            Route::Refused(reason) | Route::Only(reason) => self.refuse_to_offer(command, reason),
        }
    }

    fn refuse_to_offer(&mut self, command: &'static Command, reason: Refusal) -> Step {
        self.answer_as(unsupported(command), |out, _| errors::refused(out, command, reason))
    }

    /// To the server for what has no key.
    fn forward_to_one(&mut self, command: &'static Command) -> Step {
        match self.pool.any_place() {
            Ok(place) => self.forward_to(place, command),
            // The only one has more to say than that there is none.
            Err(away) => {
                self.answer_away(command, self.pool.away(0).filter(|_| self.pool.places() == 1).unwrap_or(away))
            }
        }
    }

    fn wrong_arity(&mut self, command: &'static Command) -> Step {
        if command.route == Route::Transaction(TransactionCommand::Exec) {
            return self.abort_misspelt(command);
        }
        self.spoil();
        self.reject(command, |out, _| errors::wrong_arity(out, command))
    }

    fn unknown(&mut self) -> Step {
        self.spoil();
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
            if !away.is_miss() || !command.write_miss(r.version(), r.args.len(), arg, out) {
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
        let blocks = command.blocks(self.args.len(), |i| self.args.get(self.input.bytes(), i));
        match (self.common_home(command), blocks) {
            (Ok(None), None) => self.forward_to_one(command),
            (Ok(None), Some(blocks)) => match self.pool.any_place() {
                Ok(place) => self.block(command, place, blocks),
                Err(away) => self.answer_away(command, away),
            },
            (Ok(Some(Ok(place))), Some(blocks)) => self.block(command, place, blocks),
            (Ok(Some(Ok(place))), None) => self.forward_to(place, command),
            (Ok(Some(Err(away))), _) => self.answer_away(command, away),
            (Err(refused), _) => refused,
        }
    }

    /// Where all keys of the request are; `None`: it has none. Refused if they are on several servers.
    fn common_home(&mut self, command: &'static Command) -> Result<Option<Home>, Step> {
        let (args, bytes) = (self.args, self.input.bytes());
        if let Err(error) = command.keys(args.len(), |i| args.get(bytes, i), self.keys) {
            return Err(self.reject(command, |out, _| errors::key_error(out, command, error)));
        }
        let Some(&first) = self.keys.first() else { return Ok(None) };
        let first = first as usize;
        if let Some(key) = self.too_long(self.keys.iter().map(|k| *k as usize)) {
            return self.home(command, key).map(Some);
        }
        if self.pool.is_keyed() {
            let owner = self.pool.route(self.arg(first));
            let elsewhere = self.keys[1..].iter().find(|k| self.pool.route(self.arg(**k as usize)) != owner);
            if let Some(&other) = elsewhere {
                return Err(self.reject(command, |out, r| r.write_apart(out, command, first, other as usize)));
            }
        }
        self.home(command, first).map(Some)
    }

    /// The server that has all keys of the request, if there is one and the request makes sense.
    fn sole_place(&mut self, command: &'static Command) -> Option<usize> {
        let (args, bytes) = (self.args, self.input.bytes());
        command.keys(args.len(), |i| args.get(bytes, i), self.keys).ok()?;
        let mut homes = self.keys.iter().map(|key| self.pool.route(self.arg(*key as usize)));
        let first = homes.next()?.ok()?;
        homes.all(|home| home == Ok(first)).then_some(first)
    }

    /// The place of all keys of the request, which cannot do without its server; `None`: it has none.
    fn common_place(&mut self, command: &'static Command) -> Result<Option<usize>, Step> {
        let home = match command.route {
            Route::Channel => Some(self.home_of_channel(command)?),
            _ => self.common_home(command)?,
        };
        match home {
            None => Ok(None),
            Some(Ok(place)) => Ok(Some(place)),
            Some(Err(away)) => Err(self.answer_gone(command, away)),
        }
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
        let connection = self.pool.connection(place, session.id, session.variant());
        if !connection.has_room() {
            return session.wait_for(connection);
        }
        let (requester, ticket) = session.asker(command.class(), self.state.replies());
        let request = sent(command, ticket);
        if self.pool.is_stand_in(place) {
            return self.forward_to_stand_in(connection, requester, request, command);
        }
        connection.send(Some(requester), request, whole(self.args, self.input, self.length));
        Step::Next
    }
}

/// Takes the request from the input and writes it as it came; if it was inline, as an array.
fn whole<'a>(args: &'a Arguments, input: &'a mut Input<'_>, length: usize) -> impl FnOnce(&mut Outbound, &Pass) + 'a {
    move |out, pass| {
        if args.is_inline() {
            out.push(Payload::Borrowed(args.frame(&[])), pass);
            input.skip(length);
        } else {
            out.push(input.take(length), pass);
        }
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
