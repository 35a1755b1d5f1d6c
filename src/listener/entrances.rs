//! The listeners as seen by those who only look.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::accept::Listener;
use super::bind::Bound;
use crate::pool::PoolId;

/// The listeners as they are now, whatever they become.
#[derive(Clone, Default)]
pub struct Entrances(Arc<Mutex<Vec<Watched>>>);

/// One of them.
pub(super) struct Watched {
    pub pool: PoolId,
    pub listener: Arc<Listener>,
    pub refused: Arc<AtomicU64>,
}

/// How it is at one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    pub pool: PoolId,
    /// Clients turned away so far, as the pool had no place left.
    pub refused: u64,
    /// Clients that wait to be accepted, and how many may; `None`: the system does not say, as of unix sockets.
    pub queue: Option<(u32, u32)>,
}

impl Entrances {
    pub(super) fn replace(&self, watched: Vec<Watched>) {
        *self.lock() = watched;
    }

    /// How it is at each now.
    pub fn look(&self) -> Vec<Entrance> {
        let look = |watched: &Watched| Entrance {
            pool: watched.pool,
            refused: watched.refused.load(Relaxed),
            queue: watched.listener.ask(Bound::queue).flatten(),
        };
        self.lock().iter().map(look).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
