//! Transactions without WATCH go to their server in one piece, on the connection that all clients share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::need;
use crate::support::client::resp;
use crate::support::ensemble::{Ensemble, pipeline};
use crate::support::{Client, Fake, Outrigger, Pool, Talk, eventually};

/// So many replies.
fn replies(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| client.reply()).collect()
}

#[test]
fn the_transactions_of_many_clients_never_mix() {
    let ensemble = need!(Ensemble::start_with("workers: 1\n", 1, &[], &[]));
    let mut clients: Vec<Client> = (0..12).map(|n| ensemble.client(2 + n % 2)).collect();
    for round in 0..40 {
        for (number, client) in clients.iter_mut().enumerate() {
            let (a, b) = (format!("a{number}"), format!("b{number}"));
            let spoilt = format!("GET {a} {b}");
            let requests = [
                "MULTI",
                &format!("INCR {a}"),
                &format!("APPEND {b} x"),
                "EXEC",
                &format!("GET {a}"),
                "MULTI",
                &spoilt,
                &format!("INCR {a}"),
                "EXEC",
                "MULTI",
                &format!("LPUSH {a} x"),
                &format!("STRLEN {b}"),
                "EXEC",
            ];
            // In pieces that end anywhere, so that the clients take turns in the middle of their transactions.
            let bytes = pipeline(requests);
            let cut = (round * 37 + number * 11) % bytes.len();
            client.send(&bytes[..cut]);
            client.send(&bytes[cut..]);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let count = round + 1;
            let told = replies(client, 13);
            let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
            let expected = [
                "+OK",
                "+QUEUED",
                "+QUEUED",
                &format!("[{count} {count}]"),
                &format!("\"{count}\""),
                "+OK",
                "-ERR wrong number of arguments for 'get' command",
                "+QUEUED",
                "-EXECABORT Transaction discarded because of previous errors.",
                "+OK",
                "+QUEUED",
                "+QUEUED",
                &format!("[{wrong} {count}]"),
            ];
            assert_eq!(told, expected, "client {number}, round {round}");
        }
    }
    assert_eq!(ensemble.metric("outrigger_server_dedicated_connections_opened_total", ""), 0);
}

#[test]
fn keys_that_move_together_take_their_transaction_along_and_others_end_it() {
    let mut ensemble = need!(Ensemble::start_with("workers: 2\n", 3, &[], &[]));
    ensemble.announce_trouble();
    let key = ensemble.key(0).to_owned();
    let (mut one, mut all, mut late) = (ensemble.client(2), ensemble.client(2), ensemble.client(3));
    for client in [&mut one, &mut all, &mut late] {
        assert_eq!(client.ask("MULTI"), "+OK");
        assert_eq!(client.ask("PING"), "+QUEUED");
        assert_eq!(client.ask(&format!("INCR {key}")), "+QUEUED");
    }
    for key in ensemble.keys(0) {
        assert_eq!(all.ask(&format!("INCR {key}")), "+QUEUED");
        assert_eq!(late.ask(&format!("INCR {key}")), "+QUEUED");
    }
    assert!(ensemble.keys(0).len() > 8, "some go here, some there");
    ensemble.reload(&ensemble.line(0), "");
    assert_eq!(one.ask(&format!("GET {key}")), "+QUEUED");
    assert_eq!(one.ask("EXEC"), "[+PONG 1 \"1\"]");
    assert_eq!(one.ask(&format!("GET {key}")), "\"1\"");
    assert_eq!(late.ask(&format!("GET {key}")), "-ERR transaction lost: its keys are on several servers now");
    assert_eq!(late.ask("EXEC"), "-EXECABORT Transaction discarded because of previous errors.");
    assert_eq!(all.ask("EXEC"), "-EXECABORT Transaction discarded because of: its keys are on several servers now");
    assert_eq!(all.ask(&format!("GET {key}")), "\"1\"", "nothing was done");
    assert_eq!(ensemble.servers[0].client().ask("DBSIZE"), "0");
}

#[test]
fn what_concerns_all_servers_is_not_done_at_one_of_those_that_there_are_meanwhile() {
    let mut ensemble = need!(Ensemble::start_with("workers: 1\n", 2, &[], &["allow_admin_commands: true"]));
    ensemble.announce_trouble();
    let (gone, key) = (ensemble.line(1), ensemble.key(0).to_owned());
    let all = ensemble.line(0) + &gone;
    ensemble.reload(&gone, "");
    let mut client = ensemble.client(2);
    for keyed in [false, true] {
        assert_eq!(client.ask(&format!("SET {key} 1")), "+OK");
        client.send(pipeline(["MULTI", "FLUSHALL"]));
        assert_eq!(replies(&mut client, 2), ["+OK", "+QUEUED"]);
        if keyed {
            assert_eq!(client.ask(&format!("GET {key}")), "+QUEUED");
        }
        ensemble.reload(&ensemble.line(0), &all);
        let end = client.ask("EXEC");
        assert!(end.starts_with("-EXECABORT Transaction discarded because of: "), "{end}");
        assert_eq!(client.ask(&format!("GET {key}")), "\"1\"");
        ensemble.reload(&gone, "");
    }
}

