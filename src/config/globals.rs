//! The keys beside `pools` in our own format, and what stands for them in a nutcracker.yml.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::protocol::Limits;
use crate::telemetry::{KeyForm, ObserveSettings};

use super::Dialect;
use super::address::{LISTEN_ALLOWED, host_port, listen};
use super::auth::token;
use super::fields::{Context, Fields};
use super::settings::{AdminSettings, ListenAddress, LogFormat, LogSettings, SessionLimits, Settings};
use super::value::{Value, digits};

/// twemproxy's default, and the only one that reaches beyond this machine.
const TWEMPROXY_STATS: &str = "0.0.0.0:22222";
const STATS: &str = "127.0.0.1:22222";
const ADMIN_PORT: u16 = 22223;
/// Less than the 30 s after which Kubernetes kills.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
const LOG_LEVEL: u8 = 5;
const MAX_WORKERS: u64 = 1024;
/// Of the slow log: a few megabytes, and what a log file can stand.
const MOST_ENTRIES: u64 = 10_000;
const MOST_PER_SECOND: u64 = 1000;
const DNS_PORT: u16 = 53;
const RESOLVER_ALLOWED: &str =
    "allowed: an address, with a port or without (53): 10.0.0.2, 10.0.0.2:53, [fd00::2], [fd00::2]:53";

/// twemproxy's names of its log levels, 0 to 11.
pub(super) const LEVELS: [&str; 12] =
    ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "verb", "vverb", "vvverb", "pverb"];

/// The settings of a file without any global key, and without pools.
pub(super) fn defaults(dialect: Dialect) -> Settings {
    let stats = if dialect == Dialect::Twemproxy { TWEMPROXY_STATS } else { STATS };
    Settings {
        workers: None,
        stats_listen: Some(stats.to_owned()),
        admin: AdminSettings {
            listen: Some(ListenAddress::Tcp { host: "127.0.0.1".to_owned(), port: ADMIN_PORT }),
            asked_for: false,
            token: None,
        },
        resolver: None,
        log: LogSettings { level: LOG_LEVEL, file: None, format: LogFormat::Text },
        observe: ObserveSettings::default(),
        drain_timeout: DRAIN_TIMEOUT,
        pre_stop_delay: Duration::ZERO,
        limits: Limits::default(),
        session_limits: SessionLimits {
            max_session_requests: 1024,
            max_session_bytes: 1 << 20,
            max_connection_requests: 8192,
            max_connection_bytes: 16 << 20,
            max_buffered_bytes: 256 << 20,
        },
        pools: Vec::new(),
    }
}

/// Reads the global keys over the defaults. `base`: where relative file names start.
pub(super) fn read(fields: &mut Fields<'_>, settings: &mut Settings, context: Context<'_>, base: &Path) {
    settings.workers = fields.read("workers", None, workers);
    if let Some(value) = fields.value("admin") {
        admin(value, settings, context, base);
    }
    if let Some(value) = fields.value("log") {
        log(value, &mut settings.log, context);
    }
    if let Some(value) = fields.value("observe") {
        observe(value, &mut settings.observe, context);
    }
    settings.resolver = fields.read("resolver", None, |v| v.parsed(RESOLVER_ALLOWED, resolver).map(Some));
    settings.drain_timeout = fields.read("drain_timeout", settings.drain_timeout, |v| v.duration());
    settings.pre_stop_delay = fields.read("pre_stop_delay", settings.pre_stop_delay, |v| v.duration());
    if let Some(value) = fields.value("limits") {
        limits(value, settings, context);
    }
}

fn workers(value: Value<'_>) -> Option<Option<usize>> {
    let allowed = format!("allowed: auto (one per usable core), or 1 to {MAX_WORKERS}");
    value.parsed(&allowed, |text| match text {
        "auto" => Some(None),
        _ => digits(text).filter(|n| (1..=MAX_WORKERS).contains(n)).map(|n| Some(n as usize)),
    })
}

fn admin(value: Value<'_>, settings: &mut Settings, context: Context<'_>, base: &Path) {
    let Some(mut fields) = Fields::of(value.node, "'admin'", context) else { return };
    if let Some(value) = fields.value("listen") {
        settings.admin.asked_for = true;
        context.report.origin(None, "admin.listen", value.node.at);
        settings.admin.listen = value
            .parsed(&format!("{LISTEN_ALLOWED}, or off"), |text| match text {
                "off" => Some(None),
                _ => listen(text).map(Some),
            })
            .flatten();
        if settings.admin.reaches_beyond_this_machine() && !fields.has("token") {
            let message = "the admin port can be reached from other machines and has no token: whoever comes to it can eject \
                           servers and read keys; admin.token, token_file or token_env sets one";
            context.report.warn(value.node.at, message);
        }
    }
    settings.admin.token = token(&mut fields, base);
    let default = settings.stats_listen.take();
    settings.stats_listen = fields.read("stats", default, |v| {
        v.parsed("allowed: host:port, or off", |text| match text {
            "off" => Some(None),
            _ => host_port(text).map(|_| Some(text.to_owned())),
        })
    });
    if let Some(at) = fields.finish(false).of("stats") {
        context.report.origin(None, "admin.stats", at);
    }
}

