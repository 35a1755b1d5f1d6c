//! Changes of the topology while clients are served: when to look ([`Watch`]), what has changed ([`Plan`]), and how
//! it takes effect, all of it or nothing.
//!
//! ```text
//!   file, SIGHUP ─► read, validate ─► build what is shared ─► bind ─► publish ─► workers, listeners, probes ─► log: the plan
//!                         └──────── anything wrong ────────┘  └─ cannot fail
//!                                     said; what is running stays
//! ```

mod plan;
mod watch;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch as published};

use crate::admin::{AdminServer, ConfigStatus, PortSocket, ServiceManager, StatsServer};
use crate::config::{ConfigErrors, Loaded, LogFormat, LogSettings, Settings};
use crate::io::Budget;
use crate::listener::{HandOver, Inherited, Listeners, Prepared, Unbound, Wanted};
use crate::pool::{Ground, Topology};
use crate::telemetry::{Event, Format, Log, PreparedLog, What};
use crate::worker::Worker;

pub use plan::{
    Change, ChangedPool, ListenerChange, MovedKeys, Plan, PoolChange, Precision, ServerChange, ServerPlan, WholePool,
};
pub use watch::{Trigger, Watch};

/// New names of servers are waited for so long, so that the first requests need not wait for them.
const RESOLVING: Duration = Duration::from_secs(1);

/// Reads the configuration, as it was read at the start.
pub type Load = Arc<dyn Fn() -> Result<Loaded, ConfigErrors> + Send + Sync>;

/// What a change acts upon: the running proxy, as its control side sees it.
pub struct Live {
    pub ground: Arc<Ground>,
    pub topology: published::Sender<Arc<Topology>>,
    pub workers: Vec<Worker>,
    pub hand_over: HandOver,
    pub listeners: Listeners,
    pub budget: Arc<Budget>,
    pub log: Log,
    pub stats: Arc<StatsServer>,
    pub admin: Arc<AdminServer>,
    pub status: Arc<ConfigStatus>,
    pub manager: Arc<ServiceManager>,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A new configuration is in force: what has changed, in one line.
    Changed(String),
    /// There is nothing to change.
    Same,
    /// What was running goes on: all that was wrong.
    Failed(String),
}

/// Changes the running proxy, one change at a time.
pub struct Reloader {
    load: Load,
    /// The content that was dealt with last, well or not.
    seen: Option<u64>,
    /// What was wrong with it, so that it is said once.
    complaint: String,
    sources: Vec<std::path::PathBuf>,
}

/// Everything that a new configuration needs, made and bound. What runs does not know of it yet.
struct Ready {
    topology: Arc<Topology>,
    listeners: Prepared,
    log: PreparedLog,
    /// `None`: stays as it is, here and below.
    stats: Option<Option<PortSocket>>,
    admin: Option<Option<PortSocket>>,
}

impl Reloader {
    /// `loaded`: what the process was started with.
    pub fn new(load: Load, loaded: &Loaded) -> Self {
        let sources = loaded.sources.clone();
        Self { load, seen: Some(loaded.fingerprint), complaint: String::new(), sources }
    }

    /// The files that were read last.
    pub fn sources(&self) -> &[std::path::PathBuf] {
        &self.sources
    }

    /// Reads the configuration anew and goes by it if it is valid and another one. `asked`: somebody wants to know, so
    /// that what was said before is said again.
    pub async fn reload(&mut self, live: &mut Live, asked: bool) -> Outcome {
        let begun = Instant::now();
        let load = self.load.clone();
        let loaded = match aside(move || load()).await {
            Ok(loaded) => loaded,
            Err(error) => return self.failed(live, error.to_string(), asked),
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(errors) => {
                self.sources.clone_from(&errors.sources);
                let known = self.seen.replace(errors.fingerprint) == Some(errors.fingerprint);
                return if known && !asked { Outcome::Same } else { self.failed(live, errors.to_string(), true) };
            }
        };
        self.sources.clone_from(&loaded.sources);
        if self.seen == Some(loaded.fingerprint) && !asked {
            return Outcome::Same;
        }
        live.manager.reloading();
        let outcome = match self.apply(live, &loaded, begun).await {
            Ok(outcome) => {
                self.seen = Some(loaded.fingerprint);
                self.complaint.clear();
                outcome
            }
            Err(problems) => {
                // It may go well at the next look: a port may be free by then.
                self.seen = None;
                self.failed(live, problems, asked)
            }
        };
        live.manager.ready(&serving(&live.topology.borrow()));
        outcome
    }

