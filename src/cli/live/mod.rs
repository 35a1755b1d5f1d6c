//! Commands that ask a running proxy at its admin address.
//!
//! ```text
//!   place ─► client ─► answers ─┬─► status ─────────────┐
//!  (flags)   (HTTP)    (JSON)   ├─► figures ─► board    ├─► lines of `show` ─► standard output, or the screen
//!                               └─► events, explain ... ┘
//! ```

mod answers;
mod board;
mod client;
mod events;
mod explain;
mod figures;
mod keys;
mod parts;
mod place;
mod problems;
mod screen;
mod status;
#[cfg(test)]
mod tests;
mod top;

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use client::{Client, Failure};
pub use events::Which;
pub use place::Where;
pub use top::View;

use super::complain;
use super::show::{Output, print};

/// What to ask.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Ask {
    /// Show how a running proxy is: ready or not, what is wrong, pools, servers; exit code 0 (ready) or 1
    Status {
        #[command(flatten)]
        place: Where,
        /// Print the answer of /topology as it is
        #[arg(long)]
        json: bool,
    },
    /// Watch a running proxy: rates, times and errors of pools and servers, every second
    Top {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        view: View,
    },
    /// Show what happened in a running proxy: ejections, returns, reloads, upgrades
    Events {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        which: Which,
    },
    /// Show the hot and the big keys of a running proxy
    Hotkeys {
        #[command(flatten)]
        place: Where,
        /// Hot keys of each pool
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        top: u32,
        /// Print the answer of /hotkeys as it is
        #[arg(long)]
        json: bool,
    },
    /// Show the latest slow requests of a running proxy
    Slowlog {
        #[command(flatten)]
        place: Where,
        /// The latest N
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        last: u32,
        /// Print the answer of /slowlog as it is
        #[arg(long)]
        json: bool,
    },
    /// Say by the exit code whether clients may be sent to a running proxy: 0 or 1; for container probes
    Healthcheck {
        #[command(flatten)]
        place: Where,
        /// Only whether it lives and answers, ready or not
        #[arg(long)]
        live: bool,
    },
    /// `outrigger explain --live`.
    #[command(skip)]
    Explain { place: Where, pool: String, keys: Vec<String> },
}

/// Asks, and prints the answer. Code 0, or 1 if there is none or it is not good.
pub fn ask(what: &Ask) -> ExitCode {
    let done = runtime().and_then(|runtime| runtime.block_on(answer(what)));
    match done {
        Ok(good) => {
            if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(failure) => {
            complain(format_args!("outrigger: {}\n", super::show::Line::plain(failure.to_string())));
            ExitCode::FAILURE
        }
    }
}

/// One thread: nothing here is done beside anything else.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Whether all is well.
async fn answer(what: &Ask) -> Result<bool, Failure> {
    let output = Output::standard();
    let client = Client::new(what.place().place()?);
    match what {
        Ask::Status { json: true, .. } => raw(&client, "/topology").await?,
        Ask::Status { .. } => {
            let topology: answers::Topology = client.read("/topology").await?;
            let ready = topology.ready;
            let _ = print(&status::status(topology, output.width()), output);
            return Ok(ready);
        }
        Ask::Top { view, .. } => top::top(&client, view, output).await?,
        Ask::Events { which, .. } => events::events(&client, which, output).await?,
        Ask::Hotkeys { top, json: true, .. } => raw(&client, &format!("/hotkeys?top={top}")).await?,
        Ask::Hotkeys { top, .. } => {
            let keys = client.read(&format!("/hotkeys?top={top}")).await?;
            let _ = print(&keys::hot_keys(&keys, output.width()), output);
        }
        Ask::Slowlog { last, json: true, .. } => raw(&client, &format!("/slowlog?last={last}")).await?,
        Ask::Slowlog { last, .. } => {
            let log = client.read(&format!("/slowlog?last={last}")).await?;
            let _ = print(&keys::slow_log(&log, output.width()), output);
        }
        Ask::Healthcheck { live, .. } => healthcheck(client.impatient(), *live).await?,
        Ask::Explain { pool, keys, .. } => explain::explain(&client, pool, keys, output).await?,
    }
    Ok(true)
}

/// The body as it came, with an end of line.
async fn raw(client: &Client, path: &str) -> Result<(), Failure> {
    let mut body = client.get(path).await?;
    if !body.ends_with(b"\n") {
        body.push(b'\n');
    }
    // A reader that has gone is no error.
    let _ = std::io::stdout().lock().write_all(&body);
    Ok(())
}

/// Nothing is said if all is well.
async fn healthcheck(client: Client, live: bool) -> Result<(), Failure> {
    let answer = client.ask(if live { "/healthz" } else { "/readyz" }).await?;
    let said = String::from_utf8_lossy(&answer.body);
    match answer.status {
        200 => Ok(()),
        503 => Err(Failure::Refused(format!("not ready: {}", said.trim()))),
        status => Err(Failure::Refused(format!("status {status}: {}", said.trim()))),
    }
}

impl Ask {
    fn place(&self) -> &Where {
        match self {
            Self::Status { place, .. }
            | Self::Top { place, .. }
            | Self::Events { place, .. }
            | Self::Hotkeys { place, .. }
            | Self::Slowlog { place, .. }
            | Self::Healthcheck { place, .. }
            | Self::Explain { place, .. } => place,
        }
    }
}
