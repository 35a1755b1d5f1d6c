//! What is wrong right now, in a line each: what somebody who was woken by it wants to see first.

use super::answers::{Clock, Pool, Server, State, Topology};
use super::figures::{Period, Requests};
use super::parts::first_line;
use crate::cli::show::{Line, Paint, bytes, percent, rate, seconds};

/// Shares from which on something is worth a line.
const NEARLY_FULL: f64 = 0.9;
const BUSY: f64 = 0.9;
const STARVED: f64 = 0.1;
const TOO_MANY_ERRORS: f64 = 0.01;

/// The worst first. Rates are judged only over a time that is now, not over all since the start.
pub fn problems(period: &Period) -> Vec<Line> {
    let topology = &period.counted;
    let clock = topology.clock();
    let mut found = Found::default();
    found.of_reloads(topology);
    for pool in &topology.pools {
        found.of_pool(pool, clock);
    }
    found.of_limits(topology);
    if !period.since_start {
        found.of_rates(period);
    }
    found.bad.into_iter().chain(found.odd).collect()
}

#[derive(Default)]
struct Found {
    bad: Vec<Line>,
    odd: Vec<Line>,
}

impl Found {
    fn bad(&mut self, subject: &str, text: impl AsRef<str>) {
        self.bad.push(line("✗", Paint::Bad, subject, text.as_ref()));
    }

    fn odd(&mut self, subject: &str, text: impl AsRef<str>) {
        self.odd.push(line("!", Paint::Warn, subject, text.as_ref()));
    }

    fn of_reloads(&mut self, topology: &Topology) {
        let config = &topology.config;
        if !config.last_reload_successful {
            let stays = format!(
                "the last reload failed, generation {} stays: {}",
                config.generation,
                first_line(&config.last_error)
            );
            self.bad("configuration", stays);
        }
        if !config.needs_restart.is_empty() {
            let waits = format!("changed, and waits for an upgrade or a restart: {}", config.needs_restart.join(", "));
            self.odd("configuration", waits);
        }
    }

    fn of_pool(&mut self, pool: &Pool, clock: Clock) {
        let ejected = pool.servers.iter().filter(|server| server.state == State::Ejected).count();
        if ejected > 0 && ejected == pool.servers.len() {
            self.bad(&pool.name, "no server is left");
        }
        for server in &pool.servers {
            self.of_server(pool, server, clock);
        }
        let sessions = &pool.sessions;
        if let Some(limit) = sessions.limit.filter(|limit| sessions.open as f64 >= *limit as f64 * NEARLY_FULL) {
            self.odd(&pool.name, format!("{} of {limit} sessions are open; more are refused", sessions.open));
        }
    }

    fn of_server(&mut self, pool: &Pool, server: &Server, clock: Clock) {
        let name = format!("{}/{}", pool.name, server.name);
        let until = clock.until(server.until.as_deref());
        match server.state {
            State::Ejected => {
                let mut text = state(server, clock);
                if !server.reason.is_empty() {
                    text += &format!(": {}", first_line(&server.reason));
                }
                if let Some(left) = until {
                    text += &format!("; out for another {} at least", seconds(left));
                }
                self.bad(&name, text);
            }
            State::Returning => {
                let all = until.map(|left| format!(", all in {}", seconds(left))).unwrap_or_default();
                self.odd(&name, format!("returning: gets {:.0} % of its requests{all}", server.traffic_percent));
            }
            State::Live => {
                let links = &server.connections;
                if links.connected == 0 && links.connecting + links.waiting > 0 {
                    self.odd(&name, "live, but no connection to it stands");
                }
            }
        }
    }

    fn of_limits(&mut self, topology: &Topology) {
        let (held, limit) = (topology.buffered_bytes as f64, topology.buffered_limit_bytes as f64);
        if limit > 0.0 && held >= limit * NEARLY_FULL {
            let text = format!("{} of {} in use; requests are refused at the limit", bytes(held), bytes(limit));
            self.bad("buffers", text);
        }
    }

    fn of_rates(&mut self, period: &Period) {
        let topology = &period.counted;
        for pool in &topology.pools {
            let share = Requests::of(pool).error_share().unwrap_or(0.0);
            if share >= TOO_MANY_ERRORS {
                self.bad(&pool.name, format!("{} of the requests fail{}", percent(share), reasons(pool, period)));
            }
            if pool.sessions.refused > 0 {
                let refused = rate(period.per_second(pool.sessions.refused));
                self.bad(&pool.name, format!("{refused} sessions are refused"));
            }
        }
        for worker in &topology.worker_threads {
            let name = format!("worker {}", worker.worker);
            let of_a_cpu = |spent: f64| spent / period.seconds;
            if of_a_cpu(worker.cpu_seconds) >= BUSY {
                self.odd(&name, format!("full: {} of a CPU", percent(of_a_cpu(worker.cpu_seconds))));
            }
            if of_a_cpu(worker.wait_seconds) >= STARVED {
                let waits = percent(of_a_cpu(worker.wait_seconds));
                self.odd(&name, format!("waits for a CPU {waits} of the time: throttled, or the machine is crowded"));
            }
        }
    }
}

fn line(mark: &str, paint: Paint, subject: &str, text: &str) -> Line {
    Line::painted(mark, paint).and(" ", Paint::Plain).and(subject, Paint::Strong).and(format!(": {text}"), Paint::Plain)
}

/// Why requests of a pool failed, the most frequent reason first; with a colon in front, if there are any.
fn reasons(pool: &Pool, period: &Period) -> String {
    let mut reasons: Vec<_> = pool.errors.iter().filter(|(_, count)| **count > 0).collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let shown = reasons.iter().map(|(reason, count)| format!("{reason} {}", rate(period.per_second(**count))));
    let shown: Vec<_> = shown.take(3).collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}

/// `live`, `returning 30 %`, `ejected 40 s ago`.
pub fn state(server: &Server, clock: Clock) -> String {
    match server.state {
        State::Live => "live".into(),
        State::Returning => format!("returning {:.0} %", server.traffic_percent),
        State::Ejected => match clock.since(server.ejected_at.as_deref()) {
            Some(age) => format!("ejected {} ago", seconds(age)),
            None => "ejected".into(),
        },
    }
}
