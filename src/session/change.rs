//! What a session does when its pool changes under it, or goes, and when it asks for connections of another variant.
//!
//! Invariant: a session's requests go by one pool until all of them are answered, those included whose replies the client
//! does not want to hear; then by the next. So none of one client's requests overtakes another on its way, wherever the
//! change has moved their keys or to whichever connection. It is the same with the variant: the version of the protocol
//! and the database change when all that was asked before is answered.

use std::rc::Rc;

use super::Session;
use crate::backend::Variant;
use crate::pool::{Pool, PoolId};
use crate::telemetry::Ending;

impl Session {
    /// The pool that requests go by.
    pub(super) fn pool(&self) -> Rc<Pool> {
        self.pool.borrow().clone()
    }

    /// The pool that was published last.
    pub(super) fn newest_pool(&self) -> Rc<Pool> {
        self.next_pool.borrow().clone().unwrap_or_else(|| self.pool())
    }

    pub fn pool_id(&self) -> PoolId {
        self.pool.borrow().shared().id
    }

    /// The same pool with other servers or settings: goes by it as soon as nothing is unanswered, and takes no request
    /// before.
    pub fn adopt(&self, pool: Rc<Pool>) {
        debug_assert_eq!(self.pool_id(), pool.shared().id);
        let keepalive = pool.settings.tcpkeepalive;
        if keepalive != self.newest_pool().settings.tcpkeepalive
            && let Some(stream) = &*self.stream.borrow()
            && let Err(error) = stream.set_keepalive(keepalive)
        {
            tracing::debug!(%error, client = self.id, "cannot change keepalive");
        }
        *self.next_pool.borrow_mut() = Some(pool);
        if self.may_go_on() && self.paused.get() {
            // It may have waited for room in a connection that it will not use any more.
            self.wake();
        }
    }

    /// Whether a request may be taken; changes to the next pool when the time has come.
    pub(super) fn may_go_on(&self) -> bool {
        self.go_over();
        self.next_pool.borrow().is_none()
    }

    /// Changes to the next pool when the time has come: at the last reply, so that nobody who then says nothing keeps the
    /// pool before, and what is left of its servers, for ever.
    #[inline]
    pub(super) fn go_over(&self) {
        // A blocking request was alone on its way, and may stay there for long.
        if self.next_pool.borrow().is_some() && (!self.is_awaiting() || self.stalled.get()) {
            self.change_over();
        }
    }

    #[cold]
    fn change_over(&self) {
        if let Some(pool) = self.next_pool.take() {
            let variant = self.variant_by(&pool);
            let before = self.pool.replace(pool);
            self.followed.set(false);
            self.go_by(variant);
            if self.subscribing.get() {
                self.check_subscriptions();
            }
            if before.settings.users != self.pool.borrow().settings.users {
                // The client's user may be gone, and the client say nothing.
                self.wake();
            }
        }
    }

    /// What the connections are set up as that its requests go by.
    pub fn variant(&self) -> Variant {
        self.variant.get()
    }

    /// The same in a pool that takes the place of its own: one in the pool's own database follows the pool to another one
    /// if the one before is not served any more; one that has chosen a database stays in it, served or not.
    pub(super) fn variant_by(&self, pool: &Pool) -> Variant {
        let variant = self.variant.get();
        let follows = variant.database == self.pool.borrow().usual().database;
        match follows && !pool.settings.serves_database(variant.database) {
            true => Variant { database: pool.usual().database, ..variant },
            false => variant,
        }
    }

    /// Goes by another variant from now on.
    pub(super) fn set_variant(&self, variant: Variant) {
        debug_assert!(variant == self.variant.get() || !self.is_awaiting(), "requests could overtake others");
        self.go_by(variant);
    }

    fn go_by(&self, variant: Variant) {
        self.variant.set(variant);
        self.card.show(variant);
    }

    /// Its database is not served any more.
    pub(super) fn is_astray(&self, pool: &Pool) -> bool {
        let variant = self.variant.get();
        variant != pool.usual() && !pool.settings.serves_database(variant.database)
    }

    /// Its pool is gone: ends as soon as nothing is owed.
    pub fn leave(&self) {
        self.leaving.set(true);
        self.wake();
    }

    /// Its task does not run any more: lets go of everything, so that nothing is left that holds on to it.
    pub fn abandon(&self) {
        self.broken.set(true);
        self.give_back_all();
        self.stream.take();
    }

    /// Ends now, whatever is owed.
    pub fn end(&self) {
        self.ends_for(Ending::Drained);
        self.broken.set(true);
        self.wake();
    }
}
