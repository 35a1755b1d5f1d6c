//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! ```text
//!   MULTI ──► answered here                              WATCH k ──► leases a connection to k's server
//!   SET k v ──► answered QUEUED, and kept                MULTI ──► answered here
//!   EXEC ──► all of it in one piece to k's server,       SET k v ──► MULTI, and all that follows
//!            on the connection that everybody shares     EXEC ──► given back with the reply
//! ```
//! The first key says which server it is. A key on another server, or any request that is refused here, spoils the
//! transaction, and EXEC answers EXECABORT, as Redis does it. A lost connection spoils one that has a connection of its own;
//! one that only watches it is as if a watched key had changed.

mod kept;
mod pinned;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::tenancy::{Own, Standing, Tenancy};
use super::super::{Step, meter::Verdict};
use super::Request;
use crate::config::User;
use crate::protocol::redis::commands::{Command, NO_MULTI, ProxyCommand, Route, TransactionCommand};
use crate::protocol::redis::{Version, errors, reply};
use crate::telemetry::Trouble;

use kept::Kept;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

/// What a client has begun with MULTI or WATCH.
#[derive(Default)]
pub(super) struct Transaction {
    stage: Stage,
    /// By whose rights requests were let in.
    rights: Option<Arc<User>>,
    /// What came after MULTI, if it has no connection of its own.
    kept: Kept,
    /// A connection of its own, to the server of its keys.
    tenancy: Option<Rc<Tenancy>>,
    /// Keys are watched there.
    watches: bool,
    /// The server has got MULTI there.
    opened: bool,
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
        self.kept = Kept::default();
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
            TransactionCommand::Multi if stage == Some(Stage::Ending) => self.session.settles_first(),
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

    /// It ends what WATCH or MULTI has begun, and does nothing more once that is spoilt.
    pub(super) fn ends_transaction(&self, command: &Command) -> bool {
        use TransactionCommand::{Discard, Exec, Unwatch};
        self.state.transaction.is_some() && matches!(command.route, Route::Transaction(Exec | Discard | Unwatch))
    }

    fn begun(&mut self) -> &mut Transaction {
        self.state.transaction.get_or_insert_default()
    }

    fn multi(&mut self) -> Step {
        self.session.card.queued.store(0, Relaxed);
        let rights = self.state.who.rights().cloned();
        let transaction = self.begun();
        transaction.rights = rights;
        transaction.stage = Stage::Open;
        transaction.opened = false;
        self.say(reply::OK)
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
        if let Some(user) = self.state.who.rights()
            && transaction.rights.as_ref().is_none_or(|before| before.permissions != user.permissions)
        {
            let why = format!("the rights of user {} have changed", user.name);
            return self.abort(command, &why);
        }
        if transaction.has_lost_sight() {
            // The keys may have changed since.
            self.state.transaction = None;
            let null = self.null_array();
            return self.answer_as(Verdict::Away(command.class()), |out, _| out.extend_from_slice(null));
        }
        let standing = transaction.tenancy.as_ref().map(|tenancy| tenancy.standing());
        if let Some(Standing::Lost(why)) = standing.clone().filter(|_| transaction.opened) {
            // It may be there, but without MULTI.
            transaction.live().cloned().iter().for_each(|tenancy| tenancy.give_back(false));
            self.state.transaction = None;
            return self.abort(command, &why);
        }
        if standing.is_none() {
            return self.exec_kept(command);
        }
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

    /// Nothing of the transaction was done, for this reason.
    fn abort(&mut self, command: &Command, why: &str) -> Step {
        self.give_up();
        self.answer_as(Verdict::Away(command.class()), |out, _| errors::exec_abort(out, why))
    }

    /// EXEC with arguments ends the transaction as well.
    pub(super) fn abort_misspelt(&mut self, command: &Command) -> Step {
        self.give_up();
        self.reject(command, |out, _| {
            errors::exec_abort(out, &format!("wrong number of arguments for '{}' command", command.name));
        })
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
            // In RESP3 PROTOCOL has an answer beside that of EXEC, which would be taken for that to another request.
            Route::Debug if self.arg(1).eq_ignore_ascii_case(b"protocol") => {
                return self.refuse_queued(command, |out, _| errors::refused_in_transaction(out, command));
            }
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
        if self.state.transaction.as_ref().is_some_and(|transaction| transaction.tenancy.is_none()) {
            return self.keep(command, place);
        }
        self.queue_there(command, place)
    }

    /// To the connection that the transaction has, or gets now.
    fn queue_there(&mut self, command: &'static Command, place: Option<usize>) -> Step {
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

    fn refuse_queued(&mut self, command: &Command, write: impl FnOnce(&mut Vec<u8>, &Self)) -> Step {
        self.spoil();
        self.answer_as(Verdict::Rejected(command.class(), Trouble::Unsupported), write)
    }
}
