//! Addresses as twemproxy writes them, split from the right: `host:port`, `/path`, `/path 0666`; IPv6 bare
//! (`::1:22121`) or in brackets (`[::1]:22121`).

use std::path::PathBuf;

use super::settings::ListenAddress;
use super::value::digits;

/// Longest path of a unix socket: `sun_path` less its final zero byte.
const MAX_UNIX_PATH: usize = 107;

pub(super) const LISTEN_ALLOWED: &str =
    "allowed: host:port (127.0.0.1:22121, [::1]:22121), /path/of/socket, or \"/path/of/socket 0666\"";

/// A `listen` value.
pub(super) fn listen(text: &str) -> Option<ListenAddress> {
    if text.starts_with('/') {
        let (path, mode) = match text.rsplit_once(' ') {
            Some((path, mode)) => (path, Some(permissions(mode)?)),
            None => (text, None),
        };
        return Some(ListenAddress::Unix { path: unix_path(path)?, mode });
    }
    let (host, port) = host_port(text)?;
    Some(ListenAddress::Tcp { host, port })
}

/// `host:port`, split at the last colon; the host without its brackets.
pub(super) fn host_port(text: &str) -> Option<(String, u16)> {
    let (host, number) = text.rsplit_once(':')?;
    Some((host_name(host)?, port(number)?))
}

/// 1 to 65535, digits only.
pub(super) fn port(text: &str) -> Option<u16> {
    digits(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0)
}

/// A host name or an address; brackets are for IPv6 only and are taken off.
pub(super) fn host_name(text: &str) -> Option<String> {
    let (bare, bracketed) = match text.strip_prefix('[') {
        Some(rest) => (rest.strip_suffix(']')?, true),
        None => (text, false),
    };
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '/' | '"' | '\'');
    let fits = !bare.is_empty() && !bare.contains(strange) && bare.contains(':') >= bracketed;
    // A bare colon belongs to an IPv6 address or to nothing.
    let address = bare.split_once('%').map_or(bare, |(address, _)| address);
    let sound = !bare.contains(':') || address.parse::<std::net::Ipv6Addr>().is_ok();
    (fits && sound).then(|| bare.to_owned())
}

/// An absolute path that fits into a socket address.
pub(super) fn unix_path(text: &str) -> Option<PathBuf> {
    (text.starts_with('/') && text.len() <= MAX_UNIX_PATH && !text.contains('\0')).then(|| PathBuf::from(text))
}

/// Octal, at most 0777.
fn permissions(text: &str) -> Option<u32> {
    digits(text)?;
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Option<ListenAddress> {
        Some(ListenAddress::Tcp { host: host.to_owned(), port })
    }

    #[test]
    fn listens_on_hosts_and_paths() {
        assert_eq!(listen("127.0.0.1:22121"), tcp("127.0.0.1", 22121));
        assert_eq!(listen("localhost:022121"), tcp("localhost", 22121));
        assert_eq!(listen("::1:22121"), tcp("::1", 22121));
        assert_eq!(listen("[::1]:22121"), tcp("::1", 22121));
        assert_eq!(listen("fe80::1%eth0:22121"), tcp("fe80::1%eth0", 22121));
        let unix = |path: &str, mode| Some(ListenAddress::Unix { path: PathBuf::from(path), mode });
        assert_eq!(listen("/run/a.sock"), unix("/run/a.sock", None));
        assert_eq!(listen("/run/a.sock 0666"), unix("/run/a.sock", Some(0o666)));
        assert_eq!(listen("/run/a b.sock 0777"), unix("/run/a b.sock", Some(0o777)));
    }

    #[test]
    fn refuses_what_cannot_be_bound() {
        let long = format!("/{}", "x".repeat(107));
        for bad in [
            "",
            "22121",
            ":22121",
            "h:",
            "h:0",
            "h:65536",
            "h:-1",
            "h:+1",
            "h: 1",
            "a b:1",
            "[::1]",
            "[::1:22121",
            "[127.0.0.1]:1",
            "a:b:1",
            "tcp://h:1",
            "/run/a 0999",
            "/run/a 1777",
            "/run/a ",
            "run/a",
            &long,
        ] {
            assert_eq!(listen(bad), None, "{bad}");
        }
    }
}
