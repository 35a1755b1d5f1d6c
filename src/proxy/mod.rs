//! The composition root: binds what must be bound, then hands the process to pingora's `Server`.
//!
//! ```text
//!   bind listeners ──► daemonise ──► Server::run ─┬─ data plane: workers, listeners, reload
//!                                                 ├─ names: addresses of servers
//!                                                 ├─ monitor: probes
//!                                                 ├─ statistics port
//!                                                 └─ signals
//!   admin port: a thread beside all that, to the end of the process
//! ```
//! At the end pingora drops the services' tasks; with the data plane's its listeners close, and the workers are told to
//! drain. A blocking task joins the workers, and pingora waits for it.

mod data_plane;
mod homes;
mod process;
mod services;
mod signals;
mod succession;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use tokio::sync::{mpsc, watch};

use crate::admin::{self, AdminServer, App, ConfigStatus, PortSocket, ServiceManager, Sources, Stats, StatsServer};
use crate::config::{Loaded, LogSettings, Settings};
use crate::discovery::Names;
use crate::listener::{Inherited, Listeners, Prepared, Wanted, to_the_idlest};
use crate::local::LocalServers;
use crate::monitor::Monitor;
use crate::pool::{Ground, PoolId, Topology};
use crate::reload::{Live, Load, Reloader, log_format};
use crate::session::Common;
use crate::telemetry::{Events, Log};
use crate::upgrade::{Ejected, KnownPool, Predecessor};
use crate::worker::Bell;

use data_plane::{DataPlane, Start};
use homes::Homes;
use process::PidFile;
use services::{NameService, StatsPort, Watching};
use signals::{Changes, EndsBy};
use succession::{Heritage, Succession, condemn, open_door};

/// Orders that may wait: one of each kind is as good as many.
const ORDERS: usize = 4;

/// The workers keep the drain limit, which may change; this is how long the process waits for one that does not, in seconds.
const BACKSTOP: u64 = 25 * 24 * 3600;

/// How this process runs, beyond the settings.
#[derive(Default)]
pub struct Process {
    pub daemonize: bool,
    pub pid_file: Option<PathBuf>,
    /// Printed when everything listens.
    pub banner: Option<String>,
    /// Has the allocator give back what the calling thread has freed.
    pub give_back: Option<fn()>,
    /// Reads the configuration anew, as it was read for this start; `None`: it does not come from a file.
    pub load: Option<Load>,
    /// The process whose place this one takes.
    pub predecessor: Option<Predecessor>,
}

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// When something cannot be bound, opened or started; the text names it.
pub fn run(loaded: Loaded, mut process: Process) -> io::Result<()> {
    let mut predecessor = process.predecessor.take();
    let prepared = Prelude::new(&loaded, &mut process, predecessor.as_mut());
    match prepared {
        Ok(prelude) => serve(loaded, process, prelude, predecessor),
        Err(error) => {
            predecessor.into_iter().for_each(|predecessor| predecessor.failed(&error.to_string()));
            Err(error)
        }
    }
}

/// What is done before there are threads: everything that can fail where someone sees it.
struct Prelude {
    listeners: Listeners,
    bound: Prepared,
    stats_socket: Option<PortSocket>,
    admin_socket: Option<PortSocket>,
    log: Log,
    pid_file: Option<Arc<PidFile>>,
    succession: Succession,
    /// Servers that the process before had ejected.
    ejected: Vec<Ejected>,
    /// And the pools that it had.
    pools: Vec<KnownPool>,
}

impl Prelude {
    fn new(loaded: &Loaded, process: &mut Process, predecessor: Option<&mut Predecessor>) -> io::Result<Self> {
        let settings = &loaded.settings;
        let told = |key, error: io::Error| io::Error::new(error.kind(), loaded.tell(None, key, &error));
        let succession = Succession::new();
        let takes_over = predecessor.is_some();
        signals::ignore();
        process::raise_descriptor_limit();
        let mut heritage = predecessor.map(Heritage::of).transpose()?.unwrap_or_default();
        let listeners = Listeners::new();
        listeners.continue_from(heritage.last_client);
        let bound = bind(&listeners, loaded, &mut heritage.listeners)?;
        let stats = |at: &String| heritage.statistics(at).map_or_else(|| StatsServer::bind(at, None), Ok);
        let stats_socket = settings.stats_listen.as_ref().map(stats).transpose().map_err(|e| told("admin.stats", e))?;
        // Before the fork, so that a log file that cannot be opened is said where someone reads it.
        let LogSettings { file, level, format } = settings.log.clone();
        let log = Log::start(file, level, log_format(format)).map_err(|e| told("log.file", e))?;
        // After the log: it may have something to say.
        let admin_socket = match settings.admin.listen.as_ref().and_then(|at| heritage.admin(at)) {
            Some(socket) => Some(socket),
            None => AdminServer::bind(&settings.admin, None).map_err(|e| told("admin.listen", e))?,
        };
        if process.daemonize {
            process::daemonize()?;
        }
        let pid_file = process.pid_file.take().map(PidFile::new).map(Arc::new);
        if let (Some(file), false) = (&pid_file, takes_over) {
            file.write()?;
        }
        let Heritage { ejected, pools, .. } = heritage;
        Ok(Self { listeners, bound, stats_socket, admin_socket, log, pid_file, succession, ejected, pools })
    }
}

