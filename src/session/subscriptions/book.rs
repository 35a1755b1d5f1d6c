//! What one session is subscribed to, where, and what its client is still to be told. Pure: what is to be asked of servers is
//! handed out, what they say is put in.
//!
//! ```text
//!   a name at one server:   Joining ──confirmed──► Joined ──moves, or is given up──► Quitting ──confirmed──► gone
//! ```
//! Invariants:
//! - a server is asked for a name, or to forget it, once at a time: what it confirms is never mistaken for something else;
//! - the client is told in the order in which it asked, and nothing else while it is owed something;
//! - a name that no server has any more, and that was not given up, makes the book stale.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use bytes::Bytes;

use crate::protocol::redis::commands::Subscription;
use crate::protocol::redis::{Version, reply};

pub(super) type Name = (Subscription, Bytes);

pub(super) struct Book<S> {
    names: HashMap<Name, Entry<S>>,
    /// How many names each server has, or is asked for.
    used: HashMap<S, usize>,
    owed: VecDeque<Owed>,
    /// Messages that came while confirmations of what begins are owed.
    held: Vec<u8>,
    /// Of all names together, with what keeping one costs.
    bytes: usize,
    /// What the client was told that it has.
    told: HashSet<Name>,
    /// The same by kind.
    counts: [u32; 3],
    /// What is subscribed to and what should be may differ.
    stale: bool,
}

struct Entry<S> {
    spots: Vec<Spot<S>>,
    /// To be forgotten once no server has it.
    leaving: bool,
}

/// A server that was asked for a name.
struct Spot<S> {
    server: S,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Joining,
    Joined,
    /// `again`: and it is to be asked for the name once more.
    Quitting {
        again: bool,
    },
}

enum Owed {
    Word {
        joins: bool,
        kind: Subscription,
        /// `None`: there was nothing to leave.
        name: Option<Bytes>,
    },
    /// In place of confirmations.
    Error(Bytes),
}

/// What to ask of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask<S> {
    pub server: S,
    pub kind: Subscription,
    pub joins: bool,
    pub names: Vec<Bytes>,
}

impl Subscription {
    pub(super) const ALL: [Self; 3] = [Self::Channels, Self::Patterns, Self::Shards];

    /// The first word of what a server says when one of these begins or ends.
    pub(super) fn word(self, joins: bool) -> &'static str {
        match (self, joins) {
            (Self::Channels, true) => "subscribe",
            (Self::Patterns, true) => "psubscribe",
            (Self::Shards, true) => "ssubscribe",
            (Self::Channels, false) => "unsubscribe",
            (Self::Patterns, false) => "punsubscribe",
            (Self::Shards, false) => "sunsubscribe",
        }
    }

    pub(super) fn of_word(word: &[u8]) -> Option<(Self, bool)> {
        Self::ALL
            .into_iter()
            .flat_map(|kind| [(kind, true), (kind, false)])
            .find(|(kind, joins)| kind.word(*joins).as_bytes() == word)
    }
}

impl<S> Default for Book<S> {
    fn default() -> Self {
        Self {
            names: HashMap::new(),
            used: HashMap::new(),
            owed: VecDeque::new(),
            held: Vec::new(),
            bytes: 0,
            told: HashSet::new(),
            counts: [0; 3],
            stale: false,
        }
    }
}

impl<S: Copy + Eq + Hash> Book<S> {
    /// How many the client has of a kind, as far as it was told.
    pub fn count(&self, kind: Subscription) -> u32 {
        self.counts[kind as usize]
    }

    /// Channels and patterns are counted together.
    fn shown_count(&self, kind: Subscription) -> u32 {
        match kind {
            Subscription::Shards => self.count(kind),
            _ => self.count(Subscription::Channels) + self.count(Subscription::Patterns),
        }
    }

