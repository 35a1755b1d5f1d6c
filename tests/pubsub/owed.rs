//! Subscribers that are owed a confirmation while messages come, and those that have no connection to any server.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::support::client::resp;
use crate::support::fake::Talk;
use crate::support::watch::peak_memory;
use crate::support::{Client, Fake, Outrigger, Pool, eventually};

const MESSAGE: usize = 16 << 10;

fn confirmed(channel: &str, count: usize) -> String {
    format!("*3\r\n$9\r\nsubscribe\r\n$1\r\n{channel}\r\n:{count}\r\n")
}

fn message(number: usize) -> String {
    let text = format!("{number:0MESSAGE$}");
    format!("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n${}\r\n{text}\r\n", text.len())
}

/// Confirms `a` at once, and `b` only when it is told to; meanwhile it says so many messages on `a`.
fn late(messages: usize) -> (Fake, Sender<()>) {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let serve = move |_, talk: &mut Talk| {
        while let Some(request) = talk.request() {
            match &request.to_uppercase()[..] {
                "SUBSCRIBE A" => talk.say(confirmed("a", 1)),
                "SUBSCRIBE B" => {
                    (0..messages).for_each(|number| talk.say(message(number)));
                    let _ = wait.lock().unwrap().recv();
                    talk.say(confirmed("b", 2));
                }
                _ => talk.say("+OK\r\n"),
            }
        }
    };
    (Fake::start(serve), go)
}

fn proxy(server: &Fake) -> Outrigger {
    let globals = "workers: 1\nlimits: {max_session_bytes: 256KiB, max_buffered_bytes: 8MiB}\n";
    let pool = Pool::new("cache", "redis", &[server.entry()]).set("timeout: 0");
    Outrigger::start_with(globals, [pool])
}

/// A client that is subscribed to `a` and has asked for `b`.
fn subscriber(proxy: &Outrigger) -> Client {
    let mut client = proxy.client();
    assert_eq!(client.ask("SUBSCRIBE a"), "[\"subscribe\" \"a\" 1]");
    client.send(resp(&["SUBSCRIBE", "b"]));
    client
}

#[test]
fn messages_that_wait_for_a_confirmation_wait_in_bounded_memory() {
    const MESSAGES: usize = 2000;
    let (server, go) = late(MESSAGES);
    let proxy = proxy(&server);
    let mut client = subscriber(&proxy);
    let before = peak_memory(proxy.pid());
    // More than may be held: they come all the same, in their order.
    for number in 0..MESSAGES - 100 {
        let reply = client.reply();
        assert!(reply.starts_with("[\"message\" \"a\" \"0") && reply.ends_with(&format!("0{number}\"]")), "{number}");
    }
    let peak = peak_memory(proxy.pid());
    assert!(peak < before + (16 << 20), "{before} bytes before, {peak} at the peak");
    // What is held until the confirmation is there, comes with it.
    go.send(()).unwrap();
    let mut rest: Vec<String> = (0..=100).map(|_| client.reply()).collect();
    let at = rest.iter().position(|reply| *reply == "[\"subscribe\" \"b\" 2]").expect("the confirmation");
    rest.remove(at);
    assert!(rest.iter().zip(MESSAGES - 100..).all(|(reply, number)| reply.ends_with(&format!("{number}\"]"))));
}

