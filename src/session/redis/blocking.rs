//! Requests that wait on their server for something to happen: BLPOP and its kin, XREAD with BLOCK, WAIT.
//!
//! Each has a connection of its own for as long as it waits. Its session takes nothing more meanwhile, as Redis does it, but
//! sees it when the client goes: then the connection is closed, and the server stops waiting as well.

use std::rc::Rc;

use super::super::Step;
use super::super::meter::Verdict;
use super::super::tenancy::Tenancy;
use super::{Request, whole, write_away};
use crate::backend::Wait;
use crate::io::Payload;
use crate::pool::{Away, Refusal};
use crate::protocol::redis::commands::{Blocks, Command, FanOut, Route, TransactionCommand};
use crate::protocol::redis::{errors, reply};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// How long the reply to this request is waited for.
pub(super) fn wait(command: &Command, blocks: Option<Blocks>) -> Wait {
    match blocks {
        Some(Blocks::Ever) => Wait::Ever,
        Some(Blocks::For(time)) => Wait::For(time),
        // What it runs may be slow.
        None if command.is_slow() || command.route == Route::Transaction(TransactionCommand::Exec) => Wait::Slow,
        None => Wait::Usual,
    }
}

impl Request<'_, '_> {
    /// A connection of its own to the server at this place.
    ///
    /// # Errors
    /// The request was refused.
    pub(super) fn lease(&mut self, command: &Command, place: usize) -> Result<Rc<Tenancy>, Step> {
        let session = self.session;
        if session.refuses() {
            return Err(self.refuse(command));
        }
        if let Some(away) = self.pool.away(place) {
            return Err(self.answer_gone(command, away));
        }
        if self.pool.is_stand_in(place) {
            return Err(self.reject(command, |out, r| errors::not_at_stand_in(out, command, r.pool.name_of(place))));
        }
        session.lease(self.pool, place).map_err(|refusal| {
            let verdict = match refusal {
                Refusal::Full { .. } => Verdict::Rejected(command.class(), refusal.trouble()),
                Refusal::Down { .. } => Verdict::Failed(command.class(), refusal.trouble()),
            };
            self.answer_as(verdict, |out, _| reply::write_error(out, &format!("ERR {refusal}")))
        })
    }

    /// The server is ejected, and the request is none that could find nothing instead.
    pub(super) fn answer_gone(&mut self, command: &Command, away: Away) -> Step {
        self.answer_as(Verdict::Away(command.class()), |out, r| write_away(out, r.session, away))
    }

    /// To the server at this place, on a connection of its own.
    pub(super) fn block(&mut self, command: &Command, place: usize, blocks: Blocks) -> Step {
        if self.session.is_awaiting() {
            return self.session.settles_first();
        }
        let tenancy = match self.lease(command, place) {
            Ok(tenancy) => tenancy,
            Err(step) => return step,
        };
        let ticket = self.session.ticket(command.class(), self.state.replies());
        let wait = wait(command, Some(blocks));
        tenancy.end_when_answered();
        tenancy.take_up_post(wait);
        tenancy.send(ticket, wait, whole(self.args, self.input, self.length));
        Step::Stall
    }

    /// WAIT and WAITAOF: every server says how many of its replicas have all that was written there before; the least of
    /// these is the answer. What they wait for is what their own connection has written last, or rather all that the server
    /// had written at that connection's last request: so that is asked for first.
    pub(super) fn wait_for_replicas(&mut self, command: &'static Command) -> Step {
        if self.session.is_awaiting() {
            return self.session.settles_first();
        }
        let blocks = command.blocks(self.args.len(), |i| self.args.get(self.input.bytes(), i));
        let mut tenancies = Vec::new();
        for place in 0..self.pool.servers() {
            match self.lease(command, place) {
                Ok(tenancy) => tenancies.push(tenancy),
                Err(step) => {
                    tenancies.iter().for_each(|tenancy: &Rc<Tenancy>| tenancy.give_back(true));
                    return step;
                }
            }
        }
        let asked = self.session.asked(command.class());
        // WAITAOF answers two numbers.
        let kind = if command.name == "waitaof" { FanOut::All } else { FanOut::Least };
        let merge = self.gathered(command, kind, tenancies.len());
        let ticket = self.state.replies().then(|| self.session.replies.borrow_mut().reserve_merge(asked, merge));
        let frame = self.args.frame(&self.input.bytes()[..self.length]).to_vec();
        for (index, tenancy) in tenancies.iter().enumerate() {
            let part = self.part(ticket, index, asked.class);
            tenancy.end_when_answered();
            tenancy.take_up_post(wait(command, blocks));
            tenancy.send_unasked(PING);
            tenancy.send(part, wait(command, blocks), |out, pass| out.push(Payload::Borrowed(&frame), pass));
        }
        self.input.skip(self.length);
        Step::Stall
    }
}
