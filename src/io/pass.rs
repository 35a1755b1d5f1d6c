//! The pass: one trip of a worker's loop. Holds what its tasks share and writes what they left behind.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::budget::{Budget, Untold};
use super::ebb::Ebb;
use super::pacer::{self, Pacer, Pacing};
use super::{Level, Ticker};
use crate::telemetry::Stamp;

/// Something with unwritten bytes that has marked itself dirty.
pub trait Flush {
    /// Writes what the socket takes. Called at the end of the pass, outside every task.
    fn flush(self: Rc<Self>);
}

const READ_BUFFER: usize = 64 * 1024;
const BUFFER: usize = 4 * 1024;
/// A buffer that grew larger than this is freed, not kept.
pub(super) const KEEP_BUFFER: usize = 64 * 1024;
/// Most free buffers kept, so that one burst is not remembered for ever.
const KEEP_BUFFERS: usize = 256;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Pass>>> = const { RefCell::new(None) };
}

/// What the tasks of one worker share. Never leaves its thread.
pub struct Pass {
    now: Cell<Instant>,
    /// The same moment as a stamp.
    stamp: Cell<Stamp>,
    began: Instant,
    /// Latencies and counts by command are kept.
    measures: Cell<bool>,
    read_buffer: RefCell<Box<[u8]>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    dirty: RefCell<Vec<Rc<dyn Flush>>>,
    /// The other half of the double buffer: lets sockets mark themselves dirty again while the list is walked.
    flushing: RefCell<Vec<Rc<dyn Flush>>>,
    pacer: RefCell<Pacer>,
    ticker: OnceCell<Rc<Ticker>>,
    /// Something got a deadline in this pass.
    deadline: Cell<bool>,
    /// Of the whole process.
    budget: Arc<Budget>,
    untold: Untold,
    ebb: RefCell<Ebb>,
    /// Tasks that go on when everything is written.
    later: RefCell<Vec<Waker>>,
}

impl Pass {
    /// A pass that may hold as much as it likes.
    pub fn new() -> Rc<Self> {
        Self::with_pacing(Pacing::default())
    }

    /// As [`Pass::new`], with a pacing other than the default.
    pub fn with_pacing(pacing: Pacing) -> Rc<Self> {
        Self::build(pacing, Arc::new(Budget::new(usize::MAX)))
    }

    /// A pass whose bytes count in this budget.
    pub fn with_budget(budget: Arc<Budget>) -> Rc<Self> {
        Self::build(Pacing::default(), budget)
    }

    fn build(pacing: Pacing, budget: Arc<Budget>) -> Rc<Self> {
        let began = Instant::now();
        Rc::new(Self {
            now: Cell::new(began),
            stamp: Cell::default(),
            began,
            measures: Cell::new(true),
            read_buffer: RefCell::new(vec![0; READ_BUFFER].into_boxed_slice()),
            buffers: RefCell::default(),
            dirty: RefCell::default(),
            flushing: RefCell::default(),
            pacer: RefCell::new(Pacer::new(pacing, Instant::now())),
            ticker: OnceCell::new(),
            deadline: Cell::new(false),
            budget,
            untold: Untold::default(),
            ebb: RefCell::default(),
            later: RefCell::default(),
        })
    }

    /// Makes this the pass of the calling thread, for [`Pass::before_park`] and [`Pass::after_park`].
    pub fn install(self: &Rc<Self>) {
        pacer::allow_short_pauses();
        CURRENT.set(Some(self.clone()));
    }

    /// Ends the use of the installed pass; what it still holds is dropped with the worker.
    pub fn uninstall() {
        CURRENT.set(None);
    }

    /// The runtime's hook for an empty run queue: everything that was ready has run, so this pass is over.
    pub fn before_park() {
        CURRENT.with_borrow(|current| {
            if let Some(pass) = current {
                pass.finish();
            }
        });
    }

