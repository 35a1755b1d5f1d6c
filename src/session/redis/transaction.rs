//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! ```text
//!   WATCH k ──► leases a connection to k's server ─┐
//!   MULTI ──► answered here                        │
//!   SET k v ──► leases one if there is none ───────┴─► MULTI, and all that follows
//!   EXEC ──► given back with the reply
//! ```
//! The first key says which server it is; what comes before it is kept here. A key on another server, or any request that is
//! refused here, spoils the transaction, and EXEC answers EXECABORT, as Redis does it. A lost connection spoils it as well; of
//! one that only watches it is as if a watched key had changed.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::super::tenancy::{Own, Standing, Tenancy};
use super::super::{Step, meter::Verdict};
use super::{Request, whole};
use crate::io::Payload;
use crate::protocol::redis::commands::{Command, NO_MULTI, ProxyCommand, Route, TransactionCommand};
use crate::protocol::redis::{Version, errors, reply};
use crate::telemetry::Trouble;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

/// What a client has begun with MULTI or WATCH.
#[derive(Default)]
pub(super) struct Transaction {
    stage: Stage,
    /// To the server of its keys, once that is known.
    tenancy: Option<Rc<Tenancy>>,
    /// Keys are watched there.
    watches: bool,
    /// The server has got MULTI.
    opened: bool,
    /// Requests that came before the server was known, and their bytes together.
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    /// Why EXEC cannot succeed.
    spoilt: Option<Spoilt>,
    /// While it watches: the last request went by a shared connection.
    aside: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// After WATCH.
    Watching,
    /// After MULTI.
    #[default]
    Open,
    /// After EXEC, DISCARD or UNWATCH, whose reply is still to come.
    Ending,
}

enum Spoilt {
    /// A request was refused.
    Refused,
    /// The connection was lost.
    Lost(String),
}

impl Transaction {
    /// Nothing of it is left.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Ending && self.tenancy.as_ref().is_none_or(|tenancy| tenancy.is_over())
    }

    /// The connection that watched was lost before MULTI: whatever is queued, EXEC will do nothing.
    fn has_lost_sight(&self) -> bool {
        self.watches && !self.opened && self.is_lost()
    }

    fn is_lost(&self) -> bool {
        matches!(self.tenancy.as_ref().map(|tenancy| tenancy.standing()), Some(Standing::Lost(_)))
    }

    /// With EXEC, DISCARD or UNWATCH nothing is watched any more.
    fn end(&mut self) {
        self.stage = Stage::Ending;
        self.watches = false;
        self.spoilt = None;
        self.waiting = Vec::new();
        self.waiting_bytes = 0;
    }

    fn live(&self) -> Option<&Rc<Tenancy>> {
        self.tenancy.as_ref().filter(|tenancy| !tenancy.is_over())
    }

    /// Whether MULTI was said.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }
}

impl Request<'_, '_> {
    /// What a transaction has to say to the request at hand; `None`: it goes its usual way.
    pub(super) fn in_transaction(&mut self, command: &'static Command) -> Option<Step> {
        let transaction = self.state.transaction.as_ref()?;
        if transaction.is_over() {
            self.state.transaction = None;
            return None;
        }
        match (transaction.stage, command.route) {
            (_, Route::Transaction(_) | Route::Proxy(ProxyCommand::Quit | ProxyCommand::Reset)) => None,
            (Stage::Ending, _) => Some(self.session.settles_first()),
            (Stage::Watching, _) => self.while_watching(command),
            (Stage::Open, _) => {
                let step = self.queue(command);
                let card = &self.session.card;
                card.queued.store(card.queued.load(Relaxed) + i32::from(matches!(step, Step::Next)), Relaxed);
                Some(step)
            }
        }
    }

    pub(super) fn transaction(&mut self, command: &'static Command, what: TransactionCommand) -> Step {
        let stage = self.state.transaction.as_ref().map(|transaction| transaction.stage);
        let open = stage == Some(Stage::Open);
        match what {
            TransactionCommand::Multi if open => self.error("ERR MULTI calls can not be nested"),
            TransactionCommand::Multi => self.multi(),
            TransactionCommand::Exec if open => self.exec(command),
            TransactionCommand::Exec => self.error("ERR EXEC without MULTI"),
            TransactionCommand::Discard if open => self.discard(command),
            TransactionCommand::Discard => self.error("ERR DISCARD without MULTI"),
            TransactionCommand::Watch if open => self.error("ERR WATCH inside MULTI is not allowed"),
            TransactionCommand::Unwatch if open => self.queue(command),
            _ if stage == Some(Stage::Ending) => self.session.settles_first(),
            TransactionCommand::Watch => self.watch(command),
            TransactionCommand::Unwatch => self.unwatch(command),
        }
    }

