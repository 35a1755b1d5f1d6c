//! Outrigger: a sidecar caching proxy in front of Redis and memcached.

pub mod cli;
pub mod config;
pub mod hash;
pub mod protocol;
pub mod ring;
pub mod io;
