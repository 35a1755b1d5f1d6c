//! What a session does when its pool changes under it, or goes.
//!
//! Invariant: a session's requests go by one pool until all of them are answered, those included whose replies the client
//! does not want to hear; then by the next. So none of one client's requests overtakes another on its way, wherever the
//! change has moved their keys or to whichever connection.

use std::rc::Rc;

use super::Session;
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
    pub(super) fn go_over(&self) {
        if self.next_pool.borrow().is_none() || self.is_awaiting() {
            return;
        }
        if let Some(pool) = self.next_pool.take() {
            self.pool.replace(pool);
        }
    }

    /// Its pool is gone: ends as soon as nothing is owed.
    pub fn leave(&self) {
        self.leaving.set(true);
        self.wake();
    }

    /// Ends now, whatever is owed.
    pub fn end(&self) {
        self.ends_for(Ending::Drained);
        self.broken.set(true);
        self.wake();
    }
}
