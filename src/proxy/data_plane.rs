//! The service that everything else is for: workers and listeners, and the changes that are made to them while they run.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};
use tokio::sync::mpsc;

use super::homes::Homes;
use super::process::PidFile;
use super::succession::{self, Arrival, Succession, Who, announce, await_word, welcome};
use crate::admin::{PortSocket, ReloadOrder, Reloaded};
use crate::listener::{Prepared, to_the_idlest};
use crate::reload::{self, Live, Outcome, Reloader, Watch};
use crate::session::Common;
use crate::upgrade::Predecessor;
use crate::worker::{Bell, Plan, Vitals, Worker};

/// What the data plane is told to do.
pub(super) enum Order {
    /// SIGHUP
    Reload,
    /// Have another process take over.
    Upgrade(Who),
}

/// Workers, listeners, and their changes.
pub(super) struct DataPlane {
    /// `None` once it has started.
    pub start: Option<Start>,
}

/// What it starts with.
pub(super) struct Start {
    /// Without workers yet.
    pub live: Live,
    pub listeners: Prepared,
    pub common: Arc<Common>,
    /// Filled in when the workers have started.
    pub bells: Arc<OnceLock<Vec<Bell>>>,
    pub vitals: Arc<OnceLock<Vec<Vitals>>>,
    /// `None`: there is nothing to read anew.
    pub reloader: Option<Reloader>,
    pub orders: mpsc::Receiver<Order>,
    /// Of the admin port.
    pub reloads: mpsc::Receiver<ReloadOrder>,
    /// Where operators come to as soon as clients may.
    pub admin_socket: Option<PortSocket>,
    pub banner: Option<String>,
    pub succession: Succession,
    /// The process whose place this one takes.
    pub predecessor: Option<Predecessor>,
    /// Where its sessions go on.
    pub homes: Homes,
    /// Written as soon as it is this process that serves.
    pub pid_file: Option<Arc<PidFile>>,
    /// False from the signal on that ends the process.
    pub ready: Arc<AtomicBool>,
}

/// The running data plane. Dropping it ends it: pingora drops the services' tasks when the process is to end.
struct Running {
    live: Live,
    reloader: Option<Reloader>,
    watch: Option<Watch>,
    orders: mpsc::Receiver<Order>,
    reloads: mpsc::Receiver<ReloadOrder>,
    arrivals: Option<mpsc::UnboundedReceiver<Arrival>>,
    homes: Homes,
    succession: Succession,
    ready: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.succession.give_up();
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Upgrade(who) = order {
                who.refuse_late();
            }
        }
        self.live.listeners.stop(false);
        // After the last client.
        self.live.workers.iter().for_each(Worker::drain);
    }
}

impl Start {
    async fn start(self) -> Running {
        let Self { mut live, listeners, common, bells, vitals, reloader, .. } = self;
        let Self { orders, reloads, admin_socket, banner, succession, predecessor, homes, pid_file, ready, .. } = self;
        match start_workers(&mut live, &common) {
            Ok(threads) => drop(tokio::task::spawn_blocking(move || join(threads))),
            Err(error) => {
                // Nothing can be served; the process must not look alive.
                tracing::error!(%error, "cannot start");
                eprintln!("outrigger: cannot start: {error}");
                std::process::exit(1);
            }
        }
        let _ = bells.set(live.workers.iter().map(Worker::bell).collect());
        let _ = vitals.set(live.workers.iter().map(Worker::vitals).collect());
        // For what has happened before there were any.
        (live.ground.notify)();
        let predecessor = match predecessor {
            Some(predecessor) => Some(await_word(predecessor).await),
            None => None,
        };
        live.listeners.apply(listeners, &live.hand_over);
        let admin = live.topology.borrow().settings.admin.listen.clone();
        if let (Some(socket), Some(listen)) = (admin_socket, admin) {
            live.admin.port.take_over(socket, &listen);
        }
        if let (Some(file), true) = (pid_file, predecessor.is_some())
            && let Err(error) = file.write()
        {
            tracing::error!(%error, "the pid file still has the id of the process before");
        }
        let arrivals = predecessor.map(announce);
        say_ready(&live, banner);
        let watch = reloader.as_ref().map(|reloader| Watch::new(reloader.sources()));
        Running { live, reloader, watch, orders, reloads, arrivals, homes, succession, ready }
    }
}

