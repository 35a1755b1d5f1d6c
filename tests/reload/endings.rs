//! What is not wanted any more ends: sessions of removed pools, connections to removed servers, the process itself.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::need;
use crate::support::client::resp;
use crate::support::watch::descriptors;
use crate::support::{Client, Fake, Outrigger, Pool, Server, eventually};

/// Beyond a limit: a tick of the worker, and a machine with other things to do.
const SLACK: Duration = Duration::from_secs(3);

/// Changes the proxy's file and waits until it goes by it.
pub fn change(proxy: &Outrigger, edit: impl FnOnce(String) -> String) {
    let file = proxy.file("outrigger.yml");
    let generation = || proxy.stats()["config"]["generation"].as_u64().unwrap();
    let before = generation();
    std::fs::write(&file, edit(std::fs::read_to_string(&file).unwrap())).unwrap();
    proxy.signal(Signal::HUP);
    eventually("the change to be in force", || (generation() > before).then_some(()));
}

/// Without its last pool.
fn without(pool: &str) -> impl FnOnce(String) -> String {
    let head = format!("\n  {pool}:\n");
    move |text| text.split_once(&head).expect("the pool").0.to_owned() + "\n"
}

/// A fake that answers nothing until the test says so, then everything with its key.
fn held_back() -> (Fake, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = Fake::start(move |_, talk| {
        let _ = wait.lock().unwrap().recv();
        talk.echo();
    });
    (server, go)
}

fn requests(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| resp(&["GET", &format!("key{n}")])).collect()
}

/// So many requests are at a server or on their way there.
fn wait_for_queue(proxy: &Outrigger, pool: &str, server: &str, length: u64) {
    eventually("the requests to be in flight", || {
        let stats = &proxy.stats()[pool][server];
        (stats["in_queue"].as_u64()? + stats["out_queue"].as_u64()? >= length).then_some(())
    });
}

/// Descriptors come to be no more than these.
fn nothing_leaks(proxy: &Outrigger, before: usize) {
    let mut now = 0;
    let look = || {
        now = descriptors(proxy.pid());
        (now <= before).then_some(())
    };
    eventually(&format!("{before} descriptors or fewer"), look);
}

/// It is still served by the pool that stays.
fn is_served(client: &mut Client) {
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(client.ask("GET a"), "\"1\"");
}

#[test]
fn sessions_of_a_removed_pool_end_when_all_that_they_sent_is_answered() {
    const REQUESTS: usize = 2000;
    let server = need!(Server::redis());
    let (slow, go) = held_back();
    let stays = Pool::redis("stays", std::slice::from_ref(&server));
    let goes = Pool::new("goes", "redis", &[slow.entry()]).set("timeout: 15s");
    let proxy = Outrigger::start([stays, goes]);
    let (mut stays, gone) = (proxy.client_of(0), proxy.address_of(1));
    is_served(&mut stays);
    let before = descriptors(proxy.pid());
    let [mut idle, mut silent, mut busy, mut half] = [(); 4].map(|()| gone.connect().unwrap());
    assert_eq!(idle.ask("PING"), "+PONG");
    busy.send_aside(requests(REQUESTS));
    half.send("*2\r\n$3\r\nGET\r\n$1\r\n");
    wait_for_queue(&proxy, "goes", &slow.name(), 16);
    change(&proxy, without("goes"));
    // At once: they wait for nothing.
    let asked = Instant::now();
    idle.expect_closed();
    silent.expect_closed();
    assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
    eventually("the port to be closed", || gone.connect().is_err().then_some(()));
    // One for each worker's connection.
    (0..4).for_each(|_| go.send(()).unwrap());
    for n in 0..REQUESTS {
        assert_eq!(busy.reply(), format!("\"key{n}\""));
    }
    busy.expect_closed();
    half.send("x\r\n");
    assert_eq!(half.reply(), "\"x\"");
    half.expect_closed();
    is_served(&mut stays);
    nothing_leaks(&proxy, before);
}

#[test]
fn a_session_of_a_removed_pool_whose_server_hangs_ends_within_the_drain_limit() {
    let (server, stopped) = (need!(Server::redis()), need!(Server::redis()));
    let goes = Pool::redis("goes", std::slice::from_ref(&stopped)).set("timeout: 0");
    let stays = Pool::redis("stays", std::slice::from_ref(&server));
    let mut proxy = Outrigger::start_with("workers: 2\ndrain_timeout: 700", [stays, goes]);
    proxy.announce("drain limit reached");
    proxy.announce("connection lost");
    let mut stays = proxy.client_of(0);
    is_served(&mut stays);
    let before = descriptors(proxy.pid());
    let (mut waits, mut stuck) = (proxy.client_of(1), proxy.client_of(1));
    assert_eq!(waits.ask("GET a"), "nil");
    stopped.pause();
    waits.send(requests(5));
    stuck.send("*2\r\n$3\r\nGET\r\n");
    wait_for_queue(&proxy, "goes", &stopped.name(), 5);
    let asked = Instant::now();
    change(&proxy, without("goes"));
    let (told, _) = (waits.rest(), stuck.expect_closed());
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_millis(700) + SLACK, "{took:?}");
    // If it is told anything, then whole errors.
    assert!(told.lines().all(|line| line.starts_with("-ERR ")), "{told:?}");
    is_served(&mut stays);
    nothing_leaks(&proxy, before);
    stopped.resume();
}