    /// The client is to be told something.
    pub fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }

    /// A message must wait for what is owed: it may be of a name that the client is still to be told that it has. What it
    /// is about to leave it hears until then.
    pub fn holds(&self) -> bool {
        !matches!(self.owed.front(), None | Some(Owed::Word { joins: false, .. }))
    }

    /// Bytes of messages that wait for what is owed.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Names may belong elsewhere.
    pub fn set_stale(&mut self) {
        self.stale = true;
    }

    /// There is a name.
    pub fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// Nothing is left, nor to be told.
    pub fn is_over(&self) -> bool {
        self.names.is_empty() && self.owed.is_empty() && self.held.is_empty()
    }

    /// This server has names, or is asked for some.
    pub fn uses(&self, server: S) -> bool {
        self.used.contains_key(&server)
    }

    /// Bytes that all names take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that all names would take together with these.
    pub fn bytes_with(&self, names: &[Name]) -> usize {
        let new: HashSet<&Name> = names.iter().filter(|name| !self.names.contains_key(*name)).collect();
        self.bytes + new.into_iter().map(cost).sum::<usize>()
    }

    /// The client asks for these. [`Book::place`] says whom to ask.
    pub fn join(&mut self, names: &[Name]) {
        for name in names {
            let entry = self.names.entry(name.clone()).or_insert_with(|| {
                self.bytes += cost(name);
                Entry { spots: Vec::new(), leaving: false }
            });
            entry.leaving = false;
            self.owed.push_back(Owed::Word { joins: true, kind: name.0, name: Some(name.1.clone()) });
        }
    }

    /// The client gives these up, or all of the kind if none is named.
    pub fn quit(&mut self, kind: Subscription, names: Vec<Bytes>) -> Vec<Ask<S>> {
        let mine = |(name, entry): (&Name, &Entry<S>)| (name.0 == kind && !entry.leaving).then(|| name.1.clone());
        let names = if names.is_empty() { self.names.iter().filter_map(mine).collect() } else { names };
        if names.is_empty() {
            self.owed.push_back(Owed::Word { joins: false, kind, name: None });
        }
        let mut asks = Vec::new();
        for name in names {
            self.leave(&(kind, name.clone()), &mut asks);
            self.owed.push_back(Owed::Word { joins: false, kind, name: Some(name) });
        }
        asks
    }

    /// Has every server forget the name.
    fn leave(&mut self, name: &Name, asks: &mut Vec<Ask<S>>) {
        let Some(entry) = self.names.get_mut(name) else { return };
        entry.leaving = true;
        for spot in &mut entry.spots {
            if !matches!(spot.state, State::Quitting { .. }) {
                add(asks, spot.server, name, false);
            }
            spot.state = State::Quitting { again: false };
        }
        self.forget_if_gone(name);
    }

    fn forget_if_gone(&mut self, name: &Name) {
        if self.names.get(name).is_some_and(|entry| entry.leaving && entry.spots.is_empty()) {
            self.names.remove(name);
            self.bytes -= cost(name);
        }
    }

    /// Brings these names, or all if none is given, in line with where they belong. As long as a name belongs nowhere it
    /// stays where it is.
    pub fn place(&mut self, only: Option<&[Name]>, homes: impl Fn(&Name) -> Vec<S>) -> Vec<Ask<S>> {
        let mut asks = Vec::new();
        let Self { names, used, stale, .. } = self;
        match only {
            None => {
                *stale = false;
                names.iter_mut().for_each(|(name, entry)| settle(name, entry, &homes(name), used, stale, &mut asks));
            }
            Some(only) => only.iter().for_each(|name| {
                if let Some(entry) = names.get_mut(name) {
                    settle(name, entry, &homes(name), used, stale, &mut asks);
                }
            }),
        }
        asks
    }

    /// A server has confirmed.
    pub fn confirmed(&mut self, server: S, joins: bool, name: &Name) {
        let Some(entry) = self.names.get_mut(name) else { return };
        let Some(at) = entry.spots.iter().position(|spot| spot.server == server) else { return };
        match (joins, entry.spots[at].state) {
            (true, State::Joining) => entry.spots[at].state = State::Joined,
            (false, State::Quitting { again }) => {
                entry.spots.swap_remove(at);
                self.stale |= again;
                release(&mut self.used, server);
                self.forget_if_gone(name);
            }
            _ => {}
        }
    }

    /// A server has refused, or was never asked; the client is told `error` if it waits for one of these. What it was never
    /// told that it has is given up, the rest stays to be tried again. Returns what to ask of other servers for that, and
    /// whether the client is told.
    pub fn refused(&mut self, ask: &Ask<S>, error: &[u8]) -> (Vec<Ask<S>>, bool) {
        let mut names = HashSet::new();
        for name in ask.names.iter().map(|name| (ask.kind, name.clone())) {
            let wanted = |state| ask.joins == (state == State::Joining) && state != State::Joined;
            if self.drop_spot(&name, ask.server, wanted) {
                names.insert(name);
            }
        }
        self.give_up(&names, error)
    }

    /// The connection to a server is gone, and with it all that it had. As with [`Book::refused`] for what it was asked for.
    pub fn lost(&mut self, server: S, error: &[u8]) -> (Vec<Ask<S>>, bool) {
        let of_server = |spot: &Spot<S>| spot.server == server;
        let with: Vec<Name> =
            self.names.iter().filter(|(_, e)| e.spots.iter().any(of_server)).map(|(name, _)| name.clone()).collect();
        let mut asked = HashSet::new();
        for name in with {
            let joining = self.names[&name].spots.iter().any(|spot| of_server(spot) && spot.state == State::Joining);
            self.drop_spot(&name, server, |_| true);
            if joining {
                asked.insert(name);
            }
        }
        self.give_up(&asked, error)
    }

    /// This server does not have the name. Whether it was in one of the states wanted.
    fn drop_spot(&mut self, name: &Name, server: S, wanted: impl Fn(State) -> bool) -> bool {
        let Some(entry) = self.names.get_mut(name) else { return false };
        let Some(at) = entry.spots.iter().position(|spot| spot.server == server && wanted(spot.state)) else {
            return false;
        };
        entry.spots.swap_remove(at);
        release(&mut self.used, server);
        self.stale = true;
        self.forget_if_gone(name);
        true
    }

    /// In place of the confirmations of these the client gets one error, if it waits for one of them.
    fn give_up(&mut self, names: &HashSet<Name>, error: &[u8]) -> (Vec<Ask<S>>, bool) {
        let (mut asks, mut told, mut given_up) = (Vec::new(), false, Vec::new());
        self.owed.retain_mut(|owed| {
            let Owed::Word { joins: true, kind, name: Some(name) } = owed else { return true };
            let name = (*kind, name.clone());
            if !names.contains(&name) {
                return true;
            }
            if !self.told.contains(&name) {
                given_up.push(name);
            }
            *owed = Owed::Error(Bytes::copy_from_slice(error));
            !std::mem::replace(&mut told, true)
        });
        given_up.iter().for_each(|name| self.leave(name, &mut asks));
        (asks, told)
    }

    /// Tells the client what it is owed as far as it is true by now, then what came meanwhile.
    pub fn advance(&mut self, version: Version, out: &mut Vec<u8>) {
        while let Some(owed) = self.owed.front() {
            match owed {
                Owed::Error(error) => out.extend_from_slice(error),
                Owed::Word { joins, kind, name } => {
                    let (joins, kind, name) = (*joins, *kind, name.clone());
                    if name.as_ref().is_some_and(|name| !self.is_so(joins, &(kind, name.clone()))) {
                        return;
                    }
                    self.tell(joins, kind, name, version, out);
                }
            }
            self.owed.pop_front();
        }
        out.append(&mut self.held);
    }

    /// What the client asked for is so.
    fn is_so(&self, joins: bool, name: &Name) -> bool {
        match self.names.get(name) {
            None => !joins,
            Some(entry) if joins => {
                let mut spots =
                    entry.spots.iter().filter(|spot| !matches!(spot.state, State::Quitting { .. })).peekable();
                spots.peek().is_some() && spots.all(|spot| spot.state == State::Joined)
            }
            Some(_) => false,
        }
    }

    fn tell(&mut self, joins: bool, kind: Subscription, name: Option<Bytes>, version: Version, out: &mut Vec<u8>) {
        if let Some(name) = name.clone().map(|name| (kind, name)) {
            let count = &mut self.counts[kind as usize];
            match joins {
                true => *count += u32::from(self.told.insert(name)),
                false => *count -= u32::from(self.told.remove(&name)),
            }
        }
        out.push(if version == Version::Resp3 { b'>' } else { b'*' });
        out.extend_from_slice(b"3\r\n");
        reply::write_bulk(out, kind.word(joins).as_bytes());
        match name {
            Some(name) => reply::write_bulk(out, &name),
            None => out.extend_from_slice(version.null()),
        }
        reply::write_integer(out, self.shown_count(kind).into());
    }

    /// What was kept does not wait any longer: it became too much.
    pub fn release(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// Keeps a message until the client was told what it is owed.
    pub fn hold(&mut self, message: &[u8]) {
        self.held.extend_from_slice(message);
    }
}

