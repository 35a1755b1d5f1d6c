//! Rows of the command table: connections, servers, clusters.

use super::ProxyCommand as P;
use super::Refusal::{Admin, Cluster, Connection, Database, FanOut, Keyless, Replication};
use super::Route::{Key, Proxy, Refused};
use super::keys::*;
use super::*;

pub(super) static ROWS: &[Command] = &[
    server("acl", -2, 0, &[], "6.0.0", Refused(Admin)).of(ACL_SUB),
    server("bgrewriteaof", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "1.0.0", Refused(Admin)),
    server("bgsave", -1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "1.0.0", Refused(Admin)),
    server("command", -1, LOADING | STALE, &[], "2.8.13", Proxy(P::Command)).of(COMMAND_SUB).also(C_CONNECTION),
    server("config", -2, 0, &[], "2.0.0", Refused(Admin)).of(CONFIG_SUB),
    server("dbsize", 1, READONLY | FAST, &[], "1.0.0", Refused(FanOut)).also(C_KEYSPACE),
    server("debug", -2, OPERATING, &[], "1.0.0", Refused(Admin)),
    server("failover", -1, ADMIN | NOSCRIPT | STALE, &[], "6.2.0", Refused(Replication)),
    server("flushall", -1, WRITE, &[], "1.0.0", Refused(FanOut)).also(C_DANGEROUS | C_KEYSPACE),
    server("flushdb", -1, WRITE, &[], "1.0.0", Refused(FanOut)).also(C_DANGEROUS | C_KEYSPACE),
    server("info", -1, LOADING | STALE, &[], "1.0.0", Proxy(P::Info)).also(C_DANGEROUS),
    server("lastsave", 1, LOADING | STALE | FAST, &[], "1.0.0", Refused(FanOut)).also(C_ADMIN | C_DANGEROUS),
    server("latency", -2, 0, &[], "2.8.13", Refused(Admin)).of(LATENCY_SUB),
    server("lolwut", -1, READONLY | FAST, &[], "5.0.0", Refused(Keyless)),
    server("memory", -2, 0, &[], "4.0.0", Refused(Admin)).of(MEMORY_SUB),
    server("module", -2, 0, &[], "4.0.0", Refused(Admin)).of(MODULE_SUB),
    server("monitor", 1, OPERATING, &[], "1.0.0", Refused(Admin)),
    server("psync", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, &[], "2.8.0", Refused(Replication)),
    server("replconf", -1, OPERATING | ALLOW_BUSY, &[], "3.0.0", Refused(Replication)),
    server("replicaof", 3, ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING, &[], "5.0.0", Refused(Replication)),
    server("restore-asking", -4, WRITE | DENYOOM | ASKING, &[key(1, REPLACE)], "3.0.0", Refused(Cluster))
        .also(C_DANGEROUS | C_KEYSPACE),
    server("role", 1, SESSION | FAST, &[], "2.8.12", Refused(FanOut)).also(C_ADMIN | C_DANGEROUS),
    server("save", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, &[], "1.0.0", Refused(Admin)),
    server("shutdown", -1, OPERATING | NO_MULTI | ALLOW_BUSY, &[], "1.0.0", Refused(Admin)),
    server("slaveof", 3, ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING, &[], "1.0.0", Refused(Replication))
        .deprecated("5.0.0"),
    server("slowlog", -2, 0, &[], "2.2.12", Refused(Admin)).of(SLOWLOG_SUB),
    server("swapdb", 3, WRITE | FAST, &[], "4.0.0", Refused(Database)).also(C_DANGEROUS | C_KEYSPACE),
    server("sync", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, &[], "1.0.0", Refused(Replication)),
    server("time", 1, LOADING | STALE | FAST, &[], "2.6.0", Proxy(P::Time)),
    connection("auth", -2, SESSION | FAST | NO_AUTH | ALLOW_BUSY, &[], "1.0.0", Proxy(P::Auth)),
    connection("client", -2, 0, &[], "2.4.0", Proxy(P::Client)).of(CLIENT_SUB),
    connection("echo", 2, LOADING | STALE | FAST, &[], "1.0.0", Proxy(P::Echo)),
    connection("hello", -1, SESSION | FAST | NO_AUTH | ALLOW_BUSY, &[], "6.0.0", Proxy(P::Hello)),
    connection("ping", -1, FAST, &[], "1.0.0", Proxy(P::Ping)),
    connection("quit", -1, SESSION | FAST | NO_AUTH | ALLOW_BUSY, &[], "1.0.0", Proxy(P::Quit)),
    connection("reset", 1, SESSION | FAST | NO_AUTH | ALLOW_BUSY, &[], "6.2.0", Proxy(P::Reset)),
    connection("select", 2, LOADING | STALE | FAST, &[], "1.0.0", Proxy(P::Select)),
    cluster("asking", 1, FAST, &[], "3.0.0", Refused(Cluster)).also(C_CONNECTION),
    cluster("cluster", -2, 0, &[], "3.0.0", Refused(Cluster)).of(CLUSTER_SUB),
    cluster("readonly", 1, LOADING | STALE | FAST, &[], "3.0.0", Proxy(P::Readonly)).also(C_CONNECTION),
    cluster("readwrite", 1, LOADING | STALE | FAST, &[], "3.0.0", Proxy(P::Readwrite)).also(C_CONNECTION),
];

