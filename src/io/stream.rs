//! A connected socket, TCP or unix, with the same calls for both.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Reads once. Clears the readiness on a short read, so that no further `recv` is spent to see that it is empty.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }

    /// Writes what the socket takes now; `WouldBlock` when that is nothing.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.try_write(bytes),
            Self::Unix(s) => s.try_write(bytes),
        }
    }

    /// As [`Stream::try_write`], from several buffers.
    pub fn try_write_vectored(&self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.try_write_vectored(bufs),
            Self::Unix(s) => s.try_write_vectored(bufs),
        }
    }

    /// Waits until the socket takes bytes again.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(s) => s.poll_write_ready(cx),
            Self::Unix(s) => s.poll_write_ready(cx),
        }
    }

    /// Of the peer, and where it connected to: `host:port`, or the path of a unix socket and `:0`. Empty if the peer has gone.
    pub fn addresses(&self) -> (String, String) {
        match self {
            Self::Tcp(s) => {
                let text = |address: io::Result<std::net::SocketAddr>| address.map_or(String::new(), |a| a.to_string());
                (text(s.peer_addr()), text(s.local_addr()))
            }
            Self::Unix(s) => {
                let own = s.local_addr().ok();
                let path = own.as_ref().and_then(|address| address.as_pathname());
                let text = path.map_or(String::new(), |path| path.display().to_string()) + ":0";
                (text.clone(), text)
            }
        }
    }

    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    pub fn descriptor(&self) -> i32 {
        match self {
            Self::Tcp(s) => s.as_raw_fd(),
            Self::Unix(s) => s.as_raw_fd(),
        }
    }

    /// TCP keepalive; a unix socket has none and needs none.
    pub fn set_keepalive(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(s) => socket2::SockRef::from(s).set_keepalive(on),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Bytes that were written and that the peer's kernel has not taken yet (a unix socket: the peer itself); `None`: not
    /// known.
    pub fn untaken(&self) -> Option<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ writes one `int`, and the descriptor is open as long as `self`.
        let result = unsafe { libc::ioctl(self.descriptor(), libc::TIOCOUTQ, &raw mut bytes) };
        (result == 0).then_some(usize::try_from(bytes).unwrap_or(0))
    }

    /// What was written and not taken is thrown away when this is dropped, and the peer is told by a reset; otherwise the
    /// kernel would hold it for a peer that may never read.
    pub fn abort(&self) {
        let now = Some(std::time::Duration::ZERO);
        let _ = match self {
            Self::Tcp(s) => socket2::SockRef::from(s).set_linger(now),
            Self::Unix(_) => Ok(()),
        };
    }

    /// The socket itself, which no runtime knows any more.
    ///
    /// # Errors
    /// When the runtime cannot let go of it.
    pub fn into_socket(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(s) => s.into_std().map(OwnedFd::from),
            Self::Unix(s) => s.into_std().map(OwnedFd::from),
        }
    }

    /// Sends FIN: no more bytes will come from this side. Errors do not matter, the peer may be gone.
    pub fn shutdown_write(&self) {
        let how = std::net::Shutdown::Write;
        let _ = match self {
            Self::Tcp(s) => socket2::SockRef::from(s).shutdown(how),
            Self::Unix(s) => socket2::SockRef::from(s).shutdown(how),
        };
    }
}
