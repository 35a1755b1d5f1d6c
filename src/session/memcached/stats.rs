//! `stats`: the proxy's own, in memcached's names where the meaning is the same.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::Step;
use super::Request;
use crate::protocol::memcached::replies;

impl Request<'_, '_> {
    /// `stats` without an argument; what servers know of themselves (`items`, `slabs`, ...) cannot be asked through a ring.
    pub(super) fn stats(&mut self) -> Step {
        if !self.is_bare() {
            return self.answer(|out, _| {
                replies::write_client_error(out, "the proxy has only plain stats; ask the servers for theirs");
            });
        }
        self.answer(|out, r| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let pool = r.pool;
            replies::write_stat(out, "pid", std::process::id());
            replies::write_stat(out, "uptime", now.saturating_sub(r.session.shared.started));
            replies::write_stat(out, "time", now);
            replies::write_stat(out, "version", env!("CARGO_PKG_VERSION"));
            replies::write_stat(out, "pool", &pool.settings.name);
            replies::write_stat(out, "servers", pool.servers());
            out.extend_from_slice(replies::END);
        })
    }

    /// Whether the line is the command alone.
    fn is_bare(&self) -> bool {
        self.input.bytes()[..self.length].trim_ascii() == b"stats"
    }
}
