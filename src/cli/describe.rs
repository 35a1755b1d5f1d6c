//! `-D`: the fields of the JSON statistics and what they mean. The names and their order are twemproxy's; what it does not
//! have comes last.

use std::process::ExitCode;

use super::say;

/// Fields of each pool, with their meaning.
pub const POOL_STATS: [(&str, &str); 10] = [
    ("client_eof", "# of client connections closed by the client"),
    ("client_err", "# of client connections closed on an error"),
    ("client_connections", "# of client connections now"),
    ("server_ejects", "# of times a server was taken off the ring"),
    ("forward_error", "# of requests that could not be forwarded"),
    ("fragments", "# of fragments made of multi-key requests"),
    ("client_refused_overload", "# of requests refused as the process held too many bytes"),
    ("client_cut_overload", "# of clients cut for not reading while the process held too many bytes"),
    ("client_cut_slow", "# of clients cut after client_write_timeout"),
    ("client_closed_idle", "# of clients closed after client_idle_timeout"),
];

/// Fields of each server, with their meaning.
pub const SERVER_STATS: [(&str, &str); 17] = [
    ("server_eof", "# of server connections closed by the server"),
    ("server_err", "# of server connections closed on an error"),
    ("server_timedout", "# of timeouts on server connections"),
    ("server_connections", "# of server connections now"),
    ("server_ejected_at", "when the server was last taken off the ring, in usec since the epoch"),
    ("requests", "# of requests"),
    ("request_bytes", "bytes of all requests"),
    ("responses", "# of responses"),
    ("response_bytes", "bytes of all responses"),
    ("in_queue", "# of requests that wait to be sent"),
    ("in_queue_bytes", "bytes of the requests that wait to be sent"),
    ("out_queue", "# of requests that wait for their response"),
    ("out_queue_bytes", "bytes of the requests that wait for their response"),
    ("server_retries", "# of requests sent a second time after a lost connection"),
    ("server_retries_denied", "# of requests that were not, as the retry budget was used up"),
    ("server_state", "whether the server takes requests: live, returning with a share of them, or ejected"),
    ("server_failures", "# of failures in a row, of requests or of probes"),
];

/// Prints both tables in twemproxy's layout, on standard output.
pub fn describe_stats() -> ExitCode {
    for (title, stats) in [("pool stats:", POOL_STATS.as_slice()), ("\nserver stats:", SERVER_STATS.as_slice())] {
        say(format_args!("{title}\n"));
        for (name, meaning) in stats {
            say(format_args!("  {name:<19} \"{meaning}\"\n"));
        }
    }
    ExitCode::SUCCESS
}
