//! SUBSCRIBE and its kin, and what a client with subscriptions may say.

use bytes::Bytes;

use super::super::Step;
use super::super::meter::Verdict;
use super::super::subscriptions::channel_key;
use super::Request;
use crate::pool::Away;
use crate::protocol::redis::commands::{Command, ProxyCommand, Route, Subscription};
use crate::protocol::redis::{Version, errors, reply};
use crate::telemetry::{Label, Outcome, Trouble};

impl Request<'_, '_> {
    pub(super) fn subscribe(&mut self, command: &'static Command, kind: Subscription) -> Step {
        if self.session.is_awaiting() {
            return self.session.settles_first();
        }
        if self.session.refuses() {
            return self.refuse(command);
        }
        if let Some(name) = self.too_long(1..self.args.len()) {
            return self.home(command, name).err().unwrap_or(Step::Next);
        }
        let names = self.names();
        if let Err(why) = self.session.join(self.pool, kind, names) {
            self.session.tend_subscriptions();
            let verdict = Verdict::Rejected(command.class(), Trouble::Ejected);
            return self.answer_as(verdict, |out, _| reply::write_error(out, &format!("ERR {why}")));
        }
        self.taken(command)
    }

    pub(super) fn unsubscribe(&mut self, command: &'static Command, kind: Subscription) -> Step {
        if self.session.is_awaiting() {
            return self.session.settles_first();
        }
        let names = self.names();
        self.session.quit(self.pool, kind, names);
        self.taken(command)
    }

    fn names(&self) -> Vec<Bytes> {
        self.args.iter(self.input.bytes()).skip(1).map(Bytes::copy_from_slice).collect()
    }

    /// What it gets are confirmations, which are no reply.
    fn taken(&mut self, command: &Command) -> Step {
        self.session.count_unheard(command.class().index(), Outcome::Ok);
        self.input.skip(self.length);
        self.session.tend_subscriptions();
        if self.session.is_owing() { Step::Stall } else { Step::Next }
    }

    /// What a client with subscriptions may not say in RESP2, where messages and replies cannot be told apart.
    pub(super) fn while_subscribed(&mut self, command: &'static Command) -> Option<Step> {
        let subscribed = self.session.subscriptions.borrow().as_ref().is_some_and(|all| all.is_subscribed());
        if !subscribed {
            return None;
        }
        let resp2 = self.session.variant().version == Version::Resp2;
        match command.route {
            Route::Subscribe(_) | Route::Unsubscribe(_) | Route::Proxy(ProxyCommand::Quit | ProxyCommand::Reset) => {
                None
            }
            Route::Proxy(ProxyCommand::Ping) if resp2 && self.args.len() <= 2 => Some(self.pong()),
            Route::Proxy(ProxyCommand::Ping) => None,
            _ if resp2 => Some(self.reject(command, |out, _| errors::not_while_subscribed(out, command))),
            // Its subscriptions are on connections of what it speaks now.
            Route::Proxy(ProxyCommand::Hello | ProxyCommand::Select) if self.args.len() > 1 => {
                Some(self.reject(command, |out, _| errors::not_now(out, command, "while there are subscriptions")))
            }
            _ => None,
        }
    }

    /// PING among messages looks like one.
    fn pong(&mut self) -> Step {
        self.answer(|out, r| {
            reply::write_array_header(out, 2);
            reply::write_bulk(out, b"pong");
            reply::write_bulk(out, r.arg(1));
        })
    }

    /// PUBLISH and SPUBLISH: to where those who have subscribed to the channel are.
    pub(super) fn publish(&mut self, command: &'static Command) -> Step {
        match self.home_of_channel(command) {
            Ok(Ok(place)) => self.forward(place, command),
            Ok(Err(away)) => self.answer_away(command, away),
            Err(refused) => refused,
        }
    }

    pub(super) fn home_of_channel(&mut self, command: &Command) -> Result<Result<usize, Away>, Step> {
        let longest = self.pool.shared().limits.max_key_bytes;
        if self.arg(1).len() > longest {
            return Err(self.reject(command, |out, r| errors::key_too_long(out, r.arg(1), longest)));
        }
        Ok(self.pool.route(channel_key(self.arg(1))))
    }
}