#[test]
fn what_the_server_would_answer_beside_exec_is_refused() {
    let debug = ["--enable-debug-command", "yes"];
    let ensemble = need!(Ensemble::start_with("workers: 1\n", 1, &debug, &["allow_admin_commands: true"]));
    let (mut one, mut other) = (ensemble.client(3), ensemble.client(3));
    one.send(pipeline(["MULTI", "DEBUG PROTOCOL push", "EXEC"]));
    assert_eq!(one.reply(), "+OK");
    assert!(one.reply().starts_with("-ERR "));
    assert!(one.reply().starts_with("-EXECABORT "));
    assert_eq!(other.ask("GET a"), "nil");
    assert_eq!(one.ask("GET a"), "nil");
}

#[test]
fn what_grows_large_after_a_reload_goes_to_where_its_keys_are_by_then() {
    let mut ensemble = need!(Ensemble::start_with("workers: 1\n", 3, &[], &[]));
    ensemble.announce_trouble();
    let key = ensemble.key(2).to_owned();
    let mut client = ensemble.client(2);
    let (large, more) = ("x".repeat(60_000), "y".repeat(10_000));
    client.send(pipeline(["MULTI", &format!("SET {key} {large}")]));
    assert_eq!(replies(&mut client, 2), ["+OK", "+QUEUED"]);
    // The last of three is the last of two now.
    ensemble.reload(&ensemble.line(0), "");
    client.send(pipeline([&format!("ECHO {more}"), &format!("STRLEN {key}"), "EXEC"]));
    assert_eq!(replies(&mut client, 2), ["+QUEUED", "+QUEUED"]);
    assert_eq!(client.reply(), format!("[+OK \"{more}\" 60000]"));
    assert_eq!(ensemble.servers[2].client().ask(&format!("STRLEN {key}")), "60000");
}

#[test]
fn a_server_that_is_ejected_before_exec_is_asked_nothing() {
    for (policy, rest) in [("rehash", "[1]"), ("fail_fast", "-EXECABORT Transaction discarded because of: ")] {
        let lines = ["auto_eject_hosts: true", &format!("on_ejected: {policy}"), "on_readmit: keep"];
        let mut ensemble = need!(Ensemble::start(2, &lines));
        ensemble.announce_trouble();
        let key = ensemble.key(0);
        let mut client = ensemble.client(2);
        client.send(pipeline(["MULTI", &format!("INCR {key}")]));
        assert_eq!(replies(&mut client, 2), ["+OK", "+QUEUED"]);
        let path = format!("/pools/cache/servers/{}/eject", ensemble.servers[0].name());
        assert_eq!(ensemble.proxy.http("POST", &path).status, 200);
        // Until every worker goes by it.
        let mut other = ensemble.client(2);
        eventually("an ejection", || {
            other.ask(&format!("APPEND {key} x"));
            (ensemble.servers[0].client().ask(&format!("DEL {key}")) == "0").then_some(())
        });
        ensemble.servers[1].client().ask(&format!("DEL {key}"));
        let end = client.ask("EXEC");
        assert!(end.starts_with(rest), "{policy}: {end}");
        assert_eq!(ensemble.servers[0].client().ask("DBSIZE"), "0", "{policy}");
        assert_eq!(client.ask("EXEC"), "-ERR EXEC without MULTI");
    }
}

#[test]
fn what_only_the_server_can_refuse_is_told_by_exec() {
    let full = ["--maxmemory", "100kb", "--maxmemory-policy", "noeviction"];
    let ensemble = need!(Ensemble::start_with("workers: 1\n", 1, &full, &[]));
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        client.send(pipeline(["MULTI", "GET a", "SET a 1", "SET b 2", "EXEC", "GET a"]));
        assert_eq!(replies(&mut client, 4), ["+OK", "+QUEUED", "+QUEUED", "+QUEUED"]);
        let reason = "OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(client.reply(), format!("-EXECABORT Transaction discarded because of: {reason}"));
        assert_eq!(client.reply(), "nil");
    }
}

/// Answers like a server of transactions; says what it was sent outside of one.
fn serve(talk: &mut Talk, outside: &Mutex<Vec<String>>, mut exec: impl FnMut(&mut Talk) -> bool) {
    let (mut open, mut queued) = (false, 0);
    while let Some(request) = talk.request() {
        match request.split(' ').next().unwrap() {
            "MULTI" => (open, queued) = (true, 0),
            "EXEC" if queued == 0 => {
                open = false;
                talk.say("*0\r\n");
                continue;
            }
            "EXEC" => {
                open = false;
                if exec(talk) {
                    continue;
                }
                return;
            }
            "GET" if !open => {
                talk.say("$5\r\nplain\r\n");
                continue;
            }
            _ if open => {
                queued += 1;
                talk.say("+QUEUED\r\n");
                continue;
            }
            _ => outside.lock().unwrap().push(request),
        }
        talk.say("+OK\r\n");
    }
}

