//! The health of one pool, decided once for the whole process.
//!
//! ```text
//!   connections of every worker ──failed──┐
//!   probes ──────────────────────probed───┼──► Group (under a lock) ──changed──► Routing ──published──► every worker
//!   time ────────────────────────tick─────┘                      └──► event: one line of the log
//! ```
//! The lock is taken when something fails, at probes and at steps of a return; never on the way of a request. Whoever
//! reports a failure finds the new map published when its call returns.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use super::Routing;
use crate::backend::{Reason, ServerHealth};
use crate::config::{OnEjected, OnReadmit, PoolSettings};
use crate::health::{Group, Policy, Report, RetryBudget, Standing, Transition};
use crate::telemetry::{Event, Events, Fold, What, date_and_time, wall_clock};

/// Why a server left or returned that an operator has sent away or called back.
const BY_HAND: &str = "by hand";

/// Called after a server was ejected or came back.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

/// One pool's health, shared by all workers and by what probes its servers.
pub struct PoolHealth {
    settings: Arc<PoolSettings>,
    /// Changes only through [`PoolHealth::update`].
    group: Mutex<Group>,
    routing: Arc<ArcSwap<Routing>>,
    servers: Vec<Arc<Mark>>,
    events: Arc<Events>,
    /// Called, outside the lock, after each change of the map.
    notify: Notify,
    /// After a reload: where what is told here belongs, and by server its number there.
    successor: OnceLock<(Arc<PoolHealth>, Vec<Option<usize>>)>,
}

/// What the request path sees of one server.
#[derive(Default)]
#[repr(align(128))]
struct Mark {
    /// Failures since its last good reply; almost always 0.
    failures: AtomicU32,
    /// How often it has come back from failing.
    recoveries: AtomicU64,
    /// Times that it began to fail: a server that comes and goes must not fill the log.
    begun: Fold,
    /// The log says that it fails.
    told: AtomicBool,
    /// Probes that went well, and that did not.
    probes: [AtomicU64; 2],
}

impl PoolHealth {
    /// With all servers live. `notify` is called, outside the lock, after each change of the map.
    pub fn new(settings: Arc<PoolSettings>, events: Arc<Events>, notify: Notify) -> Arc<Self> {
        let marks = settings.servers.iter().map(|_| Arc::default()).collect();
        let routing = Routing::build(&settings, vec![Standing::Live; settings.servers.len()]);
        Self::build(settings, marks, routing, events, notify)
    }

    /// Of the same pool with other settings; for each of its servers its number before, if it is the same one. All are live
    /// until [`PoolHealth::take_over`].
    pub fn after(before: &Self, settings: Arc<PoolSettings>, from: &[Option<usize>]) -> Arc<Self> {
        let mark = |from: &Option<usize>| from.map_or_else(Arc::default, |from| before.servers[from].clone());
        let routing = Routing::like(&before.routing.load(), &before.settings, &settings);
        let (events, notify) = (before.events.clone(), before.notify.clone());
        Self::build(settings, from.iter().map(mark).collect(), routing, events, notify)
    }

    fn build(
        settings: Arc<PoolSettings>,
        marks: Vec<Arc<Mark>>,
        routing: Routing,
        events: Arc<Events>,
        notify: Notify,
    ) -> Arc<Self> {
        let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let group = Group::new(policy(&settings), marks.len(), seed ^ u64::from(std::process::id()));
        Arc::new(Self {
            group: Mutex::new(group),
            routing: Arc::new(ArcSwap::from_pointee(routing)),
            servers: marks,
            settings,
            events,
            notify,
            successor: OnceLock::new(),
        })
    }

    /// Takes over what `before` knows of the servers that stay; what it is told from now on comes here.
    pub fn take_over(self: &Arc<Self>, before: &Self, from: &[Option<usize>]) {
        let theirs = before.lock();
        let mut group = self.lock();
        // Without probes nobody would bring an ejected server back.
        if self.settings.health.eject {
            group.take_over(&theirs, from);
            self.publish(&group);
        }
        let place = |old: usize| from.iter().position(|from| *from == Some(old));
        // Under both locks: from here on whoever comes to `before` finds where to go.
        let _ = before.successor.set((self.clone(), (0..before.servers.len()).map(place).collect()));
    }

