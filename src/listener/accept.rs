//! One listener: a socket, and whom its clients are for.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::bind::Bound;
use super::trouble::Trouble;
use super::{HandOver, Permit, Places, Wanted, refuse};
use crate::config::Protocol;
use crate::pool::PoolId;
use crate::worker::{Accepted, Socket};

/// What the listeners of the process share.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// Clients let in so far: the number of the last one.
    pub ids: AtomicU64,
    trouble: Trouble,
}

/// Whom the clients of a listener are for.
pub(super) struct Target {
    /// For messages.
    address: String,
    pool: PoolId,
    protocol: Protocol,
    /// Of the pool, and how many there are.
    places: Places,
    limit: Option<usize>,
    hand_over: HandOver,
}

/// A socket that accepts until it is closed. Whoever holds the lock has the socket for the time of one accept.
pub(super) struct Listener {
    /// `None`: closed.
    open: Mutex<Option<Open>>,
    door: Arc<Door>,
}

struct Open {
    socket: AsyncFd<Bound>,
    target: Target,
}

impl Target {
    pub fn new(wanted: &Wanted, places: Places, hand_over: HandOver) -> Self {
        Self {
            address: wanted.listen.to_string(),
            pool: wanted.pool,
            protocol: wanted.protocol,
            places,
            limit: wanted.client_connections,
            hand_over,
        }
    }

    fn admit(&self, socket: Socket, door: &Door) {
        door.trouble.over(Instant::now());
        let Some(permit) = Permit::take(&self.places.taken, self.limit) else {
            self.places.refused.fetch_add(1, Relaxed);
            return refuse(socket, self.protocol);
        };
        let id = door.ids.fetch_add(1, Relaxed) + 1;
        (self.hand_over)(Accepted { socket, pool: self.pool, id, permit, carried: None });
    }
}

impl Listener {
    /// To be called inside the runtime that will accept.
    pub fn new(socket: Bound, target: Target, door: Arc<Door>) -> io::Result<Self> {
        // SAFETY: a `Bound` has one descriptor from its beginning to its end, which it owns and never gives away.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE)? };
        Ok(Self { open: Mutex::new(Some(Open { socket, target })), door })
    }

    /// Accepts until it is closed.
    pub async fn run(self: Arc<Self>) {
        while let Some(result) = poll_fn(|cx| self.poll_accept(cx)).await {
            let Err(error) = result else { continue };
            let Some(address) = self.lock().as_ref().map(|open| open.target.address.clone()) else { return };
            if is_final(&error) {
                tracing::error!(listen = address, %error, "a listener stopped; the next reload opens it again");
                return drop(self.lock().take());
            }
            self.door.trouble.pause(&address, &error).await;
        }
    }

    /// Lets the next client in. `None`: closed.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        let open = self.lock();
        let Some(open) = open.as_ref() else { return Poll::Ready(None) };
        loop {
            let mut ready = match ready!(open.socket.poll_read_ready(cx)) {
                Ok(ready) => ready,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            match ready.try_io(|socket| socket.get_ref().accept()) {
                Ok(Ok(client)) => open.target.admit(client, &self.door),
                Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Not ready after all.
                Err(_) => continue,
            }
            return Poll::Ready(Some(Ok(())));
        }
    }

    /// From now on clients are for `target`.
    pub fn serve(&self, wanted: &Wanted, target: Target) {
        let mut open = self.lock();
        let Some(open) = open.as_mut() else { return };
        if let Err(error) = open.socket.get_mut().refit(&wanted.listen, wanted.backlog) {
            tracing::error!(listen = target.address, %error, "cannot set backlog or permissions");
        }
        open.target = target;
    }

    /// Lets in those who are being connected now, and nobody else any more. Whether that can be; otherwise it is to be
    /// closed.
    pub fn step_aside(&self) -> bool {
        self.lock().as_mut().is_some_and(|open| open.socket.get_mut().step_aside().is_ok())
    }

    /// Takes in the clients that wait and closes. `keep_file`: the file of the socket belongs to another process.
    pub fn close(&self, keep_file: bool) {
        let Some(mut open) = self.lock().take() else { return };
        let socket = open.socket.get_mut();
        socket.give_up_file(keep_file);
        // No more than were waiting when it began: others may come as fast as these are let in.
        for _ in 0..=socket.backlog() {
            match socket.accept() {
                Ok(client) => open.target.admit(client, &self.door),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => {
                    let listen = open.target.address;
                    return tracing::warn!(listen, %error, "clients that waited at a closed address are lost");
                }
            }
        }
    }

    /// Asks the socket; `None`: it is closed.
    pub fn ask<T>(&self, question: impl FnOnce(&Bound) -> T) -> Option<T> {
        self.lock().as_ref().map(|open| question(open.socket.get_ref()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket will never accept again.
fn is_final(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP))
}
