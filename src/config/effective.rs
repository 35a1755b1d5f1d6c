//! The settings written down as a file again: what is in force, every default included. Secrets show as three stars; but
//! for them the file means the same settings.

use std::fmt::Write;
use std::sync::Arc;

use super::settings::{ListenAddress, PoolSettings, Protocol, ServerAddress, ServerSettings, Settings};
use super::shown::Row;
use super::users::User;

/// Rows that have no value in a file while they are like this: their key is left out.
const LEFT_OUT: [(&str, &str); 11] = [
    ("admin.token", "none"),
    ("resolver", "system"),
    ("hash_tag", "none"),
    ("slow_timeout", "as timeout"),
    ("on_readmit", ""),
    ("redis_auth", "none"),
    ("databases", "redis_db only"),
    ("gutter_ttl", ""),
    ("keyless_server", "none"),
    ("commands", "none"),
    ("users", "none"),
];

/// Keys that only pools of Redis have.
const OF_REDIS: [&str; 11] = [
    "failure_replies",
    "redis_auth",
    "redis_db",
    "databases",
    "allow_admin_commands",
    "keyless_server",
    "commands",
    "script_memory",
    "users",
    "dedicated_connections",
    "idle_dedicated_connections",
];

/// YAML in our own format, whatever the file was written in.
pub fn effective(settings: &Settings) -> String {
    let mut text = String::new();
    let mut section = "";
    for (key, value) in settings.rows().into_iter().filter(|row| !is_left_out(row)) {
        let (outer, inner) = key.split_once('.').unwrap_or(("", key));
        if outer != section {
            section = outer;
            if !outer.is_empty() {
                let _ = writeln!(text, "{outer}:");
            }
        }
        let indent = if outer.is_empty() { "" } else { "  " };
        let _ = writeln!(text, "{indent}{inner}: {}", scalar(key, &value));
    }
    text += "pools:\n";
    for pool in &settings.pools {
        write_pool(&mut text, pool, &settings.pools);
    }
    text
}

fn write_pool(text: &mut String, pool: &PoolSettings, all: &[PoolSettings]) {
    // Writing to a string does not fail, here and elsewhere.
    let _ = writeln!(text, "  {}:", quoted(&pool.name));
    let redis = pool.protocol == Protocol::Redis;
    for row in pool.rows(all).into_iter().filter(|row| !is_left_out(row) && (redis || !OF_REDIS.contains(&row.0))) {
        let (key, value) = row;
        match (key, value.strip_suffix(" ***")) {
            // It is shown escaped.
            ("hash_tag", _) => {
                let tag = pool.hash_tag.map(|tag| String::from_utf8_lossy(&tag.0).into_owned());
                let _ = writeln!(text, "    {key}: {}", quoted(&tag.unwrap_or_default()));
            }
            ("redis_auth", Some(username)) => {
                let _ = writeln!(text, "    {key}:\n      username: {}\n      password: \"***\"", quoted(username));
            }
            ("users", _) => write_users(text, pool.users.as_deref().unwrap_or_default()),
            _ => {
                let _ = writeln!(text, "    {key}: {}", scalar(key, &value));
            }
        }
    }
    text.push_str("    servers:\n");
    for server in &pool.servers {
        let _ = writeln!(text, "      - {}", quoted(&entry(server)));
    }
}

fn write_users(text: &mut String, users: &[Arc<User>]) {
    let none = if users.is_empty() { " {}" } else { "" };
    let _ = writeln!(text, "    users:{none}");
    for user in users {
        let _ = writeln!(text, "      {}:", quoted(&user.name));
        if user.nopass {
            text.push_str("        nopass: true\n");
        } else if !user.passwords.is_empty() {
            text.push_str("        password: \"***\"\n");
        }
        let _ = writeln!(text, "        rules: {}", quoted(&user.rules));
        if user.trust_scripts {
            text.push_str("        trust_scripts: true\n");
        }
    }
}

fn is_left_out((key, value): &Row) -> bool {
    LEFT_OUT.contains(&(key, value.as_str()))
}

