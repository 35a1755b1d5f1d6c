//! What goes along with a client's socket when another process takes its session over: all that the client has said about
//! itself and could tell the difference by. Plain data; fields are added with a default, as the two processes may be of
//! different versions.

use serde::{Deserialize, Serialize};

/// Most bytes of a client's that go along; a session that holds more, a part of a large request, stays until it is whole.
pub const MOST_INPUT: usize = 64 << 10;

/// A client session between two requests: everything taken is answered, and every answer written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Name of its pool.
    pub pool: String,
    /// What `CLIENT ID` answers.
    pub id: u64,
    pub dialect: Dialect,
    /// What has been read and not been taken yet, at most [`MOST_INPUT`] bytes. Travels beside the rest.
    #[serde(skip)]
    pub input: Vec<u8>,
}

/// Per-protocol state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    Redis(Redis),
    Memcached(Memcached),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Redis {
    pub authenticated: bool,
    /// One of the pool's `users`; empty: the one who may do everything, or nobody yet.
    pub user: String,
    /// `CLIENT SETNAME`
    pub name: String,
    /// `CLIENT SETINFO`
    pub library: String,
    pub library_version: String,
    pub replies: Replies,
    /// It speaks RESP3.
    pub resp3: bool,
    /// The database that it has chosen; `None`: the pool's own.
    pub database: Option<u32>,
}

/// `CLIENT REPLY`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replies {
    #[default]
    On,
    Off,
    /// Off for the command after this one, then on.
    SkipNext,
    /// Off for this one command.
    SkipThis,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memcached {
    /// Bytes of a refused data block that are still to come, and to be thrown away.
    pub discard: u64,
}
