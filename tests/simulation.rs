//! Simulation: health and routing of one pool, by random walks through a world in which servers fail and recover, and reloads change
//! the servers and every setting. No sockets and no clock: ten thousand walks take seconds, and each repeats by its seed.
//!
//! After every step what must always hold is checked. `SIMULATION_SEED=n` walks one seed only, `SIMULATION_SEEDS=n` so many.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use outrigger::config::{self, OnEjected, PoolSettings};
use outrigger::health::{Group, Jitter, Policy, Report, Standing, Transition};
use outrigger::pool::{Routing, Way};
use outrigger::ring::Distribution;

const SEEDS: u64 = 10_000;
const STEPS: usize = 30;
/// Keys that are followed: points all around the circle.
const KEYS: u32 = 64;
const MS: Duration = Duration::from_millis(1);

/// A pool that walks go through.
struct Shape {
    settings: PoolSettings,
    /// Shares may grow step by step. Not with many servers: it makes very many maps.
    slow_start: bool,
    /// The map for each standing of the servers that came up, with the ways of the keys: made once, as it takes long.
    maps: HashMap<Vec<Standing>, Rc<Map>>,
}

struct Map {
    calm: bool,
    ways: Vec<Way>,
    /// Whom the keys belong to, whatever share of them it takes now.
    owners: Vec<Option<usize>>,
    /// By server.
    points: Vec<u32>,
}

impl Shape {
    fn new(distribution: &str, weights: &[u32], on_ejected: OnEjected) -> Self {
        let server = |(i, weight): (usize, &u32)| format!("      - 127.0.0.1:{}:{weight} server{i}\n", 7000 + i);
        let servers: String = weights.iter().enumerate().map(server).collect();
        let pool = format!("  p:\n    listen: 127.0.0.1:1\n    distribution: {distribution}\n    servers:\n{servers}");
        let parsed = config::parse("simulation", &format!("pools:\n{pool}"));
        let mut settings = parsed.expect("a valid pool").settings.pools.remove(0);
        settings.health.on_ejected = on_ejected;
        Self { settings, slow_start: true, maps: HashMap::new() }
    }

    fn all() -> Vec<Self> {
        use OnEjected::{FailFast, Miss, Pool, Rehash};
        vec![
            Self::new("ketama", &[1, 1, 1], Rehash),
            Self::new("ketama", &[1, 3, 50], Rehash),
            Self::new("ketama", &[1, 1, 1, 1, 1], Rehash).at_once(),
            Self::new("ketama", &[1, 2, 3, 50], Rehash).at_once(),
            Self::new("ketama", &[1, 1], Rehash),
            Self::new("ketama", &[1, 1, 2], FailFast).at_once(),
            Self::new("ketama", &[1, 1, 1], Pool(1)),
            Self::new("modula", &[1, 2, 1], Rehash),
            Self::new("modula", &[1, 1, 1], Miss).at_once(),
            Self::new("random", &[1, 1, 1], Rehash),
            Self::new("ketama", &[1], Rehash),
        ]
    }

    fn at_once(self) -> Self {
        Self { slow_start: false, ..self }
    }

    fn servers(&self) -> usize {
        self.settings.servers.len()
    }

    fn map(&mut self, standings: Vec<Standing>) -> Rc<Map> {
        if let Some(map) = self.maps.get(&standings) {
            return map.clone();
        }
        let routing = Routing::build(&self.settings, standings.clone());
        let points = (0..KEYS).map(|key| key.wrapping_mul(0x9e37_79b9));
        let map = Map {
            calm: routing.is_calm(),
            ways: points.clone().map(|point| routing.way(point)).collect(),
            owners: points.map(|point| routing.ring().server(point)).collect(),
            points: routing.ring().points_per_server().to_vec(),
        };
        self.maps.entry(standings).or_insert(Rc::new(map)).clone()
    }
}

/// How a server really is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Nature {
    Well,
    /// Nothing works.
    Dead,
    /// It answers requests, and probes with an error.
    BadProbes,
    /// It answers probes, and loses requests.
    BadTraffic,
}

struct Server {
    nature: Nature,
    next_probe: Instant,
    bad_probes: u32,
    /// Since it was last ejected: good probes in a row, and the first of them.
    good_probes: u32,
    good_since: Instant,
    ejected_at: Instant,
    ejected_until: Instant,
    emptied: bool,
}

impl Server {
    /// One that nobody has heard of.
    fn new(now: Instant, probe_in: Duration) -> Self {
        Self {
            nature: Nature::Well,
            next_probe: now + probe_in,
            bad_probes: 0,
            good_probes: 0,
            good_since: now,
            ejected_at: now,
            ejected_until: now,
            emptied: false,
        }
    }
}

