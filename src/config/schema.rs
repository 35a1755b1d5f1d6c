//! The shape of our own format, as types, for `outrigger schema`: editors complete and check files with it. The loader
//! walks the tree itself (only so can it report everything at once); `tests/config.rs` holds the two together.
#![allow(dead_code)] // Only the schema is made of these types.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::hash::KeyHash;
use crate::ring::Distribution;
use crate::telemetry::KeyForm;

/// The JSON Schema of our own format, indented.
pub fn json_schema() -> String {
    let mut schema = schemars::schema_for!(File).to_value();
    without_null(&mut schema);
    format!("{schema:#}")
}

/// `Option` says that a key may be left out; it may not be null, and no default is no default of null.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    object["type"] = only.clone();
                }
            }
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|one| one["type"] != "null");
                if let [Value::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// A configuration of Outrigger.
#[derive(JsonSchema)]
#[schemars(title = "Outrigger", deny_unknown_fields)]
struct File {
    /// The pools, by name. At least one.
    #[schemars(extend("minProperties" = 1))]
    pools: BTreeMap<String, Pool>,
    /// Threads that serve clients: a number, or auto, one per usable core.
    #[schemars(default, schema_with = "workers", extend("default" = "auto"))]
    workers: Option<()>,
    admin: Option<Admin>,
    log: Option<Log>,
    observe: Option<Observe>,
    /// The name server that server names are looked up at, an address with or without a port; the system's without it.
    resolver: Option<String>,
    /// How long SIGTERM waits for what is in flight: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "20s"))]
    drain_timeout: Option<()>,
    /// How long SIGTERM goes on accepting clients before anything ends: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "0ms"))]
    pre_stop_delay: Option<()>,
    limits: Option<Limits>,
}

/// What operators connect to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Admin {
    /// Where HTTP is served to operators: host:port, /path/of/socket, "/path/of/socket 0660", or off.
    #[schemars(extend("default" = "127.0.0.1:22223"))]
    listen: Option<String>,
    /// What clients of the admin port must send: `Authorization: Bearer` and this.
    token: Option<String>,
    /// A file that holds the token; relative names start at the folder of this file.
    token_file: Option<String>,
    /// The environment variable that holds the token.
    token_env: Option<String>,
    /// Where twemproxy's JSON statistics are served: host:port, or off.
    #[schemars(extend("default" = "127.0.0.1:22222"))]
    stats: Option<String>,
}

/// The log.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Log {
    /// From 0 or emerg, emergencies only, to 11 or pverb, everything.
    #[schemars(default, schema_with = "level", extend("default" = "notice"))]
    level: Option<()>,
    /// A file, which SIGHUP opens anew, or stderr.
    #[schemars(extend("default" = "stderr"))]
    file: Option<String>,
    /// Lines of text, or of JSON.
    #[schemars(default, schema_with = "log_format", extend("default" = "text"))]
    format: Option<()>,
}

/// What is told of requests and keys.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Observe {
    /// Count requests by command and result, and how long they take.
    #[schemars(extend("default" = true))]
    metrics: Option<bool>,
    /// Look for the keys that are asked for most, and for the largest values.
    #[schemars(extend("default" = true))]
    hot_keys: Option<bool>,
    /// How the slow log and the lists of keys show keys: plain, hash (the same text for the same key) or off.
    #[schemars(default, schema_with = "key_form", extend("default" = "plain"))]
    keys: Option<()>,
    /// Slow requests that are kept in memory.
    #[schemars(range(min = 0, max = 10_000), extend("default" = 256))]
    slowlog_entries: Option<u32>,
    /// Slow requests that are recorded in a second, at the most.
    #[schemars(range(min = 0, max = 1000), extend("default" = 10))]
    slowlog_per_second: Option<u32>,
    /// A line of the log for each slow request that is recorded.
    #[schemars(extend("default" = false))]
    slowlog_to_log: Option<bool>,
}

