//! A worker of the proxy without its clock: runtime, pool, sessions. The only file here that builds parts of the proxy.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use outrigger::backend::Connection;
use outrigger::config::{OnEjected, Protocol, ServerAddress, Settings, default_settings};
use outrigger::discovery::Names;
use outrigger::io::{Pass, Stream};
use outrigger::local::LocalServers;
use outrigger::pool::{Ground, Pool, Tools, Topology};
use outrigger::protocol::Limits;
use outrigger::ring::Distribution;
use outrigger::session::carried::Carried;
use outrigger::session::{Common, Session, Shared};
use outrigger::telemetry::ServerCells;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinHandle, spawn_local};

use super::choices::Choices;

/// Where servers may be when they come and go.
const PLACES: usize = 4;

/// A session's task; that of the session that goes on where it left, once it has departed.
pub type Task = Rc<RefCell<JoinHandle<()>>>;

/// How the pool is made.
pub struct Plan {
    pub protocol: Protocol,
    /// With one pool.
    settings: Settings,
    /// The process may hold so little that requests are refused and clients cut.
    pub pressed: bool,
    /// Failing servers are ejected, so that keys move.
    pub ejects: bool,
    /// Servers come and go, and sessions depart.
    pub changes: bool,
    /// Servers also move.
    pub moves: bool,
    /// Send buffer of the proxy towards clients, in bytes; `None`: as the system has it.
    narrow: Option<usize>,
}

impl Plan {
    pub fn choose(choices: &mut Choices<'_>) -> Self {
        static DEFAULT: OnceLock<Settings> = OnceLock::new();
        let mut settings = DEFAULT.get_or_init(default_settings).clone();
        let protocol = choices.pick(&[Protocol::Redis, Protocol::Memcached]);
        settings.pools.retain(|pool| pool.protocol == protocol);
        let pool = &mut settings.pools[0];
        pool.servers.truncate(1 + choices.below(3));
        pool.distribution = choices.pick(&[Distribution::Modula, Distribution::Ketama]);
        pool.server_connections = choices.pick(&[1, 1, 1, 2]);
        // Nothing here depends on the time that it takes.
        (pool.timeout, pool.slow_timeout, pool.connect_timeout) = (None, None, None);
        (pool.client_write_timeout, pool.client_idle_timeout) = (None, None);
        pool.max_reconnect_delay = Duration::ZERO;
        pool.retry_budget_percent = choices.pick(&[10, 0, 100]);
        let roomy = choices.byte();
        if roomy & 1 != 0 {
            settings.session_limits.max_session_requests = 1 + choices.below(8);
        }
        if roomy & 2 != 0 {
            settings.session_limits.max_connection_requests = 1 + choices.below(8);
        }
        if roomy & 4 != 0 {
            settings.session_limits.max_session_bytes = 1 + 40 * choices.below(256);
        }
        if roomy & 8 != 0 {
            settings.session_limits.max_connection_bytes = 1 + 40 * choices.below(256);
        }
        if roomy & 16 != 0 {
            let (request, line, key, arguments) = (3000, 300, 64, 12);
            settings.limits = Limits {
                max_request_bytes: request,
                max_line_bytes: line,
                max_key_bytes: key,
                max_arguments: arguments,
                ..Limits::default()
            };
        }
        let narrow = (roomy & 32 != 0).then_some(4096);
        let pressed = roomy & 192 == 192;
        if pressed {
            settings.session_limits.max_buffered_bytes = 500 * (1 + choices.below(100));
        }
        let ejects = choices.below(4) == 3;
        if ejects {
            let health = &mut settings.pools[0].health;
            health.eject = true;
            health.failure_limit = 1 + choices.below(2) as u32;
            health.max_ejected_percent = choices.pick(&[50, 100]);
            health.on_ejected = choices.pick(&[OnEjected::Rehash, OnEjected::FailFast]);
        }
        let (changes, moves) = choices.pick(&[(false, false), (true, false), (true, true)]);
        if changes {
            // So many of the places, of which a change takes others; with one server alone there would be other replies.
            let servers = &mut settings.pools[0].servers;
            let first = servers[0].clone();
            servers.resize(2, first);
        }
        Self { protocol, settings, pressed, ejects, changes, moves, narrow }
    }

    /// Where servers are, or may be one day.
    pub fn places(&self) -> usize {
        if self.changes { PLACES } else { self.settings.pools[0].servers.len() }
    }
}