/// What happened on a walk.
#[derive(Debug)]
#[allow(dead_code)] // All of it is read by `Debug`.
enum Note {
    Nature(usize, Nature),
    AllWell,
    Transition(usize, Transition),
    /// Which servers stay what they are, and what holds now.
    Reload(Vec<Option<usize>>, Policy, OnEjected),
}

/// One walk. Says its seed if it ends in a panic.
struct Walk<'a> {
    seed: u64,
    random: Jitter,
    shapes: &'a mut [Shape],
    /// Of these the one that is in force.
    shape: usize,
    policy: Policy,
    interval: Duration,
    group: Group,
    servers: Vec<Server>,
    /// From now on nothing fails.
    all_well: bool,
    start: Instant,
    now: Instant,
    standings: Vec<Standing>,
    map: Rc<Map>,
    log: Vec<(Instant, Note)>,
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (at, note) in &self.log {
                eprintln!("{:>6} ms: {note:?}", (*at - self.start).as_millis());
            }
            eprintln!("{:?}, probes every {:?}", self.policy, self.interval);
            eprintln!("failed with SIMULATION_SEED={}", self.seed);
        }
    }
}

impl<'a> Walk<'a> {
    fn new(seed: u64, shapes: &'a mut [Shape]) -> Self {
        let mut random = Jitter::new(seed);
        let shape = random.number() as usize % shapes.len();
        let (policy, interval) = any_policy(&mut random, shapes[shape].slow_start);
        let (now, count) = (Instant::now(), shapes[shape].servers());
        let servers = (0..count).map(|_| Server::new(now, random.below(interval))).collect();
        let group = Group::new(policy.clone(), count, random.number());
        let standings = vec![Standing::Live; count];
        let map = shapes[shape].map(standings.clone());
        let (start, log, all_well) = (now, vec![], false);
        Self {
            seed,
            random,
            shapes,
            shape,
            policy,
            interval,
            group,
            servers,
            all_well,
            start,
            now,
            standings,
            map,
            log,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.number() % limit as u64) as usize
    }

    fn walk(mut self) {
        for _ in 0..STEPS {
            let step = self.interval.mul_f64(0.7);
            let pause = self.random.below(step);
            self.pass_time(pause);
            if self.below(4) == 0 {
                self.change_nature();
            }
            self.send_requests();
            if self.below(8) == 0 {
                self.reload();
            }
        }
        self.recover();
        assert!(self.map.calm);
        let original = self.shapes[self.shape].map(vec![Standing::Live; self.servers.len()]);
        assert_eq!(self.map.ways, original.ways, "all are well again, and keys are not where they were");
    }

    /// Other settings, and now and then other servers: what is known of those that stay goes on.
    fn reload(&mut self) {
        let (old, before) = (self.servers.len(), self.policy.clone());
        if self.below(2) == 0 {
            self.shape = self.below(self.shapes.len());
        }
        let (count, on_ejected) = (self.shape().servers(), self.shape().settings.health.on_ejected);
        (self.policy, self.interval) = any_policy(&mut self.random, self.shapes[self.shape].slow_start);
        // At some places there is another server now.
        let stays = |i: usize, random: &mut Jitter| (i < old && !random.number().is_multiple_of(8)).then_some(i);
        let from: Vec<Option<usize>> = (0..count).map(|i| stays(i, &mut self.random)).collect();
        self.log.push((self.now, Note::Reload(from.clone(), self.policy.clone(), on_ejected)));
        let mut group = Group::new(self.policy.clone(), count, self.random.number());
        group.take_over(&self.group, &from);
        let mut servers: Vec<Option<Server>> = std::mem::take(&mut self.servers).into_iter().map(Some).collect();
        let shorter = self.policy.retry_timeout.as_secs_f64() / before.retry_timeout.as_secs_f64();
        for (index, from) in from.iter().enumerate() {
            let mut server = match from.and_then(|from| servers[from].take()) {
                Some(server) => server,
                None => Server::new(self.now, self.random.below(self.interval)),
            };
            if shorter < 1.0 {
                let sentence = server.ejected_until - server.ejected_at;
                server.ejected_until = server.ejected_at + sentence.mul_f64(shorter);
            }
            let is = group.report(index);
            match from.map(|from| self.group.report(from)) {
                None => assert_eq!((is.standing, is.failures, is.ejections), (Standing::Live, 0, 0), "server {index}"),
                Some(was) => {
                    let known =
                        |r: &Report| (r.standing, r.failures, r.ejections, r.ejected_at, r.since, r.why.clone());
                    assert_eq!(known(&is), known(&was), "server {index} is not what it was");
                    let until = (is.standing == Standing::Ejected).then_some(server.ejected_until);
                    assert!(until.is_none() || is.until == until, "server {index}: {:?}, not {until:?}", is.until);
                }
            }
            self.servers.push(server);
        }
        self.group = group;
        // Shares that need not grow any more do not.
        self.group.tick(self.now);
        self.standings = (0..count).map(|server| self.group.standing(server)).collect();
        let standings = self.standings.clone();
        self.map = self.shapes[self.shape].map(standings);
        self.check_homes();
    }

