//! Arguments to a command, a command to an exit code.

use std::process::ExitCode;

use outrigger::cli::{self, Command};

fn main() -> ExitCode {
    match cli::parse() {
        Command::Run(options) => match options.load() {
            Ok(loaded) => {
                eprintln!("outrigger: {} pools loaded, no data plane in this build", loaded.settings.pools.len());
                ExitCode::FAILURE
            }
            Err(errors) => {
                eprintln!("{errors}");
                ExitCode::FAILURE
            }
        },
        Command::TestConf(options) => cli::test_conf(&options),
        Command::DescribeStats => cli::describe_stats(),
        Command::Version => cli::version(),
        Command::Check { file } => cli::check(&file),
        Command::Explain { config, pool, keys } => cli::explain(config.as_deref(), &pool, &keys),
        Command::Schema => cli::schema(),
    }
}
