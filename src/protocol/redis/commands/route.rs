//! What the proxy does with a command: the column of the table that is its own.

/// The way of a command through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To the server of its one key, as it came.
    Key,
    /// To the server of its keys, as it came; refused if they are on several. One that waits there for something to happen
    /// has a connection of its own meanwhile.
    Keys,
    /// In fragments to the servers of its keys, whose replies are merged.
    Split(Split),
    /// As it came to every server of the pool, whose replies are merged.
    FanOut(FanOut),
    /// As it came to one server: any can answer.
    One,
    /// As it came to the only server of a pool; refused where there are several.
    Only(Refusal),
    /// DEBUG: about a key, or about servers.
    Debug,
    /// WAIT and WAITAOF: to every server, on connections of their own; the least is the answer.
    Wait,
    /// Begins, ends or watches over a transaction, on a connection of its own.
    Transaction(TransactionCommand),
    /// To the servers of its channels, on connections of their own; patterns to every server.
    Subscribe(Subscription),
    /// The opposite.
    Unsubscribe(Subscription),
    /// To the server of its channel, as it came.
    Channel,
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

/// How the replies of all servers become one. An error of one server is the error of the whole, unless it says otherwise;
/// so is a server that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FanOut {
    /// The sum of numbers.
    Sum,
    /// The least number.
    Least,
    /// The greatest number.
    Greatest,
    /// The reply of the first server, when all have done it.
    Same,
    /// The same. Also asked are the servers of the pool that stands in that are not away, since the keys of a server that is
    /// ejected will need it there.
    Everywhere,
    /// The same, and those that are away are an error: it would not be true of what they have.
    Flush,
    /// What all servers say; an error if one says something else.
    Equal,
    /// The first reply that is no error. Only if all are errors, or away, the one that says most.
    Any,
    /// Arrays of numbers: of each place the least. That is 1 where it is 1 everywhere.
    All,
    /// All elements of all arrays.
    Concat,
    /// The same, each once.
    Union,
    /// Arrays of names and numbers in turn: the sums by name.
    SumPairs,
    /// Of the elements of all arrays those that are asked for, newest first: SLOWLOG GET.
    Newest,
    /// All elements of all arrays, oldest first: LATENCY HISTORY.
    History,
    /// By event the latest of all servers: LATENCY LATEST.
    Latest,
    /// That of the first server that runs a script, or of the first: FUNCTION STATS.
    Running,
    /// One of the replies that are not null, by chance, the servers in proportion to their keys.
    Random,
    /// One server after the other, by cursor.
    Scan,
    /// INFO: sections with figures that are sums, and figures of one server.
    Info,
}

/// The commands of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionCommand {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// What is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subscription {
    Channels,
    Patterns,
    /// Channels that a Redis Cluster would spread by slot. Here they are channels of a space of their own.
    Shards,
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
    Readonly,
    Readwrite,
    /// CLIENT about all clients of the pool, and about what only a server could do.
    Clients(ClientCommand),
    Acl(AclCommand),
    /// ACL without a subcommand; its arity refuses that.
    AclAlone,
}

/// Some of the subcommands of CLIENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientCommand {
    Caching,
    Getredir,
    Kill,
    List,
    Pause,
    Tracking,
    Trackinginfo,
    Unblock,
    Unpause,
}

/// The subcommands of ACL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AclCommand {
    Cat,
    Dryrun,
    Genpass,
    Getuser,
    Help,
    List,
    Log,
    Users,
    Whoami,
    /// What changes users.
    Change,
}

/// Why a command that Redis has is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is for operators of a server.
    Admin,
    /// It shows every request of a server, those of others too.
    Monitor,
    /// It is for replicas, or about them.
    Replication,
    /// Redis Cluster; the servers of a pool are none.
    Cluster,
    /// It is about a client's connection to the server, which sessions share.
    Connection,
    /// Its keys are where only the server can find them.
    Keys,
}

impl Refusal {
    /// The reason as it stands in the error that the client gets.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Admin => "it is about one server and the pool has several, ask that server itself",
            Self::Monitor => "it would show the requests of all clients, ask a server itself",
            Self::Replication => "replication is between servers",
            Self::Cluster => "the servers of a pool are not a Redis Cluster",
            Self::Connection => "it concerns a connection to a server, and sessions share those",
            Self::Keys => "its keys cannot be told and the pool has several servers, `commands` of the pool can say",
        }
    }
}
