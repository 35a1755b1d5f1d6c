//! A worker of the proxy without its clock: runtime, pool, sessions. The only file here that builds parts of the proxy.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use outrigger::backend::Endpoint;
use outrigger::config::{OnEjected, Protocol, Settings, default_settings};
use outrigger::io::{Budget, Pass, Stream};
use outrigger::pool::{Parts, Pool, PoolHealth};
use outrigger::protocol::Limits;
use outrigger::ring::Distribution;
use outrigger::session::{Common, Session, Shared};
use outrigger::telemetry::WorkerCells;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinHandle, spawn_local};

use super::choices::Choices;

/// How the pool is made.
pub struct Plan {
    pub protocol: Protocol,
    /// With one pool.
    settings: Settings,
    /// The process may hold so little that requests are refused and clients cut.
    pub pressed: bool,
    /// Failing servers are ejected, so that keys move.
    pub ejects: bool,
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
        Self { protocol, settings, pressed, ejects, narrow }
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
    shared: Rc<Shared>,
    budget: Arc<Budget>,
    connections: Vec<JoinHandle<()>>,
    narrow: Option<usize>,
    sessions: u64,
}

impl Proxy {
    /// The proxy, and the listeners of its servers.
    pub fn start(plan: &Plan, pass: &Rc<Pass>, common: Arc<Common>) -> (Self, Vec<UnixListener>) {
        let settings = &plan.settings;
        let servers = &settings.pools[0].servers;
        let (listeners, endpoints): (Vec<_>, Vec<_>) = servers.iter().map(|_| listen()).unzip();
        let cells = Arc::new(WorkerCells::new([servers.len()]));
        let health = PoolHealth::of_all(settings, &Arc::default());
        let parts = Parts { settings, endpoints: &[endpoints], health: &health, pass, cells: &cells };
        let pool = Pool::build_all(&parts).remove(0);
        let connections = pool.connections().map(|connection| spawn_local(connection.clone().run())).collect();
        let budget = common.budget.clone();
        let shared = Shared::new(pass.clone(), settings, common, 0);
        (Self { pool, shared, budget, connections, narrow: plan.narrow, sessions: 0 }, listeners)
    }

    /// A client's end of a new session, and the session's task.
    pub fn connect(&mut self) -> (UnixStream, JoinHandle<()>) {
        let (theirs, ours) = UnixStream::pair().expect("a pair of sockets");
        let narrow = |bytes| socket2::SockRef::from(&ours).set_send_buffer_size(bytes).expect("a send buffer");
        self.narrow.into_iter().for_each(narrow);
        for end in [&theirs, &ours] {
            end.set_nonblocking(true).expect("non-blocking");
        }
        self.sessions += 1;
        let stream = Stream::Unix(tokio::net::UnixStream::from_std(ours).expect("a stream"));
        let session = Session::new(self.sessions, stream, self.pool.clone(), self.shared.clone());
        (theirs, spawn_local(session.run()))
    }

    /// What a worker does when a server was ejected, and at every tick of its clock: connections that wait go on.
    pub fn tick(&self) {
        for connection in self.pool.connections() {
            // Nothing here has a deadline but the waits between attempts to connect, which are over at once.
            let _ = connection.check_deadlines(Instant::now());
        }
    }

    /// Requests that connections to this server have not seen answered.
    pub fn in_flight(&self, server: usize) -> usize {
        let name = &self.pool.settings.servers[server].name;
        let theirs = self.pool.connections().filter(|connection| connection.server().name == *name);
        theirs.map(|connection| connection.in_flight()).sum()
    }

    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// A connection's task never ends, except by a panic.
    pub fn is_alive(&self) -> bool {
        self.connections.iter().all(|task| !task.is_finished())
    }

    pub fn describe(&self) -> String {
        let cells = self.pool.cells();
        let retries: u64 = cells.servers.iter().map(|server| server.server_retries.get()).sum();
        let (errors, refused) = (cells.forward_error.get(), cells.client_refused_overload.get());
        let (ejections, cut) = (self.pool.health().ejections(), cells.client_cut_overload.get());
        format!("{ejections} ejections, {retries} retries, {errors} errors, {refused} refused, {cut} cut")
    }

    /// When no session is left and nothing is in flight, all counts say so.
    pub fn is_at_rest(&self) -> bool {
        let cells = self.pool.cells();
        let queues = |server: &outrigger::telemetry::ServerCells| {
            [&server.in_queue, &server.in_queue_bytes, &server.out_queue, &server.out_queue_bytes]
                .map(|gauge| gauge.get())
        };
        cells.client_connections.get() == 0
            && self.budget.total() == 0
            && cells.servers.iter().all(|server| queues(server) == [0; 4])
    }
}

/// A listener that no file stands for, and how connections find it.
fn listen() -> (UnixListener, Endpoint) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("outrigger-fuzz-{}-{number}", std::process::id());
    let bind = || -> io::Result<UnixListener> {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let path = [b"\0", name.as_bytes()].concat();
    (bind().expect("a listener"), Endpoint::Unix(OsStr::from_bytes(&path).into()))
}
