//! Sending a request that was lost to the server that has its keys now.
//!
//! A connection offers a request here only when its server was ejected, and only if not a byte of it was written or if it
//! is a read. Off the path of healthy requests: it is parsed a second time, into buffers of its own.

use std::rc::Rc;

use super::{Dialect, Session};
use crate::backend::{Lost, Request, Requester, Ticket, Time};
use crate::io::Payload;
use crate::protocol::memcached::request::{self as text, Outcome, part};
use crate::protocol::redis::commands::{self, Resolved};
use crate::protocol::redis::request::{self, Arguments};
use crate::protocol::{Parsed, memcached};

/// How often a request is sent at the most.
const MOST_ATTEMPTS: u8 = 3;

impl Session {
    /// False: it is not sent again, and the client is to be told why.
    pub(super) fn resend(self: &Rc<Self>, ticket: Ticket, lost: &Lost) -> bool {
        if lost.attempts + 1 >= MOST_ATTEMPTS || lost.deadline.is_some_and(|at| at <= std::time::Instant::now()) {
            return false;
        }
        let Some(place) = self.place_of(lost) else { return false };
        // A stand-in must not be given what lives longer than its limit.
        if place >= self.pool.servers() && !lost.repeatable {
            return false;
        }
        let connection = self.pool.connection(place, self.id);
        if !connection.has_room() {
            return false;
        }
        let request = Request {
            ticket,
            expect: lost.expect,
            repeatable: lost.repeatable,
            time: Time::Until(lost.deadline),
            attempts: lost.attempts + 1,
        };
        let requester: Rc<dyn Requester> = self.clone();
        connection.send(Some(requester), request, |out, pass| out.push(Payload::Owned(lost.bytes.clone()), pass));
        true
    }

    /// The one place that all keys of the request have now.
    fn place_of(&self, lost: &Lost) -> Option<usize> {
        let bytes = &lost.bytes[..];
        match &*self.dialect.borrow() {
            Dialect::Redis(_) => {
                let mut args = Arguments::default();
                let Ok(Parsed::Complete(_)) = request::parse(bytes, &self.shared.limits, &mut args) else {
                    return None;
                };
                let arg = |i| args.get(bytes, i);
                let Resolved::Command(command) = commands::resolve(args.len(), arg) else { return None };
                let mut keys = Vec::new();
                command.keys(args.len(), arg, &mut keys).ok()?;
                self.common_place(keys.iter().filter_map(|key| arg(*key as usize)))
            }
            Dialect::Memcached(_) => {
                let mut parsed = memcached::Request::default();
                let outcome = text::parse(bytes, &self.shared.limits, &mut parsed);
                let Outcome::Complete { .. } = outcome else { return None };
                self.common_place(parsed.keys.iter().map(|key| part(bytes, *key)))
            }
        }
    }

    fn common_place<'a>(&self, mut keys: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
        let place = self.pool.route(keys.next()?).ok()?;
        keys.all(|key| self.pool.route(key) == Ok(place)).then_some(place)
    }
}
