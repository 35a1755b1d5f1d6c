//! The sockets of the in-process servers: one thread, one runtime, a private directory of unix sockets.

use std::cell::RefCell;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener as BlockingListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

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

/// Longest path of a unix socket, in bytes, its final NUL not counted.
const MAX_SOCKET_PATH: usize = 107;

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

/// Running in-process servers; dropping it stops them and removes their sockets.
#[derive(Debug)]
pub struct LocalServers {
    directory: PrivateDirectory,
    /// Dropped to stop the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LocalServers {
    /// Starts all of `servers`; each accepts when this returns. It starts a thread, so daemonize before.
    pub fn start(servers: Vec<LocalServer>) -> io::Result<Self> {
        Self::start_with_clock(servers, system_clock)
    }

    /// The same, with another source of Unix milliseconds: for tests of expiry.
    pub fn start_with_clock(
        servers: Vec<LocalServer>,
        clock: impl Fn() -> Millis + Send + 'static,
    ) -> io::Result<Self> {
        let directory = PrivateDirectory::create()?;
        let mut listeners = Vec::with_capacity(servers.len());
        for (index, server) in servers.into_iter().enumerate() {
            listeners.push((bind(&directory.socket(index), &server)?, server));
        }
        let (stop, stopped) = oneshot::channel();
        let (report, started) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("local-servers".to_owned())
            .spawn(move || run(listeners, Rc::new(clock), stopped, &report))?;
        // From here on, an early return stops and joins the thread.
        let running = Self { directory, stop: Some(stop), thread: Some(thread) };
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of the in-process servers ended")))?;
        Ok(running)
    }

    /// The unix socket of the server at `index` of the list that was started.
    pub fn address(&self, index: usize) -> PathBuf {
        self.directory.socket(index)
    }
}

impl Drop for LocalServers {
    fn drop(&mut self) {
        self.stop.take();
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

type Clock = Rc<dyn Fn() -> Millis>;

fn system_clock() -> Millis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since_1970.as_millis()).unwrap_or(Millis::MAX)
}

fn bind(path: &Path, server: &LocalServer) -> io::Result<BlockingListener> {
    BlockingListener::bind(path)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|e| io::Error::new(e.kind(), format!("in-process server {} of {}: {e}", server.server, server.pool)))
}

/// The thread: serves until `stopped` says so, or the other end is dropped.
fn run(
    listeners: Vec<(BlockingListener, LocalServer)>,
    clock: Clock,
    stopped: oneshot::Receiver<()>,
    report: &mpsc::Sender<io::Result<()>>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return drop(report.send(Err(error))),
    };
    runtime.block_on(async {
        let started = listeners.into_iter().try_for_each(|(listener, server)| {
            let listener = UnixListener::from_std(listener)?;
            match server.protocol {
                Protocol::Redis => spawn_local(accept::<RedisServer>(listener, server, clock.clone())),
                Protocol::Memcached => spawn_local(accept::<MemcachedServer>(listener, server, clock.clone())),
            };
            Ok(())
        });
        let failed = started.is_err();
        if report.send(started).is_ok() && !failed {
            let _ = stopped.await;
        }
    });
}

async fn accept<E: Engine>(listener: UnixListener, server: LocalServer, clock: Clock) {
    let engine = Rc::new(RefCell::new(E::new(server.memory)));
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let connection = serve_connection(socket, engine.clone(), clock.clone());
                let (pool, server) = (server.pool.clone(), server.server.clone());
                spawn_local(async move {
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

/// A directory that only this user can look into; removed when dropped.
#[derive(Debug)]
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// In `$XDG_RUNTIME_DIR`, else in the temporary directory, else in `/tmp`: the first that can hold a socket.
    fn create() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let parents = runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]);
        let mut failure = None;
        for parent in parents {
            match Self::create_in(&parent) {
                Ok(directory) => return Ok(directory),
                Err(e) => {
                    let text = format!("no directory for the sockets of in-process servers: {}: {e}", parent.display());
                    failure.get_or_insert_with(|| io::Error::new(e.kind(), text));
                }
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        // The hasher's keys come from the operating system's random numbers. Should the name be taken all the same,
        // creation fails: it never uses what someone else has made.
        let name = format!("outrigger-{:016x}", RandomState::new().hash_one(std::process::id()));
        let directory = parent.join(name);
        if directory.join("9999.sock").as_os_str().len() > MAX_SOCKET_PATH {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "its name is too long for a unix socket"));
        }
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self(directory))
    }

    fn socket(&self, index: usize) -> PathBuf {
        self.0.join(format!("{index}.sock"))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "cannot remove the sockets of in-process servers");
        }
    }
}
