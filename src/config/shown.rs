//! Settings as rows of key and value, in the words of a file: what is compared and shown when a file changes.

use std::sync::Arc;
use std::time::Duration;

use super::globals::level_name;
use super::health::POLICIES;
use super::settings::{
    AdminSettings, CommandSettings, Credentials, HealthSettings, ListenAddress, LogFormat, LogSettings, OnEjected,
    OnReadmit, PoolSettings, Protocol, SessionLimits, Settings,
};
use super::users::User;
use crate::protocol::Limits;
use crate::telemetry::ObserveSettings;

/// A key, those within others with a dot (`log.level`), and its value.
pub type Row = (&'static str, String);

impl Settings {
    /// Every key but `pools`; always the same keys in the same order.
    pub fn rows(&self) -> Vec<Row> {
        // By name and all of them, here and below: a new one cannot be forgotten.
        let Self {
            workers,
            stats_listen,
            admin: AdminSettings { listen, asked_for: _, token },
            resolver,
            log: LogSettings { level, file, format },
            observe,
            drain_timeout,
            pre_stop_delay,
            limits,
            session_limits,
            pools: _,
        } = self;
        let format = match format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let mut rows = vec![
            ("workers", workers.map_or("auto".to_owned(), |n| n.to_string())),
            ("admin.listen", listen.as_ref().map_or("off".to_owned(), listen_with_mode)),
            ("admin.token", if token.is_some() { "***" } else { "none" }.to_owned()),
            ("admin.stats", stats_listen.clone().unwrap_or("off".to_owned())),
            ("log.level", level_name(*level)),
            ("log.file", file.as_ref().map_or("stderr".to_owned(), |path| path.display().to_string())),
            ("log.format", format.to_owned()),
            ("resolver", resolver.map_or("system".to_owned(), |address| address.to_string())),
            ("drain_timeout", duration(*drain_timeout)),
            ("pre_stop_delay", duration(*pre_stop_delay)),
        ];
        rows.extend(observe_rows(observe));
        rows.extend(limit_rows(limits, session_limits));
        rows
    }
}

fn observe_rows(observe: &ObserveSettings) -> Vec<Row> {
    let ObserveSettings { metrics, hot_keys, keys, slowlog_entries, slowlog_per_second, slowlog_to_log } = observe;
    vec![
        ("observe.metrics", metrics.to_string()),
        ("observe.hot_keys", hot_keys.to_string()),
        ("observe.keys", keys.name().to_owned()),
        ("observe.slowlog_entries", slowlog_entries.to_string()),
        ("observe.slowlog_per_second", slowlog_per_second.to_string()),
        ("observe.slowlog_to_log", slowlog_to_log.to_string()),
    ]
}

fn limit_rows(one: &Limits, many: &SessionLimits) -> Vec<Row> {
    let Limits { max_request_bytes, max_response_bytes, max_key_bytes, max_arguments, max_line_bytes, max_nesting } =
        one;
    let SessionLimits {
        max_session_requests,
        max_session_bytes,
        max_connection_requests,
        max_connection_bytes,
        max_buffered_bytes,
    } = many;
    let bytes = |bytes: &usize| size(*bytes as u64);
    vec![
        ("limits.max_request_bytes", bytes(max_request_bytes)),
        ("limits.max_response_bytes", bytes(max_response_bytes)),
        ("limits.max_key_bytes", bytes(max_key_bytes)),
        ("limits.max_arguments", max_arguments.to_string()),
        ("limits.max_line_bytes", bytes(max_line_bytes)),
        ("limits.max_nesting", max_nesting.to_string()),
        ("limits.max_session_requests", max_session_requests.to_string()),
        ("limits.max_session_bytes", bytes(max_session_bytes)),
        ("limits.max_connection_requests", max_connection_requests.to_string()),
        ("limits.max_connection_bytes", bytes(max_connection_bytes)),
        ("limits.max_buffered_bytes", bytes(max_buffered_bytes)),
    ]
}

impl PoolSettings {
    /// Every key but `servers`; always the same keys in the same order. A password shows as three stars, so of
    /// `redis_auth` and `users` equal rows are not yet equal values. `all`: the pools of the same settings.
    pub fn rows(&self, all: &[PoolSettings]) -> Vec<Row> {
        let Self {
            name: _,
            listen,
            protocol,
            hash,
            hash_tag,
            distribution,
            timeout,
            connect_timeout,
            backlog,
            client_connections,
            tcpkeepalive,
            preconnect,
            health,
            slow_timeout,
            slowlog_threshold,
            retry_budget_percent,
            max_reconnect_delay,
            client_write_timeout,
            client_idle_timeout,
            server_connections,
            dedicated_connections,
            idle_dedicated_connections,
            redis_auth,
            redis_db,
            databases,
            users,
            allow_admin_commands,
            keyless_server,
            commands,
            script_memory,
            local_memory,
            servers: _,
        } = self;
        let mut rows = vec![
            ("listen", listen_with_mode(listen)),
            ("protocol", protocol.name().to_owned()),
            ("hash", hash.name().to_owned()),
            ("hash_tag", hash_tag.map_or("none".to_owned(), |tag| tag.0.escape_ascii().to_string())),
            ("distribution", distribution.name().to_owned()),
            ("timeout", limit(*timeout)),
            ("slow_timeout", if slow_timeout == timeout { "as timeout".to_owned() } else { limit(*slow_timeout) }),
            ("slowlog_threshold", limit(*slowlog_threshold)),
            ("connect_timeout", limit(*connect_timeout)),
            ("backlog", backlog.to_string()),
            ("client_connections", client_connections.map_or("no limit".to_owned(), |n| n.to_string())),
            ("tcpkeepalive", tcpkeepalive.to_string()),
            ("preconnect", preconnect.to_string()),
            ("server_connections", server_connections.to_string()),
            ("dedicated_connections", dedicated_connections.to_string()),
            ("idle_dedicated_connections", idle_dedicated_connections.to_string()),
            ("max_reconnect_delay", duration(*max_reconnect_delay)),
            ("retry_budget_percent", retry_budget_percent.to_string()),
            ("client_write_timeout", limit(*client_write_timeout)),
            ("client_idle_timeout", limit(*client_idle_timeout)),
        ];
        rows.extend(health_rows(health, all));
        rows.extend([
            ("redis_auth", redis_auth.as_ref().map_or("none".to_owned(), without_password)),
            ("redis_db", redis_db.to_string()),
            ("databases", databases.map_or("redis_db only".to_owned(), |n| n.to_string())),
            ("users", users.as_ref().map_or("none".to_owned(), |users| without_passwords(users))),
            ("allow_admin_commands", allow_admin_commands.to_string()),
            ("keyless_server", keyless_server.as_ref().map_or("none".to_owned(), |name| format!("server {name}"))),
            ("commands", if commands.is_empty() { "none".to_owned() } else { command_list(commands) }),
            ("script_memory", size(*script_memory)),
            ("local_memory", size(*local_memory)),
        ]);
        rows
    }
}

fn health_rows(health: &HealthSettings, all: &[PoolSettings]) -> Vec<Row> {
    let HealthSettings {
        eject,
        failure_limit,
        retry_timeout,
        failure_replies,
        max_ejected_percent,
        on_ejected,
        gutter_ttl,
        on_readmit,
        probe_interval,
        probe_timeout,
        probe_successes,
        slow_start,
    } = health;
    vec![
        ("auto_eject_hosts", eject.to_string()),
        ("server_retry_timeout", duration(*retry_timeout)),
        ("server_failure_limit", failure_limit.to_string()),
        ("failure_replies", format!("[{}]", failure_replies.join(", "))),
        ("max_ejected_percent", max_ejected_percent.to_string()),
        ("on_ejected", on_ejected.text(all)),
        ("gutter_ttl", duration(*gutter_ttl)),
        ("on_readmit", readmission(*on_readmit)),
        ("probe_interval", duration(*probe_interval)),
        ("probe_timeout", duration(*probe_timeout)),
        ("probe_successes", probe_successes.to_string()),
        ("slow_start", duration(*slow_start)),
    ]
}

impl Protocol {
    /// Its name in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memcached => "memcached",
        }
    }
}

