//! Why a request got no reply: reasons are an enum, shared by the errors that clients see, by logs and by counters.

use std::fmt;
use std::io;
use std::time::Instant;

use bytes::Bytes;

use super::Expect;
use crate::telemetry::Trouble;

/// Why a connection could not be made, or ended, or a request went without a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No reply within `timeout`.
    #[error("Connection timed out: no reply within {0} ms")]
    TimedOut(u128),
    /// A request expired, and nothing came for another `timeout`.
    #[error("Connection timed out: not a byte from the server for {0} ms")]
    Silent(u128),
    #[error("Connection timed out: not connected within {0} ms")]
    ConnectTimedOut(u128),
    /// The name has no address.
    #[error("Host is down: {0}")]
    NotResolved(String),
    /// The server refused AUTH, HELLO or SELECT.
    #[error("{command} failed: {error}")]
    Login { command: &'static str, error: String },
    /// The server has not what a client asks for, RESP3 or a database: it refused HELLO or SELECT.
    #[error("{command} failed: {error}")]
    Lacking { command: &'static str, error: String },
    /// The server sent something that is no reply, or one that nothing asked for.
    #[error("Invalid reply: {0}")]
    Protocol(String),
    /// The server closed the connection.
    #[error("Connection closed by the server")]
    Closed,
    /// The server was ejected while requests were with it.
    #[error("Server is ejected")]
    Ejected,
    /// The server says that it cannot serve: the error reply.
    #[error("{0}")]
    NotReady(String),
    /// The server may have taken a data block for commands, or may take what comes for a part of a transaction, so its replies
    /// can no longer be told apart.
    #[error("Connection out of step")]
    OutOfStep,
    /// The server has other addresses now.
    #[error("Server has moved")]
    Moved,
    /// The server is not in the configuration any more.
    #[error("Server was removed from the configuration")]
    Removed,
    /// The connection broke.
    #[error("{0}")]
    Io(String),
    /// The connection could not be made.
    #[error("{0}")]
    NotConnected(String),
    /// This machine, or this process, has run out of something.
    #[error("Proxy cannot connect: {0}")]
    Exhausted(String),
}

impl Reason {
    /// Whether the server is to blame.
    pub fn is_failure(&self) -> bool {
        !matches!(
            self,
            Self::Ejected | Self::OutOfStep | Self::Moved | Self::Removed | Self::Exhausted(_) | Self::Lacking { .. }
        )
    }

    /// What the server refused is what a client asked for, not the settings.
    pub fn lacking(self) -> Self {
        match self {
            Self::Login { command, error } => Self::Lacking { command, error },
            other => other,
        }
    }

    /// The reason of an attempt to connect that failed.
    pub fn of_connecting(self) -> Self {
        match self {
            Self::Io(text) => Self::NotConnected(text),
            other => other,
        }
    }

    /// What it is counted as.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::TimedOut(_) | Self::Silent(_) => Trouble::Timeout,
            Self::ConnectTimedOut(_) | Self::NotConnected(_) => Trouble::ConnectFailed,
            Self::NotResolved(_) => Trouble::NotResolved,
            Self::Login { .. } | Self::Lacking { .. } => Trouble::Login,
            Self::Protocol(_) | Self::OutOfStep => Trouble::ProtocolError,
            Self::Closed | Self::Io(_) => Trouble::ConnectionLost,
            Self::Ejected => Trouble::Ejected,
            Self::NotReady(_) => Trouble::NotReady,
            Self::Moved | Self::Removed => Trouble::Removed,
            Self::Exhausted(_) => Trouble::Exhausted,
        }
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        const EXHAUSTED: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
        if error.raw_os_error().is_some_and(|number| EXHAUSTED.contains(&number)) {
            return Self::Exhausted(error.to_string());
        }
        // The words of strerror(3), which is what twemproxy's users know, without Rust's "(os error 111)".
        let text = match error.kind() {
            io::ErrorKind::ConnectionRefused => "Connection refused".into(),
            io::ErrorKind::ConnectionReset => "Connection reset by peer".into(),
            io::ErrorKind::ConnectionAborted => "Software caused connection abort".into(),
            io::ErrorKind::BrokenPipe => "Broken pipe".into(),
            io::ErrorKind::NotFound => "No such file or directory".into(),
            _ => error.to_string(),
        };
        Self::Io(text)
    }
}

/// A reason with its place.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    pub pool: &'a str,
    pub server: &'a str,
    pub reason: &'a Reason,
    /// `Some`: the request may be sent to another server, if another has its keys now.
    pub lost: Option<&'a Lost>,
}

/// A request that a server was not asked, or can be asked again without harm.
#[derive(Debug, Clone)]
pub struct Lost {
    /// All of it.
    pub bytes: Bytes,
    pub expect: Expect,
    pub repeatable: bool,
    pub attempts: u8,
    pub deadline: Option<Instant>,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pool {}, server {})", self.reason, self.pool, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_not_to_blame_for_what_the_proxy_lacks() {
        let reason = |number| Reason::from(io::Error::from_raw_os_error(number));
        assert!(!reason(libc::EMFILE).is_failure() && !reason(libc::EADDRNOTAVAIL).is_failure());
        assert!(reason(libc::ECONNREFUSED).is_failure() && reason(libc::EHOSTUNREACH).is_failure());
        let text = reason(libc::EMFILE).to_string();
        assert!(text.starts_with("Proxy cannot connect: Too many open files"), "{text}");
    }
}
