//! Many channels, many subscribers, much to say.

use std::thread;
use std::time::Duration;

use crate::need;
use crate::support::ensemble::{Ensemble, pipeline};
use crate::support::{Client, eventually};
use crate::{expect_quiet, subscribe};

/// So much at once may keep a slow machine busy.
const PATIENT: &[&str] = &["timeout: 10000", "connect_timeout: 10s"];

#[test]
fn ten_thousand_channels_in_one_request() {
    let ensemble = need!(Ensemble::start(3, PATIENT));
    let names: Vec<String> = (0..10_000).map(|n| format!("channel:{n}")).collect();
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        client.send_aside(pipeline([format!("SUBSCRIBE {}", names.join(" "))]));
        for (at, name) in names.iter().enumerate() {
            assert_eq!(client.reply(), format!("[\"subscribe\" \"{name}\" {}]", at + 1));
        }
        let mut publisher = ensemble.client(2);
        for name in names.iter().step_by(997) {
            assert_eq!(publisher.ask(&format!("PUBLISH {name} x")), "1");
            assert_eq!(client.reply(), format!("[\"message\" \"{name}\" \"x\"]"));
        }
        client.send(pipeline(["UNSUBSCRIBE"]));
        for left in (0..10_000).rev() {
            let reply = client.reply();
            assert!(
                reply.starts_with("[\"unsubscribe\" \"channel:") && reply.ends_with(&format!(" {left}]")),
                "{reply}"
            );
        }
        assert_eq!(client.ask("EXISTS none"), "0");
        ensemble.expect_all_given_back();
    }
    // The names are limited, and what is too much is refused as a whole.
    let mut client = ensemble.client(2);
    let long = "n".repeat(1000);
    let many: Vec<String> = (0..1200).map(|n| format!("{n}{long}")).collect();
    client.send_aside(pipeline([format!("SUBSCRIBE {}", many.join(" "))]));
    let refused = client.reply();
    assert!(refused.starts_with("-ERR too many subscriptions") && refused.contains("max_session_bytes"), "{refused}");
    assert_eq!(client.ask("EXISTS none"), "0");
    // Naming one again and again takes nothing.
    subscribe(&mut client, "SUBSCRIBE", &["keep"], 0);
    for _ in 0..30 {
        let again = vec![many[0].as_str(); 100];
        client.send_aside(pipeline([format!("SUBSCRIBE {}", again.join(" ")), format!("UNSUBSCRIBE {}", many[0])]));
        (0..101).for_each(|_| drop(client.reply()));
    }
    expect_quiet(&mut client, 2);
    drop(client);
    ensemble.expect_all_given_back();
}

#[test]
fn a_thousand_subscribers_hear_one_message_each() {
    let ensemble = need!(Ensemble::start(1, PATIENT));
    let mut clients: Vec<Client> = (0..1000)
        .map(|number| {
            let mut client = ensemble.client(if number % 2 == 0 { 2 } else { 3 });
            client.send(pipeline(["SUBSCRIBE news"]));
            client
        })
        .collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.reply(), "[\"subscribe\" \"news\" 1]"));
    let mut publisher = ensemble.client(2);
    for number in 0..5 {
        assert_eq!(publisher.ask(&format!("PUBLISH news {number}")), "1000");
    }
    for client in &mut clients {
        (0..5).for_each(|number| assert_eq!(client.reply(), format!("[\"message\" \"news\" \"{number}\"]")));
    }
    assert_eq!(ensemble.in_use(), 1000);
    drop(clients);
    ensemble.expect_all_given_back();
    eventually("nobody to listen", || (publisher.ask("PUBLISH news x") == "0").then_some(()));
}

/// The names of subscriptions are something that the process holds for its clients.
#[test]
fn the_names_of_subscriptions_count_in_what_the_process_holds() {
    let ensemble = need!(Ensemble::start(2, PATIENT));
    let held = || ensemble.proxy.json("/topology")["buffered_bytes"].as_u64().unwrap();
    let long = "n".repeat(1000);
    let names: Vec<String> = (0..200).map(|n| format!("{n}{long}")).collect();
    let mut clients: Vec<Client> = (0..3).map(|_| ensemble.client(2)).collect();
    for client in &mut clients {
        client.send_aside(pipeline([format!("SUBSCRIBE {}", names.join(" "))]));
        names.iter().for_each(|_| drop(client.reply()));
    }
    // So much when nothing is on its way.
    let all = 3 * 200 * 1000;
    eventually("the names to be counted", || (all..all + all / 4).contains(&held()).then_some(()));
    clients[0].send_aside(pipeline(["UNSUBSCRIBE"]));
    names.iter().for_each(|_| drop(clients[0].reply()));
    eventually("a third to be forgotten", || (held() < all).then_some(()));
    assert!(held() >= all * 2 / 3, "{}", held());
    drop(clients);
    eventually("all to be forgotten", || (held() < all / 100).then_some(()));
}

