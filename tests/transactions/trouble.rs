//! Servers that die, stop, are ejected or removed in the middle of transactions; a proxy that drains.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::need;
use crate::support::ensemble::{Ensemble, pipeline};
use crate::support::{Client, Fake, Outrigger, Pool, eventually};

/// Where in a transaction something happens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Watched,
    Begun,
    Queued,
}

const ALL: [When; 3] = [When::Watched, When::Begun, When::Queued];

/// A client that far in a transaction on this key.
fn begun(ensemble: &Ensemble, key: &str, when: When) -> Client {
    let mut client = ensemble.client(2);
    assert_eq!(client.ask(&format!("WATCH {key}")), "+OK");
    if when != When::Watched {
        assert_eq!(client.ask("MULTI"), "+OK");
    }
    if when == When::Queued {
        assert_eq!(client.ask(&format!("SET {key} queued")), "+QUEUED");
    }
    client
}

/// The rest of the transaction. What it may say at its end, and that nothing was done.
fn go_on(client: &mut Client, key: &str, when: When) -> String {
    if when == When::Watched {
        // Another WATCH must not make it forget that the first has seen nothing of what happened.
        let again = client.ask(&format!("WATCH {key}"));
        assert!(again == "+OK" || again.starts_with("-ERR "), "{again}");
        assert_eq!(client.ask("MULTI"), "+OK");
    }
    let queued = client.ask(&format!("SET {key} late"));
    assert!(queued == "+QUEUED" || queued.starts_with("-ERR transaction lost: "), "{when:?}: {queued}");
    let end = client.ask("EXEC");
    assert!(end == "nil" || end.starts_with("-EXECABORT "), "{when:?}: {end}");
    assert_eq!(client.ask("EXEC"), "-ERR EXEC without MULTI");
    end
}

#[test]
fn a_server_killed_in_the_middle_is_told_of_and_nothing_is_half_done() {
    let mut ensemble = need!(Ensemble::start(3, &["server_failure_limit: 1000"]));
    ensemble.announce_trouble();
    let (key, other) = (ensemble.key(1).to_owned(), ensemble.key(0).to_owned());
    let mut clients = ALL.map(|when| (when, begun(&ensemble, &key, when)));
    let mut elsewhere = begun(&ensemble, &other, When::Queued);
    ensemble.servers[1].restart();
    eventually("the proxy to notice", || (ensemble.in_use() == 1).then_some(()));
    for (when, client) in &mut clients {
        let end = go_on(client, &key, *when);
        // What only watched has seen a change, as far as anybody knows.
        assert_eq!(end == "nil", *when != When::Queued, "{when:?}: {end}");
        assert_eq!(client.ask(&format!("GET {key}")), "nil");
        client.send(pipeline(["MULTI", &format!("INCR n{key}"), &format!("DECR n{key}"), "EXEC"]));
        assert_eq!(client.reply(), "+OK");
        assert_eq!((client.reply(), client.reply()), ("+QUEUED".into(), "+QUEUED".into()));
        assert_eq!(client.reply(), "[1 0]");
    }
    assert_eq!(elsewhere.ask("EXEC"), "[+OK]");
    // Dead: no transaction begins, none hangs.
    ensemble.servers[1].kill();
    let client = &mut clients[0].1;
    eventually("a refusal", || {
        client.send(pipeline(["MULTI", &format!("SET {key} 1"), "EXEC"]));
        assert_eq!(client.reply(), "+OK");
        assert_eq!(client.reply(), "+QUEUED");
        let end = client.reply();
        assert!(end.starts_with("-EXECABORT "), "{end}");
        end.contains("refused").then_some(())
    });
    drop((clients, elsewhere));
    ensemble.expect_all_given_back();
}

