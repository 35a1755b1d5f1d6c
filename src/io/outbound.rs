//! The bytes that wait to be written to one socket: small messages copied together, large ones by reference.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};

use super::pass::KEEP_BUFFER;
use super::{LARGE, Pass, Stream};

/// One message, or one piece of it, on its way from one socket to another.
#[derive(Debug)]
pub enum Payload<'a> {
    /// Lies in a read buffer; to be copied by whoever keeps it.
    Borrowed(&'a [u8]),
    /// Large: handed over without a copy.
    Owned(Bytes),
}

impl Payload<'_> {
    /// The bytes, wherever they lie.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(b) => b,
            Self::Owned(b) => b,
        }
    }

    /// The bytes as a value of its own; copies what is borrowed.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(b) => Bytes::copy_from_slice(b),
            Self::Owned(b) => b,
        }
    }
}

/// What one `writev` takes at the most.
const SLICES: usize = 32;
/// The written front of `tail` is cut off when it is longer than this, in bytes, and longer than the rest.
const TAIL_SLACK: usize = 64 * 1024;

/// An out buffer. Order of the bytes: `queued`, then `tail`; `sent` bytes of whichever is first are already written.
///
/// Invariant: `sent` counts into `tail` only while `queued` is empty (a queued piece is advanced in place).
#[derive(Debug, Default)]
pub struct Outbound {
    queued: VecDeque<Bytes>,
    queued_len: usize,
    tail: Vec<u8>,
    sent: usize,
    /// The buffer of the tail stays when it is empty.
    keeps: bool,
}

impl Outbound {
    /// One that keeps its buffer while empty: for the few connections, which soon need it again and need a large one.
    pub fn keeping() -> Self {
        Self { keeps: true, ..Self::default() }
    }

