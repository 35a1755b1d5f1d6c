//! One process takes the place of another: taking over from the one before, and being taken over from by the next.
//! [`upgrade`](crate::upgrade) has the conversation between the two; here is what each does to itself.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc as blocking;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::SendError;
use tokio::sync::{Notify, mpsc};

use super::data_plane::Order;
use super::homes::{Homes, known};
use crate::admin::PortSocket;
use crate::config::{ListenAddress, Protocol, ServerSettings};
use crate::listener::Inherited;
use crate::pool::{SharedPool, Topology};
use crate::reload::Live;
use crate::session::carried::{Carried, Dialect};
use crate::telemetry::{Event, What};
use crate::upgrade::{
    Caller, Door, Ejected, Estate, Failure, KnownPool, LIMIT, MOST_EJECTED, Predecessor, Spawn, Successor, Upgrade,
    Visit, Visitor,
};
use crate::worker::Socket;

/// What the statistics' socket is called on its way; listeners go by their addresses.
const STATISTICS: &str = "statistics ";
/// The same of the admin port.
const ADMIN: &str = "admin ";

/// More clients than come to the old process while the new one starts: both number theirs.
const CLIENTS_MEANWHILE: u64 = 1 << 20;

/// A session of the process before.
pub(super) type Arrival = (Carried, OwnedFd);

/// Who asks for an upgrade.
pub(super) enum Who {
    /// SIGUSR2
    Signal,
    /// `outrigger upgrade`
    Visitor(Visitor),
    /// A process that was started to take over.
    Caller(Caller),
}

impl Who {
    /// Says why there is no upgrade.
    fn refuse(self, why: &str) {
        match self {
            Self::Signal => {}
            Self::Visitor(visitor) => visitor.finish(Err(why)),
            Self::Caller(caller) => caller.refuse(why),
        }
    }

    /// The same to one who comes when this process does not go on.
    pub fn refuse_late(self) {
        if matches!(self, Self::Signal) {
            tracing::warn!("SIGUSR2 ignored: this process is ending");
        }
        self.refuse("this process is ending");
    }
}

/// Sockets of the process before, sorted out.
#[derive(Default)]
pub(super) struct Heritage {
    pub listeners: Inherited,
    /// Of statistics and admin port, by what they are called.
    ports: Vec<(String, OwnedFd)>,
    pub last_client: u64,
    pub ejected: Vec<Ejected>,
    pub pools: Vec<KnownPool>,
}

impl Heritage {
    pub fn of(predecessor: &mut Predecessor) -> io::Result<Self> {
        let all = predecessor.sockets()?;
        let is_port = |name: &str| name.starts_with(STATISTICS) || name.starts_with(ADMIN);
        let (ports, listeners): (Vec<_>, Vec<_>) = all.sockets.into_iter().partition(|(name, _)| is_port(name));
        Ok(Self {
            listeners: Inherited::new(listeners),
            ports,
            last_client: all.estate.last_client + CLIENTS_MEANWHILE,
            ejected: all.estate.ejected,
            pools: all.estate.pools,
        })
    }

    /// The socket of the statistics, if it is at this address.
    pub fn statistics(&mut self, wanted: &str) -> Option<PortSocket> {
        let listen = ListenAddress::parse(wanted)?;
        PortSocket::adopt(self.port(&format!("{STATISTICS}{wanted}"))?, &listen)
    }

    /// The socket of the admin port, if it is at this address.
    pub fn admin(&mut self, wanted: &ListenAddress) -> Option<PortSocket> {
        PortSocket::adopt(self.port(&format!("{ADMIN}{wanted}"))?, wanted)
    }

    fn port(&mut self, name: &str) -> Option<OwnedFd> {
        let index = self.ports.iter().position(|(known, _)| known == name)?;
        Some(self.ports.swap_remove(index).1)
    }
}

/// Opens the door at which an upgrade is asked for.
pub(super) fn open_door(orders: mpsc::Sender<Order>, succession: &Succession) -> Option<Door> {
    let upgrade = succession.upgrade.clone();
    let door = Door::open(move |visit| {
        let who = match visit {
            Visit::Upgrade(visitor) => Who::Visitor(visitor),
            Visit::TakeOver(caller) => Who::Caller(caller),
        };
        if upgrade.as_ref().is_some_and(|upgrade| upgrade.is_under_way()) {
            return who.refuse(&Failure::UnderWay.to_string());
        }
        // It waits for what is being done.
        if let Err(SendError(Order::Upgrade(who))) = orders.blocking_send(Order::Upgrade(who)) {
            who.refuse_late();
        }
    });
    door.inspect_err(|error| tracing::warn!(%error, "this process can be upgraded by SIGUSR2 only")).ok()
}

