//! The validated settings: what the rest of the program sees. Never the shape of the file.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::hash::{HashTag, KeyHash};
use crate::protocol::Limits;
use crate::ring::{Distribution, RingServer};

/// One whole configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Data threads; `None`: as many as there are usable cores.
    pub workers: Option<usize>,
    /// Where twemproxy's JSON statistics are served, as `host:port`; `None`: nowhere.
    pub stats_listen: Option<String>,
    pub log: LogSettings,
    /// How long SIGTERM waits for what is in flight.
    pub drain_timeout: Duration,
    /// Bounds of single messages.
    pub limits: Limits,
    /// Bounds of one session and one connection.
    pub session_limits: SessionLimits,
    /// In twemproxy's order: by length of the name, then by its bytes.
    pub pools: Vec<PoolSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// twemproxy's 0 (emergencies only) to 11 (everything); 5, notices, is the default.
    pub level: u8,
    /// `None`: standard error.
    pub file: Option<PathBuf>,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What one client session or one server connection may hold before it is read no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimits {
    /// Unanswered requests of one session (default 1024).
    pub max_session_requests: usize,
    /// Unsent reply bytes of one session (default 1 MiB); a single larger reply is allowed.
    pub max_session_bytes: usize,
    /// Unanswered requests on one server connection (default 8192).
    pub max_connection_requests: usize,
    /// Unsent request bytes on one server connection (default 16 MiB); a single larger request is allowed.
    pub max_connection_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Redis,
    Memcached,
}

/// One pool, every default filled in.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    pub name: String,
    pub listen: ListenAddress,
    pub protocol: Protocol,
    pub hash: KeyHash,
    pub hash_tag: Option<HashTag>,
    pub distribution: Distribution,
    /// From the moment a request is queued for a server to its reply; `None`: no limit.
    pub timeout: Option<Duration>,
    /// For a new server connection, its handshake included; `None`: no limit.
    pub connect_timeout: Option<Duration>,
    /// listen(2).
    pub backlog: u32,
    /// Most client sessions of the pool at a time; `None`: no limit.
    pub client_connections: Option<usize>,
    /// SO_KEEPALIVE on client sockets.
    pub tcpkeepalive: bool,
    /// Connect to every server at start.
    pub preconnect: bool,
    pub auto_eject_hosts: bool,
    pub server_retry_timeout: Duration,
    pub server_failure_limit: u32,
    /// Connections per server and worker; at least 1.
    pub server_connections: usize,
    /// What servers are sent and what clients must send.
    pub redis_auth: Option<Credentials>,
    pub redis_db: u32,
    /// Memory of each in-process `local` server, in bytes.
    pub local_memory: u64,
    /// In ring order (twemproxy's): by length of the ring name, then by its bytes. Never empty.
    pub servers: Vec<ServerSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// Host (name or address, IPv6 without brackets) and port.
    Tcp { host: String, port: u16 },
    /// Path and, if given, the permission bits set after bind.
    Unix { path: PathBuf, mode: Option<u32> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// The ring name: given, or derived from the address as twemproxy does it.
    pub name: String,
    pub address: ServerAddress,
    /// At least 1.
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    Tcp {
        host: String,
        port: u16,
    },
    Unix {
        path: PathBuf,
    },
    /// An in-process server, started by Outrigger itself.
    Local,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// A Redis ACL user; `None`: the default user.
    pub username: Option<String>,
    pub password: Secret,
}

/// A value that no log line and no error may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl PoolSettings {
    /// The servers as a ring is built from them.
    pub fn ring_servers(&self) -> Vec<RingServer<'_>> {
        self.servers.iter().map(|server| RingServer { name: &server.name, weight: server.weight }).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "{}", path.display()),
            Self::Local => f.write_str("local"),
        }
    }
}
