//! Requests that concern all servers of a pool: as they came to each of them, on the connections that the session always
//! uses, so that they keep their order with its other requests; the replies are merged.
//!
//! Asked are the pool's own servers. The pool that stands in has keys of ours only as long as a server is ejected, and then
//! an answer for all keys would be a lie: what is ejected has some too. So a server that is away is an error, which names it.
//! What must also be known to servers that stand in (scripts, functions) or be gone there (FLUSHALL) goes to them as well.

use std::rc::Rc;

use super::super::Step;
use super::super::merge::{Merge, Part, Parts};
use super::super::tenancy::Tenancy;
use super::blocking::wait;
use super::local::parse_integer;
use super::split::first_error;
use super::{Request, sent, write_away};
use crate::backend::{Requester, Ticket};
use crate::io::Payload;
use crate::pool::Away;
use crate::protocol::redis::commands::{Command, FanOut};
use crate::protocol::redis::gather::{Hint, gather};
use crate::protocol::redis::{reply, response};
use crate::telemetry::Class;

/// What one server is asked.
pub(super) struct Errand {
    pub place: usize,
    /// It is not asked, since it is ejected.
    pub away: Option<Away>,
    /// Another request than the client's.
    pub instead: Option<&'static str>,
}

impl Request<'_, '_> {
    pub(super) fn fan_out(&mut self, command: &'static Command, kind: FanOut) -> Step {
        match kind {
            FanOut::Info => self.info(command),
            FanOut::Scan if self.pool.servers() > 1 => self.scan(command),
            FanOut::Any | FanOut::Running => self.ask_aside(command, kind),
            _ => self.ask_all(command, kind),
        }
    }

    fn ask_all(&mut self, command: &'static Command, kind: FanOut) -> Step {
        let mut errands = self.errands(kind);
        let away = errands.iter().find_map(|errand| errand.away);
        match (away, &errands[..]) {
            (None, [only]) => return self.forward(only.place, command),
            (Some(away), _) => return self.answer_gone(command, away),
            _ => {}
        }
        if kind == FanOut::Random {
            let sizes = errands.iter().map(|errand| Errand { instead: Some("DBSIZE"), ..*errand });
            errands.extend(sizes.collect::<Vec<_>>());
        }
        let merge = self.gathered(command, kind, errands.len());
        self.send_errands(command, &errands, merge)
    }

    pub(super) fn gathered(&self, command: &'static Command, kind: FanOut, count: usize) -> Box<Gathered> {
        let hint = Hint { count: self.count_of(kind), random: self.pool.next_random() };
        Box::new(Gathered { parts: self.parts(count), kind, command, hint })
    }

    /// What is about the script that a server may be running: on connections of their own, since the shared one may wait
    /// behind that very script.
    fn ask_aside(&mut self, command: &'static Command, kind: FanOut) -> Step {
        if self.session.is_awaiting() {
            return self.session.settles_first();
        }
        let aways: Vec<Option<Away>> = (0..self.pool.servers()).map(|place| self.pool.away(place)).collect();
        // One that is away runs nothing that could be stopped, but it may well do so again.
        let live = || aways.iter().filter(|away| away.is_none());
        let needed = if kind == FanOut::Any { 1 } else { aways.len() };
        if let Some(away) = aways.iter().copied().flatten().next().filter(|_| live().count() < needed) {
            return self.answer_gone(command, away);
        }
        let mut leased: Vec<Option<Rc<Tenancy>>> = Vec::new();
        for (place, away) in aways.iter().enumerate() {
            match away.map_or_else(|| self.lease(command, place).map(Some), |_| Ok(None)) {
                Ok(tenancy) => leased.push(tenancy),
                Err(step) => {
                    leased.iter().flatten().for_each(|tenancy| tenancy.give_back(true));
                    return step;
                }
            }
        }
        let asked = self.session.asked(command.class());
        let merge = self.gathered(command, kind, leased.len());
        let ticket = self.state.replies().then(|| self.session.replies.borrow_mut().reserve_merge(asked, merge));
        let frame = self.args.frame(&self.input.bytes()[..self.length]).to_vec();
        for (index, (tenancy, away)) in leased.iter().zip(&aways).enumerate() {
            let part = self.part(ticket, index, asked.class);
            match (tenancy, away) {
                (Some(tenancy), _) => {
                    tenancy.end_when_answered();
                    tenancy.send(part, wait(command, None), |out, pass| out.push(Payload::Borrowed(&frame), pass));
                }
                (None, Some(away)) => self.settle_away_part(part, *away),
                (None, None) => {}
            }
        }
        self.input.skip(self.length);
        Step::Stall
    }

    /// The ticket of one part of a request; of those that the client does not want to hear the first is counted.
    pub(super) fn part(&self, ticket: Option<Ticket>, index: usize, class: Class) -> Ticket {
        match ticket {
            Some(ticket) => Ticket { part: index as u32, ..ticket },
            None => self.session.unheard((index == 0).then_some(class)),
        }
    }