    /// Within MULTI: EXEC must not succeed any more.
    pub(super) fn spoil(&mut self) {
        if let Some(transaction) = self.state.transaction.as_mut().filter(|t| t.is_open())
            && transaction.spoilt.is_none()
        {
            transaction.spoilt = Some(Spoilt::Refused);
        }
    }

    fn begun(&mut self) -> &mut Transaction {
        self.state.transaction.get_or_insert_default()
    }

    fn multi(&mut self) -> Step {
        self.session.card.queued.store(0, Relaxed);
        let transaction = self.begun();
        transaction.stage = Stage::Open;
        transaction.opened = false;
        self.say(reply::OK)
    }

    fn watch(&mut self, command: &'static Command) -> Step {
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

    fn unwatch(&mut self, command: &'static Command) -> Step {
        match self.state.transaction.as_mut() {
            Some(transaction) if transaction.live().is_some() => self.end_with(command),
            _ => {
                self.state.transaction = None;
                self.say(reply::OK)
            }
        }
    }

    fn exec(&mut self, command: &'static Command) -> Step {
        self.session.card.queued.store(-1, Relaxed);
        let Some(transaction) = self.state.transaction.as_mut() else { return self.error("ERR EXEC without MULTI") };
        if let Some(spoilt) = transaction.spoilt.take() {
            self.give_up();
            return self.answer_as(Verdict::Rejected(command.class(), Trouble::Invalid), |out, _| match spoilt {
                Spoilt::Refused => out.extend_from_slice(errors::EXECABORT),
                Spoilt::Lost(why) => errors::exec_abort(out, &why),
            });
        }
        if transaction.has_lost_sight() {
            // The keys may have changed since.
            self.state.transaction = None;
            let null = self.null_array();
            return self.answer_as(Verdict::Away(command.class()), |out, _| out.extend_from_slice(null));
        }
        match transaction.tenancy.as_ref().map(|tenancy| tenancy.standing()) {
            Some(Standing::Lost(why)) if transaction.opened => {
                // It may be there, but without MULTI.
                transaction.live().cloned().iter().for_each(|tenancy| tenancy.give_back(false));
                self.state.transaction = None;
                let verdict = Verdict::Away(command.class());
                return self.answer_as(verdict, |out, _| errors::exec_abort(out, &why));
            }
            None | Some(Standing::GivenBack | Standing::Lost(_)) if transaction.waiting.is_empty() => {
                self.state.transaction = None;
                return self.say(reply::EMPTY_ARRAY);
            }
            _ => {}
        }
        // What came before the server was known goes to any.
        match self.pinned(command, None) {
            Ok(_) => self.end_with(command),
            Err(Step::Next) => {
                // Why it cannot be carried out was the answer to EXEC, and so the end of the transaction.
                self.give_up();
                Step::Next
            }
            Err(step) => step,
        }
    }

    fn discard(&mut self, command: &'static Command) -> Step {
        self.session.card.queued.store(-1, Relaxed);
        let refused = self.state.transaction.as_ref().and_then(|transaction| transaction.live()).cloned();
        if let Some(tenancy) = refused.filter(|tenancy| matches!(tenancy.standing(), Standing::Lost(_))) {
            // The server did not take MULTI.
            tenancy.give_back(false);
        }
        if self.state.transaction.as_ref().is_some_and(|t| t.opened && t.live().is_some()) {
            return self.end_with(command);
        }
        self.give_up();
        self.say(reply::OK)
    }

    /// Sends this last request, and gives the connection back with its reply.
    fn end_with(&mut self, command: &'static Command) -> Step {
        let transaction = self.begun();
        let Some(tenancy) = transaction.live().cloned() else { return self.error("ERR transaction lost") };
        if let Some(step) = self.must_wait(&tenancy) {
            return step;
        }
        self.begun().end();
        tenancy.end_when_answered();
        self.send_to(&tenancy, command)
    }

    /// Forgets the transaction, and has the server forget it.
    pub(super) fn give_up(&mut self) {
        self.session.card.queued.store(-1, Relaxed);
        let Some(transaction) = self.state.transaction.as_mut() else { return };
        transaction.end();
        if let Some(tenancy) = transaction.live().filter(|tenancy| !tenancy.is_ending()) {
            tenancy.end_when_answered();
            tenancy.send_own(Own::Discard, if transaction.opened { DISCARD } else { UNWATCH });
        }
    }

    /// A request within MULTI.
    fn queue(&mut self, command: &'static Command) -> Step {
        if command.flags & NO_MULTI != 0 {
            return self.refuse_queued(command, |out, _| out.extend_from_slice(errors::NOT_IN_TRANSACTION));
        }
        let place = match command.route {
            Route::Key | Route::Keys | Route::Split(_) | Route::Channel => match self.common_place(command) {
                Ok(place) => place,
                Err(step) => {
                    self.spoil();
                    return step;
                }
            },
            Route::One | Route::Wait | Route::Transaction(_) => None,
            Route::Proxy(ProxyCommand::Ping | ProxyCommand::Echo | ProxyCommand::Time | ProxyCommand::Command) => None,
            Route::FanOut(_) | Route::Only(_) | Route::Debug if self.pool.places() == 1 => None,
            _ => return self.refuse_queued(command, |out, _| errors::refused_in_transaction(out, command)),
        };
        if self.has_lost_sight() {
            return self.say(reply::QUEUED);
        }
        if place.is_none() && self.is_unpinned() && self.pool.places() > 1 {
            return self.keep(command);
        }
        match self.pinned(command, place) {
            Ok(tenancy) => self.send_to(&tenancy, command),
            Err(step) => step,
        }
    }

    fn has_lost_sight(&self) -> bool {
        self.state.transaction.as_ref().is_some_and(|transaction| transaction.has_lost_sight())
    }

    fn null_array(&self) -> &'static [u8] {
        match self.session.variant().version {
            Version::Resp2 => reply::NULL_ARRAY,
            Version::Resp3 => reply::NULL_3,
        }
    }

