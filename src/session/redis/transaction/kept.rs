//! Transactions without WATCH: their requests are answered QUEUED here and kept, and go to their server in one piece with EXEC,
//! by the connection that all sessions share.
//!
//! That can be said here as names, arguments, rights and keys are checked here, and nothing has been promised to the server.
//! What the server alone can refuse (it has no memory left, say) is the answer to EXEC, with its reason.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::super::super::subscriptions::channel_key;
use super::super::super::{Session, Step};
use super::super::{Request, learnt};
use super::MULTI;
use crate::backend::{self, Connection, Expect, Failure, Requester, Ticket, Time};
use crate::io::{Held, LARGE, Payload};
use crate::pool::{Pool, Routing};
use crate::protocol::redis::commands::{Command, Route};
use crate::protocol::redis::request::{self, Arguments};
use crate::protocol::redis::{errors, reply};
use crate::protocol::{Limits, Parsed};
use crate::telemetry::Outcome;

const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
/// Does nothing, whether the server takes transactions or not. Not with DISCARD: one that is refused would leave a transaction
/// open, on the connection that everybody shares; EXEC ends it even then.
const NOTHING: &[u8] = b"*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nEXEC\r\n";

/// A transaction with more is sent as it comes, on a connection of its own: to hold it back would gain nothing, and on a
/// shared one others would wait for it. In bytes.
const MOST: usize = 64 * 1024;

/// What was said since MULTI.
#[derive(Default)]
pub(super) struct Kept {
    /// The requests, as the server is to get them.
    bytes: Vec<u8>,
    requests: u32,
    /// Where all their keys are, and by which map; `None`: they have none.
    home: Option<(usize, Arc<Routing>)>,
    /// There are requests among them that concern all servers of a pool, which was a pool of one.
    alone: bool,
    /// The server was asked whether it takes transactions at all.
    trial: Option<Rc<Trial>>,
    held: Option<Held>,
}

impl Kept {
    /// Shows every request, as its bytes and its arguments.
    pub(super) fn each(&self, mut see: impl FnMut(&[u8], &Arguments)) {
        // They were parsed once before, under the limits of their pool.
        let limits = Limits { max_request_bytes: usize::MAX, max_arguments: usize::MAX, ..Limits::default() };
        let (mut rest, mut args) = (&self.bytes[..], Arguments::new());
        while let Ok(Parsed::Complete(length)) = request::parse(rest, &limits, &mut args) {
            see(&rest[..length], &args);
            rest = &rest[length..];
        }
    }

    /// Where all keys are by the map of now; `None`: there are none.
    ///
    /// # Errors
    /// They are not together any more, or nowhere.
    fn home(&mut self, pool: &Pool) -> Result<Option<usize>, ()> {
        if self.alone && pool.places() > 1 {
            return Err(());
        }
        match &self.home {
            None => return Ok(None),
            Some((place, routing)) if pool.goes_by(routing) => return Ok(Some(*place)),
            Some(_) => {}
        }
        let mut home = None;
        let mut keys = Vec::new();
        let mut apart = false;
        self.each(|request, args| {
            let arg = |index| args.get(request, index);
            let Some(command) = learnt::known(pool, args.len(), arg) else { return apart = true };
            apart |= command.keys(args.len(), arg, &mut keys).is_err();
            let channel = arg(1).filter(|_| command.route == Route::Channel).map(channel_key);
            for key in keys.iter().filter_map(|key| arg(*key as usize)).chain(channel) {
                let place = pool.route(key);
                apart |= place.is_err() || *home.get_or_insert(place) != place;
            }
        });
        match home {
            Some(Ok(place)) if !apart => {
                self.home = Some((place, pool.routing()));
                Ok(Some(place))
            }
            _ => Err(()),
        }
    }
}

impl Request<'_, '_> {
    fn kept(&mut self) -> &mut Kept {
        &mut self.begun().kept
    }

    /// Keeps the request at hand, whose keys are at this place if it has any.
    pub(super) fn keep(&mut self, command: &'static Command, place: Option<usize>) -> Step {
        if self.session.refuses() {
            self.spoil();
            return self.refuse(command);
        }
        if let Some(place) = place
            && let Some(refused) = self.join(command, place)
        {
            return refused;
        }
        let eval = self.as_eval(command);
        let frame = eval.as_deref().unwrap_or_else(|| self.args.frame(&self.input.bytes()[..self.length]));
        let homeless = self.state.transaction.as_ref().is_none_or(|t| t.kept.home.is_none()) && self.pool.places() > 1;
        let most = if homeless { self.pool.shared().session_limits.max_session_bytes } else { MOST };
        let (session, transaction) = (self.session, self.state.transaction.get_or_insert_default());
        let kept = &mut transaction.kept;
        if kept.bytes.len() + frame.len() > most {
            if homeless {
                return self.refuse_queued(command, |out, _| errors::transaction_too_large(out, most));
            }
            // By the map of now: places change with it.
            return match kept.home(self.pool) {
                Ok(home) => self.queue_there(command, home),
                Err(()) => {
                    self.spoil();
                    self.reject(command, |out, _| errors::transaction_lost(out, MOVED))
                }
            };
        }
        if kept.bytes.capacity() == 0 {
            kept.bytes = session.shared.pass.take_buffer();
        }
        kept.bytes.extend_from_slice(frame);
        kept.requests += 1;
        kept.alone |= matches!(command.route, Route::FanOut(_) | Route::Only(_) | Route::Debug);
        kept.held.get_or_insert_with(|| Held::new(session.shared.pass.clone())).set(kept.bytes.len());
        self.notice_script(command);
        self.say(reply::QUEUED)
    }

