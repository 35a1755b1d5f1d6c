//! Connections that a client has to itself, through the whole proxy: what becomes of them, and of clients that block on them,
//! when the server or the configuration goes, and what is counted.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Client, Fake, Outrigger, Pool, Server, eventually};

/// Answers everything with +OK but BLPOP, which it never answers.
fn server() -> Fake {
    Fake::start(|_, talk| {
        while let Some(request) = talk.request() {
            match request.split(' ').next() {
                Some("BLPOP") => return talk.stall(),
                _ => talk.say("+OK\r\n"),
            }
        }
    })
}

fn pool(servers: &[String]) -> Pool {
    Pool::new("cache", "redis", servers)
}

/// A metric of the server `one`.
fn metric(proxy: &Outrigger, name: &str, label: &str) -> u64 {
    let text = proxy.http("GET", "/metrics").body;
    let is_it = |line: &&str| line.starts_with(name) && line.contains("server=\"one\"") && line.contains(label);
    let line = text.lines().find(is_it).unwrap_or_else(|| panic!("no {name} {label} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn in_use(proxy: &Outrigger) -> u64 {
    metric(proxy, "outrigger_server_dedicated_connections{", "state=\"in_use\"")
}

/// As a Redis whose user may do everything but DISCARD: a transaction goes on after that.
fn without_discard() -> Fake {
    Fake::start(|number, talk| {
        let mut queued = None::<Vec<String>>;
        while let Some(request) = talk.request() {
            let word = request.split(' ').next().unwrap();
            talk.say(match (word, &mut queued) {
                ("DISCARD", _) => "-NOPERM no DISCARD for you\r\n".to_owned(),
                ("WATCH", Some(_)) => "-ERR WATCH inside MULTI is not allowed\r\n".to_owned(),
                ("MULTI", Some(_)) => "-ERR MULTI calls can not be nested\r\n".to_owned(),
                ("MULTI", none) => {
                    *none = Some(Vec::new());
                    "+OK\r\n".to_owned()
                }
                ("EXEC", Some(all)) => {
                    let replies: String = all.iter().map(|request| format!("+{number} {request}\r\n")).collect();
                    let reply = format!("*{}\r\n{replies}", all.len());
                    queued = None;
                    reply
                }
                (_, Some(all)) => {
                    all.push(request);
                    "+QUEUED\r\n".to_owned()
                }
                _ => "+OK\r\n".to_owned(),
            });
        }
    })
}

/// What a server has kept of a transaction must not become part of the next one.
#[test]
fn a_connection_on_which_discard_was_refused_is_not_used_again() {
    for own in [true, false] {
        let server = without_discard();
        let proxy = Outrigger::start_with("workers: 1\n", [pool(&[format!("{} one", server.entry())])]);
        let (mut first, mut second) = (proxy.client(), proxy.client());
        assert_eq!(first.ask("WATCH a"), "+OK");
        assert_eq!(first.ask("MULTI"), "+OK");
        assert_eq!(first.ask("SET a first"), "+QUEUED");
        if own {
            // EXEC cannot succeed any more, so the proxy itself discards.
            assert!(first.ask("SUBSCRIBE a").starts_with('-'));
            assert!(first.ask("EXEC").starts_with("-EXECABORT "));
        } else {
            assert_eq!(first.ask("DISCARD"), "-NOPERM no DISCARD for you");
        }
        next_transaction_is_its_own(&server, &proxy, &mut second);
        // Nor does it keep the first from going on.
        assert_eq!(first.ask("WATCH a"), "+OK");
        assert_eq!(first.ask("UNWATCH"), "+OK");
    }
}

#[test]
fn on_a_shared_connection_no_transaction_stays_open_where_the_proxy_may_not_discard() {
    let server = without_discard();
    let proxy = Outrigger::start_with("workers: 1\n", [pool(&[format!("{} one", server.entry())])]);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    for _ in 0..3 {
        assert_eq!(
            ["MULTI", "SET a first", "EXEC"].map(|request| first.ask(request)),
            ["+OK", "+QUEUED", "[+0 SET a first]"]
        );
        assert_eq!(second.ask("SET a second"), "+OK");
    }
    assert_eq!(server.accepted(), 1);
}

/// A server that carries EXEC out no more than DISCARD, and stays in the transaction.
#[test]
fn a_shared_connection_on_which_a_transaction_may_still_be_open_is_given_up() {
    let server = Fake::start(|_, talk| {
        let mut open = false;
        while let Some(request) = talk.request() {
            talk.say(match request.split(' ').next().unwrap() {
                "EXEC" => "-NOPERM no EXEC for you\r\n",
                "MULTI" if !open => {
                    open = true;
                    "+OK\r\n"
                }
                _ if open => "+QUEUED\r\n",
                _ => "+OK\r\n",
            });
        }
    });
    let proxy = Outrigger::start_with("workers: 1\n", [pool(&[format!("{} one", server.entry())])]);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    for _ in 0..3 {
        assert_eq!(second.ask("SET a second"), "+OK");
        assert_eq!(["MULTI", "SET a first"].map(|request| first.ask(request)), ["+OK", "+QUEUED"]);
        let end = first.ask("EXEC");
        assert!(end.starts_with("-EXECABORT ") && end.contains("no EXEC for you"), "{end}");
        assert_eq!(second.ask("SET a second"), "+OK");
    }
}

/// On another connection than the one before.
#[track_caller]
fn next_transaction_is_its_own(server: &Fake, proxy: &Outrigger, client: &mut Client) {
    until("the one before to be given back", || in_use(proxy) == 0);
    let before = server.accepted();
    assert_eq!(client.ask("WATCH a"), "+OK");
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("SET a second"), "+QUEUED");
    let done = client.ask("EXEC");
    assert!(done.ends_with(" SET a second]") && !done.contains("first"), "{done}");
    assert_eq!(server.accepted(), before + 1);
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// Clients that block, as soon as all do.
fn blocked(proxy: &Outrigger, count: u64) -> Vec<Client> {
    let clients: Vec<Client> = (0..count)
        .map(|_| {
            let mut client = proxy.client();
            client.send("BLPOP a 0\r\n");
            client
        })
        .collect();
    until("clients that block", || in_use(proxy) == count);
    clients
}

/// Writes the file without the line of this server, and has it read.
fn remove(proxy: &Outrigger, entry: &str) {
    let file = proxy.file("outrigger.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    let left: Vec<&str> = text.lines().filter(|line| !line.contains(entry)).collect();
    assert_eq!(left.len() + 1, text.lines().count(), "{text}");
    std::fs::write(&file, left.join("\n")).unwrap();
    proxy.signal(Signal::HUP);
}

#[test]
fn what_is_in_use_and_idle_is_counted_and_a_second_client_gets_what_a_first_gives_back() {
    let server = server();
    let proxy = Outrigger::start_with("workers: 1\n", [pool(&[format!("{} one", server.entry())])]);
    let mut transaction = proxy.client();
    assert_eq!(transaction.ask("WATCH a"), "+OK");
    assert_eq!(in_use(&proxy), 1);
    assert_eq!(transaction.ask("UNWATCH"), "+OK");
    let idle = |proxy: &Outrigger| metric(proxy, "outrigger_server_dedicated_connections{", "state=\"idle\"");
    assert_eq!((in_use(&proxy), idle(&proxy)), (0, 1));
    let mut other = proxy.client();
    assert_eq!(other.ask("WATCH a"), "+OK");
    assert_eq!((in_use(&proxy), idle(&proxy)), (1, 0));
    assert_eq!(metric(&proxy, "outrigger_server_dedicated_connections_opened_total", ""), 1);
    // It goes with its client, as the server still watches.
    drop(other);
    until("its end", || in_use(&proxy) + idle(&proxy) == 0);
    // How long a client blocks says nothing of the server.
    let times = || metric(&proxy, "outrigger_server_request_duration_seconds_count", "");
    let before = times();
    drop(blocked(&proxy, 3));
    until("their end", || in_use(&proxy) == 0);
    assert_eq!(times(), before);
}

#[test]
fn what_is_in_use_and_idle_is_shown_of_each_server() {
    let server = server();
    let proxy = Outrigger::start_with("workers: 1\n", [pool(&[format!("{} one", server.entry())])]);
    let shown = || {
        let connections = proxy.json("/topology")["pools"][0]["servers"][0]["connections"].clone();
        ["connected", "dedicated_in_use", "dedicated_idle"].map(|name| connections[name].as_u64().unwrap())
    };
    assert_eq!(shown(), [0, 0, 0]);
    let waiting = blocked(&proxy, 2);
    until("two in use", || shown() == [2, 2, 0]);
    let mut client = proxy.client();
    for request in ["WATCH a", "UNWATCH"] {
        assert_eq!(client.ask(request), "+OK");
    }
    until("one more that is idle", || shown() == [3, 2, 1]);
    drop(waiting);
    until("those in use to end", || shown() == [1, 0, 1]);
}

#[test]
fn clients_that_block_are_told_when_their_server_is_removed_after_the_drain_limit() {
    let (stays, goes) = (server(), server());
    let entries = [format!("{} one", goes.entry()), format!("{} two", stays.entry())];
    let proxy = Outrigger::start_with("workers: 1\ndrain_timeout: 500ms\n", [pool(&entries)]);
    // Some key of the server that goes.
    let mut clients = Vec::new();
    for key in 0.. {
        let mut client = proxy.client();
        client.send(format!("BLPOP key{key} 0\r\n"));
        client.patience(Duration::from_secs(10));
        clients.push(client);
        thread::sleep(Duration::from_millis(5));
        if in_use(&proxy) == 3 {
            break;
        }
        assert!(key < 100, "no key for the server");
    }
    let start = Instant::now();
    remove(&proxy, &entries[0]);
    let told = |client: &mut Client| {
        client.patience(Duration::from_secs(2));
        client.try_line().map(|line| String::from_utf8_lossy(&line).into_owned()).ok()
    };
    let told: Vec<String> = clients.iter_mut().filter_map(told).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    let reason = "-ERR Server was removed from the configuration (pool cache, server one)";
    assert!(told.iter().all(|line| line.starts_with(reason)), "{told:?}");
    assert!(start.elapsed() >= Duration::from_millis(500));
}

#[test]
fn an_ejection_by_order_ends_what_blocks_at_once() {
    let (one, two) = (server(), server());
    let entries = [format!("{} one", one.entry()), format!("{} two", two.entry())];
    let ejects = pool(&entries).set("auto_eject_hosts: true").set("on_readmit: keep").set("hash_tag: \"{}\"");
    let mut proxy = Outrigger::start_with("workers: 1\n", [ejects]);
    ["server ejected", "server returns", "server is back"].iter().for_each(|text| proxy.announce(text));
    let mut clients: Vec<Client> = Vec::new();
    for key in 0..40 {
        let mut client = proxy.client();
        client.send(format!("BLPOP key{key} 0\r\n"));
        clients.push(client);
    }
    until("clients at both", || one.accepted() + two.accepted() >= 40);
    let of_one = in_use(&proxy);
    assert!((1..40).contains(&of_one), "{of_one}");
    assert_eq!(proxy.http("POST", "/pools/cache/servers/one/eject").status, 200);
    until("their end", || in_use(&proxy) == 0);
    let told = |client: &mut Client| {
        client.patience(Duration::from_millis(100));
        client.try_line().map(|line| String::from_utf8_lossy(&line).into_owned()).ok()
    };
    let told: Vec<String> = clients.iter_mut().filter_map(told).collect();
    assert_eq!(told.len() as u64, of_one);
    assert!(told.iter().all(|line| line.starts_with("-ERR Server is ejected")), "{told:?}");
}

/// Each has a connection of its own, loses it, and wants another one; so do those who block. They must not run for the server all
/// together, neither while it is down nor when it is back.
#[test]
fn hundreds_of_clients_do_not_all_try_a_server_that_is_down() {
    const SUBSCRIBERS: usize = 300;
    let mut server = need!(Server::redis());
    let pool = pool(&[format!("{} one", server.entry())]).set("timeout: 10s");
    let mut proxy = Outrigger::start_with("workers: 2", [pool]);
    ["connection lost", "cannot connect", "subscriptions lost"].iter().for_each(|text| proxy.announce(text));
    let mut subscribers: Vec<Client> = (0..SUBSCRIBERS).map(|_| proxy.client()).collect();
    for client in &mut subscribers {
        assert_eq!(client.ask("SUBSCRIBE news"), "[\"subscribe\" \"news\" 1]");
    }
    let mut blockers: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
    let opened = || metric(&proxy, "outrigger_server_dedicated_connections_opened_total", "");
    let before = opened();
    server.kill();
    let (start, mut refused) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(2500) {
        for client in &mut blockers {
            let reply = client.ask("BLPOP a 1");
            assert!(reply.starts_with("-ERR Connection ") && reply.ends_with("(pool cache, server one)"), "{reply}");
            refused += 1;
        }
    }
    let tried = opened() - before;
    println!("{tried} attempts for {SUBSCRIBERS} subscribers and {refused} requests");
    assert!((4..80).contains(&tried), "{tried} attempts to connect, {refused} requests");
    server.restart();
    let back = Instant::now();
    let mut direct = server.client();
    let all = format!("[\"news\" {SUBSCRIBERS}]");
    until("all to have subscribed again", || direct.ask("PUBSUB NUMSUB news") == all);
    println!("all have subscribed again after {:?}", back.elapsed());
    assert!(opened() - before - tried <= SUBSCRIBERS as u64 + 20, "more than once each");
    assert_eq!(direct.ask("PUBLISH news x"), SUBSCRIBERS.to_string());
    subscribers.iter_mut().for_each(|client| assert_eq!(client.reply(), "[\"message\" \"news\" \"x\"]"));
    assert_eq!(direct.ask("RPUSH a element"), "1");
    assert_eq!(blockers[0].ask("BLPOP a 1"), "[\"a\" \"element\"]");
}