static ACL_SUB: &[Command] = &[
    server("acl|cat", -2, SESSION, &[], "6.0.0", Refused(Admin)),
    server("acl|deluser", -3, OPERATING, &[], "6.0.0", Refused(Admin)),
    server("acl|dryrun", -4, OPERATING, &[], "7.0.0", Refused(Admin)),
    server("acl|genpass", -2, SESSION, &[], "6.0.0", Refused(Admin)),
    server("acl|getuser", 3, OPERATING, &[], "6.0.0", Refused(Admin)),
    server("acl|help", 2, LOADING | STALE, &[], "6.0.0", Refused(Admin)),
    server("acl|list", 2, OPERATING, &[], "6.0.0", Refused(Admin)),
    server("acl|load", 2, OPERATING, &[], "6.0.0", Refused(Admin)),
    server("acl|log", -2, OPERATING, &[], "6.0.0", Refused(Admin)),
    server("acl|save", 2, OPERATING, &[], "6.0.0", Refused(Admin)),
    server("acl|setuser", -3, OPERATING, &[], "6.0.0", Refused(Admin)),
    server("acl|users", 2, OPERATING, &[], "6.0.0", Refused(Admin)),
    server("acl|whoami", 2, SESSION, &[], "6.0.0", Refused(Admin)),
];

static COMMAND_SUB: &[Command] = &[
    server("command|count", 2, LOADING | STALE, &[], "2.8.13", Proxy(P::Command)).also(C_CONNECTION),
    server("command|docs", -2, LOADING | STALE, &[], "7.0.0", Proxy(P::Command)).also(C_CONNECTION),
    server("command|getkeys", -4, LOADING | STALE, &[], "2.8.13", Proxy(P::Command)).also(C_CONNECTION),
    server("command|getkeysandflags", -4, LOADING | STALE, &[], "7.0.0", Proxy(P::Command)).also(C_CONNECTION),
    server("command|help", 2, LOADING | STALE, &[], "5.0.0", Proxy(P::Command)).also(C_CONNECTION),
    server("command|info", -2, LOADING | STALE, &[], "2.8.13", Proxy(P::Command)).also(C_CONNECTION),
    server("command|list", -2, LOADING | STALE, &[], "7.0.0", Proxy(P::Command)).also(C_CONNECTION),
];

static CONFIG_SUB: &[Command] = &[
    server("config|get", -3, OPERATING, &[], "2.0.0", Refused(Admin)),
    server("config|help", 2, LOADING | STALE, &[], "5.0.0", Refused(Admin)),
    server("config|resetstat", 2, OPERATING, &[], "2.0.0", Refused(Admin)),
    server("config|rewrite", 2, OPERATING, &[], "2.8.0", Refused(Admin)),
    server("config|set", -4, OPERATING, &[], "2.0.0", Refused(Admin)),
];

static LATENCY_SUB: &[Command] = &[
    server("latency|doctor", 2, OPERATING, &[], "2.8.13", Refused(Admin)),
    server("latency|graph", 3, OPERATING, &[], "2.8.13", Refused(Admin)),
    server("latency|help", 2, LOADING | STALE, &[], "2.8.13", Refused(Admin)),
    server("latency|histogram", -2, OPERATING, &[], "7.0.0", Refused(Admin)),
    server("latency|history", 3, OPERATING, &[], "2.8.13", Refused(Admin)),
    server("latency|latest", 2, OPERATING, &[], "2.8.13", Refused(Admin)),
    server("latency|reset", -2, OPERATING, &[], "2.8.13", Refused(Admin)),
];

static MEMORY_SUB: &[Command] = &[
    server("memory|doctor", 2, 0, &[], "4.0.0", Refused(Admin)),
    server("memory|help", 2, LOADING | STALE, &[], "4.0.0", Refused(Admin)),
    server("memory|malloc-stats", 2, 0, &[], "4.0.0", Refused(Admin)),
    server("memory|purge", 2, 0, &[], "4.0.0", Refused(Admin)),
    server("memory|stats", 2, 0, &[], "4.0.0", Refused(Admin)),
    server("memory|usage", -3, READONLY, &[key(2, RO)], "4.0.0", Key),
];

