//! A port for operators: a socket that may be replaced while it serves, and a bounded number of clients on it.
//!
//! ```text
//!   bind ── may fail; nothing has changed        adopt ── the socket of the process before
//!      └──────────────┬─────────────────────────────┘
//!                 replace ── whoever has come to the socket before is answered
//!                     │
//!       run: accept, one task a client, at most so many at a time; more wait in the listen queue
//! ```

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pingora_core::protocols::l4::stream::Stream;
use socket2::Socket as RawSocket;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

use crate::config::ListenAddress;
use crate::listener::{Bound, Place};
use crate::worker::Socket;

/// Clients that may wait to be accepted, as the standard library has it.
const BACKLOG: u32 = 128;
/// How long an accept that failed (no descriptors left), or that there is no room for, waits.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a port that was closed for good goes on with its clients.
const FAREWELL: Duration = Duration::from_millis(500);

/// One port.
pub struct Port {
    /// For messages.
    name: &'static str,
    /// Clients served at a time.
    most: usize,
    clients: Arc<Crowd>,
    /// `None`: closed.
    socket: watch::Sender<Option<Arc<PortSocket>>>,
}

/// A socket of a port, bound and listening.
pub struct PortSocket(Mutex<Bound>);

/// Those that are served.
#[derive(Default)]
struct Crowd {
    seats_taken: AtomicUsize,
    /// Told, once a while, as long as there is none left.
    full: Notify,
    /// No client is to stay: the port was left or closed for good.
    leaves: AtomicBool,
}

/// A client's place among those that are served. Given back on drop.
pub struct Seat(Arc<Crowd>);

impl Seat {
    /// Until another client needs it.
    pub async fn wanted(&self) {
        self.0.full.notified().await;
    }

    /// Whoever has been answered is to come again elsewhere.
    pub fn leaves(&self) -> bool {
        self.0.leaves.load(Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats_taken.fetch_sub(1, Relaxed);
    }
}

impl PortSocket {
    fn new(bound: Bound) -> Self {
        Self(Mutex::new(bound))
    }

    /// One that the process before has bound. `None`: nobody can reach it any more.
    pub fn adopt(socket: OwnedFd, listen: &ListenAddress) -> Option<Self> {
        let path = match listen {
            ListenAddress::Tcp { .. } => None,
            ListenAddress::Unix { path, .. } => Some(path.as_path()),
        };
        Bound::adopt(RawSocket::from(socket), path).map(Self::new)
    }

    /// The file of a unix socket gets these permissions, and is this process's to remove from now on.
    fn take_file(&self, listen: &ListenAddress) -> io::Result<()> {
        self.lock().refit(listen, BACKLOG)
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.lock().address()
    }