/// How this process is replaced.
pub(super) struct Succession {
    /// `None`: the system does not say what runs here.
    upgrade: Option<Arc<Upgrade>>,
    /// Set, and told, when another process has taken over.
    succeeded: Arc<AtomicBool>,
    end: Arc<Notify>,
}

impl Succession {
    /// To be made at the start, while the program's file is still the one that runs.
    pub fn new() -> Self {
        let spawn = Spawn::of_this_process();
        Self {
            upgrade: spawn.ok().map(|spawn| Arc::new(Upgrade::new(spawn))),
            succeeded: Arc::default(),
            end: Arc::default(),
        }
    }

    /// Whether, and when, another process has taken over.
    pub fn news(&self) -> (Arc<AtomicBool>, Arc<Notify>) {
        (self.succeeded.clone(), self.end.clone())
    }

    /// This process ends without one.
    pub fn give_up(&self) {
        self.upgrade.iter().for_each(|upgrade| upgrade.give_up());
    }

    /// Has another process take over; whether one has. Whatever goes wrong, this one goes on. Ends when the sessions are on
    /// their way; then the process is to end.
    pub async fn hand_over(&self, live: &mut Live, who: Who) -> bool {
        live.listeners.farewell().await;
        let sockets = sockets(live).map_err(|error| format!("the sockets cannot be handed over: {error}"));
        let upgrade = self.upgrade.clone().ok_or_else(|| "this program's file is not known".to_owned());
        let (upgrade, sockets) = match upgrade.and_then(|upgrade| Ok((upgrade, sockets?))) {
            Ok(both) => both,
            Err(why) => {
                refuse(live, who, &why);
                return false;
            }
        };
        let topology = live.topology.borrow().clone();
        let last_client = live.listeners.last_client();
        let estate = Estate { last_client, ejected: ejected(&topology), pools: known(&topology) };
        let program = upgrade.program().display().to_string();
        let (visitor, caller) = match who {
            Who::Signal => (None, None),
            Who::Visitor(visitor) => (Some(visitor), None),
            Who::Caller(caller) => (None, Some(caller)),
        };
        match (&visitor, &caller) {
            (_, Some(caller)) => tracing::info!(pid = caller.pid, "a process comes to take over"),
            (visitor, None) => {
                visitor.iter().for_each(|visitor| visitor.say(&format!("starting {program}")));
                tracing::info!(program, "starting the process that is to take over");
            }
        }
        let started = tokio::task::spawn_blocking(move || match caller {
            Some(caller) => upgrade.hand_to(caller, &sockets, &estate, LIMIT),
            None => upgrade.start(&sockets, &estate, LIMIT),
        });
        let result = started.await.map_err(|error| error.to_string());
        match result.and_then(|started| started.map_err(|failure: Failure| failure.to_string())) {
            Ok(successor) => {
                let said = self.leave_to(live, successor);
                visitor.into_iter().for_each(|visitor| {
                    visitor.say(&said);
                    visitor.finish(Ok(()));
                });
                true
            }
            Err(why) => {
                live.ground.events.record(Event::of_process(What::UpgradeFailed, why.clone()));
                visitor.into_iter().for_each(|visitor| visitor.finish(Err(&why)));
                false
            }
        }
    }

    /// The other process accepts clients now: sends it the sessions.
    fn leave_to(&self, live: &mut Live, successor: Successor) -> String {
        let pid = successor.pid();
        let sessions: usize = live.workers.iter().map(|worker| worker.sessions()).sum();
        let said = format!("process {pid} serves; {sessions} sessions are moving");
        live.ground.events.record(Event::of_process(What::Upgraded, said.clone()));
        live.manager.main_pid(pid);
        live.stats.port.leave();
        live.admin.port.leave();
        // What has come here already is served here first.
        live.listeners.stop(true);
        let (departure, departures) = blocking::channel();
        for worker in &live.workers {
            worker.depart(departure.clone());
            worker.drain();
        }
        drop(departure);
        self.succeeded.store(true, Relaxed);
        let end = self.end.clone();
        tokio::task::spawn_blocking(move || {
            // The end of the process waits for blocking tasks, but only for those that have begun.
            end.notify_one();
            carry(&successor, &departures).map(|left| successor.finish(left))
        });
        said
    }
}

/// Sends sessions until the last worker has ended; returns how many could not be sent.
fn carry(successor: &Successor, departures: &blocking::Receiver<(Carried, OwnedFd)>) -> Option<u64> {
    let mut left = 0;
    for (carried, socket) in departures {
        if let Err(error) = successor.send(&carried, &socket) {
            left += 1;
            if left == 1 {
                tracing::warn!(%error, "a session cannot move and is closed");
            }
        }
    }
    tracing::info!(sent = successor.sent(), closed = left, "sessions have moved");
    Some(left)
}

