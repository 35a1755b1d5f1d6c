//! The sockets of the in-process servers: one thread, one runtime, a private directory of unix sockets.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::net::UnixListener as BlockingListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_local};

use super::directory::PrivateDirectory;
use super::memcached::MemcachedServer;
use super::redis::RedisServer;
use super::store::Millis;
use crate::config::Protocol;

/// A connection's replies are written once there are so many bytes of them, whatever else is pipelined.
pub(super) const OUTPUT_LIMIT: usize = 256 * 1024;

/// Least room for one read, in bytes.
const READ_SIZE: usize = 16 * 1024;

/// After accept(2) fails (descriptors, memory), the next try waits for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One in-process server to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalServer {
    pub protocol: Protocol,
    /// Bound on what it stores, in bytes.
    pub memory: u64,
    /// Whose server it is; for logs and errors.
    pub pool: String,
    /// Its ring name; for logs and errors.
    pub server: String,
}

/// In-process servers, which come and go. The first one gets them a thread and a directory; both are there until this and
/// the last handle are dropped.
pub struct LocalServers {
    environment: Environment,
    thread: Mutex<Option<Arc<ServerThread>>>,
    /// Sockets so far. No name is given twice: a connection to a server that went never leads to another one.
    sockets: AtomicU64,
}

/// A running in-process server. Dropping the last clone stops it, closes its connections and removes its socket.
#[derive(Debug, Clone)]
pub struct LocalHandle(Arc<Running>);

#[derive(Debug)]
struct Running {
    address: PathBuf,
    /// Dropped to stop the server.
    _stop: oneshot::Sender<()>,
    _thread: Arc<ServerThread>,
}

/// The thread of all servers. Dropping it stops and joins the thread, then removes the directory.
#[derive(Debug)]
struct ServerThread {
    /// Dropped to stop the thread.
    openings: Option<mpsc::Sender<Opening>>,
    thread: Option<JoinHandle<()>>,
    directory: PrivateDirectory,
}

/// A server for the thread to serve.
struct Opening {
    server: LocalServer,
    listener: BlockingListener,
    /// Ends when the server is to stop.
    stopped: oneshot::Receiver<()>,
    opened: Report,
}

/// Whether something was started.
type Report = SyncSender<io::Result<()>>;

type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// What a server has from outside.
#[derive(Clone)]
struct Environment {
    clock: Clock,
    /// Has the allocator give back what the calling thread has freed.
    give_back: Option<fn()>,
}

impl LocalServers {
    /// No server, no thread and no directory yet.
    pub fn new() -> Self {
        Self::with_clock(system_clock)
    }

    /// The same, with another source of Unix milliseconds: for tests of expiry.
    pub fn with_clock(clock: impl Fn() -> Millis + Send + Sync + 'static) -> Self {
        let environment = Environment { clock: Arc::new(clock), give_back: None };
        Self { environment, thread: Mutex::default(), sockets: AtomicU64::new(0) }
    }

    /// `give_back` has the allocator give back what the calling thread has freed: called when a server has gone.
    pub fn with_give_back(mut self, give_back: Option<fn()>) -> Self {
        self.environment.give_back = give_back;
        self
    }

    /// Starts an empty server, which accepts when this returns. It waits for the servers' thread, and starts it if it is
    /// the first, so daemonise before.
    ///
    /// # Errors
    /// When there is no place for sockets, or no thread or descriptor to be had; the text names the server.
    pub fn start(&self, server: LocalServer) -> io::Result<LocalHandle> {
        let whose = format!("in-process server {} of {}", server.server, server.pool);
        self.open(server).map_err(|e| io::Error::new(e.kind(), format!("{whose}: {e}")))
    }

    fn open(&self, server: LocalServer) -> io::Result<LocalHandle> {
        // Locked to the end: the thread is given one server at a time.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = match &mut *thread {
            Some(thread) => thread,
            none => none.insert(Arc::new(ServerThread::start(self.environment.clone())?)),
        };
        let address = thread.directory.socket(self.sockets.fetch_add(1, Relaxed));
        let listener = BlockingListener::bind(&address)?;
        let (stop, stopped) = oneshot::channel();
        // From here on, an early return removes the socket.
        let running = Running { address, _stop: stop, _thread: thread.clone() };
        listener.set_nonblocking(true)?;
        thread.open(server, listener, stopped)?;
        Ok(LocalHandle(Arc::new(running)))
    }
}

impl Default for LocalServers {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalHandle {
    /// Its unix socket.
    pub fn address(&self) -> &Path {
        &self.0.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.address) {
            tracing::warn!(socket = %self.address.display(), %error, "cannot remove the socket of an in-process server");
        }
    }
}