    /// Where what is told of this server belongs since a reload; `None`: nowhere, it was removed.
    fn heir(&self, server: usize) -> Option<(&Arc<Self>, usize)> {
        let (successor, places) = self.successor.get()?;
        Some((successor, places[server]?))
    }

    pub fn settings(&self) -> &Arc<PoolSettings> {
        &self.settings
    }

    /// The map as it is now.
    pub fn routing(&self) -> &Arc<ArcSwap<Routing>> {
        &self.routing
    }

    /// A connection was lost or not made, or a request timed out; `begun`: when what failed began.
    pub fn failed(&self, server: usize, begun: Instant, reason: &Reason, what: &'static str) {
        let failures = self.servers[server].failures.fetch_add(1, Relaxed) + 1;
        let (pool, name) = (&self.settings.name, &self.settings.servers[server].name);
        let mark = &self.servers[server];
        match (failures == 1).then(|| mark.begun.tell(Instant::now())).flatten() {
            Some(times) => {
                mark.told.store(true, Relaxed);
                let times = (times > 1).then_some(times);
                tracing::warn!(pool, server = name, %reason, times, "{what}");
            }
            None => tracing::debug!(pool, server = name, %reason, failures, "{what}"),
        }
        if self.settings.health.eject {
            let why = format!("{what}: {reason}");
            self.update(server, |group, server| {
                group.failed(server, begun, Instant::now(), &why).map(|t| (server, t)).into_iter().collect()
            });
            // A good reply on another thread may have come in between: the next one has to end this row of failures.
            self.servers[server].failures.fetch_max(1, Relaxed);
        }
    }

    /// A good reply came.
    pub fn answered(&self, server: usize) {
        let mark = &self.servers[server];
        if mark.failures.load(Relaxed) == 0 {
            return;
        }
        let failures = mark.failures.swap(0, Relaxed);
        if failures == 0 {
            return;
        }
        mark.recoveries.fetch_add(1, Relaxed);
        let (pool, name) = (&self.settings.name, &self.settings.servers[server].name);
        match mark.told.swap(false, Relaxed) {
            true => tracing::info!(pool, server = name, failures, "the server answers again"),
            false => tracing::debug!(pool, server = name, failures, "the server answers again"),
        }
        self.update(server, |group, server| {
            group.answered(server);
            Vec::new()
        });
    }

    /// A probe has ended, well or with a reason.
    pub fn probed(&self, server: usize, result: Result<(), String>) {
        self.servers[server].probes[usize::from(result.is_err())].fetch_add(1, Relaxed);
        if result.is_ok() && self.servers[server].failures.load(Relaxed) > 0 {
            // Connections that wait before they try again need wait no longer.
            self.servers[server].recoveries.fetch_add(1, Relaxed);
        }
        self.update(server, |group, server| {
            let result = result.as_ref().copied().map_err(|why| &why[..]);
            group.probed(server, result, Instant::now()).map(|t| (server, t)).into_iter().collect()
        });
    }

    /// Nothing is missing for this server's return but that it is emptied.
    pub fn wants_flush(&self, server: usize) -> bool {
        self.successor.get().is_none() && self.lock().wants_flush(server)
    }

    /// The server was emptied, or could not be.
    pub fn flushed(&self, server: usize, result: Result<(), String>) {
        self.update(server, |group, server| {
            let result = result.as_ref().copied().map_err(|why| &why[..]);
            group.flushed(server, result, Instant::now()).map(|t| (server, t)).into_iter().collect()
        });
    }

    /// Lets the shares of returning servers grow; says when to call next.
    pub fn tick(&self) -> Option<Instant> {
        if self.successor.get().is_some() {
            return None;
        }
        self.update(0, |group, _| group.tick(Instant::now()));
        self.lock().next_tick()
    }

    /// Whether this server would be ejected if it went on failing.
    fn may_eject(&self, server: usize) -> bool {
        let group = self.lock();
        self.settings.health.eject && group.standing(server).is_live() && group.ejected() < group.most_ejected()
    }

