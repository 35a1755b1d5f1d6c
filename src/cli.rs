//! The command line: subcommands, and twemproxy's flags at the top level, so that a service file written for it starts
//! Outrigger after a change of the program's name.

mod banner;
mod check;
mod describe;
mod diff;
mod explain;
mod live;
mod overrides;
mod show;
mod upgrade;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::config::{self, ConfigErrors, DEFAULT_NAME, Loaded};

pub use banner::banner;
pub use check::{check, test_conf};
pub use describe::{POOL_STATS, SERVER_STATS, describe_stats};
pub use diff::diff;
pub use explain::explain;
pub use live::{Ask, View, Where, Which, ask};
pub use upgrade::{Running, upgrade};

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Run(RunOptions),
    /// `-t`: twemproxy's check.
    TestConf(RunOptions),
    /// `-D`
    DescribeStats,
    /// `-V`
    Version,
    Check {
        file: PathBuf,
    },
    Diff {
        old: PathBuf,
        new: PathBuf,
        json: bool,
    },
    Explain {
        /// `None`: the embedded default.
        config: Option<PathBuf>,
        pool: String,
        keys: Vec<String>,
    },
    Schema,
    Upgrade(Running),
    /// Something of a running proxy.
    Ask(Ask),
}

/// How to run. What the flags say goes over what the file says, at every load of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RunOptions {
    /// Configuration file, Outrigger's own or a nutcracker.yml [default: an embedded one with in-process servers]
    #[arg(short = 'c', long = "conf-file", visible_alias = "config", value_name = "FILE")]
    pub conf_file: Option<PathBuf>,
    /// Run in the background
    #[arg(short, long)]
    pub daemonize: bool,
    /// Log level, 0 (emergencies only) to 11 (everything) [default: 5, notices]
    #[arg(short = 'v', long = "verbose", value_name = "N")]
    pub verbose: Option<u32>,
    /// Log file [default: standard error]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Port of the JSON statistics [default: 22222]
    #[arg(short = 's', long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub stats_port: Option<u16>,
    /// Address of the JSON statistics [default: 127.0.0.1; for a nutcracker.yml 0.0.0.0]
    #[arg(short = 'a', long, value_name = "ADDR", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stats_addr: Option<String>,
    /// Accepted for twemproxy's sake, without effect: statistics are always current
    #[arg(short = 'i', long, value_name = "MS", value_parser = clap::value_parser!(u32).range(..=i32::MAX as i64))]
    pub stats_interval: Option<u32>,
    /// File for the process id
    #[arg(short = 'p', long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Accepted for twemproxy's sake, without effect: buffers size themselves [512 to 16777216]
    #[arg(short = 'm', long, value_name = "BYTES", value_parser = RangedU64ValueParser::<u64>::new().range(512..=16_777_216))]
    pub mbuf_size: Option<u64>,
    /// Take over from a running process: its listening sockets and its clients
    #[arg(short = 'u', long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub upgrade_from: Option<u32>,
}