    fn shape(&self) -> &Shape {
        &self.shapes[self.shape]
    }

    fn change_nature(&mut self) {
        let server = self.below(self.servers.len());
        let natures = [
            Nature::Well,
            Nature::Well,
            Nature::Well,
            Nature::Dead,
            Nature::Dead,
            Nature::BadProbes,
            Nature::BadTraffic,
        ];
        let nature = natures[self.below(natures.len())];
        self.servers[server].nature = nature;
        self.log.push((self.now, Note::Nature(server, nature)));
    }

    /// Probes and steps that come due until then, in their order.
    fn pass_time(&mut self, pause: Duration) {
        let until = self.now + pause;
        loop {
            let probe = self.servers.iter().map(|s| s.next_probe).enumerate().min_by_key(|(_, at)| *at);
            let (server, probe) = probe.expect("a server");
            let tick = self.group.next_tick().filter(|at| *at <= probe);
            let next = tick.unwrap_or(probe);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if tick.is_some() {
                let transitions = self.group.tick(self.now);
                assert!(!transitions.is_empty(), "called for nothing");
                self.check(transitions);
            } else {
                self.probe(server);
            }
        }
        self.now = until;
    }

    fn probe(&mut self, index: usize) {
        let around = self.random.around(self.interval);
        let (now, server) = (self.now, &mut self.servers[index]);
        server.next_probe = now + around;
        let well = matches!(server.nature, Nature::Well | Nature::BadTraffic);
        if well {
            server.bad_probes = 0;
            server.good_since = if server.good_probes == 0 { now } else { server.good_since };
            server.good_probes += 1;
        } else {
            server.bad_probes += 1;
            server.good_probes = 0;
        }
        let bad_probes = server.bad_probes;
        let transition = self.group.probed(index, if well { Ok(()) } else { Err("probe") }, now);
        self.check(transition.map(|t| (index, t)));
        if !well && bad_probes >= self.policy.failure_limit && self.group.ejected() < self.group.most_ejected() {
            assert!(!self.standings[index].is_live(), "dead, and there is room, but not ejected");
        }
        if self.group.wants_flush(index) {
            assert!(well, "to be emptied though its probe was bad");
            let emptied = self.all_well || self.below(3) > 0;
            self.servers[index].emptied = emptied;
            let transition = self.group.flushed(index, if emptied { Ok(()) } else { Err("flush") }, now);
            self.check(transition.map(|t| (index, t)));
            assert_eq!(self.standings[index].is_live(), emptied);
        }
    }

    fn send_requests(&mut self) {
        for _ in 0..self.below(8) {
            let key = self.below(KEYS as usize);
            let Way::Server(server) = self.map.ways[key] else { continue };
            if matches!(self.servers[server].nature, Nature::Well | Nature::BadProbes) {
                self.group.answered(server);
                continue;
            }
            let begun = self.now;
            let latency = MS * [0, 1, 5][self.below(3)];
            self.now += latency;
            let transition = self.group.failed(server, begun, self.now, "request");
            self.check(transition.map(|t| (server, t)));
        }
    }

    /// All servers are well from now on; in the end they are all live, after the time that it may take.
    fn recover(&mut self) {
        self.servers.iter_mut().for_each(|server| server.nature = Nature::Well);
        self.log.push((self.now, Note::AllWell));
        self.all_well = true;
        let now = self.now;
        let served = self.servers.iter().map(|s| s.ejected_until.saturating_duration_since(now)).max();
        // The first probe may still be one of the interval before a reload.
        let first = self.servers.iter().map(|s| s.next_probe.saturating_duration_since(now)).max();
        // A probe to end its time, one to end its quarantine, and jitter.
        let probes = self.interval.mul_f64(1.1) * (self.policy.probe_successes + 2);
        let time = served.max(first).unwrap_or_default() + self.policy.quarantine + self.policy.slow_start + probes;
        self.pass_time(time);
        assert!(self.standings.iter().all(|s| *s == Standing::Live), "{:?} after {time:?}", self.standings);
    }