    /// The runtime's hook for the start of a pass: reads the clock, once.
    pub fn after_park() {
        CURRENT.with_borrow(|current| {
            if let Some(pass) = current {
                pass.look_at_the_clock();
            }
        });
    }

    fn look_at_the_clock(&self) {
        let now = Instant::now();
        self.now.set(now);
        // The lowest bits are all that a stamp has.
        self.stamp.set(Stamp(now.duration_since(self.began).as_micros() as u32));
    }

    /// When this pass began, for latencies.
    #[inline]
    pub fn stamp(&self) -> Stamp {
        self.stamp.get()
    }

    /// Whether latencies and counts by command are to be kept.
    #[inline]
    pub fn measures(&self) -> bool {
        self.measures.get()
    }

    pub fn set_measuring(&self, measures: bool) {
        self.measures.set(measures);
    }

    /// The time at which this pass began.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Marks a socket for a write at the end of the pass. The caller sees to it that it is marked once.
    pub fn mark(&self, dirty: Rc<dyn Flush>) {
        self.dirty.borrow_mut().push(dirty);
    }

    /// Gives the pass the timer that [`Pass::watch_deadlines`] sets.
    pub fn use_ticker(&self, ticker: Rc<Ticker>) {
        // A second one would change nothing: the first goes on ticking.
        let _ = self.ticker.set(ticker);
    }

    /// Something has a deadline: sees to it that the ticker runs.
    pub fn watch_deadlines(&self) {
        self.deadline.set(true);
    }

    /// The budget of the process.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// How pressed for room the process is.
    #[inline]
    pub fn level(&self) -> Level {
        self.budget.level()
    }

    /// Something holds so many bytes more, or less.
    #[inline]
    pub(super) fn hold(&self, bytes: isize) {
        if self.untold.add(bytes) {
            self.tell();
        }
    }

    fn tell(&self) {
        let change = self.untold.tell(&self.budget);
        if change != 0 && self.ebb.borrow_mut().change(change, self.now.get()) {
            self.watch_deadlines();
        }
    }

    /// The worker held much, and holds little now: memory may have to be given back. See [`Pass::gives_back`].
    pub fn ebbs(&self) -> bool {
        self.ebb.borrow().is_waiting()
    }

    /// Whether to give memory back now.
    pub fn gives_back(&self) -> bool {
        self.ebb.borrow_mut().is_due(self.now.get())
    }

    /// Has a task that could go on at once do so in the next pass. Every task that may find work without end must leave
    /// it at some point: nothing is written before the pass is over.
    pub fn go_on_later(&self, waker: &Waker) {
        self.later.borrow_mut().push(waker.clone());
    }

    /// So many requests of the session with this number were read at once.
    pub fn hear(&self, session: u64, requests: u32) {
        self.pacer.borrow_mut().hear(session, requests);
    }

    /// Writes every dirty socket, then holds the loop up for a moment when that makes larger batches.
    fn finish(&self) {
        let mut wrote = false;
        loop {
            let mut flushing = self.flushing.borrow_mut();
            std::mem::swap(&mut *flushing, &mut *self.dirty.borrow_mut());
            if flushing.is_empty() {
                break;
            }
            wrote = true;
            for dirty in flushing.drain(..) {
                dirty.flush();
            }
        }
        self.later.borrow_mut().drain(..).for_each(Waker::wake);
        self.tell();
        if self.deadline.replace(false)
            && let Some(ticker) = self.ticker.get()
        {
            ticker.set();
        }
        if wrote {
            let pause = self.pacer.borrow_mut().pass_ended(self.now.get());
            pause.into_iter().for_each(pacer::pause);
        }
    }

    /// The worker's one read buffer; never held across a suspension point.
    pub fn read_buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.read_buffer.borrow_mut()
    }

    /// An empty buffer with some capacity.
    pub fn take_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    /// Gives a buffer back for reuse.
    pub fn give_buffer(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if (1..=KEEP_BUFFER).contains(&buffer.capacity()) && buffers.len() < KEEP_BUFFERS {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}
