//! What `status` and `top` have in common: the first line, and cells.

use super::answers::{Server, State, Topology};
use super::figures::{Quantile, quantile};
use crate::cli::show::{Cell, Line, Paint, microseconds, percent, seconds};

/// Whether clients may be sent to this proxy, and which one it is.
pub fn headline(topology: &Topology) -> Line {
    let ready = match (topology.ready, topology.not_ready_reason.as_str()) {
        (true, _) => Line::painted("READY", Paint::Good),
        (false, "") => Line::painted("NOT READY", Paint::Bad),
        (false, reason) => Line::painted(format!("NOT READY: {reason}"), Paint::Bad),
    };
    let Topology { version, source, pid, .. } = topology;
    let up = seconds(topology.uptime_seconds);
    let config = &topology.config;
    let age = seconds(config.age_seconds);
    ready.and(format!("  outrigger {version}, process {pid} on {source}, up {up}"), Paint::Plain).and(
        format!("  configuration generation {}, {age} old", config.generation),
        if config.last_reload_successful { Paint::Plain } else { Paint::Bad },
    )
}

/// A quantile of a latency, or a dash.
pub fn latency(bins: &[u64], topology: &Topology, share: f64) -> Cell {
    match quantile(bins, &topology.latency_bounds_us, share) {
        Some(Quantile::About(us)) => microseconds(us).into(),
        Some(Quantile::MoreThan(us)) => Cell::new(format!(">{}", microseconds(us)), Paint::Bad),
        None => nothing(),
    }
}

/// A share of requests that failed.
pub fn error_share(share: Option<f64>) -> Cell {
    match share {
        None => nothing(),
        Some(none) if none <= 0.0 => percent(none).into(),
        Some(few) if few < 0.01 => Cell::new(percent(few), Paint::Warn),
        Some(many) => Cell::new(percent(many), Paint::Bad),
    }
}

/// A share that is neither good nor bad.
pub fn plain_share(share: Option<f64>) -> Cell {
    share.map_or_else(nothing, |share| percent(share).into())
}

/// Something that should be zero.
pub fn trouble(shown: String, count: u64) -> Cell {
    Cell::new(shown, if count > 0 { Paint::Warn } else { Paint::Plain })
}

/// `2`, or `0 +1` with one that does not stand yet. `9 (6 dedicated, 4 in use)`: of these six are or were somebody's own.
pub fn connections(server: &Server) -> Cell {
    let links = &server.connections;
    let more = match links.connecting + links.waiting {
        0 => String::new(),
        more => format!(" +{more}"),
    };
    let dedicated = match (links.dedicated_in_use + links.dedicated_idle, links.dedicated_in_use) {
        (0, _) => String::new(),
        (all, in_use) => format!(" ({all} dedicated, {in_use} in use)"),
    };
    let paint = if links.connected == 0 && !more.is_empty() { Paint::Warn } else { Paint::Plain };
    Cell::new(format!("{}{more}{dedicated}", links.connected), paint)
}

pub fn paint_of(state: State) -> Paint {
    match state {
        State::Ejected => Paint::Bad,
        State::Returning => Paint::Warn,
        State::Live => Paint::Good,
    }
}

/// The first line of a message that may have many; `…` stands for the others.
pub fn first_line(text: &str) -> String {
    match text.trim_end().split_once('\n') {
        Some((first, _)) => format!("{} …", first.trim_end()),
        None => text.trim_end().to_owned(),
    }
}

pub fn nothing() -> Cell {
    Cell::new("-", Paint::Faint)
}
