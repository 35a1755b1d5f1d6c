//! Subscriptions through the proxy, over real servers: with one it is hard to tell from Redis, with several publishers and
//! subscribers meet wherever they are, and go on meeting when servers go and come.

mod support;

mod pubsub {
    pub mod changes;
    pub mod crowd;
    pub mod owed;
}

use std::time::{Duration, Instant};

use support::ensemble::{Ensemble, greet, pipeline};
use support::{Client, Outrigger, Pool, Server, eventually};

/// The confirmations of this request, one for each of `names`.
#[track_caller]
fn subscribe(client: &mut Client, word: &str, names: &[&str], before: usize) {
    client.send(pipeline([format!("{word} {}", names.join(" "))]));
    for (at, name) in names.iter().enumerate() {
        let expected = format!("[\"{}\" \"{name}\" {}]", word.to_lowercase(), before + at + 1);
        assert_eq!(client.reply(), expected);
    }
}

/// No message comes before the answer to a PING, which the client asks for now.
#[track_caller]
fn expect_quiet(client: &mut Client, version: u8) {
    client.send(pipeline(["PING quiet"]));
    let pong = if version == 2 { "[\"pong\" \"quiet\"]" } else { "\"quiet\"" };
    assert_eq!(client.reply(), pong);
}

/// What is sent to both, and how many replies or pushes come of it.
const SCRIPT: [(&str, usize); 44] = [
    ("UNSUBSCRIBE", 1),
    ("UNSUBSCRIBE a", 1),
    ("PUNSUBSCRIBE", 1),
    ("SUNSUBSCRIBE x", 1),
    ("PUBLISH a nobody", 1),
    ("SUBSCRIBE", 1),
    ("PUBLISH a", 1),
    ("SUBSCRIBE a", 1),
    ("SUBSCRIBE a b a", 3),
    ("PSUBSCRIBE a* *c", 2),
    ("PSUBSCRIBE a*", 1),
    ("SSUBSCRIBE s t", 2),
    ("PING", 1),
    ("PING hello", 1),
    ("PING one two", 1),
    ("GET k", 1),
    ("SET k", 1),
    ("nonsense", 1),
    ("MULTI", 1),
    ("DISCARD", 1),
    ("WATCH a", 1),
    ("UNWATCH", 1),
    ("EXEC", 1),
    ("PUBLISH other x", 1),
    ("ECHO x", 1),
    ("UNSUBSCRIBE b none b", 3),
    ("SUNSUBSCRIBE", 2),
    ("SUNSUBSCRIBE", 1),
    ("PUNSUBSCRIBE none", 1),
    ("PUNSUBSCRIBE *c a*", 2),
    ("UNSUBSCRIBE", 1),
    ("UNSUBSCRIBE", 1),
    ("GET k", 1),
    ("SUBSCRIBE a", 1),
    ("RESET", 1),
    ("GET k", 1),
    ("UNSUBSCRIBE a", 1),
    ("SSUBSCRIBE s", 1),
    ("SUNSUBSCRIBE s", 1),
    ("GET k", 1),
    ("CLIENT REPLY SKIP", 0),
    ("SUBSCRIBE z", 1),
    ("UNSUBSCRIBE", 1),
    ("PING", 1),
];

#[test]
fn with_one_server_every_confirmation_is_the_one_of_redis() {
    let ensemble = need!(Ensemble::start(1, &[]));
    let plain = need!(Server::redis());
    for version in [2, 3] {
        let (mut through, mut direct) = (ensemble.client(version), plain.client());
        greet(&mut direct, version);
        let mut before = Vec::new();
        for (request, count) in SCRIPT {
            before.push(request);
            through.send(pipeline([request]));
            direct.send(pipeline([request]));
            let mut got: Vec<String> = (0..count).map(|_| through.raw()).collect();
            let mut expected: Vec<String> = (0..count).map(|_| direct.raw()).collect();
            if request == "SUNSUBSCRIBE" {
                // In any order.
                let names = |raw: &String| raw.split('|').filter(|part| part.len() == 1).collect::<String>();
                got = got.iter().map(names).collect();
                expected = expected.iter().map(names).collect();
                got.sort();
                expected.sort();
            }
            assert_eq!(got, expected, "RESP{version}, after {before:?}");
            if request == "RESET" {
                greet(&mut through, version);
                greet(&mut direct, version);
            }
        }
    }
    ensemble.expect_all_given_back();
}