pub(super) fn refuse(live: &Live, who: Who, why: &str) {
    live.ground.events.record(Event::of_process(What::UpgradeFailed, why.to_owned()));
    who.refuse(why);
}

/// The servers that get no traffic.
fn ejected(topology: &Topology) -> Vec<Ejected> {
    let of_pool = |pool: &Arc<SharedPool>| {
        let (settings, ejected) = (pool.settings.clone(), pool.health.ejected());
        ejected.into_iter().filter_map(move |(server, report)| {
            let known = settings.servers.get(server)?;
            let left = report.until.map(|until| until.saturating_duration_since(Instant::now()));
            Some(Ejected {
                pool: settings.name.clone(),
                server: known.name.clone(),
                address: known.address.to_string(),
                why: report.why,
                by_hand_for: left.filter(|_| report.wanted).and_then(|left| left.as_millis().try_into().ok()),
            })
        })
    };
    topology.pools.iter().flat_map(of_pool).take(MOST_EJECTED).collect()
}

/// Ejects the servers that the process before had ejected, so that no client has to find out anew, and that nothing which
/// is to be emptied before its return comes back by the way.
pub(super) fn condemn(topology: &Topology, homes: &Homes, ejected: &[Ejected]) {
    for Ejected { pool, server, address, why, by_hand_for } in ejected {
        let is_it = |known: &&ServerSettings| known.name == *server && known.address.to_string() == *address;
        let pools = [Protocol::Redis, Protocol::Memcached].map(|protocol| homes.find(protocol, pool, topology));
        let found = pools
            .into_iter()
            .flatten()
            .find_map(|pool| Some((pool, pool.settings.servers.iter().position(|known| is_it(&known))?)));
        match (found, by_hand_for) {
            (Some((pool, server)), Some(left)) => pool.health.eject_by_hand(server, Some(Duration::from_millis(*left))),
            (Some((pool, server)), None) => pool.health.condemn(server, why),
            (None, _) => {}
        }
    }
}

/// All that clients and operators come to.
fn sockets(live: &Live) -> io::Result<Vec<(String, OwnedFd)>> {
    let mut sockets = live.listeners.sockets()?;
    let settings = live.topology.borrow().settings.clone();
    if let (Some(socket), Some(address)) = (live.stats.port.duplicate()?, &settings.stats_listen) {
        sockets.push((format!("{STATISTICS}{address}"), socket));
    }
    if let (Some(socket), Some(address)) = (live.admin.port.duplicate()?, &settings.admin.listen) {
        sockets.push((format!("{ADMIN}{address}"), socket));
    }
    Ok(sockets)
}

/// Waits for the word of the process before that clients may be accepted here. Blocks; without the word this process must
/// end, and does so.
pub(super) async fn await_word(mut predecessor: Predecessor) -> Predecessor {
    let waited = tokio::task::spawn_blocking(move || predecessor.ready().map(|()| predecessor)).await;
    match waited.map_err(io::Error::other).and_then(|result| result) {
        Ok(predecessor) => predecessor,
        Err(error) => end(&error),
    }
}

/// Says that clients are accepted here; the sessions of the process before arrive from now on.
pub(super) fn announce(predecessor: Predecessor) -> mpsc::UnboundedReceiver<Arrival> {
    // Each holds a descriptor, of which there are so many.
    let (arrival, arrivals) = mpsc::unbounded_channel();
    let take = move |carried, socket| drop(arrival.send((carried, socket)));
    // The thread ends with the other process's last session, or with that process.
    match predecessor.serving(take) {
        Ok(_) => arrivals,
        Err(error) => end(&error),
    }
}

fn end(error: &io::Error) -> ! {
    tracing::error!(%error, "not taking over: the process before goes on");
    thread::sleep(std::time::Duration::from_millis(10));
    std::process::exit(1);
}

/// A session goes on here.
pub(super) fn welcome(live: &Live, homes: &Homes, (carried, socket): Arrival) {
    let topology = live.topology.borrow().clone();
    let protocol = match carried.dialect {
        Dialect::Redis(_) => Protocol::Redis,
        Dialect::Memcached(_) => Protocol::Memcached,
    };
    let Some(pool) = homes.find(protocol, &carried.pool, &topology) else {
        return tracing::info!(pool = carried.pool, "a session of a pool that is not there any more is closed");
    };
    let socket = match socket2::SockRef::from(&socket).local_addr() {
        Ok(address) if address.is_unix() => Socket::Unix(socket.into()),
        _ => Socket::Tcp(socket.into()),
    };
    live.listeners.welcome(pool.id, socket, carried, &live.hand_over);
}