/// A server that does all but answer EXEC, and hangs up instead.
#[test]
fn a_loss_at_exec_is_an_error_and_the_next_transaction_gets_its_own_replies() {
    let server = Fake::start(|number, talk| {
        let mut queued = 0;
        while let Some(request) = talk.request() {
            queued += 1;
            match request.split(' ').next().unwrap() {
                "MULTI" => {
                    queued = 0;
                    talk.say("+OK\r\n");
                }
                // Before the first transaction it is asked whether it takes any.
                "EXEC" if queued == 1 => talk.say("*0\r\n"),
                "EXEC" if number < 3 => return,
                "EXEC" => talk.say(format!("*1\r\n:{number}\r\n")),
                "GET" => talk.say("$5\r\nplain\r\n"),
                _ => talk.say("+QUEUED\r\n"),
            }
        }
    });
    let mut proxy = Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &[server.entry()])]);
    proxy.announce("connection lost");
    let mut client = proxy.client();
    let mut ends = Vec::new();
    // Several in one go: those after a loss are not taken for a part of what was lost.
    for _ in 0..5 {
        let all: Vec<&str> = (0..3).flat_map(|_| ["MULTI", "SET a 1", "EXEC", "GET a"]).collect();
        client.send(pipeline(&all));
        for _ in 0..3 {
            assert_eq!((client.reply(), client.reply()), ("+OK".into(), "+QUEUED".into()));
            ends.push(client.reply());
            assert_eq!(client.reply(), "\"plain\"");
        }
    }
    let lost = ends.iter().filter(|end| end.starts_with("-ERR Connection closed")).count();
    let good = ends.iter().filter(|end| end.starts_with('[')).count();
    assert_eq!((lost + good, lost > 0, good > 0), (15, true, true), "{ends:?}");
}

#[test]
fn a_server_that_does_not_know_transactions_is_sent_nothing_outside_of_them() {
    let server = Fake::start(|_, talk| {
        while let Some(request) = talk.request() {
            match request.split(' ').next().unwrap() {
                "MULTI" => talk.say("-NOPERM no MULTI for you\r\n"),
                "DISCARD" | "EXEC" => talk.say("-ERR without MULTI\r\n"),
                "GET" => talk.say("$5\r\nplain\r\n"),
                _ => talk.say("+done\r\n"),
            }
        }
    });
    let proxy = Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &[server.entry()])]);
    let mut client = proxy.client();
    for keyless in [false, true] {
        let first = if keyless { "PING" } else { "SET a 1" };
        client.send(pipeline(["MULTI", first, "SET a 2", "SET a 3", "EXEC", "GET a"]));
        assert_eq!(client.reply(), "+OK");
        assert_eq!([(); 3].map(|()| client.reply()), ["+QUEUED"; 3]);
        let end = client.reply();
        assert!(end.starts_with("-EXECABORT ") && end.contains("NOPERM"), "{end}");
        assert_eq!(client.reply(), "\"plain\"");
    }
}

#[test]
fn a_server_that_stops_answers_no_later_transaction_with_what_it_still_owes() {
    let mut ensemble = need!(Ensemble::start(2, &["timeout: 200", "server_failure_limit: 1000"]));
    ensemble.announce_trouble();
    let (key, other) = (ensemble.key(0).to_owned(), ensemble.key(1).to_owned());
    let mut client = begun(&ensemble, &key, When::Queued);
    let mut idle = begun(&ensemble, &key, When::Watched);
    ensemble.servers[0].pause();
    let start = Instant::now();
    client.send(pipeline(["EXEC", &format!("GET {other}"), "MULTI", &format!("SET {key} again"), "EXEC"]));
    assert!(client.reply().contains("timed out"));
    assert!(start.elapsed() >= Duration::from_millis(190));
    assert_eq!(client.reply(), "nil");
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.reply(), "+QUEUED");
    let end = client.reply();
    assert!(end.starts_with("-EXECABORT ") && end.contains("timed out"), "{end}");
    ensemble.servers[0].resume();
    for round in 0..20 {
        client.send(pipeline(["MULTI", &format!("ECHO {round}"), &format!("STRLEN n{key}"), "EXEC"]));
        let replies = [(); 4].map(|()| client.reply());
        if replies[3] == format!("[\"{round}\" 0]") {
            break;
        }
        assert!(replies[3].starts_with('-') && round < 19, "{replies:?}");
    }
    // Who was not asked anything meanwhile goes on.
    assert_eq!(idle.ask("MULTI"), "+OK");
    assert_eq!(idle.ask(&format!("GET {key}")), "+QUEUED");
    let end = idle.ask("EXEC");
    assert!(end == "nil" || end == "[nil]", "{end}");
    drop((client, idle));
    ensemble.expect_all_given_back();
}

