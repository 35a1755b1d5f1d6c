//! MGET, MSET, DEL, UNLINK, EXISTS, TOUCH over several servers: one fragment per server, merged into one reply.
//!
//! A fragment keeps the command's name and the order of its keys. When every key belongs to one server the request is
//! forwarded verbatim.

use std::rc::Rc;

use bytes::Bytes;

use super::super::merge::{Merge, Part, Parts};
use super::{Home, Request, Step, cap_lifetime, sent, write_away};
use crate::backend::{Requester, Ticket};
use crate::pool::Away;
use crate::protocol::redis::commands::{Command, Split};
use crate::protocol::redis::{errors, reply, response};

/// The keys of one server.
struct Fragment {
    home: Home,
    /// Positions of the keys among the arguments.
    keys: Vec<u32>,
}

impl Request<'_, '_> {
    pub(super) fn split(&mut self, command: &Command, kind: Split) -> Step {
        // Arguments per key: MSET has a value behind each.
        let step = if kind == Split::Mset { 2 } else { 1 };
        if self.args.len() == 1 + step {
            return self.forward_by(command, 1);
        }
        if self.pool.places() == 1 {
            let too_long = self.too_long((1..self.args.len()).step_by(step));
            return self.forward_by(command, too_long.unwrap_or(1));
        }
        if !(self.args.len() - 1).is_multiple_of(step) {
            return self.reject(command, |out, _| errors::wrong_arity(out, command));
        }
        let nowhere = self.pool.places();
        let mut fragments: Vec<Fragment> = Vec::new();
        // By place, and one for all keys that have none: the index of its fragment.
        let mut places = vec![usize::MAX; nowhere + 1];
        // By key, in order: the index of its fragment.
        let mut order = Vec::new();
        for position in (1..self.args.len()).step_by(step) {
            let home = match self.home(command, position) {
                Ok(home) => home,
                Err(refused) => return refused,
            };
            let place = match home {
                Ok(place) | Err(Away::Ejected(place) | Away::Missing(place)) => place,
                Err(Away::NoServer | Away::NoStandIn) => nowhere,
            };
            // A server may be ejected between two keys of a request.
            if fragments.get(places[place]).is_none_or(|fragment| fragment.home != home) {
                places[place] = fragments.len();
                fragments.push(Fragment { home, keys: Vec::new() });
            }
            fragments[places[place]].keys.push(position as u32);
            order.push(places[place] as u32);
        }
        match &fragments[..] {
            [Fragment { home: Ok(place), .. }] => self.forward(*place, command),
            [Fragment { home: Err(away), .. }] => self.answer_away(command, *away),
            _ => self.send_fragments(command, kind, &fragments, order),
        }
    }

    fn send_fragments(&mut self, command: &Command, kind: Split, fragments: &[Fragment], order: Vec<u32>) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse(command);
        }
        let pool = self.pool;
        let connection = |place: usize| pool.connection(place, session.id, session.variant());
        let mut connections = fragments.iter().filter_map(|f| f.home.ok()).map(connection);
        if let Some(full) = connections.find(|c| !c.has_room()) {
            return session.wait_for(full);
        }
        let parts = Parts::new(fragments.len());
        let merge: Box<dyn Merge> = match kind {
            Split::Mget => Box::new(Mget { parts, order }),
            Split::Mset => Box::new(Mset { parts }),
            Split::Sum => Box::new(Sum { parts }),
        };
        let asked = session.asked(command.class());
        let ticket = self.state.replies().then(|| session.replies.borrow_mut().reserve_merge(asked, merge));
        session.cells.fragmented.increment();
        session.cells.fragments.add(fragments.len() as u64);
        for (index, fragment) in fragments.iter().enumerate() {
            let part = match ticket {
                Some(ticket) => Ticket { part: index as u32, ..ticket },
                None => session.unheard((index == 0).then_some(asked.class)),
            };
            let place = match fragment.home {
                Ok(place) => place,
                Err(away) => {
                    self.settle_away(command, away, fragment, part);
                    continue;
                }
            };
            let connection = connection(place);
            let requester: Rc<dyn Requester> = session.clone();
            connection.send(Some(requester), sent(command, part), |out, pass| {
                self.write_fragment(out.tail(pass), kind, fragment);
            });
            if pool.is_stand_in(place) && kind == Split::Mset {
                for &position in &fragment.keys {
                    cap_lifetime(pool, connection, self.arg(position as usize));
                }
            }
        }
        self.input.skip(self.length);
        Step::Next
    }

    /// Settles the fragment of an ejected server.
    fn settle_away(&self, command: &Command, away: Away, fragment: &Fragment, part: Ticket) {
        let mut reply = Vec::new();
        // What these commands answer depends on the number of keys only.
        let missed =
            away.is_miss() && command.write_miss(self.version(), 1 + fragment.keys.len(), |_| None, &mut reply);
        if !missed {
            write_away(&mut reply, self.session, away);
        }
        self.session.settle_part(part, if missed { Ok(&reply) } else { Err(&reply) });
    }

    fn write_fragment(&self, out: &mut Vec<u8>, kind: Split, fragment: &Fragment) {
        let step = if kind == Split::Mset { 2 } else { 1 };
        reply::write_array_header(out, 1 + fragment.keys.len() * step);
        reply::write_bulk(out, self.arg(0));
        for &position in &fragment.keys {
            for argument in 0..step {
                reply::write_bulk(out, self.arg(position as usize + argument));
            }
        }
    }
}

/// The values in the order of the keys; a fragment's error stands in for each of its values.
struct Mget {
    parts: Parts,
    /// By key: the index of its fragment.
    order: Vec<u32>,
}

impl Merge for Mget {
    fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        enum Source<'a> {
            Values(response::Elements<'a>),
            Error(&'a Bytes),
        }
        let mut sources: Vec<_> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Reply(reply) if !response::is_error(reply) => Source::Values(response::elements(reply)),
                Part::Reply(error) | Part::Error(error) => Source::Error(error),
            })
            .collect();
        reply::write_array_header(out, self.order.len());
        for &fragment in &self.order {
            match &mut sources[fragment as usize] {
                Source::Error(error) => out.extend_from_slice(error),
                Source::Values(values) => match values.next() {
                    Some(value) => out.extend_from_slice(value),
                    None => reply::write_error(out, "ERR a server returned fewer values than it was asked for"),
                },
            }
        }
    }
}

/// `+OK`, or the first error: there is no room for more.
struct Mset {
    parts: Parts,
}

impl Merge for Mset {
    fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match first_error(&self.parts) {
            Some(error) => out.extend_from_slice(error),
            None => out.extend_from_slice(reply::OK),
        }
    }
}

/// The sum of the counts, or the first error.
struct Sum {
    parts: Parts,
}

impl Merge for Sum {
    fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(error) = first_error(&self.parts) {
            return out.extend_from_slice(error);
        }
        let mut counts = self.parts.iter().map(|part| match part {
            Part::Reply(reply) => response::integer(reply),
            Part::Error(_) => None,
        });
        match counts.try_fold(0, |sum: i64, count| sum.checked_add(count?)) {
            Some(sum) => reply::write_integer(out, sum),
            None => reply::write_error(out, "ERR a server returned something other than a number"),
        }
    }
}

/// The first error, of the proxy or of a server.
pub(super) fn first_error(parts: &Parts) -> Option<&Bytes> {
    parts.iter().find_map(|part| match part {
        Part::Error(error) => Some(error),
        Part::Reply(reply) if response::is_error(reply) => Some(reply),
        Part::Reply(_) => None,
    })
}
