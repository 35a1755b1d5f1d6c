//! Copies of the requests in flight: whole ones of those that may be sent a second time, and the beginnings of others,
//! which tell what they ask for. Pure.
//!
//! Invariant: the copies lie in the order of the in-flight queue; an entry's copy is at the front when the entry is.

/// A longer request is not kept, in bytes: a read has a key or some, and little else.
const LONGEST: usize = 4 * 1024;
/// No more is kept for one connection, in bytes.
const MOST: usize = 256 * 1024;
/// The released front is cut off when it is longer than this, in bytes, and longer than the rest.
const SLACK: usize = 16 * 1024;
/// So much is kept of a request that cannot be sent again: more than a command and a key that memcached takes. In bytes.
const BEGINNING: usize = 300;

/// The copies for one connection.
#[derive(Debug, Default)]
pub struct Replay {
    bytes: Vec<u8>,
    /// Released bytes at the front.
    released: usize,
}

impl Replay {
    /// Whether a request of this length would be kept.
    pub fn has_room(&self, length: usize) -> bool {
        length <= LONGEST && self.bytes.len() - self.released + length <= MOST
    }

    /// Appends a copy; returns its length, 0 if there is no room for it.
    pub fn keep(&mut self, request: &[u8]) -> u32 {
        if !self.has_room(request.len()) {
            return 0;
        }
        self.bytes.extend_from_slice(request);
        request.len() as u32
    }

    /// Appends the beginning of a request; returns its length, 0 if there is no room for it. Half of the room is left to
    /// those that may be sent again.
    pub fn keep_beginning(&mut self, request: &[u8]) -> u32 {
        let beginning = &request[..request.len().min(BEGINNING)];
        if self.bytes.len() - self.released > MOST / 2 { 0 } else { self.keep(beginning) }
    }

    /// The copy of this length that so many bytes of others lie before.
    pub fn at(&self, before: usize, length: u32) -> &[u8] {
        let start = self.released + before;
        &self.bytes[start..start + length as usize]
    }

    /// The first `length` bytes: the copy of the oldest request that has one.
    pub fn front(&self, length: u32) -> &[u8] {
        self.at(0, length)
    }

    /// Forgets the first `length` bytes.
    pub fn release(&mut self, length: u32) {
        self.released += length as usize;
        debug_assert!(self.released <= self.bytes.len());
        if self.released == self.bytes.len() {
            self.bytes.clear();
            self.released = 0;
        } else if self.released > SLACK && self.released * 2 > self.bytes.len() {
            self.bytes.drain(..self.released);
            self.released = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn copies_come_back_in_order_and_the_buffer_stays_small() {
        let (mut replay, mut model) = (Replay::default(), VecDeque::new());
        for step in 0..20_000u32 {
            let request = step.to_le_bytes().repeat(1 + step as usize % 60);
            model.push_back((replay.keep(&request), request));
            if model.len() > 20 || step % 7 == 0 {
                let (length, request) = model.pop_front().expect("one was kept");
                assert_eq!(replay.front(length), &request[..]);
                replay.release(length);
            }
        }
        assert!(replay.bytes.capacity() <= 8 * SLACK, "{}", replay.bytes.capacity());
    }

    #[test]
    fn of_what_cannot_be_sent_again_the_beginning_is_kept_while_half_of_the_room_is_free() {
        let mut replay = Replay::default();
        assert_eq!(replay.keep(b"GET a"), 5);
        let long: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        assert_eq!(replay.keep_beginning(&long), BEGINNING as u32);
        assert_eq!((replay.at(0, 5), replay.at(5, BEGINNING as u32)), (&b"GET a"[..], &long[..BEGINNING]));
        let kept = (0..10_000).filter(|_| replay.keep_beginning(&long) > 0).count();
        assert!((kept * BEGINNING).abs_diff(MOST / 2) < 2 * BEGINNING, "{kept}");
        assert_eq!(replay.keep(&long[..LONGEST]), LONGEST as u32);
    }

    #[test]
    fn what_is_long_or_too_much_is_not_kept() {
        let mut replay = Replay::default();
        assert_eq!(replay.keep(&[0; LONGEST + 1]), 0);
        let kept = (0..1000).filter(|_| replay.keep(&[0; LONGEST]) > 0).count();
        assert_eq!(kept, MOST / LONGEST);
        replay.release(LONGEST as u32);
        assert_eq!(replay.keep(&[0; LONGEST]), LONGEST as u32, "there is room again");
    }
}
