//! A link to a server with its two queues, the out buffer and the in-flight queue: what every kind of connection does with
//! its socket. What the replies mean, and what becomes of requests when the link is lost, is its owner's to say.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::connect::connect;
use super::in_flight::{InFlight, Taken};
use super::queues::Queues;
use super::{Facts, Reason, Server};
use crate::io::{Flush, Held, Inbound, Input, Outbound, Pass, Stream};
use crate::telemetry::ServerCells;

/// After so many bytes a connection leaves the rest to the next pass, so that what has come is written first.
const MOST_AT_ONCE: usize = 1 << 20;

/// A link, made or not, and what waits for it. `R`: whom a reply goes to.
pub(super) struct Wire<R> {
    pub pass: Rc<Pass>,
    pub cells: Arc<ServerCells>,
    pub facts: Arc<Facts>,
    link: RefCell<Option<Stream>>,
    /// There is a link; asked also while it is read from.
    up: Cell<bool>,
    pub out: RefCell<Outbound>,
    pub inbound: RefCell<Inbound>,
    pub in_flight: RefCell<InFlight<R>>,
    pub held: Held,
    /// The task's own waker.
    waker: RefCell<Option<Waker>>,
    /// Sessions that wait for room.
    waiting: RefCell<Vec<Waker>>,
    /// On the pass's list.
    dirty: Cell<bool>,
    /// The socket takes no more bytes for now.
    pub blocked: Cell<bool>,
    /// When the connection under way must have been made.
    pub connect_by: Cell<Option<Instant>>,
    /// What this connection has added to the queue gauges.
    counted: Cell<Queues>,
}

impl<R> Wire<R> {
    pub fn new(pass: Rc<Pass>, (cells, facts): (Arc<ServerCells>, Arc<Facts>), out: Outbound) -> Self {
        Self {
            held: Held::new(pass.clone()),
            pass,
            cells,
            facts,
            link: RefCell::default(),
            up: Cell::new(false),
            out: RefCell::new(out),
            inbound: RefCell::default(),
            in_flight: RefCell::default(),
            waker: RefCell::default(),
            waiting: RefCell::default(),
            dirty: Cell::new(false),
            blocked: Cell::new(false),
            connect_by: Cell::new(None),
            counted: Cell::default(),
        }
    }

    /// There is a link.
    pub fn is_up(&self) -> bool {
        self.up.get()
    }

    /// Looks at the link; `None` if there is none, or while it is read from.
    pub fn look_at_link<T>(&self, look: impl FnOnce(&Stream) -> T) -> Option<T> {
        self.link.try_borrow().ok()?.as_ref().map(look)
    }

    /// The link is over; it is closed when dropped. Not while it is read from.
    pub fn take_link(&self) -> Option<Stream> {
        let link = self.link.borrow_mut().take();
        if self.up.replace(false) {
            self.cells.server_connections.sub(1);
        }
        *self.inbound.borrow_mut() = Inbound::default();
        link
    }

    /// Whether one more request may be sent.
    pub fn has_room(&self, server: &Server) -> bool {
        self.in_flight.borrow().len() < server.max_requests && self.out.borrow().len() < server.max_bytes
    }

