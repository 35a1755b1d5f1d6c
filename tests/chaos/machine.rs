//! What the machine itself does meanwhile: how quick it is without a proxy, and what the proxy takes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::scene::Side;
use crate::support::client::{Address, resp};
use crate::support::fleet::Dialect;
use crate::support::{Client, Outrigger, eventually};

/// Asks what no failing server has to do with, all the time.
pub struct Control {
    stop: Arc<AtomicBool>,
    client: JoinHandle<Vec<(Instant, Duration)>>,
}

/// Connections to s0 that were not there, or are being closed: of two pools, each by two workers and a probe.
const SPARE: usize = 6;

const PAUSE: Duration = Duration::from_millis(3);

impl Control {
    /// Asks a healthy server past the proxy: the time that this takes is no fault of the proxy's.
    pub fn past(side: &Side) -> Self {
        let request = match side.dialect {
            Dialect::Redis => resp(&["GET", "control"]),
            Dialect::Memcached => b"get control\r\n".to_vec(),
        };
        Self::start(side.dialect, &side.healthy(), request)
    }

    /// Asks the proxy for what it answers itself: what it knows already takes as long.
    pub fn of(dialect: Dialect, proxy: &Address) -> Self {
        let request = match dialect {
            Dialect::Redis => resp(&["PING"]),
            Dialect::Memcached => b"verbosity 1\r\n".to_vec(),
        };
        Self::start(dialect, proxy, request)
    }

    fn start(dialect: Dialect, address: &Address, request: Vec<u8>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut client) = (stop.clone(), address.connect().unwrap());
        let client = thread::spawn(move || {
            let (mut took, mut asked, mut alive) = (Vec::new(), Instant::now(), true);
            while !stopped.load(SeqCst) {
                // Where all servers fail only the pauses tell how the machine does.
                alive = alive && answers(&mut client, dialect, &request);
                took.push((asked, asked.elapsed()));
                // A pause that is too long counts as well.
                asked = Instant::now() + PAUSE;
                thread::park_timeout(PAUSE);
            }
            took
        });
        Self { stop, client }
    }

    /// When it asked, and how long each answer took.
    pub fn stop(self) -> Vec<(Instant, Duration)> {
        self.stop.store(true, SeqCst);
        self.client.join().unwrap()
    }
}

fn answers(client: &mut Client, dialect: Dialect, request: &[u8]) -> bool {
    client.send(request);
    match dialect {
        Dialect::Redis => client.try_reply().is_ok(),
        Dialect::Memcached => client.try_memcached_reply().is_ok(),
    }
}

/// What the proxy holds.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub memory_kib: u64,
    pub descriptors: usize,
    pub threads: u64,
}

impl Usage {
    pub fn of(proxy: &Outrigger) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count();
        Self { memory_kib: number("VmRSS:"), descriptors, threads: number("Threads:") }
    }

    /// Once it is what it was, but for what an allocator keeps.
    pub fn settled(proxy: &Outrigger, before: Self) -> Self {
        eventually("descriptors and threads to be as many as before", || {
            let now = Self::of(proxy);
            let few = now.descriptors <= before.descriptors + SPARE && now.threads <= before.threads;
            few.then_some(now)
        })
    }
}
