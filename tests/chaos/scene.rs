//! One proxy, a Redis pool and a memcached pool of three servers each, and a fleet on both.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use outrigger::config;
use outrigger::ring::Ring;

use crate::machine::{Control, Usage};
use crate::run::{Run, Told};
use crate::support::client::Address;
use crate::support::fleet::{Dialect, Fleet, Homes, Manner, Seen};
use crate::support::{Bound, Mood, Moody, Outrigger, PATIENCE, Pool, Relay, Server, Trouble, eventually};

/// Of each protocol.
const LONE: usize = 18;
const PIPELINING: usize = 6;
/// Without an error for so long all is well again.
const CALM: Duration = Duration::from_millis(350);

/// The victim of each protocol.
pub fn each(sides: &mut [Side; 2], what: impl Fn(&mut Server)) {
    sides.iter_mut().for_each(|side| what(&mut side.servers[0]));
}

/// Six times away and back.
pub fn flap(sides: &mut [Side; 2]) {
    let half = millis(if is_long() { 300 } else { 150 });
    for _ in 0..6 {
        each(sides, Server::kill);
        pass(half);
        each(sides, Server::restart);
        pass(half);
    }
}

/// What stands between the proxy and s0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    Nothing,
    Relay,
    /// s0 is a fake itself.
    Moody,
}

/// How long the parts of a run are.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub before: Duration,
    pub during: Duration,
}

/// The long form.
pub fn is_long() -> bool {
    std::env::var_os("OUTRIGGER_CHAOS").is_some_and(|form| form == "long")
}

impl Times {
    /// The fault is there from the start, so long in the short form.
    pub fn from_the_start(millis: u64) -> Self {
        Self { before: Duration::ZERO, ..Self::fault(millis) }
    }

    /// So long is the fault in the short form.
    pub fn fault(millis: u64) -> Self {
        let times = if is_long() { 5 } else { 1 };
        Self { before: Duration::from_millis(300) * times, during: Duration::from_millis(millis) * times }
    }
}

/// The servers of one protocol.
pub struct Side {
    pub dialect: Dialect,
    pub servers: [Server; 3],
    pub relay: Option<Relay>,
    pub moody: Option<Moody>,
    pub homes: Homes,
}

pub struct Scene {
    pub proxy: Outrigger,
    /// Failing servers leave the ring.
    ejecting: bool,
    _stand_ins: Vec<Server>,
    pub sides: [Side; 2],
}

/// Nothing that depends on time can be judged when a request past the proxy takes so long.
const STILL: Duration = Duration::from_millis(100);

/// Latencies are judged, so one fleet sails at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// While this is held no other fleet sails.
pub fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every pool has. The limit of each scenario is derived from these.
pub const TIMEOUT: Duration = Duration::from_millis(400);
const LINES: [&str; 4] = ["hash: murmur", "timeout: 400", "connect_timeout: 250", "max_reconnect_delay: 200ms"];

/// In a line of the pools: another pool of the same protocol.
const STAND_IN: &str = "STAND_IN";

/// What the log may say of a server that fails.
const ANNOUNCED: [&str; 7] = [
    "connection lost",
    "cannot connect",
    "no reply in time",
    "the server is not ready",
    "server ejected",
    "answers probes but cannot be emptied",
    "server fails but is not ejected: max_ejected_percent allows no more",
];

/// Plays a scenario on a fresh scene; in the long form three times. What depends on time may be spoilt by a busy machine and is
/// played again: it must hold once in three times, those not counted in which the machine itself is seen to have stood still,
/// of which there may be some.
pub fn play(name: &str, front: Front, lines: &[&str], act: impl Fn(&mut Scene) -> Run) {
    let _alone = alone();
    for _ in 0..if is_long() { 3 } else { 1 } {
        let (mut doubts, mut tries) = (Vec::new(), 0);
        loop {
            let Some(mut scene) = Scene::set(front, lines) else { return };
            let run = act(&mut scene);
            run.print(name);
            let new = run.doubts.take();
            if new.is_empty() {
                break;
            }
            let stood_still = run.machine_stood_still();
            println!("    once more, the machine stood still for {stood_still:?}: {new:#?}");
            tries += 1;
            if stood_still < STILL {
                doubts.push(new);
            }
            assert!(doubts.len() < 3 && tries < 10, "{name}: {doubts:#?}");
        }
    }
}

