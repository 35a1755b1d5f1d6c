//! Subscriptions while servers die, are ejected, come and go, and while the proxy goes.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::need;
use crate::support::ensemble::{Ensemble, pipeline};
use crate::support::{Client, Fake, Outrigger, Pool, Server, eventually};
use crate::{expect_quiet, subscribe};

/// Publishes until the subscriber gets one of the messages, and nothing else.
#[track_caller]
fn until_heard(publisher: &mut Client, subscriber: &mut Client, channel: &str) {
    subscriber.patience(Duration::from_millis(50));
    let mut number = 0;
    let heard = eventually(&format!("a message on {channel}"), || {
        number += 1;
        publisher.ask(&format!("PUBLISH {channel} {number}"));
        subscriber.try_reply().ok().map(|reply| reply.to_string())
    });
    subscriber.patience(Duration::from_secs(10));
    let expected: Vec<String> = (1..=number).map(|n| format!("[\"message\" \"{channel}\" \"{n}\"]")).collect();
    let first = expected.iter().position(|message| *message == heard).unwrap_or_else(|| panic!("{heard}"));
    // Those after it may come late.
    expected[first + 1..].iter().for_each(|message| assert_eq!(subscriber.reply(), *message));
}

#[test]
fn after_the_death_of_a_server_messages_flow_again_and_the_client_is_told_nothing() {
    let mut ensemble = need!(Ensemble::start_with("workers: 1\n", 3, &[], &["server_failure_limit: 1000"]));
    ensemble.announce_trouble();
    ensemble.proxy.announce("subscriptions lost");
    let channels = [0, 1, 2].map(|server| ensemble.key(server).to_owned());
    let names: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut clients = [2, 3].map(|version| (version, ensemble.client(version)));
    for (_, client) in &mut clients {
        subscribe(client, "SUBSCRIBE", &names, 0);
        subscribe(client, "PSUBSCRIBE", &["z*"], 3);
    }
    let mut publisher = ensemble.client(2);
    ensemble.servers[1].kill();
    // The others are not disturbed.
    for channel in [names[0], names[2]] {
        assert_eq!(publisher.ask(&format!("PUBLISH {channel} x")), "2");
        for (_, client) in &mut clients {
            assert_eq!(client.reply(), format!("[\"message\" \"{channel}\" \"x\"]"));
        }
    }
    // What is new there is refused, and what is known stays.
    let (version, client) = &mut clients[1];
    client.send(pipeline([format!("SUBSCRIBE {} {}", ensemble.keys(0)[1], ensemble.keys(1)[1])]));
    assert_eq!(client.reply(), format!("[\"subscribe\" \"{}\" 5]", ensemble.keys(0)[1]));
    let refused = client.reply();
    assert!(refused.starts_with("-ERR Connection"), "{refused}");
    expect_quiet(client, *version);
    ensemble.servers[1].restart();
    until_heard(&mut publisher, &mut clients[0].1, names[1]);
    let mut direct = ensemble.servers[1].client();
    eventually("both to be back", || {
        (direct.ask(&format!("PUBSUB NUMSUB {}", names[1])).contains(" 2]") && direct.ask("PUBSUB NUMPAT") == "1")
            .then_some(())
    });
    let last = format!("[\"message\" \"{}\" \"last\"]", names[1]);
    assert_eq!(publisher.ask(&format!("PUBLISH {} last", names[1])), "2");
    for (version, client) in &mut clients {
        // Some of those before may have come to it.
        while client.reply() != last {}
        expect_quiet(client, *version);
    }
    let told = ensemble.proxy.log().matches("subscriptions lost").count();
    assert_eq!(told, 1, "{}", ensemble.proxy.log());
    drop(clients);
    ensemble.expect_all_given_back();
}

