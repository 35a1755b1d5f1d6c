//! What the proxy does with a command: the column of the table that is its own.

/// The way of a command through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To the server of its one key, as it came.
    Key,
    /// To the server of its keys, as it came; refused if they are on several.
    Keys,
    /// In fragments to the servers of its keys, whose replies are merged.
    Split(Split),
    /// Answered by the proxy.
    Proxy(ProxyCommand),
    /// Not offered; the connection lives.
    Refused(Refusal),
}

/// How a command is cut by key, and its replies put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Every argument a key; the reply has an element for each, in request order.
    Mget,
    /// Keys and values in turn; the reply is OK.
    Mset,
    /// Every argument a key; the reply is a number, the sum over the fragments.
    Sum,
}

/// The commands that the proxy answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyCommand {
    Ping,
    Echo,
    Quit,
    Time,
    Auth,
    Select,
    Reset,
    Hello,
    /// COMMAND and all of its subcommands: see `introspect`.
    Command,
    /// CLIENT without a subcommand; its arity refuses that.
    Client,
    ClientGetname,
    ClientHelp,
    ClientId,
    ClientInfo,
    ClientNoEvict,
    ClientNoTouch,
    ClientReply,
    ClientSetinfo,
    ClientSetname,
    Info,
    Readonly,
    Readwrite,
}

/// Why a command that Redis has is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// MULTI and what belongs to it.
    Transaction,
    /// It waits for something to happen.
    Blocking,
    /// Subscriptions and messages.
    PubSub,
    /// Only all servers together have the answer.
    FanOut,
    /// It is for operators of a server.
    Admin,
    /// It loads or manages scripts, or runs one without keys.
    Scripting,
    /// It is for replicas, or about them.
    Replication,
    /// Redis Cluster; the servers of a pool are none.
    Cluster,
    /// It leaves the pool's database.
    Database,
    /// It is about a client's connection to the server, which sessions share.
    Connection,
    /// Any server could answer, no key says which.
    Keyless,
}

impl Refusal {
    /// The reason as it stands in the error that the client gets.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Transaction => "a transaction needs a connection of its own",
            Self::Blocking => "a blocking command needs a connection of its own",
            Self::PubSub => "pub/sub needs a connection of its own",
            Self::FanOut => "it concerns all servers of the pool, not those of some keys",
            Self::Admin => "it is for the operators of one server, ask that server itself",
            Self::Scripting => "scripts are only run by the keys they name, not loaded, listed or run without keys",
            Self::Replication => "replication is between servers",
            Self::Cluster => "the servers of a pool are not a Redis Cluster",
            Self::Database => "a pool has one database",
            Self::Connection => "it concerns a connection to a server, and sessions share those",
            Self::Keyless => "no key says which server to ask",
        }
    }
}
