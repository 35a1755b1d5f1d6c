//! `outrigger explain POOL KEY...`: where keys are, step by step. The answer is the file's; which servers are ejected
//! right now only the running proxy knows.

use std::path::Path;
use std::process::ExitCode;

use crate::config::Settings;
use crate::health::Standing;
use crate::pool::{Explanation, Routing};

use super::{complain, load, say};

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
    // With all servers live no pool stands in for another.
    let routing = Routing::build(pool, vec![Standing::Live; pool.servers.len()]);
    let block = |key: &String| Explanation::of(pool, &routing, None, key.as_bytes()).to_string();
    let blocks: Vec<String> = keys.iter().map(block).collect();
    say(format_args!("{}", blocks.join("\n")));
    ExitCode::SUCCESS
}

fn names(settings: &Settings) -> String {
    let names: Vec<&str> = settings.pools.iter().map(|pool| pool.name.as_str()).collect();
    names.join(", ")
}
