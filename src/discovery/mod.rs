//! Names: which addresses the host names of servers stand for, asked for again and again.
//!
//! ```text
//!   Names, one task a name                         Name, shared by the process        connections of all workers
//!     ask: /etc/hosts, then DNS ──addresses──►       the last good addresses  ──────►   where to connect to
//!     wait: the TTL, or a back-off                   and whether they changed ──────►   which ones to replace
//!        ▲                                                                                   │
//!        └────────────────────────── poke: a connection failed ──────────────────────────────┘
//! ```
//! Placement of keys does not depend on any of this: the ring is built on the names in the configuration.
//!
//! A name is resolved for as long as anybody holds it; its task only sees it.
//!
//! Invariant: a name that has had an address has one. A name server that denies the name, fails or is silent changes
//! nothing but the log.

mod lookup;
mod name;
mod names;
mod schedule;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

pub use name::{Name, OnChange};
pub use names::Names;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Always there.
    Address(SocketAddr),
    /// At the addresses of the name, which is shared by all servers that have it, and at this port.
    Name(Arc<Name>, u16),
}

/// A host that is an address already.
fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = host.parse() {
        return Some(SocketAddr::new(address, port));
    }
    // IPv6 with a zone, as in fe80::1%eth0: no name server is asked for anything with a colon.
    let zoned = || (host, port).to_socket_addrs().ok()?.next();
    host.contains(':').then(zoned).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_names() {
        for (host, address) in [("::1", "[::1]:7"), ("127.0.0.1", "127.0.0.1:7"), ("fe80::1%1", "[fe80::1%1]:7")] {
            assert_eq!(literal(host, 7), Some(address.parse().unwrap()));
        }
        assert_eq!(literal("cache.test", 7), None);
    }
}
