//! All listeners of the process, and their change from one configuration to the next.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::io::Errno;
use socket2::Socket as RawSocket;
use tokio::task::AbortHandle;

use super::accept::{Door, Listener, Target};
use super::bind::{Bound, Place, bound_to, collide};
use super::entrances::{Entrances, Watched};
use super::{HandOver, Inherited, Permit, Places, Wanted};
use crate::config::ListenAddress;
use crate::pool::PoolId;
use crate::session::carried::Carried;
use crate::worker::{Accepted, Socket};

/// All listeners of the process. Known to the control side only.
#[derive(Default)]
pub struct Listeners {
    entries: Vec<Entry>,
    /// Those that are not wanted any more, for as long as [`FAREWELL`].
    leaving: Vec<Arc<Listener>>,
    /// Clients of each pool, whichever listener they came by.
    clients: HashMap<PoolId, Places>,
    door: Arc<Door>,
    entrances: Entrances,
}

struct Entry {
    /// Its text; what a listener is known by.
    address: String,
    listener: Arc<Listener>,
    accepting: AbortHandle,
}

/// Clients that are being connected when their address goes out of use get so long for it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Everything bound that a configuration needs. Nothing has changed for clients yet, and nothing will if this is dropped:
/// what is new closes, its files go. Not to be kept for long: clients who come to a new address wait until it is applied.
pub struct Prepared(Vec<(Wanted, Source)>);

/// A pool cannot listen where it should.
#[derive(Debug)]
pub struct Unbound {
    /// Its name.
    pub pool: String,
    /// Says all of it.
    pub error: io::Error,
}

impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Where the socket of a listener comes from.
enum Source {
    Kept(Arc<Listener>),
    /// Ours or inherited.
    New(Bound),
    /// Does not listen yet: clients will come to it in place of the others.
    Over(Bound, Vec<RawSocket>),
}

impl Listeners {
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds what is not bound yet. Needs no runtime: at the start it runs before the process goes into the background.
    /// Waits for host names that were not resolved before.
    ///
    /// # Errors
    /// All that failed, each with its pool, its address and the reason. Nothing has changed then, except that sockets
    /// taken from `inherited` are closed.
    pub fn prepare(&self, wanted: Vec<Wanted>, inherited: &mut Inherited) -> Result<Prepared, Vec<Unbound>> {
        // The nearest first, for all of them: the same text, the same place by another name, and only then a new socket.
        let mut search = Search { own: self.usable(), leaving: &self.leaving, inherited, bound: Vec::new() };
        let mut found: Vec<_> = wanted.iter().map(|wanted| search.by_text(wanted)).collect();
        let mut errors = Vec::new();
        let places: Vec<_> = wanted
            .iter()
            .zip(&mut found)
            .map(|(wanted, found)| match found {
                Some(_) => None,
                None => {
                    let place = Place::resolve(wanted).map_err(|e| errors.push(unbound(wanted, e))).ok()?;
                    *found = search.by_place(&place);
                    Some(place)
                }
            })
            .collect();
        let mut parts = Vec::new();
        for ((wanted, found), place) in wanted.into_iter().zip(found).zip(places) {
            let source = match (found, place) {
                (Some(found), _) => Ok(found),
                (None, Some(place)) => search.bind(&place, wanted.backlog),
                // Its name did not resolve; that was said.
                (None, None) => continue,
            };
            match source {
                Ok(source) => parts.push((wanted, source)),
                Err(error) => errors.push(unbound(&wanted, error)),
            }
        }
        if errors.is_empty() { Ok(Prepared(parts)) } else { Err(errors) }
    }

