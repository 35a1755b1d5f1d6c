//! One pool of the file to its settings, every default filled in.

use std::path::Path;
use std::time::Duration;

use crate::hash::{HashTag, KeyHash};
use crate::ring::Distribution;

use super::Dialect::{self, Outrigger, Twemproxy};
use super::address::{LISTEN_ALLOWED, listen};
use super::auth::credentials;
use super::commands::commands;
use super::fields::{Context, Fields, Places, closest};
use super::health;
use super::report::quoted;
use super::servers::servers;
use super::settings::{PoolSettings, Protocol, ServerAddress, ServerSettings};
use super::traps::{self, Given};
use super::users::users;
use super::value::Value;
use super::yaml::{Kind, Node};

/// twemproxy's numbers are C ints.
pub(super) const INT: std::ops::RangeInclusive<u64> = 0..=i32::MAX as u64;

/// More connections than this to one server help nobody; a nutcracker.yml may ask for them all the same.
const MAX_CONNECTIONS: u64 = 4096;

/// Each that is used takes connections of its own to every server.
const MOST_DATABASES: u64 = 1024;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Of a nutcracker.yml too, which cannot say it: a connect that hangs for ever helps nobody.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Of a nutcracker.yml too: a hundred times what a cache usually takes.
const DEFAULT_SLOW: Duration = Duration::from_millis(100);
const DEFAULT_RECONNECT_DELAY: Duration = Duration::from_secs(1);
const LEAST_RECONNECT_DELAY: Duration = Duration::from_millis(10);
/// Of a nutcracker.yml too: a client that never reads would hold memory for ever.
const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_RETRY_BUDGET: u64 = 10;
/// A client that blocks or subscribes has one for as long as it does, so it is a number of clients; a tenth of the 10,000
/// clients that Redis takes.
const DEFAULT_DEDICATED: u64 = 1000;
/// With fewer than there are transactions at once, each of the others would cost a connect.
const DEFAULT_IDLE: u64 = 256;
/// All of them would be all ports of one address.
const MAX_DEDICATED: u64 = 65536;
const DEFAULT_LOCAL_MEMORY: u64 = 64 << 20;
/// Of a nutcracker.yml too: a thousand scripts of a page.
const DEFAULT_SCRIPT_MEMORY: u64 = 1 << 20;
const MOST_SCRIPT_MEMORY: u64 = 1 << 30;

/// One pool as it was read, with what is still to be compared with the other pools.
pub(super) struct ReadPool<'a> {
    /// With an `on_ejected` that is not yet resolved where there is a `stand_in`.
    pub settings: PoolSettings,
    pub places: Places,
    /// The value of `on_ejected` where it is to be the name of a pool.
    pub stand_in: Option<Value<'a>>,
}