#[test]
fn the_channels_of_an_ejected_server_move_and_come_back() {
    let ejects = ["auto_eject_hosts: true", "on_readmit: keep", "server_retry_timeout: 60000"];
    let mut ensemble = need!(Ensemble::start_with("workers: 2\n", 2, &[], &ejects));
    ensemble.announce_trouble();
    ensemble.proxy.announce("subscriptions lost");
    let (moves, stays) = (ensemble.key(0).to_owned(), ensemble.key(1).to_owned());
    let mut publisher = ensemble.client(2);
    let mut clients = [2, 3, 2, 3].map(|version| (version, ensemble.client(version)));
    for (_, client) in &mut clients {
        subscribe(client, "SUBSCRIBE", &[&moves, &stays], 0);
        subscribe(client, "PSUBSCRIBE", &["p*"], 2);
    }
    let path = |what: &str| format!("/pools/cache/servers/{}/{what}", ensemble.servers[0].name());
    for (what, home) in [("eject", 1), ("admit", 0), ("eject", 1)] {
        assert_eq!(ensemble.proxy.http("POST", &path(what)).status, 200);
        let mut direct = ensemble.servers[home].client();
        eventually("all at the new home", || {
            direct.ask(&format!("PUBSUB NUMSUB {moves}")).contains(" 4]").then_some(())
        });
        let mut elsewhere = ensemble.servers[1 - home].client();
        eventually("none at the old one", || {
            elsewhere.ask(&format!("PUBSUB NUMSUB {moves}")).contains(" 0]").then_some(())
        });
        eventually("the publisher to know", || {
            publisher.ask("PING");
            (publisher.ask(&format!("PUBLISH {moves} {what}")) == "4").then_some(())
        });
        assert_eq!(publisher.ask(&format!("PUBLISH {stays} {what}")), "4");
        for (version, client) in &mut clients {
            assert_eq!(client.reply(), format!("[\"message\" \"{moves}\" \"{what}\"]"));
            assert_eq!(client.reply(), format!("[\"message\" \"{stays}\" \"{what}\"]"));
            expect_quiet(client, *version);
        }
    }
    // Those who leave now leave where it is.
    for (_, client) in &mut clients {
        client.send(pipeline([format!("UNSUBSCRIBE {moves} {stays}"), "PUNSUBSCRIBE".into()]));
        assert_eq!(client.reply(), format!("[\"unsubscribe\" \"{moves}\" 2]"));
        assert_eq!(client.reply(), format!("[\"unsubscribe\" \"{stays}\" 1]"));
        assert_eq!(client.reply(), "[\"punsubscribe\" \"p*\" 0]");
        assert_eq!(client.ask("EXISTS none"), "0");
    }
    ensemble.expect_all_given_back();
    drop(clients);
}

#[test]
fn a_reload_that_adds_or_removes_servers_moves_channels_and_loses_none() {
    let mut ensemble = need!(Ensemble::start_with("workers: 2\ndrain_timeout: 2s\n", 3, &[], &[]));
    ensemble.announce_trouble();
    ensemble.proxy.announce("subscriptions lost");
    let all: Vec<String> = (0..3).flat_map(|server| ensemble.keys(server).iter().take(8)).cloned().collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let lines = [0, 1, 2].map(|server| ensemble.line(server));
    ensemble.reload(&lines[2], "");
    let mut publisher = ensemble.client(2);
    let mut clients = [2, 3].map(|version| (version, ensemble.client(version)));
    for (_, client) in &mut clients {
        subscribe(client, "SUBSCRIBE", &names, 0);
        subscribe(client, "PSUBSCRIBE", &["q*"], names.len());
    }
    let both = format!("{}{}", lines[0], lines[1]);
    for (from, to, servers) in [(lines[1].clone(), format!("{}{}", lines[1], lines[2]), 3), (both, String::new(), 1)] {
        ensemble.reload(&from, &to);
        let mut directs: Vec<Client> = ensemble.servers.iter().map(Server::client).collect();
        // Every channel at one server, twice; the pattern at all that there are.
        eventually("the channels to be where they belong", || {
            let mut sum = 0;
            for direct in &mut directs {
                let reply = direct.ask(&format!("PUBSUB NUMSUB {}", names.join(" ")));
                sum += reply.matches(" 2").count();
                if reply.contains(" 1") {
                    return None;
                }
            }
            let patterns = directs.iter_mut().filter_map(|direct| direct.ask("PUBSUB NUMPAT").parse::<usize>().ok());
            (sum == names.len() && patterns.sum::<usize>() == servers).then_some(())
        });
        for name in &names {
            assert_eq!(publisher.ask(&format!("PUBLISH {name} {servers}")), "2", "{name}");
        }
        for (version, client) in &mut clients {
            let mut got: Vec<String> = names.iter().map(|_| client.reply()).collect();
            let mut expected: Vec<String> =
                names.iter().map(|name| format!("[\"message\" \"{name}\" \"{servers}\"]")).collect();
            got.sort();
            expected.sort();
            assert_eq!(got, expected);
            expect_quiet(client, *version);
        }
    }
    drop(clients);
    ensemble.expect_all_given_back();
}