/// A caching proxy in front of Redis and memcached; a drop-in successor of twemproxy.
#[derive(Debug, Parser)]
#[command(name = "outrigger", disable_version_flag = true, disable_help_flag = true, infer_long_args = true)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: RunOptions,
    /// Check the configuration and exit: 0 if it is valid, else 1
    #[arg(short, long)]
    test_conf: bool,
    /// Print the statistics and what they mean, and exit
    #[arg(short = 'D', long)]
    describe_stats: bool,
    /// Print the version and exit
    #[arg(short = 'V', long)]
    version: bool,
    /// Print this help and exit
    #[arg(short, short_alias = '?', long, action = ArgAction::Help, global = true)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the proxy (what happens without a subcommand, too)
    Run(RunOptions),
    /// Check a configuration file: all errors and traps, each with its line; exit code 0 or 1
    Check {
        /// Outrigger's own format, or a nutcracker.yml
        file: PathBuf,
    },
    /// Say what a reload would change, and how many keys would move; exit code 0 (nothing), 1 (something), 2 (bad file)
    Diff {
        /// Configuration file that is in use
        old: PathBuf,
        /// Configuration file that is to take its place
        new: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which server keys belong to, and why: by a file, or as it is in a running proxy
    #[command(mut_arg("config", |it| it.help("Configuration file, or with --live the one of the proxy [default: the embedded one]")))]
    Explain {
        /// Ask the running proxy: which server has the key now, and whether the usual one is ejected
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        place: Where,
        /// Name of the pool
        pool: String,
        /// Keys, as clients send them
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Replace a running process by one of the binary as it is now; no client notices
    Upgrade(Running),
    #[command(flatten)]
    Ask(Ask),
}

/// Reads the arguments of this process. Help goes to standard output; a bad option is answered with the usage on
/// standard error and ends the process with code 1, as twemproxy does.
pub fn parse() -> Command {
    parse_from(std::env::args_os()).unwrap_or_else(|error| {
        // Nothing can be done about a closed standard error.
        let _ = error.print();
        std::process::exit(i32::from(error.use_stderr()))
    })
}

/// The same for given arguments, the first of which is the program's name.
pub fn parse_from<T: Into<std::ffi::OsString> + Clone>(
    arguments: impl IntoIterator<Item = T>,
) -> Result<Command, clap::Error> {
    let cli = Cli::try_parse_from(arguments)?;
    Ok(match cli.action {
        Some(Action::Run(options)) => Command::Run(options),
        Some(Action::Check { file }) => Command::Check { file },
        Some(Action::Diff { old, new, json }) => Command::Diff { old, new, json },
        Some(Action::Explain { live, place, pool, keys, .. }) if live || place.admin.is_some() => {
            Command::Ask(Ask::Explain { place, pool, keys })
        }
        Some(Action::Explain { place, pool, keys, .. }) => Command::Explain { config: place.config, pool, keys },
        Some(Action::Ask(ask)) => Command::Ask(ask),
        Some(Action::Schema) => Command::Schema,
        Some(Action::Upgrade(process)) => Command::Upgrade(process),
        // In twemproxy's order.
        None if cli.version => Command::Version,
        None if cli.describe_stats => Command::DescribeStats,
        None if cli.test_conf => Command::TestConf(cli.run),
        None => Command::Run(cli.run),
    })
}

impl RunOptions {
    /// Loads the file, or the embedded default without one, and puts the flags over it.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let mut loaded = load(self.conf_file.as_deref())?;
        overrides::apply(self, &mut loaded);
        Ok(loaded)
    }

    /// There is a file. A pipe (`-c <(generate)`) is read once.
    pub fn can_load_again(&self) -> bool {
        self.conf_file.as_ref().is_some_and(|path| std::fs::metadata(path).is_ok_and(|found| found.is_file()))
    }

    /// The file, for messages.
    pub fn conf_name(&self) -> String {
        self.conf_file.as_ref().map_or_else(|| DEFAULT_NAME.to_owned(), |path| path.display().to_string())
    }
}

fn load(file: Option<&Path>) -> Result<Loaded, ConfigErrors> {
    match file {
        Some(path) => config::load_file(path),
        None => Ok(config::load_default()),
    }
}

/// `-V`. On standard output, where twemproxy uses standard error: what captures both (`2>&1`, as scripts for twemproxy
/// must) sees no difference, and `$(outrigger -V)` works as well.
pub fn version() -> ExitCode {
    say(format_args!("This is outrigger-{}\n", env!("CARGO_PKG_VERSION")));
    ExitCode::SUCCESS
}

/// `outrigger schema`.
pub fn schema() -> ExitCode {
    say(format_args!("{}\n", config::json_schema()));
    ExitCode::SUCCESS
}

/// To standard output. A reader that has gone (`outrigger schema | head`) is no error; `print!` would panic.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = std::io::stdout().lock().write_fmt(text);
}

/// To standard error, likewise.
fn complain(text: std::fmt::Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

/// `1 server`, `2 servers`.
fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