impl Scene {
    fn set(front: Front, lines: &[&str]) -> Option<Self> {
        let mut redis = Side::set(Dialect::Redis, front)?;
        let mut memcached = Side::set(Dialect::Memcached, front)?;
        let with = |(pool, stand_in): (Pool, &str)| {
            LINES.iter().chain(lines).fold(pool, |pool, line| pool.set(&line.replace(STAND_IN, stand_in)))
        };
        let mut pools: Vec<Pool> = [(redis.pool(), "sr"), (memcached.pool(), "sm")].map(with).into();
        let mut stand_ins = Vec::new();
        if lines.iter().any(|line| line.contains(STAND_IN)) {
            stand_ins = vec![Server::redis()?, Server::memcached()?];
            pools.push(Pool::redis("sr", &stand_ins[..1]));
            pools.push(Pool::memcached("sm", &stand_ins[1..]));
        }
        let mut proxy = Outrigger::start(pools);
        ANNOUNCED.iter().for_each(|text| proxy.announce(text));
        let file = proxy.file("outrigger.yml");
        redis.homes = homes(&file, "r");
        memcached.homes = homes(&file, "m");
        let ejecting = lines.iter().any(|line| line.starts_with("auto_eject_hosts"));
        Some(Self { proxy, ejecting, _stand_ins: stand_ins, sides: [redis, memcached] })
    }

    /// The fault is at s0 of both pools. `fault` and `repair` are called once.
    pub fn run(
        &mut self,
        times: Times,
        fault: impl FnOnce(&mut [Side; 2]),
        repair: impl FnOnce(&mut [Side; 2]),
    ) -> Run {
        let sailed = Instant::now();
        let crews = [(LONE, Manner::LONE), (PIPELINING, Manner::PIPELINING)];
        let longest = TIMEOUT * 4 + Duration::from_secs(3);
        let launch = |pool: usize| {
            let Side { dialect, homes, .. } = &self.sides[pool];
            Fleet::launch(&crews, *dialect, &self.proxy.address_of(pool), longest, homes)
        };
        let fleets = [launch(0), launch(1)];
        let controls: Vec<Control> = self.sides.iter().map(Control::past).collect();
        let doors = [0, 1].map(|pool| Control::of(self.sides[pool].dialect, &self.proxy.address_of(pool)));
        pass(times.before / 4);
        let begun = Instant::now();
        pass(times.before);
        let mut usage = Usage::of(&self.proxy);
        // Without a time before it the fault is there from the start.
        let broken = if times.before.is_zero() { sailed } else { Instant::now() };
        fault(&mut self.sides);
        pass(times.during.saturating_sub(broken.elapsed()));
        if times.before.is_zero() {
            // Until now clients were still let in.
            usage = Usage::of(&self.proxy);
        }
        let mending = Instant::now();
        repair(&mut self.sides);
        let mended = Instant::now();
        let readmitted = self.ejecting.then(|| self.readmitted(mended));
        calm(&fleets, readmitted.map_or(mended, |after| mended + after));
        let usage = (usage, Usage::settled(&self.proxy, usage));
        let controls = controls.into_iter().flat_map(Control::stop).collect();
        let doors = doors.into_iter().flat_map(Control::stop).collect();
        let seen: Vec<Seen> = fleets.map(Fleet::land).into();
        let log = self.proxy.log();
        let mut ejected = log.lines().filter(|line| line.contains("server ejected"));
        let others_ejected = ejected.any(|line| !line.contains("server=\"s0\""));
        let told = seen.into_iter().zip(["r", "m"]).map(|(seen, pool)| Told { pool, seen }).collect();
        let doubts = RefCell::default();
        Run { told, controls, doors, begun, broken, mending, mended, readmitted, usage, others_ejected, doubts }
    }

