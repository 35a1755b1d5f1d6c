//! What `outrigger top` shows: rates and times of the last second or so, as much of it as the terminal has lines.

use super::answers::{Events, HotKeys, Topology};
use super::events::what_happened;
use super::figures::{Period, Requests, all_classes, errors_of, sum_of_bins};
use super::parts::{connections, error_share, headline, latency, nothing, paint_of, plain_share, trouble};
use super::problems::{problems, state};
use crate::cli::show::{Cell, Column, Line, Paint, Table, bytes, count, percent, rate, seconds};

/// What one look at the proxy has brought.
#[derive(Debug, Default)]
pub struct Board {
    pub period: Period,
    pub events: Events,
    pub hot_keys: HotKeys,
    /// Why the last look has brought nothing; the rest is of the one before.
    pub trouble: Option<String>,
}

/// A block of lines, and how many of them it gets before another one gets more.
struct Section {
    lines: Vec<Line>,
    least: usize,
}

impl Section {
    fn new(lines: Vec<Line>, least: usize) -> Self {
        Self { lines, least }
    }

    fn titled(title: &str, lines: Vec<Line>, least: usize) -> Self {
        Self::new([vec![Line::painted(title, Paint::Strong)], lines].concat(), least)
    }
}

impl Board {
    /// Takes note of another answer.
    pub fn counted(&mut self, before: Option<&Topology>, now: &Topology) {
        self.period = match before {
            Some(before) => Period::between(before, now),
            None => Period::since_start(now.clone()),
        };
    }

    /// At most `height` lines of `width` columns.
    pub fn lines(&self, width: Option<usize>, height: Option<usize>) -> Vec<Line> {
        let mut sections = vec![
            Section::new(self.head(), 3),
            Section::new(problems(&self.period), 5),
            Section::new(self.pools(width), 4),
            Section::new(self.servers(width), 7),
            Section::titled("latest events", self.latest_events(), 4),
            Section::titled("hot keys", self.keys(width), 4),
        ];
        // A title without anything below it is nothing.
        sections.retain(|section| section.lines.len() > usize::from(section.least == 4));
        let room = share_out(&sections, height.unwrap_or(usize::MAX));
        let blocks = sections.into_iter().zip(room).filter(|(_, room)| *room > 0);
        let mut lines = Vec::new();
        for (section, room) in blocks {
            if !lines.is_empty() {
                lines.push(Line::new());
            }
            lines.extend(shortened(section.lines, room));
        }
        let fit = |line: Line| line.cut(width.unwrap_or(usize::MAX));
        lines.into_iter().map(fit).collect()
    }

    fn head(&self) -> Vec<Line> {
        let (period, topology) = (&self.period, &self.period.counted);
        let mut first = headline(topology);
        if let Some(why) = &self.trouble {
            first = Line::painted(format!("NO ANSWER: {why}"), Paint::Bad);
        }
        vec![first, totals(period), workers(period)]
    }

    fn pools(&self, width: Option<usize>) -> Vec<Line> {
        let (period, topology) = (&self.period, &self.period.counted);
        let mut table = Table::new([
            Column::left("POOL", 0),
            Column::right("REQUESTS", 0),
            Column::right("ERRORS", 0),
            Column::right("p50", 1),
            Column::right("p99", 0),
            Column::right("HITS", 2),
            Column::right("SESSIONS", 3),
            Column::right("NEW", 5),
            Column::right("IN", 4),
            Column::right("OUT", 4),
        ]);
        let mut pools: Vec<_> = topology.pools.iter().map(|pool| (pool, Requests::of(pool))).collect();
        pools.sort_by_key(|(_, requests)| std::cmp::Reverse(requests.all));
        for (pool, requests) in pools {
            let bins = all_classes(&pool.latency);
            table.row([
                Cell::new(&pool.name, Paint::Strong),
                rate(period.per_second(requests.all)).into(),
                error_share(requests.error_share()),
                latency(&bins, topology, 0.5),
                latency(&bins, topology, 0.99),
                plain_share(requests.hit_share()),
                count(pool.sessions.open).into(),
                rate(period.per_second(pool.sessions.opened)).into(),
                throughput(period, pool.request_bytes),
                throughput(period, pool.response_bytes),
            ]);
        }
        table.lines(width)
    }