static MODULE_SUB: &[Command] = &[
    server("module|help", 2, LOADING | STALE, &[], "5.0.0", Refused(Admin)),
    server("module|list", 2, ADMIN | NOSCRIPT, &[], "4.0.0", Refused(Admin)),
    server("module|load", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "4.0.0", Refused(Admin)),
    server("module|loadex", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "7.0.0", Refused(Admin)),
    server("module|unload", 3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "4.0.0", Refused(Admin)),
];

static SLOWLOG_SUB: &[Command] = &[
    server("slowlog|get", -2, ADMIN | LOADING | STALE, &[], "2.2.12", Refused(Admin)),
    server("slowlog|help", 2, LOADING | STALE, &[], "6.2.0", Refused(Admin)),
    server("slowlog|len", 2, ADMIN | LOADING | STALE, &[], "2.2.12", Refused(Admin)),
    server("slowlog|reset", 2, ADMIN | LOADING | STALE, &[], "2.2.12", Refused(Admin)),
];

static CLIENT_SUB: &[Command] = &[
    connection("client|caching", 3, SESSION, &[], "6.0.0", Refused(Connection)),
    connection("client|getname", 2, SESSION, &[], "2.6.9", Proxy(P::ClientGetname)),
    connection("client|getredir", 2, SESSION, &[], "6.0.0", Refused(Connection)),
    connection("client|help", 2, LOADING | STALE, &[], "5.0.0", Proxy(P::ClientHelp)),
    connection("client|id", 2, SESSION, &[], "5.0.0", Proxy(P::ClientId)),
    connection("client|info", 2, SESSION, &[], "6.2.0", Proxy(P::ClientInfo)),
    connection("client|kill", -3, OPERATING, &[], "2.4.0", Refused(Connection)),
    connection("client|list", -2, OPERATING, &[], "2.4.0", Refused(Connection)),
    connection("client|no-evict", 3, OPERATING, &[], "7.0.0", Proxy(P::ClientNoEvict)),
    connection("client|no-touch", 3, SESSION, &[], "7.2.0", Proxy(P::ClientNoTouch)),
    connection("client|pause", -3, OPERATING, &[], "2.9.50", Refused(Connection)),
    connection("client|reply", 3, SESSION, &[], "3.2.0", Proxy(P::ClientReply)),
    connection("client|setinfo", 4, SESSION, &[], "7.2.0", Proxy(P::ClientSetinfo)),
    connection("client|setname", 3, SESSION, &[], "2.6.9", Proxy(P::ClientSetname)),
    connection("client|tracking", -3, SESSION, &[], "6.0.0", Refused(Connection)),
    connection("client|trackinginfo", 2, SESSION, &[], "6.2.0", Refused(Connection)),
    connection("client|unblock", -3, OPERATING, &[], "5.0.0", Refused(Connection)),
    connection("client|unpause", 2, OPERATING, &[], "6.2.0", Refused(Connection)),
];

static CLUSTER_SUB: &[Command] = &[
    cluster("cluster|addslots", -3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|addslotsrange", -4, ADMIN | STALE | NO_ASYNC_LOADING, &[], "7.0.0", Refused(Cluster)),
    cluster("cluster|bumpepoch", 2, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|count-failure-reports", 3, ADMIN | STALE, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|countkeysinslot", 3, STALE, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|delslots", -3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|delslotsrange", -4, ADMIN | STALE | NO_ASYNC_LOADING, &[], "7.0.0", Refused(Cluster)),
    cluster("cluster|failover", -2, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|flushslots", 2, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|forget", 3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|getkeysinslot", 4, STALE, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|help", 2, LOADING | STALE, &[], "5.0.0", Refused(Cluster)),
    cluster("cluster|info", 2, STALE, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|keyslot", 3, STALE, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|links", 2, STALE, &[], "7.0.0", Refused(Cluster)),
    cluster("cluster|meet", -4, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|myid", 2, STALE, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|myshardid", 2, STALE, &[], "7.2.0", Refused(Cluster)),
    cluster("cluster|nodes", 2, STALE, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|replicas", 3, ADMIN | STALE, &[], "5.0.0", Refused(Cluster)),
    cluster("cluster|replicate", 3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|reset", -2, ADMIN | NOSCRIPT | STALE, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|saveconfig", 2, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|set-config-epoch", 3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|setslot", -4, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Refused(Cluster)),
    cluster("cluster|shards", 2, STALE, &[], "7.0.0", Refused(Cluster)),
    cluster("cluster|slaves", 3, ADMIN | STALE, &[], "3.0.0", Refused(Cluster)).deprecated("5.0.0"),
    cluster("cluster|slots", 2, STALE, &[], "3.0.0", Refused(Cluster)).deprecated("7.0.0"),
];

const fn server(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Server, route)
}

const fn connection(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Connection, route)
}

const fn cluster(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Cluster, route)
}
