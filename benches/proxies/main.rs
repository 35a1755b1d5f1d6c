//! `make bench`: Outrigger against nutcracker against no proxy at all.
//!
//! ```text
//!                      ┌────► (direct) ─────┐
//!   load generator ────┼────► nutcracker ───┼────► two redis-servers, two memcacheds
//!   one thread, checks └────► Outrigger ────┘      shared by all contenders
//!   every reply
//!
//!   for each round: for each protocol: for each row: for each contender (order rotates): measure
//! ```
//! Only one contender works at a time; each figure is the median of the rounds, each ratio is taken round by round.
//! benches/README.md says how to read it.
#![cfg_attr(test, allow(unused_imports, reason = "without a harness the tests vanish; tests.rs runs them"))]

mod args;
mod contender;
mod histogram;
mod load;
mod measure;
mod process;
mod report;
mod stats;
mod sys;
mod syscalls;
mod workload;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Pinning, Selection};
use crate::measure::Field;
use crate::report::Findings;
use crate::sys::Result;
use crate::syscalls::Tracepoints;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches without an argument, `cargo bench` with one.
    if std::env::args().len() == 1 {
        println!("Nothing measured. Run it as: cargo bench --bench proxies -- [--help]");
        return ExitCode::SUCCESS;
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let selection = args.selection()?;
    let pinning = Pinning::parse(&args.pin)?;
    sys::catch_interrupts();
    sys::precise_timers();
    check_open_files(args)?;
    sys::pin_current_thread(&pinning.load).map_err(|error| format!("--pin {}: {error}", args.pin))?;
    let directory = tempfile::Builder::new().prefix("outrigger-bench-").tempdir();
    let directory = directory.map_err(|error| format!("temporary directory: {error}"))?;
    let tracepoints = if args.syscalls { Some(Tracepoints::read(directory.path())?) } else { None };

    let mut findings = Findings { baseline: args.baseline.clone(), ..Findings::default() };
    measure_all(args, &selection, &pinning, directory.path(), tracepoints.as_ref(), &mut findings)?;

    println!("{}", conditions(args, &pinning));
    println!("{}", findings.markdown());
    if let Some(file) = &args.json {
        std::fs::write(file, format!("{:#}\n", findings.json()))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

fn measure_all(
    args: &Args,
    selection: &Selection,
    pinning: &Pinning,
    directory: &Path,
    tracepoints: Option<&Tracepoints>,
    findings: &mut Findings,
) -> Result<()> {
    let starts = selection.protocols.iter().map(|&protocol| Field::start(protocol, selection, pinning, directory));
    let fields = starts.collect::<Result<Vec<_>>>()?;
    for field in &fields {
        findings.start.extend(field.start_memory()?);
    }
    if let Some(connections) = args.idle {
        for field in &fields {
            findings.idle.extend(field.measure_idle(connections)?);
        }
        return Ok(());
    }
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        for field in &fields {
            for &scenario in &selection.scenarios {
                findings.measurements.extend(field.measure_round(scenario, round, args)?);
            }
        }
    }
    for (field, tracepoints) in fields.iter().zip(tracepoints.into_iter().cycle()) {
        eprintln!("system calls, {}", field.protocol.name());
        for &scenario in &selection.scenarios {
            findings.syscalls.extend(field.count_syscalls(scenario, tracepoints, args)?);
        }
    }
    Ok(())
}

/// A client costs one descriptor here and one in the proxy, which inherits the limit.
fn check_open_files(args: &Args) -> Result<()> {
    let (limit, wanted) = (sys::raise_open_files(), args.idle.unwrap_or(0) as u64 + 200);
    if wanted > limit {
        return Err(format!("--idle: {wanted} open files wanted, the hard limit is {limit} (ulimit -Hn)"));
    }
    Ok(())
}

/// Without which the figures cannot be read.
fn conditions(args: &Args, pinning: &Pinning) -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let place = |cpus: &[usize]| if cpus.is_empty() { "any".to_owned() } else { format!("{cpus:?}") };
    format!(
        "{} rounds of {} s; {} CPUs ({model}); pinned: proxy {}, load {}, servers {}; depth > 1 refilled by {:?}",
        args.rounds,
        args.seconds,
        cpus.matches("processor\t").count(),
        place(&pinning.proxy),
        place(&pinning.load),
        place(&pinning.servers),
        args.refill
    )
}