/// Bounds of single messages, of one client session and of one server connection.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Limits {
    /// Largest request: bytes, or with a unit.
    #[schemars(default, schema_with = "size", extend("default" = "524352KiB"))]
    max_request_bytes: Option<()>,
    /// Largest reply of a server: bytes, or with a unit.
    #[schemars(default, schema_with = "size", extend("default" = "1GiB"))]
    max_response_bytes: Option<()>,
    /// Longest key: bytes, or with a unit. memcached itself stops at 250.
    #[schemars(default, schema_with = "size", extend("default" = "64KiB"))]
    max_key_bytes: Option<()>,
    /// Most arguments of one request, its name included.
    #[schemars(extend("default" = 1_048_576))]
    max_arguments: Option<u32>,
    /// Longest command line (inline Redis, memcached): bytes, or with a unit.
    #[schemars(default, schema_with = "size", extend("default" = "64KiB"))]
    max_line_bytes: Option<()>,
    /// Deepest nesting of a reply.
    #[schemars(range(min = 1, max = 128), extend("default" = 32))]
    max_nesting: Option<u32>,
    /// Unanswered requests of one client before it is read no further.
    #[schemars(range(min = 1), extend("default" = 1024))]
    max_session_requests: Option<u32>,
    /// Unsent reply bytes of one client before it is read no further; one larger reply is allowed.
    #[schemars(default, schema_with = "size", extend("default" = "1MiB"))]
    max_session_bytes: Option<()>,
    /// Unanswered requests on one server connection before its clients wait.
    #[schemars(range(min = 1), extend("default" = 8192))]
    max_connection_requests: Option<u32>,
    /// Unsent request bytes on one server connection before its clients wait; one larger request is allowed.
    #[schemars(default, schema_with = "size", extend("default" = "16MiB"))]
    max_connection_bytes: Option<()>,
    /// What the whole process may hold for clients and servers, from 1MiB: bytes, or with a unit.
    #[schemars(default, schema_with = "size", extend("default" = "256MiB"))]
    max_buffered_bytes: Option<()>,
}

