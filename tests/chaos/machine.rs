//! What the machine itself does meanwhile: how quick it is without a proxy, and what the proxy takes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::scene::Side;
use crate::support::client::resp;
use crate::support::fleet::Dialect;
use crate::support::{Client, Outrigger, eventually};

/// Asks a healthy server past the proxy: the time that this takes is no fault of the proxy's.
pub struct Control {
    stop: Arc<AtomicBool>,
    client: JoinHandle<Vec<(Instant, Duration)>>,
}

/// Connections to s0 that were not there, or are being closed: of two pools, each by two workers and a probe.
const SPARE: usize = 6;

const PAUSE: Duration = Duration::from_millis(3);

impl Control {
    pub fn start(side: &Side) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, dialect, mut client) = (stop.clone(), side.dialect, side.healthy().connect().unwrap());
        let client = thread::spawn(move || {
            let (mut took, mut asked, mut alive) = (Vec::new(), Instant::now(), true);
            while !stopped.load(SeqCst) {
                // Where all servers fail only the pauses tell how the machine does.
                alive = alive && answers(&mut client, dialect);
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

fn answers(client: &mut Client, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Redis => {
            client.send(resp(&["GET", "control"]));
            client.try_reply().is_ok()
        }
        Dialect::Memcached => {
            client.send("get control\r\n");
            client.try_memcached_reply().is_ok()
        }
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