#[test]
fn what_is_lost_in_the_middle_is_never_sent_without_its_beginning() {
    let outside = Arc::new(Mutex::new(Vec::new()));
    let server = Fake::start({
        let outside = outside.clone();
        // Each connection lives for some transactions and hangs up in the middle of the next.
        move |number, talk| {
            let mut left = number % 4;
            serve(talk, &outside, |talk| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                talk.say("*2\r\n+OK\r\n+OK\r\n");
                true
            });
        }
    });
    let mut proxy = Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &[server.entry()])]);
    ["connection lost", "cannot connect"].iter().for_each(|text| proxy.announce(text));
    let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
    let (mut good, mut lost) = (0, 0);
    for _ in 0..30 {
        for client in &mut clients {
            client.send(pipeline(["MULTI", "SET a 1", "SET a 2", "EXEC", "GET a"]));
        }
        for client in &mut clients {
            assert_eq!(replies(client, 3), ["+OK", "+QUEUED", "+QUEUED"]);
            match client.reply() {
                end if end == "[+OK +OK]" => good += 1,
                end if end.starts_with("-ERR Connection closed") || end.starts_with("-EXECABORT ") => lost += 1,
                end => panic!("{end}"),
            }
            let read = client.reply();
            assert!(read == "\"plain\"" || read.starts_with("-ERR Connection closed"), "{read}");
        }
    }
    assert_eq!(*outside.lock().unwrap(), Vec::<String>::new());
    assert!(good > 0 && lost > 0, "{good} {lost}");
}

#[test]
fn replies_that_come_byte_by_byte_are_one_reply() {
    let outside = Mutex::new(Vec::new());
    let server = Fake::start(move |_, talk| {
        serve(talk, &outside, |talk| {
            for byte in b"*3\r\n$3\r\nabc\r\n:7\r\n*2\r\n+a\r\n-ERR b\r\n" {
                talk.say([*byte]);
            }
            true
        });
    });
    let proxy = Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &[server.entry()])]);
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send(pipeline(["GET a", "MULTI", "SET a 1", "SET a 2", "EXEC", "GET a"]));
        let told = replies(&mut client, 6);
        assert_eq!(told, ["\"plain\"", "+OK", "+QUEUED", "+QUEUED", "[\"abc\" 7 [+a -ERR b]]", "\"plain\""]);
    }
}

#[test]
fn what_is_kept_counts_as_held_until_it_is_sent_or_forgotten() {
    let ensemble = need!(Ensemble::start(1, &[]));
    let held = || ensemble.metric("outrigger_buffered_bytes", "");
    let mut clients: Vec<Client> = (0..4).map(|_| ensemble.client(2)).collect();
    let value = "x".repeat(50_000);
    for end in ["EXEC", "DISCARD", "RESET"] {
        for client in &mut clients {
            client.send(pipeline(["MULTI", &format!("SET a {value}")]));
            assert_eq!(replies(client, 2), ["+OK", "+QUEUED"]);
        }
        eventually("the bytes to be counted", || (held() >= 200_000).then_some(()));
        clients.iter_mut().for_each(|client| drop(client.ask(end)));
        eventually("nothing to be held", || (held() < 10_000).then_some(()));
    }
}

#[test]
fn a_slow_transaction_is_in_the_slow_log_with_its_key() {
    let ensemble = need!(Ensemble::start(1, &["slowlog_threshold: 50ms", "timeout: 200ms", "slow_timeout: 10s"]));
    let mut client = ensemble.client(2);
    client.patience(Duration::from_secs(10));
    let busy = "local t=redis.call('TIME') repeat local n=redis.call('TIME') until \
                (n[1]-t[1])*1000000+n[2]-t[2]>100000 return 1";
    client.send(pipeline(["MULTI", "PING"]));
    client.send(resp(&["EVAL", busy, "1", "thekey"]));
    client.send(pipeline(["EXEC"]));
    assert_eq!(replies(&mut client, 4), ["+OK", "+QUEUED", "+QUEUED", "[+PONG 1]"]);
    let log = ensemble.proxy.http("GET", "/slowlog").body;
    assert!(log.contains("\"EXEC\"") && log.contains("thekey"), "{log}");
}

#[test]
fn answers_that_wait_for_exec_do_not_wait_for_long() {
    let outside = Mutex::new(Vec::new());
    let server = Fake::start(move |_, talk| {
        serve(talk, &outside, |talk| {
            talk.stall();
            false
        });
    });
    let proxy = Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &[server.entry()])]);
    let mut client = proxy.client();
    client.patience(Duration::from_secs(10));
    client.send(pipeline(["MULTI", "SET a 1", "EXEC", "PING"]));
    assert_eq!(replies(&mut client, 2), ["+OK", "+QUEUED"]);
    let mut other = proxy.client();
    assert_eq!(other.ask("PING"), "+PONG");
}
