//! The shape of our own format, as types, for `outrigger schema`: editors complete and check files with it. The loader
//! walks the tree itself (only so can it report everything at once); `tests/config.rs` holds the two together.
#![allow(dead_code)] // Only the schema is made of these types.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::hash::KeyHash;
use crate::ring::Distribution;

/// The JSON Schema of our own format, indented.
pub fn json_schema() -> String {
    let mut schema = schemars::schema_for!(File).to_value();
    without_null(&mut schema);
    format!("{schema:#}")
}

/// `Option` says that a key may be left out; it may not be null.
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
    /// How long SIGTERM waits for what is in flight: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "20s"))]
    drain_timeout: Option<()>,
    limits: Option<Limits>,
}

/// What operators connect to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Admin {
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
}

/// Servers behind one address, and how keys are spread over them. Keys of twemproxy mean what they mean there.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
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
    /// Take failing servers off the ring. Read, but without effect in this version.
    #[schemars(extend("default" = false))]
    auto_eject_hosts: Option<bool>,
    /// How long a server stays off the ring: ms, or with a unit.
    #[schemars(default, schema_with = "duration", extend("default" = "30s"))]
    server_retry_timeout: Option<()>,
    /// Failures in a row that take a server off the ring.
    #[schemars(extend("default" = 2))]
    server_failure_limit: Option<u32>,
    /// What servers are sent and clients must send: a password, or a user and a password.
    redis_auth: Option<RedisAuth>,
    /// The Redis database, selected on every server connection.
    #[schemars(extend("default" = 0))]
    redis_db: Option<u32>,
    /// Memory of each `local` server: bytes, or with a unit.
    #[schemars(default, schema_with = "size", extend("default" = "64MiB"))]
    local_memory: Option<()>,
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

fn workers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1024}, {"const": "auto"}]})
}

fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+ *(ms|s|m|h)?$"})
}

fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$"})
}

fn level(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 11}, {"enum": super::globals::LEVELS}]})
}

fn log_format(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["text", "json"]})
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