    fn is_unpinned(&self) -> bool {
        let of_before = |t: &Transaction| t.live().is_none_or(|tenancy| tenancy.is_ending());
        self.state.transaction.as_ref().is_none_or(|transaction| !transaction.opened && of_before(transaction))
    }

    fn refuse_queued(&mut self, command: &Command, write: impl FnOnce(&mut Vec<u8>, &Self)) -> Step {
        self.spoil();
        self.answer_as(Verdict::Rejected(command.class(), Trouble::Unsupported), write)
    }

    /// Keeps the request until the server is known.
    fn keep(&mut self, command: &'static Command) -> Step {
        let most = self.pool.shared().session_limits.max_session_bytes;
        let frame = match self.as_eval(command) {
            Some(eval) => eval.into(),
            None => Bytes::copy_from_slice(self.args.frame(&self.input.bytes()[..self.length])),
        };
        let transaction = self.begun();
        if transaction.waiting_bytes + frame.len() > most {
            return self.refuse_queued(command, |out, _| errors::transaction_too_large(out, most));
        }
        transaction.waiting_bytes += frame.len();
        transaction.waiting.push(frame);
        self.say(reply::QUEUED)
    }

    /// The connection of the transaction, to the server at this place if one is given, with MULTI said there.
    fn pinned(&mut self, command: &'static Command, place: Option<usize>) -> Result<Rc<Tenancy>, Step> {
        let transaction = self.begun();
        match transaction.tenancy.as_ref().map(|tenancy| tenancy.standing()) {
            // It was that of the transaction before.
            Some(Standing::Lost(_)) if !transaction.opened => transaction.tenancy = None,
            Some(Standing::Lost(why)) => return Err(self.lose(command, why)),
            // Without MULTI there nothing may be sent to another.
            Some(Standing::GivenBack) if transaction.opened => {
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
        for request in std::mem::take(&mut transaction.waiting) {
            tenancy.send_unasked(&request);
        }
        transaction.waiting_bytes = 0;
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
                tenancy.go_on();
                return Ok(tenancy);
            }
            if tenancy.is_ending() {
                // It is given back with the reply.
                return Err(self.session.settles_first());
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
    fn while_watching(&mut self, command: &'static Command) -> Option<Step> {
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
    pub(super) fn send_to(&mut self, tenancy: &Rc<Tenancy>, command: &Command) -> Step {
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
        let wait = super::blocking::wait(command, blocks);
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