    fn failed(&mut self, live: &Live, problems: String, asked: bool) -> Outcome {
        live.status.failed(problems.clone());
        if asked || self.complaint != problems {
            live.ground.events.record(Event::of_process(What::ReloadFailed, problems.clone()));
        }
        self.complaint.clone_from(&problems);
        Outcome::Failed(problems)
    }

    async fn apply(&self, live: &mut Live, loaded: &Loaded, begun: Instant) -> Result<Outcome, String> {
        let before = live.topology.borrow().clone();
        let mut settings = loaded.settings.clone();
        // Workers are threads with sessions on them: see the plan's `needs_restart`.
        settings.workers = before.settings.workers;
        if settings == *before.settings {
            let needs_restart = needs_restart(&plan(&before.settings, &loaded.settings).await);
            tracing::info!("the configuration was read again: nothing changes");
            say_restart(&needs_restart);
            live.status.unchanged(loaded.hash().to_owned(), needs_restart);
            return Ok(Outcome::Same);
        }
        let ready = prepare(live, &before, Arc::new(settings), loaded).await;
        // What was new has been asked for where it would have been; from now on all is asked for as before.
        let ready = ready.inspect_err(|_| live.ground.names.ask(before.settings.resolver))?;
        // Not before: an attempt that fails is made again every 30 s.
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        publish(live, &before, ready);
        let took = begun.elapsed().as_millis();
        // For people: nothing waits for it. Comparing rings takes longer than building them.
        let plan = plan(&before.settings, &loaded.settings).await;
        let (summary, needs_restart) = (plan.summary(), needs_restart(&plan));
        let generation = live.topology.borrow().generation;
        live.status.changed(generation, loaded.hash().to_owned(), needs_restart.clone());
        live.ground.events.record(Event::of_process(What::Reloaded, summary.clone()));
        plan.lines().iter().for_each(|line| tracing::info!(generation, "{line}"));
        say_restart(&needs_restart);
        tracing::info!(generation, took_ms = took, hash = loaded.hash(), "reloaded");
        Ok(Outcome::Changed(summary))
    }
}

/// What differs; nothing, if the system is out of threads.
async fn plan(before: &Arc<Settings>, after: &Settings) -> Plan {
    let (before, after) = (before.clone(), after.clone());
    let plan = aside(move || Plan::between(&before, &after)).await;
    plan.inspect_err(|error| tracing::warn!(%error, "what changes cannot be told")).unwrap_or_default()
}

/// What the process goes by only when it is started anew.
fn needs_restart(plan: &Plan) -> Vec<String> {
    plan.needs_restart().iter().map(|change| format!("{}: {} -> {}", change.key, change.before, change.after)).collect()
}

/// Does it on a thread of its own, as clients are accepted on this one. The end of the process does not wait for it: it may
/// hang with a file system or a name server.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("reload".to_owned());
    // It cannot be told when the process ends.
    thread.spawn(move || drop(done.send(work())))?;
    result.await.map_err(|_| io::Error::other("a thread of the reload panicked"))
}

fn say_restart(needed: &[String]) {
    needed.iter().for_each(|what| tracing::warn!("not changed before the process is started anew: {what}"));
}

