//! SCAN over three servers, by a cursor that is good anywhere.

use std::collections::BTreeSet;

use crate::support::client::{Reply, resp};
use crate::support::{Client, Outrigger, Pool, Server, eventually};
use crate::{Fleet, need, sorted};

/// One call: the next cursor, and the keys.
#[track_caller]
fn call(client: &mut Client, cursor: &str, options: &str) -> (String, Vec<String>) {
    let line = format!("SCAN {cursor}{options}");
    client.send(resp(&line.split(' ').collect::<Vec<_>>()));
    match client.try_reply().unwrap() {
        Reply::Array(parts) => {
            let [Reply::Bulk(cursor), Reply::Array(keys)] = &parts[..] else { panic!("{line}: {parts:?}") };
            let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
            let key = |reply: &Reply| match reply {
                Reply::Bulk(bytes) => text(bytes),
                other => panic!("{other}"),
            };
            (text(cursor), keys.iter().map(key).collect())
        }
        other => panic!("{line}: {other}"),
    }
}

/// A whole iteration; `between` is called between two calls.
fn scan(client: &mut Client, options: &str, mut between: impl FnMut(usize)) -> Vec<String> {
    let (mut cursor, mut found, mut calls) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let (next, keys) = call(client, &cursor, options);
        found.extend(keys);
        if next == "0" {
            return found;
        }
        assert!(next.parse::<u64>().is_ok_and(|next| next < 1 << 53), "{next}");
        calls += 1;
        between(calls);
        cursor = next;
    }
}

fn fill(client: &mut Client, names: impl Iterator<Item = String>) {
    let names: Vec<String> = names.collect();
    client.send_aside(names.iter().flat_map(|name| resp(&["SET", name, "1"])).collect());
    names.iter().for_each(|_| assert_eq!(client.reply(), "+OK"));
}

#[test]
fn every_key_that_stays_is_found_while_others_come_and_go() {
    let fleet = need!(Fleet::start(&[]));
    let (mut client, mut other) = (fleet.proxy.client(), fleet.proxy.client());
    let stable = |n| format!("stable:{n}");
    fill(&mut client, (0..10_000).map(stable));
    fill(&mut client, (0..2_000).map(|n| format!("going:{n}")));
    let found = scan(&mut client, " COUNT 50", |calls| {
        other.send(resp(&["DEL", &format!("going:{calls}"), &format!("coming:{}", calls / 2)]));
        other.send(resp(&["SET", &format!("coming:{calls}"), "1"]));
        other.reply();
        other.reply();
    });
    let found: BTreeSet<String> = found.into_iter().collect();
    let missing: Vec<String> = (0..10_000).map(stable).filter(|key| !found.contains(key)).collect();
    assert!(missing.is_empty(), "{} are missing: {:?}", missing.len(), &missing[..missing.len().min(10)]);
}

#[test]
fn options_are_the_servers_to_read() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    fill(&mut client, (0..500).map(|n| format!("s:{n}")));
    for n in 0..50 {
        client.ask(&format!("RPUSH l:{n} x"));
    }
    let scanned = |client: &mut Client, options: &str| {
        let mut found = scan(client, options, |_| {});
        found.sort();
        found.dedup();
        found.into_iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>()
    };
    assert_eq!(scanned(&mut client, ""), sorted(&mut client, "KEYS *"));
    assert_eq!(scanned(&mut client, " MATCH s:1*"), sorted(&mut client, "KEYS s:1*"));
    assert_eq!(scanned(&mut client, " TYPE list COUNT 1000"), sorted(&mut client, "KEYS l:*"));
    assert_eq!(scanned(&mut client, " count 7 match l:?"), sorted(&mut client, "KEYS l:?"));
    assert_eq!(scanned(&mut client, " MATCH nothing"), Vec::<String>::new());
}

#[test]
fn each_call_may_come_from_another_connection_worker_or_process() {
    let fleet = need!(Fleet::start(&[]));
    let twin = Outrigger::start([Pool::redis("cache", &fleet.servers).set("hash: murmur")]);
    let mut client = fleet.proxy.client();
    fill(&mut client, (0..300).map(|n| format!("k:{n}")));
    let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
    for turn in 0.. {
        let mut client = if turn % 2 == 0 { fleet.proxy.client() } else { twin.client() };
        let (next, keys) = call(&mut client, &cursor, "");
        found.extend(keys);
        if next == "0" {
            break;
        }
        cursor = next;
    }
    assert_eq!(found.len(), 300);
}

#[test]
fn garbage_is_refused_as_redis_does_it() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    for garbage in ["x", "1x", "99999999999999999999", "1.5", ""] {
        assert_eq!(client.ask(&format!("SCAN {garbage}")), "-ERR invalid cursor", "{garbage:?}");
    }
    let reply = client.ask("SCAN 12345678");
    assert_eq!(reply, "-ERR invalid cursor: the servers of pool cache have changed since; start again with 0");
}

#[test]
fn a_reload_that_changes_the_servers_ends_a_scan_and_no_other_does() {
    let fleet = need!(Fleet::start(&["timeout: 5s"]));
    let four = need!(Server::redis());
    let mut client = fleet.proxy.client();
    fill(&mut client, (0..300).map(|n| format!("k:{n}")));
    let (cursor, _) = call(&mut client, "0", "");
    let file = fleet.proxy.file("outrigger.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("timeout: 5s", "timeout: 6s")).unwrap();
    let generation = |n: u64| {
        eventually("a reload", || (fleet.proxy.stats()["config"]["generation"].as_u64() == Some(n)).then_some(()));
    };
    fleet.proxy.signal(rustix::process::Signal::HUP);
    generation(2);
    call(&mut client, &cursor, "");
    let entry = format!("    servers:\n      - \"{}\"\n", four.entry());
    std::fs::write(&file, text.replacen("    servers:\n", &entry, 1)).unwrap();
    fleet.proxy.signal(rustix::process::Signal::HUP);
    generation(3);
    let changed = "-ERR invalid cursor: the servers of pool cache have changed since; start again with 0";
    eventually("the other servers", || (client.ask(&format!("SCAN {cursor}")) == changed).then_some(()));
    assert!(scan(&mut client, "", |_| {}).len() >= 300);
}

#[test]
fn a_server_that_is_gone_is_an_error_and_the_scan_goes_on_when_it_is_back() {
    let mut fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    fill(&mut client, (0..300).map(|n| format!("k:{n}")));
    // The second server in the order of the ring, wherever it stands in the test's.
    let named = fleet.lose_the_second();
    let (mut cursor, mut calls) = ("0".to_owned(), 0);
    let reply = loop {
        let reply = client.ask(&format!("SCAN {cursor} COUNT 1000"));
        if reply.starts_with('-') {
            break reply;
        }
        cursor = reply.split('"').nth(1).unwrap().to_owned();
        calls += 1;
        assert!(cursor != "0" && calls < 10, "the scan is over without the server");
    };
    assert!(reply.starts_with("-ERR ") && reply.ends_with(&named), "{reply}");
    fleet.servers[1].restart();
    eventually("the server's return", || client.ask(&format!("SCAN {cursor}")).starts_with('[').then_some(()));
}
