//! The composition root: binds what must be bound, then hands the process to pingora's `Server`.
//!
//! ```text
//!   bind listeners ──► daemonise ──► Server::run ─┬─ data plane: workers, accept loops
//!                                                 ├─ names: addresses of servers
//!                                                 ├─ monitor: probes
//!                                                 ├─ statistics port
//!                                                 └─ signals: HUP, TTIN, TTOU
//! ```
//! Shutdown needs no message: pingora drops the services' tasks, with them the accept loops and the last senders to the
//! workers, and a worker whose queue is closed drains. The service's blocking task joins the workers, and pingora waits
//! for it as long as the drain limit allows.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::{Service, ServiceReadyNotifier, ServiceWithDependents};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::admin::{self, Stats};
use crate::backend::Endpoint;
use crate::config::{LogFormat, ServerAddress, Settings};
use crate::discovery::{Names, Resolver};
use crate::listener::{Door, Listener};
use crate::local::{LocalServer, LocalServers};
use crate::monitor::Monitor;
use crate::pool::PoolHealth;
use crate::session::Common;
use crate::telemetry::{Events, Format, Log, WorkerCells};
use crate::worker::{Bell, Plan, Worker};

/// How this process runs, beyond the settings.
#[derive(Debug, Default)]
pub struct Process {
    pub daemonize: bool,
    pub pid_file: Option<PathBuf>,
    /// Printed when everything listens.
    pub banner: Option<String>,
    /// Has the allocator give back what the calling thread has freed.
    pub give_back: Option<fn()>,
}

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// When something cannot be bound, opened or started; the text names it.
pub fn run(settings: Settings, process: Process) -> io::Result<()> {
    let settings = Arc::new(settings);
    ignore_signals();
    raise_descriptor_limit();
    let mut listeners = Vec::new();
    for (index, pool) in settings.pools.iter().enumerate() {
        listeners.push(Listener::bind(pool, index)?);
    }
    let stats_socket = settings.stats_listen.as_deref().map(bind_stats).transpose()?;
    // Before the fork, so that a log file that cannot be opened is said where someone reads it.
    let format = match settings.log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let log = Log::start(settings.log.file.clone(), settings.log.level, format)?;
    if process.daemonize {
        daemonize()?;
    }
    let pid_file = process.pid_file.map(PidFile::write).transpose()?;

    let cells =
        (0..workers(&settings)).map(|_| Arc::new(WorkerCells::new(settings.pools.iter().map(|p| p.servers.len()))));
    let cells: Vec<_> = cells.collect();
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&settings));
    server.bootstrap();
    let events = Arc::new(Events::new());
    let health = PoolHealth::of_all(&settings, &events);
    let common = Common::new(&settings, process.give_back);
    let budget = common.budget.clone();
    let stats = Arc::new(Stats::new(settings.clone(), cells.clone(), health.clone(), events, budget));
    // They outlive the last worker.
    let local = start_local(&settings).inspect_err(|error| tracing::error!(%error, "cannot start"))?;
    let bells = Arc::new(OnceLock::<Vec<Bell>>::new());
    let ring = bells.clone();
    let mut names = Names::new(Arc::new(move |_| ring.get().into_iter().flatten().for_each(Bell::addresses_changed)));
    let endpoints = endpoints(&settings, &local, &mut names);
    let monitor = Monitor::new(&settings, &endpoints, &health);
    let (end, change) = install_signals()?;
    server.add_service(Signals { log, change });
    if let Some(socket) = stats_socket {
        server.add_service(StatsPort { socket: Some(socket), stats });
    }
    if let Some(resolver) = names.resolver(settings.resolver) {
        server.add_service(NameService(resolver));
    }
    if monitor.has_work() {
        server.add_service(Watching(Some(monitor)));
    }
    let banner = process.banner;
    server.add_service(DataPlane { settings, listeners, endpoints, bells, health, cells, common, banner });
    server.run(RunArgs { shutdown_signal: Box::new(EndSignals(end.into())) });
    drop((local, pid_file));
    Ok(())
}

/// Data threads.
fn workers(settings: &Settings) -> usize {
    settings.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get())).max(1)
}

