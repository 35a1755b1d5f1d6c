//! `outrigger status`: one screen. Whether it is ready and what is wrong, then pools and servers since the start.

use super::answers::{Pool, Topology};
use super::figures::{Period, Requests, all_classes, errors_of};
use super::parts::{connections, error_share, headline, latency, paint_of, plain_share, trouble};
use super::problems::{problems, state};
use crate::cli::show::{Cell, Column, Line, Paint, Table, bytes, count};

/// The screen. Tables leave columns out where they do not fit.
pub fn status(topology: Topology, width: Option<usize>) -> Vec<Line> {
    let period = Period::since_start(topology);
    let topology = &period.counted;
    let mut lines = vec![headline(topology)];
    let problems = problems(&period);
    if !problems.is_empty() {
        lines.push(Line::new());
        lines.extend(problems);
    }
    lines.push(Line::new());
    lines.extend(pools(topology, width));
    lines.extend(failures(topology));
    for pool in &topology.pools {
        lines.push(Line::new());
        lines.push(title(pool));
        lines.extend(servers(pool, topology, width));
    }
    lines.push(Line::new());
    lines.push(ending(topology));
    lines
}

fn pools(topology: &Topology, width: Option<usize>) -> Vec<Line> {
    let mut table = Table::new([
        Column::left("POOL", 0),
        Column::left("LISTEN", 4),
        Column::left("PROTOCOL", 5),
        Column::right("SESSIONS", 3),
        Column::right("REQUESTS", 1),
        Column::right("HITS", 2),
        Column::right("ERRORS", 0),
        Column::right("p50", 1),
        Column::right("p99", 0),
    ]);
    for pool in &topology.pools {
        let requests = Requests::of(pool);
        let bins = all_classes(&pool.latency);
        let sessions = pool.sessions.limit.map_or(String::new(), |limit| format!(" of {limit}"));
        table.row([
            Cell::new(&pool.name, Paint::Strong),
            (&pool.listen).into(),
            (&pool.protocol).into(),
            format!("{}{sessions}", pool.sessions.open).into(),
            count(requests.all).into(),
            plain_share(requests.hit_share()),
            error_share(requests.error_share()),
            latency(&bins, topology, 0.5),
            latency(&bins, topology, 0.99),
        ]);
    }
    table.lines(width)
}

/// Why requests failed, for the pools where some did.
fn failures(topology: &Topology) -> Vec<Line> {
    let mut lines = Vec::new();
    for pool in &topology.pools {
        let mut reasons: Vec<_> = pool.errors.iter().filter(|(_, count)| **count > 0).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let reasons: Vec<_> = reasons.iter().map(|(reason, n)| format!("{reason} {}", count(**n))).collect();
        if !reasons.is_empty() {
            lines
                .push(Line::painted(format!("{}: failed or refused: {}", pool.name, reasons.join(", ")), Paint::Faint));
        }
    }
    lines
}

fn title(pool: &Pool) -> Line {
    let how = format!("  {}, {}", pool.distribution, pool.hash);
    Line::painted(&pool.name, Paint::Strong).and(how, Paint::Faint)
}

fn servers(pool: &Pool, topology: &Topology, width: Option<usize>) -> Vec<Line> {
    let mut table = Table::new([
        Column::left("SERVER", 0),
        Column::left("ADDRESS", 5),
        Column::left("STATE", 0),
        Column::right("KEYS", 3),
        Column::right("CONNECTIONS", 4),
        Column::right("IN FLIGHT", 4),
        Column::right("QUEUED", 4),
        Column::right("REQUESTS", 2),
        Column::right("ERRORS", 1),
        Column::right("p50", 2),
        Column::right("p99", 1),
    ]);
    let mut servers: Vec<_> = pool.servers.iter().collect();
    servers.sort_by_key(|server| server.state);
    for server in servers {
        let errors = errors_of(server);
        table.row([
            (&server.name).into(),
            (&server.address).into(),
            Cell::new(state(server, topology.clock()), paint_of(server.state)),
            plain_share(Some(server.ring_share)),
            connections(server),
            count(server.in_flight).into(),
            count(server.queued).into(),
            count(server.requests).into(),
            trouble(count(errors), errors),
            latency(&server.latency, topology, 0.5),
            latency(&server.latency, topology, 0.99),
        ]);
    }
    table.lines(width)
}

fn ending(topology: &Topology) -> Line {
    let (held, limit) = (bytes(topology.buffered_bytes as f64), bytes(topology.buffered_limit_bytes as f64));
    let config = &topology.config;
    let reloads = format!("reloads {}, failed {}", config.reloads, config.failed_reloads);
    let text = format!("buffers {held} of {limit}; workers {}; {reloads}; figures since the start", topology.workers);
    Line::painted(text, Paint::Faint)
}
