//! The fuzz targets without a fuzzer: inputs from seeds, by grammar and damage, through the same checks. A short run of
//! every target, the same each time; `fuzz/README.md` tells how to run longer ones, and libFuzzer.
//!
//! `FUZZ_RUNS=100000 FUZZ_SEED=7 cargo test --test fuzz session` runs more, and others; an input that fails is printed and
//! kept in a file.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../fuzz/checks/mod.rs"]
mod checks;

use checks::samples::{TARGETS, Target};

/// A single input that takes longer hangs, or does something in a loop.
const PATIENCE: Duration = Duration::from_secs(20);

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Checks `runs` inputs of one target.
fn run(name: &str, runs: u64) {
    let target = Target::named(name);
    let (first, runs) = (number("FUZZ_SEED", 1).wrapping_mul(1 << 32), number("FUZZ_RUNS", runs));
    for seed in (0..runs).map(|run| first.wrapping_add(run)) {
        let input = target.input(seed);
        let started = Instant::now();
        let failed = catch_unwind(|| (target.check)(&input)).is_err();
        if failed || started.elapsed() > PATIENCE {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{seed:x}"));
            fs::write(&file, &input).expect("a file for the input");
            let (input, file) = (input.escape_ascii(), file.display());
            panic!("{name}, seed {seed} ({:?}), in {file}:\n\"{input}\"", started.elapsed());
        }
    }
}

#[test]
fn requests_of_redis_clients() {
    run("redis_request", 3000);
}

#[test]
fn replies_of_redis() {
    run("redis_response", 3000);
}

#[test]
fn requests_of_memcached_clients() {
    run("memcached_request", 3000);
}

#[test]
fn replies_of_memcached() {
    run("memcached_response", 3000);
}

#[test]
fn configurations() {
    run("config", 500);
}

#[test]
fn whole_sessions_in_front_of_a_model() {
    run("session", 1200);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// What once failed, kept as `fuzz/regressions/TARGET/NAME`; or one file: `FUZZ_INPUT=session:FILE`.
#[test]
fn what_once_failed() {
    if let Ok(given) = std::env::var("FUZZ_INPUT") {
        let (name, file) = given.split_once(':').expect("FUZZ_INPUT is TARGET:FILE");
        (Target::named(name).check)(&fs::read(file).expect("the input"));
        return;
    }
    let mut inputs = 0;
    for target in &TARGETS {
        let Ok(folder) = fs::read_dir(root().join("regressions").join(target.name)) else { continue };
        for entry in folder {
            (target.check)(&fs::read(entry.expect("an entry").path()).expect("an input"));
            inputs += 1;
        }
    }
    assert!(inputs > 0, "fuzz/regressions is empty");
}

#[test]
fn every_target_is_one_for_cargo_fuzz_too() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("fuzz/Cargo.toml");
    for Target { name, .. } in &TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/Cargo.toml");
        let source = fs::read_to_string(root().join("fuzz_targets").join(name).with_extension("rs")).expect("a target");
        assert!(source.contains(&format!("checks::{name}::check(data)")), "{name} checks something else");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

/// Inputs for libFuzzer to begin with, in `fuzz/corpus`: `make fuzz` runs it.
#[test]
#[ignore = "writes files"]
fn seeds() {
    for target in &TARGETS {
        let folder = root().join("corpus").join(target.name);
        fs::create_dir_all(&folder).expect("a folder for the corpus");
        for seed in 0..200 {
            fs::write(folder.join(format!("seed-{seed:03}")), target.input(seed)).expect("a seed");
        }
    }
}
