//! The dedicated connections of one worker to one server: those in use, and those kept for whoever needs one next.
//!
//! Invariants:
//! - a connection is in use, idle, or not the lot's any more; those in use have a tenant, the others have none;
//! - there are at most [`Bounds::most`] of the first two together, and at most [`Bounds::idle`] idle;
//! - what is idle leads to the server as it is described now.

mod attempts;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;

use crate::backend::{Dedicated, Facts, Keeper, Reason, Server, ServerHealth, Tenant, Variant};
use crate::config::PoolSettings;
use crate::io::Pass;
use crate::telemetry::{ServerCells, Trouble};
use attempts::Attempts;

/// One that nobody has used for so long is closed. A burst of transactions comes again sooner, and servers that close idle
/// connections themselves (`timeout`) wait longer.
pub(super) const UNUSED: Duration = Duration::from_secs(60);

/// How many connections a lot may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// `dedicated_connections`.
    pub most: usize,
    /// `idle_dedicated_connections`.
    pub idle: usize,
}

impl Bounds {
    pub fn of(settings: &PoolSettings) -> Self {
        Self { most: settings.dedicated_connections, idle: settings.idle_dedicated_connections }
    }
}

/// Why there is no dedicated connection to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are as many as there may be.
    #[error("too many dedicated connections: dedicated_connections: {most} are in use (pool {pool}, server {server})")]
    Full { pool: String, server: String, most: usize },
    /// The last attempt to connect has failed for this reason, and the time for another one has not come.
    #[error("{reason} (pool {pool}, server {server})")]
    Down { pool: String, server: String, reason: Reason },
}

impl Refusal {
    /// What it is counted as.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Full { .. } => Trouble::Overload,
            Self::Down { reason, .. } => reason.trouble(),
        }
    }
}

/// What a lot goes by; another one after a reload.
pub(super) struct Terms {
    pub server: Arc<Server>,
    /// What the description is for.
    pub usual: Variant,
    pub facts: Arc<Facts>,
    pub health: Rc<dyn ServerHealth>,
    pub bounds: Bounds,
}

/// All that there are.
pub struct Lot {
    me: Weak<Self>,
    pass: Rc<Pass>,
    cells: Arc<ServerCells>,
    terms: RefCell<Terms>,
    /// The descriptions of other variants, as far as they were wanted.
    variants: RefCell<Vec<(Variant, Arc<Server>)>>,
    in_use: RefCell<HashMap<u64, Rc<Dedicated>>>,
    /// The one that was used last at the end.
    idle: RefCell<Vec<Rc<Dedicated>>>,
    /// Connections so far.
    number: Cell<u64>,
    /// When the last loss was told of.
    last_loss: Cell<Option<Instant>>,
    attempts: RefCell<Attempts>,
    /// The server is not in the configuration any more.
    leaving: Cell<bool>,
}

