//! The wire protocols, without I/O: bytes in, a value and the number of bytes it took out.

pub mod memcached;
mod outcome;
pub mod redis;

pub use outcome::outcome_of;

/// What a request asks for, told from a copy of it as it was sent to a server, which may lack its end: the name of its
/// command; and to `visit` each key that can be seen, as much of it as there is, with its length.
pub fn glimpse<'a>(request: &'a [u8], visit: impl FnMut(&'a [u8], usize)) -> Option<&'static str> {
    match request.first()? {
        b'*' => redis::glimpse(request, visit),
        _ => memcached::glimpse(request, visit),
    }
}

/// What a parser found at the front of a buffer. Running out of bytes is an outcome, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole message.
    Complete(T),
    /// Not a whole message yet.
    Incomplete {
        /// The least total length, in bytes, that the buffer must reach before another try can succeed; always more
        /// than it holds now. Lets the reader size its buffer and not parse a large message again at every read.
        need: usize,
    },
}

/// Bounds on what one message may announce or contain; exceeding one is an error, never an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest whole request, in bytes.
    pub max_request_bytes: usize,
    /// Largest whole reply of a server, in bytes.
    pub max_response_bytes: usize,
    /// Longest key, in bytes (memcached itself stops at 250 whatever this says).
    pub max_key_bytes: usize,
    /// Most arguments of one request, its name included.
    pub max_arguments: usize,
    /// Longest line: an inline Redis command, a memcached command line. In bytes.
    pub max_line_bytes: usize,
    /// Deepest nesting of aggregates in a reply.
    pub max_nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_bytes: 512 * 1024 * 1024 + 64 * 1024,
            max_response_bytes: 1024 * 1024 * 1024,
            max_key_bytes: 64 * 1024,
            max_arguments: 1024 * 1024,
            max_line_bytes: 64 * 1024,
            max_nesting: 32,
        }
    }
}
