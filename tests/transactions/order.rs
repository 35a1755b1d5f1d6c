//! Many transactions in one go, over several servers and among plain requests: every reply is that of one Redis that does one
//! request after the other.

use std::collections::HashMap;
use std::thread;

use crate::need;
use crate::support::client::resp;
use crate::support::ensemble::Ensemble;

/// A random walk that can be walked again.
struct Walk(u64);

impl Walk {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// What one Redis would hold and answer.
#[derive(Default)]
struct Model {
    values: HashMap<String, String>,
}

impl Model {
    fn answer(&mut self, request: &str) -> String {
        let parts: Vec<&str> = request.split(' ').collect();
        let bulk = |value: Option<&String>| value.map_or("nil".into(), |value| format!("\"{value}\""));
        match parts[..] {
            ["SET", key, value] => {
                self.values.insert(key.into(), value.into());
                "+OK".into()
            }
            ["GET", key] => bulk(self.values.get(key)),
            ["GETSET", key, value] => bulk(self.values.insert(key.into(), value.into()).as_ref()),
            ["DEL", key] => i32::from(self.values.remove(key).is_some()).to_string(),
            ["APPEND", key, text] => {
                let value = self.values.entry(key.into()).or_default();
                value.push_str(text);
                value.len().to_string()
            }
            ["MGET", ref keys @ ..] => {
                let values: Vec<String> = keys.iter().map(|key| bulk(self.values.get(*key))).collect();
                format!("[{}]", values.join(" "))
            }
            ["PING"] => "+PONG".into(),
            _ => panic!("{request}"),
        }
    }
}

/// Requests and the replies they must get.
#[derive(Default)]
struct Script {
    model: Model,
    requests: Vec<String>,
    replies: Vec<String>,
    number: usize,
}

impl Script {
    fn say(&mut self, request: String, reply: String) {
        self.requests.push(request);
        self.replies.push(reply);
    }

    /// One request that one server of these keys answers.
    fn request(&mut self, walk: &mut Walk, keys: &[String]) -> String {
        self.number += 1;
        let (key, number) = (&keys[walk.below(keys.len())], self.number);
        match walk.below(8) {
            0 | 1 => format!("SET {key} v{number}"),
            2 | 3 => format!("GET {key}"),
            4 => format!("GETSET {key} w{number}"),
            5 => format!("APPEND {key} x"),
            6 => format!("MGET {} {}", keys[0], keys[1]),
            _ => format!("DEL {key}"),
        }
    }

    fn plain(&mut self, walk: &mut Walk, keys: &[String]) {
        let request = self.request(walk, keys);
        let reply = self.model.answer(&request);
        self.say(request, reply);
    }

    fn transaction(&mut self, walk: &mut Walk, keys: &[String], others: &[String]) {
        if walk.below(5) == 0 {
            self.say(format!("WATCH {}", keys[walk.below(keys.len())]), "+OK".into());
            if walk.below(2) == 0 {
                self.plain_read(walk, keys);
                self.plain_read(walk, others);
            }
        }
        self.say("MULTI".into(), "+OK".into());
        let mut queued = Vec::new();
        for _ in 0..walk.below(5) {
            let request = if walk.below(6) == 0 { "PING".to_owned() } else { self.request(walk, keys) };
            self.say(request.clone(), "+QUEUED".into());
            queued.push(request);
        }
        match walk.below(10) {
            0 => self.say("DISCARD".into(), "+OK".into()),
            1 => {
                self.say("nonsense".into(), "-ERR unknown command 'nonsense', with args beginning with: ".into());
                let abort = "-EXECABORT Transaction discarded because of previous errors.";
                self.say("EXEC".into(), abort.into());
            }
            _ => {
                let replies: Vec<String> = queued.iter().map(|request| self.model.answer(request)).collect();
                self.say("EXEC".into(), format!("[{}]", replies.join(" ")));
            }
        }
    }

    fn plain_read(&mut self, walk: &mut Walk, keys: &[String]) {
        let request = format!("GET {}", keys[walk.below(keys.len())]);
        let reply = self.model.answer(&request);
        self.say(request, reply);
    }

    fn bytes(&self) -> Vec<u8> {
        self.requests.iter().flat_map(|request| resp(&request.split(' ').collect::<Vec<_>>())).collect()
    }
}

/// So many transactions, each after some plain requests; a client has keys of its own.
fn script(ensemble: &Ensemble, client: usize, seed: u64, transactions: usize) -> Script {
    let keys: Vec<Vec<String>> = (0..ensemble.servers.len())
        .map(|server| ensemble.keys(server)[..3].iter().map(|key| format!("{{{key}}}:{client}:{seed}")).collect())
        .collect();
    let (mut walk, mut script) = (Walk(seed), Script::default());
    for _ in 0..transactions {
        for _ in 0..walk.below(4) {
            let server = walk.below(keys.len());
            script.plain(&mut walk, &keys[server]);
        }
        let server = walk.below(keys.len());
        let other = walk.below(keys.len());
        script.transaction(&mut walk, &keys[server], &keys[other]);
    }
    script
}

#[test]
fn a_hundred_transactions_in_one_pipeline_answer_in_their_order() {
    let ensemble = need!(Ensemble::start(3, &["hash_tag: \"{}\""]));
    ensemble.keys(0);
    thread::scope(|scope| {
        for number in 0..6 {
            let ensemble = &ensemble;
            scope.spawn(move || {
                for seed in 0..3 {
                    let script = script(ensemble, number, 1000 * number as u64 + seed, 100);
                    let mut client = ensemble.client(if number % 2 == 0 { 2 } else { 3 });
                    client.send_aside(script.bytes());
                    for (at, expected) in script.replies.iter().enumerate() {
                        let from = at.saturating_sub(12);
                        let before = || script.requests[from..=at].join("\n");
                        assert_eq!(client.reply(), *expected, "client {number}, seed {seed}, {at}:\n{}", before());
                    }
                }
            });
        }
    });
    ensemble.expect_all_given_back();
}

#[test]
fn requests_that_come_byte_by_byte_are_the_same() {
    let ensemble = need!(Ensemble::start(3, &["hash_tag: \"{}\""]));
    let script = script(&ensemble, 0, 7, 12);
    let mut client = ensemble.client(2);
    let bytes = script.bytes();
    thread::scope(|scope| {
        let mut writer = client.writer();
        scope.spawn(move || bytes.iter().for_each(|byte| writer(&[*byte])));
        for expected in &script.replies {
            assert_eq!(client.reply(), *expected);
        }
    });
    drop(client);
    ensemble.expect_all_given_back();
}

/// Two clients add to one number, each in the way that Redis recommends: none of the sums is lost.
#[test]
fn sums_by_watch_and_exec_are_right_under_contention() {
    let ensemble = need!(Ensemble::start(3, &[]));
    let key = ensemble.key(2);
    let (clients, rounds) = (4, 25);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = ensemble.client(2);
                for _ in 0..rounds {
                    loop {
                        assert_eq!(client.ask(&format!("WATCH {key}")), "+OK");
                        let read = client.ask(&format!("GET {key}"));
                        let sum = read.trim_matches('"').parse::<i32>().unwrap_or(0) + 1;
                        assert_eq!(client.ask("MULTI"), "+OK");
                        assert_eq!(client.ask(&format!("SET {key} {sum}")), "+QUEUED");
                        if client.ask("EXEC") != "nil" {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(ensemble.client(2).ask(&format!("GET {key}")), format!("\"{}\"", clients * rounds));
    ensemble.expect_all_given_back();
}