/// An address, since a name would need a resolver. IPv6 in brackets only: `::1:53` would be an address here and an
/// address with a port in `listen`.
fn resolver(text: &str) -> Option<SocketAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let alone = match bracketed {
        Some(inside) => inside.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    };
    let address = alone.map(|ip| SocketAddr::new(ip, DNS_PORT)).or_else(|| text.parse().ok());
    address.filter(|address| address.port() > 0)
}

fn log(value: Value<'_>, log: &mut LogSettings, context: Context<'_>) {
    let Some(mut fields) = Fields::of(value.node, "'log'", context) else { return };
    log.level = fields.read("level", log.level, level);
    log.file = fields.read("file", None, |v| match v.text("allowed: a file name, or stderr")? {
        "stderr" => Some(None),
        name => Some(Some(name.into())),
    });
    log.format =
        fields.read("format", log.format, |v| v.choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]));
    if let Some(at) = fields.finish(false).of("file") {
        context.report.origin(None, "log.file", at);
    }
}

fn level(value: Value<'_>) -> Option<u8> {
    value.parsed(&levels_allowed(), log_level)
}

/// For messages about a bad log level.
pub fn levels_allowed() -> String {
    format!("allowed: 0 to 11, or {}", LEVELS.join(", "))
}

/// A log level by number or name.
pub fn log_level(text: &str) -> Option<u8> {
    match LEVELS.iter().position(|name| *name == text) {
        Some(level) => Some(level as u8),
        None => digits(text).filter(|n| *n < LEVELS.len() as u64).map(|n| n as u8),
    }
}

/// The name of a level.
pub fn level_name(level: u8) -> String {
    LEVELS.get(usize::from(level)).map_or_else(|| level.to_string(), |name| (*name).to_owned())
}

fn observe(value: Value<'_>, observe: &mut ObserveSettings, context: Context<'_>) {
    let Some(mut fields) = Fields::of(value.node, "'observe'", context) else { return };
    observe.metrics = fields.read("metrics", observe.metrics, |v| v.boolean());
    observe.hot_keys = fields.read("hot_keys", observe.hot_keys, |v| v.boolean());
    observe.keys = fields.read("keys", observe.keys, |v| v.choice(&KeyForm::ALL));
    let (entries, rate) = (observe.slowlog_entries as u64, u64::from(observe.slowlog_per_second));
    observe.slowlog_entries = fields.read("slowlog_entries", entries, |v| v.number(0..=MOST_ENTRIES)) as usize;
    observe.slowlog_per_second = fields.read("slowlog_per_second", rate, |v| v.number(0..=MOST_PER_SECOND)) as u32;
    observe.slowlog_to_log = fields.read("slowlog_to_log", observe.slowlog_to_log, |v| v.boolean());
    fields.finish(false);
}

fn limits(value: Value<'_>, settings: &mut Settings, context: Context<'_>) {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const MOST: u64 = 64 << 30;
    const COUNT: std::ops::RangeInclusive<u64> = 1..=i32::MAX as u64;
    let Some(mut fields) = Fields::of(value.node, "'limits'", context) else { return };
    let (one, many) = (&mut settings.limits, &mut settings.session_limits);
    let mut size = |key, field: &mut usize, least: u64| {
        *field = fields.read(key, *field as u64, |v| v.size(least..=MOST)) as usize;
    };
    size("max_request_bytes", &mut one.max_request_bytes, KIB);
    size("max_response_bytes", &mut one.max_response_bytes, KIB);
    size("max_key_bytes", &mut one.max_key_bytes, 1);
    size("max_line_bytes", &mut one.max_line_bytes, 512);
    size("max_session_bytes", &mut many.max_session_bytes, KIB);
    size("max_connection_bytes", &mut many.max_connection_bytes, KIB);
    size("max_buffered_bytes", &mut many.max_buffered_bytes, MIB);
    let mut count = |key, field: &mut usize, range: std::ops::RangeInclusive<u64>| {
        *field = fields.read(key, *field as u64, |v| v.number(range)) as usize;
    };
    count("max_arguments", &mut one.max_arguments, COUNT);
    count("max_nesting", &mut one.max_nesting, 1..=128);
    count("max_session_requests", &mut many.max_session_requests, COUNT);
    count("max_connection_requests", &mut many.max_connection_requests, COUNT);
    fields.finish(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_an_address_with_or_without_a_port() {
        for (text, address) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("10.0.0.2:5353", "10.0.0.2:5353"),
            ("[::1]", "[::1]:53"),
            ("[fd00::2]:5353", "[fd00::2]:5353"),
        ] {
            assert_eq!(resolver(text).map(|a| a.to_string()).as_deref(), Some(address));
        }
        for bad in
            ["", "53", ":53", "dns", "dns:53", "10.0.0.2:0", "10.0.0.2:", "::1", "::1:53", "[10.0.0.2]", "[::1]:x"]
        {
            assert_eq!(resolver(bad), None, "{bad}");
        }
    }
}
