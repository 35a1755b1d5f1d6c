//! What a started proxy says: where it listens, and one line to try for each pool.

use std::fmt::Write;

use crate::config::{ListenAddress, PoolSettings, Protocol, Settings};

/// The text for these settings.
pub fn banner(settings: &Settings) -> String {
    let mut text = String::new();
    for pool in &settings.pools {
        let protocol = match pool.protocol {
            Protocol::Redis => "redis",
            Protocol::Memcached => "memcached",
        };
        let servers = super::counted(pool.servers.len(), "server");
        // Writing to a string does not fail.
        let _ = writeln!(text, "outrigger: pool {} ({protocol}, {servers}) on {}", pool.name, pool.listen);
        let _ = writeln!(text, "    try: {}", example(pool));
    }
    if let Some(admin) = &settings.admin.listen {
        let scheme = if matches!(admin, ListenAddress::Unix { .. }) { "" } else { "http://" };
        let _ = writeln!(text, "outrigger: admin on {scheme}{admin}");
    }
    if let Some(stats) = &settings.stats_listen {
        let _ = writeln!(text, "outrigger: statistics on {stats}");
    }
    text
}

fn example(pool: &PoolSettings) -> String {
    match (&pool.listen, pool.protocol) {
        (ListenAddress::Tcp { host, port }, Protocol::Redis) => {
            format!("redis-cli -h {} -p {port} SET greeting hello", reachable(host))
        }
        (ListenAddress::Unix { path, .. }, Protocol::Redis) => {
            format!("redis-cli -s {} SET greeting hello", path.display())
        }
        (ListenAddress::Tcp { host, port }, Protocol::Memcached) => {
            format!("printf 'set greeting 0 0 5\\r\\nhello\\r\\nquit\\r\\n' | nc {} {port}", reachable(host))
        }
        (ListenAddress::Unix { path, .. }, Protocol::Memcached) => {
            format!("printf 'set greeting 0 0 5\\r\\nhello\\r\\nquit\\r\\n' | nc -U {}", path.display())
        }
    }
}

/// An address to connect to, for one to listen on.
pub(super) fn reachable(host: &str) -> &str {
    match host {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    }
}
