//! A large configuration: how long a reload takes, and for how long it keeps a worker from its clients.
//!
//! One client asks the proxy itself (`PING`), one request after the other, while the configuration changes. It and the
//! worker run before all else on the machine where that is allowed (`chrt`), so that what an answer waits for is the worker.
//! The processor time that the worker takes is that of the whole change, which it makes pool by pool.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::scene::is_long;
use crate::support::client::Address;
use crate::support::{Client, Outrigger, Port, eventually};

/// A program that is not optimised is not for so many.
const POOLS: usize = if cfg!(debug_assertions) { 8 } else { 50 };
const SERVERS: usize = if cfg!(debug_assertions) { 30 } else { 100 };
/// Clients that say nothing: their sessions have to change over as well.
const IDLE: usize = 200;

/// What changes from one file to the next.
#[derive(Debug, Clone, Copy)]
enum Change {
    Nothing,
    /// Weights in one pool.
    One,
    /// Weights in all: every ring is built anew, most keys move.
    All,
    /// A time limit in all, and no ring.
    Limits,
    /// Every tenth server of every pool.
    Servers,
}

impl Change {
    /// What a reload may take, and how long a client may wait for it. Where all of the rings are others the time goes into
    /// 800,000 points, before and after, on the control side; where 500 servers leave at once, into their connections.
    fn limits(self) -> (Duration, Duration) {
        match self {
            Self::Nothing | Self::One | Self::Limits => (Duration::from_millis(100), Duration::from_millis(1)),
            Self::All | Self::Servers => (Duration::from_secs(1), Duration::from_millis(2)),
        }
    }
}

/// The `number`-th file.
fn text(admin: &str, ports: &[Port], change: Change, number: usize) -> String {
    let mut text = format!("workers: 1\n{admin}pools:\n");
    for (pool, port) in ports.iter().enumerate() {
        let changes = !number.is_multiple_of(2);
        let timeout = if changes && matches!(change, Change::Limits) { 500 } else { 400 };
        let (address, keys) = (port.address(), format!("hash: murmur, timeout: {timeout}"));
        let _ = write!(text, "  pool{pool}: {{listen: \"{address}\", protocol: redis, {keys}, servers: [");
        for server in 0..SERVERS {
            let heavier = changes
                && match change {
                    Change::One => pool == 0,
                    Change::All => true,
                    _ => false,
                };
            let weight = if heavier && server % 2 == 0 { 2 } else { 1 };
            let other = changes && matches!(change, Change::Servers) && server % 10 == 0;
            // Nobody listens there, and nobody asks.
            let address = format!("127.{}.{pool}.{server}:6379", if other { 2 } else { 1 });
            let name = if other { format!("other{server}") } else { format!("server{server}") };
            let _ = write!(text, "\"{address}:{weight} {name}\", ");
        }
        text += "]}\n";
    }
    text
}

/// What the client has seen.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The longest that an answer took.
    waited: Duration,
    /// The most that the worker has worked without a rest.
    worked: Duration,
}

/// Lets a thread run before all others; whether that is allowed.
fn hurry(thread: &str) -> bool {
    let chrt = Command::new("chrt").args(["--reset-on-fork", "--fifo", "--pid", "10", thread]).output();
    chrt.is_ok_and(|output| output.status.success())
}

/// Processor time of a thread, which is exact while it sleeps.
fn worked(schedstat: &str) -> Duration {
    let text = fs::read_to_string(schedstat).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The thread's folder in `/proc`.
fn worker_of(pid: u32) -> PathBuf {
    let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let is_worker = |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "worker-0\n");
    tasks.find(is_worker).expect("a worker")
}

/// Says on drop that it is over, in a panic as well.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Asks while `work` is done.
fn ping_pong<T>(client: &mut Client, schedstat: &str, work: impl FnOnce() -> T + Send) -> (Seen, T)
where
    T: Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let done = scope.spawn({
            let stop = Stop(stop.clone());
            move || {
                let _stop = stop;
                work()
            }
        });
        let mut seen = Seen::default();
        while !stop.load(SeqCst) {
            let (before, asked) = (worked(schedstat), Instant::now());
            assert_eq!(client.ask("PING"), "+PONG");
            seen.waited = seen.waited.max(asked.elapsed());
            // The worker may be about to sleep; and others want to run as well.
            thread::park_timeout(Duration::from_micros(200));
            seen.worked = seen.worked.max(worked(schedstat).saturating_sub(before));
        }
        (seen, done.join().unwrap())
    })
}

