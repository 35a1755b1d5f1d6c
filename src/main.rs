//! Arguments to a command, a command to an exit code.

use std::process::ExitCode;
use std::sync::Arc;

use outrigger::cli::{self, Command, RunOptions};
use outrigger::proxy::{self, Process};
use outrigger::reload::Load;
use outrigger::upgrade::Predecessor;

/// Small allocations are the proxy's; mimalloc gives memory back and keeps an idle process small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    /// Of mimalloc: frees what the calling thread and the arenas hold unused.
    safe fn mi_collect(force: bool);
}

fn give_back() {
    mi_collect(true);
}

fn main() -> ExitCode {
    match cli::parse() {
        Command::Run(options) => run(&options),
        Command::TestConf(options) => cli::test_conf(&options),
        Command::DescribeStats => cli::describe_stats(),
        Command::Version => cli::version(),
        Command::Check { file } => cli::check(&file),
        Command::Diff { old, new, json } => cli::diff(&old, &new, json),
        Command::Explain { config, pool, keys } => cli::explain(config.as_deref(), &pool, &keys),
        Command::Schema => cli::schema(),
        Command::Upgrade(process) => cli::upgrade(&process),
        Command::Ask(what) => cli::ask(&what),
    }
}

fn run(options: &RunOptions) -> ExitCode {
    let predecessor = match Predecessor::find(options.upgrade_from) {
        Ok(predecessor) => predecessor,
        Err(error) => {
            eprintln!("outrigger: cannot take over: {error}");
            return ExitCode::FAILURE;
        }
    };
    let loaded = match options.load() {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            predecessor.into_iter().for_each(|predecessor| predecessor.failed(&errors.to_string()));
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let process = Process {
        daemonize: options.daemonize,
        pid_file: options.pid_file.clone(),
        banner: Some(cli::banner(&loaded.settings)),
        give_back: Some(give_back),
        load: options.can_load_again().then(|| {
            let options = options.clone();
            let load: Load = Arc::new(move || options.load());
            load
        }),
        predecessor,
    };
    match proxy::run(loaded, process) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger: {error}");
            ExitCode::FAILURE
        }
    }
}