    /// A client that waits, if there is one.
    fn accept(&self) -> io::Result<Stream> {
        match self.lock().accept()? {
            Socket::Tcp(client) => TcpStream::from_std(client).map(Stream::from),
            Socket::Unix(client) => UnixStream::from_std(client).map(Stream::from),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bound> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// Without a socket. `name`: for messages.
    pub fn new(name: &'static str, most: usize) -> Self {
        Self { name, most, clients: Arc::default(), socket: watch::Sender::new(None) }
    }

    /// Opens a socket for [`Port::replace`]. It may take its port from `held`, the one it is to replace.
    ///
    /// # Errors
    /// With the address in the text.
    pub fn bind(name: &str, listen: &ListenAddress, held: Option<&PortSocket>) -> io::Result<PortSocket> {
        let mut result = Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{name}: cannot listen on {listen}: {e}"));
        let places = Place::all(listen).map_err(named)?;
        for place in places {
            result = match (Bound::new(&place, BACKLOG), &place, held) {
                (Err(error), Place::Tcp(address), Some(held)) if error.kind() == ErrorKind::AddrInUse => {
                    bind_over(*address, held, error)
                }
                (result, ..) => result,
            };
            if result.is_ok() {
                break;
            }
        }
        result.map(PortSocket::new).map_err(named)
    }

    /// Serves on this socket from now on, or on none. Whoever has connected to the one before is answered.
    pub fn replace(&self, socket: Option<PortSocket>) {
        self.socket.send_replace(socket.map(Arc::new));
    }

    /// Has a socket of the process before served here, as `listen` wants it.
    pub fn take_over(&self, socket: PortSocket, listen: &ListenAddress) {
        if let Err(error) = socket.take_file(listen) {
            tracing::error!(listen = %listen, %error, "cannot set permissions");
        }
        self.replace(Some(socket));
    }

    /// Closes the port here for good: what its socket is bound to belongs to another process now.
    pub fn leave(&self) {
        self.clients.leaves.store(true, Relaxed);
        if let Some(socket) = self.socket.send_replace(None) {
            socket.lock().give_up_file(true);
        }
    }

    /// Closes it for good.
    pub fn end(&self) {
        // Before those are answered who have come to it.
        if let Some(socket) = self.socket() {
            socket.lock().give_up_file(false);
        }
        self.clients.leaves.store(true, Relaxed);
        self.socket.send_replace(None);
    }

    /// The socket in use.
    pub fn socket(&self) -> Option<Arc<PortSocket>> {
        self.socket.borrow().clone()
    }

    /// A duplicate of it, to hand over to the next process. `None`: there is none that anybody can reach.
    ///
    /// # Errors
    /// When no descriptors are left.
    pub fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
        let Some(socket) = self.socket() else { return Ok(None) };
        let socket = socket.lock();
        if socket.is_reachable() { socket.duplicate().map(|socket| Some(socket.into())) } else { Ok(None) }
    }

    /// Hands everyone who connects to `serve`, which keeps the seat as long as it serves. Returns when the port was closed for
    /// good and everyone was served, or has had some time for it.
    pub async fn run(&self, serve: impl Fn(Stream, Seat)) {
        let mut changes = self.socket.subscribe();
        loop {
            // Before `leaves` is looked at: that is set before the socket goes, so either it is seen here, or the change is
            // still to come.
            let socket = changes.borrow_and_update().clone();
            if self.clients.leaves.load(Relaxed) {
                break;
            }
            tokio::select! {
                () = self.accept_on(socket.as_deref(), &serve) => {}
                // It does not fail: the sender is ours.
                _ = changes.changed() => {}
            }
            if let Some(socket) = socket {
                self.accept_waiting(&socket, &serve);
            }
        }
        let deadline = Instant::now() + FAREWELL;
        while self.clients.seats_taken.load(Relaxed) > 0 && Instant::now() < deadline {
            self.clients.full.notify_waiters();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Accepts for ever.
    async fn accept_on(&self, socket: Option<&PortSocket>, serve: &impl Fn(Stream, Seat)) {
        let Some(socket) = socket else { return std::future::pending().await };
        let duplicate = socket.lock().duplicate();
        let listener = match duplicate.and_then(Accepting::new) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "{}: the port does not work", self.name);
                return std::future::pending().await;
            }
        };
        loop {
            // One client at a time is accepted while many are slow; accept errors (no descriptors left) wait likewise.
            let accepted = if self.has_room() { listener.accept().await.ok() } else { None };
            match accepted {
                Some(client) => serve(client, self.seat()),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Takes in those whom the kernel has let in on a socket that is about to close.
    fn accept_waiting(&self, socket: &PortSocket, serve: &impl Fn(Stream, Seat)) {
        while self.has_room()
            && let Ok(client) = socket.accept()
        {
            serve(client, self.seat());
        }
    }

    /// Clients come by one task only, so that what is free stays so.
    fn has_room(&self) -> bool {
        let free = self.clients.seats_taken.load(Relaxed) < self.most;
        if !free {
            self.clients.full.notify_waiters();
        }
        free
    }

    fn seat(&self) -> Seat {
        self.clients.seats_taken.fetch_add(1, Relaxed);
        Seat(self.clients.clone())
    }
}

/// Binds `127.0.0.1:1` while `0.0.0.0:1` is ours, or the other way round, which the kernel refuses unless both agree.
fn bind_over(address: SocketAddr, held: &PortSocket, error: io::Error) -> io::Result<Bound> {
    if held.address().is_none_or(|held| held.port() != address.port()) {
        return Err(error);
    }
    let others = [held.lock().duplicate()?];
    let mut bound = Bound::over(address, &others)?;
    bound.listen_over(BACKLOG, &others)?;
    Ok(bound)
}

/// A socket as the runtime waits for it.
enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    fn new(socket: RawSocket) -> io::Result<Self> {
        match socket.local_addr()?.is_unix() {
            true => UnixListener::from_std(OwnedFd::from(socket).into()).map(Self::Unix),
            false => TcpListener::from_std(socket.into()).map(Self::Tcp),
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(client, _)| client.into()),
            Self::Unix(listener) => listener.accept().await.map(|(client, _)| client.into()),
        }
    }
}
