//! Towards the servers: pipelined connections, each with its queue of unanswered requests.
//!
//! A request is appended to a connection's out buffer and to its in-flight queue in one step, so the queue and the byte
//! stream can never disagree; replies are matched by position alone ([`in_flight`] states the invariant).

mod connect;
mod connection;
mod dedicated;
mod facts;
mod failure;
mod in_flight;
mod measure;
mod probe;
mod queues;
mod replay;
mod scripts;
mod signs;
mod wire;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use connection::{Connection, Records};
pub use dedicated::{Answer, Dedicated, Keeper, Tenant, Wait};
pub use facts::{Facts, Said};
pub use failure::{Failure, Lost, Reason};
pub use probe::Probe;
pub use scripts::{LONGEST_BODY, Scripts};

use crate::discovery::Host;
use crate::io::Payload;
use crate::protocol::redis::Version;
use crate::protocol::{Limits, memcached, redis};

/// Which request of a requester a reply belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The request's number in its session, counted from 0.
    pub sequence: u64,
    /// The fragment of a multi-key request; 0 for a request sent whole.
    pub part: u32,
}

/// Whoever sent a request and is owed its reply. Exactly one of these is called, once, for every request sent.
pub trait Requester {
    /// The server's reply.
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>);
    /// There is no reply, and why.
    fn fail(self: Rc<Self>, ticket: Ticket, failure: &Failure<'_>);
    /// In place of a reply, for an EVALSHA of a script that the server should have and has not: the request, and what the
    /// server said.
    fn no_script(self: Rc<Self>, ticket: Ticket, _request: Lost, payload: Payload<'_>) {
        self.reply(ticket, payload);
    }
}

/// What the whole process thinks of one server. Every connection to it tells what it sees, and asks.
pub trait ServerHealth {
    /// A connection was lost or not made, a request timed out, or the server said that it is not ready. `begun`: when what
    /// failed began; `what`: the event in a few words, for the log.
    fn failed(&self, begun: Instant, reason: &Reason, what: &'static str);
    /// A good reply came.
    fn answered(&self);
    /// The server is to get no traffic now.
    fn is_ejected(&self) -> bool;
    /// Some more failures and the server is ejected: requests that can wait had better wait for that.
    fn may_be_ejected(&self) -> bool;
    /// Grows each time the server has come back from failing.
    fn recoveries(&self) -> u64;
    /// Whether one more request may be sent a second time; if so it is counted.
    fn may_repeat(&self) -> bool;
}

/// A request on its way to a connection.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub ticket: Ticket,
    pub expect: Expect,
    /// Sending it twice does no harm.
    pub repeatable: bool,
    pub time: Time,
    /// How often it was sent before.
    pub attempts: u8,
    /// It is an EVALSHA of a script that the server has; if it has not after all, [`Requester::no_script`] is called.
    pub script: bool,
}

/// How long a request may take, from queueing to reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// `timeout`.
    Usual,
    /// `slow_timeout`.
    Slow,
    /// What is left of the time it had.
    Until(Option<Instant>),
}

impl Request {
    /// A request that is sent for the first time, and must not be sent twice.
    pub fn once(ticket: Ticket, expect: Expect) -> Self {
        Self { ticket, expect, repeatable: false, time: Time::Usual, attempts: 0, script: false }
    }
}

/// The shape of the reply that a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Resp,
    /// A transaction in one piece: so many replies that only say that it goes on, and that of EXEC. They are one reply.
    Transaction(u32),
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
    /// Asked for with `HELLO 3` after the password, unless it is the one that every connection begins with.
    pub version: Version,
    /// Selected when not 0, after all else.
    pub database: u32,
    /// A client chose the database, not the settings: that the server has none of that number does not make it fail.
    pub chosen: bool,
}

/// What a connection to a server is set up as. A pool has one *usual* variant; others are for the sessions that ask for
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Variant {
    pub version: Version,
    /// As clients number it.
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
    /// The same for slow commands.
    pub slow_timeout: Option<Duration>,
    /// A request that takes at least so long is a slow one; `None`: none is.
    pub slowlog_threshold: Option<Duration>,
    /// Longest wait between two attempts to connect.
    pub max_reconnect_delay: Duration,
    /// First words of error replies that count as failures.
    pub failure_replies: Vec<String>,
    pub limits: Limits,
    /// Most unanswered requests of one connection.
    pub max_requests: usize,
    /// Most unwritten bytes of one connection, before senders must wait.
    pub max_bytes: usize,
}

impl Server {
    /// A link made for the one serves the other as well.
    pub fn leads_to_same(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint && self.login == other.login
    }

    /// Whether a reply says that the server cannot serve now.
    fn is_failure_reply(&self, expect: Expect, reply: &[u8]) -> bool {
        if expect != Expect::Resp || reply.first() != Some(&b'-') || self.failure_replies.is_empty() {
            return false;
        }
        let Some(word) = redis::response::error_word(reply) else { return false };
        self.failure_replies.iter().any(|listed| listed.as_bytes() == word)
    }

    /// The same server for connections of another variant than the pool's usual one, whose database is `usual`.
    pub fn as_variant(&self, usual: u32, variant: Variant) -> Self {
        let Variant { version, database } = variant;
        let chosen = database != usual;
        // In-process servers have one database, whatever its number is to clients.
        let database = if chosen { database } else { self.login.database };
        Self { login: Login { version, database, chosen, ..self.login.clone() }, ..self.clone() }
    }

    fn failure<'a>(&'a self, reason: &'a Reason) -> Failure<'a> {
        Failure { pool: &self.pool, server: &self.name, reason, lost: None }
    }
}