#[test]
fn an_ejection_in_the_middle_spoils_the_transaction_and_the_next_goes_elsewhere() {
    let ejects = ["auto_eject_hosts: true", "on_readmit: keep", "server_retry_timeout: 60000"];
    // Workers go by an ejection each in its own time.
    let mut ensemble = need!(Ensemble::start_with("workers: 1\n", 2, &[], &ejects));
    ensemble.announce_trouble();
    let key = ensemble.key(0).to_owned();
    let mut clients = ALL.map(|when| (when, begun(&ensemble, &key, when)));
    let path = |what: &str| format!("/pools/cache/servers/{}/{what}", ensemble.servers[0].name());
    let response = ensemble.proxy.http("POST", &path("eject"));
    assert_eq!(response.status, 200, "{}", response.body);
    ensemble.expect_all_given_back();
    for (when, client) in &mut clients {
        let end = go_on(client, &key, *when);
        assert_eq!(end == "nil", *when != When::Queued, "{when:?}: {end}");
        client.send(pipeline(["MULTI", &format!("SET {key} {when:?}"), "EXEC"]));
        assert_eq!([(); 3].map(|()| client.reply()), ["+OK", "+QUEUED", "[+OK]"]);
    }
    assert_eq!(ensemble.servers[1].client().ask(&format!("GET {key}")), "\"Queued\"");
    assert_eq!(ensemble.servers[0].client().ask(&format!("EXISTS {key}")), "0");
    // In the middle of a transaction with the other server the first comes back, and its key with it.
    let mut client = begun(&ensemble, &key, When::Queued);
    assert_eq!(ensemble.proxy.http("POST", &path("admit")).status, 200);
    let mut watcher = ensemble.client(2);
    eventually("the key to go home", || {
        watcher.ask(&format!("SET {key} home"));
        (ensemble.servers[0].client().ask(&format!("GET {key}")) == "\"home\"").then_some(())
    });
    let refused = client.ask(&format!("SET {key} late"));
    assert!(refused.starts_with("-ERR 'SET' within a transaction"), "{refused}");
    assert!(client.ask("EXEC").starts_with("-EXECABORT"));
    drop((client, watcher, clients));
    ensemble.expect_all_given_back();
}

#[test]
fn transactions_go_on_over_reloads_and_end_with_their_server() {
    let globals = "workers: 2\ndrain_timeout: 700ms\n";
    let mut ensemble = need!(Ensemble::start_with(globals, 3, &[], &[]));
    ensemble.announce_trouble();
    let key = ensemble.key(0).to_owned();
    // Settings change, names too; servers stay.
    let mut clients = ALL.map(|when| (when, begun(&ensemble, &key, when)));
    ensemble.reload("    hash: murmur\n", "    hash: murmur\n    timeout: 5000\n");
    for (when, client) in &mut clients {
        if *when == When::Watched {
            assert_eq!(client.ask("MULTI"), "+OK");
        }
        if *when == When::Begun {
            assert_eq!(client.ask("DISCARD"), "+OK");
            assert_eq!(client.ask("MULTI"), "+OK");
        }
        assert_eq!(client.ask(&format!("APPEND {key} x")), "+QUEUED");
        let expected = if *when == When::Queued { "nil" } else { "[1]" };
        assert_eq!(client.ask("EXEC").replace('2', "1"), expected);
    }
    drop(clients);
    ensemble.client(2).ask(&format!("DEL {key}"));
    ensemble.expect_all_given_back();
    // Their server leaves: they may go on until the end of the drain.
    let mut quick = begun(&ensemble, &key, When::Queued);
    let mut slow = begun(&ensemble, &key, When::Queued);
    ensemble.reload(&ensemble.line(0), "");
    assert_eq!(quick.ask("PING"), "+QUEUED");
    assert_eq!(quick.ask("EXEC"), "[+OK +PONG]");
    assert_eq!(quick.ask(&format!("GET {key}")), "nil", "the key is elsewhere now");
    assert_eq!(ensemble.servers[0].client().ask(&format!("GET {key}")), "\"queued\"");
    ensemble.until_listed(0, " multi=1 ", 0);
    let lost = slow.ask("PING");
    assert!(lost.starts_with("-ERR transaction lost: Server was removed"), "{lost}");
    assert!(slow.ask("EXEC").starts_with("-EXECABORT "));
    slow.send(pipeline(["MULTI", &format!("SET {key} moved"), "EXEC"]));
    assert_eq!([(); 3].map(|()| slow.reply()), ["+OK", "+QUEUED", "[+OK]"]);
    assert_eq!(quick.ask(&format!("GET {key}")), "\"moved\"");
    drop((quick, slow));
    ensemble.expect_all_given_back();
}

