//! A worker: one thread with a runtime of its own, its sessions, and its connections to every server.
//!
//! Workers share nothing on the request path. A session lives and dies on the worker it was handed to.

mod pools;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use crate::config::Settings;
use crate::io::{Pass, Stream, Ticker};
use crate::listener::Permit;
use crate::pool::{Pool, PoolId, Topology};
use crate::session::carried::Carried;
use crate::session::{Common, Departure, Patrol, Session, Shared};

use pools::Pools;

/// Tasks run between two looks at the sockets when the run queue does not empty by itself before. Far above the usual
/// number of ready sockets: a pass should take all of them, since what it leaves is written only at its end.
const TASKS_PER_PASS: u32 = 2048;

/// An accepted client socket on its way to a worker.
pub struct Accepted {
    pub socket: Socket,
    pub pool: PoolId,
    /// Unique in the process.
    pub id: u64,
    /// Given back when the session ends.
    pub permit: Permit,
    /// Of a session that goes on from another process.
    pub carried: Option<Box<Carried>>,
}

/// A connected socket that no runtime knows yet.
pub enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// What a worker starts with.
pub struct Plan {
    pub topology: Arc<Topology>,
    /// Shared with the other workers.
    pub common: Arc<Common>,
}

/// What a worker is told.
enum Mail {
    Client(Accepted),
    /// Other pools, servers or settings.
    Topology(Arc<Topology>),
    /// A server was ejected or came back: what its connections hold may have to go elsewhere.
    HealthChanged,
    /// The name of a server stands for other addresses.
    AddressesChanged,
    /// Another process takes this one's place: sessions go there.
    Depart(Departure),
    /// No client comes any more; to end when those that are here have gone.
    Drain,
}

/// The way to tell a worker about its servers, which does not keep it from ending.
#[derive(Clone)]
pub struct Bell(mpsc::WeakUnboundedSender<Mail>);

impl Bell {
    /// A server was ejected or came back.
    pub fn health_changed(&self) {
        self.ring(Mail::HealthChanged);
    }

    /// The name of a server stands for other addresses.
    pub fn addresses_changed(&self) {
        self.ring(Mail::AddressesChanged);
    }

    fn ring(&self, mail: Mail) {
        if let Some(sender) = self.0.upgrade() {
            // It fails only when the worker has ended.
            let _ = sender.send(mail);
        }
    }
}

/// How a worker does, for those who only look. It does not keep the worker from ending.
#[derive(Clone)]
pub struct Vitals {
    /// The id of its thread, as in `/proc/self/task`.
    pub thread: i32,
    sessions: Arc<AtomicUsize>,
}

impl Vitals {
    /// Sessions that the worker has, those on their way to it included.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }
}

/// The way to a running worker. It drains and ends when told so, or when every clone of this is dropped.
#[derive(Clone)]
pub struct Worker {
    mail: mpsc::UnboundedSender<Mail>,
    sessions: Arc<AtomicUsize>,
    thread: i32,
}

impl Worker {
    /// Starts a worker's thread.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(index: usize, plan: Plan) -> io::Result<(Self, JoinHandle<()>)> {
        // Clients are bounded by the limit of open files, as each holds a socket; changes of servers are few.
        let (mail, queue) = mpsc::unbounded_channel();
        let sessions = Arc::new(AtomicUsize::new(0));
        let runtime = {
            let mut builder = Builder::new_current_thread();
            builder.enable_io().event_interval(TASKS_PER_PASS);
            builder.on_thread_park(Pass::before_park).on_thread_unpark(Pass::after_park);
            builder
        };
        let name = format!("worker-{index}");
        let (report, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || run(runtime, index, plan, queue, &report))?;
        // A worker that did not start has no sessions, so every client would be handed to it.
        let id = started.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended at its start")))?;
        Ok((Self { mail, sessions, thread: id }, thread))
    }

    /// For those who watch how it does.
    pub fn vitals(&self) -> Vitals {
        Vitals { thread: self.thread, sessions: self.sessions.clone() }
    }

    /// Sessions that the worker has, those on their way to it included.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }

    /// Hands over a client.
    pub fn hand(&self, mut accepted: Accepted) {
        accepted.permit.count_in(&self.sessions);
        // It fails only when the worker has ended, at shutdown: then the socket closes.
        let _ = self.mail.send(Mail::Client(accepted));
    }

    /// Has it go by another topology, after all that it was handed before.
    pub fn adopt(&self, topology: Arc<Topology>) {
        let _ = self.mail.send(Mail::Topology(topology));
    }

    /// Has its sessions go on in another process, each as soon as it can.
    pub fn depart(&self, departure: Departure) {
        let _ = self.mail.send(Mail::Depart(departure));
    }

    /// Has it finish what is in flight, close its sessions and end.
    pub fn drain(&self) {
        let _ = self.mail.send(Mail::Drain);
    }

    /// For those who watch servers.
    pub fn bell(&self) -> Bell {
        Bell(self.mail.downgrade())
    }
}