impl ServerThread {
    fn start(environment: Environment) -> io::Result<Self> {
        let directory = PrivateDirectory::create()?;
        let (openings, to_open) = mpsc::channel(1);
        let (report, started) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("local-servers".to_owned())
            .spawn(move || serve_all(to_open, &environment, &report))?;
        // From here on, an early return joins the thread.
        let running = Self { openings: Some(openings), thread: Some(thread), directory };
        result(&started)?;
        Ok(running)
    }

    /// Has the thread serve it; returns when it does.
    fn open(&self, server: LocalServer, listener: BlockingListener, stopped: oneshot::Receiver<()>) -> io::Result<()> {
        let (opened, report) = sync_channel(1);
        let opening = Opening { server, listener, stopped, opened };
        // Should the thread be gone, the report says so.
        let _ = self.openings.as_ref().map(|openings| openings.try_send(opening));
        result(&report)
    }
}

fn result(report: &Receiver<io::Result<()>>) -> io::Result<()> {
    report.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of the in-process servers ended")))
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        self.openings.take();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of the in-process servers panicked");
        }
    }
}

/// A protocol and its memory, without I/O. All connections of one server share one engine.
pub(super) trait Engine: 'static {
    /// What one connection carries from one call to the next.
    type Session: 'static;

    /// An empty server of at most `capacity` bytes.
    fn new(capacity: u64) -> Self;

    fn session(&self) -> Self::Session;

    /// Answers the whole requests at the front of `input`, taking them out, until `output` reaches [`OUTPUT_LIMIT`].
    fn serve(&mut self, session: &mut Self::Session, input: &mut BytesMut, output: &mut Vec<u8>, now: Millis) -> Flow;
}

/// How a connection goes on once its output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// What is left of the input is no whole request.
    NeedsInput,
    /// There may be more requests in the input.
    OutputFull,
    Close,
}

fn system_clock() -> Millis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since_1970.as_millis()).unwrap_or(Millis::MAX)
}

/// The thread: serves what it is given until nobody can give it more.
fn serve_all(mut to_open: mpsc::Receiver<Opening>, environment: &Environment, started: &Report) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        let _ = started.send(Ok(()));
        while let Some(Opening { server, listener, stopped, opened }) = to_open.recv().await {
            let environment = environment.clone();
            let serving = UnixListener::from_std(listener).map(|listener| {
                match server.protocol {
                    Protocol::Redis => spawn_local(serve::<RedisServer>(listener, server, environment, stopped)),
                    Protocol::Memcached => {
                        spawn_local(serve::<MemcachedServer>(listener, server, environment, stopped))
                    }
                };
            });
            let _ = opened.send(serving);
        }
    });
}

/// Serves until the other end of `stopped` is dropped.
async fn serve<E: Engine>(
    listener: UnixListener,
    server: LocalServer,
    environment: Environment,
    stopped: oneshot::Receiver<()>,
) {
    let engine = Rc::new(RefCell::new(E::new(server.memory)));
    let mut connections = JoinSet::new();
    tokio::select! {
        _ = stopped => {}
        () = accept(listener, &server, &engine, &environment.clock, &mut connections) => {}
    }
    connections.shutdown().await;
    drop(engine);
    if let Some(give_back) = environment.give_back {
        give_back();
    }
}

async fn accept<E: Engine>(
    listener: UnixListener,
    server: &LocalServer,
    engine: &Rc<RefCell<E>>,
    clock: &Clock,
    connections: &mut JoinSet<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((socket, _)) => {
                let connection = serve_connection(socket, engine.clone(), clock.clone());
                let (pool, server) = (server.pool.clone(), server.server.clone());
                connections.spawn_local(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(pool, server, %error, "connection to an in-process server failed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(pool = server.pool, server = server.server, %error, "in-process server cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection<E: Engine>(mut socket: UnixStream, engine: Rc<RefCell<E>>, clock: Clock) -> io::Result<()> {
    let mut session = engine.borrow().session();
    let (mut input, mut output) = (BytesMut::new(), Vec::new());
    loop {
        if input.is_empty() {
            // An idle connection holds no buffers.
            (input, output) = (BytesMut::new(), Vec::new());
            socket.readable().await?;
        }
        input.reserve(READ_SIZE);
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        loop {
            let flow = engine.borrow_mut().serve(&mut session, &mut input, &mut output, clock());
            socket.write_all(&output).await?;
            output.clear();
            match flow {
                Flow::NeedsInput => break,
                Flow::OutputFull => {}
                Flow::Close => return socket.shutdown().await,
            }
        }
    }
}
