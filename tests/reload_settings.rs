//! Every key of the file is changed in a running proxy, and its effect is seen from outside: by clients that were there
//! before, by new ones, by servers, in the statistics or by the kernel. What needs a restart says so.

mod support;

mod reload_settings {
    pub mod clients;
    pub mod health;
    pub mod limits;
    pub mod observe;
    pub mod process;
    pub mod scene;
    pub mod servers;
}

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use outrigger::config;
use reload_settings::{clients, health, limits, observe, process, servers};

/// A key as plans and logs name it, and what shows that its new value is in force.
type Case = (&'static str, fn());

const CASES: [&[Case]; 6] =
    [process::CASES, observe::CASES, limits::CASES, clients::CASES, servers::CASES, health::CASES];

fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.into_iter().flatten()
}

#[test]
fn every_key_takes_effect_while_the_process_runs() {
    let (left, failed) = (Mutex::new(cases()), Mutex::new(Vec::new()));
    let work = || {
        while let Some((key, case)) = { left.lock().unwrap().next() } {
            // On a thread of its own, so that one that fails fails alone.
            if thread::Builder::new().name((*key).to_owned()).spawn(case).unwrap().join().is_err() {
                failed.lock().unwrap().push(*key);
            }
        }
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
    assert_eq!(failed.into_inner().unwrap(), [""; 0], "see above");
}

/// Keys of the file that have no row of their own, and the row in which their value shows.
const OTHER_NAMES: [(&str, &str); 3] =
    [("redis", "protocol"), ("admin.token_file", "admin.token"), ("admin.token_env", "admin.token")];

/// What may be written into a file and could change unnoticed: every key of the schema is a row of the plan.
#[test]
fn every_key_of_the_schema_has_a_row() {
    let schema: serde_json::Value = serde_json::from_str(&config::json_schema()).unwrap();
    let follow = |node: &serde_json::Value| match node["$ref"].as_str() {
        Some(path) => schema.pointer(path.trim_start_matches('#')).unwrap().clone(),
        None => node.clone(),
    };
    let keys = |node: &serde_json::Value| follow(node)["properties"].as_object().cloned().unwrap_or_default();
    let mut found = BTreeSet::new();
    for (key, value) in keys(&schema).iter().filter(|(key, _)| *key != "pools") {
        let inner = keys(value);
        found.extend(inner.keys().map(|inner| format!("{key}.{inner}")));
        found.extend(inner.is_empty().then(|| key.clone()));
    }
    found.extend(keys(&schema["properties"]["pools"]["additionalProperties"]).into_iter().map(|(key, _)| key));
    assert!(found.len() > 60, "{found:?}");
    let known: BTreeSet<&str> = cases().map(|(key, _)| *key).collect();
    let shown = |key: &str| {
        OTHER_NAMES.iter().find(|(other, _)| *other == key).map_or(key.to_owned(), |(_, row)| (*row).to_owned())
    };
    let hidden: Vec<&String> = found.iter().filter(|key| !known.contains(&shown(key)[..])).collect();
    assert_eq!(hidden, [""; 0], "a change of it would not be noticed");
    let rows: BTreeSet<String> = found.iter().map(|key| shown(key)).collect();
    assert!(known.iter().all(|key| rows.contains(*key)), "{known:?} {rows:?}");
}

/// A new key cannot be forgotten.
#[test]
fn every_key_has_a_case() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/full.yml");
    let settings = config::load_file(&file).unwrap().settings;
    let all = settings.rows().into_iter().chain(settings.pools[0].rows(&settings.pools));
    let all: BTreeSet<&str> = all.map(|(key, _)| key).chain(["servers"]).collect();
    assert_eq!(cases().map(|(key, _)| *key).collect::<BTreeSet<_>>(), all);
    assert_eq!(cases().count(), all.len());
}
