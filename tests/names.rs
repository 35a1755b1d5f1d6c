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

use support::{Dns, PATIENCE, Says, eventually};

/// A name, and the resolver that keeps it.
struct Kept {
    name: Arc<Name>,
    changes: Arc<AtomicUsize>,
    names: Names,
    runtime: Runtime,
}

fn name(names: &Names, host: &str) -> Arc<Name> {
    let Host::Name(name, _) = names.host(host, 1) else { panic!("{host} is no name") };
    name
}

impl Kept {
    fn start(dns: &Dns, host: &str) -> Self {
        let changes = Arc::new(AtomicUsize::new(0));
        let counted = changes.clone();
        let count = move |_: &_| {
            counted.fetch_add(1, SeqCst);
        };
        let names = Names::new(Arc::new(count), Some(dns.address()));
        let name = name(&names, host);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn({
            let names = names.clone();
            async move { names.run().await }
        });
        Self { name, changes, names, runtime }
    }

    fn becomes(&self, addresses: &[&str]) {
        let addresses = ips(addresses);
        eventually(&format!("{addresses:?}"), || (self.name.addresses() == addresses).then_some(()));
    }

    /// `run`, one name, and the resolver's connection to the name server.
    fn comes_to_few_tasks(&self) {
        eventually("three tasks", || (self.runtime.metrics().num_alive_tasks() == 3).then_some(()));
    }

    /// Another name, when its first attempt has come to its end.
    fn another(&self, host: &str) -> Arc<Name> {
        let name = name(&self.names, host);
        self.runtime.block_on(self.names.settled(PATIENCE));
        name
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|a| a.parse().unwrap()).collect()
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

#[test]
fn a_name_that_comes_later_is_asked_for_at_once_and_shared_while_it_is_held() {
    let dns = Dns::start();
    dns.says("first.test", Says::addresses(&["10.0.0.1"], 30));
    dns.says("second.test", Says::Late(ips(&["10.0.0.2"]), 30, Duration::from_millis(200)));
    let kept = Kept::start(&dns, "first.test");
    let second = kept.another("second.test");
    assert_eq!(second.addresses(), ips(&["10.0.0.2"]));
    assert_eq!((second.generation(), dns.asked("first.test")), (1, 1));
    let same = kept.another("second.test");
    assert!(Arc::ptr_eq(&second, &same));
    drop(second);
    assert_eq!((same.addresses(), dns.asked("second.test")), (ips(&["10.0.0.2"]), 1), "nothing is asked twice");
}

#[test]
fn a_name_that_nobody_holds_is_not_asked_for_any_more() {
    let dns = Dns::start();
    dns.says("stays.test", Says::addresses(&["10.0.0.1"], 1));
    dns.says("goes.test", Says::addresses(&["10.0.0.2"], 1));
    let kept = Kept::start(&dns, "stays.test");
    drop(kept.another("goes.test"));
    let before = dns.asked("goes.test");
    let until = dns.asked("stays.test") + 3;
    eventually("three more questions for the other name", || (dns.asked("stays.test") >= until).then_some(()));
    assert_eq!(dns.asked("goes.test"), before);
}

#[test]
fn a_thousand_names_that_come_and_go_leave_no_task() {
    let dns = Dns::start();
    dns.says("stays.test", Says::addresses(&["10.0.0.1"], 30));
    let kept = Kept::start(&dns, "stays.test");
    kept.becomes(&["10.0.0.1"]);
    for round in 0..1000 {
        // Half of them exist.
        let host = format!("{round}.test");
        if round % 2 == 0 {
            dns.says(&host, Says::addresses(&["10.0.0.2"], 30));
        }
        let name = kept.another(&host);
        assert_eq!(name.current().is_some(), round % 2 == 0, "{name:?}");
    }
    kept.comes_to_few_tasks();
}

#[test]
fn name_servers_that_come_and_go_leave_no_task() {
    let servers = [Dns::start(), Dns::start()];
    let kept = Kept::start(&servers[0], "cache.test");
    for round in 1..50 {
        let server = &servers[round % 2];
        kept.names.ask(Some(server.address()));
        eventually("a question", || (server.asked("cache.test") == round.div_ceil(2)).then_some(()));
    }
    kept.comes_to_few_tasks();
}

#[test]
fn another_name_server_is_asked_at_once_even_if_the_first_still_owes_an_answer() {
    let (silent, dns) = (Dns::start(), Dns::start());
    silent.says("waits.test", Says::Silence);
    silent.says("moves.test", Says::addresses(&["10.0.0.1"], 30));
    dns.says("waits.test", Says::addresses(&["10.0.0.3"], 30));
    dns.says("moves.test", Says::Late(ips(&["10.0.0.2"]), 30, Duration::from_millis(200)));
    let kept = Kept::start(&silent, "moves.test");
    kept.becomes(&["10.0.0.1"]);
    let waits = name(&kept.names, "waits.test");
    eventually("a question", || (silent.asked("waits.test") > 0).then_some(()));
    kept.names.ask(Some(silent.address()));
    let start = Instant::now();
    kept.names.ask(Some(dns.address()));
    assert_eq!(kept.name.addresses(), ips(&["10.0.0.1"]), "the last addresses stay until there are others");
    kept.becomes(&["10.0.0.2"]);
    eventually("the answer", || (waits.addresses() == ips(&["10.0.0.3"])).then_some(()));
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!((silent.asked("moves.test"), dns.asked("moves.test")), (1, 1), "the same name server is no change");
    assert_eq!(waits.error(), None);
}
