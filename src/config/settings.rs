//! The validated settings: what the rest of the program sees. Never the shape of the file.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::users::User;
use crate::hash::{HashTag, KeyHash};
use crate::protocol::Limits;
use crate::protocol::redis::commands::keys::{CHANGE, READ, range};
use crate::protocol::redis::commands::learnt::Description;
use crate::protocol::redis::commands::{READONLY, WRITE};
use crate::ring::{Distribution, RingServer};
use crate::telemetry::ObserveSettings;

/// One whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Data threads; `None`: as many as there are usable cores.
    pub workers: Option<usize>,
    /// Where twemproxy's JSON statistics are served, as `host:port`; `None`: nowhere.
    pub stats_listen: Option<String>,
    pub admin: AdminSettings,
    /// The name server that server names are looked up at; `None`: the system's.
    pub resolver: Option<SocketAddr>,
    pub log: LogSettings,
    /// What is told of requests and keys.
    pub observe: ObserveSettings,
    /// How long SIGTERM waits for what is in flight.
    pub drain_timeout: Duration,
    /// How long SIGTERM goes on accepting clients before anything ends, so that those who route clients here can see it
    /// coming.
    pub pre_stop_delay: Duration,
    /// Bounds of single messages.
    pub limits: Limits,
    /// Bounds of one session and one connection.
    pub session_limits: SessionLimits,
    /// In twemproxy's order: by length of the name, then by its bytes.
    pub pools: Vec<PoolSettings>,
}

/// The admin port: HTTP for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// `None`: nowhere.
    pub listen: Option<ListenAddress>,
    /// The file names the address. What nobody asked for is done without if it is taken.
    pub asked_for: bool,
    /// What clients must send as `Authorization: Bearer`; `None`: nothing.
    pub token: Option<Secret>,
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
    /// Bytes that the whole process may hold for clients and servers (default 256 MiB).
    pub max_buffered_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Redis,
    Memcached,
}

/// One pool, every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub health: HealthSettings,
    /// As `timeout`, for commands that may work long on one request; `None`: no limit.
    pub slow_timeout: Option<Duration>,
    /// A request that takes at least so long, from queueing to reply, is a slow one; `None`: none is.
    pub slowlog_threshold: Option<Duration>,
    /// Requests that may be sent a second time after a lost connection, per hundred requests; 0: none.
    pub retry_budget_percent: u8,
    /// Longest wait between two attempts to connect to a server that cannot be connected to.
    pub max_reconnect_delay: Duration,
    /// A client that takes not a byte of what it is owed for so long is cut; `None`: never.
    pub client_write_timeout: Option<Duration>,
    /// A client that neither asks nor is owed anything for so long is closed; `None`: never.
    pub client_idle_timeout: Option<Duration>,
    /// Connections per server and worker; at least 1.
    pub server_connections: usize,
    /// Most dedicated connections per server and worker, in use and idle; at least 1.
    pub dedicated_connections: usize,
    /// Of those, most that are kept while nobody uses them.
    pub idle_dedicated_connections: usize,
    /// What servers are sent and what clients must send.
    pub redis_auth: Option<Credentials>,
    /// Where sessions begin.
    pub redis_db: u32,
    /// Clients may select databases from 0 up to, and without, this one; `None`: `redis_db` only.
    pub databases: Option<u32>,
    /// Who may log in, and what each may do; `None`: whoever knows the password of `redis_auth`, and everything.
    pub users: Option<Vec<Arc<User>>>,
    /// Commands that can destroy what others rely on are passed on.
    pub allow_admin_commands: bool,
    /// The server that is asked what has no key, by its ring name; `None`: the first that takes traffic.
    pub keyless_server: Option<String>,
    /// Commands that Outrigger does not know, by name.
    pub commands: Vec<CommandSettings>,
    /// Scripts that are remembered, in bytes; 0: none.
    pub script_memory: u64,
    /// Memory of each in-process `local` server, in bytes.
    pub local_memory: u64,
    /// In ring order (twemproxy's): by length of the ring name, then by its bytes. Never empty.
    pub servers: Vec<ServerSettings>,
}