#[test]
fn messages_are_the_ones_of_redis_byte_for_byte() {
    let ensemble = need!(Ensemble::start(1, &[]));
    let plain = need!(Server::redis());
    for version in [2, 3] {
        let raw = |mut subscriber: Client, mut publisher: Client| {
            greet(&mut subscriber, version);
            let mut seen = Vec::new();
            for (request, count) in [("SUBSCRIBE a b", 2), ("PSUBSCRIBE a* ?", 2), ("SSUBSCRIBE s", 1)] {
                subscriber.send(pipeline([request]));
                (0..count).for_each(|_| seen.push(subscriber.raw()));
            }
            for (request, count) in
                [("PUBLISH a one", 3), ("PUBLISH b two", 2), ("PUBLISH ax three", 1), ("SPUBLISH s four", 1)]
            {
                seen.push(publisher.ask_raw(request));
                // In the order of its patterns each server is by itself.
                let mut messages: Vec<String> = (0..count).map(|_| subscriber.raw()).collect();
                messages.sort();
                seen.extend(messages);
            }
            seen.push(publisher.ask_raw("PUBLISH s none"));
            seen.push(publisher.ask_raw("SPUBLISH a none"));
            seen
        };
        assert_eq!(
            raw(ensemble.proxy.client(), ensemble.proxy.client()),
            raw(plain.client(), plain.client()),
            "RESP{version}"
        );
    }
    ensemble.expect_all_given_back();
}

#[test]
fn publishers_and_subscribers_meet_on_any_server_and_worker() {
    let ensemble = need!(Ensemble::start(3, &[]));
    // Of two workers each has half of them.
    let mut subscribers: Vec<(u8, Client)> =
        [2, 3, 2, 3].into_iter().map(|version| (version, ensemble.client(version))).collect();
    let mut publishers: Vec<Client> = (0..4).map(|_| ensemble.client(2)).collect();
    let channels: Vec<&str> = (0..3).flat_map(|server| ensemble.keys(server)[..4].iter().map(String::as_str)).collect();
    for (_, client) in &mut subscribers {
        subscribe(client, "SUBSCRIBE", &channels, 0);
        subscribe(client, "SSUBSCRIBE", &channels, 0);
    }
    for (number, channel) in channels.iter().enumerate() {
        let publisher = &mut publishers[number % 4];
        assert_eq!(publisher.ask(&format!("PUBLISH {channel} m{number}")), "4", "all are at one server");
        assert_eq!(publisher.ask(&format!("SPUBLISH {channel} s{number}")), "4");
        for (_, client) in &mut subscribers {
            assert_eq!(client.reply(), format!("[\"message\" \"{channel}\" \"m{number}\"]"));
            assert_eq!(client.reply(), format!("[\"smessage\" \"{channel}\" \"s{number}\"]"));
        }
    }
    subscribers.iter_mut().for_each(|(version, client)| expect_quiet(client, *version));
    // One line to each server that has channels, and the channels are where their keys are.
    assert_eq!(ensemble.in_use(), 3 * 4);
    for (place, server) in ensemble.servers.iter().enumerate() {
        let list = server.client().ask("PUBSUB CHANNELS");
        assert!(ensemble.keys(place)[..4].iter().all(|key| list.contains(key)), "{list}");
        assert_eq!(list.matches('"').count(), 8, "{list}");
    }
    // Half of them leave.
    for (_, client) in &mut subscribers[..2] {
        client.send(pipeline(["UNSUBSCRIBE", "SUNSUBSCRIBE"]));
        (0..24).for_each(|_| assert!(client.reply().contains("unsubscribe")));
        assert_eq!(client.ask("EXISTS none"), "0");
    }
    for channel in &channels {
        assert_eq!(publishers[0].ask(&format!("PUBLISH {channel} x")), "2");
    }
    drop(subscribers);
    ensemble.expect_all_given_back();
    for server in &ensemble.servers {
        let mut direct = server.client();
        eventually("nobody to listen", || (direct.ask("PUBSUB CHANNELS") == "[]").then_some(()));
    }
}