impl Running {
    /// Until another process has taken over, or there is nobody any more who could order anything.
    async fn run(&mut self) {
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Reload) => drop(self.reload(true).await),
                    Some(Order::Upgrade(who)) => if self.upgrade(who).await {
                        return;
                    },
                    None => return,
                },
                Some(asker) = self.reloads.recv() => {
                    let outcome = self.reload(true).await;
                    // Whoever asked may have gone.
                    let _ = asker.send(outcome);
                }
                arrival = next(&mut self.arrivals) => welcome(&self.live, &self.homes, arrival),
                () = changed(&mut self.watch) => drop(self.reload(false).await),
            }
        }
    }

    /// Whether another process has taken over.
    async fn upgrade(&mut self, who: Who) -> bool {
        if !self.ready.load(Relaxed) {
            who.refuse_late();
            return false;
        }
        if let Some(arrivals) = &mut self.arrivals {
            // Once the process before has sent them all, what is left of them is here.
            let sends = !arrivals.is_closed();
            while let Ok(arrival) = arrivals.try_recv() {
                welcome(&self.live, &self.homes, arrival);
            }
            if sends {
                succession::refuse(&self.live, who, "the sessions of the process before are still arriving");
                return false;
            }
        }
        self.succession.hand_over(&mut self.live, who).await
    }

    async fn reload(&mut self, asked: bool) -> Reloaded {
        let Some(reloader) = &mut self.reloader else {
            tracing::info!("not started with a configuration file, so there is nothing to read anew");
            return Reloaded::NoFile;
        };
        let outcome = reloader.reload(&mut self.live, asked).await;
        if let Some(watch) = &mut self.watch {
            watch.follow(reloader.sources());
        }
        match outcome {
            Outcome::Changed(summary) => Reloaded::Changed(summary),
            Outcome::Same => Reloaded::Same,
            Outcome::Failed(problems) => Reloaded::Failed(problems),
        }
    }
}

fn start_workers(live: &mut Live, common: &Arc<Common>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for index in 0..live.ground.workers {
        let plan = Plan { topology: live.topology.borrow().clone(), common: common.clone() };
        let (worker, thread) = Worker::start(index, plan)?;
        live.workers.push(worker);
        threads.push(thread);
    }
    live.hand_over = to_the_idlest(live.workers.clone());
    Ok(threads)
}

/// Waits for the workers, which outlive the service until the last has drained.
fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a worker panicked");
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
        let Some(start) = self.start.take() else { return };
        let mut running = start.start().await;
        ready.notify_ready();
        tokio::select! {
            _ = shutdown.changed() => {}
            () = running.run() => {}
        }
    }

    fn name(&self) -> &str {
        "data plane"
    }
}

/// The next session of the process before.
async fn next(arrivals: &mut Option<mpsc::UnboundedReceiver<Arrival>>) -> Arrival {
    if let Some(open) = arrivals
        && let Some(arrival) = open.recv().await
    {
        return arrival;
    }
    *arrivals = None;
    std::future::pending().await
}

/// Until the files of the configuration may have changed.
async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => drop(watch.changed().await),
        None => std::future::pending().await,
    }
}

fn say_ready(live: &Live, banner: Option<String>) {
    let topology = live.topology.borrow().clone();
    tracing::info!(workers = live.workers.len(), pools = topology.pools.len(), "serving");
    live.manager.ready(&reload::serving(&topology));
    if let Some(banner) = banner {
        // A closed standard output is no reason to stop.
        let _ = io::Write::write_all(&mut io::stdout(), banner.as_bytes());
    }
}
