//! The end of the pass: what there is for the client is written.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use super::Session;
use crate::io::Flush;

impl Session {
    /// What has been answered here goes out with a server's next reply, which cannot take long: a transaction that came in one
    /// piece is answered in one piece. If it does take long, at the worker's next look.
    pub(super) fn hold_back(&self) {
        if !self.holding.replace(true) {
            self.shared.watch(true);
        }
    }

    #[inline]
    pub(super) fn let_go(&self) {
        if self.holding.replace(false) {
            self.shared.watch(false);
        }
    }
}

impl Flush for Session {
    fn flush(self: Rc<Self>) {
        self.dirty.set(false);
        if self.broken.get() {
            return;
        }
        if self.blocked.get() || self.holding.get() {
            // What the session answers itself goes into the out buffer all the same.
            return self.held_replies.set(self.replies.borrow().bytes());
        }
        let stream = self.stream.borrow();
        let Some(stream) = &*stream else { return };
        let mut replies = self.replies.borrow_mut();
        let (mut written, now) = (0, self.shared.pass.now());
        let result = replies.out.write_to(stream, &self.shared.pass, usize::MAX, |n| written += n);
        self.held_replies.set(replies.bytes());
        drop(replies);
        self.cells.response_bytes.add(written as u64);
        match result {
            Ok(true) => {
                self.patience.flowing(now);
                self.card.output.store(0, Relaxed);
                self.progressed();
            }
            Ok(false) => {
                self.patience.stalled(written, now);
                self.card.output.store(self.replies.borrow().bytes(), Relaxed);
                self.set_blocked(true);
                self.wake();
            }
            Err(_) => {
                self.broken.set(true);
                self.wake();
            }
        }
    }
}
