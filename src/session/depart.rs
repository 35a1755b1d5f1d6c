//! A session that goes on in another process: the one that takes this one's place.
//!
//! It leaves between two requests: when everything that was taken is answered, and every answer written. Its client notices
//! nothing. What cannot leave in time (an answer that does not come, a client that does not read) is closed at the end of
//! the drain.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::Sender;

use super::carried::{self, Carried, MOST_INPUT};
use super::{Dialect, Session, Shared, memcached, redis};
use crate::telemetry::Ending;

/// Takes sessions along.
pub type Departure = Sender<(Carried, OwnedFd)>;

impl Shared {
    /// From now on sessions leave between two requests. Wake each with [`Session::wake`].
    pub fn depart(&self, departure: Departure) {
        *self.departure.borrow_mut() = Some(departure);
    }

    /// No session leaves any more: whoever takes them along is done when nobody can send one.
    pub fn stay(&self) {
        self.departure.take();
    }

    /// Whether a session that holds so many bytes of its client's is to take no more requests, but leave.
    pub(super) fn keeps_for_departure(&self, held: usize) -> bool {
        held <= MOST_INPUT && self.departure.borrow().is_some()
    }
}

impl Session {
    /// Leaves if it can; whether it did.
    pub(super) fn departs(&self) -> bool {
        let departure = self.shared.departure.borrow();
        let Some(departure) = &*departure else { return false };
        let engaged = !self.tenancies.borrow().is_empty()
            || self.subscribing.get()
            || matches!(&*self.dialect.borrow(), Dialect::Redis(state) if state.is_engaged());
        let stays = engaged || self.closing.get() || self.leaving.get() || self.broken.get();
        let settled = self.replies.borrow().is_settled() && self.unheard.get() == 0;
        if stays || self.inbound.borrow().len() > MOST_INPUT || !settled {
            return false;
        }
        let Some(Ok(socket)) = self.stream.take().map(|stream| stream.into_socket()) else { return true };
        self.ends_for(Ending::Departed);
        let pool = self.newest_pool();
        let carried = Carried {
            pool: pool.settings.name.clone(),
            id: self.id,
            dialect: match &*self.dialect.borrow() {
                Dialect::Redis(state) => carried::Dialect::Redis(state.carried(self)),
                Dialect::Memcached(state) => carried::Dialect::Memcached(state.carried()),
            },
            input: self.inbound.borrow().held().to_vec(),
        };
        // Should nobody take it any more, it closes.
        let _ = departure.send((carried, socket));
        true
    }

    /// Goes on where a session of another process left. To be called before it runs.
    pub fn restore(self: &Rc<Self>, carried: &Carried) {
        let dialect = match (&*self.dialect.borrow(), &carried.dialect) {
            (Dialect::Redis(_), carried::Dialect::Redis(state)) => {
                Some(Dialect::Redis(redis::State::restored(state, self)))
            }
            (Dialect::Memcached(_), carried::Dialect::Memcached(state)) => {
                Some(Dialect::Memcached(memcached::State::restored(state)))
            }
            // Pools are matched by protocol.
            _ => None,
        };
        if let Some(dialect) = dialect {
            *self.dialect.borrow_mut() = dialect;
        }
        if !carried.input.is_empty() {
            self.inbound.borrow_mut().hold(&carried.input);
            // Looked at as soon as it runs.
            self.paused.set(true);
        }
    }
}