/// Reads `name: {…}`, reporting all that is wrong in it; `None` without a usable `listen`. `base`: the folder that
/// relative file names start from.
pub(super) fn pool<'a>(name: &'a Node, node: &'a Node, context: Context<'a>, base: &Path) -> Option<ReadPool<'a>> {
    let Some(pool_name) = name.scalar() else {
        context.report.error(name.at, format!("bad pool name: {}; allowed: any text", name.describe()));
        return None;
    };
    if context.dialect == Twemproxy && !matches!(node.kind, Kind::Mapping(_)) {
        let found = format!("{} is no pool: {}", quoted(pool_name), node.describe());
        let allowed =
            "allowed: pools only, as this is a nutcracker.yml; Outrigger's own format has them below `pools:`";
        context.report.error(name.at, format!("{found}; {allowed}"));
        return None;
    }
    let what = format!("pool {}", quoted(pool_name));
    let mut fields = Fields::of(node, &what, context)?;

    let listen = fields.read("listen", None, |v| v.parsed(LISTEN_ALLOWED, listen).map(Some));
    let protocol = protocol(&mut fields, context);
    let servers = fields.read("servers", Vec::new(), |v| Some(servers(v)));
    let (settings_servers, server_places): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
    // twemproxy's own default of `timeout` is to wait for ever.
    let default_timeout = if context.dialect == Outrigger { DEFAULT_TIMEOUT } else { Duration::ZERO };
    let timeout = fields.read("timeout", default_timeout, |v| v.duration());
    let retry_budget = |v: Value<'_>| v.number(0..=100);
    let reconnect_delay = |v: Value<'_>| v.duration_from(LEAST_RECONNECT_DELAY);
    let dedicated = |v: Value<'_>| v.number(1..=MAX_DEDICATED);
    let idle = |v: Value<'_>| v.number(0..=MAX_DEDICATED);
    let client_connections = fields.read("client_connections", 0, |v| v.number(INT)) as usize;
    let reuseport = fields.read_in(Twemproxy, "reuseport", false, |v| v.boolean());
    let mut stand_in = None;
    let settings = PoolSettings {
        name: pool_name.to_owned(),
        // Without one there is an error in the report, and nobody sees this.
        listen: listen.clone().unwrap_or(super::ListenAddress::Tcp { host: String::new(), port: 0 }),
        protocol: protocol.unwrap_or(Protocol::Redis),
        hash: fields.read("hash", KeyHash::default(), |v| v.choice(&KeyHash::ALL)),
        hash_tag: fields.read("hash_tag", None, |v| hash_tag(v).map(Some)),
        distribution: fields.read("distribution", Distribution::default(), |v| v.choice(&Distribution::ALL)),
        timeout: unless_zero(timeout),
        slow_timeout: own_limit(&mut fields, "slow_timeout", timeout),
        slowlog_threshold: own_limit(&mut fields, "slowlog_threshold", DEFAULT_SLOW),
        connect_timeout: own_limit(&mut fields, "connect_timeout", DEFAULT_CONNECT_TIMEOUT),
        backlog: fields.read("backlog", 512, |v| v.number(INT)) as u32,
        client_connections: (client_connections > 0).then_some(client_connections),
        tcpkeepalive: fields.read("tcpkeepalive", false, |v| v.boolean()),
        preconnect: fields.read("preconnect", false, |v| v.boolean()),
        health: health::read(&mut fields, protocol.unwrap_or(Protocol::Redis), &mut stand_in),
        retry_budget_percent: fields.read_in(Outrigger, "retry_budget_percent", DEFAULT_RETRY_BUDGET, retry_budget)
            as u8,
        max_reconnect_delay: fields.read_in(Outrigger, "max_reconnect_delay", DEFAULT_RECONNECT_DELAY, reconnect_delay),
        client_write_timeout: own_limit(&mut fields, "client_write_timeout", DEFAULT_WRITE_TIMEOUT),
        client_idle_timeout: own_limit(&mut fields, "client_idle_timeout", Duration::ZERO),
        server_connections: fields.read("server_connections", 1, connections) as usize,
        dedicated_connections: fields.read_in(Outrigger, "dedicated_connections", DEFAULT_DEDICATED, dedicated)
            as usize,
        idle_dedicated_connections: fields.read_in(Outrigger, "idle_dedicated_connections", DEFAULT_IDLE, idle)
            as usize,
        redis_auth: fields.read("redis_auth", None, |v| credentials(v, base).map(Some)),
        redis_db: fields.read("redis_db", 0, |v| v.number(INT)) as u32,
        databases: fields
            .read_in(Outrigger, "databases", None, |v| v.number(1..=MOST_DATABASES).map(|n| Some(n as u32))),
        allow_admin_commands: fields.read_in(Outrigger, "allow_admin_commands", false, |v| v.boolean()),
        keyless_server: fields.read_in(Outrigger, "keyless_server", None, |v| keyless(v, &settings_servers).map(Some)),
        commands: fields.read_in(Outrigger, "commands", Vec::new(), commands),
        script_memory: fields
            .read_in(Outrigger, "script_memory", DEFAULT_SCRIPT_MEMORY, |v| v.size(0..=MOST_SCRIPT_MEMORY)),
        users: fields.read_in(Outrigger, "users", None, |v| users(v, base).map(Some)),
        local_memory: fields.read_in(Outrigger, "local_memory", DEFAULT_LOCAL_MEMORY, |v| v.size(1 << 20..=1 << 40)),
        servers: settings_servers,
    };
    let places = fields.finish(false);
    if let Some(at) = places.of("listen") {
        context.report.origin(Some(pool_name), "listen", at);
    }

    for (key, allowed) in [("listen", LISTEN_ALLOWED), ("servers", "a list, each line `- host:port:weight name`")] {
        if places.of(key).is_none() {
            context.report.error(name.at, format!("missing key in {what}: '{key}'; {allowed}"));
        }
    }
    let given = Given { pool: name.at, places: &places, servers: &server_places, reuseport };
    if protocol == Some(Protocol::Memcached) {
        redis_only(&given, context);
    }
    databases(&settings, &given, context);
    health::require_on_readmit(&settings, &given, context);
    traps::pool(&settings, &given, context);
    listen?;
    Some(ReadPool { settings, places, stand_in })
}