#[test]
fn patterns_see_what_is_published_anywhere_once() {
    let ensemble = need!(Ensemble::start(3, &[]));
    let mut publisher = ensemble.client(2);
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        subscribe(&mut client, "PSUBSCRIBE", &["k*", "n*"], 0);
        let channel = ensemble.key(1);
        subscribe(&mut client, "SUBSCRIBE", &[channel], 2);
        for (server, name) in (0..3).flat_map(|server| ensemble.keys(server)[..5].iter().map(move |k| (server, k))) {
            let both = name == channel;
            assert_eq!(publisher.ask(&format!("PUBLISH {name} {server}")), if both { "2" } else { "1" });
            if both {
                assert_eq!(client.reply(), format!("[\"message\" \"{name}\" \"{server}\"]"));
            }
            assert_eq!(client.reply(), format!("[\"pmessage\" \"k*\" \"{name}\" \"{server}\"]"));
        }
        expect_quiet(&mut client, version);
        client.send(pipeline(["PUNSUBSCRIBE k*"]));
        assert_eq!(client.reply(), "[\"punsubscribe\" \"k*\" 2]");
        assert_eq!(publisher.ask(&format!("PUBLISH {} x", ensemble.key(0))), "0");
        expect_quiet(&mut client, version);
    }
    ensemble.expect_all_given_back();
}

#[test]
fn confirmations_of_several_servers_come_in_the_order_of_the_names() {
    let ensemble = need!(Ensemble::start(3, &[]));
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        let mixed: Vec<&str> =
            (0..5).flat_map(|n| (0..3).map(move |server| (server, n))).map(|(s, n)| &*ensemble.keys(s)[n]).collect();
        // All in one go, a request of another kind behind it.
        client.send(pipeline([format!("SUBSCRIBE {}", mixed.join(" ")), "PSUBSCRIBE x* y*".into(), "PING end".into()]));
        for (at, name) in mixed.iter().enumerate() {
            assert_eq!(client.reply(), format!("[\"subscribe\" \"{name}\" {}]", at + 1));
        }
        assert_eq!(client.reply(), "[\"psubscribe\" \"x*\" 16]");
        assert_eq!(client.reply(), "[\"psubscribe\" \"y*\" 17]");
        assert_eq!(client.reply(), if version == 2 { "[\"pong\" \"end\"]" } else { "\"end\"" });
        // Backwards, some twice, one unknown.
        let leave: Vec<&str> = mixed.iter().rev().copied().chain([mixed[0], "unknown"]).collect();
        client.send(pipeline([format!("UNSUBSCRIBE {}", leave.join(" "))]));
        for (at, name) in leave.iter().enumerate() {
            assert_eq!(client.reply(), format!("[\"unsubscribe\" \"{name}\" {}]", 2 + 14_usize.saturating_sub(at)));
        }
    }
    ensemble.expect_all_given_back();
}

