//! The servers of one pool, and the guard: when too many fail, it is not the servers, and those that are left must not
//! be crushed. Above `max_ejected_percent` nothing more is ejected.

use std::time::{Duration, Instant};

use super::server::Server;
use super::{Jitter, Policy, Report, Standing, Transition};

/// The health of a pool.
#[derive(Debug)]
pub struct Group {
    policy: Policy,
    servers: Vec<Server>,
    jitter: Jitter,
}

impl Group {
    /// All of them live. The seed decides the jitter of ejections.
    pub fn new(policy: Policy, servers: usize, seed: u64) -> Self {
        Self { policy, servers: (0..servers).map(|_| Server::new()).collect(), jitter: Jitter::new(seed) }
    }

    /// Takes over what is known of servers from the group before: for each server here its number there, if it was there.
    pub fn take_over(&mut self, before: &Self, from: &[Option<usize>]) {
        for (server, from) in self.servers.iter_mut().zip(from) {
            if let Some(known) = from.and_then(|from| before.servers.get(from)) {
                *server = known.clone();
                server.change_retry_timeout(before.policy.retry_timeout, self.policy.retry_timeout);
            }
        }
    }

    /// A connection was lost or not made, or a request timed out, that began at `begun`: the connection's making, the
    /// attempt's start, the request's queueing.
    pub fn failed(&mut self, server: usize, begun: Instant, now: Instant, why: &str) -> Option<Transition> {
        if self.servers[server].failed(begun, now, &self.policy) { self.eject(server, now, why) } else { None }
    }

    /// A good reply. To be called when [`is_suspect`](Self::is_suspect); otherwise it changes nothing.
    pub fn answered(&mut self, server: usize) {
        self.servers[server].answered();
    }

    /// Has failed since its last good reply.
    pub fn is_suspect(&self, server: usize) -> bool {
        self.servers[server].is_suspect()
    }

    /// A probe has ended, well or with a reason. After a good one, look whether it [`wants_flush`](Self::wants_flush).
    pub fn probed(&mut self, server: usize, result: Result<(), &str>, now: Instant) -> Option<Transition> {
        match result {
            Ok(()) => {
                let back = self.servers[server].probe_succeeded(now, &self.policy);
                self.note(back)
            }
            Err(why) if self.servers[server].probe_failed(now, &self.policy) => self.eject(server, now, why),
            Err(_) => None,
        }
    }

    /// Nothing is missing for its return but that it is emptied.
    pub fn wants_flush(&self, server: usize) -> bool {
        self.servers[server].wants_flush()
    }

    /// It was emptied, or could not be. Changes nothing unless it still [`wants_flush`](Self::wants_flush).
    pub fn flushed(&mut self, server: usize, result: Result<(), &str>, now: Instant) -> Option<Transition> {
        let back = self.servers[server].flushed(result, now, &self.policy);
        self.note(back)
    }

    /// The time has come to `now`: shares of returning servers grow. To be called at [`next_tick`](Self::next_tick);
    /// later does no harm.
    pub fn tick(&mut self, now: Instant) -> Vec<(usize, Transition)> {
        let grown = |(index, server): (usize, &mut Server)| Some((index, server.tick(now, &self.policy)?));
        self.servers.iter_mut().enumerate().filter_map(grown).collect()
    }

    /// When the next share grows; `None`: no server is returning.
    pub fn next_tick(&self) -> Option<Instant> {
        self.servers.iter().filter_map(|server| server.next_tick(&self.policy)).min()
    }

    pub fn standing(&self, server: usize) -> Standing {
        self.servers[server].standing()
    }

    /// What there is to say about a server.
    pub fn report(&self, server: usize) -> Report {
        self.servers[server].report(&self.policy)
    }

    /// Servers that are ejected now.
    pub fn ejected(&self) -> usize {
        self.servers.iter().filter(|server| server.is_ejected()).count()
    }

    /// Servers that may be ejected at a time.
    pub fn most_ejected(&self) -> usize {
        self.servers.len() * usize::from(self.policy.max_ejected_percent.min(100)) / 100
    }

    /// Ejections so far, of all servers.
    pub fn ejections(&self) -> u64 {
        self.servers.iter().map(Server::ejections).sum()
    }

    /// Ejects a server of which somebody else knows that it fails, if it is not ejected already and as many may be.
    pub fn condemn(&mut self, server: usize, now: Instant, why: &str) -> Option<Transition> {
        if self.servers[server].is_ejected() { None } else { self.eject(server, now, why) }
    }

    /// Ejects a server because somebody wants it, however many are ejected already; for as long as said, or else as long as
    /// any ejection. One that is ejected already stays so from now on.
    pub fn send_away(&mut self, server: usize, now: Instant, time: Option<Duration>, why: &str) -> Transition {
        let time = time.unwrap_or(self.policy.retry_timeout);
        let gone = self.servers[server].send_away(now, time, why);
        self.servers.iter_mut().for_each(Server::forget_kept);
        gone
    }

    /// Takes an ejected server back because somebody wants it, whatever is missing; but one that must be emptied is
    /// emptied first, which it [`wants`](Self::wants_flush) from now on. `None`: it is not ejected, or that.
    pub fn call_back(&mut self, server: usize, now: Instant) -> Option<Transition> {
        let back = self.servers[server].call_back(now, &self.policy);
        self.note(back)
    }

    fn eject(&mut self, server: usize, now: Instant, why: &str) -> Option<Transition> {
        if self.ejected() >= self.most_ejected() {
            return self.servers[server].keep(now, why, &self.policy);
        }
        let gone = self.servers[server].eject(now, why, &self.policy, &mut self.jitter);
        self.note(Some(gone))
    }

    /// Other servers are ejected than before, if this says so.
    fn note(&mut self, transition: Option<Transition>) -> Option<Transition> {
        if transition.as_ref().is_some_and(Transition::moves_keys) {
            self.servers.iter_mut().for_each(Server::forget_kept);
        }
        transition
    }
}

#[cfg(test)]
mod tests;
