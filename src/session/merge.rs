//! What puts the fragments of a multi-key request together again.

use bytes::Bytes;

/// What came of one fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The server's reply, whole.
    Reply(Bytes),
    /// An error, a whole message of the client's protocol.
    Error(Bytes),
}

/// Collects the parts of one request and makes one reply of them.
pub trait Merge {
    /// Takes one part; true when it was the last one missing.
    fn accept(&mut self, index: usize, part: Part) -> bool;
    /// Writes the reply. Called once, when all parts are there.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// The parts of a request while they come in.
#[derive(Debug)]
pub struct Parts {
    parts: Vec<Option<Part>>,
    missing: usize,
}

impl Parts {
    pub fn new(count: usize) -> Self {
        Self { parts: vec![None; count], missing: count }
    }

    /// Stores one part; true when none is missing any more.
    pub fn accept(&mut self, index: usize, part: Part) -> bool {
        if let Some(place @ None) = self.parts.get_mut(index) {
            *place = Some(part);
            self.missing -= 1;
        }
        self.missing == 0
    }

    /// All parts in order of their index.
    pub fn iter(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().flatten()
    }
}
