//! `slow_timeout`: commands that may work for long have more time than others, on the same connection.

use std::time::{Duration, Instant};

use super::support::client::resp;
use super::support::{Fake, Outrigger, Pool, Server, eventually};
use crate::need;

/// Keeps the server busy for so long, in milliseconds.
fn busy(milliseconds: u32) -> Vec<u8> {
    let now = "local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end";
    let script = format!("{now} local start = now() while now() < start + {milliseconds} do end return 'done'");
    resp(&["EVAL", &script, "1", "key"])
}

fn redis(lines: &[&str]) -> Option<(Server, Outrigger)> {
    let server = Server::redis()?;
    let pool = lines.iter().fold(Pool::redis("cache", std::slice::from_ref(&server)), |pool, line| pool.set(line));
    Some((server, Outrigger::start_with("workers: 1", [pool])))
}

#[test]
fn a_script_has_slow_timeout_and_the_requests_behind_it_have_timeout() {
    let (_server, mut proxy) = need!(redis(&["timeout: 200ms", "slow_timeout: 10s"]));
    proxy.announce("no reply in time");
    let (mut slow, mut usual) = (proxy.client(), proxy.client());
    slow.send(busy(1500));
    let late = "-ERR Connection timed out: no reply within 200 ms";
    eventually("a request behind the script", || usual.ask("GET key").starts_with(late).then_some(()));
    // And another one, long before the script ends, and without ending it.
    let begun = Instant::now();
    let reply = usual.ask("GET key");
    assert!(reply.starts_with(late), "{reply}");
    assert!(begun.elapsed() < Duration::from_millis(450), "{:?}", begun.elapsed());
    assert_eq!(slow.reply(), "\"done\"");
    assert_eq!(usual.ask("GET key"), "nil");
}

#[test]
fn a_script_after_a_pause_has_its_time_too() {
    let (_server, proxy) = need!(redis(&["timeout: 200ms", "slow_timeout: 10s"]));
    let mut client = proxy.client();
    assert_eq!(client.ask("GET key"), "nil");
    // So long that the proxy doubts the connection, and would make it anew if another command got no reply for 100 ms.
    std::thread::sleep(Duration::from_millis(1100));
    client.send(busy(500));
    assert_eq!(client.reply(), "\"done\"");
}

#[test]
fn slow_timeout_ends_as_well() {
    let (_server, mut proxy) = need!(redis(&["timeout: 100ms", "slow_timeout: 300ms"]));
    ["no reply in time", "connection lost"].iter().for_each(|text| proxy.announce(text));
    let mut client = proxy.client();
    let begun = Instant::now();
    client.send(busy(1000));
    let reply = client.reply();
    assert!(reply.starts_with("-ERR Connection timed out: no reply within 300 ms"), "{reply}");
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_millis(700));
}

#[test]
fn other_commands_have_timeout() {
    let (server, mut proxy) = need!(redis(&["timeout: 200ms", "slow_timeout: 10s"]));
    ["no reply in time", "connection lost"].iter().for_each(|text| proxy.announce(text));
    let mut client = proxy.client();
    assert_eq!(client.ask("GET key"), "nil");
    server.pause();
    assert!(client.ask("HGETALL key").starts_with("-ERR Connection timed out: no reply within 200 ms"));
    server.resume();
}

#[test]
fn flush_all_has_slow_timeout() {
    let server = Fake::start(|_, talk| {
        while let Some(line) = talk.line() {
            std::thread::sleep(Duration::from_millis(600));
            talk.say(if line == "flush_all" { "OK\r\n" } else { "END\r\n" });
        }
    });
    let pool = Pool::new("cache", "memcached", &[server.entry()]).set("timeout: 200ms").set("slow_timeout: 10s");
    let mut proxy = Outrigger::start_with("workers: 1", [pool]);
    ["no reply in time", "connection lost"].iter().for_each(|text| proxy.announce(text));
    let mut client = proxy.client();
    assert_eq!(client.tell("flush_all"), "OK");
    assert!(client.tell("get key").starts_with("SERVER_ERROR Connection timed out: no reply within 200 ms"));
}