    /// The request at hand has its keys at this place: it is refused if others have theirs elsewhere.
    fn join(&mut self, command: &'static Command, place: usize) -> Option<Step> {
        let pool = self.pool;
        let home = self.kept().home(pool);
        let refused = match home {
            _ if pool.is_stand_in(place) => {
                self.reject(command, |out, r| errors::not_at_stand_in(out, command, r.pool.name_of(place)))
            }
            Ok(None) => {
                self.kept().home = Some((place, pool.routing()));
                return None;
            }
            Ok(Some(home)) if home == place => return None,
            Ok(Some(home)) => self.reject(command, |out, r| {
                errors::transaction_apart(out, command, r.pool.name_of(place), r.pool.name_of(home));
            }),
            Err(()) => self.reject(command, |out, _| errors::transaction_lost(out, MOVED)),
        };
        self.spoil();
        Some(refused)
    }

    /// EXEC: sends it all.
    pub(super) fn exec_kept(&mut self, command: &'static Command) -> Step {
        let (session, pool) = (self.session, self.pool);
        if self.kept().requests == 0 {
            self.give_up();
            return self.say(reply::EMPTY_ARRAY);
        }
        let home = match self.kept().home(pool) {
            Ok(Some(place)) => pool.away(place).map_or(Ok(place), Err),
            Ok(None) => pool.any_place(),
            Err(()) => return self.abort(command, MOVED),
        };
        let place = match home {
            Ok(place) => place,
            Err(away) => return self.abort(command, &session.why_away(away)),
        };
        if pool.is_stand_in(place) {
            return self.abort(command, "its keys are where another pool stands in, which takes no transactions");
        }
        if session.refuses() {
            return self.abort(command, &session.shared.overload_text());
        }
        let connection = pool.connection(place, session.id, session.variant());
        if !connection.has_room() {
            return session.wait_for(connection);
        }
        match self.kept().trial.as_ref().map(|trial| trial.verdict.borrow().clone()) {
            Some(Verdict::Refused(why)) => return self.abort(command, &why),
            None if !connection.takes_transactions() => {
                self.kept().trial = Some(Trial::begin(session, connection));
                return session.settles_first();
            }
            Some(Verdict::Open) => return session.settles_first(),
            None | Some(Verdict::Accepted) => {}
        }
        let kept = std::mem::take(self.kept());
        self.give_up();
        let (requester, ticket) = session.asker(command.class(), self.state.replies());
        let request = backend::Request {
            time: Time::Slow,
            ..backend::Request::once(ticket, Expect::Transaction(1 + kept.requests))
        };
        connection.send(Some(requester), request, |out, pass| {
            out.push(Payload::Borrowed(MULTI), pass);
            if kept.bytes.len() >= LARGE {
                out.push(Payload::Owned(kept.bytes.into()), pass);
            } else {
                out.push(Payload::Borrowed(&kept.bytes), pass);
                pass.give_buffer(kept.bytes);
            }
            out.push(Payload::Borrowed(EXEC), pass);
        });
        self.input.skip(self.length);
        if self.state.replies() {
            session.hold_back();
        }
        Step::Next
    }
}

const MOVED: &str = "its keys are on several servers now";

/// Asks the server of a connection whether it takes transactions: what follows a MULTI that it refuses, it would carry out at
/// once. Asked once for each link.
struct Trial {
    session: Rc<Session>,
    connection: Rc<Connection>,
    verdict: RefCell<Verdict>,
}

#[derive(Clone)]
enum Verdict {
    Open,
    Accepted,
    Refused(String),
}

impl Trial {
    fn begin(session: &Rc<Session>, connection: &Rc<Connection>) -> Rc<Self> {
        let (session, connection) = (session.clone(), connection.clone());
        let trial = Rc::new(Self { session, connection, verdict: RefCell::new(Verdict::Open) });
        let ticket = trial.session.unheard(None);
        let request = backend::Request::once(ticket, Expect::Transaction(1));
        let requester: Rc<dyn Requester> = trial.clone();
        trial.connection.send(Some(requester), request, |out, pass| out.push(Payload::Borrowed(NOTHING), pass));
        trial
    }

    fn end(&self, ticket: Ticket, verdict: Verdict) {
        *self.verdict.borrow_mut() = verdict;
        self.session.settle_unheard(ticket, Outcome::Ok);
    }
}

impl Requester for Trial {
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>) {
        // The answer to EXEC, which is good only after MULTI; or the reason why MULTI was refused.
        let reply = payload.as_slice();
        if reply == reply::EMPTY_ARRAY {
            self.connection.accepted_transaction();
            return self.end(ticket, Verdict::Accepted);
        }
        self.end(ticket, Verdict::Refused(reply.trim_ascii().escape_ascii().to_string()));
    }

    fn fail(self: Rc<Self>, ticket: Ticket, failure: &Failure<'_>) {
        self.end(ticket, Verdict::Refused(failure.to_string()));
    }
}