fn run(mut runtime: Builder, index: usize, plan: Plan, queue: mpsc::UnboundedReceiver<Mail>, report: &Report) {
    let pass = Pass::with_budget(plan.common.budget.clone());
    pass.install();
    match runtime.build_local(LocalOptions::default()) {
        Ok(runtime) => runtime.block_on(serve(index, plan, pass, queue, report)),
        Err(error) => drop(report.send(Err(error))),
    }
    Pass::uninstall();
}

/// Tells the starter of a worker whether it has started, and the id of its thread.
type Report = std::sync::mpsc::Sender<io::Result<i32>>;

type Sessions = RefCell<HashMap<u64, Rc<Session>>>;

/// What a running worker has.
#[derive(Clone)]
struct Local {
    pools: Rc<Pools>,
    shared: Rc<Shared>,
    sessions: Rc<Sessions>,
    /// Something ended, or the ticker ticked: time to look whether a drain is over.
    changed: Rc<Notify>,
    ticker: Rc<Ticker>,
    patrol: Rc<RefCell<Patrol>>,
}

async fn serve(index: usize, plan: Plan, pass: Rc<Pass>, mut queue: mpsc::UnboundedReceiver<Mail>, report: &Report) {
    let local = match Local::start(index, &plan, pass) {
        Ok(local) => local,
        Err(error) => return drop(report.send(Err(error))),
    };
    local.adopt(plan.topology).await;
    let _ = report.send(Ok(rustix::thread::gettid().as_raw_nonzero().get()));
    while let Some(mail) = queue.recv().await {
        match mail {
            Mail::Client(accepted) => local.admit(accepted),
            Mail::Topology(topology) => local.adopt(topology).await,
            Mail::HealthChanged => local.health_changed(),
            Mail::AddressesChanged => local.addresses_changed(),
            Mail::Depart(departure) => local.depart(departure),
            Mail::Drain => break,
        }
    }
    local.drain().await;
}

impl Local {
    /// Without pools yet. To be called inside the runtime.
    fn start(index: usize, plan: &Plan, pass: Rc<Pass>) -> io::Result<Self> {
        let settings = &plan.topology.settings;
        let ticker = Rc::new(Ticker::new(Ticker::period(shortest_limit(settings)))?);
        pass.use_ticker(ticker.clone());
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let local = Self {
            pools: Pools::new(index, pass.clone(), settings.clone()),
            shared: Shared::new(pass, plan.common.clone(), started),
            sessions: Rc::default(),
            changed: Rc::default(),
            ticker,
            patrol: Rc::new(RefCell::new(Patrol::new(settings))),
        };
        spawn_local(local.clone().watch_deadlines());
        Ok(local)
    }

    /// Goes by this topology from now on. Sessions and connections run on between one pool and the next, so the longest
    /// pause is that of one pool.
    async fn adopt(&self, topology: Arc<Topology>) {
        let settings = topology.settings.clone();
        self.shared.pass.set_measuring(settings.observe.metrics);
        let sessions = &self.sessions;
        self.pools.adopt(topology, |pool| each_of(sessions, pool.shared().id, |s| s.adopt(pool.clone()))).await;
        for id in self.pools.removed() {
            each_of(sessions, id, |session| session.leave());
        }
        self.finish_changes(Instant::now());
        self.ticker.set_period(Ticker::period(shortest_limit(&settings)));
        *self.patrol.borrow_mut() = Patrol::new(&settings);
        self.ticker.set();
    }

