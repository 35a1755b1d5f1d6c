//! What the sessions of one worker share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::{Common, Departure, Session};
use crate::health::Jitter;
use crate::io::Pass;
use crate::telemetry::Fold;

/// See the module.
pub struct Shared {
    pub pass: Rc<Pass>,
    /// Unix time at which the process started, in seconds.
    pub started: u64,
    pub(super) common: Arc<Common>,
    /// Reasons to look after sessions now and then: sockets that take no more, large requests of which only a part has
    /// come.
    pub(super) watched: Cell<usize>,
    /// Sessions whose request waits at the gate of their pool.
    pub(super) held: Cell<usize>,
    pub(super) scratch: RefCell<Scratch>,
    /// Sessions that have subscriptions, by their number.
    pub(super) subscribers: RefCell<HashMap<u64, Weak<Session>>>,
    /// Connections with subscriptions that were lost.
    pub(super) lost_lines: Fold,
    /// So that not all of them are made again at once.
    pub(super) jitter: RefCell<Jitter>,
    /// Set once the process drains: sessions close when nothing is owed.
    pub(super) draining: Cell<bool>,
    /// Set once another process takes this one's place: sessions go there instead.
    pub(super) departure: RefCell<Option<Departure>>,
}

/// Parse results, reused by all sessions of a worker so that a request allocates nothing.
#[derive(Default)]
pub(super) struct Scratch {
    pub arguments: crate::protocol::redis::request::Arguments,
    pub keys: Vec<u32>,
    pub text: crate::protocol::memcached::Request,
}

impl Shared {
    pub fn new(pass: Rc<Pass>, common: Arc<Common>, started: u64) -> Rc<Self> {
        Rc::new(Self {
            pass,
            started,
            common,
            watched: Cell::new(0),
            held: Cell::new(0),
            scratch: RefCell::default(),
            subscribers: RefCell::default(),
            lost_lines: Fold::default(),
            jitter: RefCell::new(Jitter::new(RandomState::new().hash_one(started))),
            draining: Cell::new(false),
            departure: RefCell::default(),
        })
    }

    /// The ring of some pool has changed: subscriptions may belong elsewhere.
    pub fn check_subscriptions(&self) {
        let all: Vec<_> = self.subscribers.borrow().values().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|session| session.check_subscriptions());
    }

    /// From now on sessions finish what is in flight and close. Wake each with [`Session::wake`].
    pub fn drain(&self) {
        self.draining.set(true);
    }
}
