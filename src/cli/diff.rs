//! `outrigger diff OLD NEW`: what a reload would change.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{ConfigErrors, Loaded};
use crate::reload::Plan;

use super::{complain, load, say};

/// As diff(1): 0 if nothing differs, 1 if something does, 2 if there was trouble.
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

/// Prints the plan, or what is wrong with either file.
pub fn diff(old: &Path, new: &Path, json: bool) -> ExitCode {
    let (old, new) = match (load(Some(old)), load(Some(new))) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => return refuse([old, new]),
    };
    let plan = Plan::between(&old.settings, &new.settings);
    if json {
        match serde_json::to_string_pretty(&plan) {
            Ok(text) => say(format_args!("{text}\n")),
            Err(error) => {
                complain(format_args!("outrigger: {error}\n"));
                return ExitCode::from(TROUBLE);
            }
        }
    } else {
        say(format_args!("{plan}"));
    }
    if plan.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) }
}

fn refuse(files: [Result<Loaded, ConfigErrors>; 2]) -> ExitCode {
    for errors in files.into_iter().filter_map(Result::err) {
        complain(format_args!("{errors}\n"));
    }
    ExitCode::from(TROUBLE)
}
