//! What is not for everybody, and what would leave the databases that the pool serves.

use super::super::Step;
use super::local::parse_integer;
use super::{Request, unsupported};
use crate::protocol::redis::commands::{Command, FanOut, Route};
use crate::protocol::redis::{errors, reply};

impl Request<'_, '_> {
    /// Refuses a request of a command that is to be looked at more closely ([`Command::guarded`]), if it must be.
    pub(super) fn guard(&mut self, command: &'static Command) -> Option<Step> {
        let refused = match command.route {
            // Not for administrators either.
            Route::Only(reason) if self.pool.places() > 1 => self.refuse_to_offer(command, reason),
            _ if self.is_restricted(command) && !self.pool.settings.allow_admin_commands => {
                self.answer_as(unsupported(command), |out, r| errors::restricted(out, command, r.pool_name()))
            }
            // What that pool holds may be others' as well. Passing it over would be no way out: keys that were to be gone
            // would be served again at the next ejection.
            Route::FanOut(FanOut::Flush) if self.pool.stand_in().is_some_and(|p| !p.settings.allow_admin_commands) => {
                self.answer_as(unsupported(command), |out, r| {
                    let stand_in = r.pool.stand_in().map_or("", |pool| &pool.settings.name);
                    errors::restricted_at_stand_in(out, command, r.pool_name(), stand_in);
                })
            }
            _ if self.leaves_its_databases(command) => {
                self.reject(command, |out, r| reply::write_error(out, &r.no_database()))
            }
            _ => return None,
        };
        self.spoil();
        Some(refused)
    }

    /// Refuses a request in a database that the pool does not serve any more. What was begun there can be ended, without
    /// anything being done.
    pub(super) fn guard_its_database(&mut self, command: &'static Command) -> Option<Step> {
        if !self.session.is_astray(self.pool) || matches!(command.route, Route::Proxy(_)) {
            return None;
        }
        self.spoil();
        if self.ends_transaction(command) {
            return None;
        }
        let (database, pool) = (self.session.variant().database, self.pool_name());
        let text = format!("ERR pool {pool} does not serve database {database} any more (databases); SELECT another");
        Some(self.answer_as(unsupported(command), |out, _| reply::write_error(out, &text)))
    }

    /// Whether it can destroy what others rely on. Of DEBUG all but a look at a key.
    fn is_restricted(&self, command: &Command) -> bool {
        let is = |name: &[u8]| self.arg(1).eq_ignore_ascii_case(name);
        command.restricted || (command.route == Route::Debug && !is(b"object") && !is(b"help"))
    }

    /// MOVE, COPY and SWAPDB: whether a database is named that the pool does not serve.
    fn leaves_its_databases(&self, command: &Command) -> bool {
        let argc = self.args.len();
        let serves = |at: usize| match parse_integer(self.arg(at)) {
            Some(number) => self.served_database(number).is_some(),
            // The server refuses it.
            None => true,
        };
        match command.name {
            "move" => !serves(2),
            "swapdb" => !serves(1) || !serves(2),
            "copy" => (3..argc - 1).any(|at| self.arg(at).eq_ignore_ascii_case(b"db") && !serves(at + 1)),
            _ => false,
        }
    }
}
