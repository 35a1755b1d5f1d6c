//! Transactions on a connection of their own: those after WATCH, and those that are too large to be kept here.

use std::rc::Rc;

use super::super::super::Step;
use super::super::super::meter::Verdict;
use super::super::super::tenancy::{Own, Standing, Tenancy};
use super::super::{Request, blocking, whole};
use super::{MULTI, Spoilt, Stage};
use crate::io::Payload;
use crate::protocol::redis::commands::{Command, ProxyCommand, Route};
use crate::protocol::redis::{errors, reply};

impl Request<'_, '_> {
    pub(super) fn watch(&mut self, command: &'static Command) -> Step {
        let place = match self.common_place(command) {
            Ok(place) => place,
            Err(step) => return step,
        };
        if self.has_lost_sight() {
            // Of what was watched before nothing is known any more; that does not change.
            return self.say(reply::OK);
        }
        let tenancy = match self.settle_in(command, place) {
            Ok(tenancy) => tenancy,
            Err(step) => return step,
        };
        let transaction = self.begun();
        transaction.stage = Stage::Watching;
        transaction.watches = true;
        transaction.tenancy = Some(tenancy.clone());
        self.send_to(&tenancy, command)
    }

    pub(super) fn unwatch(&mut self, command: &'static Command) -> Step {
        match self.state.transaction.as_mut() {
            Some(transaction) if transaction.live().is_some() => self.end_with(command),
            _ => {
                self.state.transaction = None;
                self.say(reply::OK)
            }
        }
    }

    /// Sends this last request, and gives the connection back with its reply.
    pub(super) fn end_with(&mut self, command: &'static Command) -> Step {
        let transaction = self.begun();
        let Some(tenancy) = transaction.live().cloned() else { return self.error("ERR transaction lost") };
        if let Some(step) = self.must_wait(&tenancy) {
            return step;
        }
        self.begun().end();
        tenancy.end_when_accepted();
        self.send_to(&tenancy, command)
    }

    /// The connection of the transaction, to the server at this place if one is given, with MULTI said there and all that was
    /// kept until now.
    pub(super) fn pinned(&mut self, command: &'static Command, place: Option<usize>) -> Result<Rc<Tenancy>, Step> {
        let transaction = self.begun();
        match transaction.tenancy.as_ref().map(|tenancy| tenancy.standing()) {
            Some(Standing::Lost(why)) => return Err(self.lose(command, why)),
            // Without MULTI there nothing may be sent to another.
            Some(Standing::GivenBack) => {
                let why = match &transaction.spoilt {
                    Some(Spoilt::Lost(why)) => why.clone(),
                    _ => "its connection was given back".to_owned(),
                };
                return Err(self.lose(command, why));
            }
            _ => {}
        }
        let tenancy = self.settle_in(command, place)?;
        let transaction = self.begun();
        transaction.tenancy = Some(tenancy.clone());
        if tenancy.standing() == Standing::Proving {
            return Err(self.session.settles_first());
        }
        if !transaction.opened {
            transaction.opened = true;
            if tenancy.connection().is_some_and(|connection| !connection.is_proven()) {
                tenancy.send_own(Own::Multi, MULTI);
                return Err(self.session.settles_first());
            }
            tenancy.send_unasked(MULTI);
        }
        std::mem::take(&mut transaction.kept).each(|request, _| tenancy.send_unasked(request));
        Ok(tenancy)
    }

    fn lose(&mut self, command: &Command, why: String) -> Step {
        let transaction = self.begun();
        if let Some(tenancy) = transaction.live().cloned() {
            tenancy.give_back(false);
        }
        let step = self.answer_as(Verdict::Away(command.class()), |out, _| errors::transaction_lost(out, &why));
        self.begun().spoilt.get_or_insert(Spoilt::Lost(why));
        step
    }

