//! Redis replies, written by `redis-protocol` at the end of the connection's output.

use std::borrow::Cow;

use redis_protocol::resp2::encode::encode_borrowed;
use redis_protocol::resp2::types::BorrowedFrame;

/// The end of a reply buffer.
pub struct Reply<'a>(pub &'a mut Vec<u8>);

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

impl Reply<'_> {
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
        self.frame(&BorrowedFrame::BulkString(bytes));
    }

    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        self.frame(&bytes.map_or(BorrowedFrame::Null, BorrowedFrame::BulkString));
    }

    pub fn bulks_or_nulls(&mut self, elements: &[Option<&[u8]>]) {
        let frames: Vec<_> =
            elements.iter().map(|e| e.map_or(BorrowedFrame::Null, BorrowedFrame::BulkString)).collect();
        self.frame(&BorrowedFrame::Array(&frames));
    }

    pub fn error(&mut self, error: &Error) {
        self.frame(&BorrowedFrame::Error(&error.0));
    }

    fn frame(&mut self, frame: &BorrowedFrame<'_>) {
        let start = self.0.len();
        self.0.resize(start + frame.encode_len(false), 0);
        // There is room: too little of it is all that encoding can fail for.
        let encoded = encode_borrowed(self.0.get_mut(start..).unwrap_or_default(), frame, false);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }
}