    /// The servers that are ejected now.
    pub fn ejected(&self) -> Vec<(usize, Report)> {
        let group = self.lock();
        let ejected = |server: &usize| group.standing(*server) == Standing::Ejected;
        (0..self.servers.len()).filter(ejected).map(|server| (server, group.report(server))).collect()
    }

    /// Ejects a server, as the process before had; of a pool without `auto_eject_hosts` nothing is ejected.
    pub fn condemn(&self, server: usize, why: &str) {
        self.update(server, |group, server| {
            group.condemn(server, Instant::now(), why).map(|t| (server, t)).into_iter().collect()
        });
    }

    /// Ejects a server because an operator wants it, for this time at the least; even if too many are ejected already.
    pub fn eject_by_hand(&self, server: usize, time: Option<Duration>) {
        self.update(server, |group, server| vec![(server, group.send_away(server, Instant::now(), time, BY_HAND))]);
    }

    /// Takes an ejected server back because an operator wants it, with its slow start; see [`Group::call_back`].
    pub fn admit_by_hand(&self, server: usize) {
        self.update_because(BY_HAND, server, |group, server| {
            group.call_back(server, Instant::now()).map(|t| (server, t)).into_iter().collect()
        });
    }

    /// What there is to say about a server.
    pub fn report(&self, server: usize) -> Report {
        self.lock().report(server)
    }

    /// Probes of a server so far: those that went well, and those that did not.
    pub fn probes(&self, server: usize) -> (u64, u64) {
        let [well, badly] = &self.servers[server].probes;
        (well.load(Relaxed), badly.load(Relaxed))
    }

    /// Ejections so far, of all servers.
    pub fn ejections(&self) -> u64 {
        self.lock().ejections()
    }

    fn lock(&self) -> MutexGuard<'_, Group> {
        // A panic ends the process, and the state is plain numbers.
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state after something was told of this server.
    fn update(&self, server: usize, change: impl FnOnce(&mut Group, usize) -> Vec<(usize, Transition)>) {
        self.update_because("", server, change);
    }

    /// `why`: of a return.
    fn update_because(
        &self,
        why: &str,
        server: usize,
        change: impl FnOnce(&mut Group, usize) -> Vec<(usize, Transition)>,
    ) {
        let mut group = self.lock();
        if self.successor.get().is_some() {
            drop(group);
            if let Some((successor, server)) = self.heir(server) {
                successor.update_because(why, server, change);
            }
            return;
        }
        if !self.settings.health.eject {
            // Nobody probes, so what was ejected would not come back. Connections that the pool before had may tell more.
            return;
        }
        let transitions = change(&mut group, server);
        let moved = transitions.iter().any(|(_, t)| t.moves_keys());
        if moved {
            self.publish(&group);
        }
        drop(group);
        for (server, transition) in transitions {
            if let Transition::Returning { .. } | Transition::Readmitted { .. } = transition {
                self.servers[server].recoveries.fetch_add(1, Relaxed);
            }
            if let Some(event) = self.event(server, transition, why) {
                self.events.record(event);
            }
        }
        if moved {
            (self.notify)();
        }
    }

    /// Under the lock, so that the map published last is that of the last change.
    fn publish(&self, group: &Group) {
        let standings: Vec<Standing> = (0..self.servers.len()).map(|server| group.standing(server)).collect();
        if self.routing.load().has(&standings) {
            return;
        }
        let routing = Routing::build(&self.settings, standings).telling(|server| reason(&group.report(server)));
        let routing = routing.sparing(|server| group.report(server).by_order);
        self.routing.store(Arc::new(routing));
    }

    fn event(&self, server: usize, transition: Transition, by: &str) -> Option<Event> {
        let (what, why, since, until) = match transition {
            Transition::Ejected { why, since, until } => (What::Ejected, why, since, Some(until)),
            Transition::Kept { why, since } => (What::Kept, why, since, None),
            Transition::NotFlushed { why, since } => (What::NotFlushed, why, since, None),
            Transition::Returning { since, until, .. } => (What::Returning, by.to_owned(), since, Some(until)),
            Transition::Readmitted { since } => (What::Readmitted, by.to_owned(), since, None),
            Transition::Grown { .. } => return None,
        };
        Some(Event {
            at: SystemTime::now(),
            pool: self.settings.name.clone(),
            server: self.settings.servers[server].name.clone(),
            what,
            why,
            since: Some(wall_clock(since)),
            until: until.map(wall_clock),
        })
    }
}

