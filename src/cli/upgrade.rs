//! `outrigger upgrade`: has a running process start its successor.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{complain, say};
use crate::upgrade;

/// Which process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub struct Running {
    /// Id of the process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// The file with its id, as given to it
    #[arg(short = 'p', long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

impl Running {
    fn pid(&self) -> Result<u32, String> {
        let Some(file) = &self.pid_file else { return Ok(self.pid.unwrap_or_default()) };
        let name = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("pid file {name}: {error}"))?;
        let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
        pid.ok_or_else(|| format!("pid file {name}: no process id in it"))
    }
}

/// `outrigger upgrade`. Code 0: the successor serves; 1: there is none, and the process goes on.
pub fn upgrade(process: &Running) -> ExitCode {
    let asked = process.pid().and_then(|pid| upgrade::ask(pid, |line| say(format_args!("{line}\n"))));
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(format_args!("outrigger: {why}\n"));
            ExitCode::FAILURE
        }
    }
}