fn server_conf(settings: &Settings) -> ServerConf {
    ServerConf {
        threads: 1,
        grace_period_seconds: Some(0),
        // The workers keep the drain limit themselves; this is the backstop.
        graceful_shutdown_timeout_seconds: Some(settings.drain_timeout.as_secs() + 2),
        ..ServerConf::default()
    }
}

/// Ignores SIGUSR1 and SIGUSR2, as twemproxy does, and SIGHUP until its handler comes with the runtime; each of them
/// would end the process.
fn ignore_signals() {
    for number in [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: setting a signal to be ignored installs no code that could run in a signal's context.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// Raises the soft limit of open files to the hard one: a proxy has two sockets where others have one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn bind_stats(address: &str) -> io::Result<std::net::TcpListener> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("statistics: cannot listen on {address}: {e}"));
    let socket = std::net::TcpListener::bind(address).map_err(named)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Into the background, as twemproxy does it: the working directory stays, the standard streams go.
fn daemonize() -> io::Result<()> {
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let folder = std::env::current_dir()?;
    daemonix::Daemonize::new().working_directory(folder).umask(umask.as_raw_mode()).start().map_err(io::Error::other)
}

/// The file with the process id; removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("pid file {}: {e}", path.display()));
        std::fs::write(&path, std::process::id().to_string()).map_err(named)?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Three kinds of signals, caught from now on.
type Caught = [SignalStream; 3];

/// Catches the signals that end the process and those that change something in it, before anyone can see that it
/// serves: a signal that came earlier than its handler would end the process, or be lost. After the fork, as the pipe
/// of signals must be the child's own.
fn install_signals() -> io::Result<(Caught, Caught)> {
    // The streams outlive this runtime; whichever runs next reads the pipe for all.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let end = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::quit())?];
    let kind = SignalKind::from_raw;
    let change = [signal(SignalKind::hangup())?, signal(kind(libc::SIGTTIN))?, signal(kind(libc::SIGTTOU))?];
    Ok((end, change))
}

/// The signals that end the process; all of them let it finish what is in flight.
struct EndSignals(tokio::sync::Mutex<Caught>);

#[async_trait]
impl ShutdownSignalWatch for EndSignals {
    async fn recv(&self) -> ShutdownSignal {
        let mut caught = self.0.lock().await;
        let [term, int, quit] = &mut *caught;
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
            _ = quit.recv() => "SIGQUIT",
        };
        tracing::info!(signal = name, "draining: no new clients, finishing what is in flight");
        ShutdownSignal::GracefulTerminate
    }
}

/// The signals that change something in a running process.
struct Signals {
    log: Log,
    change: Caught,
}

#[async_trait]
impl Service for Signals {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let [hup, up, down] = &mut self.change;
        loop {
            tokio::select! {
                _ = hup.recv() => {
                    tracing::info!("signal 1 (SIGHUP) received, reopening log file");
                    if let Err(error) = self.log.reopen() {
                        tracing::error!(%error, "cannot reopen the log, staying with the old one");
                    }
                }
                _ = up.recv() => tracing::info!(level = self.log.turn(true), "signal 21 (SIGTTIN) received, up logging level"),
                _ = down.recv() => tracing::info!(level = self.log.turn(false), "signal 22 (SIGTTOU) received, down logging level"),
            }
        }
    }

    fn name(&self) -> &str {
        "signals"
    }
}

/// twemproxy's statistics port.
struct StatsPort {
    socket: Option<std::net::TcpListener>,
    stats: Arc<Stats>,
}

#[async_trait]
impl Service for StatsPort {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        match self.socket.take().map(tokio::net::TcpListener::from_std) {
            Some(Ok(listener)) => admin::serve(listener, self.stats.clone()).await,
            Some(Err(error)) => tracing::error!(%error, "the statistics port does not work"),
            None => {}
        }
    }

    fn name(&self) -> &str {
        "statistics"
    }
}

/// Keeps the addresses of servers up to date.
struct NameService(Resolver);

#[async_trait]
impl Service for NameService {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        self.0.run().await;
    }

    fn name(&self) -> &str {
        "names"
    }
}