/// What clients are told of an ejected server.
fn reason(report: &Report) -> String {
    let since = report.ejected_at.map(|at| format!(" since {}", date_and_time(wall_clock(at)))).unwrap_or_default();
    format!("Server is ejected{since}: {}", report.why)
}

fn policy(settings: &PoolSettings) -> Policy {
    let health = &settings.health;
    // A share can grow only where the rest of the keys has somewhere to go.
    let shared = matches!(health.on_ejected, OnEjected::Rehash | OnEjected::Pool(_));
    Policy {
        failure_limit: health.failure_limit,
        retry_timeout: health.retry_timeout,
        max_ejected_percent: health.max_ejected_percent,
        probe_successes: health.probe_successes,
        quarantine: match health.on_readmit {
            OnReadmit::Quarantine(time) => time,
            OnReadmit::Keep | OnReadmit::Flush => Default::default(),
        },
        flush: health.on_readmit == OnReadmit::Flush,
        slow_start: if shared { health.slow_start } else { Default::default() },
    }
}

/// One server's health as the connections of one worker see it.
pub(super) struct Seen {
    pub health: Arc<PoolHealth>,
    pub server: usize,
    /// The worker's, for the whole pool.
    pub budget: Rc<RetryBudget>,
}

impl ServerHealth for Seen {
    fn failed(&self, begun: Instant, reason: &Reason, what: &'static str) {
        self.health.failed(self.server, begun, reason, what);
    }

    fn answered(&self) {
        self.health.answered(self.server);
    }

    fn is_ejected(&self) -> bool {
        !self.health.routing.load().standing(self.server).is_live()
    }

    fn may_be_ejected(&self) -> bool {
        self.health.may_eject(self.server)
    }

    fn recoveries(&self) -> u64 {
        self.health.servers[self.server].recoveries.load(Relaxed)
    }

    fn may_repeat(&self) -> bool {
        self.budget.withdraw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::io::Write;

    fn health(keys: &str, notify: impl Fn() + Send + Sync + 'static) -> Arc<PoolHealth> {
        let text = format!(
            "pools:\n  p:\n    listen: 127.0.0.1:1\n{keys}    servers:\n      - 127.0.0.1:7001 one\n      - 127.0.0.1:7002 two\n"
        );
        let settings = config::parse("test", &text).expect("valid").settings;
        PoolHealth::new(Arc::new(settings.pools[0].clone()), Arc::default(), Arc::new(notify))
    }

    /// Collects log lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_server_that_fails_takes_one_line_of_the_log_and_its_return_another() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(log);
        let health = health("", || ());
        for _ in 0..50 {
            health.failed(1, Instant::now(), &Reason::Closed, "connection lost");
        }
        health.answered(1);
        health.answered(1);
        let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("WARN") && lines[0].contains("connection lost"), "{text}");
        assert!(lines[1].contains("INFO") && lines[1].contains("answers again") && lines[1].contains("failures=50"));
        assert!(health.routing().load().is_calm(), "without auto_eject_hosts nothing is ejected");
    }

    #[test]
    fn whoever_reports_the_last_failure_finds_the_server_gone() {
        let told = Arc::new(AtomicU32::new(0));
        let count = told.clone();
        let notify = move || {
            count.fetch_add(1, Relaxed);
        };
        let health = health("    auto_eject_hosts: true\n    on_readmit: keep\n", notify);
        let budget = Rc::new(RetryBudget::new(10));
        let seen = Seen { health: health.clone(), server: 0, budget };
        for limit in [false, true] {
            seen.failed(Instant::now(), &Reason::Closed, "connection lost");
            assert_eq!(seen.is_ejected(), limit);
        }
        assert!((0..1000u32).all(|p| health.routing().load().way(p << 22) == crate::pool::Way::Server(1)));
        assert_eq!((told.load(Relaxed), health.ejections()), (1, 1));
        assert!(health.report(0).why.contains("Connection closed by the server"));
    }
}
