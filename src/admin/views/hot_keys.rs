//! `GET /hotkeys?top=20`: the keys that are asked for most now, and the largest values and requests of late.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shown_command;
use crate::admin::Sources;
use crate::pool::SharedPool;
use crate::telemetry::{Found, KeyForm, SAMPLE_EVERY, date_and_time};

/// Hot and big keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HotKeysView {
    /// None if `observe.hot_keys` is off.
    pub pools: Vec<PoolKeysView>,
}

/// Those of one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolKeysView {
    pub pool: String,
    /// One request in so many is looked at.
    pub sample_every: u32,
    /// Keys that the shares are of: the fewer, the less exact they are. Half of them is forgotten every ten seconds.
    pub sampled: u64,
    /// Hottest first.
    pub hot: Vec<HotKeyView>,
    /// Largest first.
    pub big: Vec<BigKeyView>,
}

/// A key that is asked for often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HotKeyView {
    /// As `observe.keys` has it.
    pub key: String,
    /// The length of the key, if only the beginning of it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_bytes: Option<u32>,
    /// The one that was asked for it last; null: it is there no more.
    pub server: Option<String>,
    /// Of all keys that are asked for in the pool, from 0 to 1.
    pub share: f64,
}

/// A key with a large value, or with a large request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BigKeyView {
    /// As `observe.keys` has it; of several keys of one request the first.
    pub key: String,
    /// The length of the key, if only the beginning of it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_bytes: Option<u32>,
    /// In capitals.
    pub command: String,
    /// Of the request or of the reply, whichever is larger.
    pub bytes: u64,
    /// When it was that large.
    pub at: String,
}

/// Of every pool the hottest and the largest, so many at the most.
pub fn hot_keys(sources: &Sources, top: usize) -> HotKeysView {
    let (topology, keys) = (sources.topology.borrow().clone(), sources.observer.key_form());
    let watched = topology.pools.iter().filter(|_| sources.observer.wants_hot_keys());
    HotKeysView { pools: watched.map(|pool| pool_view(sources, pool, keys, top)).collect() }
}

fn pool_view(sources: &Sources, pool: &SharedPool, keys: KeyForm, top: usize) -> PoolKeysView {
    let found = Found::by(pool.hot_keys.iter().map(|worker| &**worker), top, Instant::now());
    let server = |number| {
        let place = pool.servers.iter().position(|server| server.id.0 == number)?;
        Some(pool.settings.servers[place].name.clone())
    };
    let hot = found.hot.iter().map(|hot| HotKeyView {
        key: hot.key.shown(keys),
        key_bytes: hot.key.cut_length(keys),
        server: server(hot.server),
        share: hot.share,
    });
    let big = found.big.iter().take(top).map(|big| BigKeyView {
        key: big.key.shown(keys),
        key_bytes: big.key.cut_length(keys),
        command: shown_command(big.command),
        bytes: big.bytes,
        at: date_and_time(sources.wall(big.at)),
    });
    PoolKeysView {
        pool: pool.settings.name.clone(),
        sample_every: SAMPLE_EVERY,
        sampled: found.samples,
        hot: hot.collect(),
        big: big.collect(),
    }
}
