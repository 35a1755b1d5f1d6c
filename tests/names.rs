//! Servers that are known by name: asked for again at their TTL and when connections fail, followed when they move,
//! kept when the name server has nothing good to say.

mod support;

#[path = "names/proxy.rs"]
mod proxy;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use outrigger::discovery::{Host, Name, Names};
use tokio::runtime::Runtime;

use support::{Dns, Says, eventually};

/// A name, and the resolver that keeps it.
struct Kept {
    name: Arc<Name>,
    changes: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Kept {
    fn start(dns: &Dns, host: &str) -> Self {
        let changes = Arc::new(AtomicUsize::new(0));
        let counted = changes.clone();
        let mut names = Names::new(Arc::new(move |_| {
            counted.fetch_add(1, SeqCst);
        }));
        let Host::Name(name, _) = names.host(host, 1) else { panic!("{host} is no name") };
        let resolver = names.resolver(Some(dns.address())).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move { resolver.run().await });
        Self { name, changes, _runtime: runtime }
    }

    fn becomes(&self, addresses: &[&str]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        eventually(&format!("{addresses:?}"), || (self.name.addresses() == addresses).then_some(()));
    }
}

#[test]
fn a_name_is_asked_for_at_its_ttl_and_not_before() {
    let dns = Dns::start();
    dns.says("cache.test", Says::addresses(&["10.0.0.1"], 2));
    let start = Instant::now();
    let kept = Kept::start(&dns, "cache.test");
    kept.becomes(&["10.0.0.1"]);
    dns.says("cache.test", Says::addresses(&["10.0.0.2", "10.0.0.3"], 30));
    kept.becomes(&["10.0.0.2", "10.0.0.3"]);
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(2), "after {took:?}");
    assert!(took < Duration::from_secs(5), "after {took:?}");
    assert_eq!((dns.asked("cache.test"), kept.changes.load(SeqCst), kept.name.generation()), (2, 1, 2));
}

#[test]
fn a_failed_connection_has_the_name_looked_up_but_not_at_will() {
    let dns = Dns::start();
    dns.says("cache.test", Says::addresses(&["10.0.0.1"], 30));
    let kept = Kept::start(&dns, "cache.test");
    kept.becomes(&["10.0.0.1"]);
    let start = Instant::now();
    eventually("the second look", || {
        kept.name.poke();
        (dns.asked("cache.test") == 2).then_some(())
    });
    assert!(start.elapsed() > Duration::from_millis(900));
    dns.says("cache.test", Says::addresses(&["10.0.0.2"], 30));
    eventually("the change", || {
        kept.name.poke();
        (kept.changes.load(SeqCst) == 1).then_some(())
    });
    assert!(start.elapsed() > Duration::from_millis(2900), "it brought nothing the first time");
    assert_eq!(dns.asked("cache.test"), 3);
}

#[test]
fn a_name_server_that_turns_its_answers_round_changes_nothing() {
    let dns = Dns::start();
    dns.says("cache.test", Says::addresses(&["10.0.0.3", "::7", "10.0.0.1", "10.0.0.2"], 0));
    let kept = Kept::start(&dns, "cache.test");
    eventually("four answers", || (dns.asked("cache.test") > 4).then_some(()));
    kept.becomes(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "::7"]);
    assert_eq!(kept.name.generation(), 1);
}

#[test]
fn what_was_known_of_a_name_outlives_its_name_server() {
    let dns = Dns::start();
    dns.says("cache.test", Says::addresses(&["10.0.0.1"], 1));
    let kept = Kept::start(&dns, "cache.test");
    kept.becomes(&["10.0.0.1"]);
    let faults = [
        (Says::NxDomain, "no such name (NXDOMAIN)"),
        (Says::ServFail, "the name server's answer was: Server Failure"),
        (Says::Addresses(Vec::new(), 1), "the name has no address"),
        (Says::Silence, "no answer from the name server"),
    ];
    for (says, expected) in faults {
        dns.says("cache.test", says);
        let error = eventually(expected, || kept.name.error());
        assert_eq!(error, expected);
        kept.becomes(&["10.0.0.1"]);
        dns.says("cache.test", Says::addresses(&["10.0.0.1"], 1));
        eventually("its return", || kept.name.error().is_none().then_some(()));
    }
    assert_eq!(kept.changes.load(SeqCst), 0);
}

#[test]
fn a_name_in_the_hosts_file_is_not_asked_for() {
    let dns = Dns::start();
    let kept = Kept::start(&dns, "localhost");
    eventually("an address", || kept.name.addresses().contains(&"127.0.0.1".parse().unwrap()).then_some(()));
    assert_eq!(dns.asked("localhost"), 0);
}
