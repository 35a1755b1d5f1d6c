//! A client's stream of which only so much is read, as pingora itself would keep a megabyte of header.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes and time of what a refused client still sends that are taken in, so that it can read why.
const FAREWELL_BYTES: usize = 256 << 10;
const FAREWELL: Duration = Duration::from_secs(1);

/// What may be read, and what was. Shared by the stream, which the session owns, and whoever drives the session.
#[derive(Debug, Default)]
pub(super) struct Meter {
    left: AtomicUsize,
    read: AtomicUsize,
}

impl Meter {
    /// Another request begins: so many bytes may be read.
    pub fn allow(&self, bytes: usize) {
        self.left.store(bytes, Relaxed);
        self.read.store(0, Relaxed);
    }

    /// More would have come.
    pub fn is_used_up(&self) -> bool {
        self.left.load(Relaxed) == 0
    }

    /// The client has begun to say something.
    pub fn has_begun(&self) -> bool {
        self.read.load(Relaxed) > 0
    }
}

#[derive(Debug)]
pub(super) struct Metered {
    stream: Stream,
    meter: Arc<Meter>,
}

impl Metered {
    pub fn new(stream: Stream) -> (Self, Arc<Meter>) {
        let meter = Arc::<Meter>::default();
        (Self { stream, meter: meter.clone() }, meter)
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.meter.left.load(Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("more than may be read")));
        }
        let wanted = buf.remaining().min(left);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(wanted));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.meter.left.store(left - read, Relaxed);
        self.meter.read.fetch_add(read, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Metered {
    /// Says that nothing more comes, then waits a little until the client has gone: closing a socket that still has
    /// something to read takes the answer away from a client that is still writing.
    async fn shutdown(&mut self) {
        let farewell = async {
            AsyncWriteExt::shutdown(&mut self.stream).await?;
            tokio::io::copy(&mut (&mut self.stream).take(FAREWELL_BYTES as u64), &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

impl UniqueID for Metered {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Metered {}
impl Peek for Metered {}

impl GetTimingDigest for Metered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for Metered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Metered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}