/// What the log says that the last reload took.
fn took(proxy: &Outrigger) -> Duration {
    let log = proxy.log();
    let text = log.rsplit_once("took_ms=").expect("a reload").1;
    Duration::from_millis(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn median<T: Ord + Copy>(mut all: Vec<T>) -> T {
    all.sort();
    all[all.len() / 2]
}

#[test]
fn a_large_configuration_changes_without_a_pause() {
    let judged = is_long() && !cfg!(debug_assertions);
    // An even number: each kind ends with the configuration of the beginning.
    let reloads = if is_long() { 20 } else { 2 };
    let ports: Vec<Port> = (0..POOLS).map(|_| Port::reserve()).collect();
    let listens = ports.iter().map(|port| Address::Tcp(port.address())).collect();
    let proxy =
        Outrigger::start_text(crate::support::How::default(), |admin| text(admin, &ports, Change::Nothing, 0), listens);
    let admin = proxy.admin_block();
    let _idle: Vec<Client> = (0..IDLE).map(|number| proxy.client_of(number % POOLS)).collect();
    let mut client = proxy.client();
    assert_eq!(client.ask("PING"), "+PONG");
    let worker = worker_of(proxy.pid());
    let schedstat = worker.join("schedstat").display().to_string();
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let alone = hurry(&worker.file_name().unwrap().to_string_lossy()) && hurry(&own);
    let generation = || proxy.stats()["config"]["generation"].as_u64().unwrap();
    println!(
        "{POOLS} pools of {SERVERS} servers, before all else: {alone}; of {reloads} reloads each, median and most:"
    );
    let mut still = None;
    for change in [Change::Nothing, Change::One, Change::Limits, Change::All, Change::Servers] {
        let (mut times, mut seen) = (Vec::new(), Vec::new());
        for number in 1..=reloads {
            // Writing it is not to disturb the client.
            fs::write(proxy.file("outrigger.yml"), text(&admin, &ports, change, number)).unwrap();
            let before = generation();
            let (one, ()) = ping_pong(&mut client, &schedstat, || {
                if matches!(change, Change::Nothing) {
                    return thread::sleep(Duration::from_millis(300));
                }
                proxy.signal(Signal::HUP);
                eventually("a reload", || {
                    thread::sleep(Duration::from_millis(20));
                    // Not asked for with the statistics, which are long.
                    let reloads = proxy.log().matches("took_ms=").count() as u64;
                    (reloads >= before).then_some(())
                });
                // Until the worker has changed over.
                thread::sleep(Duration::from_millis(100));
            });
            if !matches!(change, Change::Nothing) {
                assert_eq!(generation(), before + 1, "{change:?}");
                times.push(took(&proxy));
            }
            seen.push(one);
        }
        let waited: Vec<Duration> = seen.iter().map(|seen| seen.waited).collect();
        let worked: Vec<Duration> = seen.iter().map(|seen| seen.worked).collect();
        let most = |all: &[Duration]| all.iter().max().copied().unwrap_or_default();
        println!(
            "{change:?}: took {:?}, {:?}; slowest answer {:?}, {:?}; worker in all {:?}, {:?}",
            if times.is_empty() { Duration::ZERO } else { median(times.clone()) },
            most(&times),
            median(waited.clone()),
            most(&waited),
            median(worked.clone()),
            most(&worked),
        );
        if judged {
            let (reload, pause) = change.limits();
            assert!(times.is_empty() || median(times.clone()) < reload, "{change:?}: {times:?}");
            // A machine that keeps them waiting while nothing changes is not to be asked.
            let fit = alone && still.get_or_insert(median(waited.clone())) < &mut (pause / 2);
            assert!(!fit || median(waited.clone()) < pause, "{change:?}: {waited:?}");
        }
    }
}