/// Servers behind one address, and how keys are spread over them. Keys of twemproxy mean what they mean there.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend(
    "if" = {
        "properties": {"auto_eject_hosts": {"const": true}, "on_ejected": {"not": {"enum": ["fail_fast", "miss"]}}},
        "required": ["auto_eject_hosts"]
    },
    "then" = {"required": ["on_readmit"]}
))]
struct Pool {
    /// Where clients connect: host:port, a /path, or a /path and permissions, "/run/cache.sock 0666".
    listen: String,
    /// What the servers speak.
    #[schemars(default, schema_with = "protocol", extend("default" = "memcached"))]
    protocol: Option<()>,
    /// twemproxy's spelling of `protocol: redis`; one of the two.
    #[schemars(extend("default" = false))]
    redis: Option<bool>,
    /// host:port:weight, /path:weight or local:weight, each with a space and a name behind it; without a weight it is 1.
    #[schemars(length(min = 1))]
    servers: Vec<String>,
    /// How a key becomes a number.
    #[schemars(default, schema_with = "hash", extend("default" = "fnv1a_64"))]
    hash: Option<()>,
    /// Two bytes; only what lies between them in a key is hashed, if anything does.
    hash_tag: Option<String>,
    /// How numbers are spread over servers.
    #[schemars(default, schema_with = "distribution", extend("default" = "ketama"))]
    distribution: Option<()>,
    /// From the arrival of a request to its reply: ms, or with a unit; 0: no limit.
    #[schemars(default, schema_with = "duration", extend("default" = "1s"))]
    timeout: Option<()>,
    /// The same for commands that may work long on one request: ms, or with a unit; 0: no limit. As timeout without it.
    #[schemars(default, schema_with = "duration")]
    slow_timeout: Option<()>,
    /// Requests that take at least so long are kept in the slow log: ms, or with a unit; 0: none.
    #[schemars(default, schema_with = "duration", extend("default" = "100ms"))]
    slowlog_threshold: Option<()>,
    /// For a new server connection with its handshake: ms, or with a unit; 0: no limit.
    #[schemars(default, schema_with = "duration", extend("default" = "500ms"))]
    connect_timeout: Option<()>,
    /// Clients that may wait to be accepted, see listen(2).
    #[schemars(extend("default" = 512))]
    backlog: Option<u32>,
    /// Most clients at a time; 0: no limit.
    #[schemars(extend("default" = 0))]
    client_connections: Option<u32>,
    /// TCP keepalive on client connections.
    #[schemars(extend("default" = false))]
    tcpkeepalive: Option<bool>,
    /// Connect to every server at start.
    #[schemars(extend("default" = false))]
    preconnect: Option<bool>,
    /// Connections to each server, per worker.
    #[schemars(range(min = 1, max = 4096), extend("default" = 1))]
    server_connections: Option<u32>,
    /// Most connections to each server, per worker, that one client has to itself for a while: transactions, blocking
    /// commands, subscriptions. Clients that need one more get an error.
    #[schemars(range(min = 1, max = 65536), extend("default" = 1000))]
    dedicated_connections: Option<u32>,
    /// How many of them are kept for the next client, per server and worker; each for a minute at the most.
    #[schemars(range(min = 0, max = 65536), extend("default" = 256))]
    idle_dedicated_connections: Option<u32>,
    /// Longest wait before another attempt to connect to a server, from 10ms: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "1s"))]
    max_reconnect_delay: Option<()>,
    /// Requests that may be sent a second time after a lost connection, per hundred; 0: none.
    #[schemars(range(min = 0, max = 100), extend("default" = 10))]
    retry_budget_percent: Option<u32>,
    /// A client that takes nothing of its replies for so long is cut: ms, or with a unit; 0: never.
    #[schemars(default, schema_with = "duration", extend("default" = "30s"))]
    client_write_timeout: Option<()>,
    /// A client that sends nothing and waits for nothing for so long is closed: ms, or with a unit; 0: never.
    #[schemars(default, schema_with = "duration", extend("default" = 0))]
    client_idle_timeout: Option<()>,
    /// Probe servers, and eject those that fail: take them off the ring until they are well again.
    #[schemars(extend("default" = false))]
    auto_eject_hosts: Option<bool>,
    /// How long an ejected server stays away at the least: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "30s"))]
    server_retry_timeout: Option<()>,
    /// Failures in a row that eject a server.
    #[schemars(extend("default" = 2))]
    server_failure_limit: Option<u32>,
    /// First words of Redis error replies that count as failures.
    #[schemars(default, schema_with = "reply_words", extend("default" = ["LOADING", "MASTERDOWN"]))]
    failure_replies: Option<()>,
    /// Most ejected servers at a time, per hundred of the pool's, rounded down.
    #[schemars(range(min = 0, max = 100), extend("default" = 50))]
    max_ejected_percent: Option<u32>,
    /// What becomes of the keys of an ejected server: rehash (the others take them), fail_fast (an error at once), miss
    /// (reads find nothing, writes are errors), or the name of a pool that stands in.
    #[schemars(extend("default" = "rehash"))]
    on_ejected: Option<String>,
    /// Longest time to live of a key in the pool that stands in, in whole seconds: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "60s"))]
    gutter_ttl: Option<()>,
    /// What becomes of what a server held when it was ejected: keep (it is served again), flush (the server is emptied
    /// before it returns), or quarantine and a duration (it must have been well for so long before it returns).
    #[schemars(default, schema_with = "on_readmit")]
    on_readmit: Option<()>,
    /// From one probe of a server to the next, from 10ms: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "1s"))]
    probe_interval: Option<()>,
    /// For one probe, from 10ms: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "500ms"))]
    probe_timeout: Option<()>,
    /// Good probes in a row before an ejected server returns.
    #[schemars(range(min = 1, max = 100), extend("default" = 2))]
    probe_successes: Option<u32>,
    /// How long the share of a returning server grows: ms, or with a unit; 0: it has all of it at once.
    #[schemars(default, schema_with = "duration", extend("default" = "10s"))]
    slow_start: Option<()>,
    /// What servers are sent and clients must send: a password, or a user and a password.
    redis_auth: Option<RedisAuth>,
    /// The Redis database, selected on every server connection.
    #[schemars(extend("default" = 0))]
    redis_db: Option<u32>,
    /// Who may log in, by name, and what each may do; without it everybody who gives the password of redis_auth, and
    /// everything.
    users: Option<BTreeMap<String, User>>,
    /// Pass on commands that can destroy what others rely on, such as FLUSHALL, CONFIG SET and SHUTDOWN.
    #[schemars(extend("default" = false))]
    allow_admin_commands: Option<bool>,
    /// Databases that clients may SELECT, from 0 on; without it redis_db only.
    #[schemars(range(min = 1, max = 1024))]
    databases: Option<u32>,
    /// The name of the server that is asked what has no key; the first that takes traffic without it.
    keyless_server: Option<String>,
    /// Commands that Outrigger does not know, by name: where their keys are, and what they do.
    commands: Option<BTreeMap<String, Command>>,
    /// Scripts that are remembered, for servers that have lost them: bytes, or with a unit; 0: none.
    #[schemars(default, schema_with = "size", extend("default" = "1MiB"))]
    script_memory: Option<()>,
    /// Memory of each `local` server: bytes, or with a unit.
    #[schemars(default, schema_with = "size", extend("default" = "64MiB"))]
    local_memory: Option<()>,
}