#[test]
fn in_resp3_messages_and_replies_share_the_connection() {
    let ensemble = need!(Ensemble::start(3, &[]));
    let mut client = ensemble.client(3);
    let mut publisher = ensemble.client(2);
    let (here, there) = (ensemble.key(0), ensemble.key(1));
    subscribe(&mut client, "SUBSCRIBE", &[here, there], 0);
    for round in 0..50 {
        // Every kind of request among messages: none of either is lost, each kind is in its order.
        publisher.send(pipeline([format!("PUBLISH {here} {round}"), format!("PUBLISH {there} {round}")]));
        client.send(pipeline([
            format!("SET {here} {round}"),
            format!("GET {here}"),
            "MULTI".into(),
            format!("INCR n{there}"),
            "EXEC".into(),
            format!("BLPOP {there}list 0.001"),
            format!("MGET {here} none"),
        ]));
        let (mut messages, mut replies) = (Vec::new(), Vec::new());
        while messages.len() + replies.len() < 9 {
            let raw = client.raw();
            if raw.starts_with('>') { messages.push(raw) } else { replies.push(raw) }
        }
        messages.sort();
        let text = |key: &str| format!(">3|$7|message|${}|{key}|${}|{round}|", key.len(), round.to_string().len());
        let mut expected = [text(here), text(there)];
        expected.sort();
        assert_eq!(messages, expected);
        let value = format!("${}|{round}|", round.to_string().len());
        let number = round + 1;
        let expected = ["+OK|", &value, "+OK|", "+QUEUED|", &format!("*1|:{number}|"), "_|", &format!("*2|{value}_|")];
        assert_eq!(replies, expected);
        (0..2).for_each(|_| assert_eq!(publisher.reply(), "1"));
    }
    // What it publishes itself comes to it as well, before or after the reply.
    client.send(pipeline([format!("PUBLISH {here} own")]));
    let mut both = [client.raw(), client.raw()];
    both.sort();
    assert_eq!(both[0], ":1|");
    assert!(both[1].contains("own"));
    for refused in ["SELECT 1", "HELLO 2"] {
        assert!(client.ask(refused).starts_with("-ERR "), "{refused}");
    }
    drop(client);
    ensemble.expect_all_given_back();
}

#[test]
fn in_resp2_a_subscriber_may_say_little_until_it_has_left() {
    let ensemble = need!(Ensemble::start(3, &[]));
    let mut client = ensemble.client(2);
    subscribe(&mut client, "SUBSCRIBE", &[ensemble.key(0), ensemble.key(1)], 0);
    for refused in ["GET a", "PUBLISH c m", "MULTI", "BLPOP a 0", "CLIENT ID", "HELLO 3", "SELECT 0", "KEYS *", "INFO"]
    {
        let reply = client.ask(refused);
        let begin =
            format!("-ERR Can't execute '{}': only (P|S)SUBSCRIBE", refused.split(' ').next().unwrap().to_lowercase());
        assert!(reply.starts_with(&begin) || refused == "CLIENT ID", "{refused}: {reply}");
        assert!(reply.starts_with("-ERR Can't execute"), "{refused}: {reply}");
    }
    assert_eq!(client.ask("PING"), "[\"pong\" \"\"]");
    assert_eq!(client.ask("RESET"), "+RESET");
    assert_eq!(client.ask("GET a"), "nil");
    ensemble.expect_all_given_back();
    subscribe(&mut client, "SSUBSCRIBE", &["x"], 0);
    client.send(pipeline(["QUIT"]));
    assert_eq!(client.rest(), "+OK\r\n");
    // A script that says one thing and is gone still gets its answer.
    let mut brief = ensemble.client(2);
    brief.send(pipeline([format!("SUBSCRIBE {} {}", ensemble.key(0), ensemble.key(2))]));
    brief.half_close();
    assert_eq!(brief.rest().matches("subscribe").count(), 2);
    ensemble.expect_all_given_back();
}

