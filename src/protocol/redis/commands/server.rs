//! Rows of the command table: connections, servers, clusters.

use super::FanOut::{Flush, History, Info, Latest, Least, Newest, Same, Sum};
use super::ProxyCommand as P;
use super::Refusal::{Admin, Cluster, Monitor, Replication};
use super::Route::{Debug, FanOut, Key, One, Only, Proxy, Refused};
use super::keys::*;
use super::*;

pub(super) static ROWS: &[Command] = &[
    server("acl", -2, 0, &[], "6.0.0", Proxy(P::AclAlone)).of(ACL_SUB),
    server("bgrewriteaof", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "1.0.0", FanOut(Same)).restricted(),
    server("bgsave", -1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "1.0.0", FanOut(Same)).restricted(),
    server("command", -1, LOADING | STALE, &[], "2.8.13", Proxy(P::Command)).of(COMMAND_SUB).also(C_CONNECTION),
    server("config", -2, 0, &[], "2.0.0", One).of(CONFIG_SUB),
    server("dbsize", 1, READONLY | FAST, &[], "1.0.0", FanOut(Sum)).also(C_KEYSPACE),
    server("debug", -2, OPERATING, &[], "1.0.0", Debug),
    server("failover", -1, ADMIN | NOSCRIPT | STALE, &[], "6.2.0", Only(Replication)).restricted(),
    server("flushall", -1, WRITE, &[], "1.0.0", FanOut(Flush)).restricted().also(C_DANGEROUS | C_KEYSPACE),
    server("flushdb", -1, WRITE, &[], "1.0.0", FanOut(Flush)).restricted().also(C_DANGEROUS | C_KEYSPACE),
    server("info", -1, LOADING | STALE, &[], "1.0.0", FanOut(Info)).also(C_DANGEROUS),
    server("lastsave", 1, LOADING | STALE | FAST, &[], "1.0.0", FanOut(Least)).also(C_ADMIN | C_DANGEROUS),
    server("latency", -2, 0, &[], "2.8.13", One).of(LATENCY_SUB),
    server("lolwut", -1, READONLY | FAST, &[], "5.0.0", One),
    server("memory", -2, 0, &[], "4.0.0", One).of(MEMORY_SUB),
    server("module", -2, 0, &[], "4.0.0", One).of(MODULE_SUB),
    server("monitor", 1, OPERATING, &[], "1.0.0", Refused(Monitor)),
    server("psync", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, &[], "2.8.0", Refused(Replication)),
    server("replconf", -1, OPERATING | ALLOW_BUSY, &[], "3.0.0", Refused(Replication)),
    server("replicaof", 3, ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING, &[], "5.0.0", Only(Replication)).restricted(),
    server("restore-asking", -4, WRITE | DENYOOM | ASKING, &[key(1, REPLACE)], "3.0.0", Refused(Cluster))
        .also(C_DANGEROUS | C_KEYSPACE),
    server("role", 1, SESSION | FAST, &[], "2.8.12", One).also(C_ADMIN | C_DANGEROUS),
    server("save", 1, ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI, &[], "1.0.0", FanOut(Same)).restricted(),
    server("shutdown", -1, OPERATING | NO_MULTI | ALLOW_BUSY, &[], "1.0.0", Only(Admin)).restricted(),
    server("slaveof", 3, ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING, &[], "1.0.0", Only(Replication))
        .restricted()
        .deprecated("5.0.0"),
    server("slowlog", -2, 0, &[], "2.2.12", One).of(SLOWLOG_SUB),
    server("swapdb", 3, WRITE | FAST, &[], "4.0.0", FanOut(Same)).restricted().also(C_DANGEROUS | C_KEYSPACE),
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
    cluster("cluster", -2, 0, &[], "3.0.0", Only(Cluster)).of(CLUSTER_SUB),
    cluster("readonly", 1, LOADING | STALE | FAST, &[], "3.0.0", Proxy(P::Readonly)).also(C_CONNECTION),
    cluster("readwrite", 1, LOADING | STALE | FAST, &[], "3.0.0", Proxy(P::Readwrite)).also(C_CONNECTION),
];