    /// Unwritten bytes.
    pub fn len(&self) -> usize {
        self.queued_len + self.tail.len() - self.sent
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where small messages are appended. The buffer comes from the pass and goes back when all is written.
    pub fn tail(&mut self, pass: &Pass) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = pass.take_buffer();
        }
        &mut self.tail
    }

    /// Appends one message: copied when small, by reference when large.
    pub fn push(&mut self, payload: Payload<'_>, pass: &Pass) {
        match payload {
            Payload::Owned(bytes) if bytes.len() >= LARGE => self.push_large(bytes),
            other => self.tail(pass).extend_from_slice(other.as_slice()),
        }
    }

    fn push_large(&mut self, bytes: Bytes) {
        if self.tail.len() > self.sent {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(self.sent);
            self.queued_len += tail.len();
            self.queued.push_back(tail);
        } else {
            self.tail.clear();
        }
        self.sent = 0;
        self.queued_len += bytes.len();
        self.queued.push_back(bytes);
    }

    /// Writes until nothing is left or `most` bytes are written (`Ok(true)`), or the socket takes no more (`Ok(false)`);
    /// `written` is called with the size of each piece.
    pub fn write_to(
        &mut self,
        stream: &Stream,
        pass: &Pass,
        mut most: usize,
        mut written: impl FnMut(usize),
    ) -> io::Result<bool> {
        while !self.is_empty() && most > 0 {
            let result = if self.queued.is_empty() {
                let rest = &self.tail[self.sent..];
                stream.try_write(&rest[..rest.len().min(most)])
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.fill_slices(&mut slices, most);
                stream.try_write_vectored(&slices[..count])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.advance(n);
                    written(n);
                    most -= n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.is_empty() {
            self.release(pass);
        }
        Ok(true)
    }

    fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES], mut most: usize) -> usize {
        let mut count = 0;
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        for piece in self.queued.iter().map(|b| &b[..]).chain(tail).take(SLICES) {
            let piece = &piece[..piece.len().min(most)];
            most -= piece.len();
            slices[count] = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Drops the first `n` bytes, written or not wanted any more.
    ///
    /// # Panics
    /// In debug builds, when there are fewer.
    pub fn advance(&mut self, mut n: usize) {
        debug_assert!(n <= self.len());
        while let Some(front) = self.queued.front_mut() {
            let step = n.min(front.len());
            front.advance(step);
            self.queued_len -= step;
            n -= step;
            if !front.is_empty() {
                return;
            }
            self.queued.pop_front();
        }
        self.sent += n;
        // A peer that is always a little behind never lets the buffer run empty; it must not grow for ever.
        if self.sent > TAIL_SLACK && self.sent * 2 > self.tail.len() {
            self.tail.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// The beginning of the last `n` bytes: as much as lies together.
    pub fn beginning_of_last(&self, n: usize) -> &[u8] {
        let mut rest = n;
        let tail = self.tail.get(self.sent..).unwrap_or_default();
        for piece in std::iter::once(tail).chain(self.queued.iter().rev().map(|b| &b[..])) {
            match piece.len().checked_sub(rest) {
                Some(start) => return &piece[start..],
                None => rest -= piece.len(),
            }
        }
        &[]
    }

    /// Takes the first `n` bytes, by reference when they are one large message.
    ///
    /// # Panics
    /// In debug builds, when there are fewer.
    pub fn take(&mut self, n: usize) -> Payload<'static> {
        if let Some(front) = self.queued.front_mut()
            && front.len() >= n
        {
            let taken = front.split_to(n);
            self.queued_len -= n;
            if front.is_empty() {
                self.queued.pop_front();
            }
            return Payload::Owned(taken);
        }
        let mut taken = Vec::with_capacity(n);
        for piece in self.queued.iter().map(|b| &b[..]).chain([&self.tail[self.sent..]]) {
            let step = piece.len().min(n - taken.len());
            taken.extend_from_slice(&piece[..step]);
        }
        self.advance(n);
        Payload::Owned(taken.into())
    }

    /// Forgets everything that is not written.
    pub fn clear(&mut self, pass: &Pass) {
        self.queued.clear();
        self.queued_len = 0;
        self.release(pass);
    }

    fn release(&mut self, pass: &Pass) {
        self.sent = 0;
        if self.queued.capacity() > 64 {
            self.queued = VecDeque::new();
        }
        if self.keeps && self.tail.capacity() <= KEEP_BUFFER {
            self.tail.clear();
        } else {
            pass.give_buffer(std::mem::take(&mut self.tail));
        }
    }
}

#[cfg(test)]
impl Outbound {
    /// All unwritten bytes.
    pub fn contents(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self.queued.iter().flat_map(|b| b.to_vec()).collect();
        all.extend_from_slice(&self.tail[self.sent..]);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_small_and_large_pieces_through_partial_writes() {
        let pass = Pass::new();
        let mut out = Outbound::default();
        let mut model = Vec::new();
        let large = Bytes::from(vec![b'L'; LARGE]);
        for round in 0..50u8 {
            let small = vec![round; 100];
            out.push(Payload::Borrowed(&small), &pass);
            model.extend_from_slice(&small);
            if round % 3 == 0 {
                out.push(Payload::Owned(large.clone()), &pass);
                model.extend_from_slice(&large);
            }
            let step = (usize::from(round) * 977).min(model.len());
            out.advance(step);
            model.drain(..step);
            assert_eq!(out.len(), model.len());
            assert_eq!(out.contents(), model);
        }
    }

    #[test]
    fn a_peer_that_is_always_behind_does_not_make_the_buffer_grow() {
        let pass = Pass::new();
        let mut out = Outbound::default();
        out.push(Payload::Borrowed(&[0; 10]), &pass);
        for step in 0..10_000u32 {
            out.push(Payload::Borrowed(&step.to_le_bytes().repeat(250)), &pass);
            out.advance(1000);
            assert_eq!(out.len(), 10);
        }
        assert_eq!(&out.tail[out.sent..][2..], [9_999u32.to_le_bytes(); 2].concat(), "the last ten bytes are left");
        assert!(out.tail.capacity() < 4 * TAIL_SLACK, "{} bytes for 10", out.tail.capacity());
    }

    #[test]
    fn the_beginning_of_a_message_is_found_wherever_it_lies() {
        let pass = Pass::new();
        let mut out = Outbound::default();
        assert_eq!(out.beginning_of_last(1), b"");
        out.push(Payload::Borrowed(b"abc"), &pass);
        assert_eq!((out.beginning_of_last(2), out.beginning_of_last(0)), (&b"bc"[..], &b""[..]));
        out.push(Payload::Owned(Bytes::from(vec![b'L'; LARGE])), &pass);
        assert_eq!(out.beginning_of_last(LARGE), vec![b'L'; LARGE]);
        assert_eq!(out.beginning_of_last(LARGE + 1), b"c", "a message in two pieces");
        out.push(Payload::Borrowed(b"de"), &pass);
        assert_eq!((out.beginning_of_last(2), out.beginning_of_last(LARGE + 5)), (&b"de"[..], &b"abc"[..]));
        out.advance(1);
        assert_eq!(out.beginning_of_last(LARGE + 4), b"bc");
    }

    #[test]
    fn a_buffer_goes_back_to_the_pass_when_all_is_cleared() {
        let pass = Pass::new();
        let mut out = Outbound::default();
        out.push(Payload::Borrowed(b"abc"), &pass);
        out.clear(&pass);
        assert!(out.is_empty());
        assert_eq!(out.tail.capacity(), 0);
        assert!(pass.take_buffer().capacity() > 0);
    }
}
