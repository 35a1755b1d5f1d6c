//! Redis replies, written by `redis-protocol` at the end of the connection's output.

use std::borrow::Cow;

use redis_protocol::resp2::encode::encode_borrowed;
use redis_protocol::resp2::types::BorrowedFrame;

use crate::protocol::redis::Version;
use crate::protocol::redis::reply::{write_array_header, write_bulk, write_map_header};

/// The end of a reply buffer.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

/// An error reply: the whole line after `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub Cow<'static, str>);

impl From<&'static str> for Error {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// From now on in this version.
    pub fn speak(&mut self, version: Version) {
        self.version = version;
    }

    /// A map; in RESP2 an array. So many keys must follow, each with its value.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => write_array_header(self.out, 2 * pairs),
            Version::Resp3 => write_map_header(self.out, pairs),
        }
    }

    pub fn ok(&mut self) {
        self.status("OK");
    }

    pub fn status(&mut self, text: &str) {
        self.frame(&BorrowedFrame::SimpleString(text.as_bytes()));
    }

    pub fn integer(&mut self, n: i64) {
        self.frame(&BorrowedFrame::Integer(n));
    }

    pub fn bulk(&mut self, bytes: &[u8]) {
        write_bulk(self.out, bytes);
    }

    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.out.extend_from_slice(self.version.null()),
        }
    }

    pub fn bulks_or_nulls(&mut self, elements: &[Option<&[u8]>]) {
        write_array_header(self.out, elements.len());
        elements.iter().for_each(|element| self.bulk_or_null(*element));
    }

    pub fn error(&mut self, error: &Error) {
        self.frame(&BorrowedFrame::Error(&error.0));
    }

    fn frame(&mut self, frame: &BorrowedFrame<'_>) {
        let start = self.out.len();
        self.out.resize(start + frame.encode_len(false), 0);
        // There is room: too little of it is all that encoding can fail for.
        let encoded = encode_borrowed(self.out.get_mut(start..).unwrap_or_default(), frame, false);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }
}