static ACL_SUB: &[Command] = &[
    server("acl|cat", -2, SESSION, &[], "6.0.0", Proxy(P::Acl(AclCommand::Cat))),
    server("acl|deluser", -3, OPERATING, &[], "6.0.0", Proxy(P::Acl(AclCommand::Change))),
    server("acl|dryrun", -4, OPERATING, &[], "7.0.0", Proxy(P::Acl(AclCommand::Dryrun))),
    server("acl|genpass", -2, SESSION, &[], "6.0.0", Proxy(P::Acl(AclCommand::Genpass))),
    server("acl|getuser", 3, OPERATING, &[], "6.0.0", Proxy(P::Acl(AclCommand::Getuser))),
    server("acl|help", 2, LOADING | STALE, &[], "6.0.0", Proxy(P::Acl(AclCommand::Help))),
    server("acl|list", 2, OPERATING, &[], "6.0.0", Proxy(P::Acl(AclCommand::List))),
    server("acl|load", 2, OPERATING, &[], "6.0.0", Proxy(P::Acl(AclCommand::Change))),
    server("acl|log", -2, OPERATING, &[], "6.0.0", Proxy(P::Acl(AclCommand::Log))),
    server("acl|save", 2, OPERATING, &[], "6.0.0", Proxy(P::Acl(AclCommand::Change))),
    server("acl|setuser", -3, OPERATING, &[], "6.0.0", Proxy(P::Acl(AclCommand::Change))),
    server("acl|users", 2, OPERATING, &[], "6.0.0", Proxy(P::Acl(AclCommand::Users))),
    server("acl|whoami", 2, SESSION, &[], "6.0.0", Proxy(P::Acl(AclCommand::Whoami))),
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
    server("config|get", -3, OPERATING, &[], "2.0.0", One),
    server("config|help", 2, LOADING | STALE, &[], "5.0.0", One),
    server("config|resetstat", 2, OPERATING, &[], "2.0.0", FanOut(Same)).restricted(),
    server("config|rewrite", 2, OPERATING, &[], "2.8.0", FanOut(Same)).restricted(),
    server("config|set", -4, OPERATING, &[], "2.0.0", FanOut(Same)).restricted(),
];

static LATENCY_SUB: &[Command] = &[
    server("latency|doctor", 2, OPERATING, &[], "2.8.13", Only(Admin)),
    server("latency|graph", 3, OPERATING, &[], "2.8.13", Only(Admin)),
    server("latency|help", 2, LOADING | STALE, &[], "2.8.13", One),
    server("latency|histogram", -2, OPERATING, &[], "7.0.0", Only(Admin)),
    server("latency|history", 3, OPERATING, &[], "2.8.13", FanOut(History)),
    server("latency|latest", 2, OPERATING, &[], "2.8.13", FanOut(Latest)),
    server("latency|reset", -2, OPERATING, &[], "2.8.13", FanOut(Sum)).restricted(),
];

static MEMORY_SUB: &[Command] = &[
    server("memory|doctor", 2, 0, &[], "4.0.0", Only(Admin)),
    server("memory|help", 2, LOADING | STALE, &[], "4.0.0", One),
    server("memory|malloc-stats", 2, 0, &[], "4.0.0", Only(Admin)),
    server("memory|purge", 2, 0, &[], "4.0.0", FanOut(Same)),
    server("memory|stats", 2, 0, &[], "4.0.0", Only(Admin)),
    server("memory|usage", -3, READONLY, &[key(2, RO)], "4.0.0", Key),
];

static MODULE_SUB: &[Command] = &[
    server("module|help", 2, LOADING | STALE, &[], "5.0.0", One),
    server("module|list", 2, ADMIN | NOSCRIPT, &[], "4.0.0", One),
    server("module|load", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "4.0.0", Only(Admin)).restricted(),
    server("module|loadex", -3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "7.0.0", Only(Admin)).restricted(),
    server("module|unload", 3, ADMIN | NOSCRIPT | NO_ASYNC_LOADING, &[], "4.0.0", Only(Admin)).restricted(),
];

static SLOWLOG_SUB: &[Command] = &[
    server("slowlog|get", -2, ADMIN | LOADING | STALE, &[], "2.2.12", FanOut(Newest)),
    server("slowlog|help", 2, LOADING | STALE, &[], "6.2.0", One),
    server("slowlog|len", 2, ADMIN | LOADING | STALE, &[], "2.2.12", FanOut(Sum)),
    server("slowlog|reset", 2, ADMIN | LOADING | STALE, &[], "2.2.12", FanOut(Same)).restricted(),
];