/// A value of a row as it stands in a file.
fn scalar(key: &str, value: &str) -> String {
    let plain =
        |value: &str| !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
    match (key, value) {
        (_, "none" | "no limit") => "0".to_owned(),
        ("failure_replies" | "commands", list) => list.to_owned(),
        ("keyless_server", name) => quoted(name.strip_prefix("server ").unwrap_or(name)),
        ("on_ejected", policy) => quoted(policy.strip_prefix("pool ").unwrap_or(policy)),
        (_, value) if plain(value) => value.to_owned(),
        (_, value) => quoted(value),
    }
}

/// In double quotes; JSON is YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `host:port:weight name`
fn entry(ServerSettings { name, address, weight }: &ServerSettings) -> String {
    match address {
        ServerAddress::Tcp { host, port } => {
            let listen = ListenAddress::Tcp { host: host.clone(), port: *port };
            format!("{listen}:{weight} {name}")
        }
        ServerAddress::Unix { path } => format!("{}:{weight} {name}", path.display()),
        ServerAddress::Local => format!("local:{weight} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    /// What is written means the same settings, and is written the same again.
    fn check(text: &str) -> String {
        let settings = parse("test", text).expect("valid").settings;
        let written = effective(&settings);
        let mut again = parse("written", &written).unwrap_or_else(|e| panic!("{e}\n{written}")).settings;
        again.admin.asked_for = settings.admin.asked_for;
        assert_eq!(again, settings, "{written}");
        written
    }

    #[test]
    fn every_sample_is_written_down_as_what_it_means() {
        for name in ["default", "full", "memcached", "minimal", "nutcracker", "redis"] {
            check(&std::fs::read_to_string(format!("config/{name}.yml")).expect("a sample"));
        }
    }

    #[test]
    fn every_spelling_comes_back() {
        check(
            "workers: 3\nadmin: {stats: off, listen: '/run/a b.sock 0660'}\nlog: {level: 11, file: '/var/log/x y', format: json}\n\
             resolver: 10.0.0.2\ndrain_timeout: 90s\nlimits: {max_nesting: 5, max_line_bytes: 700}\npools:\n\
             \x20 'a: b': {listen: '[::1]:7', protocol: redis, hash_tag: '{}', hash: murmur, distribution: modula, timeout: 0,\n\
             \x20          slow_timeout: 1h, connect_timeout: 0, client_connections: 7, client_write_timeout: 0, redis_db: 3,\n\
             \x20          auto_eject_hosts: true, on_ejected: spare, on_readmit: quarantine 10m, gutter_ttl: 90s,\n\
             \x20          keyless_server: y, script_memory: 0, commands: {json.get: {keys: first, write: false}, X:y: {keys: [2, -2, 3]}},\n\
             \x20          failure_replies: [], servers: ['h:1:5 x', '/run/r.sock:2 z', 'local:1 y']}\n\
             \x20 spare: {listen: '/run/l.sock 0666', protocol: redis, hash_tag: '\"\\', servers: ['[::2]:6379:1 v6']}\n\
             \x20 m: {listen: 'h:9', on_ejected: miss, auto_eject_hosts: true, servers: ['h:11211']}\n",
        );
    }

    #[test]
    fn secrets_are_stars() {
        let text = "admin: {token: hunter2}\npools:\n  a: {listen: 'h:1', redis: true, redis_auth: hunter2, servers: ['h:2']}\n\
                    \x20 b: {listen: 'h:2', redis: true, redis_auth: {username: me, password: hunter2}, servers: ['h:2']}\n";
        let written = effective(&parse("test", text).expect("valid").settings);
        assert!(!written.contains("hunter2"), "{written}");
        assert!(written.contains("  token: \"***\"\n") && written.contains("    redis_auth: \"***\"\n"), "{written}");
        assert!(written.contains("      username: \"me\"\n      password: \"***\"\n"), "{written}");
        assert!(parse("written", &written).is_ok());
    }
}
