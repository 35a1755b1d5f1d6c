//! Counters to figures: what was counted between two answers, and what follows from it.

use std::collections::BTreeMap;

use super::answers::{Counts, Pool, Server, Topology, WorkerThread};

/// What was counted in a time: since the start, or between two answers.
#[derive(Debug, Clone, Default)]
pub struct Period {
    /// Counters have what was added in this time; all else is as it was at its end.
    pub counted: Topology,
    pub seconds: f64,
    pub since_start: bool,
}

impl Period {
    pub fn since_start(topology: Topology) -> Self {
        Self { seconds: topology.uptime_seconds, counted: topology, since_start: true }
    }

    /// From `before` to `now`. By the proxy's clock, so that it does not matter how long the answers took. If another
    /// process answers now, all of its life.
    pub fn between(before: &Topology, now: &Topology) -> Self {
        let seconds = now.uptime_seconds - before.uptime_seconds;
        if (before.pid, &before.started) != (now.pid, &now.started) || seconds <= 0.0 {
            return Self::since_start(now.clone());
        }
        let mut counted = now.clone();
        for worker in &mut counted.worker_threads {
            let same = before.worker_threads.iter().find(|other| other.worker == worker.worker);
            same.into_iter().for_each(|other| worker.subtract(other));
        }
        for pool in &mut counted.pools {
            let same = before.pools.iter().find(|other| other.name == pool.name);
            same.into_iter().for_each(|other| pool.subtract(other));
        }
        Self { counted, seconds, since_start: false }
    }

    pub fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

impl WorkerThread {
    fn subtract(&mut self, before: &Self) {
        self.cpu_seconds = (self.cpu_seconds - before.cpu_seconds).max(0.0);
        self.wait_seconds = (self.wait_seconds - before.wait_seconds).max(0.0);
    }
}

impl Pool {
    fn subtract(&mut self, before: &Self) {
        take(&mut self.sessions.opened, before.sessions.opened);
        take(&mut self.sessions.refused, before.sessions.refused);
        for (class, results) in &mut self.requests {
            before.requests.get(class).into_iter().for_each(|before| take_each(results, before));
        }
        take(&mut self.request_bytes, before.request_bytes);
        take(&mut self.response_bytes, before.response_bytes);
        take_each(&mut self.errors, &before.errors);
        for (class, bins) in &mut self.latency {
            before.latency.get(class).into_iter().for_each(|before| take_bins(bins, before));
        }
        for server in &mut self.servers {
            let same = before.servers.iter().find(|other| other.name == server.name);
            same.into_iter().for_each(|other| server.subtract(other));
        }
    }
}

impl Server {
    fn subtract(&mut self, before: &Self) {
        take(&mut self.ejections, before.ejections);
        take(&mut self.requests, before.requests);
        take(&mut self.responses, before.responses);
        take(&mut self.timeouts, before.timeouts);
        take_each(&mut self.errors, &before.errors);
        take_bins(&mut self.latency, &before.latency);
        take_bins(&mut self.queue_latency, &before.queue_latency);
    }
}

/// A counter that is less than it was has started again from zero.
fn take(now: &mut u64, before: u64) {
    *now = now.checked_sub(before).unwrap_or(*now);
}

fn take_each(now: &mut Counts, before: &Counts) {
    for (word, count) in now {
        take(count, before.get(word).copied().unwrap_or(0));
    }
}

/// Bins start again together.
fn take_bins(now: &mut [u64], before: &[u64]) {
    if now.len() == before.len() && now.iter().zip(before).all(|(now, before)| now >= before) {
        now.iter_mut().zip(before).for_each(|(now, before)| *now -= before);
    }
}

/// The requests of a pool, or of some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    pub all: u64,
    /// The server's error replies, and what got no reply of a server or was refused.
    pub errors: u64,
    pub hits: u64,
    pub misses: u64,
}

impl Requests {
    pub fn of(pool: &Pool) -> Self {
        let by = |class: &str, result: &str| pool.requests.get(class).and_then(|r| r.get(result)).copied().unwrap_or(0);
        let results = || pool.requests.values().flatten();
        let bad = |word: &str| matches!(word, "error" | "failed" | "rejected");
        Self {
            all: results().map(|(_, count)| count).sum(),
            errors: results().filter(|(word, _)| bad(word)).map(|(_, count)| count).sum(),
            hits: by("read", "ok"),
            misses: by("read", "miss"),
        }
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            errors: self.errors + other.errors,
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
        }
    }

    /// `None`: no requests, no share.
    pub fn error_share(self) -> Option<f64> {
        share(self.errors, self.all)
    }

    pub fn hit_share(self) -> Option<f64> {
        share(self.hits, self.hits + self.misses)
    }
}

/// `None` of nothing.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Timeouts, and connections that could not be made or were lost for another reason.
pub fn errors_of(server: &Server) -> u64 {
    server.timeouts
        + server.errors.iter().filter(|(reason, _)| *reason != "timeout").map(|(_, count)| count).sum::<u64>()
}

/// The bins of all classes of commands together.
pub fn all_classes(latency: &BTreeMap<String, Vec<u64>>) -> Vec<u64> {
    sum_of_bins(latency.values().map(Vec::as_slice))
}

pub fn sum_of_bins<'a>(lists: impl Iterator<Item = &'a [u64]>) -> Vec<u64> {
    let mut sum = Vec::new();
    for bins in lists {
        sum.resize(sum.len().max(bins.len()), 0);
        sum.iter_mut().zip(bins).for_each(|(sum, count)| *sum += count);
    }
    sum
}

/// A time that a share of the requests did not need more than.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantile {
    /// About so many microseconds: within a bin, as if its requests were spread evenly, as Prometheus has it.
    About(f64),
    /// It is in the last bin, which has no bound; so many microseconds is where that begins.
    MoreThan(f64),
}

/// `None` without requests, or if the bins are not those of the bounds.
pub fn quantile(bins: &[u64], bounds: &[u64], share: f64) -> Option<Quantile> {
    let total: u64 = bins.iter().sum();
    if total == 0 || bins.len() != bounds.len() + 1 {
        return None;
    }
    let rank = share * total as f64;
    let mut below = 0.0;
    let mut start = 0.0;
    for (&count, &bound) in bins.iter().zip(bounds) {
        let (count, end) = (count as f64, bound as f64);
        if count > 0.0 && below + count >= rank {
            return Some(Quantile::About(start + (end - start) * ((rank - below) / count)));
        }
        below += count;
        start = end;
    }
    Some(Quantile::MoreThan(start))
}
