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
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use crate::backend::Endpoint;
use crate::config::Settings;
use crate::io::{Pass, Stream};
use crate::listener::Permit;
use crate::pool::Pool;
use crate::session::{Session, Shared};
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
    pub cells: Arc<WorkerCells>,
}

/// The way to a running worker. Dropping every clone of it makes the worker drain and end.
#[derive(Clone)]
pub struct Worker {
    accepted: mpsc::UnboundedSender<Accepted>,
    sessions: Arc<AtomicUsize>,
}

impl Worker {
    /// Starts a worker's thread.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(index: usize, plan: Plan) -> io::Result<(Self, JoinHandle<()>)> {
        let (accepted, queue) = mpsc::unbounded_channel();
        let sessions = Arc::new(AtomicUsize::new(0));
        let runtime = {
            let mut builder = Builder::new_current_thread();
            builder.enable_io().enable_time().event_interval(TASKS_PER_PASS);
            builder.on_thread_park(Pass::before_park).on_thread_unpark(Pass::after_park);
            builder
        };
        let name = format!("worker-{index}");
        let (report, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || run(runtime, plan, queue, &report))?;
        // A worker that did not start has no sessions, so every client would be handed to it.
        started.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended at its start")))?;
        Ok((Self { accepted, sessions }, thread))
    }

    /// Sessions that the worker has, those on their way to it included.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }

    /// Hands over a client.
    pub fn hand(&self, mut accepted: Accepted) {
        accepted.permit.count_in(&self.sessions);
        // It fails only when the worker has ended, at shutdown: then the socket closes.
        let _ = self.accepted.send(accepted);
    }
}

fn run(
    mut runtime: Builder,
    plan: Plan,
    queue: mpsc::UnboundedReceiver<Accepted>,
    report: &std::sync::mpsc::Sender<io::Result<()>>,
) {
    let pass = Pass::new();
    pass.install();
    match runtime.build_local(LocalOptions::default()) {
        Ok(runtime) => {
            let _ = report.send(Ok(()));
            runtime.block_on(serve(plan, pass, queue));
            // A name that is still being looked up would hold up the end for as long as the resolver likes.
            runtime.shutdown_background();
        }
        Err(error) => drop(report.send(Err(error))),
    }
    Pass::uninstall();
}

type Sessions = RefCell<HashMap<u64, Rc<Session>>>;

async fn serve(plan: Plan, pass: Rc<Pass>, mut queue: mpsc::UnboundedReceiver<Accepted>) {
    let settings = &plan.settings;
    let pools: Vec<Rc<Pool>> = (0..settings.pools.len())
        .map(|i| Rc::new(Pool::build(settings, i, &plan.endpoints[i], &pass, &plan.cells)))
        .collect();
    for pool in &pools {
        for connection in pool.connections() {
            spawn_local(connection.clone().run());
            if pool.settings.preconnect {
                connection.preconnect();
            }
        }
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let shared = Shared::new(pass, settings.limits.clone(), settings.session_limits.clone(), started);
    let sessions: Rc<Sessions> = Rc::default();
    let ended = Rc::new(Notify::new());
    while let Some(accepted) = queue.recv().await {
        let pool = &pools[accepted.pool];
        match open(accepted.socket, pool) {
            Err(error) => tracing::debug!(%error, "a client was gone before it was served"),
            Ok(stream) => {
                let session = Session::new(accepted.id, stream, pool.clone(), shared.clone());
                sessions.borrow_mut().insert(session.id, session.clone());
                let (sessions, ended) = (sessions.clone(), ended.clone());
                spawn_local(async move {
                    let id = session.id;
                    session.run().await;
                    sessions.borrow_mut().remove(&id);
                    drop(accepted.permit);
                    ended.notify_one();
                });
            }
        }
    }
    drain(&shared, &sessions, &ended, &pools, settings).await;
}

/// Lets sessions finish what is in flight, within the drain limit.
async fn drain(shared: &Shared, sessions: &Sessions, ended: &Notify, pools: &[Rc<Pool>], settings: &Settings) {
    shared.drain();
    for session in sessions.borrow().values() {
        session.wake();
    }
    let busy = || pools.iter().flat_map(|p| p.connections()).any(|c| c.in_flight() > 0);
    let drained = async {
        while !sessions.borrow().is_empty() {
            ended.notified().await;
        }
        // What nobody waits for (`noreply`) is still to be written.
        while busy() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(settings.drain_timeout, drained).await.is_err() {
        tracing::warn!(sessions = sessions.borrow().len(), "drain limit reached, closing what is left");
    }
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