    /// Wakes `waker` when there is room again.
    pub fn wait_for_room(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|w| w.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Lets the sessions that wait go on when half of the room is free: woken for each free place, they would all run
    /// for one of them to get it.
    pub fn wake_waiting(&self, server: &Server) {
        if !self.waiting.borrow().is_empty()
            && self.in_flight.borrow().len() <= server.max_requests / 2
            && self.out.borrow().len() <= server.max_bytes / 2
        {
            self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    /// Has the end of the pass write for `owner`.
    pub fn mark_dirty(&self, owner: &Rc<impl Flush + 'static>) {
        if !self.dirty.replace(true) {
            self.pass.mark(owner.clone());
        }
    }

    /// A request was queued: has it written, now or when there is a link.
    #[inline]
    pub fn queued(&self, owner: &Rc<impl Flush + 'static>) {
        if self.up.get() {
            self.mark_dirty(owner);
        } else {
            self.held.set(self.out.borrow().len());
            self.wake();
        }
    }

    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    pub fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Connects, unless `called_off` gives a reason not to.
    pub async fn connect(&self, server: &Server, called_off: impl Fn() -> Option<Reason>) -> Result<Stream, Reason> {
        self.connect_by.set(server.connect_timeout.map(|limit| self.pass.now() + limit));
        self.pass.watch_deadlines();
        self.cells.connecting.add(1);
        let mut attempt = pin!(connect(server, &self.facts));
        let result = poll_fn(|cx| {
            self.remember(cx);
            match called_off() {
                Some(reason) => Poll::Ready(Err(reason)),
                None => attempt.as_mut().poll(cx),
            }
        });
        let result = result.await;
        self.connect_by.set(None);
        self.cells.connecting.sub(1);
        // In other words than of a connection that breaks later.
        result.map_err(Reason::of_connecting)
    }

    /// Why the attempt to connect is to be given up now, if it is.
    pub fn connects_too_long(&self, server: &Server, now: Instant) -> Option<Reason> {
        self.connect_by.get().filter(|by| *by <= now)?;
        Some(Reason::ConnectTimedOut(server.connect_timeout.unwrap_or_default().as_millis()))
    }

    /// There is a link.
    pub fn connected(&self, stream: Stream, owner: &Rc<impl Flush + 'static>) {
        *self.link.borrow_mut() = Some(stream);
        self.up.set(true);
        self.blocked.set(false);
        self.cells.server_connections.add(1);
        self.cells.server_connections_total.increment();
        if !self.out.borrow().is_empty() {
            self.mark_dirty(owner);
        }
    }

    /// Goes on writing when the socket takes bytes again.
    pub fn poll_unblock(&self, cx: &mut Context<'_>, owner: &Rc<impl Flush + 'static>) -> Result<(), Reason> {
        if !self.blocked.get() {
            return Ok(());
        }
        let link = self.link.borrow();
        let Some(stream) = &*link else { return Ok(()) };
        if let Poll::Ready(ready) = stream.poll_write_ready(cx) {
            ready?;
            self.blocked.set(false);
            self.mark_dirty(owner);
        }
        Ok(())
    }

    /// Reads all that there is, while `wanted`; each time `consume` takes what it can. How much it was, in bytes.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        wanted: impl Fn() -> bool,
        consume: impl Fn(&mut Input<'_>) -> Result<(), Reason>,
    ) -> Result<usize, Reason> {
        let mut link = self.link.borrow_mut();
        let Some(stream) = &mut *link else { return Ok(0) };
        let mut read = 0;
        while wanted() {
            let mut result = Ok(());
            let consume = |input: &mut Input<'_>| result = consume(input);
            match self.inbound.borrow_mut().poll_read(cx, stream, &self.pass, consume) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(Reason::Closed),
                Poll::Ready(Ok(n)) => read += n,
                Poll::Ready(Err(e)) => return Err(e.into()),
            }
            result?;
            self.count_queues();
            if read >= MOST_AT_ONCE {
                self.pass.go_on_later(cx.waker());
                break;
            }
        }
        Ok(read)
    }

    /// The end of the pass: it is not marked any more.
    pub fn unmark(&self) {
        self.dirty.set(false);
    }

    /// Writes what the socket takes, at most so many bytes.
    pub fn write(&self, most: usize) -> Result<(), Reason> {
        if self.blocked.get() || most == 0 {
            self.count_queues();
            return Ok(());
        }
        let link = self.link.borrow();
        let Some(stream) = &*link else { return Ok(()) };
        let mut written = 0;
        let result = self.out.borrow_mut().write_to(stream, &self.pass, most, |n| written += n);
        self.in_flight.borrow_mut().wrote(written, self.pass.stamp());
        if let Ok(false) = result {
            self.blocked.set(true);
            self.wake();
        }
        self.count_queues();
        Ok(result.map(drop)?)
    }

    /// Brings the queue gauges, which the connections of a server share, up to date.
    pub fn count_queues(&self) {
        let out = self.out.borrow().len();
        self.tell_queues(out);
        self.held.set(out + self.inbound.borrow().len());
    }

    /// Takes all that is unanswered, oldest first, and forgets what is unwritten.
    pub fn clear(&self) -> Vec<Taken<R>> {
        let (_, taken) = self.in_flight.borrow_mut().take_apart();
        self.out.borrow_mut().clear(&self.pass);
        self.tell_queues(0);
        self.held.set(0);
        taken
    }

    fn tell_queues(&self, out: usize) {
        let before = self.counted.replace(Queues::of(&self.in_flight.borrow(), out));
        before.becomes(self.counted.get(), &self.cells);
    }
}
