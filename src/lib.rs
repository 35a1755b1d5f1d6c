//! Outrigger: a sidecar caching proxy in front of Redis and memcached.

pub mod admin;
pub mod backend;
pub mod cli;
pub mod config;
pub mod hash;
pub mod io;
pub mod listener;
pub mod local;
pub mod pool;
pub mod protocol;
pub mod proxy;
pub mod ring;
pub mod session;
pub mod telemetry;
pub mod worker;
