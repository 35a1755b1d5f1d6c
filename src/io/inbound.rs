//! Reading from one socket: through the worker's shared buffer, so that an idle socket holds none; a message that is not
//! whole yet is kept here, a large one is read into a buffer of its own and handed over without a copy.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::{LARGE, Pass, Payload, Stream};

/// Bytes received but not consumed.
#[derive(Debug, Default)]
pub struct Inbound {
    held: BytesMut,
    /// Total length that `held` must reach before parsing it again can succeed, in bytes; 0: not known.
    need: usize,
}

/// The unconsumed bytes while a consumer looks at them.
pub struct Input<'a> {
    source: Source<'a>,
    /// Consumed bytes at the front of the source.
    position: usize,
    need: usize,
}

enum Source<'a> {
    Shared(&'a [u8]),
    Held(&'a mut BytesMut),
}

impl Input<'_> {
    /// What is not consumed yet.
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Shared(b) => &b[self.position..],
            Source::Held(b) => &b[self.position..],
        }
    }

    /// Consumes the first `n` bytes.
    pub fn skip(&mut self, n: usize) {
        self.position += n;
    }

    /// Consumes the first `n` bytes and returns them, by reference when they are many and lie in a buffer of their own.
    pub fn take(&mut self, n: usize) -> Payload<'_> {
        let start = self.position;
        match &mut self.source {
            Source::Held(held) if n >= LARGE => {
                held.advance(start);
                self.position = 0;
                Payload::Owned(held.split_to(n).freeze())
            }
            Source::Held(held) => {
                self.position += n;
                Payload::Borrowed(&held[start..start + n])
            }
            Source::Shared(bytes) => {
                self.position += n;
                Payload::Borrowed(&bytes[start..start + n])
            }
        }
    }

    /// Says that the bytes at hand are no whole message: `need` bytes, counted from the first unconsumed one, are.
    pub fn incomplete(&mut self, need: usize) {
        self.need = need;
    }
}

impl Inbound {
    /// Bytes received but not consumed.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The bytes received but not consumed.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Takes these bytes for received, as long as there are no others; [`Inbound::resume`] looks at them.
    pub fn hold(&mut self, bytes: &[u8]) {
        debug_assert!(self.held.is_empty());
        self.held.extend_from_slice(bytes);
    }

    /// Reads once and lets `consume` take what it can; returns the number of bytes read, 0 at the end of the stream.
    ///
    /// # Errors
    /// Of the socket.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        pass: &Pass,
        consume: impl FnOnce(&mut Input<'_>),
    ) -> Poll<io::Result<usize>> {
        if self.need > LARGE || self.held.len() > LARGE {
            return self.poll_read_held(cx, stream, consume);
        }
        let shared = &mut *pass.read_buffer();
        let kept = self.held.len();
        shared[..kept].copy_from_slice(&self.held);
        let mut buf = ReadBuf::new(&mut shared[kept..]);
        ready!(stream.poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        if n > 0 && kept + n >= self.need {
            let mut input = Input { source: Source::Shared(&shared[..kept + n]), position: 0, need: 0 };
            consume(&mut input);
            let (position, need) = (input.position, input.need);
            self.keep(&shared[position..kept + n], need);
        } else {
            self.held.extend_from_slice(&shared[kept..kept + n]);
        }
        Poll::Ready(Ok(n))
    }

    fn poll_read_held(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        consume: impl FnOnce(&mut Input<'_>),
    ) -> Poll<io::Result<usize>> {
        let len = self.held.len();
        // Exactly the one message when its length is known, so that it can be handed over whole; but never more than
        // has already come (at least 1 MiB): an announced length alone must not claim memory.
        let missing = self.need.saturating_sub(len).max(1);
        self.held.reserve(missing.min(len.max(1 << 20)));
        let room = self.held.spare_capacity_mut();
        let most = room.len().min(missing.max(LARGE));
        let mut buf = ReadBuf::uninit(&mut room[..most]);
        ready!(stream.poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        // SAFETY: `ReadBuf` vouches that the first `n` bytes of the spare capacity are initialised.
        unsafe { self.held.set_len(len + n) };
        if n > 0 && len + n >= self.need {
            self.resume(consume);
        }
        Poll::Ready(Ok(n))
    }

    /// Lets `consume` look at the held bytes again without reading.
    pub fn resume(&mut self, consume: impl FnOnce(&mut Input<'_>)) {
        let mut input = Input { source: Source::Held(&mut self.held), position: 0, need: 0 };
        consume(&mut input);
        let (position, need) = (input.position, input.need);
        self.need = need;
        self.held.advance(position);
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    fn keep(&mut self, rest: &[u8], need: usize) {
        self.need = need;
        if rest.is_empty() {
            if !self.held.is_empty() {
                self.held = BytesMut::new();
            }
        } else {
            self.held.clear();
            self.held.extend_from_slice(rest);
        }
    }
}

#[cfg(test)]
mod tests;
