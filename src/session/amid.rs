//! What a session is in the middle of: a transaction, subscriptions, a request that blocks.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use super::{Dialect, Session, Step};
use crate::telemetry::Ending;

impl Session {
    /// Something was begun that only this session can go on with: it takes requests although it is to end or to go elsewhere,
    /// as long as it is let. Subscriptions have no end to wait for.
    pub(super) fn is_amid(&self, dialect: &Dialect) -> bool {
        let departs = self.shared.departure.borrow().is_some();
        (departs && self.subscribing.get()) || matches!(dialect, Dialect::Redis(state) if state.is_engaged())
    }

    /// It ends as soon as it is in the middle of nothing, and does not go on elsewhere.
    pub(super) fn is_to_end(&self) -> bool {
        self.leaving.get() || (self.shared.draining.get() && self.shared.departure.borrow().is_none())
    }

    /// Takes nothing more until everything taken is answered.
    pub(super) fn settles_first(&self) -> Step {
        self.settling.set(true);
        Step::NoRoom
    }

    /// What a blocking request waited for has come, or will not come.
    pub(super) fn go_on_if_answered(self: &Rc<Self>) {
        let waits = self.owing.get() || self.tenancies.borrow().iter().any(|tenancy| tenancy.is_pending());
        if self.stalled.get() && !waits {
            self.stalled.set(false);
            self.card.blocks.store(false, Relaxed);
            self.progressed();
        }
    }

    /// Looks whether the client of a blocking request is still there. What it says meanwhile is kept, as much as a session
    /// may hold; who says more is not looked at any more.
    pub(super) fn poll_stalled(&self, cx: &mut Context<'_>) -> std::io::Result<()> {
        let most = self.pool.borrow().shared().session_limits.max_session_bytes;
        while self.stalled.get() && !self.closing.get() && !self.gone.get() && self.inbound.borrow().len() <= most {
            let mut stream = self.stream.borrow_mut();
            let Some(stream) = &mut *stream else { break };
            match self.inbound.borrow_mut().poll_read(cx, stream, &self.shared.pass, |_| {}) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.cells.client_eof.increment();
                    self.ends_for(Ending::Client);
                    // Confirmations are on their way.
                    self.gone.set(!self.owing.get());
                    self.closing.set(true);
                }
                Poll::Ready(Ok(_)) => self.patience.heard(self.shared.pass.now()),
                Poll::Ready(Err(e)) => return Err(e),
            }
        }
        // It went while confirmations were owed, and what it had said before that blocks now.
        if self.stalled.get() && !self.owing.get() && matches!(self.ending.get(), Some(Ending::Client)) {
            self.gone.set(true);
        }
        Ok(())
    }
}