/// A command that Outrigger does not know.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Command {
    /// Where its keys are: first (the first argument), all (every argument), none, or the places of the first and the last
    /// key, the last from the end if negative, and the step from one to the next.
    #[schemars(schema_with = "command_keys")]
    keys: (),
    /// It changes something; false: it may be sent again after a lost connection.
    #[schemars(extend("default" = true))]
    write: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum RedisAuth {
    /// The password of the default user.
    Password(String),
    /// A user, and one of the three passwords.
    User(RedisUser),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RedisUser {
    /// A Redis ACL user.
    #[schemars(extend("default" = "default"))]
    username: Option<String>,
    /// The password itself.
    password: Option<String>,
    /// A file that holds the password; relative names start at the folder of this file.
    password_file: Option<String>,
    /// The environment variable that holds the password.
    password_env: Option<String>,
}

/// One user: a password, or nopass, and rules.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct User {
    /// The password itself.
    password: Option<String>,
    /// A file that holds the password; relative names start at the folder of this file.
    password_file: Option<String>,
    /// The environment variable that holds the password.
    password_env: Option<String>,
    /// The SHA-256 of the password in hexadecimal, as ACL GETUSER of Redis shows it.
    password_hash: Option<String>,
    /// Any password will do.
    #[schemars(extend("default" = false))]
    nopass: Option<bool>,
    /// What the user may do, in the words of a Redis ACL: "~app:* +@read".
    rules: String,
    /// Scripts of this user may do more than the user.
    #[schemars(extend("default" = false))]
    trust_scripts: Option<bool>,
}

fn workers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1024}, {"const": "auto"}]})
}

fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+ *(ms|s|m|h)?$"})
}

fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$"})
}

fn on_readmit(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^(keep|flush|quarantine +[0-9]+ *(ms|s|m|h)?)$"})
}

fn reply_words(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z]{1,32}$"}})
}

fn command_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"enum": ["first", "all", "none"]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}
    ]})
}

fn level(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 11}, {"enum": super::globals::LEVELS}]})
}

fn log_format(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["text", "json"]})
}

fn key_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": KeyForm::ALL.map(|(name, _)| name)})
}

fn protocol(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["redis", "memcached"]})
}

fn hash(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": KeyHash::ALL.map(|(name, _)| name)})
}

fn distribution(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": Distribution::ALL.map(|(name, _)| name)})
}
