//! Upgrades under load: pipelined clients of both protocols that stay, and clients that come and go.

use std::time::{Duration, Instant};

use crate::need;
use crate::stage::{Callers, memory_kib, threads_and_descriptors};
use crate::support::client::Address;
use crate::support::fleet::{Dialect, Fleet, Seen};
use crate::support::{How, Outrigger, PATIENCE, Pool, Server, eventually};

/// Descriptors that come and go: of callers, and connections to servers that one worker has and the other has not.
const SPARE: usize = 16;

const DIALECTS: [Dialect; 2] = [Dialect::Redis, Dialect::Memcached];

struct Load {
    fleets: Vec<Fleet>,
    callers: Vec<Callers>,
}

impl Load {
    fn start(proxy: &Outrigger, clients: usize, callers: usize) -> Self {
        let addresses = DIALECTS.map(|dialect| (dialect, proxy.address_of(dialect as usize)));
        let fleet = |(dialect, address): &(Dialect, Address)| Fleet::sail(clients, *dialect, address, PATIENCE);
        let calls = |(dialect, address): &(Dialect, Address)| Callers::start(callers, *dialect, address);
        Self { fleets: addresses.iter().map(fleet).collect(), callers: addresses.iter().map(calls).collect() }
    }

    /// Nobody has noticed anything. Returns how much was asked, and the longest time that a reply and a call took.
    fn stop(self, proxy: &Outrigger) -> (u64, Duration, Duration) {
        let seen: Vec<Seen> = self.fleets.into_iter().map(Fleet::land).collect();
        let (mut asked, mut longest, mut longest_call) = (0, Duration::ZERO, Duration::ZERO);
        for (seen, dialect) in seen.iter().zip(DIALECTS) {
            assert_eq!((&seen.wrong, &seen.errors, &seen.older), (&vec![], &vec![], &vec![]), "{dialect:?}");
            assert!(seen.answered > 0 && seen.matched > 0);
            asked += seen.answered;
            longest = seen.samples.iter().map(|s| s.answered - s.asked).chain([longest]).max().unwrap();
            counted_once(seen, dialect, proxy);
        }
        for calls in self.callers.into_iter().map(Callers::stop) {
            assert_eq!(calls.wrong, Vec::<String>::new());
            assert!(calls.made > 0);
            asked += 2 * calls.made;
            longest_call = longest_call.max(calls.longest);
        }
        (asked, longest, longest_call)
    }
}

/// Every increment that was acknowledged has been made, once, and no other.
fn counted_once(seen: &Seen, dialect: Dialect, proxy: &Outrigger) {
    let mut client = proxy.client_of(dialect as usize);
    assert!(!seen.counted.is_empty());
    for (key, (acknowledged, unknown)) in &seen.counted {
        let held = match dialect {
            Dialect::Redis => client.ask(&format!("GET {key}")).trim_matches('"').to_owned(),
            Dialect::Memcached => {
                client.tell(&format!("get {key}")).split('|').nth(1).unwrap_or_default().trim().to_owned()
            }
        };
        assert_eq!((held, *unknown), (acknowledged.to_string(), 0), "{key}");
    }
}

/// As many upgrades as that, each as soon as the one before is over.
fn upgrades(count: usize, clients: usize, callers: usize) {
    let (redis, memcached) = (need!(Server::three(Server::redis)), need!(Server::three(Server::memcached)));
    let folder = crate::support::folder();
    let pid_file = folder.path().join("pid");
    let how = How { arguments: vec!["-p".into(), pid_file.display().to_string()], ..How::default() };
    // The machine has others to serve as well: it may stall.
    let pools = [Pool::redis("r", &redis), Pool::memcached("m", &memcached)]
        .map(|pool| pool.set("timeout: 15s").set("connect_timeout: 15s"));
    let mut proxy = Outrigger::start_as(how, "workers: 2\n", pools);
    let load = Load::start(&proxy, clients, callers);
    let (mut times, mut usage) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let begun = Instant::now();
        let said = proxy.upgrade();
        let served = begun.elapsed();
        assert!(said.contains(&format!("process {} serves", proxy.pid())), "{said}");
        assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), proxy.pid().to_string());
        proxy.expect_end_of_replaced();
        times.push((served, begun.elapsed()));
        // The port goes along, and it is the new process that answers.
        assert!(proxy.stats()["uptime"].as_u64().unwrap() <= begun.elapsed().as_secs() + 1);
        usage.push((threads_and_descriptors(&proxy), memory_kib(&proxy)));
    }
    for ((served, ended), (now, memory)) in times.iter().zip(&usage) {
        println!(
            "serves after {served:?}, the old one ended after {ended:?}; (threads, descriptors): {now:?}, {memory} KiB"
        );
    }
    let (threads, descriptors) = usage[0].0;
    eventually("as many threads and descriptors as after the first upgrade", || {
        let now = threads_and_descriptors(&proxy);
        (now.0 <= threads && now.1 <= descriptors + SPARE).then_some(())
    });
    let connections = |pool: &str| proxy.stats()[pool]["client_connections"].as_u64().unwrap() as usize;
    assert!(connections("r") >= clients && connections("m") >= clients);
    let (asked, longest, longest_call) = load.stop(&proxy);
    println!("{asked} requests; longest reply {longest:?}, longest call {longest_call:?}");
    proxy.terminate();
    assert!(!pid_file.exists(), "the last one takes its pid file along");
}

#[test]
fn ten_upgrades_in_a_row_are_noticed_by_nobody() {
    upgrades(10, 4, 2);
}

#[test]
#[ignore = "long form: make chaos"]
fn a_hundred_upgrades_under_many_clients_are_noticed_by_nobody() {
    upgrades(100, 40, 8);
}