    fn admit(&self, accepted: Accepted) {
        let Some(pool) = self.pools.get(accepted.pool) else {
            return tracing::debug!("a client came for a pool that has just been removed");
        };
        let stream = match open(accepted.socket, &pool) {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "a client was gone before it was served"),
        };
        let session = Session::new(accepted.id, stream, pool, self.shared.clone());
        if let Some(carried) = accepted.carried {
            session.restore(&carried);
        }
        self.sessions.borrow_mut().insert(session.id, session.clone());
        if self.patrol.borrow().wants_tick(&self.shared, 1).is_some() {
            self.ticker.set();
        }
        let (sessions, changed) = (self.sessions.clone(), self.changed.clone());
        spawn_local(async move {
            let id = session.id;
            session.run().await;
            sessions.borrow_mut().remove(&id);
            drop(accepted.permit);
            changed.notify_one();
        });
    }

    /// Checks every connection's deadlines at each tick, and now and then the patience with clients; keeps ticking while
    /// there are any.
    async fn watch_deadlines(self) {
        loop {
            self.ticker.tick().await;
            let now = self.shared.pass.now();
            let mut busy = false;
            // Every connection is to be checked, so no short cut at the first that has a deadline.
            self.pools.each_connection(|connection| busy |= connection.check_deadlines(now));
            busy |= self.check_lots(now);
            let more_to_close = self.pools.all().iter().filter_map(|pool| pool.close_unused(now)).min();
            more_to_close.into_iter().for_each(|delay| self.ticker.set_within(delay));
            busy |= self.finish_changes(now);
            if busy {
                self.ticker.set();
            }
            if self.shared.give_back() {
                self.ticker.set_within(Duration::from_secs(1));
            }
            let sessions = self.sessions.borrow();
            let mut patrol = self.patrol.borrow_mut();
            if let Some(delay) = patrol.wants_tick(&self.shared, sessions.len()) {
                self.ticker.set_within(delay);
                if patrol.is_due(now) {
                    sessions.values().for_each(|session| session.check_patience(now));
                }
            }
            if self.shared.holds()
                && let Some(left) = sessions.values().filter_map(|session| session.check_gate(now)).min()
            {
                self.ticker.set_within(left);
            }
            drop((sessions, patrol));
            self.changed.notify_one();
        }
    }

    /// Checks the deadlines of dedicated connections, and closes those that were not used for long. True while one in use
    /// has a deadline.
    fn check_lots(&self, now: Instant) -> bool {
        let (mut busy, mut soonest) = (false, None);
        for lot in self.pools.lots() {
            busy |= lot.check_deadlines(now);
            soonest = lot.close_unused(now).into_iter().chain(soonest).min();
        }
        if let Some(delay) = soonest {
            self.ticker.set_within(delay);
        }
        busy
    }

    /// Sees what is left of pools and servers that were removed; true while something is.
    fn finish_changes(&self, now: Instant) -> bool {
        let mut sessions: HashMap<PoolId, usize> = HashMap::new();
        if self.pools.has_gone() {
            for session in self.sessions.borrow().values() {
                *sessions.entry(session.pool_id()).or_default() += 1;
            }
        }
        self.pools.finish(now, &sessions, |id| {
            tracing::warn!(sessions = sessions.get(&id), "drain limit reached, closing the sessions of a removed pool");
            each_of(&self.sessions, id, |session| session.end());
        });
        self.pools.has_gone()
    }

    fn health_changed(&self) {
        self.pools.all().iter().for_each(|pool| pool.adopt());
        self.shared.check_subscriptions();
        let now = self.shared.pass.now();
        // The ticker knows already whether it must go on.
        self.pools.each_connection(|connection| {
            connection.check_deadlines(now);
        });
    }

    fn addresses_changed(&self) {
        self.pools.each_connection(|connection| connection.follow());
        self.pools.lots().iter().for_each(|lot| lot.close_stale());
    }

    fn depart(&self, departure: Departure) {
        self.shared.depart(departure);
        self.sessions.borrow().values().for_each(|session| session.wake());
    }

    /// Lets sessions finish what is in flight, within the drain limit.
    async fn drain(&self) {
        let until = Instant::now() + self.pools.settings().drain_timeout;
        self.shared.drain();
        for session in self.sessions.borrow().values() {
            session.wake();
        }
        while self.is_busy() {
            if Instant::now() >= until {
                let sessions = std::mem::take(&mut *self.sessions.borrow_mut());
                tracing::warn!(sessions = sessions.len(), "drain limit reached, closing what is left");
                sessions.values().for_each(|session| session.abandon());
                break;
            }
            self.ticker.set();
            self.changed.notified().await;
        }
        self.shared.stay();
    }

    /// Sessions are open, or requests that nobody waits for (`noreply`) are still to be written and answered.
    fn is_busy(&self) -> bool {
        let mut in_flight = 0;
        self.pools.each_connection(|connection| in_flight += connection.in_flight());
        !self.sessions.borrow().is_empty() || in_flight > 0
    }
}

/// Does something with each session of a pool.
fn each_of(sessions: &Sessions, pool: PoolId, what: impl FnMut(&Rc<Session>)) {
    sessions.borrow().values().filter(|session| session.pool_id() == pool).for_each(what);
}

/// The shortest time limit that this worker keeps.
fn shortest_limit(settings: &Settings) -> Duration {
    let limits = settings.pools.iter().flat_map(|p| [p.timeout, p.connect_timeout]).flatten();
    limits.chain([settings.drain_timeout]).min().unwrap_or_default()
}

fn open(socket: Socket, pool: &Pool) -> io::Result<Stream> {
    match socket {
        Socket::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            if pool.settings.tcpkeepalive {
                socket2::SockRef::from(&socket).set_keepalive(true)?;
            }
            Ok(Stream::Tcp(tokio::net::TcpStream::from_std(socket)?))
        }
        Socket::Unix(socket) => {
            socket.set_nonblocking(true)?;
            Ok(Stream::Unix(tokio::net::UnixStream::from_std(socket)?))
        }
    }
}