/// The monitor, on a thread of its own: nothing that clients do keeps it from probing.
struct Watching(Option<Monitor>);

#[async_trait]
impl Service for Watching {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        if let Some(monitor) = self.0.take() {
            monitor.run().await;
        }
    }

    fn name(&self) -> &str {
        "monitor"
    }
}

/// Workers and accept loops.
struct DataPlane {
    settings: Arc<Settings>,
    /// Rung when addresses change; filled in when the workers have started.
    bells: Arc<OnceLock<Vec<Bell>>>,
    listeners: Vec<Listener>,
    /// By pool, then by server in ring order.
    endpoints: Vec<Vec<Endpoint>>,
    /// By pool.
    health: Vec<Arc<PoolHealth>>,
    /// By worker.
    cells: Vec<Arc<WorkerCells>>,
    common: Arc<Common>,
    banner: Option<String>,
}

impl DataPlane {
    fn start(&self) -> io::Result<(Vec<Worker>, Running)> {
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for (index, cells) in self.cells.iter().enumerate() {
            let (settings, health, cells) = (self.settings.clone(), self.health.clone(), cells.clone());
            let (endpoints, common) = (self.endpoints.clone(), self.common.clone());
            let plan = Plan { settings, endpoints, health, cells, common };
            let (worker, thread) = Worker::start(index, plan)?;
            workers.push(worker);
            threads.push(thread);
        }
        let bells: Vec<Bell> = workers.iter().map(Worker::bell).collect();
        let _ = self.bells.set(bells.clone());
        for pool in &self.health {
            let bells = bells.clone();
            pool.on_change(move || bells.iter().for_each(Bell::health_changed));
        }
        Ok((workers, Running(threads)))
    }
}

/// The threads of the workers, which outlive the accept loops until the last has drained.
struct Running(Vec<JoinHandle<()>>);

impl Running {
    fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

#[async_trait]
impl ServiceWithDependents for DataPlane {
    async fn start_service(
        &mut self,
        _: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _: usize,
        ready: ServiceReadyNotifier,
    ) {
        let (workers, running) = match self.start() {
            Ok(started) => started,
            Err(error) => {
                // Nothing can be served; the process must not look alive.
                tracing::error!(%error, "cannot start");
                eprintln!("outrigger: cannot start: {error}");
                std::process::exit(1);
            }
        };
        tokio::task::spawn_blocking(move || running.join());
        let door = Arc::new(Door::default());
        for listener in self.listeners.drain(..) {
            tokio::spawn(listener.run(workers.clone(), door.clone()));
        }
        drop(workers);
        ready.notify_ready();
        tracing::info!(workers = self.cells.len(), pools = self.settings.pools.len(), "serving");
        if let Some(banner) = self.banner.take() {
            // A closed standard output is no reason to stop.
            let _ = io::Write::write_all(&mut io::stdout(), banner.as_bytes());
        }
        // The accept loops end with this runtime, not with this task.
        let _ = shutdown.changed().await;
    }

    fn name(&self) -> &str {
        "data plane"
    }
}

fn start_local(settings: &Settings) -> io::Result<LocalServers> {
    let mut local = Vec::new();
    for pool in &settings.pools {
        for server in pool.servers.iter().filter(|s| s.address == ServerAddress::Local) {
            local.push(LocalServer {
                protocol: pool.protocol,
                memory: pool.local_memory,
                pool: pool.name.clone(),
                server: server.name.clone(),
            });
        }
    }
    LocalServers::start(local)
}

/// Where each server listens, by pool and in ring order; the local ones in the order in which they were started.
fn endpoints(settings: &Settings, local: &LocalServers, names: &mut Names) -> Vec<Vec<Endpoint>> {
    let mut next_local = 0..;
    let mut endpoint = |address: &ServerAddress| match address {
        ServerAddress::Tcp { host, port } => Endpoint::Tcp(names.host(host, *port)),
        ServerAddress::Unix { path } => Endpoint::Unix(path.clone()),
        ServerAddress::Local => Endpoint::Unix(local.address(next_local.next().unwrap_or_default())),
    };
    settings.pools.iter().map(|p| p.servers.iter().map(|s| endpoint(&s.address)).collect()).collect()
}