impl Lot {
    /// None yet.
    pub(super) fn new(terms: Terms, pass: Rc<Pass>, cells: Arc<ServerCells>) -> Rc<Self> {
        let attempts = RefCell::new(fresh(&terms));
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            attempts,
            pass,
            cells,
            terms: RefCell::new(terms),
            variants: RefCell::default(),
            in_use: RefCell::default(),
            idle: RefCell::default(),
            number: Cell::new(0),
            last_loss: Cell::new(None),
            leaving: Cell::new(false),
        })
    }

    /// A connection of this variant for this tenant: the one that was used last, or else a new one.
    ///
    /// # Errors
    /// When there are too many, or it is too early for another attempt.
    pub fn lease(&self, variant: Variant, tenant: Rc<dyn Tenant>, line: u32) -> Result<Rc<Dedicated>, Refusal> {
        let dedicated = match self.take_idle(variant) {
            Some(idle) => {
                idle.move_in(tenant, line);
                idle
            }
            None => self.open(variant, tenant, line)?,
        };
        self.in_use.borrow_mut().insert(dedicated.number, dedicated.clone());
        // Idle ones of other variants may have to make room.
        self.trim();
        Ok(dedicated)
    }

    /// How the server is described to connections of this variant.
    fn description(&self, variant: Variant) -> Arc<Server> {
        let Terms { server, usual, .. } = &*self.terms.borrow();
        if variant == *usual {
            return server.clone();
        }
        let mut variants = self.variants.borrow_mut();
        if let Some((_, known)) = variants.iter().find(|(other, _)| *other == variant) {
            return known.clone();
        }
        let made = Arc::new(server.as_variant(usual.database, variant));
        variants.push((variant, made.clone()));
        made
    }

    fn take_idle(&self, variant: Variant) -> Option<Rc<Dedicated>> {
        loop {
            let idle = {
                let mut idle = self.idle.borrow_mut();
                let at = idle.iter().rposition(|one| one.variant == variant)?;
                idle.remove(at)
            };
            if idle.is_reusable() && idle.is_current() {
                return Some(idle);
            }
            idle.close();
        }
    }

    fn open(&self, variant: Variant, tenant: Rc<dyn Tenant>, line: u32) -> Result<Rc<Dedicated>, Refusal> {
        let description = self.description(variant);
        let Terms { server, bounds, facts, health, .. } = &*self.terms.borrow();
        let names = || (server.pool.clone(), server.name.clone());
        if self.in_use.borrow().len() >= bounds.most {
            self.cells.dedicated_refused.increment();
            let (pool, server) = names();
            return Err(Refusal::Full { pool, server, most: bounds.most });
        }
        let number = self.number.get();
        if let Some(reason) = self.attempts.borrow_mut().refuse(number, health.recoveries(), self.pass.now()) {
            let (pool, server) = names();
            return Err(Refusal::Down { pool, server, reason });
        }
        self.number.set(number + 1);
        let (keeper, tools): (Weak<dyn Keeper>, _) =
            (self.me.clone(), (self.pass.clone(), self.cells.clone(), facts.clone()));
        let dedicated = Dedicated::new((number, keeper), (variant, description), tools, (tenant, line));
        self.cells.dedicated_opened.increment();
        spawn_local(dedicated.clone().run());
        Ok(dedicated)
    }

    /// Brings the gauges up to date.
    fn count(&self) {
        self.cells.dedicated_in_use.set(self.in_use.borrow().len() as u64);
        self.cells.dedicated_idle.set(self.idle.borrow().len() as u64);
    }

    /// Goes by another description of the server from now on. What is in use serves on.
    pub(super) fn update(&self, terms: Terms) {
        *self.terms.borrow_mut() = terms;
        self.variants.borrow_mut().clear();
        let all: Vec<_> = self.in_use.borrow().values().chain(&*self.idle.borrow()).cloned().collect();
        for one in all {
            let server = self.description(one.variant);
            if one.server().leads_to_same(&server) {
                one.update(server);
            }
        }
        self.close_stale();
    }

    /// Closes what is idle and leads to where the server was before, and what is more than may be kept. What was learnt from
    /// attempts to connect there does not apply any more.
    pub fn close_stale(&self) {
        *self.attempts.borrow_mut() = fresh(&self.terms.borrow());
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        let (kept, stale): (Vec<_>, Vec<_>) = idle.into_iter().partition(|one| self.is_of_use(one));
        *self.idle.borrow_mut() = kept;
        stale.iter().for_each(Dedicated::close);
        self.trim();
    }

    /// Closes those idle ones that were not used for the longest time, if there are too many.
    fn trim(&self) {
        let Bounds { most, idle } = self.terms.borrow().bounds;
        let room = idle.min(most.saturating_sub(self.in_use.borrow().len()));
        let mut idle = self.idle.borrow_mut();
        let surplus = idle.len().saturating_sub(room);
        idle.drain(..surplus).for_each(|one| one.close());
        drop(idle);
        self.count();
    }

    fn is_of_use(&self, one: &Dedicated) -> bool {
        one.is_reusable() && one.server().leads_to_same(&self.description(one.variant)) && one.is_current()
    }

    /// The server was ejected; `by_order`: although it may be well.
    pub fn eject(&self, by_order: bool) {
        self.close_idle();
        let in_use: Vec<_> = self.in_use.borrow().values().cloned().collect();
        in_use.iter().for_each(|one| if by_order { one.release() } else { one.abandon(&Reason::Ejected) });
    }

    /// The server is not in the configuration any more: what is in use goes on for now.
    pub fn leave(&self) {
        self.leaving.set(true);
        self.close_idle();
    }

    /// Ends what is in use.
    pub fn end(&self) {
        self.leave();
        let in_use: Vec<_> = self.in_use.borrow().values().cloned().collect();
        in_use.iter().for_each(|one| one.abandon(&Reason::Removed));
    }

    fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        idle.iter().for_each(Dedicated::close);
        self.count();
    }

    /// Nobody uses a connection.
    pub fn is_unused(&self) -> bool {
        self.in_use.borrow().is_empty()
    }

    /// Called by the worker's ticker: gives up what is overdue. True while something has a deadline.
    pub fn check_deadlines(&self, now: Instant) -> bool {
        if self.is_unused() {
            return false;
        }
        let in_use: Vec<_> = self.in_use.borrow().values().cloned().collect();
        in_use.iter().fold(false, |busy, one| one.check_deadlines(now) | busy)
    }

    /// Called by the worker's ticker: closes what was not used for long. How long until there is more to close.
    pub fn close_unused(&self, now: Instant) -> Option<Duration> {
        loop {
            let oldest = self.idle.borrow().first()?.clone();
            let unused = now.saturating_duration_since(oldest.idle_since.get());
            if unused < UNUSED {
                return Some(UNUSED - unused);
            }
            self.idle.borrow_mut().remove(0);
            oldest.close();
            self.count();
        }
    }
}

impl Keeper for Lot {
    fn health(&self) -> Rc<dyn ServerHealth> {
        self.terms.borrow().health.clone()
    }

    fn not_connected(&self, begun: Instant, linked: bool, reason: &Reason) {
        let recoveries = self.health().recoveries();
        self.attempts.borrow_mut().failed((begun, linked), reason, recoveries, Instant::now());
    }

    fn connected(&self) {
        self.attempts.borrow_mut().connected();
    }

    fn heard(&self) {
        self.attempts.borrow_mut().heard();
    }

    fn lost(&self, number: u64) {
        self.attempts.borrow_mut().over(number);
        if self.in_use.borrow_mut().remove(&number).is_none() {
            self.idle.borrow_mut().retain(|one| one.number != number);
        }
        self.count();
    }

    fn take_back(&self, dedicated: &Rc<Dedicated>, clean: bool) {
        if self.in_use.borrow_mut().remove(&dedicated.number).is_none() {
            return;
        }
        dedicated.move_out();
        if clean && !self.leaving.get() && !self.health().is_ejected() && self.is_of_use(dedicated) {
            dedicated.idle_since.set(self.pass.now());
            self.idle.borrow_mut().push(dedicated.clone());
            // For the tick that closes it.
            self.pass.watch_deadlines();
        } else {
            dedicated.close();
        }
        self.trim();
    }

    fn is_news(&self, begun: Instant) -> bool {
        if self.last_loss.get().is_some_and(|last| begun <= last) {
            return false;
        }
        self.last_loss.set(Some(Instant::now()));
        true
    }
}

/// Nothing is known of attempts to connect.
fn fresh(terms: &Terms) -> Attempts {
    Attempts::new(terms.server.max_reconnect_delay, RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests;