    /// Of all pools, those that do not take all of their requests first, then by rate.
    fn servers(&self, width: Option<usize>) -> Vec<Line> {
        let (period, topology) = (&self.period, &self.period.counted);
        let mut table = Table::new([
            Column::left("SERVER", 0),
            Column::left("STATE", 1),
            Column::right("REQUESTS", 0),
            Column::right("ERRORS", 2),
            Column::right("p50", 3),
            Column::right("p99", 0),
            Column::right("QUEUE p99", 4),
            Column::right("IN FLIGHT", 5),
            Column::right("QUEUED", 5),
            Column::right("KEYS", 6),
            Column::right("CONNECTIONS", 7),
        ]);
        let all = topology.pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(_, server)| (server.state, std::cmp::Reverse(server.requests)));
        for (pool, server) in all {
            let errors = errors_of(server);
            table.row([
                format!("{}/{}", pool.name, server.name).into(),
                Cell::new(state(server, topology.clock()), paint_of(server.state)),
                rate(period.per_second(server.requests)).into(),
                trouble(rate(period.per_second(errors)), errors),
                latency(&server.latency, topology, 0.5),
                latency(&server.latency, topology, 0.99),
                latency(&server.queue_latency, topology, 0.99),
                waiting(server.in_flight),
                waiting(server.queued),
                plain_share(Some(server.ring_share)),
                connections(server),
            ]);
        }
        if table.is_empty() { Vec::new() } else { table.lines(width) }
    }

    /// The newest first: what does not fit is what was long ago.
    fn latest_events(&self) -> Vec<Line> {
        let clock = self.period.counted.clock();
        let age = |at: &str| clock.since(Some(at)).map_or_else(|| at.to_owned(), |age| seconds(age) + " ago");
        let ages: Vec<_> = self.events.events.iter().map(|event| age(&event.at)).collect();
        let longest = ages.iter().map(|age| age.len()).max().unwrap_or(0);
        let events = self.events.events.iter().zip(ages).rev();
        let line =
            |(event, age): (_, String)| what_happened(event, Line::painted(format!("{age:>longest$}  "), Paint::Faint));
        events.map(line).collect()
    }

    fn keys(&self, width: Option<usize>) -> Vec<Line> {
        let mut keys: Vec<_> =
            self.hot_keys.pools.iter().flat_map(|pool| pool.hot.iter().map(|key| (pool.pool.as_str(), key))).collect();
        keys.sort_by(|(_, one), (_, other)| other.share.total_cmp(&one.share));
        if keys.is_empty() {
            return Vec::new();
        }
        let mut table = Table::new([
            Column::right("SHARE", 0),
            Column::left("POOL", 1),
            Column::left("SERVER", 2),
            Column::left("KEY", 0),
        ]);
        for (pool, key) in keys {
            table.row([percent(key.share).into(), pool.into(), (&key.server).into(), (&key.key).into()]);
        }
        table.lines(width)
    }
}

fn totals(period: &Period) -> Line {
    let topology = &period.counted;
    let requests = topology.pools.iter().map(Requests::of).fold(Requests::default(), Requests::plus);
    let bins: Vec<_> = topology.pools.iter().map(|pool| all_classes(&pool.latency)).collect();
    let bins = sum_of_bins(bins.iter().map(Vec::as_slice));
    let sessions: u64 = topology.pools.iter().map(|pool| pool.sessions.open).sum();
    let (held, limit) = (bytes(topology.buffered_bytes as f64), bytes(topology.buffered_limit_bytes as f64));
    let mut line = Line::painted(rate(period.per_second(requests.all)), Paint::Strong);
    for (cell, what) in [
        (error_share(requests.error_share()), " errors"),
        (latency(&bins, topology, 0.5), " p50"),
        (latency(&bins, topology, 0.99), " p99"),
        (count(sessions).into(), " sessions"),
        (format!("{held} of {limit}").into(), " buffered"),
    ] {
        line.pad(2);
        line.push(cell.into());
        line = line.and(what, Paint::Faint);
    }
    let over = if period.since_start { "since the start".into() } else { format!("in {:.1} s", period.seconds) };
    line.and(format!("  {over}"), Paint::Faint)
}

fn workers(period: &Period) -> Line {
    let mut line = Line::painted("workers", Paint::Faint);
    for worker in &period.counted.worker_threads {
        let busy = if period.seconds > 0.0 { worker.cpu_seconds / period.seconds } else { 0.0 };
        let paint = if busy >= 0.9 { Paint::Bad } else { Paint::Plain };
        line = line.and(format!("  {} CPU", percent(busy)), paint);
        line = line.and(format!(" ({} sessions)", worker.sessions), Paint::Faint);
    }
    line
}

fn throughput(period: &Period, count: u64) -> Cell {
    match count {
        0 => nothing(),
        some => (bytes(period.per_second(some)) + "/s").into(),
    }
}

fn waiting(n: u64) -> Cell {
    if n == 0 { nothing() } else { count(n).into() }
}

/// Lines for each section. All get what they need at the least, as far as there is room, the first ones first; then what
/// is left, in the same order. An empty line is between two.
fn share_out(sections: &[Section], height: usize) -> Vec<usize> {
    let mut left = height;
    let mut room: Vec<usize> = Vec::new();
    for section in sections {
        let gap = usize::from(left < height);
        let given = section.least.min(section.lines.len()).min(left.saturating_sub(gap));
        // A title alone is of no use.
        let given = if given < 2 && section.lines.len() > given { 0 } else { given };
        left -= if given > 0 { given + gap } else { 0 };
        room.push(given);
    }
    for (section, room) in sections.iter().zip(&mut room).filter(|(_, room)| **room > 0) {
        let more = (section.lines.len() - *room).min(left);
        *room += more;
        left -= more;
    }
    room
}

/// The first lines; the last one says how many there are more.
fn shortened(mut lines: Vec<Line>, room: usize) -> Vec<Line> {
    let missing = lines.len().saturating_sub(room);
    if missing > 0 {
        lines.truncate(room - 1);
        lines.push(Line::painted(format!("  … {} more", missing + 1), Paint::Faint));
    }
    lines
}
