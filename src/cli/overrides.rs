//! What flags change in the settings of a file.

use crate::config::Loaded;

use super::RunOptions;

/// The most that `-v` means, as in twemproxy, which takes any number.
const MOST_VERBOSE: u32 = 11;

/// Where twemproxy serves its statistics; used when a flag asks for them and the file has them off.
const STATS_ADDRESS: &str = "127.0.0.1";
const STATS_PORT: u16 = 22222;

pub(super) fn apply(options: &RunOptions, loaded: &mut Loaded) {
    let settings = &mut loaded.settings;
    if let Some(verbose) = options.verbose {
        settings.log.level = verbose.min(MOST_VERBOSE) as u8;
    }
    if let Some(file) = &options.output {
        settings.log.file = Some(file.clone());
    }
    if options.stats_addr.is_some() || options.stats_port.is_some() {
        let (host, port) = address_and_port(settings.stats_listen.as_deref());
        let host = options.stats_addr.as_deref().unwrap_or(host);
        let port = options.stats_port.map_or_else(|| port.to_owned(), |port| port.to_string());
        settings.stats_listen = Some(match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
        loaded.overridden("admin.stats");
    }
    if options.output.is_some() {
        loaded.overridden("log.file");
    }
}

fn address_and_port(listen: Option<&str>) -> (&str, String) {
    match listen.and_then(|listen| listen.rsplit_once(':')) {
        Some((host, port)) => (host, port.to_owned()),
        None => (STATS_ADDRESS, STATS_PORT.to_string()),
    }
}