/// The memory of a process that is its own, in bytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_subscriber_that_does_not_read_costs_little_and_nobody_else() {
    let limit = ["--client-output-buffer-limit", "pubsub 0 0 0"];
    let ensemble = need!(Ensemble::start_with("workers: 1\n", 1, &limit, &[]));
    let mut deaf = ensemble.client(2);
    let mut listener = ensemble.client(3);
    for client in [&mut deaf, &mut listener] {
        subscribe(client, "SUBSCRIBE", &["a", "b"], 0);
    }
    let mut publisher = ensemble.client(2);
    let before = memory(ensemble.proxy.pid());
    let message = "m".repeat(100_000);
    // Far more than sockets and limits hold together.
    for number in 0..600 {
        assert_eq!(publisher.ask(&format!("PUBLISH a {number}:{message}")), "2");
        assert_eq!(listener.reply().len(), format!("[\"message\" \"a\" \"{number}:\"]").len() + message.len());
    }
    let after = memory(ensemble.proxy.pid());
    assert!(after < before + 20_000_000, "{before} bytes, then {after}");
    assert_eq!(publisher.ask("GET x"), "nil");
    assert_eq!(publisher.ask("PUBLISH b end"), "2");
    assert_eq!(listener.reply(), "[\"message\" \"b\" \"end\"]");
    // It reads at last, and has lost nothing.
    for number in 0..600 {
        let reply = deaf.reply();
        assert!(reply.starts_with(&format!("[\"message\" \"a\" \"{number}:mmm")), "{}", &reply[..60.min(reply.len())]);
    }
    assert_eq!(deaf.reply(), "[\"message\" \"b\" \"end\"]");
    expect_quiet(&mut deaf, 2);
    // One that goes while it is held up leaves nothing behind.
    for number in 0..100 {
        publisher.ask(&format!("PUBLISH a {number}:{message}"));
        listener.reply();
    }
    drop(deaf);
    eventually("one less", || (publisher.ask("PUBLISH b end") == "1").then_some(()));
    drop(listener);
    ensemble.expect_all_given_back();
}

#[test]
fn those_who_come_and_go_get_all_that_is_said_while_they_listen() {
    let ensemble = need!(Ensemble::start(3, &[]));
    let channels: Vec<String> = (0..3).flat_map(|server| ensemble.keys(server)[..2].iter()).cloned().collect();
    thread::scope(|scope| {
        for (number, channel) in channels.iter().enumerate() {
            let ensemble = &ensemble;
            scope.spawn(move || {
                let mut publisher = ensemble.client(2);
                for round in 0..15 {
                    let version = if (round + number) % 2 == 0 { 2 } else { 3 };
                    let mut client = ensemble.client(version);
                    client.patience(Duration::from_secs(20));
                    subscribe(&mut client, "SUBSCRIBE", &[channel, "shared"], 0);
                    client.send(pipeline(["UNSUBSCRIBE shared"]));
                    // Others may say something there before that.
                    while client.reply() != "[\"unsubscribe\" \"shared\" 1]" {}
                    for message in 0..10 {
                        assert_eq!(publisher.ask(&format!("PUBLISH {channel} {round}:{message}")), "1");
                        publisher.ask("PUBLISH shared x");
                    }
                    for message in 0..10 {
                        assert_eq!(client.reply(), format!("[\"message\" \"{channel}\" \"{round}:{message}\"]"));
                    }
                    if round % 3 != 0 {
                        client.send(pipeline([format!("UNSUBSCRIBE {channel}")]));
                        assert_eq!(client.reply(), format!("[\"unsubscribe\" \"{channel}\" 0]"));
                    } else {
                        drop(client);
                    }
                    eventually("it to have left", || {
                        (publisher.ask(&format!("PUBLISH {channel} x")) == "0").then_some(())
                    });
                }
            });
        }
    });
    ensemble.expect_all_given_back();
}