fn serve(loaded: Loaded, process: Process, prelude: Prelude, predecessor: Option<Predecessor>) -> io::Result<()> {
    let settings = Arc::new(loaded.settings.clone());
    let Prelude { listeners, bound, stats_socket, admin_socket, log, pid_file, succession, ejected, pools } = prelude;
    let mut server = Server::new_with_opt_and_conf(None, server_conf());
    server.bootstrap();
    let bells = Arc::new(OnceLock::new());
    let ground = Arc::new(ground(&settings, &bells, process.give_back));
    ground.observer.apply(&settings.observe);
    let topology =
        Topology::first(settings.clone(), &ground).inspect_err(|error| tracing::error!(%error, "cannot start"))?;
    let homes = Homes::new(&pools, &topology);
    condemn(&topology, &homes, &ejected);
    let topology = watch::Sender::new(Arc::new(topology));
    let common = Common::new(&settings, process.give_back);
    let (ready, (succeeded, end)) = (Arc::new(AtomicBool::new(true)), succession.news());
    let (status, manager) =
        (Arc::new(ConfigStatus::new(loaded.hash().to_owned())), Arc::new(ServiceManager::from_environment()));
    let (events, budget) = (ground.events.clone(), common.budget.clone());
    let vitals = Arc::new(OnceLock::new());
    let sources = Arc::new(Sources {
        topology: topology.subscribe(),
        config: status.clone(),
        ready: ready.clone(),
        events: events.clone(),
        observer: ground.observer.clone(),
        budget: budget.clone(),
        entrances: listeners.entrances(),
        workers: vitals.clone(),
        start: admin::Start::now(),
        source: admin::machine(),
    });
    let (reload, reloads) = mpsc::channel(ORDERS);
    let admin = Arc::new(AdminServer::new(App { sources: sources.clone(), log: log.clone(), reload }));
    let admin_thread = admin.start()?;
    let stats = Arc::new(StatsServer::new(Arc::new(Stats::new(sources))));
    stats.port.replace(stats_socket);

    let (orders, ordered) = mpsc::channel(ORDERS);
    let ends = EndsBy {
        topology: topology.subscribe(),
        ready: ready.clone(),
        manager: manager.clone(),
        events,
        succeeded: end,
    };
    let (end, signals) = signals::catch()?.split(ends, Changes { log: log.clone(), orders: orders.clone(), succeeded });
    server.add_service(signals);
    server.add_service(StatsPort(stats.clone()));
    server.add_service(NameService(ground.names.clone()));
    server.add_service(Watching(Some(Monitor::new(topology.subscribe()))));
    let workers = Vec::new();
    let hand_over = to_the_idlest(Vec::new());
    let live = Live {
        ground: ground.clone(),
        topology,
        workers,
        hand_over,
        listeners,
        budget,
        log,
        stats,
        admin: admin.clone(),
        status,
        manager,
    };
    let reloader = process.load.map(|load| Reloader::new(load, &loaded));
    let door = open_door(orders, &succession);
    let banner = process.banner;
    let pid_file_of_service = pid_file.clone();
    let start = Start {
        live,
        listeners: bound,
        common,
        bells,
        vitals,
        reloader,
        orders: ordered,
        reloads,
        admin_socket,
        banner,
        succession,
        predecessor,
        homes,
        pid_file: pid_file_of_service,
        ready,
    };
    server.add_service(DataPlane { start: Some(start) });
    server.run(RunArgs { shutdown_signal: Box::new(end) });
    admin.port.end();
    // A panic there was said.
    let _ = admin_thread.join();
    // In-process servers outlive the last worker.
    drop((door, ground, pid_file));
    Ok(())
}

/// Pools of the first topology are numbered from 0 in the order of the settings.
fn bind(listeners: &Listeners, loaded: &Loaded, inherited: &mut Inherited) -> io::Result<Prepared> {
    let wanted = loaded.settings.pools.iter().zip(0..).map(|(pool, number)| Wanted::of(pool, PoolId(number))).collect();
    listeners.prepare(wanted, inherited).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(|error| loaded.tell(Some(&error.pool), "listen", error)).collect();
        let kind = errors.first().map_or(io::ErrorKind::Other, |unbound| unbound.error.kind());
        io::Error::new(kind, texts.join("\noutrigger: "))
    })
}

fn ground(settings: &Settings, bells: &Arc<OnceLock<Vec<Bell>>>, give_back: Option<fn()>) -> Ground {
    let ring = |what: fn(&Bell)| {
        let bells = bells.clone();
        move || bells.get().into_iter().flatten().for_each(what)
    };
    let moved = ring(Bell::addresses_changed);
    let names = Names::new(Arc::new(move |_| moved()), settings.resolver);
    let (local, events) = (LocalServers::new().with_give_back(give_back), Arc::new(Events::new()));
    Ground::new(names, local, events, Arc::new(ring(Bell::health_changed)), workers(settings))
}

/// Data threads.
fn workers(settings: &Settings) -> usize {
    settings.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get())).max(1)
}

fn server_conf() -> ServerConf {
    ServerConf {
        threads: 1,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(BACKSTOP),
        ..ServerConf::default()
    }
}
