//! `stats`: the proxy's own, in memcached's names where the meaning is the same.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::Step;
use super::Request;
use crate::protocol::memcached::reply;

impl Request<'_, '_> {
    /// `stats` without an argument; what servers know of themselves (`items`, `slabs`, ...) cannot be asked through a ring.
    pub(super) fn stats(&mut self) -> Step {
        if !self.is_bare() {
            return self.answer(|out, _| {
                reply::write_line(out, "CLIENT_ERROR the proxy has only plain stats; ask the servers for theirs");
            });
        }
        self.answer(|out, r| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let pool = &r.session.pool;
            let stat = |out: &mut Vec<u8>, name: &str, value: &str| reply::write_stat(out, name, value);
            stat(out, "pid", &std::process::id().to_string());
            stat(out, "uptime", &now.saturating_sub(r.session.shared.started).to_string());
            stat(out, "time", &now.to_string());
            stat(out, "version", env!("CARGO_PKG_VERSION"));
            stat(out, "pool", &pool.settings.name);
            stat(out, "servers", &pool.servers().to_string());
            out.extend_from_slice(reply::END);
        })
    }

    /// Whether the line is the command alone.
    fn is_bare(&self) -> bool {
        self.input.bytes()[..self.length].trim_ascii() == b"stats"
    }
}