    /// A connection to the server at this place, any if none is given: the one that there is, if it is to that server, or
    /// a new one.
    fn settle_in(&mut self, command: &'static Command, place: Option<usize>) -> Result<Rc<Tenancy>, Step> {
        let before = self.state.transaction.as_ref().and_then(|transaction| transaction.live()).cloned();
        if let Some(tenancy) = before {
            let fits = place.is_none_or(|place| self.pool.server_id(place) == tenancy.server);
            if fits {
                return Ok(tenancy);
            }
            self.spoil();
            let place = place.unwrap_or_default();
            return Err(self.reject(command, |out, r| {
                errors::transaction_apart(out, command, r.pool.name_of(place), &r.name_of_server(tenancy.server));
            }));
        }
        if self.session.is_awaiting() {
            return Err(self.session.settles_first());
        }
        let place = match place.map_or_else(|| self.pool.any_place(), Ok) {
            Ok(place) => place,
            Err(away) => {
                self.spoil();
                return Err(self.answer_gone(command, away));
            }
        };
        self.lease(command, place).inspect_err(|_| self.spoil())
    }

    fn name_of_server(&self, server: crate::pool::ServerId) -> String {
        let place = (0..self.pool.places()).find(|place| self.pool.server_id(*place) == server);
        place.map_or("a server that was removed".to_owned(), |place| self.pool.name_of(place).to_owned())
    }

    /// While keys are watched, requests to their server go by the same connection: what is read there was read after WATCH.
    pub(super) fn while_watching(&mut self, command: &'static Command) -> Option<Step> {
        let transaction = self.state.transaction.as_ref()?;
        let tenancy = transaction.live()?.clone();
        let aside = transaction.aside;
        let there = match command.route {
            Route::Proxy(ProxyCommand::Hello | ProxyCommand::Select) if self.args.len() > 1 => {
                return Some(self.reject(command, |out, _| errors::not_now(out, command, "while keys are watched")));
            }
            Route::Proxy(_) | Route::Refused(_) => return None,
            // What is elsewhere, on several servers, or wrong goes its usual way.
            Route::Key | Route::Keys | Route::Split(_) => {
                self.sole_place(command).is_some_and(|place| self.pool.server_id(place) == tenancy.server)
            }
            _ => false,
        };
        if aside == there && self.session.is_awaiting() {
            return Some(self.session.settles_first());
        }
        self.begun().aside = !there;
        there.then(|| self.send_to(&tenancy, command))
    }

    /// The request at hand cannot be sent on this connection yet.
    fn must_wait(&mut self, tenancy: &Tenancy) -> Option<Step> {
        let session = self.session;
        if let Some(transaction) = self.state.transaction.as_mut() {
            if transaction.aside && session.is_awaiting() {
                return Some(session.settles_first());
            }
            transaction.aside = false;
        }
        let connection = tenancy.connection().filter(|connection| !connection.has_room())?;
        session.waker.borrow().iter().for_each(|waker| connection.wait_for_room(waker));
        Some(Step::NoRoom)
    }

    /// Sends the request at hand on this connection.
    pub(in super::super) fn send_to(&mut self, tenancy: &Rc<Tenancy>, command: &Command) -> Step {
        if tenancy.is_over() {
            return self.error("ERR connection lost");
        }
        if let Some(step) = self.must_wait(tenancy) {
            return step;
        }
        let session = self.session;
        let blocks = match self.state.transaction.as_ref().is_some_and(|t| t.is_open()) {
            true => None,
            false => command.blocks(self.args.len(), |i| self.args.get(self.input.bytes(), i)),
        };
        let wait = blocking::wait(command, blocks);
        let ticket = session.ticket(command.class(), self.state.replies());
        self.notice_script(command);
        match self.as_eval(command) {
            Some(eval) => {
                tenancy.send(ticket, wait, |out, pass| out.push(Payload::Owned(eval.into()), pass));
                self.input.skip(self.length);
            }
            None => drop(tenancy.send(ticket, wait, whole(self.args, self.input, self.length))),
        }
        if blocks.is_some() { Step::Stall } else { Step::Next }
    }
}
