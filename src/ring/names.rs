//! Ring names and their order: what twemproxy makes of a pool's `servers` lines before it builds the ring.

/// The port that a ring name leaves out: memcached's.
const UNNAMED_PORT: &str = "11211";

/// The sort key of servers (by ring name) and of pools (by name): shorter first, then by bytes.
///
/// A server's place in this order is its index; the order of the file never matters.
pub fn server_order(name: &str) -> (usize, &[u8]) {
    (name.len(), name.as_bytes())
}

/// The ring name of a server at `host:port` that has no name of its own. `port` is the text of the file.
///
/// Neither the weight nor, for memcached's port, the port is part of it.
pub fn tcp_ring_name(host: &str, port: &str) -> String {
    // Compared as a number (`011211` is that port too), but kept as written.
    if port.trim_start_matches('0') == UNNAMED_PORT { host.to_owned() } else { format!("{host}:{port}") }
}

/// The ring name of a server at a unix socket that has no name of its own: the path and a colon.
pub fn unix_ring_name(path: &str) -> String {
    format!("{path}:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_memcached_is_left_out() {
        assert_eq!(tcp_ring_name("10.0.0.1", "11211"), "10.0.0.1");
        assert_eq!(tcp_ring_name("10.0.0.1", "011211"), "10.0.0.1");
        assert_eq!(tcp_ring_name("10.0.0.1", "6379"), "10.0.0.1:6379");
        assert_eq!(tcp_ring_name("10.0.0.1", "06379"), "10.0.0.1:06379");
        assert_eq!(tcp_ring_name("::1", "1121"), "::1:1121");
    }

    #[test]
    fn a_socket_keeps_the_colon_before_its_weight() {
        assert_eq!(unix_ring_name("/run/a.sock"), "/run/a.sock:");
    }

    #[test]
    fn shorter_names_come_first() {
        let mut names = ["node-10", "zz", "b", "a", "node-9"];
        names.sort_by(|x, y| server_order(x).cmp(&server_order(y)));
        assert_eq!(names, ["a", "b", "zz", "node-9", "node-10"]);
    }
}
