//! Listeners: one file descriptor each; accepted clients go to the worker with the fewest sessions.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket as RawSocket, Type};

use crate::config::{ListenAddress, PoolSettings, Protocol};
use crate::worker::{Accepted, Socket, Worker};

/// A bound socket; not yet accepting.
pub struct Listener {
    socket: RawSocket,
    /// Index of the pool in the settings.
    pool: usize,
    protocol: Protocol,
    places: Places,
    /// For messages.
    address: String,
}

/// What the listeners of the process share.
#[derive(Debug, Default)]
pub struct Door {
    /// Clients let in so far: the number of the last one.
    ids: AtomicU64,
    trouble: Trouble,
}

/// Counts the clients of a pool against `client_connections`.
#[derive(Clone)]
struct Places {
    taken: Arc<AtomicUsize>,
    limit: Option<usize>,
}

/// One client's place: in the pool's limit and in its worker's number of sessions. Given back on drop.
pub struct Permit {
    pool: Arc<AtomicUsize>,
    worker: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// Also counts the client as a session of a worker.
    pub fn count_in(&mut self, sessions: &Arc<AtomicUsize>) {
        sessions.fetch_add(1, Relaxed);
        self.worker = Some(sessions.clone());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.fetch_sub(1, Relaxed);
        if let Some(worker) = &self.worker {
            worker.fetch_sub(1, Relaxed);
        }
    }
}

impl Listener {
    /// Binds and listens.
    ///
    /// # Errors
    /// With the address and the pool in the text.
    pub fn bind(pool: &PoolSettings, index: usize) -> io::Result<Self> {
        let name = |e: io::Error| {
            let text = format!("pool {}: cannot listen on {}: {e}", pool.name, pool.listen);
            io::Error::new(e.kind(), text)
        };
        let socket = match &pool.listen {
            ListenAddress::Tcp { host, port } => bind_tcp(host, *port, pool.backlog),
            ListenAddress::Unix { path, mode } => bind_unix(path, *mode, pool.backlog),
        };
        let places = Places { taken: Arc::default(), limit: pool.client_connections };
        let (socket, address) = (socket.map_err(name)?, pool.listen.to_string());
        Ok(Self { socket, pool: index, protocol: pool.protocol, places, address })
    }

    /// Accepts until dropped.
    pub async fn run(self, workers: Vec<Worker>, door: Arc<Door>) {
        let result = match self.socket.local_addr().map(|a| a.is_unix()) {
            Ok(true) => self.run_unix(&workers, &door).await,
            Ok(false) => self.run_tcp(&workers, &door).await,
            Err(e) => Err(e),
        };
        if let Err(error) = result {
            tracing::error!(listen = self.address, %error, "a listener stopped");
        }
    }

    async fn run_tcp(&self, workers: &[Worker], door: &Door) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.socket.try_clone()?.into())?;
        loop {
            match listener.accept().await.and_then(|(s, _)| s.into_std()) {
                Ok(socket) => self.admit(Socket::Tcp(socket), workers, door),
                Err(error) => door.trouble.pause(&self.address, &error).await,
            }
        }
    }

    async fn run_unix(&self, workers: &[Worker], door: &Door) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.socket.try_clone()?.into())?;
        loop {
            match listener.accept().await.and_then(|(s, _)| s.into_std()) {
                Ok(socket) => self.admit(Socket::Unix(socket), workers, door),
                Err(error) => door.trouble.pause(&self.address, &error).await,
            }
        }
    }

    fn admit(&self, socket: Socket, workers: &[Worker], door: &Door) {
        door.trouble.over(Instant::now());
        let permit = Permit { pool: self.places.taken.clone(), worker: None };
        let taken = self.places.taken.fetch_add(1, Relaxed);
        if self.places.limit.is_some_and(|limit| taken >= limit) {
            return refuse(socket, self.protocol);
        }
        let id = door.ids.fetch_add(1, Relaxed) + 1;
        if let Some(worker) = workers.iter().min_by_key(|w| w.sessions()) {
            worker.hand(Accepted { socket, pool: self.pool, id, permit });
        }
    }
}

/// Tells a client that there is no place for it, in its own protocol, as its own server would.
fn refuse(socket: Socket, protocol: Protocol) {
    let text: &[u8] = match protocol {
        Protocol::Redis => b"-ERR max number of clients reached\r\n",
        Protocol::Memcached => b"ERROR Too many open connections\r\n",
    };
    // The socket does not block and its buffer is empty: this is one system call.
    let _ = match socket {
        Socket::Tcp(mut s) => s.write(text),
        Socket::Unix(mut s) => s.write(text),
    };
}

/// Accepting that fails (no file descriptors left, mostly): logged once for all listeners, which run into it together;
/// retried after a pause, never spun on. Holds when it failed last.
#[derive(Debug, Default)]
struct Trouble(Mutex<Option<Instant>>);

/// Accepting must go well for so long before it counts as repaired: at the limit of descriptors every client that leaves
/// lets one in, and the next one fails.
const QUIET: Duration = Duration::from_secs(10);

impl Trouble {
    async fn pause(&self, address: &str, error: &io::Error) {
        // Of these the client is to blame; the next one may be fine.
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) {
            return;
        }
        if self.failed(Instant::now()) {
            tracing::warn!(listen = address, %error, "cannot accept clients; trying again ten times a second");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Accepting failed; whether that is news.
    fn failed(&self, now: Instant) -> bool {
        self.0.lock().is_ok_and(|mut last| last.replace(now).is_none())
    }

    /// Accepting went well; whether that is the end of a trouble.
    fn over(&self, now: Instant) -> bool {
        let Ok(mut last) = self.0.lock() else { return false };
        let over = last.is_some_and(|failed| now.saturating_duration_since(failed) >= QUIET);
        if over {
            *last = None;
            tracing::info!("accepting clients again");
        }
        over
    }
}

fn bind_tcp(host: &str, port: u16, backlog: u32) -> io::Result<RawSocket> {
    let address: SocketAddr = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the name has no address"))?;
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `::` means every address, as users of twemproxy and Redis expect.
        socket.set_only_v6(false)?;
    }
    listen(socket, &address.into(), backlog)
}

fn bind_unix(path: &Path, mode: Option<u32>, backlog: u32) -> io::Result<RawSocket> {
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    let socket = listen(socket, &SockAddr::unix(path)?, backlog)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(socket)
}

fn listen(socket: RawSocket, address: &SockAddr, backlog: u32) -> io::Result<RawSocket> {
    socket.bind(address)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_at_the_limit_of_descriptors_does_not_flood_the_log() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!trouble.over(at(0)));
        assert!(trouble.failed(at(1)));
        // Every client that leaves lets one in, between two failures; and so it goes for each listener.
        for second in 1..100 {
            assert!(!trouble.failed(at(second)));
            assert!(!trouble.over(at(second + 9)));
        }
        assert!(trouble.over(at(109)));
        assert!(!trouble.over(at(110)));
        assert!(trouble.failed(at(111)));
    }
}
