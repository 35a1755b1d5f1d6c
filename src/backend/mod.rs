//! Towards the servers: pipelined connections, each with its queue of unanswered requests.
//!
//! A request is appended to a connection's out buffer and to its in-flight queue in one step, so the queue and the byte
//! stream can never disagree; replies are matched by position alone ([`in_flight`] states the invariant).

mod connect;
mod connection;
mod failure;
mod in_flight;
mod measure;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub use connection::Connection;
pub use failure::{Failure, Reason};

use crate::discovery::Host;
use crate::io::Payload;
use crate::protocol::Limits;
use crate::protocol::memcached;

/// Which request of a requester a reply belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The request's number in its session, counted from 0.
    pub sequence: u64,
    /// The fragment of a multi-key request; 0 for a request sent whole.
    pub part: u32,
}

/// Whoever sent a request and is owed its reply. Exactly one of the two is called, once, for every request sent.
pub trait Requester {
    /// The server's reply.
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>);
    /// There is no reply, and why.
    fn fail(self: Rc<Self>, ticket: Ticket, failure: &Failure<'_>);
}

/// The shape of the reply that a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Resp,
    Memcached(memcached::Expect),
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(Host),
    Unix(PathBuf),
}

/// What a connection sends before anything else, and must see accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    pub username: Option<String>,
    pub password: Option<String>,
    /// Selected when not 0, after the password.
    pub database: u32,
}

/// A server as its connections see it. Equal descriptions mean interchangeable connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The pool's name, for messages.
    pub pool: String,
    /// The ring name, for messages.
    pub name: String,
    pub endpoint: Endpoint,
    pub login: Login,
    /// `None`: wait for ever.
    pub connect_timeout: Option<Duration>,
    /// From queueing to reply; `None`: wait for ever.
    pub timeout: Option<Duration>,
    pub limits: Limits,
    /// Most unanswered requests of one connection.
    pub max_requests: usize,
    /// Most unwritten bytes of one connection, before senders must wait.
    pub max_bytes: usize,
}
