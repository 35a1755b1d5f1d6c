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