    /// What has changed, and whether it may.
    fn check(&mut self, transitions: impl IntoIterator<Item = (usize, Transition)>) {
        let before = (self.standings.clone(), self.map.clone());
        let (mut moved, mut left) = (false, false);
        for (server, transition) in transitions {
            moved |= transition.moves_keys();
            if let Transition::Ejected { until, .. } = transition {
                let server = &mut self.servers[server];
                (server.ejected_at, server.ejected_until) = (self.now, until);
                (server.good_probes, server.emptied, left) = (0, false, true);
            }
            self.log.push((self.now, Note::Transition(server, transition)));
        }
        self.standings = (0..self.servers.len()).map(|s| self.group.standing(s)).collect();
        assert_eq!(moved, self.standings != before.0, "a change that was not told, or none that was");
        if !moved {
            return;
        }
        self.map = self.shapes[self.shape].map(self.standings.clone());
        let ejected = self.standings.iter().filter(|s| !s.is_live()).count();
        let most = self.servers.len() * usize::from(self.policy.max_ejected_percent) / 100;
        // A reload may find more than it allows, and sends nobody back.
        assert!(!left || ejected <= most, "the guard slept");
        assert_eq!(ejected, self.group.ejected());
        for (index, server) in self.servers.iter().enumerate() {
            if !before.0[index].is_live() && self.standings[index].is_live() {
                let healthy = self.now - server.good_since;
                assert!(self.now >= server.ejected_until, "server {index} is back too early");
                assert!(server.good_probes >= self.policy.probe_successes, "server {index} is back unprobed");
                assert!(healthy >= self.policy.quarantine, "server {index} left its quarantine");
                assert!(server.emptied || !self.policy.flush, "server {index} is back with what it held");
            }
        }
        self.check_ways(&before.0, &before.1);
    }

    /// Keys lead to servers that take traffic, or are answered for by the policy.
    fn check_homes(&self) {
        let rehash = self.shape().settings.health.on_ejected == OnEjected::Rehash;
        let someone_lives = self.standings.iter().any(|s| s.is_live());
        for (key, way) in self.map.ways.iter().enumerate() {
            match *way {
                Way::Server(server) => {
                    assert!(self.standings[server].is_live(), "key {key} goes to server {server}, which is ejected")
                }
                Way::Ejected(server) | Way::StandIn(server) => {
                    assert!(!rehash, "key {key} is not rehashed");
                    assert_ne!(self.standings[server], Standing::Live, "key {key} does not go to its server");
                }
                Way::Nowhere => assert!(rehash && !someone_lives, "key {key} goes nowhere"),
            }
        }
    }

    fn check_ways(&self, standings: &[Standing], map: &Map) {
        self.check_homes();
        for (key, (before, now)) in map.ways.iter().zip(&self.map.ways).enumerate() {
            if let Way::Server(old) = *before
                && standings[old] == Standing::Live
                && self.standings[old] == Standing::Live
                && before != now
            {
                assert!(
                    self.may_move(key, (old, *now), standings, map),
                    "key {key} left server {old}, which is live, for {now:?}"
                );
            }
        }
    }

    /// Keys may leave a server that stays live for one that takes more traffic than before; otherwise only as far as
    /// twemproxy's ring has it: modula and random spread all keys anew, and ketama counts the points of a server by its
    /// share of the live ones' weight. With unequal weights, so do the keys that a returning server does not take yet.
    fn may_move(&self, key: usize, (old, now): (usize, Way), standings: &[Standing], map: &Map) -> bool {
        let settings = &self.shape().settings;
        let Way::Server(new) = now else { return false };
        let (was, is) = (&map.points, &self.map.points);
        let anew = settings.distribution != Distribution::Ketama || is[new] > was[new] || is[old] < was[old];
        let unequal = settings.servers.iter().any(|server| server.weight != settings.servers[0].weight);
        let waits = |map: &Map, standings: &[Standing]| map.owners[key].is_some_and(|s| standings[s] != Standing::Live);
        let more = standings[new] != Standing::Live || self.standings[new] != Standing::Live;
        let waits = unequal && (waits(map, standings) || waits(&self.map, &self.standings));
        more || settings.health.on_ejected == OnEjected::Rehash && (anew || waits)
    }
}

/// Settings, and how often servers are probed.
fn any_policy(random: &mut Jitter, slow_start: bool) -> (Policy, Duration) {
    let mut pick = |choices: &[u32]| choices[random.number() as usize % choices.len()];
    let policy = Policy {
        failure_limit: pick(&[1, 2, 3]),
        retry_timeout: MS * pick(&[100, 1000, 3000]),
        max_ejected_percent: pick(&[0, 34, 50, 67, 100]) as u8,
        probe_successes: pick(&[1, 2, 3]),
        quarantine: MS * pick(&[0, 0, 2000]),
        flush: pick(&[0, 0, 1]) == 1,
        slow_start: if slow_start { MS * pick(&[0, 1000, 4000]) } else { Duration::ZERO },
    };
    (policy, MS * pick(&[100, 500]))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn whatever_fails_keys_go_where_they_should_and_come_home_in_the_end() {
    let mut shapes = Shape::all();
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        Walk::new(seed, &mut shapes).walk();
    }
}
