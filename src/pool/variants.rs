//! Connections of other variants than the pool's usual one: of RESP3, to other databases. They are made when a session first
//! needs one, and are there until their server or their database goes; but a link that nobody has used for a while is closed,
//! and made again for the next request. So clients that look into every database once leave no links behind.
//!
//! ```text
//!   place 0   usual  ══►  RESP3  ──►  RESP2, database 4  ──►  ...
//!   place 1   usual  ══►  RESP3
//! ```
//! A server has at most one set of them for each version and database. What sessions of the usual variant pay for it is one
//! comparison.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;

use super::health::Seen;
use super::lot::UNUSED;
use super::{Moved, Pool};
use crate::backend::{Connection, Records, Variant};

/// The connections to one server that are not of the usual variant: a list that only grows, so that what is found in it
/// stays where it is.
#[derive(Default)]
pub(super) struct Others(OnceCell<Box<Other>>);

struct Other {
    variant: Variant,
    connections: Vec<Rc<Connection>>,
    next: Others,
}

impl Others {
    /// The connections of this variant, which `make` makes the first time.
    fn get(&self, variant: Variant, make: impl FnOnce() -> Vec<Rc<Connection>>) -> &[Rc<Connection>] {
        let mut list = self;
        while let Some(other) = list.0.get() {
            if other.variant == variant {
                return &other.connections;
            }
            list = &other.next;
        }
        let made = || Box::new(Other { variant, connections: make(), next: Self::default() });
        &list.0.get_or_init(made).connections
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Variant, &[Rc<Connection>])> {
        let mut list = self;
        std::iter::from_fn(move || {
            let other = list.0.get()?;
            list = &other.next;
            Some((other.variant, &other.connections[..]))
        })
    }
}

impl Pool {
    /// What the pool's usual connections are set up as, and sessions begin with.
    pub fn usual(&self) -> Variant {
        self.usual
    }

    /// The variant that a session of this one has at the pool that stands in: its own database stands in for ours, the
    /// others have the same numbers there.
    pub(super) fn at_stand_in(&self, stand_in: &Self, variant: Variant) -> Variant {
        let own = variant.database == self.usual.database;
        Variant { database: if own { stand_in.usual.database } else { variant.database }, ..variant }
    }

    /// The connections of another variant to the server at `place`, which is one of the pool's own.
    #[cold]
    pub(super) fn others(&self, place: usize, variant: Variant) -> &[Rc<Connection>] {
        debug_assert!(self.settings.serves_database(variant.database), "{variant:?} is not served");
        self.others[place].get(variant, || {
            let (server, usual) = (&self.shared.servers[place], self.usual.database);
            let description = Arc::new(server.description.as_variant(usual, variant));
            let seen = Seen { health: self.health.clone(), server: place, budget: self.budget.clone() };
            let (health, pass) = (Rc::new(seen), &self.pass);
            let made: Vec<Rc<Connection>> = (0..self.settings.server_connections.max(1))
                .map(|_| Connection::new(description.clone(), health.clone(), pass.clone(), self.records(place)))
                .collect();
            made.iter().for_each(|connection| drop(spawn_local(connection.clone().run())));
            if self.succeeded.get() {
                self.late.borrow_mut().extend_from_slice(&made);
            }
            made
        })
    }

    /// Called by the worker's ticker: closes links of other variants that were not used for long. How long until there is more
    /// to close.
    pub fn close_unused(&self, now: Instant) -> Option<Duration> {
        let connections = self.others.iter().flat_map(Others::iter).flat_map(|(_, connections)| connections);
        connections.filter_map(|connection| connection.close_unused(now, UNUSED)).min()
    }

    pub(super) fn records(&self, place: usize) -> Records {
        let (server, shared) = (&self.shared.servers[place], &self.shared);
        Records {
            cells: server.cells[self.worker].clone(),
            observer: shared.observer.clone(),
            hot_keys: shared.hot_keys[self.worker].clone(),
            number: server.id.0,
            scripts: shared.scripts.clone(),
            facts: shared.facts.clone(),
        }
    }

    /// Takes over what a server that stays has of other variants; what is of none any more goes.
    pub(super) fn take_over_others(&self, place: usize, before: &Others, moved: &mut Moved) {
        let seen = Seen { health: self.health.clone(), server: place, budget: self.budget.clone() };
        let health = Rc::new(seen);
        for (variant, connections) in before.iter() {
            let same_number = connections.len() == self.settings.server_connections.max(1);
            if !same_number || variant == self.usual || !self.settings.serves_database(variant.database) {
                moved.leaving.extend_from_slice(connections);
                continue;
            }
            let description = self.shared.servers[place].description.as_variant(self.usual.database, variant);
            let description = Arc::new(description);
            connections.iter().for_each(|connection| connection.update(description.clone(), health.clone()));
            self.others[place].get(variant, || connections.to_vec());
        }
    }

    /// Another pool has taken this one's place, or none has: connections that sessions still have it make are remembered,
    /// see [`Pool::take_late`].
    pub fn give_way(&self) {
        self.succeeded.set(true);
    }

    /// Connections made since another pool took this one's place, and those of the pool that stands in, which may have been
    /// replaced as well. Nobody else looks after them.
    pub fn take_late(&self) -> Vec<Rc<Connection>> {
        let mut late = self.late.take();
        late.extend(self.stand_in.iter().flat_map(|pool| pool.take_late()));
        late
    }
}