/// `redis: true`, or in our own format `protocol: redis`; `None` if what is given is wrong.
fn protocol(fields: &mut Fields<'_>, context: Context<'_>) -> Option<Protocol> {
    const NAMES: [(&str, Protocol); 2] =
        [(Protocol::Redis.name(), Protocol::Redis), (Protocol::Memcached.name(), Protocol::Memcached)];
    let flag = fields.value("redis").map(|v| v.boolean());
    let name = match context.dialect {
        Dialect::Outrigger => fields.value("protocol"),
        Dialect::Twemproxy => None,
    };
    let named = name.map(|v| v.choice(&NAMES));
    match (flag, named, name) {
        (Some(_), Some(_), Some(v)) => {
            context.report.error(v.node.at, "both 'redis' and 'protocol'; allowed: one of them");
            None
        }
        (Some(flag), ..) => flag.map(|redis| if redis { Protocol::Redis } else { Protocol::Memcached }),
        (None, Some(named), _) => named,
        (None, None, _) => Some(Protocol::Memcached),
    }
}

fn connections(value: Value<'_>) -> Option<u64> {
    match value.context.dialect {
        Dialect::Outrigger => value.number(1..=MAX_CONNECTIONS),
        Dialect::Twemproxy => value.number(1..=*INT.end()).map(|n| n.min(MAX_CONNECTIONS)),
    }
}

/// Exactly two bytes.
fn hash_tag(value: Value<'_>) -> Option<HashTag> {
    let allowed = "allowed: exactly two bytes, in quotes (\"{}\")";
    value.parsed(allowed, |text| text.as_bytes().try_into().ok().map(HashTag))
}

/// The name of one of the pool's servers.
fn keyless(value: Value<'_>, servers: &[ServerSettings]) -> Option<String> {
    let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    let near = value.node.scalar().and_then(|text| closest(text, &names));
    let hint = near.map_or(String::new(), |near| format!("did you mean {}? ", quoted(near)));
    let allowed = format!("{hint}allowed: the name of a server of the pool");
    value.parsed(&allowed, |text| names.contains(&text).then(|| text.to_owned()))
}

/// A limit that only our own format has; 0 is none.
fn own_limit(fields: &mut Fields<'_>, key: &'static str, default: Duration) -> Option<Duration> {
    unless_zero(fields.read_in(Outrigger, key, default, |v| v.duration()))
}

fn unless_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

/// Databases that clients may choose: the pool's own is one of them, and servers have them.
fn databases(settings: &PoolSettings, given: &Given<'_>, context: Context<'_>) {
    let (Some(databases), Some(at)) = (settings.databases, given.places.of("databases")) else { return };
    let own = settings.redis_db;
    if own >= databases {
        let message = format!("databases: {databases} without redis_db, which is {own}; allowed: at least {}", own + 1);
        context.report.error(at, message);
    }
    if databases > 1 && settings.servers.iter().any(|server| server.address == ServerAddress::Local) {
        let message = format!("databases: {databases} with a local server, which has one; allowed: 1");
        context.report.error(at, message);
    }
}

/// Keys that mean nothing to memcached: an error, except where twemproxy lets it pass.
fn redis_only(given: &Given<'_>, context: Context<'_>) {
    let advice = match context.dialect {
        Dialect::Outrigger => "allowed: with `protocol: redis`",
        Dialect::Twemproxy => "allowed: with `redis: true`",
    };
    for key in [
        "redis_auth",
        "users",
        "failure_replies",
        "allow_admin_commands",
        "keyless_server",
        "commands",
        "script_memory",
        "dedicated_connections",
        "idle_dedicated_connections",
    ] {
        if let Some(at) = given.places.of(key) {
            context.report.error(at, format!("'{key}' in a memcached pool; {advice}"));
        }
    }
    if let Some(at) = given.places.of("databases") {
        context.report.error(at, format!("'databases' in a memcached pool; {advice}"));
    }
    if let Some(at) = given.places.of("redis_db") {
        match context.dialect {
            Dialect::Outrigger => context.report.error(at, format!("'redis_db' in a memcached pool; {advice}")),
            Dialect::Twemproxy => context.report.warn(at, "redis_db has no effect in a memcached pool"),
        }
    }
}
