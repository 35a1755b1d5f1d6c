//! The `servers` of a pool: `host:port:weight[ name]` or `/path:weight[ name]`, split from the right as twemproxy
//! does; in our own format the weight may be left out (1), and `local[:weight] name` is a server in this process.

use std::collections::HashMap;

use crate::ring::{server_order, tcp_ring_name, unix_ring_name};

use super::Dialect;
use super::address::{host_name, port, unix_path};
use super::fields::Context;
use super::report::{Span, quoted};
use super::settings::{ServerAddress, ServerSettings};
use super::value::{Value, digits};
use super::yaml::Kind;

const TWEMPROXY_ALLOWED: &str = "allowed: host:port:weight or /path:weight, then, optionally, one space and a name; \
                                 port 1 to 65535, weight at least 1";
const OWN_ALLOWED: &str = "allowed: host:port[:weight] or /path[:weight], then, optionally, one space and a name, \
                           or local[:weight] and a name; port 1 to 65535, weight at least 1 (default 1)";

/// The servers in ring order, each with its place in the file; the wrong ones are reported and left out.
pub(super) fn servers(value: Value<'_>) -> Vec<(ServerSettings, Span)> {
    let context = value.context;
    let allowed = match context.dialect {
        Dialect::Outrigger => OWN_ALLOWED,
        Dialect::Twemproxy => TWEMPROXY_ALLOWED,
    };
    let Kind::Sequence(items) = &value.node.kind else {
        value.reject("allowed: a list, each line `- host:port:weight name`");
        return Vec::new();
    };
    if items.is_empty() {
        value.reject("allowed: at least one server");
        return Vec::new();
    }
    let mut servers = Vec::with_capacity(items.len());
    for item in items {
        match item.scalar().and_then(|text| server(text, context.dialect)) {
            Some(server) => servers.push((server, item.at)),
            None => context.report.error(item.at, format!("bad server: {}; {allowed}", item.describe())),
        }
    }
    check_unique(&servers, context);
    servers.sort_by(|(a, _), (b, _)| server_order(&a.name).cmp(&server_order(&b.name)));
    servers
}

/// Reports every server whose name another one has already.
fn check_unique(servers: &[(ServerSettings, Span)], context: Context<'_>) {
    let mut first_lines = HashMap::new();
    for (server, at) in servers {
        if let Some(line) = first_lines.insert(&server.name, at.line) {
            let name = quoted(&server.name);
            let message = format!("duplicate server name: {name}; also in line {line}, allowed: once in a pool");
            context.report.error(*at, message);
        }
    }
}

fn server(text: &str, dialect: Dialect) -> Option<ServerSettings> {
    let (address, name) = match text.rsplit_once(' ') {
        Some((address, name)) => (address, Some(name)),
        None => (text, None),
    };
    if name.is_some_and(str::is_empty) {
        return None;
    }
    let own = dialect == Dialect::Outrigger;
    if let (true, Some(name), Some(weight)) = (own, name, local_weight(address)) {
        return Some(ServerSettings { name: name.to_owned(), address: ServerAddress::Local, weight });
    }
    if address.starts_with('/') { unix(address, name, own) } else { tcp(address, name, own) }
}

/// Of `local` and `local:2`.
fn local_weight(address: &str) -> Option<u32> {
    match address.strip_prefix("local")? {
        "" => Some(1),
        rest => weight(rest.strip_prefix(':')?),
    }
}

fn unix(address: &str, name: Option<&str>, own: bool) -> Option<ServerSettings> {
    let (path, weight) = match address.rsplit_once(':') {
        Some((path, number)) => (path, weight(number)?),
        None if own => (address, 1),
        None => return None,
    };
    let name = name.map_or_else(|| unix_ring_name(path), str::to_owned);
    Some(ServerSettings { name, address: ServerAddress::Unix { path: unix_path(path)? }, weight })
}