/// Makes and binds everything; nothing has changed when it fails. All that is wrong goes into one text, with the places in the
/// file.
async fn prepare(
    live: &Live,
    before: &Arc<Topology>,
    settings: Arc<Settings>,
    loaded: &Loaded,
) -> Result<Ready, String> {
    let (ground, old, new) = (live.ground.clone(), before.clone(), settings.clone());
    // Rings take their time.
    let built = tokio::task::spawn_blocking(move || old.next(new, &ground)).await;
    let topology = match built {
        Ok(Ok(topology)) => Arc::new(topology),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(error) => return Err(error.to_string()),
    };
    // New names are asked for where they will be.
    live.ground.names.ask(settings.resolver);
    live.ground.names.settled(RESOLVING).await;
    let (log, ports) = (live.log.clone(), (live.stats.clone(), live.admin.clone()));
    let (old, new) = (before.settings.clone(), settings);
    let (mut listens, bound) =
        (wanted(&topology), live.listeners.addresses().map(str::to_owned).collect::<HashSet<_>>());
    let opened = aside(move || {
        listens.iter_mut().filter(|wanted| !bound.contains(&wanted.listen.to_string())).for_each(Wanted::resolve);
        let LogSettings { file, level, format } = new.log.clone();
        let (stats, admin) = (bind_stats(&ports.0, &old, &new), bind_admin(&ports.1, &old, &new));
        (listens, log.prepare(file, level, log_format(format)), stats, admin)
    });
    let (listens, log, stats, admin) = opened.await.map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    let listeners = live.listeners.prepare(listens, &mut Inherited::default());
    let of_pool = |error: &Unbound| loaded.tell(Some(&error.pool), "listen", error);
    let listeners = listeners.map_err(|errors| problems.extend(errors.iter().map(of_pool))).ok();
    let log = log.map_err(|error| problems.push(loaded.tell(None, "log.file", &error))).ok();
    let stats = stats.map_err(|error| problems.push(loaded.tell(None, "admin.stats", &error))).ok();
    let admin = admin.map_err(|error| problems.push(loaded.tell(None, "admin.listen", &error))).ok();
    match (listeners, log, stats, admin) {
        (Some(listeners), Some(log), Some(stats), Some(admin)) => Ok(Ready { topology, listeners, log, stats, admin }),
        _ => Err(problems.join("\n")),
    }
}

fn bind_stats(stats: &StatsServer, before: &Settings, settings: &Settings) -> io::Result<Option<Option<PortSocket>>> {
    if before.stats_listen == settings.stats_listen {
        return Ok(None);
    }
    let held = stats.port.socket();
    let bind = |address: &String| StatsServer::bind(address, held.as_deref());
    settings.stats_listen.as_ref().map(bind).transpose().map(Some)
}

/// A port that could not be had at the start is tried again at each change.
fn bind_admin(admin: &AdminServer, before: &Settings, settings: &Settings) -> io::Result<Option<Option<PortSocket>>> {
    let held = admin.port.socket();
    let missing = settings.admin.listen.is_some() && held.is_none();
    if before.admin.listen == settings.admin.listen && !missing {
        return Ok(None);
    }
    AdminServer::bind(&settings.admin, held.as_deref()).map(Some)
}

/// Puts all of it in force. It cannot fail.
fn publish(live: &mut Live, before: &Topology, ready: Ready) {
    let Ready { topology, listeners, log, stats, admin } = ready;
    let settings = &topology.settings;
    live.log.apply(log);
    live.ground.observer.apply(&settings.observe);
    if !settings.observe.hot_keys {
        topology.pools.iter().flat_map(|pool| &pool.hot_keys).for_each(|keys| keys.clear());
    }
    live.budget.set_limit(settings.session_limits.max_buffered_bytes);
    topology.take_over(before);
    for worker in &live.workers {
        worker.adopt(topology.clone());
    }
    live.topology.send_replace(topology);
    // After the workers were told: the first client of a new pool finds it there.
    live.listeners.apply(listeners, &live.hand_over);
    if let Some(stats) = stats {
        live.stats.port.replace(stats);
    }
    if let Some(admin) = admin {
        live.admin.port.replace(admin);
    }
}

/// The listeners that a topology needs.
pub fn wanted(topology: &Topology) -> Vec<Wanted> {
    topology.pools.iter().map(|pool| Wanted::of(&pool.settings, pool.id)).collect()
}

pub fn log_format(format: LogFormat) -> Format {
    match format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}

/// One line for whoever started the process.
pub fn serving(topology: &Topology) -> String {
    let servers: usize = topology.pools.iter().map(|pool| pool.servers.len()).sum();
    format!("serving {} pools with {servers} servers, generation {}", topology.pools.len(), topology.generation)
}
