//! Commands that the table does not have. A server is asked what they are when they first come; meanwhile the session takes
//! nothing more. See `pool::Learnt` for what is remembered.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::super::Step;
use super::super::meter::Verdict;
use super::{Request, write_away};
use crate::backend::{self, Expect, Failure, Requester, Ticket};
use crate::io::Payload;
use crate::pool::{Answer, Learnt, Name, Outlook, Pool};
use crate::protocol::redis::commands::learnt::learn;
use crate::protocol::redis::commands::told::{self, Untold};
use crate::protocol::redis::commands::{self, Command, Resolved, Route};
use crate::protocol::redis::{errors, reply};
use crate::telemetry::{Class, Trouble};

impl Request<'_, '_> {
    /// The command of the request at hand.
    ///
    /// # Errors
    /// There is none, or it is not known yet.
    #[inline(always)]
    pub(super) fn resolve(&mut self) -> Result<&'static Command, Step> {
        let (args, bytes) = (self.args, self.input.bytes());
        match commands::resolve(args.len(), |i| args.get(bytes, i)) {
            Resolved::Command(command) => Ok(command),
            other => self.resolve_otherwise(other),
        }
    }

    /// What the table does not have, or not like this.
    #[cold]
    fn resolve_otherwise(&mut self, resolved: Resolved) -> Result<&'static Command, Step> {
        let resolved = match resolved {
            Resolved::Unknown => self.resolve_learnt(None)?,
            // What is about the connection, or about all servers, is so in forms that are not known yet, too.
            Resolved::UnknownSubcommand(container) if matches!(container.route, Route::One | Route::Only(_)) => {
                self.resolve_learnt(Some(container))?
            }
            other => other,
        };
        match resolved {
            Resolved::Command(command) => Ok(command),
            Resolved::WrongArity(command) => Err(self.wrong_arity(command)),
            Resolved::Unknown => Err(self.unknown()),
            Resolved::UnknownSubcommand(container) => {
                self.spoil();
                let verdict = Verdict::Rejected(Class::Other, Trouble::Unsupported);
                Err(self.answer_as(verdict, |out, r| errors::unknown_subcommand(out, container, r.arg(1))))
            }
        }
    }

    /// The same by what was learnt.
    fn resolve_learnt(&mut self, container: Option<&'static Command>) -> Result<Resolved, Step> {
        let unknown = container.map_or(Resolved::Unknown, Resolved::UnknownSubcommand);
        let own = self.arg(usize::from(container.is_some()));
        let Some(name) = Name::of(container.map(|container| container.name), own) else { return Ok(unknown) };
        let command = match self.pool.learnt().command(&name) {
            Some(command) => command,
            // Strangers do not have servers asked.
            None if !self.is_authenticated() => return Ok(unknown),
            None => match self.ask_for(&name)? {
                Some(command) => command,
                None => return Ok(unknown),
            },
        };
        if self.pool.learnt().is_due(&name, self.session.shared.pass.now()) {
            self.ask_again(&name);
        }
        let (args, bytes) = (self.args, self.input.bytes());
        let resolved = commands::resolve_within(command, args.len(), |i| args.get(bytes, i));
        Ok(match (resolved, container) {
            (Resolved::Command(command), Some(container)) => match container.route {
                // Its own keys say less than that it is about one server.
                Route::Only(reason) if self.pool.places() > 1 => {
                    self.spoil();
                    return Err(self.refuse_to_offer(command, reason));
                }
                _ => resolved,
            },
            _ => resolved,
        })
    }

    /// `None`: the servers have no such command.
    fn ask_for(&mut self, name: &Name) -> Result<Option<&'static Command>, Step> {
        let session = self.session;
        let waker = session.waker.borrow().clone().ok_or(Step::NoRoom)?;
        let place = match self.pool.live_place() {
            Ok(place) => place,
            Err(away) => {
                self.spoil();
                return Err(self.answer_as(Verdict::Away(Class::Other), |out, r| write_away(out, r.session, away)));
            }
        };
        let connection = self.pool.connection(place, session.id, self.pool.usual());
        if !connection.has_room() {
            return Err(session.wait_for(connection));
        }
        match self.pool.learnt().look_up(name, session.shared.pass.now(), &waker) {
            Outlook::Known(Answer::Command(command)) => Ok(Some(command)),
            Outlook::Known(Answer::Unknown) => Ok(None),
            Outlook::Known(Answer::Failed(why)) => {
                self.spoil();
                let verdict = Verdict::Away(Class::Other);
                Err(self.answer_as(verdict, |out, r| errors::not_learnt(out, r.arg(0), &why, r.pool_name())))
            }
            Outlook::Wait => Err(Step::NoRoom),
            Outlook::Ask => {
                ask(self.pool, connection, name);
                Err(Step::NoRoom)
            }
        }
    }

    /// Has a server say again what it was asked long ago; nobody waits for that.
    fn ask_again(&self, name: &Name) {
        let connection = self.pool.live_place().ok();
        let connection = connection.map(|place| self.pool.connection(place, self.session.id, self.pool.usual()));
        match connection.filter(|connection| connection.has_room()) {
            Some(connection) => ask(self.pool, connection, name),
            None => self.pool.learnt().settle(name.as_bytes(), None, self.session.shared.pass.now()),
        }
    }
}