static CLIENT_SUB: &[Command] = &[
    connection("client|caching", 3, SESSION, &[], "6.0.0", Proxy(P::Clients(ClientCommand::Caching))),
    connection("client|getname", 2, SESSION, &[], "2.6.9", Proxy(P::ClientGetname)),
    connection("client|getredir", 2, SESSION, &[], "6.0.0", Proxy(P::Clients(ClientCommand::Getredir))),
    connection("client|help", 2, LOADING | STALE, &[], "5.0.0", Proxy(P::ClientHelp)),
    connection("client|id", 2, SESSION, &[], "5.0.0", Proxy(P::ClientId)),
    connection("client|info", 2, SESSION, &[], "6.2.0", Proxy(P::ClientInfo)),
    connection("client|kill", -3, OPERATING, &[], "2.4.0", Proxy(P::Clients(ClientCommand::Kill))),
    connection("client|list", -2, OPERATING, &[], "2.4.0", Proxy(P::Clients(ClientCommand::List))),
    connection("client|no-evict", 3, OPERATING, &[], "7.0.0", Proxy(P::ClientNoEvict)),
    connection("client|no-touch", 3, SESSION, &[], "7.2.0", Proxy(P::ClientNoTouch)),
    connection("client|pause", -3, OPERATING, &[], "2.9.50", Proxy(P::Clients(ClientCommand::Pause))),
    connection("client|reply", 3, SESSION, &[], "3.2.0", Proxy(P::ClientReply)),
    connection("client|setinfo", 4, SESSION, &[], "7.2.0", Proxy(P::ClientSetinfo)),
    connection("client|setname", 3, SESSION, &[], "2.6.9", Proxy(P::ClientSetname)),
    connection("client|tracking", -3, SESSION, &[], "6.0.0", Proxy(P::Clients(ClientCommand::Tracking))),
    connection("client|trackinginfo", 2, SESSION, &[], "6.2.0", Proxy(P::Clients(ClientCommand::Trackinginfo))),
    connection("client|unblock", -3, OPERATING, &[], "5.0.0", Proxy(P::Clients(ClientCommand::Unblock))),
    connection("client|unpause", 2, OPERATING, &[], "6.2.0", Proxy(P::Clients(ClientCommand::Unpause))),
];

static CLUSTER_SUB: &[Command] = &[
    cluster("cluster|addslots", -3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|addslotsrange", -4, ADMIN | STALE | NO_ASYNC_LOADING, &[], "7.0.0", Only(Cluster)).restricted(),
    cluster("cluster|bumpepoch", 2, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|count-failure-reports", 3, ADMIN | STALE, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|countkeysinslot", 3, STALE, &[], "3.0.0", Only(Cluster)),
    cluster("cluster|delslots", -3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|delslotsrange", -4, ADMIN | STALE | NO_ASYNC_LOADING, &[], "7.0.0", Only(Cluster)).restricted(),
    cluster("cluster|failover", -2, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|flushslots", 2, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|forget", 3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|getkeysinslot", 4, STALE, &[], "3.0.0", Only(Cluster)),
    cluster("cluster|help", 2, LOADING | STALE, &[], "5.0.0", Only(Cluster)),
    cluster("cluster|info", 2, STALE, &[], "3.0.0", Only(Cluster)),
    cluster("cluster|keyslot", 3, STALE, &[], "3.0.0", Only(Cluster)),
    cluster("cluster|links", 2, STALE, &[], "7.0.0", Only(Cluster)),
    cluster("cluster|meet", -4, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|myid", 2, STALE, &[], "3.0.0", Only(Cluster)),
    cluster("cluster|myshardid", 2, STALE, &[], "7.2.0", Only(Cluster)),
    cluster("cluster|nodes", 2, STALE, &[], "3.0.0", Only(Cluster)),
    cluster("cluster|replicas", 3, ADMIN | STALE, &[], "5.0.0", Only(Cluster)).restricted(),
    cluster("cluster|replicate", 3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|reset", -2, ADMIN | NOSCRIPT | STALE, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|saveconfig", 2, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|set-config-epoch", 3, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|setslot", -4, ADMIN | STALE | NO_ASYNC_LOADING, &[], "3.0.0", Only(Cluster)).restricted(),
    cluster("cluster|shards", 2, STALE, &[], "7.0.0", Only(Cluster)),
    cluster("cluster|slaves", 3, ADMIN | STALE, &[], "3.0.0", Only(Cluster)).restricted().deprecated("5.0.0"),
    cluster("cluster|slots", 2, STALE, &[], "3.0.0", Only(Cluster)).deprecated("7.0.0"),
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