#[test]
fn a_server_tells_of_its_own_keys() {
    let events = ["--notify-keyspace-events", "KEA"];
    let ensemble = need!(Ensemble::start_with("workers: 2\n", 3, &events, &[]));
    let mut writer = ensemble.client(2);
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        let spaces: Vec<String> = (0..3).map(|s| format!("__keyspace@0__:{}", ensemble.key(s))).collect();
        let names: Vec<&str> = spaces.iter().map(String::as_str).chain(["__keyevent@0__:set"]).collect();
        subscribe(&mut client, "SUBSCRIBE", &names, 0);
        for server in 0..3 {
            let key = ensemble.key(server);
            assert_eq!(writer.ask(&format!("SET {key} x")), "+OK");
            assert_eq!(client.reply(), format!("[\"message\" \"__keyspace@0__:{key}\" \"set\"]"));
            assert_eq!(client.reply(), format!("[\"message\" \"__keyevent@0__:set\" \"{key}\"]"));
            let other = &ensemble.keys(server)[1];
            assert_eq!(writer.ask(&format!("SET {other} x")), "+OK");
            assert_eq!(client.reply(), format!("[\"message\" \"__keyevent@0__:set\" \"{other}\"]"));
        }
        expect_quiet(&mut client, version);
        client.send(pipeline(["UNSUBSCRIBE __keyevent@0__:set"]));
        assert_eq!(client.reply(), "[\"unsubscribe\" \"__keyevent@0__:set\" 3]");
        subscribe(&mut client, "PSUBSCRIBE", &["__keyevent@*__:del"], 3);
        for server in 0..3 {
            let key = ensemble.key(server);
            assert_eq!(writer.ask(&format!("DEL {key}")), "1");
            assert_eq!(client.reply(), format!("[\"message\" \"__keyspace@0__:{key}\" \"del\"]"));
            let event = format!("[\"pmessage\" \"__keyevent@*__:del\" \"__keyevent@0__:del\" \"{key}\"]");
            assert_eq!(client.reply(), event);
        }
        expect_quiet(&mut client, version);
    }
    ensemble.expect_all_given_back();
}

#[test]
fn a_subscriber_that_says_nothing_is_not_idle() {
    let server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("client_idle_timeout: 300ms");
    let proxy = Outrigger::start([pool]);
    let mut subscriber = proxy.client();
    subscribe(&mut subscriber, "SUBSCRIBE", &["a"], 0);
    let mut blocked = proxy.client();
    blocked.send(pipeline(["BLPOP list 2"]));
    let mut idle = proxy.client();
    let start = Instant::now();
    assert_eq!(idle.ask("PING"), "+PONG");
    idle.expect_closed();
    assert!(start.elapsed() >= Duration::from_millis(300));
    std::thread::sleep(Duration::from_millis(700));
    let mut other = proxy.client();
    assert_eq!(other.ask("PUBLISH a still"), "1");
    assert_eq!(subscriber.reply(), "[\"message\" \"a\" \"still\"]");
    assert_eq!(other.ask("RPUSH list x"), "1");
    assert_eq!(blocked.reply(), "[\"list\" \"x\"]");
    // Once it has left it is like any other.
    subscriber.send(pipeline(["UNSUBSCRIBE a"]));
    assert_eq!(subscriber.reply(), "[\"unsubscribe\" \"a\" 0]");
    subscriber.expect_closed();
}

#[test]
fn after_another_hello_messages_come_in_that_version() {
    let ensemble = need!(Ensemble::start(1, &[]));
    for (version, other, first) in [(2, 3, '>'), (3, 2, '*')] {
        let (mut client, mut publisher) = (ensemble.client(version), ensemble.client(2));
        subscribe(&mut client, "SUBSCRIBE", &["a"], 0);
        client.send(pipeline(["UNSUBSCRIBE a".to_owned(), format!("HELLO {other}"), "SUBSCRIBE a".to_owned()]));
        assert_eq!(client.reply(), "[\"unsubscribe\" \"a\" 0]");
        assert!(client.reply().contains("proto"));
        assert_eq!(client.reply(), "[\"subscribe\" \"a\" 1]");
        assert_eq!(publisher.ask("PUBLISH a hello"), "1");
        let message = format!("{first}3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n");
        client.expect(message);
    }
}