#[test]
fn a_subscriber_that_does_not_read_while_it_is_owed_a_confirmation_has_the_server_wait() {
    const MESSAGES: usize = 4096;
    let (server, go) = late(MESSAGES);
    let proxy = proxy(&server);
    let mut deaf = subscriber(&proxy);
    let before = peak_memory(proxy.pid());
    // It holds something, and then no more of the 64 MiB.
    eventually("messages", || (proxy.stats()["buffered_bytes"].as_u64().unwrap() > 100 << 10).then_some(()));
    let mut other = proxy.client();
    (0..200).for_each(|_| assert_eq!(other.ask("SET k v"), "+OK"));
    let peak = peak_memory(proxy.pid());
    assert!(peak < before + (16 << 20), "{before} bytes before, {peak} at the peak");
    assert_eq!(proxy.stats()["cache"]["client_cut_overload"], 0);
    // It reads at last, and has lost nothing.
    go.send(()).unwrap();
    let mut numbers = Vec::new();
    for _ in 0..=MESSAGES {
        let reply = deaf.reply();
        match reply.strip_prefix("[\"message\" \"a\" \"") {
            Some(number) => numbers.push(number.trim_end_matches("\"]").parse::<usize>().unwrap()),
            None => assert_eq!(reply, "[\"subscribe\" \"b\" 2]"),
        }
    }
    assert!(numbers.iter().copied().eq(0..MESSAGES));
    let peak = peak_memory(proxy.pid());
    assert!(peak < before + (16 << 20), "{before} bytes before, {peak} at the peak");
}

/// Confirms what it is asked for as long as it is well; otherwise it hangs up.
fn mortal() -> (Fake, Arc<AtomicBool>) {
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = dead.clone();
    let server = Fake::start(move |_, talk| {
        while let Some(request) = talk.request().filter(|_| !is_dead.load(SeqCst)) {
            match &request.to_uppercase()[..] {
                "SUBSCRIBE A" => talk.say(confirmed("a", 1)),
                "UNSUBSCRIBE A" => talk.say("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"),
                _ => talk.say("+OK\r\n"),
            }
        }
    });
    (server, dead)
}

/// A proxy whose client is subscribed and has lost its server.
fn without_a_line() -> (Fake, Outrigger, Client) {
    let (server, dead) = mortal();
    let pool = Pool::new("cache", "redis", &[server.entry()]);
    let mut proxy = Outrigger::start_with("workers: 1\ndrain_timeout: 20s\n", [pool]);
    ["connection lost", "subscriptions lost", "cannot connect"].iter().for_each(|text| proxy.announce(text));
    let mut client = proxy.client();
    assert_eq!(client.ask("SUBSCRIBE a"), "[\"subscribe\" \"a\" 1]");
    dead.store(true, SeqCst);
    server.hang_up();
    eventually("the loss", || proxy.log().contains("subscriptions lost").then_some(()));
    (server, proxy, client)
}

#[test]
fn a_subscriber_whose_servers_are_gone_does_not_hold_up_a_drain() {
    let (_server, mut proxy, mut client) = without_a_line();
    proxy.signal(Signal::TERM);
    client.expect_closed();
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(!proxy.log().contains("drain limit reached"), "{}", proxy.log());
}

#[test]
fn a_subscriber_whose_servers_are_gone_goes_along_at_an_upgrade_when_it_leaves() {
    let (_server, mut proxy, mut client) = without_a_line();
    proxy.upgrade();
    assert_eq!(client.ask("UNSUBSCRIBE a"), "[\"unsubscribe\" \"a\" 0]");
    assert_eq!(client.ask("PING"), "+PONG");
    proxy.expect_end_of_replaced();
    assert_eq!(client.ask("PING"), "+PONG");
    assert!(!proxy.log().contains("drain limit reached"), "{}", proxy.log());
}

/// It asked to leave what it never had: nothing is asked of any server for that.
#[test]
fn who_has_left_without_having_subscribed_is_no_subscriber() {
    let (server, _) = mortal();
    let pool = Pool::new("cache", "redis", &[server.entry()]);
    let mut proxy = Outrigger::start_with("workers: 1\ndrain_timeout: 20s\n", [pool]);
    let mut clients = [(); 2].map(|()| proxy.client());
    for client in &mut clients {
        assert_eq!(client.ask("UNSUBSCRIBE"), "[\"unsubscribe\" nil 0]");
        assert_eq!(client.ask("UNSUBSCRIBE z"), "[\"unsubscribe\" \"z\" 0]");
    }
    proxy.upgrade();
    proxy.expect_end_of_replaced();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), "+PONG"));
    proxy.signal(Signal::TERM);
    clients.iter_mut().for_each(Client::expect_closed);
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(!proxy.log().contains("drain limit reached"), "{}", proxy.log());
}