thread_local! {
    /// Whoever waits for the end of the pass.
    static WAITING: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Runs `test` as a worker runs its tasks.
pub fn on_worker<F: Future<Output = ()>>(plan: &Plan, test: impl FnOnce(Rc<Pass>, Arc<Common>) -> F) {
    let common = Common::new(&plan.settings, None);
    // It never pauses: there are too few sessions.
    let pass = Pass::with_budget(common.budget.clone());
    pass.install();
    let mut builder = Builder::new_current_thread();
    let parking = || {
        Pass::before_park();
        WAITING.take().into_iter().for_each(Waker::wake);
    };
    builder.enable_io().on_thread_park(parking).on_thread_unpark(Pass::after_park);
    let runtime = builder.build_local(LocalOptions::default()).expect("a runtime");
    runtime.block_on(test(pass, common));
    drop(runtime);
    Pass::uninstall();
}

/// Lets every task run that can, to the end of the pass, and then looks at the sockets once.
pub async fn one_pass() {
    let mut waiting = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waiting, true) {
            return Poll::Ready(());
        }
        WAITING.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// As many passes as it takes for all that bytes in a socket cause in others: new connections, requests that go out again,
/// sessions that go on; twice as many as were ever seen to be needed.
pub async fn settle() {
    for _ in 0..12 {
        one_pass().await;
    }
}

/// The part of the proxy that is checked.
pub struct Proxy {
    pub pool: Rc<Pool>,
    pass: Rc<Pass>,
    ground: Ground,
    topology: Topology,
    places: Vec<ServerAddress>,
    /// Of the process that accepts clients now.
    shared: Rc<Shared>,
    common: Arc<Common>,
    departing: Vec<Receiver<(Carried, OwnedFd)>>,
    /// Those that leave included.
    connections: Vec<(Rc<Connection>, JoinHandle<()>)>,
    /// Of every server that there has been.
    cells: Vec<Arc<ServerCells>>,
    narrow: Option<usize>,
    /// By number, less one.
    sessions: Vec<(Rc<Session>, Task)>,
}

impl Proxy {
    /// The proxy, and the listeners of its servers.
    pub fn start(plan: &Plan, pass: &Rc<Pass>, common: Arc<Common>) -> (Self, Vec<UnixListener>) {
        let mut settings = plan.settings.clone();
        let (listeners, places): (Vec<_>, Vec<_>) = (0..plan.places()).map(|_| listen()).unzip();
        for (index, (server, place)) in settings.pools[0].servers.iter_mut().zip(&places).enumerate() {
            server.address = place.clone();
            if plan.changes {
                server.name = format!("server{index}");
            }
        }
        let names = Names::new(Arc::new(|_| ()), None);
        let ground = Ground::new(names, LocalServers::new(), Arc::default(), Arc::new(|| ()), 1);
        let topology = Topology::first(Arc::new(settings), &ground).expect("no in-process servers");
        let (pool, moved) = Pool::build(&topology.pools[0], &Tools { worker: 0, pass }, None, None);
        let shared = Shared::new(pass.clone(), common.clone(), 0);
        let (departing, connections, cells, sessions) = Default::default();
        let (pass, narrow) = (pass.clone(), plan.narrow);
        let mut proxy = Self {
            pool,
            pass,
            ground,
            topology,
            places,
            shared,
            common,
            departing,
            connections,
            cells,
            narrow,
            sessions,
        };
        proxy.run(moved.new);
        (proxy, listeners)
    }

    fn run(&mut self, connections: Vec<Rc<Connection>>) {
        let run = |connection: Rc<Connection>| (connection.clone(), spawn_local(connection.run()));
        self.connections.extend(connections.into_iter().map(run));
        self.cells.extend(self.pool.shared().servers.iter().map(|server| server.cells[0].clone()));
    }

    /// A client's end of a new session, and the session's task.
    pub fn connect(&mut self) -> (UnixStream, Task) {
        let (theirs, ours) = UnixStream::pair().expect("a pair of sockets");
        let narrow = |bytes| socket2::SockRef::from(&ours).set_send_buffer_size(bytes).expect("a send buffer");
        self.narrow.into_iter().for_each(narrow);
        for end in [&theirs, &ours] {
            end.set_nonblocking(true).expect("non-blocking");
        }
        let session = self.session(self.sessions.len() as u64 + 1, ours);
        let task = Rc::new(RefCell::new(spawn_local(session.clone().run())));
        self.sessions.push((session, task.clone()));
        (theirs, task)
    }

    fn session(&self, number: u64, socket: UnixStream) -> Rc<Session> {
        let stream = Stream::Unix(tokio::net::UnixStream::from_std(socket).expect("a stream"));
        Session::new(number, stream, self.pool.clone(), self.shared.clone())
    }

    /// Other servers, in other places, or other numbers of connections; then all go by that, as they do in a worker.
    pub fn change(&mut self, plan: &Plan, choices: &mut Choices<'_>) {
        let mut settings = Settings::clone(&self.topology.settings);
        let (pool, count) = (&mut settings.pools[0], 2 + choices.below(PLACES - 1));
        let (first, model) = (choices.below(PLACES), pool.servers[0].clone());
        pool.servers = (0..count).map(|_| model.clone()).collect();
        let moved = if plan.moves { choices.below(4) } else { 0 };
        for (index, server) in pool.servers.iter_mut().enumerate() {
            // Of those that stay, some are somewhere else.
            server.name = format!("server{}", (first + index) % PLACES);
            server.address = self.places[(first + index + moved) % PLACES].clone();
        }
        pool.servers.sort_by(|one, other| one.name.cmp(&other.name));
        pool.server_connections = choices.pick(&[1, 1, 2, 3]);
        let next = self.topology.next(Arc::new(settings), &self.ground).expect("no in-process servers");
        next.take_over(&self.topology);
        let tools = Tools { worker: 0, pass: &self.pass };
        let (pool, moved) = Pool::build(&next.pools[0], &tools, None, Some(&self.pool));
        (self.topology, self.pool) = (next, pool);
        super::trace(|| format!("change: {:?}", self.pool.settings.servers));
        self.run(moved.new);
        let running = self.sessions.iter().filter(|(_, task)| !task.borrow().is_finished());
        running.for_each(|(session, _)| session.adopt(self.pool.clone()));
        moved.leaving.iter().for_each(|connection| connection.leave());
    }

    /// Another process takes this one's place.
    pub fn depart(&mut self) {
        super::trace(|| "depart".into());
        let (departure, departing) = channel();
        self.shared.depart(departure);
        self.departing.push(departing);
        self.shared = Shared::new(self.pass.clone(), self.common.clone(), 0);
        self.sessions.iter().for_each(|(session, _)| session.wake());
    }

    /// Sessions that have departed go on.
    pub fn arrive(&mut self) {
        let departed: Vec<_> = self.departing.iter().flat_map(Receiver::try_iter).collect();
        for (carried, socket) in departed {
            super::trace(|| format!("arrives: {carried:?}"));
            let session = self.session(carried.id, socket.into());
            session.restore(&carried);
            let (known, task) = &mut self.sessions[carried.id as usize - 1];
            *known = session.clone();
            *task.borrow_mut() = spawn_local(session.run());
        }
    }

    /// What a worker does when a server was ejected, and at every tick of its clock: connections that wait go on.
    pub fn tick(&mut self) {
        self.arrive();
        for (connection, _) in &self.connections {
            // Nothing here has a deadline but the waits between attempts to connect, which are over at once.
            let _ = connection.check_deadlines(Instant::now());
        }
    }

    /// Requests that connections to this server have not seen answered; where servers move, that any have not.
    pub fn in_flight(&self, server: usize) -> usize {
        let name = self.pool.settings.servers.get(server).map(|server| &server.name);
        let anywhere = self.places.len() == PLACES;
        let all = self.connections.iter().map(|(connection, _)| connection);
        let theirs = all.filter(|connection| anywhere || Some(&connection.server().name) == name);
        theirs.map(|connection| connection.in_flight()).sum()
    }

    pub fn limits(&self) -> &Limits {
        &self.pool.shared().limits
    }

    /// A connection's task never ends while the connection is wanted, except by a panic.
    pub fn is_alive(&self) -> bool {
        self.connections.iter().all(|(connection, task)| !task.is_finished() || connection.is_over())
    }

    pub fn describe(&self) -> String {
        let cells = self.pool.cells();
        let retries: u64 = self.cells.iter().map(|server| server.server_retries.get()).sum();
        let (errors, refused) = (cells.forward_error.get(), cells.client_refused_overload.get());
        let (ejections, cut) = (self.pool.health().ejections(), cells.client_cut_overload.get());
        format!("{ejections} ejections, {retries} retries, {errors} errors, {refused} refused, {cut} cut")
    }

    fn has_left(&self, connection: &Rc<Connection>) -> bool {
        !self.pool.connections().any(|current| Rc::ptr_eq(current, connection))
    }

    /// When no session is left and nothing is in flight, all counts say so.
    pub fn is_at_rest(&self) -> bool {
        let cells = self.pool.cells();
        let queues = |server: &ServerCells| {
            [&server.in_queue, &server.in_queue_bytes, &server.out_queue, &server.out_queue_bytes]
                .map(|gauge| gauge.get())
        };
        cells.client_connections.get() == 0
            && self.common.budget.total() == 0
            && self.cells.iter().all(|server| queues(server) == [0; 4])
            && self.connections.iter().all(|(connection, task)| !self.has_left(connection) || task.is_finished())
    }
}

/// A listener that no file stands for, and how connections find it.
fn listen() -> (UnixListener, ServerAddress) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("outrigger-fuzz-{}-{number}", std::process::id());
    let bind = || -> io::Result<UnixListener> {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let path = [b"\0", name.as_bytes()].concat();
    (bind().expect("a listener"), ServerAddress::Unix { path: OsStr::from_bytes(&path).into() })
}
