//! `GET /slowlog?last=100`: the last requests that took at least `slowlog_threshold`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shown_command;
use crate::admin::Sources;
use crate::telemetry::{KeyForm, Label, SlowRequest, date_and_time};

/// Slow requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlowLogView {
    /// All that were ever recorded.
    pub recorded: u64,
    /// Slow requests that were not: more than `slowlog_per_second`.
    pub dropped: u64,
    /// Newest first.
    pub entries: Vec<SlowRequestView>,
}

/// One of them; of a request for keys of several servers it is the part of one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlowRequestView {
    /// When it was answered, or given up.
    pub at: String,
    pub pool: String,
    pub server: String,
    /// In capitals; empty if it is not known.
    pub command: String,
    /// The first one, as `observe.keys` has it; empty if there is none.
    pub key: String,
    /// The length of the key, if only the beginning of it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_bytes: Option<u32>,
    pub request_bytes: u64,
    /// 0 if there was no reply.
    pub response_bytes: u64,
    /// From queueing to the write to the server.
    pub queue_us: u32,
    /// From there to the reply, or until it was given up.
    pub server_us: u32,
    /// `ok`, `miss`, `error` or `failed`.
    pub result: String,
    /// Why it failed; null if it did not.
    pub reason: Option<String>,
}

/// The last few.
pub fn slow_log(sources: &Sources, last: usize) -> SlowLogView {
    let (log, keys) = (&sources.observer.slow_log, sources.observer.key_form());
    let entries = log.last(last).into_iter().map(|request| request_view(request, keys)).collect();
    SlowLogView { recorded: log.recorded(), dropped: log.dropped(), entries }
}

fn request_view(request: SlowRequest, keys: KeyForm) -> SlowRequestView {
    SlowRequestView {
        at: date_and_time(request.at),
        command: request.command.map_or_else(String::new, shown_command),
        key: request.key.map_or_else(String::new, |key| key.shown(keys)),
        key_bytes: request.key.and_then(|key| key.cut_length(keys)),
        request_bytes: request.request_bytes,
        response_bytes: request.response_bytes,
        queue_us: request.queue_us,
        server_us: request.server_us,
        result: request.outcome.name().to_owned(),
        reason: request.trouble.map(|trouble| trouble.name().to_owned()),
        pool: request.pool,
        server: request.server,
    }
}