    /// From the repair until s0 of both pools has all of its keys again.
    fn readmitted(&self, mended: Instant) -> Duration {
        eventually("s0 to be back", || {
            let stats = self.proxy.stats();
            ["r", "m"].iter().all(|pool| stats[pool]["s0"]["server_state"] == "live").then_some(())
        });
        mended.elapsed()
    }

    /// The increments that servers hold against those that were acknowledged: none is lost, and none was made twice.
    /// For servers that kept what they held: one that was ejected may have been emptied.
    pub fn increments_add_up(&self, run: &Run) {
        if run.others_ejected {
            return run.doubt("others were ejected".to_owned());
        }
        for (side, told) in self.sides.iter().zip(&run.told) {
            let mut servers: Vec<_> = side.servers.iter().map(Server::client).collect();
            for (key, (acknowledged, unknown)) in &told.seen.counted {
                let held: u64 = servers
                    .iter_mut()
                    .map(|client| match side.dialect {
                        Dialect::Redis => client.ask(&format!("GET {key}")).trim_matches('"').parse().unwrap_or(0),
                        Dialect::Memcached => {
                            let reply = client.tell(&format!("get {key}"));
                            reply.split('|').nth(1).map_or(0, |value| value.trim().parse().unwrap())
                        }
                    })
                    .sum();
                assert!(
                    (*acknowledged..=acknowledged + unknown).contains(&held),
                    "{key}: {held} increments, {acknowledged} acknowledged, {unknown} unknown"
                );
            }
        }
    }
}

impl Side {
    fn set(dialect: Dialect, front: Front) -> Option<Self> {
        let servers = match dialect {
            Dialect::Redis => Server::three(Server::redis)?,
            Dialect::Memcached => Server::three(Server::memcached)?,
        };
        let relay = (front == Front::Relay).then(|| Relay::start(servers[0].socket_address()));
        let moody = (front == Front::Moody).then(|| Moody::start(dialect));
        Some(Self { dialect, servers, relay, moody, homes: Arc::new(|_| 0) })
    }

    fn pool(&self) -> Pool {
        let first = match (&self.relay, &self.moody) {
            (Some(relay), _) => format!("{}:1", relay.address()),
            (_, Some(moody)) => moody.entry(),
            _ => self.servers[0].entry(),
        };
        let entries = [first, self.servers[1].entry(), self.servers[2].entry()];
        let entries: Vec<String> = entries.iter().zip(0..).map(|(entry, n)| format!("{entry} s{n}")).collect();
        match self.dialect {
            Dialect::Redis => Pool::new("r", "redis", &entries),
            Dialect::Memcached => Pool::new("m", "memcached", &entries),
        }
    }

    pub fn trouble(&self, bound: Bound, trouble: Trouble) {
        self.relay.as_ref().expect("a scene with a relay").trouble(bound, trouble);
    }

    pub fn is(&self, mood: Mood) {
        self.moody.as_ref().expect("a scene with a moody server").is(mood);
    }

    /// A server that has no fault.
    pub fn healthy(&self) -> Address {
        Address::Tcp(self.servers[1].socket_address())
    }

    pub fn port(&self) -> u16 {
        self.servers[0].socket_address().port()
    }
}

/// Where keys belong, by the file that the proxy has read.
fn homes(file: &std::path::Path, pool: &str) -> Homes {
    let settings = config::load_file(file).expect("the proxy has read it").settings;
    let pool = settings.pools.into_iter().find(|p| p.name == pool).expect("the pool");
    let ring = Ring::build(pool.distribution, &pool.ring_servers(), |_| true);
    let hash = pool.hash;
    Arc::new(move |key| ring.server(hash.hash(key.as_bytes())).expect("servers"))
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets time pass.
pub fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        std::thread::sleep(rest);
    }
}

/// Waits until nobody has been told an error for a while.
fn calm(fleets: &[Fleet], since: Instant) {
    loop {
        let last = fleets.iter().filter_map(Fleet::last_error).max().map_or(since, |last| last.max(since));
        if last.elapsed() > CALM {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "errors for {PATIENCE:?} after the repair");
        pass(CALM.saturating_sub(last.elapsed()).max(Duration::from_millis(1)));
    }
}