/// As it stands in a file, on one line.
fn command_list(commands: &[CommandSettings]) -> String {
    let shown = commands.iter().map(|CommandSettings { name, keys, write }| {
        let keys = match keys {
            None => "none".to_owned(),
            Some((1, 1, 1)) => "first".to_owned(),
            Some((1, -1, 1)) => "all".to_owned(),
            Some((first, last, step)) => format!("[{first}, {last}, {step}]"),
        };
        // JSON is YAML, and a name may have any sign.
        format!("{}: {{keys: {keys}, write: {write}}}", serde_json::Value::from(name.as_str()))
    });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
}

fn listen_with_mode(listen: &ListenAddress) -> String {
    match listen {
        ListenAddress::Unix { mode: Some(mode), .. } => format!("{listen} {mode:04o}"),
        _ => listen.to_string(),
    }
}

impl OnEjected {
    /// As in a file whose pools are `all`. A pool by its name: its index is another one as soon as a pool comes or goes.
    pub fn text(self, all: &[PoolSettings]) -> String {
        match self {
            Self::Pool(index) => all.get(index).map_or(String::new(), |pool| format!("pool {}", pool.name)),
            policy => POLICIES.iter().find(|(_, p)| *p == policy).map_or(String::new(), |(name, _)| (*name).to_owned()),
        }
    }
}

fn readmission(on_readmit: OnReadmit) -> String {
    match on_readmit {
        OnReadmit::Keep => "keep".to_owned(),
        OnReadmit::Flush => "flush".to_owned(),
        OnReadmit::Quarantine(time) => format!("quarantine {}", duration(time)),
    }
}

fn without_password(credentials: &Credentials) -> String {
    match &credentials.username {
        Some(username) => format!("{username} ***"),
        None => "***".to_owned(),
    }
}

/// `app: ~app:* +@read; default: off`
fn without_passwords(users: &[Arc<User>]) -> String {
    let one = |user: &Arc<User>| {
        let nopass = if user.nopass { " nopass" } else { "" };
        let trust = if user.trust_scripts { " trust_scripts" } else { "" };
        format!("{}:{nopass}{trust} {}", user.name, user.rules)
    };
    users.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn limit(duration: Option<Duration>) -> String {
    duration.map_or("none".to_owned(), self::duration)
}

/// In the largest unit that divides it.
fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms == 0 || ms % 1000 > 0 => format!("{ms}ms"),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms => format!("{}s", ms / 1000),
    }
}

/// In the largest unit that divides it.
pub(super) fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_shown_in_the_largest_unit_that_divides_them() {
        let shown = |ms| duration(Duration::from_millis(ms));
        assert_eq!([0, 400, 1000, 1500, 60_000, 90_000].map(shown), ["0ms", "400ms", "1s", "1500ms", "1m", "90s"]);
        assert_eq!([3_600_000, 5_400_000].map(shown), ["1h", "90m"]);
        assert_eq!([0, 1000, 64 << 10, 64 << 20, 3 << 30].map(size), ["0", "1000", "64KiB", "64MiB", "3GiB"]);
    }
}
