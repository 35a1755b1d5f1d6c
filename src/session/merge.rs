//! What puts the parts of a request to several servers together again.

use bytes::Bytes;

/// What came of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The server's reply, whole.
    Reply(Bytes),
    /// An error, a whole message of the client's protocol.
    Error(Bytes),
}

impl Part {
    /// What came, whatever it is.
    pub fn bytes(&self) -> &Bytes {
        let (Self::Reply(bytes) | Self::Error(bytes)) = self;
        bytes
    }
}

/// Makes one reply of the parts of one request.
pub trait Merge {
    /// Where they are collected.
    fn parts(&mut self) -> &mut Parts;
    /// Writes the reply. Called once, when all parts are there.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// The parts of a request while they come in.
#[derive(Debug)]
pub struct Parts {
    parts: Vec<Option<Part>>,
    missing: usize,
    /// Bytes of those that are kept.
    bytes: usize,
    /// Most bytes that are kept.
    most: usize,
    too_large: bool,
}

impl Parts {
    pub fn new(count: usize) -> Self {
        Self::within(count, usize::MAX)
    }

    /// Keeps no more than `most` bytes: when there are more, none of them.
    pub fn within(count: usize, most: usize) -> Self {
        Self { parts: vec![None; count], missing: count, bytes: 0, most, too_large: false }
    }

    /// Stores one part; true when none is missing any more.
    pub fn accept(&mut self, index: usize, part: Part) -> bool {
        let Some(place @ None) = self.parts.get_mut(index) else { return self.missing == 0 };
        self.missing -= 1;
        self.bytes += part.bytes().len();
        *place = Some(part);
        if self.too_large || self.bytes > self.most {
            self.too_large = true;
            self.bytes = 0;
            self.parts.iter_mut().flatten().for_each(|part| *part = Part::Reply(Bytes::new()));
        }
        self.missing == 0
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// They were more than are kept, and are gone.
    pub fn are_too_large(&self) -> bool {
        self.too_large
    }

    /// All parts in order of their index.
    pub fn iter(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(bytes: usize) -> Part {
        Part::Reply(Bytes::from(vec![b'x'; bytes]))
    }

    #[test]
    fn parts_come_in_any_order_and_each_once() {
        let mut parts = Parts::new(3);
        assert!(!parts.accept(2, reply(2)));
        assert!(!parts.accept(2, reply(9)), "it has come");
        assert!(!parts.accept(7, reply(9)), "there is no such part");
        assert!(!parts.accept(0, Part::Error(Bytes::from_static(b"-ERR"))));
        assert!(parts.accept(1, reply(0)));
        assert_eq!(parts.iter().map(|part| part.bytes().len()).collect::<Vec<_>>(), [4, 0, 2]);
        assert_eq!((parts.bytes(), parts.are_too_large()), (6, false));
    }

    #[test]
    fn more_bytes_than_the_limit_are_let_go_and_all_parts_are_waited_for() {
        let mut parts = Parts::within(3, 10);
        assert!(!parts.accept(0, reply(10)));
        assert!(!parts.are_too_large());
        assert!(!parts.accept(1, reply(1)));
        assert!(parts.are_too_large());
        assert_eq!(parts.bytes(), 0);
        assert!(parts.accept(2, reply(5)));
        assert_eq!((parts.bytes(), parts.iter().map(|part| part.bytes().len()).sum::<usize>()), (0, 0));
    }
}
