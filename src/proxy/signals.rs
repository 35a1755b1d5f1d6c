//! Signals: which there are, and what becomes of each.
//!
//! | signal | |
//! |---|---|
//! | SIGTERM, SIGINT | drain, then end; another one ends `pre_stop_delay`, or the process at once |
//! | SIGHUP | reopen the log, read the configuration anew |
//! | SIGUSR2 | start the binary that is on disk now, and let it take over |
//! | SIGQUIT | of pingora's upgrade: ends only a process that another has taken over from, and that does so by itself |
//! | SIGTTIN, SIGTTOU | log more, log less |
//! | SIGUSR1 | ignored, as twemproxy does |

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::Service;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::{Mutex, Notify, mpsc, watch};

use super::data_plane::Order;
use super::succession::Who;
use crate::admin::ServiceManager;
use crate::pool::Topology;
use crate::telemetry::{Event, Events, Log, What};

/// Ignores SIGUSR1, as twemproxy does, and the others until their handlers come with the runtime; each of them would end
/// the process.
pub(super) fn ignore() {
    for number in [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: setting a signal to be ignored installs no code that could run in a signal's context.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// The signals that are caught.
pub(super) struct Caught {
    end: [SignalStream; 2],
    change: [SignalStream; 5],
}

/// Catches the signals that end the process and those that change something in it, before anyone can see that it
/// serves: a signal that came earlier than its handler would end the process, or be lost. After the fork, as the pipe
/// of signals must be the child's own.
pub(super) fn catch() -> io::Result<Caught> {
    // The streams outlive this runtime; whichever runs next reads the pipe for all.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let kind = SignalKind::from_raw;
    Ok(Caught {
        end: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?],
        change: [
            signal(SignalKind::hangup())?,
            signal(SignalKind::user_defined2())?,
            signal(SignalKind::quit())?,
            signal(kind(libc::SIGTTIN))?,
            signal(kind(libc::SIGTTOU))?,
        ],
    })
}

impl Caught {
    pub fn split(self, end: EndsBy, change: Changes) -> (EndSignals, Signals) {
        let ends = EndSignals { caught: Arc::new(Mutex::new(self.end)), by: end };
        (ends, Signals { caught: self.change, changes: change })
    }
}

/// What the end of the process acts upon.
pub(super) struct EndsBy {
    pub topology: watch::Receiver<Arc<Topology>>,
    pub ready: Arc<AtomicBool>,
    pub manager: Arc<ServiceManager>,
    pub events: Arc<Events>,
    /// Another process has taken over.
    pub succeeded: Arc<Notify>,
}

/// The signals that end the process; the first lets it finish what is in flight.
pub(super) struct EndSignals {
    caught: Arc<Mutex<[SignalStream; 2]>>,
    by: EndsBy,
}

#[async_trait]
impl ShutdownSignalWatch for EndSignals {
    async fn recv(&self) -> ShutdownSignal {
        let mut caught = self.caught.lock().await;
        let name = tokio::select! {
            name = next(&mut caught) => Some(name),
            () = self.by.succeeded.notified() => None,
        };
        self.by.ready.store(false, Relaxed);
        if let Some(name) = name {
            let delay = self.by.topology.borrow().settings.pre_stop_delay;
            let wait = if delay.is_zero() { String::new() } else { format!("accepting for {delay:?} more, then ") };
            let why = format!("{name}: {wait}no new clients, finishing what is in flight");
            self.by.events.record(Event::of_process(What::Draining, why));
            self.by.manager.stopping();
            wait_for(delay, &mut caught).await;
        }
        drop(caught);
        end_at_once_at_the_next(self.caught.clone());
        ShutdownSignal::GracefulTerminate
    }
}

async fn next(caught: &mut [SignalStream; 2]) -> &'static str {
    let [term, int] = caught;
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

/// Until the delay is over, or somebody is in a hurry.
async fn wait_for(delay: Duration, caught: &mut [SignalStream; 2]) {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        _ = next(caught), if !delay.is_zero() => {}
    }
}

/// Whoever sends a second signal does not want to wait for clients.
fn end_at_once_at_the_next(caught: Arc<Mutex<[SignalStream; 2]>>) {
    tokio::spawn(async move {
        let name = next(&mut *caught.lock().await).await;
        tracing::warn!("{name} while draining: ending at once");
        std::process::exit(1);
    });
}

/// What a running process changes by signals.
pub(super) struct Changes {
    pub log: Log,
    pub orders: mpsc::Sender<Order>,
    /// Another process has taken over.
    pub succeeded: Arc<AtomicBool>,
}

/// The signals that change something in a running process.
pub(super) struct Signals {
    caught: [SignalStream; 5],
    changes: Changes,
}

#[async_trait]
impl Service for Signals {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let Changes { log, orders, succeeded } = &self.changes;
        let [hup, usr2, quit, up, down] = &mut self.caught;
        loop {
            // An order that finds the queue full is one that was given already.
            tokio::select! {
                _ = hup.recv() => {
                    tracing::info!("signal 1 (SIGHUP) received, reopening log file");
                    if let Err(error) = log.reopen() {
                        tracing::error!(%error, "cannot reopen the log, staying with the old one");
                    }
                    let _ = orders.try_send(Order::Reload);
                }
                _ = usr2.recv() => drop(orders.try_send(Order::Upgrade(Who::Signal))),
                _ = quit.recv() => if !succeeded.load(Relaxed) {
                    tracing::warn!(
                        "SIGQUIT ignored: no other process has taken over (SIGTERM ends this one, SIGUSR2 upgrades it)"
                    );
                },
                _ = up.recv() => tracing::info!(level = log.turn(true), "signal 21 (SIGTTIN) received, up logging level"),
                _ = down.recv() => tracing::info!(level = log.turn(false), "signal 22 (SIGTTOU) received, down logging level"),
            }
        }
    }

    fn name(&self) -> &str {
        "signals"
    }
}