    /// From now on kept sockets let in for their pool as it is now, and new ones accept. Those not wanted any more are out of
    /// reach at once, take in the clients that wait or are being connected, and close after [`FAREWELL`]. To be called
    /// inside the runtime that accepts.
    pub fn apply(&mut self, prepared: Prepared, hand_over: &HandOver) {
        let (mut before, mut watched) = (mem::take(&mut self.entries), Vec::new());
        self.clients.retain(|pool, _| prepared.0.iter().any(|(wanted, _)| wanted.pool == *pool));
        for (wanted, source) in prepared.0 {
            let places = self.clients.entry(wanted.pool).or_default().clone();
            let refused = places.refused.clone();
            let target = Target::new(&wanted, places, hand_over.clone());
            let started = match source {
                Source::Kept(listener) => {
                    listener.serve(&wanted, target);
                    watched.push(Watched { pool: wanted.pool, listener: listener.clone(), refused });
                    let index = before.iter().position(|entry| Arc::ptr_eq(&entry.listener, &listener));
                    self.entries.extend(index.map(|index| before.swap_remove(index).renamed(&wanted)));
                    continue;
                }
                Source::New(bound) => self.start(bound, &wanted, target),
                Source::Over(mut bound, others) => {
                    bound.listen_over(wanted.backlog, &others).and_then(|()| self.start(bound, &wanted, target))
                }
            };
            match started {
                Ok(entry) => {
                    watched.push(Watched { pool: wanted.pool, listener: entry.listener.clone(), refused });
                    self.entries.push(entry);
                }
                Err(error) => tracing::error!(error = %named(&wanted, error), "a listener did not start"),
            }
        }
        self.entrances.replace(watched);
        self.leaving.retain(|listener| listener.ask(|_| ()).is_some());
        self.leaving.extend(before.into_iter().filter_map(Entry::leave));
    }

    /// Duplicates of the sockets with the texts of their addresses, to hand over to the next process. Sockets that nobody
    /// can reach any more, their file being gone, are not among them.
    ///
    /// # Errors
    /// When no descriptors are left.
    pub fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let duplicate = |entry: &Entry| {
            let socket = entry.listener.ask(|socket| socket.is_reachable().then(|| socket.duplicate()))??;
            Some(socket.map(|socket| (entry.address.clone(), socket.into())))
        };
        self.entries.iter().filter_map(duplicate).collect()
    }

    /// Takes in the clients that wait everywhere, then closes everything. `keep_files`: the files of unix sockets belong to
    /// the next process now.
    pub fn stop(&mut self, keep_files: bool) {
        for entry in self.entries.drain(..) {
            entry.close(keep_files);
        }
        self.leaving.drain(..).for_each(|listener| listener.close(keep_files));
    }

    /// Until everything that is not wanted any more has closed, [`FAREWELL`] at the most: another process could not bind there.
    pub async fn farewell(&self) {
        while self.leaving.iter().any(|listener| listener.ask(|_| ()).is_some()) {
            tokio::time::sleep(FAREWELL / 100).await;
        }
    }

    /// For those who watch them.
    pub fn entrances(&self) -> Entrances {
        self.entrances.clone()
    }

    /// Texts of the addresses that clients can come to.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.address.as_str())
    }

    /// Number of the last client let in; the next process goes on from there.
    pub fn last_client(&self) -> u64 {
        self.door.ids.load(Relaxed)
    }

    /// The next client gets the number after this one, if that is not taken.
    pub fn continue_from(&self, last_client: u64) {
        self.door.ids.fetch_max(last_client, Relaxed);
    }

    /// Lets in a client whose session another process has begun; however many there are, it had its place.
    pub fn welcome(&self, pool: PoolId, socket: Socket, carried: Carried, hand_over: &HandOver) {
        let places = self.clients.get(&pool).cloned().unwrap_or_default();
        if let Some(permit) = Permit::take(&places.taken, None) {
            hand_over(Accepted { socket, pool, id: carried.id, permit, carried: Some(Box::new(carried)) });
        }
    }

    /// Those whose clients can reach them.
    fn usable(&self) -> Vec<&Entry> {
        self.entries.iter().filter(|e| e.listener.ask(Bound::is_reachable) == Some(true)).collect()
    }

    fn start(&self, mut bound: Bound, wanted: &Wanted, target: Target) -> io::Result<Entry> {
        bound.refit(&wanted.listen, wanted.backlog)?;
        let listener = Arc::new(Listener::new(bound, target, self.door.clone())?);
        let accepting = tokio::spawn(listener.clone().run()).abort_handle();
        Ok(Entry { address: wanted.listen.to_string(), listener, accepting })
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop(false);
    }
}

impl Entry {
    fn renamed(self, wanted: &Wanted) -> Self {
        Self { address: wanted.listen.to_string(), ..self }
    }