/// When a server leaves the ring, what becomes of its keys meanwhile, and how it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    /// `auto_eject_hosts`: failing servers are ejected, and servers are probed. Without it the rest is unused.
    pub eject: bool,
    /// `server_failure_limit`: failures in a row that eject a server; at least 1.
    pub failure_limit: u32,
    /// `server_retry_timeout`: how long an ejected server stays off the ring at the least.
    pub retry_timeout: Duration,
    /// First words of Redis error replies that count as failures, in upper case.
    pub failure_replies: Vec<String>,
    /// Most ejected servers at a time, per hundred of the pool's.
    pub max_ejected_percent: u8,
    pub on_ejected: OnEjected,
    /// Longest time to live that a key gets in the pool that stands in, in whole seconds.
    pub gutter_ttl: Duration,
    pub on_readmit: OnReadmit,
    pub probe_interval: Duration,
    pub probe_timeout: Duration,
    /// Good probes in a row that an ejected server must show; at least 1.
    pub probe_successes: u32,
    /// How long the share of a returning server grows; zero: it has all of it at once.
    pub slow_start: Duration,
}

/// What becomes of the keys of an ejected server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEjected {
    /// The servers that are left share them, as in twemproxy.
    Rehash,
    /// An error at once.
    FailFast,
    /// Reads find nothing, writes are errors.
    Miss,
    /// Another pool stands in: its index in the settings. Of the same protocol, and itself without a stand-in.
    Pool(usize),
}

/// What becomes of what a server held when it was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReadmit {
    /// It is served again, although newer values may have been written elsewhere meanwhile.
    Keep,
    /// The server is emptied before it returns.
    Flush,
    /// The server must have been healthy for so long before it returns, so that what it held has expired.
    Quarantine(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// Host (name or address, IPv6 without brackets) and port.
    Tcp { host: String, port: u16 },
    /// Path and, if given, the permission bits set after bind.
    Unix { path: PathBuf, mode: Option<u32> },
}

/// What the file says about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// In lower case.
    pub name: String,
    /// Places of the first and the last key, the last counted from the end if negative, and the step from one to the next;
    /// `None`: there are no keys.
    pub keys: Option<(i16, i16, u16)>,
    /// It changes something.
    pub write: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// The ring name: given, or derived from the address as twemproxy does it.
    pub name: String,
    pub address: ServerAddress,
    /// At least 1.
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

    /// Whether clients may work in this database.
    pub fn serves_database(&self, number: u32) -> bool {
        number == self.redis_db || self.databases.is_some_and(|databases| number < databases)
    }

    /// The databases besides `redis_db` that clients may work in.
    pub fn other_databases(&self) -> impl Iterator<Item = u32> {
        (0..self.databases.unwrap_or(0)).filter(|number| *number != self.redis_db)
    }
}

impl CommandSettings {
    /// As a server would describe it.
    pub fn description(&self) -> Description {
        let (flags, does) = if self.write { (WRITE, CHANGE) } else { (READONLY, READ) };
        let spec = |(first, last, step)| range(first, if last < 0 { last } else { last - first }, step, does);
        Description {
            name: self.name.clone(),
            arity: -1,
            flags,
            categories: 0,
            key_specs: self.keys.map(spec).into_iter().collect(),
            more_keys: false,
            subcommands: Vec::new(),
        }
    }
}

impl PoolSettings {
    /// The index of the pool that takes the keys of ejected servers.
    pub fn stand_in(&self) -> Option<usize> {
        match self.health.on_ejected {
            OnEjected::Pool(index) if self.health.eject => Some(index),
            _ => None,
        }
    }
}

impl AdminSettings {
    /// Others than those who work on this machine can come to it.
    pub fn reaches_beyond_this_machine(&self) -> bool {
        match &self.listen {
            Some(ListenAddress::Tcp { host, .. }) => {
                host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
            Some(ListenAddress::Unix { .. }) | None => false,
        }
    }
}

impl Secret {
    /// Whether this is it. It takes as long for a near miss as for any other, so that it cannot be guessed byte by byte.
    pub fn is(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differences = own.iter().enumerate().fold(0, |d, (at, own)| d | (own ^ given.get(at).unwrap_or(&!own)));
        std::hint::black_box(differences) == 0 && own.len() == given.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ListenAddress {
    /// As it stands in a file.
    pub fn parse(text: &str) -> Option<Self> {
        super::address::listen(text)
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