/// Asks for one name where it belongs and is not, and has it forgotten where it does not belong.
fn settle<S: Copy + Eq + Hash>(
    name: &Name,
    entry: &mut Entry<S>,
    homes: &[S],
    used: &mut HashMap<S, usize>,
    stale: &mut bool,
    asks: &mut Vec<Ask<S>>,
) {
    if entry.leaving {
        return;
    }
    if homes.is_empty() {
        *stale = true;
        return;
    }
    for spot in &mut entry.spots {
        spot.state = match (homes.contains(&spot.server), spot.state) {
            (again, State::Quitting { .. }) => State::Quitting { again },
            (true, state) => state,
            (false, _) => {
                add(asks, spot.server, name, false);
                State::Quitting { again: false }
            }
        };
    }
    for server in homes.iter().copied() {
        if !entry.spots.iter().any(|spot| spot.server == server) {
            entry.spots.push(Spot { server, state: State::Joining });
            *used.entry(server).or_default() += 1;
            add(asks, server, name, true);
        }
    }
}

fn release<S: Eq + Hash>(used: &mut HashMap<S, usize>, server: S) {
    if let Some(count) = used.get_mut(&server) {
        *count -= 1;
        if *count == 0 {
            used.remove(&server);
        }
    }
}

fn add<S: Copy + Eq>(asks: &mut Vec<Ask<S>>, server: S, (kind, name): &Name, joins: bool) {
    match asks.iter_mut().find(|ask| ask.server == server && ask.kind == *kind && ask.joins == joins) {
        Some(ask) => ask.names.push(name.clone()),
        None => asks.push(Ask { server, kind: *kind, joins, names: vec![name.clone()] }),
    }
}

/// What remembering a name takes, in bytes.
fn cost((_, name): &Name) -> usize {
    name.len() + 64
}

#[cfg(test)]
mod tests;