#[test]
fn a_pool_that_is_removed_lets_transactions_end() {
    let servers = need!(crate::support::Server::three(crate::support::Server::redis));
    let [one, two, _] = &servers;
    let pools = [Pool::redis("stays", std::slice::from_ref(one)), Pool::redis("goes", std::slice::from_ref(two))];
    let mut proxy = Outrigger::start_with("workers: 2\ndrain_timeout: 1s\n", pools);
    proxy.announce("drain limit reached, closing the sessions of a removed pool");
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.client_of(1)).collect();
    for client in &mut clients[..2] {
        assert_eq!(client.ask("MULTI"), "+OK");
        assert_eq!(client.ask("INCR a"), "+QUEUED");
    }
    let file = proxy.file("outrigger.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.find("  goes:").unwrap()]).unwrap();
    proxy.signal(Signal::HUP);
    clients.remove(2).expect_closed();
    assert_eq!(clients[0].ask("INCR a"), "+QUEUED");
    assert_eq!(clients[0].ask("EXEC"), "[1 2]");
    clients[0].expect_closed();
    clients[1].expect_closed();
    assert_eq!(two.client().ask("GET a"), "\"2\"");
}

#[test]
fn a_drain_lets_transactions_end_but_not_for_ever() {
    let mut ensemble = need!(Ensemble::start_with("workers: 2\ndrain_timeout: 1s\n", 1, &[], &[]));
    ensemble.proxy.announce("drain limit reached");
    let mut clients = ALL.map(|when| (when, begun(&ensemble, "a", when)));
    let mut idle = ensemble.client(2);
    assert_eq!(idle.ask("PING"), "+PONG");
    let mut stays = begun(&ensemble, "a", When::Queued);
    ensemble.proxy.signal(Signal::TERM);
    idle.expect_closed();
    for (when, client) in &mut clients {
        if *when == When::Watched {
            assert_eq!(client.ask("GET b"), "nil");
            assert_eq!(client.ask("MULTI"), "+OK");
        }
        assert_eq!(client.ask(&format!("SET b {when:?}")), "+QUEUED");
        let end = client.ask("EXEC");
        assert!(end.starts_with('[') || end == "nil", "{when:?}: {end}");
        client.expect_closed();
    }
    stays.expect_closed();
    assert_eq!(ensemble.proxy.wait().code(), Some(0));
    assert_eq!(ensemble.servers[0].client().ask("GET b"), "\"Queued\"");
}

#[test]
fn an_upgrade_takes_clients_along_after_their_transactions() {
    let mut ensemble = need!(Ensemble::start_with("workers: 2\ndrain_timeout: 5s\n", 3, &[], &[]));
    let key = ensemble.key(1).to_owned();
    let mut clients: Vec<(When, Client)> = ALL.map(|when| (when, begun(&ensemble, &key, when))).into();
    // Those whose transactions are over go at once.
    let mut done = ensemble.client(2);
    done.send(pipeline(["MULTI", &format!("SET {key} 1"), "EXEC", "CLIENT SETNAME done"]));
    assert_eq!([(); 4].map(|()| done.reply()), ["+OK", "+QUEUED", "[+OK]", "+OK"]);
    ensemble.proxy.upgrade();
    assert_eq!(done.ask("CLIENT GETNAME"), "\"done\"");
    for (when, client) in &mut clients {
        if *when == When::Watched {
            assert_eq!(client.ask("MULTI"), "+OK");
        }
        // What follows the transaction in the same go is for the next process.
        client.send(pipeline([&format!("GET {key}"), "EXEC", "CLIENT SETNAME me", &format!("SET {key} {when:?}")]));
        assert_eq!(client.reply(), "+QUEUED");
        assert_eq!(client.reply(), "nil", "a watched key was changed");
        assert_eq!((client.reply(), client.reply()), ("+OK".into(), "+OK".into()));
        assert_eq!(client.ask("CLIENT GETNAME"), "\"me\"");
    }
    ensemble.proxy.expect_end_of_replaced();
    for (_, client) in &mut clients {
        assert_eq!(client.ask("CLIENT GETNAME"), "\"me\"");
        client.send(pipeline(["MULTI", &format!("GET {key}"), "EXEC"]));
        assert_eq!([(); 3].map(|()| client.reply()), ["+OK", "+QUEUED", "[\"Queued\"]"]);
    }
    drop((clients, done));
    ensemble.expect_all_given_back();
}