fn tcp(address: &str, name: Option<&str>, own: bool) -> Option<ServerSettings> {
    let (rest, last) = address.rsplit_once(':')?;
    // `host:port` without a weight: nothing but a name, or a bracketed address, may be before the last colon.
    let short = own && (!rest.contains(':') || rest.ends_with(']'));
    let (host, port_text, weight) = match rest.rsplit_once(':') {
        Some((host, port_text)) if !short => (host, port_text, weight(last)?),
        _ if short => (rest, last, 1),
        _ => return None,
    };
    let number = port(port_text)?;
    let name = name.map_or_else(|| tcp_ring_name(host, port_text), str::to_owned);
    Some(ServerSettings { name, address: ServerAddress::Tcp { host: host_name(host)?, port: number }, weight })
}

/// twemproxy's int, at least 1.
fn weight(text: &str) -> Option<u32> {
    digits(text).filter(|n| (1..=i32::MAX as u64).contains(n)).map(|n| n as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, dialect: Dialect) -> Option<(String, String, u32)> {
        server(text, dialect).map(|s| (s.name, s.address.to_string(), s.weight))
    }

    fn same(name: &str, address: &str, weight: u32) -> Option<(String, String, u32)> {
        Some((name.to_owned(), address.to_owned(), weight))
    }

    #[test]
    fn twemproxys_entries_and_their_ring_names() {
        for dialect in [Dialect::Twemproxy, Dialect::Outrigger] {
            let read = |text| read(text, dialect);
            assert_eq!(read("10.0.0.1:6379:1"), same("10.0.0.1:6379", "10.0.0.1:6379", 1));
            assert_eq!(read("10.0.0.1:11211:3"), same("10.0.0.1", "10.0.0.1:11211", 3));
            assert_eq!(read("10.0.0.1:011211:3"), same("10.0.0.1", "10.0.0.1:11211", 3));
            assert_eq!(read("cache:06379:1"), same("cache:06379", "cache:6379", 1));
            assert_eq!(read("cache:6379:2 alpha"), same("alpha", "cache:6379", 2));
            assert_eq!(read("::1:6379:1"), same("::1:6379", "[::1]:6379", 1));
            assert_eq!(read("[::1]:6379:1"), same("[::1]:6379", "[::1]:6379", 1));
            assert_eq!(read("/run/a.sock:1"), same("/run/a.sock:", "/run/a.sock", 1));
            assert_eq!(read("/run/a.sock:1 a"), same("a", "/run/a.sock", 1));
            assert_eq!(read("/run/a b.sock:1 a"), same("a", "/run/a b.sock", 1));
        }
    }

    #[test]
    fn our_own_format_may_leave_the_weight_out() {
        let own = |text| read(text, Dialect::Outrigger);
        assert_eq!(own("10.0.0.1:6379"), same("10.0.0.1:6379", "10.0.0.1:6379", 1));
        assert_eq!(own("10.0.0.1:6379 a"), same("a", "10.0.0.1:6379", 1));
        assert_eq!(own("[::1]:6379 a"), same("a", "[::1]:6379", 1));
        assert_eq!(own("/run/a.sock"), same("/run/a.sock:", "/run/a.sock", 1));
        assert_eq!(own("local a"), same("a", "local", 1));
        assert_eq!(own("local:2 a"), same("a", "local", 2));
        assert_eq!(own("local:6379:1"), same("local:6379", "local:6379", 1));
        for short in ["10.0.0.1:6379", "10.0.0.1:6379 a", "[::1]:6379 a", "/run/a.sock", "local a", "local:2 a"] {
            assert_eq!(read(short, Dialect::Twemproxy), None, "{short}");
        }
    }

    #[test]
    fn refuses_what_twemproxy_refuses() {
        for bad in [
            "",
            "a",
            "a:1:0",
            "a:1:-1",
            "a:0:1",
            "a:65536:1",
            "a:x:1",
            "a:1:x",
            "a:1:1  n",
            "a:1:1 n m",
            "a:1:1 ",
            ":1:1",
            " a:1:1",
            "/run/a:0",
            "/run/a:x",
            "/run/a b:1",
            "local",
            "a:1:99999999999",
            "a:b:1:1",
        ] {
            assert_eq!(read(bad, Dialect::Twemproxy), None, "{bad}");
        }
        for bad in ["", "a", "local", "local:0 a", "local: a", ":1", "a:1:0", "run/a", "[::1] a"] {
            assert_eq!(read(bad, Dialect::Outrigger), None, "{bad}");
        }
    }
}