/// The command of a request that is sent again: of the table, or learnt.
pub(in crate::session) fn known<'a>(
    pool: &Pool,
    argc: usize,
    arg: impl Fn(usize) -> Option<&'a [u8]>,
) -> Option<&'static Command> {
    let (container, own) = match commands::resolve(argc, &arg) {
        Resolved::Command(command) => return Some(command),
        Resolved::Unknown => (None, arg(0)?),
        Resolved::UnknownSubcommand(container) => (Some(container.name), arg(1)?),
        Resolved::WrongArity(_) => return None,
    };
    let command = pool.learnt().command(&Name::of(container, own)?)?;
    match commands::resolve_within(command, argc, arg) {
        Resolved::Command(command) => Some(command),
        _ => None,
    }
}

fn ask(pool: &Rc<Pool>, connection: &Rc<backend::Connection>, name: &Name) {
    let question = Question {
        learnt: pool.learnt().clone(),
        name: name.as_bytes().into(),
        server: connection.server().name.clone(),
        settled: Cell::new(false),
    };
    let request = backend::Request { repeatable: true, ..backend::Request::once(Ticket::default(), Expect::Resp) };
    connection.send(Some(Rc::new(question)), request, |out, pass| {
        reply::write_command(out.tail(pass), &[&b"COMMAND"[..], b"INFO", name.as_bytes()]);
    });
}

/// A server is being asked what a command is.
struct Question {
    learnt: Arc<Learnt>,
    name: Box<[u8]>,
    server: String,
    settled: Cell<bool>,
}

impl Question {
    fn settle(&self, answer: Option<Answer>) {
        self.settled.set(true);
        self.learnt.settle(&self.name, answer, Instant::now());
    }

    fn answer(&self, reply: &[u8]) -> Answer {
        let failed = |why: &dyn std::fmt::Display| Answer::Failed(format!("server {}: {why}", self.server).into());
        match told::read(reply) {
            Ok(told) if told.name.as_bytes() != &*self.name => failed(&"it describes another one"),
            Ok(told) => learn(&told).map_or_else(|| failed(&"too many commands were learnt"), Answer::Command),
            Err(Untold::Unknown) => Answer::Unknown,
            Err(other) => failed(&other),
        }
    }
}

impl Requester for Question {
    fn reply(self: Rc<Self>, _: Ticket, payload: Payload<'_>) {
        self.settle(Some(self.answer(payload.as_slice())));
    }

    fn fail(self: Rc<Self>, _: Ticket, failure: &Failure<'_>) {
        // Of a server that was ejected another one may be asked.
        self.settle(failure.lost.is_none().then(|| Answer::Failed(failure.to_string().into())));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.settled.get() {
            self.settle(None);
        }
    }
}