/// A server that refuses some channels.
#[test]
fn what_a_server_refuses_is_told_once_and_only_to_who_asked() {
    let (lost, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (ends, counts) = (lost.clone(), refused.clone());
    let server = Fake::start(move |_, talk| {
        while let Some(request) = talk.request() {
            let words: Vec<&str> = request.split(' ').collect();
            match words[0] {
                "subscribe" if words[1..].contains(&"no") || ends.load(SeqCst) => {
                    counts.fetch_add(1, SeqCst);
                    talk.say("-NOPERM not you\r\n");
                }
                "subscribe" | "unsubscribe" => {
                    for (at, name) in words[1..].iter().enumerate() {
                        let word = words[0];
                        let (length, size) = (word.len(), name.len());
                        talk.say(format!("*3\r\n${length}\r\n{word}\r\n${size}\r\n{name}\r\n:{}\r\n", at + 1));
                    }
                    if words[1] == "end" {
                        return ends.store(true, SeqCst);
                    }
                }
                _ => talk.say("+OK\r\n"),
            }
        }
    });
    let mut proxy = Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &[server.entry()])]);
    proxy.announce("subscriptions lost");
    proxy.announce("connection lost");
    let mut client = proxy.client();
    assert_eq!(client.ask("SUBSCRIBE a"), "[\"subscribe\" \"a\" 1]");
    assert_eq!(client.ask("SUBSCRIBE b no c"), "-NOPERM not you");
    expect_quiet(&mut client, 2);
    // None of those was subscribed to.
    client.send(pipeline(["UNSUBSCRIBE b no"]));
    assert_eq!(
        (client.reply(), client.reply()),
        ("[\"unsubscribe\" \"b\" 1]".into(), "[\"unsubscribe\" \"no\" 1]".into())
    );
    // The line is lost; the next one is refused, again and again, but not without a pause.
    assert_eq!(client.ask("SUBSCRIBE end"), "[\"subscribe\" \"end\" 2]");
    let start = Instant::now();
    eventually("three more attempts", || (refused.load(SeqCst) >= 4).then_some(()));
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    expect_quiet(&mut client, 2);
    // And once it is let again.
    lost.store(false, SeqCst);
    eventually("no more refusals", || {
        let before = refused.load(SeqCst);
        std::thread::sleep(Duration::from_millis(1200));
        (refused.load(SeqCst) == before).then_some(())
    });
    drop(client);
}

#[test]
fn a_drain_does_not_wait_for_subscribers_and_an_upgrade_serves_them_until_its_end() {
    let mut ensemble = need!(Ensemble::start_with("workers: 2\ndrain_timeout: 2s\n", 1, &[], &[]));
    ensemble.proxy.announce("drain limit reached");
    let mut clients = [2, 3].map(|version| (version, ensemble.client(version)));
    clients.iter_mut().for_each(|(_, client)| subscribe(client, "SUBSCRIBE", &["a"], 0));
    ensemble.proxy.upgrade();
    let mut publisher = ensemble.client(2);
    assert_eq!(publisher.ask("PUBLISH a x"), "2");
    for (version, client) in &mut clients {
        assert_eq!(client.reply(), "[\"message\" \"a\" \"x\"]");
        expect_quiet(client, *version);
    }
    // Who leaves goes to the next process.
    let (_, leaver) = &mut clients[1];
    assert_eq!(leaver.ask("UNSUBSCRIBE a"), "[\"unsubscribe\" \"a\" 0]");
    assert_eq!(leaver.ask("PING"), "+PONG");
    clients[0].1.expect_closed();
    ensemble.proxy.expect_end_of_replaced();
    let (_, leaver) = &mut clients[1];
    assert_eq!(leaver.ask("PING"), "+PONG");
    subscribe(leaver, "SUBSCRIBE", &["a", "b"], 0);
    let start = Instant::now();
    ensemble.proxy.signal(Signal::TERM);
    leaver.expect_closed();
    assert_eq!(ensemble.proxy.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
}
