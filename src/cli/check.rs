//! `outrigger check FILE`, and twemproxy's `-t`, which says the same with twemproxy's line in front.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{Dialect, Loaded};

use super::{RunOptions, complain, counted, load, say};

/// Prints what is wrong, or that nothing is, and every trap.
pub fn check(file: &Path) -> ExitCode {
    match load(Some(file)) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                say(format_args!("{warning}\n"));
            }
            say(format_args!("{}: ok: {}\n", file.display(), summary(&loaded)));
            ExitCode::SUCCESS
        }
        Err(errors) => {
            complain(format_args!("{errors}\n"));
            complain(format_args!("{}: {}\n", file.display(), counted(errors.count(), "error")));
            ExitCode::FAILURE
        }
    }
}

/// twemproxy's words on standard error, which scripts look for, then our reasons, which twemproxy never gives.
pub fn test_conf(options: &RunOptions) -> ExitCode {
    let name = options.conf_name();
    match options.load() {
        Ok(loaded) => {
            complain(format_args!("outrigger: configuration file '{name}' syntax is ok\n"));
            for warning in &loaded.warnings {
                complain(format_args!("{warning}\n"));
            }
            ExitCode::SUCCESS
        }
        Err(errors) => {
            complain(format_args!("outrigger: configuration file '{name}' syntax is invalid\n"));
            complain(format_args!("{errors}\n"));
            ExitCode::FAILURE
        }
    }
}

fn summary(loaded: &Loaded) -> String {
    let pools = loaded.settings.pools.len();
    let servers: usize = loaded.settings.pools.iter().map(|pool| pool.servers.len()).sum();
    let format = match loaded.dialect {
        Dialect::Outrigger => "Outrigger's format",
        Dialect::Twemproxy => "twemproxy's format",
    };
    let warnings = counted(loaded.warnings.len(), "warning");
    format!("{format}, {}, {}, {warnings}", counted(pools, "pool"), counted(servers, "server"))
}
