//! Outrigger: a sidecar caching proxy in front of Redis and memcached.

pub mod config;
pub mod hash;
pub mod local;
pub mod protocol;
pub mod ring;