#[test]
fn a_removed_server_that_hangs_fails_by_timeout_or_at_the_drain_limit() {
    for (timeout, drain, limit, text) in
        [("300", "15s", 300, "timed out"), ("0", "500", 500, "removed"), ("400", "0", 0, "removed")]
    {
        let (server, stopped) = (need!(Server::redis()), need!(Server::redis()));
        let servers = [server.entry() + " stays", stopped.entry() + " goes"];
        let pool = Pool::new("cache", "redis", &servers).set(&format!("timeout: {timeout}")).set("hash: murmur");
        let mut proxy = Outrigger::start_with(&format!("workers: 1\ndrain_timeout: {drain}"), [pool]);
        ["connection lost", "no reply in time"].iter().for_each(|text| proxy.announce(text));
        let (mut client, mut other) = (proxy.client(), proxy.client());
        // Of each server one key.
        let at = |mut server: Client| {
            let keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
            keys.into_iter().find(|key| server.ask(&format!("EXISTS {key}")) == "1").expect("a key there")
        };
        (0..40).for_each(|n| assert_eq!(client.ask(&format!("SET key{n} {n}")), "+OK"));
        let (key, others_key) = (at(stopped.client()), at(server.client()));
        let before = descriptors(proxy.pid());
        stopped.pause();
        let asked = Instant::now();
        client.send(resp(&["GET", &key]));
        wait_for_queue(&proxy, "cache", "goes", 1);
        change(&proxy, |text| text.lines().filter(|line| !line.ends_with(" goes\"")).collect::<Vec<_>>().join("\n"));
        // Nobody else waits for it: the key is at the other server now.
        let answered = Instant::now();
        assert_eq!(other.ask(&format!("GET {key}")), "nil");
        assert!(other.ask(&format!("GET {others_key}")).starts_with('"'));
        assert!(answered.elapsed() < SLACK, "{:?}", answered.elapsed());
        let reply = client.reply();
        let took = asked.elapsed();
        assert!(reply.starts_with("-ERR ") && reply.contains(text), "timeout {timeout}, drain {drain}: {reply}");
        let limit = Duration::from_millis(limit);
        assert!(took >= limit && took < limit + SLACK, "timeout {timeout}, drain {drain}: {took:?}");
        // Its session goes on, by the new ring.
        assert_eq!(client.ask(&format!("GET {key}")), "nil");
        nothing_leaks(&proxy, before);
        stopped.resume();
    }
}

#[test]
fn sigterm_goes_on_accepting_for_the_delay_and_answers_what_is_in_flight() {
    const DELAY: Duration = Duration::from_millis(1500);
    let (server, go) = held_back();
    let pool = Pool::new("cache", "redis", &[server.entry()]).set("timeout: 15s");
    let globals = format!("workers: 1\npre_stop_delay: {}", DELAY.as_millis());
    let mut proxy = Outrigger::start_with(&globals, [pool]);
    let (mut client, mut idle) = (proxy.client(), proxy.client());
    assert_eq!(idle.ask("PING"), "+PONG");
    client.send(requests(10));
    wait_for_queue(&proxy, "cache", &server.name(), 10);
    assert_eq!(proxy.stats()["ready"], true);
    let asked = Instant::now();
    proxy.signal(Signal::TERM);
    eventually("the statistics to say so", || (proxy.stats()["ready"] == false).then_some(()));
    let mut served = 0;
    let closed = loop {
        // Whoever is let in is served; those who are there stay.
        match proxy.address_of(0).connect() {
            Ok(mut late) => {
                late.send(resp(&["PING"]));
                match late.try_reply() {
                    Ok(reply) => assert_eq!(reply.to_string(), "+PONG"),
                    Err(error) => assert!(asked.elapsed() >= DELAY, "{error} after {:?}", asked.elapsed()),
                }
            }
            Err(_) => break asked.elapsed(),
        }
        if asked.elapsed() < DELAY / 2 {
            assert_eq!(idle.ask("PING"), "+PONG");
        }
        served += 1;
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(served > 10 && closed >= DELAY && closed < DELAY + SLACK, "{served} served, closed after {closed:?}");
    idle.expect_closed();
    go.send(()).unwrap();
    for n in 0..10 {
        assert_eq!(client.reply(), format!("\"key{n}\""));
    }
    client.expect_closed();
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}

#[test]
fn a_second_sigterm_ends_the_process_at_once() {
    let (server, _go) = held_back();
    let pool = Pool::new("cache", "redis", &[server.entry()]).set("timeout: 15s");
    let mut proxy = Outrigger::start_with("workers: 1\ndrain_timeout: 15s", [pool]);
    proxy.announce("while draining: ending at once");
    let mut client = proxy.client();
    client.send(requests(1));
    wait_for_queue(&proxy, "cache", &server.name(), 1);
    proxy.signal(Signal::TERM);
    eventually("the port to be closed", || proxy.address_of(0).connect().is_err().then_some(()));
    let asked = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(1));
    assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
    client.expect_closed();
}

#[test]
fn a_second_sigterm_ends_the_delay() {
    let server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server));
    let mut proxy = Outrigger::start_with("workers: 1\npre_stop_delay: 1h", [pool]);
    let mut client = proxy.client();
    is_served(&mut client);
    proxy.signal(Signal::TERM);
    eventually("the statistics to say so", || (proxy.stats()["ready"] == false).then_some(()));
    is_served(&mut client);
    let asked = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
    client.expect_closed();
}