    fn settle_away_part(&self, part: Ticket, away: Away) {
        let mut error = Vec::new();
        write_away(&mut error, self.session, away);
        self.session.settle_part(part, Err(&error));
    }

    /// Those that are asked: the pool's own first, in ring order.
    fn errands(&self, kind: FanOut) -> Vec<Errand> {
        let (pool, own) = (self.pool, self.pool.servers());
        let places = match kind {
            FanOut::Everywhere | FanOut::Flush => pool.places(),
            _ => own,
        };
        let errands = (0..places).map(|place| Errand { place, away: pool.away(place), instead: None });
        let is_asked = |errand: &Errand| errand.away.is_none() || errand.place < own || kind == FanOut::Flush;
        errands.filter(is_asked).collect()
    }

    /// For so many replies, together no more than one server may send, nor than the process may hold.
    pub(super) fn parts(&self, count: usize) -> Parts {
        let shared = self.pool.shared();
        Parts::within(count, shared.limits.max_response_bytes.min(shared.session_limits.max_buffered_bytes))
    }

    /// `SLOWLOG GET [count]`: how many entries are wanted. What is no number the servers refuse.
    fn count_of(&self, kind: FanOut) -> Option<usize> {
        match (kind, self.args.len()) {
            (FanOut::Newest, 2) => Some(10),
            (FanOut::Newest, _) => parse_integer(self.arg(2)).and_then(|count| usize::try_from(count).ok()),
            _ => None,
        }
    }

    /// The request to each of these servers; the replies become one. What is away has its error at once.
    pub(super) fn send_errands(&mut self, command: &Command, errands: &[Errand], merge: Box<dyn Merge>) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse(command);
        }
        let connection = |errand: &Errand| self.pool.connection(errand.place, session.id, session.variant());
        let mut asked = errands.iter().filter(|errand| errand.away.is_none()).map(connection);
        if let Some(full) = asked.find(|c| !c.has_room()) {
            return session.wait_for(full);
        }
        let asked = session.asked(command.class());
        let ticket = self.state.replies().then(|| session.replies.borrow_mut().reserve_merge(asked, merge));
        for (index, errand) in errands.iter().enumerate() {
            let part = self.part(ticket, index, asked.class);
            if let Some(away) = errand.away {
                self.settle_away_part(part, away);
                continue;
            }
            let requester: Rc<dyn Requester> = session.clone();
            connection(errand).send(Some(requester), sent(command, part), |out, pass| match errand.instead {
                Some(other) => reply::write_command(out.tail(pass), &[other]),
                None => out.push(Payload::Borrowed(self.args.frame(self.input.bytes())), pass),
            });
        }
        self.input.skip(self.length);
        Step::Next
    }

    /// DEBUG: about a key at its server, otherwise at all servers.
    pub(super) fn debug(&mut self, command: &'static Command) -> Step {
        /// What has its key behind its name.
        const OF_A_KEY: [&str; 6] = ["object", "sdslen", "listpack", "ziplist", "quicklist", "htstats-key"];
        let is = |name: &str| self.arg(1).eq_ignore_ascii_case(name.as_bytes());
        match self.args.len() {
            3.. if OF_A_KEY.into_iter().any(is) => self.forward_by(command, 2),
            2 if is("help") => self.forward_to_one(command),
            _ => self.ask_all(command, FanOut::Equal),
        }
    }
}

/// What the servers say becomes one reply.
pub(super) struct Gathered {
    parts: Parts,
    kind: FanOut,
    command: &'static Command,
    hint: Hint,
}

impl Merge for Gathered {
    fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let name = self.command.name.to_ascii_uppercase().replace('|', " ");
        if self.parts.are_too_large() {
            return reply::write_error(out, &format!("ERR the servers' replies to {name} are too large together"));
        }
        let good: Vec<&[u8]> = self.parts.iter().filter_map(good).collect();
        let error = match self.kind {
            FanOut::Any if good.is_empty() => telling_error(&self.parts),
            FanOut::Any => None,
            _ => first_error(&self.parts).map(|error| &error[..]),
        };
        if let Some(error) = error {
            return out.extend_from_slice(error);
        }
        if gather(self.kind, &good, self.hint, out).is_none() {
            let text = match self.kind {
                FanOut::Equal => format!("ERR the servers answer {name} differently, ask each of them"),
                _ => format!("ERR a server answered {name} with what that does not return"),
            };
            reply::write_error(out, &text);
        }
    }
}

/// A server's reply that is no error.
pub(super) fn good(part: &Part) -> Option<&[u8]> {
    match part {
        Part::Reply(reply) if !response::is_error(reply) => Some(reply),
        _ => None,
    }
}

/// The first error that says more than that there was nothing to do.
fn telling_error(parts: &Parts) -> Option<&[u8]> {
    let idle = |error: &&[u8]| response::error_word(error) == Some(b"NOTBUSY");
    let errors = || parts.iter().map(|part| &part.bytes()[..]);
    errors().find(|error| !idle(error)).or_else(|| errors().next())
}
