//! Settings that are allowed and hardly meant: each a warning when the file is loaded.

use crate::hash::KeyHash;
use crate::ring::{Distribution, ketama_points};

use super::Dialect;
use super::fields::{Context, Places};
use super::health::ONLY_WITH_EJECTION;
use super::report::{Span, quoted};
use super::settings::{OnEjected, PoolSettings, ServerAddress, ServerSettings};

/// Where things stand in the file.
pub(super) struct Given<'a> {
    /// The pool's name.
    pub pool: Span,
    pub places: &'a Places,
    /// Of each server, in ring order.
    pub servers: &'a [Span],
    pub reuseport: bool,
}

/// Warns of every trap in one pool.
pub(super) fn pool(settings: &PoolSettings, given: &Given<'_>, context: Context<'_>) {
    let at = |key| given.places.of(key).unwrap_or(given.pool);
    let warn = |key, message: String| context.report.warn(at(key), message);
    let several = settings.servers.len() > 1;

    if several && settings.hash == KeyHash::Crc32 && settings.distribution == Distribution::Ketama {
        let message =
            "crc32 with ketama puts every key on one server, since this crc32 has 15 bits only; crc32a has 32";
        warn("hash", message.to_owned());
    }
    weights(settings, given, context);
    same_addresses(settings, given, context);
    ejection(settings, given, context);
    if let (Some(slow), Some(at)) = (settings.slow_timeout, given.places.of("slow_timeout"))
        && settings.timeout.is_none_or(|timeout| slow < timeout)
    {
        context.report.warn(at, "slow_timeout is shorter than timeout: slow commands get less time than the others");
    }
    if given.reuseport {
        warn("reuseport", "reuseport has no effect: one socket per listen address serves all workers".to_owned());
    }
    if context.dialect == Dialect::Twemproxy {
        compared_with_twemproxy(settings, given, context);
    }
}

/// What the same file does in twemproxy, and does not do here.
fn compared_with_twemproxy(settings: &PoolSettings, given: &Given<'_>, context: Context<'_>) {
    if given.places.of("timeout").is_none() {
        let message = "no timeout: as in twemproxy, a request to a server that stalls waits for ever; `timeout: 1000` is a \
                       second, `timeout: 0` says that this is meant";
        context.report.warn(given.pool, message);
    }
    if let (Some(most), Some(at)) = (settings.client_connections, given.places.of("client_connections")) {
        let message =
            format!("client_connections is enforced here: client {} is turned away; twemproxy ignores it", most + 1);
        context.report.warn(at, message);
    }
    if let (2.., Some(at)) = (settings.server_connections, given.places.of("server_connections")) {
        let message = format!(
            "server_connections counts per worker here: each server gets up to {} connections times the number of workers",
            settings.server_connections
        );
        context.report.warn(at, message);
    }
}

/// Keys about ejection where nothing can be ejected, and those that the chosen policy has no use for.
fn ejection(settings: &PoolSettings, given: &Given<'_>, context: Context<'_>) {
    let health = &settings.health;
    let Some(at) = given.places.of("auto_eject_hosts") else {
        keys_without_ejection(given, context);
        return;
    };
    // `auto_eject_hosts: false` is a switch: what stands beside it may stay.
    if !health.eject {
        return;
    }
    let (servers, percent) = (settings.servers.len(), usize::from(health.max_ejected_percent));
    if servers > 0 && servers * percent / 100 == 0 {
        let servers = if servers == 1 { "one server".to_owned() } else { format!("{servers} servers") };
        let message = format!(
            "auto_eject_hosts ejects nothing here: {percent} % of {servers} (max_ejected_percent) is less than one"
        );
        context.report.warn(at, message);
    } else if context.dialect == Dialect::Twemproxy {
        let message = "as in twemproxy, an ejected server that returns serves what it held before, older values too; \
                       Outrigger's own format has `on_readmit` to prevent it";
        context.report.warn(at, message);
    }
    if let (Some(at), false) = (given.places.of("gutter_ttl"), matches!(health.on_ejected, OnEjected::Pool(_))) {
        context.report.warn(at, "gutter_ttl has no effect: on_ejected names no pool");
    }
    let slow_start = given.places.of("slow_start").filter(|_| !health.slow_start.is_zero());
    if let (Some(at), OnEjected::FailFast | OnEjected::Miss) = (slow_start, health.on_ejected) {
        let message =
            "slow_start has no effect: with `on_ejected: fail_fast` or `miss` no other server has the keys meanwhile";
        context.report.warn(at, message);
    }
}

/// One warning for all of them.
fn keys_without_ejection(given: &Given<'_>, context: Context<'_>) {
    let keys = ONLY_WITH_EJECTION.iter().filter_map(|key| Some((given.places.of(key)?, *key)));
    let mut keys: Vec<(Span, &str)> = keys.collect();
    keys.sort_by_key(|(at, _)| at.start);
    if let Some((first, _)) = keys.first() {
        let names: Vec<&str> = keys.iter().map(|(_, key)| *key).collect();
        let message = format!("no effect without `auto_eject_hosts: true`: {}", names.join(", "));
        context.report.warn(*first, message);
    }
}

/// Weights that do nothing, and weights that leave a server without keys.
fn weights(settings: &PoolSettings, given: &Given<'_>, context: Context<'_>) {
    let servers = &settings.servers;
    let weighted = |one: &ServerSettings| one.weight != 1;
    if let [only] = servers.as_slice() {
        if let (true, Some(at)) = (weighted(only), given.servers.first()) {
            context.report.warn(*at, "the weight has no effect: there is one server only");
        }
        return;
    }
    match settings.distribution {
        Distribution::Random => {
            let unequal = servers.windows(2).any(|pair| pair[0].weight != pair[1].weight);
            if unequal {
                let at = given.places.of("distribution").unwrap_or(given.pool);
                context
                    .report
                    .warn(at, "the weights have no effect: `distribution: random` takes every server equally often");
            }
        }
        Distribution::Ketama => {
            let points = ketama_points(&settings.ring_servers());
            for ((server, at), points) in servers.iter().zip(given.servers).zip(points) {
                if points == 0 {
                    let name = quoted(&server.name);
                    let message =
                        format!("the server {name} gets no key: its weight is too small for a point on the continuum");
                    context.report.warn(*at, message);
                }
            }
        }
        Distribution::Modula => {}
    }
}

/// One server under two names: legal, and at times a slip of the editor.
fn same_addresses(settings: &PoolSettings, given: &Given<'_>, context: Context<'_>) {
    let servers = settings.servers.iter().zip(given.servers);
    let mut seen: Vec<&ServerSettings> = Vec::new();
    for (server, at) in servers.filter(|(server, _)| server.address != ServerAddress::Local) {
        if let Some(other) = seen.iter().find(|other| other.address == server.address) {
            let (a, b) = (quoted(&other.name), quoted(&server.name));
            context.report.warn(*at, format!("the servers {a} and {b} have the same address"));
        } else {
            seen.push(server);
        }
    }
}
