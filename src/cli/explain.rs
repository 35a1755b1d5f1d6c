//! `outrigger explain POOL KEY...`: where keys are, step by step. The answer is the file's; which servers are ejected
//! right now only the running proxy knows.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{PoolSettings, ServerSettings, Settings};
use crate::hash::tagged;
use crate::ring::{Distribution, Ring};

use super::{complain, counted, load, say};

/// The way of one key.
pub struct Explanation<'a> {
    pool: &'a PoolSettings,
    key: &'a str,
    /// What is hashed, if that is not the whole key.
    tag: Option<String>,
    /// Not with `random` or a single server, where nothing is hashed.
    hash: Option<u32>,
    continuum_point: Option<u32>,
    /// `None`: any server, by chance.
    server: Option<&'a ServerSettings>,
}

/// Prints a block for each key.
pub fn explain(config: Option<&Path>, pool: &str, keys: &[String]) -> ExitCode {
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(errors) => {
            complain(format_args!("{errors}\n"));
            return ExitCode::FAILURE;
        }
    };
    let Some(pool) = loaded.settings.pools.iter().find(|p| p.name == pool) else {
        complain(format_args!("outrigger: no pool '{pool}'; there are: {}\n", names(&loaded.settings)));
        return ExitCode::FAILURE;
    };
    let ring = Ring::build(pool.distribution, &pool.ring_servers(), |_| true);
    let blocks: Vec<String> = keys.iter().map(|key| Explanation::of(pool, &ring, key).to_string()).collect();
    say(format_args!("{}", blocks.join("\n")));
    ExitCode::SUCCESS
}

impl<'a> Explanation<'a> {
    /// `ring` is the pool's, with all servers live.
    pub fn of(pool: &'a PoolSettings, ring: &Ring, key: &'a str) -> Self {
        let hashed = tagged(key.as_bytes(), pool.hash_tag);
        let tag = (hashed.len() != key.len()).then(|| String::from_utf8_lossy(hashed).into_owned());
        let hash = ring.needs_hash().then(|| pool.hash.hash(hashed));
        let by_chance = pool.distribution == Distribution::Random && pool.servers.len() > 1;
        let located = if by_chance { None } else { ring.locate(hash.unwrap_or(0)) };
        Self {
            pool,
            key,
            tag,
            hash,
            continuum_point: located.and_then(|located| located.continuum_point),
            server: located.and_then(|located| pool.servers.get(located.server)),
        }
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.pool;
        writeln!(f, "key          {}", self.key)?;
        let servers = counted(pool.servers.len(), "server");
        writeln!(f, "pool         {} ({servers}, {})", pool.name, pool.distribution.name())?;
        if let Some(tag) = &self.tag {
            writeln!(f, "hash tag     {tag}")?;
        }
        match self.hash {
            Some(hash) => writeln!(f, "hash         {} = {hash}", pool.hash.name())?,
            None => writeln!(f, "hash         none")?,
        }
        if let Some(point) = self.continuum_point {
            writeln!(f, "point        {point}")?;
        }
        match self.server {
            Some(server) => writeln!(f, "server       {} ({})", server.name, server.address)?,
            None => writeln!(f, "server       any, another one at each request")?,
        }
        Ok(())
    }
}

fn names(settings: &Settings) -> String {
    let names: Vec<&str> = settings.pools.iter().map(|pool| pool.name.as_str()).collect();
    names.join(", ")
}