    fn bound_to(&self) -> Option<SocketAddr> {
        self.listener.ask(Bound::address)?
    }

    fn close(self, keep_file: bool) {
        self.accepting.abort();
        self.listener.close(keep_file);
    }

    /// Closes, now or after a while; what is open until then.
    fn leave(self) -> Option<Arc<Listener>> {
        if !self.listener.step_aside() {
            self.close(false);
            return None;
        }
        let listener = self.listener.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            self.close(false);
        });
        Some(listener)
    }
}

/// Sockets that are there and not yet spoken for.
struct Search<'a> {
    own: Vec<&'a Entry>,
    leaving: &'a [Arc<Listener>],
    inherited: &'a mut Inherited,
    /// Where new ones are bound. Some do not listen yet, and the kernel would let others be bound there, too.
    bound: Vec<SocketAddr>,
}

impl Search<'_> {
    fn by_text(&mut self, wanted: &Wanted) -> Option<Source> {
        let text = wanted.listen.to_string();
        self.keep(|entry| entry.address == text).or_else(|| {
            let socket = self.inherited.take(&text)?.into();
            let path = match &wanted.listen {
                ListenAddress::Tcp { .. } => None,
                ListenAddress::Unix { path, .. } => Some(path.as_path()),
            };
            Bound::adopt(socket, path).map(Source::New)
        })
    }

    fn by_place(&mut self, place: &Place) -> Option<Source> {
        self.keep(|entry| entry.listener.ask(|socket| socket.is_at(place)) == Some(true)).or_else(|| {
            let &Place::Tcp(address) = place else { return None };
            let socket = self.inherited.take_if(|_, socket| bound_to(socket) == Some(address))?;
            Bound::adopt(socket, None).map(Source::New)
        })
    }

    fn keep(&mut self, is_it: impl Fn(&Entry) -> bool) -> Option<Source> {
        let index = self.own.iter().position(|entry| is_it(entry))?;
        Some(Source::Kept(self.own.swap_remove(index).listener.clone()))
    }

    fn bind(&mut self, place: &Place, backlog: u32) -> io::Result<Source> {
        let &Place::Tcp(address) = place else { return Bound::new(place, backlog).map(Source::New) };
        if self.bound.iter().any(|bound| collide(*bound, address)) {
            return Err(Errno::ADDRINUSE.into());
        }
        let collides = |listener: &&Arc<Listener>| {
            listener.ask(Bound::address).flatten().is_some_and(|leaving| collide(leaving, address))
        };
        self.leaving.iter().filter(collides).for_each(|listener| listener.close(false));
        let source = match Bound::new(place, backlog) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => self.bind_over(address, error)?,
            result => Source::New(result?),
        };
        self.bound.push(address);
        Ok(source)
    }

    fn bind_over(&self, address: SocketAddr, error: io::Error) -> io::Result<Source> {
        let (names, others): (Vec<_>, Vec<_>) = self.in_the_way(address).into_iter().unzip();
        let Some(name) = names.first() else { return Err(error) };
        let bound = Bound::over(address, &others).map_err(|error| {
            let advice = format!("{error}; if that is {name} of this process, close it in a change of its own first");
            io::Error::new(error.kind(), advice)
        })?;
        Ok(Source::Over(bound, others))
    }

    /// Sockets that will close and with which a socket at `address` collides, with the texts of their addresses.
    fn in_the_way(&self, address: SocketAddr) -> Vec<(String, RawSocket)> {
        let own = self.own.iter().filter(|entry| entry.bound_to().is_some_and(|own| collide(own, address)));
        let own = own.filter_map(|entry| {
            let socket = entry.listener.ask(Bound::duplicate)?.ok()?;
            Some((entry.address.clone(), socket))
        });
        own.chain(self.inherited.find(|inherited| collide(inherited, address))).collect()
    }
}

fn unbound(wanted: &Wanted, error: io::Error) -> Unbound {
    Unbound { pool: wanted.pool_name.clone(), error: named(wanted, error) }
}

fn named(wanted: &Wanted, error: io::Error) -> io::Error {
    let text = format!("pool {}: cannot listen on {}: {error}", wanted.pool_name, wanted.listen);
    io::Error::new(error.kind(), text)
}
