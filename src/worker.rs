//! A worker: one thread with a runtime of its own, its sessions, and its connections to every server.
//!
//! Workers share nothing on the request path. A session lives and dies on the worker it was handed to.

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

use crate::backend::Endpoint;
use crate::config::Settings;
use crate::io::{Pass, Stream, Ticker};
use crate::listener::Permit;
use crate::pool::{Parts, Pool, PoolHealth};
use crate::session::{Common, Patrol, Session, Shared};
use crate::telemetry::WorkerCells;

/// Tasks run between two looks at the sockets when the run queue does not empty by itself before. Far above the usual
/// number of ready sockets: a pass should take all of them, since what it leaves is written only at its end.
const TASKS_PER_PASS: u32 = 2048;

/// An accepted client socket on its way to a worker.
pub struct Accepted {
    pub socket: Socket,
    /// Index of the pool in the settings.
    pub pool: usize,
    /// Unique in the process.
    pub id: u64,
    /// Given back when the session ends.
    pub permit: Permit,
}

/// A connected socket that no runtime knows yet.
pub enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// What a worker needs to know.
pub struct Plan {
    pub settings: Arc<Settings>,
    /// By pool, then by server in ring order.
    pub endpoints: Vec<Vec<Endpoint>>,
    /// By pool.
    pub health: Vec<Arc<PoolHealth>>,
    pub cells: Arc<WorkerCells>,
    /// Shared with the other workers.
    pub common: Arc<Common>,
}

/// What a worker is told.
enum Mail {
    Client(Accepted),
    /// A server was ejected or came back: what its connections hold may have to go elsewhere.
    HealthChanged,
    /// The name of a server stands for other addresses.
    AddressesChanged,
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

/// The way to a running worker. Dropping every clone of it makes the worker drain and end.
#[derive(Clone)]
pub struct Worker {
    mail: mpsc::UnboundedSender<Mail>,
    sessions: Arc<AtomicUsize>,
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
        let thread = std::thread::Builder::new().name(name).spawn(move || run(runtime, plan, queue, &report))?;
        // A worker that did not start has no sessions, so every client would be handed to it.
        started.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended at its start")))?;
        Ok((Self { mail, sessions }, thread))
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

    /// For those who watch servers.
    pub fn bell(&self) -> Bell {
        Bell(self.mail.downgrade())
    }
}

fn run(mut runtime: Builder, plan: Plan, queue: mpsc::UnboundedReceiver<Mail>, report: &Report) {
    let pass = Pass::with_budget(plan.common.budget.clone());
    pass.install();
    match runtime.build_local(LocalOptions::default()) {
        Ok(runtime) => {
            runtime.block_on(serve(plan, pass, queue, report));
        }
        Err(error) => drop(report.send(Err(error))),
    }
    Pass::uninstall();
}

/// Tells the starter of a worker whether it has started.
type Report = std::sync::mpsc::Sender<io::Result<()>>;

type Sessions = RefCell<HashMap<u64, Rc<Session>>>;

/// What a running worker has.
#[derive(Clone)]
struct Local {
    settings: Arc<Settings>,
    pools: Vec<Rc<Pool>>,
    shared: Rc<Shared>,
    sessions: Rc<Sessions>,
    /// Something ended, or the ticker ticked: time to look whether a drain is over.
    changed: Rc<Notify>,
    ticker: Rc<Ticker>,
}

async fn serve(plan: Plan, pass: Rc<Pass>, mut queue: mpsc::UnboundedReceiver<Mail>, report: &Report) {
    let local = match Local::start(plan, pass) {
        Ok(local) => local,
        Err(error) => return drop(report.send(Err(error))),
    };
    let _ = report.send(Ok(()));
    while let Some(mail) = queue.recv().await {
        match mail {
            Mail::Client(accepted) => local.admit(accepted),
            Mail::HealthChanged => local.health_changed(),
            Mail::AddressesChanged => local.pools.iter().flat_map(|p| p.connections()).for_each(|c| c.follow()),
        }
    }
    local.drain().await;
}

impl Local {
    /// Builds the pools and starts their connections. To be called inside the runtime.
    fn start(plan: Plan, pass: Rc<Pass>) -> io::Result<Self> {
        let settings = plan.settings;
        let (endpoints, health, cells) = (&plan.endpoints[..], &plan.health[..], &plan.cells);
        let pools = Pool::build_all(&Parts { settings: &settings, endpoints, health, pass: &pass, cells });
        let ticker = Rc::new(Ticker::new(Ticker::period(shortest_limit(&settings)))?);
        pass.use_ticker(ticker.clone());
        for pool in &pools {
            for connection in pool.connections() {
                spawn_local(connection.clone().run());
                if pool.settings.preconnect {
                    connection.preconnect();
                }
            }
        }
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let shared = Shared::new(pass, &settings, plan.common, started);
        let local = Self { settings, pools, shared, sessions: Rc::default(), changed: Rc::default(), ticker };
        spawn_local(local.clone().watch_deadlines());
        Ok(local)
    }

    fn admit(&self, accepted: Accepted) {
        let pool = &self.pools[accepted.pool];
        let stream = match open(accepted.socket, pool) {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "a client was gone before it was served"),
        };
        let session = Session::new(accepted.id, stream, pool.clone(), self.shared.clone());
        self.sessions.borrow_mut().insert(session.id, session.clone());
        if self.pools.iter().any(|pool| pool.settings.client_idle_timeout.is_some()) {
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
        let mut patrol = Patrol::new(&self.settings);
        loop {
            self.ticker.tick().await;
            let now = self.shared.pass.now();
            // Every connection is to be checked, so no short cut at the first that has a deadline.
            let some = self.pools.iter().flat_map(|p| p.connections()).filter(|c| c.check_deadlines(now)).count();
            if some > 0 {
                self.ticker.set();
            }
            if self.shared.give_back() {
                self.ticker.set_within(Duration::from_secs(1));
            }
            let sessions = self.sessions.borrow();
            if let Some(delay) = patrol.wants_tick(&self.shared, sessions.len()) {
                self.ticker.set_within(delay);
                if patrol.is_due(now) {
                    sessions.values().for_each(|session| session.check_patience(now));
                }
            }
            drop(sessions);
            self.changed.notify_one();
        }
    }

    fn health_changed(&self) {
        self.pools.iter().for_each(|pool| pool.adopt());
        let now = self.shared.pass.now();
        for connection in self.pools.iter().flat_map(|p| p.connections()) {
            // The ticker knows already whether it must go on.
            let _ = connection.check_deadlines(now);
        }
    }

    /// Lets sessions finish what is in flight, within the drain limit.
    async fn drain(&self) {
        let until = Instant::now() + self.settings.drain_timeout;
        self.shared.drain();
        for session in self.sessions.borrow().values() {
            session.wake();
        }
        while self.is_busy() {
            if Instant::now() >= until {
                let sessions = self.sessions.borrow().len();
                return tracing::warn!(sessions, "drain limit reached, closing what is left");
            }
            self.ticker.set();
            self.changed.notified().await;
        }
    }

    /// Sessions are open, or requests that nobody waits for (`noreply`) are still to be written and answered.
    fn is_busy(&self) -> bool {
        let mut connections = self.pools.iter().flat_map(|p| p.connections());
        !self.sessions.borrow().is_empty() || connections.any(|c| c.in_flight() > 0)
    }
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
