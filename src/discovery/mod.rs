//! Names: which addresses the host names of servers stand for, asked for again and again.
//!
//! ```text
//!   Resolver, one task a name                      Name, shared by the process        connections of all workers
//!     ask: /etc/hosts, then DNS ──addresses──►       the last good addresses  ──────►   where to connect to
//!     wait: the TTL, or a back-off                   and whether they changed ──────►   which ones to replace
//!        ▲                                                                                   │
//!        └────────────────────────── poke: a connection failed ──────────────────────────────┘
//! ```
//! Placement of keys does not depend on any of this: the ring is built on the names in the configuration.
//!
//! Invariant: a name that has had an address has one. A name server that denies the name, fails or is silent changes
//! nothing but the log.

mod lookup;
mod name;
mod resolver;
mod schedule;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

pub use name::{Name, OnChange};
pub use resolver::Resolver;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Always there.
    Address(SocketAddr),
    /// At the addresses of the name, which is shared by all servers that have it, and at this port.
    Name(Arc<Name>, u16),
}

/// The host names of all servers, each once.
pub struct Names {
    names: BTreeMap<String, Arc<Name>>,
    on_change: OnChange,
}

impl Names {
    /// `on_change` is called, on the resolver's thread, after the addresses of a name have changed; not when it gets its
    /// first ones.
    pub fn new(on_change: OnChange) -> Self {
        Self { names: BTreeMap::new(), on_change }
    }

    /// What `host` stands for: itself, or a name that is resolved from now on.
    pub fn host(&mut self, host: &str, port: u16) -> Host {
        if let Some(address) = literal(host, port) {
            return Host::Address(address);
        }
        let new = || Arc::new(Name::new(host, self.on_change.clone()));
        Host::Name(self.names.entry(host.to_owned()).or_insert_with(new).clone(), port)
    }

    /// What keeps these names up to date, asking `server` alone or, with `None`, as the system is configured. `None`
    /// when there are no names.
    pub fn resolver(self, server: Option<SocketAddr>) -> Option<Resolver> {
        let names: Vec<_> = self.names.into_values().collect();
        (!names.is_empty()).then(|| Resolver::new(names, server))
    }
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
    fn servers_with_the_same_name_share_it_and_addresses_are_no_names() {
        let mut names = Names::new(Arc::new(|_| ()));
        let first = names.host("cache.test", 1);
        let Host::Name(name, 1) = &first else { panic!("{first:?}") };
        let second = names.host("cache.test", 2);
        assert!(matches!(&second, Host::Name(same, 2) if Arc::ptr_eq(name, same)), "{second:?}");
        for (host, address) in [("::1", "[::1]:7"), ("127.0.0.1", "127.0.0.1:7"), ("fe80::1%1", "[fe80::1%1]:7")] {
            assert_eq!(names.host(host, 7), Host::Address(address.parse().unwrap()));
        }
        assert_eq!(names.names.len(), 1);
    }

    #[test]
    fn without_names_there_is_nothing_to_resolve() {
        let mut names = Names::new(Arc::new(|_| ()));
        names.host("127.0.0.1", 1);
        assert!(names.resolver(None).is_none());
    }
}
