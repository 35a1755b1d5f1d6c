//! Sending a request that was lost to the server that has its keys now.
//!
//! A connection offers a request here only when its server was ejected, and only if not a byte of it was written or if it
//! is a read. Off the path of healthy requests: it is parsed a second time, into buffers of its own.

use std::rc::Rc;

use bytes::Bytes;

use super::{Dialect, Session, redis};
use crate::backend::{Lost, Request, Requester, Ticket, Time};
use crate::io::Payload;
use crate::pool::Pool;
use crate::protocol::memcached::request::{self as text, Outcome};
use crate::protocol::redis::commands::Route;
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
        // By the newest pool, even if the session itself still waits for the replies of the one before.
        let pool = self.newest_pool();
        pool.adopt();
        let variant = self.variant_by(&pool);
        if !pool.settings.serves_database(variant.database) {
            return false;
        }
        let Some(again) = self.again(&pool, lost) else { return false };
        let connection = pool.connection(again.place, self.id, variant);
        if !connection.has_room() {
            return false;
        }
        let request = Request {
            ticket,
            expect: lost.expect,
            repeatable: lost.repeatable,
            time: Time::Until(lost.deadline),
            attempts: lost.attempts + 1,
            script: false,
        };
        let requester: Rc<dyn Requester> = self.clone();
        connection.send(Some(requester), request, |out, pass| out.push(Payload::Owned(again.bytes), pass));
        again.capped.iter().for_each(|key| redis::cap_lifetime(&pool, connection, key));
        true
    }

    /// Where all keys of the request are now, and what is to be sent there.
    fn again(&self, pool: &Pool, lost: &Lost) -> Option<Again> {
        let bytes = &lost.bytes[..];
        match &*self.dialect.borrow() {
            Dialect::Redis(_) => {
                let mut args = Arguments::default();
                let Ok(Parsed::Complete(_)) = request::parse(bytes, &pool.shared().limits, &mut args) else {
                    return None;
                };
                let arg = |i| args.get(bytes, i);
                let command = redis::known(pool, args.len(), arg)?;
                let mut keys = Vec::new();
                command.keys(args.len(), arg, &mut keys).ok()?;
                let place = match &keys[..] {
                    [] if matches!(command.route, Route::Keys | Route::One) => pool.any_place().ok()?,
                    _ => common_place(pool, keys.iter().filter_map(|key| arg(*key as usize)))?,
                };
                if pool.is_stand_in(place) {
                    command.written_keys(args.len(), arg, &mut keys).ok()?;
                } else {
                    keys.clear();
                }
                let capped = keys.iter().filter_map(|key| arg(*key as usize)).map(Bytes::copy_from_slice);
                // Nobody knows what has run there.
                let eval = pool.scripts().as_eval(bytes).map(Bytes::from);
                Some(Again { place, bytes: eval.unwrap_or(lost.bytes.clone()), capped: capped.collect() })
            }
            Dialect::Memcached(_) => {
                let mut parsed = memcached::Request::default();
                let Outcome::Complete { .. } = text::parse(bytes, &pool.shared().limits, &mut parsed) else {
                    return None;
                };
                let place = common_place(pool, parsed.keys(bytes))?;
                let mut changed = Vec::new();
                if let Some(exptime) = super::memcached::capped_exptime(pool, place, &parsed, bytes) {
                    parsed.write_with_exptime(bytes, exptime, &mut changed);
                }
                let bytes = if changed.is_empty() { lost.bytes.clone() } else { changed.into() };
                Some(Again { place, bytes, capped: Vec::new() })
            }
        }
    }
}

fn common_place<'a>(pool: &Pool, mut keys: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let place = pool.route(keys.next()?).ok()?;
    keys.all(|key| pool.route(key) == Ok(place)).then_some(place)
}

/// A request that is sent again.
struct Again {
    place: usize,
    bytes: Bytes,
    /// The keys that an EXPIRE must follow for.
    capped: Vec<Bytes>,
}
