//! Requests that wait on their server, through the proxy, over real servers.

mod support;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use support::client::resp;
use support::ensemble::{Ensemble, compare, pipeline};
use support::{Client, Server, eventually};

/// A client that has sent this and waits, as the server at this place can tell.
fn blocked(ensemble: &Ensemble, server: usize, version: u8, request: &str) -> Client {
    let mut direct = ensemble.servers[server].client();
    let count = |direct: &mut Client| {
        let info = direct.ask("INFO clients");
        let text = info.split("blocked_clients:").nth(1).unwrap();
        text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().unwrap()
    };
    let before = count(&mut direct);
    let mut client = ensemble.client(version);
    client.send(pipeline([request]));
    eventually(&format!("{request} to wait"), || (count(&mut direct) > before).then_some(()));
    client
}

#[track_caller]
fn until_nobody_waits(ensemble: &Ensemble, server: usize) {
    let mut direct = ensemble.servers[server].client();
    eventually("nobody to wait", || direct.ask("INFO clients").contains("blocked_clients:0").then_some(()));
}

#[test]
fn with_one_server_what_need_not_wait_answers_as_redis_does() {
    let ensemble = need!(Ensemble::start(1, &["allow_admin_commands: true"]));
    compare(
        &ensemble,
        "0 RPUSH l a b c d e f g h i j k
         0 BLPOP none l 0
         0 BRPOP l none 1
         0 BLPOP none 0.01
         0 BRPOP none other 0.02
         0 BLMOVE l m LEFT RIGHT 0
         0 BRPOPLPUSH l m 0
         0 BRPOPLPUSH none m 0.01
         0 BLMOVE none m LEFT LEFT 0.01
         0 BLMPOP 0.01 1 none LEFT
         0 BLMPOP 0 2 none l LEFT COUNT 2
         0 BLPOP l
         0 BLPOP l nonsense
         0 BLPOP l -1
         0 BLPOP none 1e300
         0 BLPOP l inf
         0 BLMPOP x 1 l LEFT
         0 BLMPOP 0 0 l LEFT
         0 SET s text
         0 BLPOP s 0
         0 BLPOP none s 0
         0 ZADD z 1 one 2 two 3 three 4 four
         0 BZPOPMIN none z 0
         0 BZPOPMAX z 0.5
         0 BZPOPMIN none 0.01
         0 BZMPOP 0 1 z MIN
         0 BZMPOP 0.01 1 none MAX
         0 XADD x 1-1 f v
         0 XREAD BLOCK 0 STREAMS x 0
         0 XREAD BLOCK 10 STREAMS x $
         0 XREAD BLOCK -1 STREAMS x $
         0 XREAD COUNT 1 BLOCK 1 STREAMS x none 0 0
         0 XGROUP CREATE x g 0
         0 XREADGROUP GROUP g c BLOCK 0 STREAMS x >
         0 XREADGROUP GROUP g c BLOCK 10 STREAMS x >
         0 XREADGROUP GROUP g c STREAMS x 0
         0 XREADGROUP GROUP none c BLOCK 0 STREAMS x >
         0 WAIT 0 10
         0 WAIT 1 1
         0 WAIT x 0
         0 WAIT 0 -1
         0 WAIT 0
         0 BLPOP l 0
         0 PING",
    );
    ensemble.expect_all_given_back();
}

#[test]
fn who_waits_is_woken_by_another_client_on_any_server() {
    let ensemble = need!(Ensemble::start(3, &["hash_tag: \"{}\""]));
    let mut other = ensemble.client(2);
    for version in [2, 3] {
        for server in 0..3 {
            let key = format!("{{{}}}", ensemble.key(server));
            let waits = |request: &str, wakes: &str, reply: &str| {
                let mut client = blocked(&ensemble, server, version, &request.replace('@', &key));
                let woken = ensemble.client(2).ask(&wakes.replace('@', &key));
                assert!(!woken.starts_with('-'), "{wakes}: {woken}");
                assert_eq!(client.reply(), reply.replace('@', &key), "{request}");
            };
            waits("BLPOP @a @b 0", "RPUSH @b x", "[\"@b\" \"x\"]");
            waits("BRPOP @a 5", "RPUSH @a x", "[\"@a\" \"x\"]");
            waits("BLMOVE @a @b LEFT RIGHT 0", "RPUSH @a x", "\"x\"");
            waits("BRPOPLPUSH @a @b 0", "RPUSH @a y", "\"y\"");
            waits("BLMPOP 0 2 @a @c LEFT", "RPUSH @c z", "[\"@c\" [\"z\"]]");
            waits(
                "BZPOPMIN @z 0",
                "ZADD @z 1 m",
                if version == 2 { "[\"@z\" \"m\" \"1\"]" } else { "[\"@z\" \"m\" +1]" },
            );
            let pair = if version == 2 { "[\"@z\" [[\"m\" \"1\"]]]" } else { "[\"@z\" [[\"m\" +1]]]" };
            waits("BZMPOP 0 1 @z MIN", "ZADD @z 1 m", pair);
            let entry = match version {
                2 => "[[\"@x\" [[\"1-1\" [\"f\" \"v\"]]]]]",
                _ => "[\"@x\" [[\"1-1\" [\"f\" \"v\"]]]]",
            };
            waits("XREAD BLOCK 0 STREAMS @y @x 0 0", "XADD @x 1-1 f v", entry);
            assert_eq!(ensemble.client(2).ask(&format!("XGROUP CREATE {key}x g $")), "+OK");
            let entry = entry.replace("1-1", "1-2");
            waits("XREADGROUP GROUP g c BLOCK 0 STREAMS @x >", "XADD @x 1-2 f v", &entry);
            other.ask(&format!("DEL {key}a {key}b {key}c {key}x {key}z"));
        }
    }
    ensemble.expect_all_given_back();
    // Keys of two servers are refused before anything waits.
    let apart = (ensemble.key(0), ensemble.key(1));
    let (one, two) = apart;
    let requests = [
        format!("BLPOP {one} {two} 0"),
        format!("BLMOVE {one} {two} LEFT LEFT 0"),
        format!("XREAD BLOCK 0 STREAMS {one} {two} 0 0"),
        format!("BZMPOP 0 2 {one} {two} MIN"),
    ];
    for request in requests {
        let reply = other.ask(&request);
        assert!(reply.starts_with("-ERR ") && reply.contains(&ensemble.servers[1].name()), "{request}: {reply}");
    }
    ensemble.expect_all_given_back();
}

#[test]
fn the_times_of_requests_are_kept() {
    let ensemble = need!(Ensemble::start(2, &["timeout: 100"]));
    let mut client = ensemble.client(2);
    for (request, millis) in [("BLPOP a 0.05", 50), ("BLPOP a 0.4", 400), ("XREAD BLOCK 300 STREAMS s $", 300)] {
        let start = Instant::now();
        assert_eq!(client.ask(request), "nil");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(millis), "{request}: {took:?}");
    }
    // Longer than `timeout`, and for ever: that is no failure of the server.
    let waits = blocked(&ensemble, usize::from(ensemble.keys(1).iter().any(|key| key == "k0")), 2, "BLPOP k0 0");
    thread::sleep(Duration::from_millis(400));
    assert_eq!(ensemble.in_use(), 1);
    assert_eq!(ensemble.metric("outrigger_server_failures_total", ""), 0);
    drop(waits);
    ensemble.expect_all_given_back();
}

#[test]
fn what_is_behind_a_waiting_request_is_answered_after_it() {
    let ensemble = need!(Ensemble::start(3, &[]));
    let (here, there) = (ensemble.key(0), ensemble.key(1));
    let mut other = ensemble.client(2);
    for version in [2, 3] {
        let before = [format!("SET {there} before"), format!("SET {here}s 1")];
        let requests = [
            format!("BLPOP {here} 0"),
            format!("GET {there}"),
            format!("SET {there} after"),
            "MULTI".into(),
            format!("GET {there}"),
            "EXEC".into(),
            format!("BLPOP {here} 0.02"),
            "PING".into(),
        ];
        let mut client = ensemble.client(version);
        client.send(pipeline(before.iter().chain(&requests)));
        assert_eq!((client.reply(), client.reply()), ("+OK".into(), "+OK".into()));
        eventually("the wait", || (ensemble.in_use() == 1).then_some(()));
        // Nothing behind it was done yet.
        assert_eq!(other.ask(&format!("GETSET {there} meanwhile")), "\"before\"");
        assert_eq!(other.ask(&format!("RPUSH {here} x")), "1");
        let null = "nil";
        let replies: Vec<String> = requests.iter().map(|_| client.reply()).collect();
        let expected =
            [&format!("[\"{here}\" \"x\"]"), "\"meanwhile\"", "+OK", "+OK", "+QUEUED", "[\"after\"]", null, "+PONG"];
        assert_eq!(replies, expected);
        // Unheard ones, too.
        let mut silent = ensemble.client(version);
        silent.send(pipeline(["CLIENT REPLY OFF", &format!("BLPOP {here} 0"), &format!("SET {there} silent")]));
        eventually("the wait", || (ensemble.in_use() == 1).then_some(()));
        assert_eq!(other.ask(&format!("GET {there}")), "\"after\"");
        other.ask(&format!("RPUSH {here} x"));
        silent.send(pipeline(["CLIENT REPLY ON", &format!("GET {there}")]));
        assert_eq!((silent.reply(), silent.reply()), ("+OK".into(), "\"silent\"".into()));
    }
    ensemble.expect_all_given_back();
}

#[test]
fn much_behind_a_waiting_request_is_kept_or_left_in_the_socket() {
    let globals = "workers: 2\nlimits:\n  max_session_bytes: 128KiB\n";
    let ensemble = need!(Ensemble::start_with(globals, 1, &[], &[]));
    let value = "v".repeat(10_000);
    let mut client = ensemble.client(2);
    let sets = (0..300).map(|n| format!("SET key{n} {value}"));
    client.send_aside(pipeline(std::iter::once("BLPOP a 0".to_owned()).chain(sets)));
    eventually("the wait", || (ensemble.in_use() == 1).then_some(()));
    let held = ensemble.metric("outrigger_buffered_bytes", "");
    assert!(held < 1_000_000, "{held} bytes held");
    ensemble.client(2).ask("RPUSH a x");
    assert_eq!(client.reply(), "[\"a\" \"x\"]");
    (0..300).for_each(|_| assert_eq!(client.reply(), "+OK"));
    ensemble.expect_all_given_back();
}

#[test]
fn a_client_that_goes_waits_no_more_and_nothing_is_lost_with_it() {
    let ensemble = need!(Ensemble::start(2, &[]));
    let key = ensemble.key(1);
    let mut other = ensemble.client(2);
    for version in [2, 3] {
        for behind in ["", "PING", "half"] {
            let mut client = blocked(&ensemble, 1, version, &format!("BLPOP {key} 0"));
            match behind {
                "" => {}
                "half" => client.send("*2\r\n$3\r\nGET"),
                request => client.send(pipeline([request])),
            }
            drop(client);
            until_nobody_waits(&ensemble, 1);
            assert_eq!(other.ask(&format!("RPUSH {key} x")), "1");
            assert_eq!(other.ask(&format!("LRANGE {key} 0 -1")), "[\"x\"]");
            other.ask(&format!("DEL {key}"));
        }
    }
    // One that says no more is gone as well, as with Redis.
    let mut client = blocked(&ensemble, 1, 2, &format!("BLPOP {key} 0"));
    client.half_close();
    client.expect_closed();
    until_nobody_waits(&ensemble, 1);
    ensemble.expect_all_given_back();
    // A crowd that comes and goes leaves nothing behind.
    for _ in 0..3 {
        let clients: Vec<Client> = (0..50)
            .map(|_| {
                let mut client = ensemble.client(2);
                client.send(pipeline([format!("BLPOP {key} 0")]));
                client
            })
            .collect();
        eventually("all to wait", || (ensemble.in_use() == 50).then_some(()));
        drop(clients);
        ensemble.expect_all_given_back();
    }
    until_nobody_waits(&ensemble, 1);
    assert_eq!(other.ask(&format!("RPUSH {key} x")), "1");
    assert_eq!(other.ask(&format!("LPOP {key}")), "\"x\"");
}

#[test]
fn elements_and_waiting_clients_meet_one_to_one() {
    let ensemble = need!(Ensemble::start(2, &[]));
    let key = ensemble.key(0);
    let (clients, each) = (20, 25);
    let got: Vec<String> = thread::scope(|scope| {
        let readers: Vec<_> = (0..clients)
            .map(|number| {
                let ensemble = &ensemble;
                scope.spawn(move || {
                    let mut client = ensemble.client(if number % 2 == 0 { 2 } else { 3 });
                    let request = format!("BLPOP {key} 0");
                    (0..each).map(|_| client.ask(&request)).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut writer = ensemble.client(2);
        for number in 0..clients * each {
            assert!(!writer.ask(&format!("RPUSH {key} {number}")).starts_with('-'));
        }
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    let mut got: Vec<&String> = got.iter().collect();
    got.sort();
    let mut expected: Vec<String> = (0..clients * each).map(|n| format!("[\"{key}\" \"{n}\"]")).collect();
    expected.sort();
    assert!(got.into_iter().eq(&expected));
    ensemble.expect_all_given_back();
}

#[test]
fn a_server_that_dies_ends_the_wait_with_an_error() {
    let mut ensemble = need!(Ensemble::start(2, &["server_failure_limit: 1000"]));
    ensemble.announce_trouble();
    let key = ensemble.key(1).to_owned();
    let mut clients: Vec<Client> = (0..3).map(|_| blocked(&ensemble, 1, 2, &format!("BLPOP {key} 0"))).collect();
    clients[0].send(pipeline(["PING"]));
    ensemble.servers[1].kill();
    for client in &mut clients {
        let error = client.reply();
        assert!(error.starts_with("-ERR Connection closed") || error.starts_with("-ERR Connection reset"), "{error}");
    }
    assert_eq!(clients[0].reply(), "+PONG");
    // Now it cannot even be asked.
    eventually("a refusal", || clients[1].ask(&format!("BLPOP {key} 0")).contains("refused").then_some(()));
    ensemble.servers[1].restart();
    eventually("its return", || clients[1].ask(&format!("RPUSH {key} x")).starts_with('1').then_some(()));
    eventually("an element", || {
        (clients[2].ask(&format!("BLPOP {key} 1")) == format!("[\"{key}\" \"x\"]")).then_some(())
    });
    drop(clients);
    ensemble.expect_all_given_back();
}

#[test]
fn a_server_that_stops_is_found_out_by_probes_and_not_before() {
    let lines = [
        "timeout: 300",
        "auto_eject_hosts: true",
        "server_failure_limit: 3",
        "server_retry_timeout: 300",
        "probe_interval: 100ms",
        "probe_timeout: 100ms",
        "on_readmit: keep",
    ];
    let mut ensemble = need!(Ensemble::start(2, &lines));
    ensemble.announce_trouble();
    let key = ensemble.key(1).to_owned();
    let mut ever = blocked(&ensemble, 1, 2, &format!("BLPOP {key} 0"));
    let mut long = blocked(&ensemble, 1, 3, &format!("BLPOP {key} 100"));
    ensemble.servers[1].pause();
    let start = Instant::now();
    for client in [&mut ever, &mut long] {
        let error = client.reply();
        assert!(error.starts_with("-ERR Server is ejected"), "{error}");
    }
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    // The key is the other server's now; what it gets there is popped there.
    ever.send(pipeline([format!("BLPOP {key} 0")]));
    eventually("the wait", || (ensemble.in_use() == 1).then_some(()));
    assert_eq!(ensemble.client(2).ask(&format!("RPUSH {key} x")), "1");
    assert_eq!(ever.reply(), format!("[\"{key}\" \"x\"]"));
    ensemble.servers[1].resume();
    drop((ever, long));
    ensemble.expect_all_given_back();
    until_nobody_waits(&ensemble, 1);
}

#[test]
fn without_ejection_a_wait_ends_at_its_own_time() {
    let mut ensemble = need!(Ensemble::start(1, &["timeout: 200"]));
    ensemble.announce_trouble();
    let mut client = blocked(&ensemble, 0, 2, "BLPOP a 0.5");
    let start = Instant::now();
    ensemble.servers[0].pause();
    let error = client.reply();
    let took = start.elapsed();
    assert!(error.contains("timed out") && took >= Duration::from_millis(600), "{error} after {took:?}");
    ensemble.servers[0].resume();
    // The reply of then reaches nobody.
    eventually("the server", || (client.ask("PING") == "+PONG").then_some(()));
    assert_eq!(client.ask("BLPOP a 0.01"), "nil");
    ensemble.expect_all_given_back();
}

#[test]
fn reloads_do_not_disturb_who_waits() {
    let globals = "workers: 2\ndrain_timeout: 500ms\n";
    let mut ensemble = need!(Ensemble::start_with(globals, 3, &[], &[]));
    ensemble.announce_trouble();
    let key = ensemble.key(0).to_owned();
    let mut stays = blocked(&ensemble, 0, 2, &format!("BLPOP {key} 0"));
    stays.send(pipeline(["PING"]));
    ensemble.reload("    hash: murmur\n", "    hash: murmur\n    timeout: 5000\n");
    ensemble.reload(&ensemble.line(1), "");
    let mut direct = ensemble.servers[0].client();
    assert_eq!(direct.ask(&format!("RPUSH {key} x")), "1");
    assert_eq!(stays.reply(), format!("[\"{key}\" \"x\"]"));
    assert_eq!(stays.reply(), "+PONG");
    // Its server goes, and comes back before the limit.
    let mut goes = blocked(&ensemble, 0, 3, &format!("BLPOP {key} 0"));
    goes.send(pipeline(["PING"]));
    let start = Instant::now();
    ensemble.reload(&ensemble.line(0), "");
    let error = goes.reply();
    assert!(error.starts_with("-ERR Server was removed from the configuration"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(500));
    assert_eq!(goes.reply(), "+PONG");
    // From now on the key is where it belongs.
    goes.send(pipeline([format!("BLPOP {key} 0")]));
    ensemble.client(2).ask(&format!("RPUSH {key} y"));
    assert_eq!(goes.reply(), format!("[\"{key}\" \"y\"]"));
    drop((stays, goes));
    ensemble.expect_all_given_back();
    until_nobody_waits(&ensemble, 0);
}

#[test]
fn who_waits_is_served_to_the_end_by_a_process_that_is_replaced_and_goes_to_the_next_one_then() {
    let mut ensemble = need!(Ensemble::start_with("workers: 2\ndrain_timeout: 15s\n", 2, &[], &[]));
    let key = ensemble.key(0).to_owned();
    let mut waiting = [2, 3].map(|version| blocked(&ensemble, 0, version, &format!("BLPOP {key} 0")));
    // What comes behind it is for the next process.
    waiting[0].send(pipeline(["CLIENT SETNAME me"]));
    ensemble.proxy.upgrade();
    // The next process serves meanwhile: it is there that the elements come from.
    let mut other = ensemble.client(2);
    for (client, element) in waiting.iter_mut().zip(["x", "y"]) {
        assert_eq!(other.ask(&format!("RPUSH {key} {element}")), "1");
        assert_eq!(client.reply(), format!("[\"{key}\" \"{element}\"]"));
    }
    ensemble.proxy.expect_end_of_replaced();
    assert_eq!(waiting[0].reply(), "+OK");
    assert_eq!(waiting[0].ask("CLIENT GETNAME"), "\"me\"");
    for client in &mut waiting {
        assert_eq!(client.ask(&format!("RPUSH {key} z")), "1");
        assert_eq!(client.ask(&format!("BLPOP {key} 0")), format!("[\"{key}\" \"z\"]"));
    }
    drop((waiting, other));
    ensemble.expect_all_given_back();
    until_nobody_waits(&ensemble, 0);
}

#[test]
fn a_drain_lets_waits_end_but_not_for_ever() {
    let mut ensemble = need!(Ensemble::start_with("workers: 2\ndrain_timeout: 1500ms\n", 1, &[], &[]));
    ensemble.proxy.announce("drain limit reached");
    let key = ensemble.key(0).to_owned();
    let mut ends = blocked(&ensemble, 0, 2, &format!("BLPOP {key} 0"));
    let mut stays = blocked(&ensemble, 0, 3, "BLPOP nobody 0");
    let start = Instant::now();
    ensemble.proxy.signal(rustix::process::Signal::TERM);
    eventually("the port to be closed", || ensemble.proxy.address_of(0).connect().is_err().then_some(()));
    assert_eq!(ensemble.servers[0].client().ask(&format!("RPUSH {key} x")), "1");
    assert_eq!(ends.reply(), format!("[\"{key}\" \"x\"]"));
    ends.expect_closed();
    stays.expect_closed();
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    assert_eq!(ensemble.proxy.wait().code(), Some(0));
    until_nobody_waits(&ensemble, 0);
}

/// Replicas of these servers, in sync.
/// Has a wait end; the server has said by then what it calls the connection.
fn unblock(other: &mut Client, id: &str, how: &str) {
    let order = format!("CLIENT UNBLOCK {id} {how}");
    eventually("a wait to be ended", || match &other.ask(order.trim_end())[..] {
        "1" => Some(()),
        reply => {
            assert_eq!(reply, "0", "{order}");
            None
        }
    });
}

#[test]
fn a_wait_can_be_ended_by_another_client_as_with_redis() {
    let ensemble = need!(Ensemble::start(3, &[]));
    let plain = need!(Server::redis());
    let mut other = ensemble.client(3);
    for version in [2, 3] {
        for (server, how) in [(0, ""), (1, "TIMEOUT"), (2, "error")] {
            for request in ["BLPOP @ 0", "BLMOVE @ @ LEFT LEFT 0", "BZMPOP 9 1 @ MIN", "XREAD BLOCK 0 STREAMS @ $"] {
                let key = ensemble.key(server);
                let request = request.replace('@', key);
                let (mut client, mut direct) = (ensemble.client(version), plain.client());
                if version == 3 {
                    direct.ask("HELLO 3");
                }
                let [id, direct_id] = [&mut client, &mut direct].map(|client| client.ask("CLIENT ID"));
                assert_eq!(other.ask(&format!("CLIENT UNBLOCK {id}")), "0", "it does not wait");
                for client in [&mut client, &mut direct] {
                    client.send(pipeline([&request, "ECHO after"]));
                }
                unblock(&mut other, &id, how);
                unblock(&mut plain.client(), &direct_id, how);
                assert_eq!(client.reply(), direct.reply(), "{request} {how}");
                assert_eq!(client.reply(), "\"after\"");
                assert_eq!(other.ask(&format!("CLIENT UNBLOCK {id}")), "0");
                // The server waits for nobody any more.
                assert_eq!(other.ask(&format!("RPUSH {key} x")), "1");
                assert_eq!(other.ask(&format!("LPOP {key}")), "\"x\"");
            }
        }
    }
    // WAIT waits at all of them.
    let mut client = ensemble.client(2);
    let id = client.ask("CLIENT ID");
    client.send(pipeline(["WAIT 1 0"]));
    unblock(&mut other, &id, "");
    // The order may have come to a server before the request did.
    eventually("all servers to let it go", || {
        other.ask(&format!("CLIENT UNBLOCK {id}"));
        let waits = |server: &Server| server.client().ask("CLIENT LIST").contains("flags=b");
        (!ensemble.servers.iter().any(waits)).then_some(())
    });
    assert_eq!(client.reply(), "0");
    ensemble.expect_all_given_back();
}

#[test]
fn a_wait_that_cannot_be_ended_goes_on_and_the_reason_is_told() {
    let ensemble = need!(Ensemble::start(1, &[]));
    let mut other = ensemble.client(2);
    assert_eq!(ensemble.servers[0].client().ask("ACL SETUSER default -client|id"), "+OK");
    let mut client = ensemble.client(2);
    let id = client.ask("CLIENT ID");
    client.send(pipeline(["BLPOP a 0"]));
    eventually("a reason", || {
        let reply = other.ask(&format!("CLIENT UNBLOCK {id}"));
        (reply != "0").then(|| {
            let why = "the server that the client waits at does not tell CLIENT ID";
            assert_eq!(reply, format!("-ERR 'CLIENT UNBLOCK' is not supported by Outrigger: {why}"));
        })
    });
    assert_eq!(other.ask("WATCH a"), "+OK");
    assert!(other.ask(&format!("CLIENT UNBLOCK {id}")).contains("while keys are watched"));
    assert_eq!(other.ask("UNWATCH"), "+OK");
    assert_eq!(other.ask("RPUSH a x"), "1");
    assert_eq!(client.reply(), "[\"a\" \"x\"]");
}

/// Those who wait change their connections all the time, and somebody ends waits at random.
#[test]
fn only_the_client_that_is_meant_waits_no_longer_and_every_element_comes_to_one() {
    const CLIENTS: usize = 6;
    const ELEMENTS: usize = 3000;
    let ensemble = need!(Ensemble::start(1, &["idle_dedicated_connections: 3"]));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|n| ensemble.client(2 + (n % 2) as u8)).collect();
    let ids: Vec<String> = clients.iter_mut().map(|client| client.ask("CLIENT ID")).collect();
    let over = AtomicBool::new(false);
    let over = &over;
    let (ended, told, mut got) = thread::scope(|scope| {
        let waiting = clients.into_iter().map(|mut client| {
            scope.spawn(move || {
                let (mut ended, mut got) = (0, Vec::new());
                loop {
                    match &client.ask("BLPOP list 0")[..] {
                        "nil" => ended += 1,
                        "[\"list\" \"end\"]" => return (ended, got),
                        element => got.push(element.split('"').nth(3).unwrap().parse::<usize>().unwrap()),
                    }
                }
            })
        });
        let waiting: Vec<_> = waiting.collect();
        let (mut other, mut pusher) = (ensemble.client(2), ensemble.client(2));
        let ending = scope.spawn(move || {
            let mut told = 0;
            for id in ids.iter().cycle() {
                if over.load(Relaxed) {
                    break;
                }
                told += usize::from(other.ask(&format!("CLIENT UNBLOCK {id}")) == "1");
            }
            told
        });
        for element in 0..ELEMENTS {
            assert!(!pusher.ask(&format!("RPUSH list {element}")).starts_with('-'));
        }
        over.store(true, Relaxed);
        let told = ending.join().unwrap();
        for _ in 0..CLIENTS {
            pusher.ask("RPUSH list end");
        }
        let (mut ended, mut got) = (0, Vec::new());
        for one in waiting {
            let (its, elements) = one.join().unwrap();
            ended += its;
            got.extend(elements);
        }
        (ended, told, got)
    });
    assert!(told > 10, "hardly any wait was ended: {told}");
    assert_eq!(ended, told, "every order ended the wait of one client, and nothing else did");
    got.sort_unstable();
    assert!(got.iter().copied().eq(0..ELEMENTS), "{} elements", got.len());
    ensemble.expect_all_given_back();
}

fn replicas(ensemble: &Ensemble) -> Option<Vec<Server>> {
    let replicate = |server: &Server| {
        let port = server.socket_address().port().to_string();
        let replica = Server::redis_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"])?;
        let mut direct = server.client();
        eventually("a replica in sync", || direct.ask("INFO replication").contains("state=online").then_some(()));
        Some(replica)
    };
    ensemble.servers.iter().map(replicate).collect()
}

const REPLICATING: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

#[test]
fn wait_counts_the_replicas_that_have_what_was_written_through_the_proxy() {
    let ensemble = need!(Ensemble::start_with("workers: 1\n", 1, &REPLICATING, &["timeout: 2000"]));
    let replicas = need!(replicas(&ensemble));
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        for round in 0..5 {
            client.send(pipeline([&format!("SET a {round}"), "WAIT 1 10000"]));
            assert_eq!((client.reply(), client.reply()), ("+OK".into(), "1".into()));
        }
        replicas[0].pause();
        client.send(pipeline(["SET a lost", "WAIT 1 300", "GET a"]));
        assert_eq!(client.reply(), "+OK");
        let start = Instant::now();
        assert_eq!(client.reply(), "0", "the replica cannot have it");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(250) && took < Duration::from_millis(2000), "{took:?}");
        assert_eq!(client.reply(), "\"lost\"");
        // More than there are, with a limit and without one: the client may go.
        assert_eq!(client.ask("WAIT 5 20"), "0");
        client.send(pipeline(["WAIT 1 0"]));
        replicas[0].resume();
        assert_eq!(client.reply(), "1");
    }
    ensemble.expect_all_given_back();
}

#[test]
fn wait_over_several_servers_is_the_least_of_them() {
    let ensemble = need!(Ensemble::start_with("workers: 1\n", 3, &REPLICATING, &["timeout: 2000"]));
    let replicas = need!(replicas(&ensemble));
    let mut client = ensemble.client(2);
    let sets: Vec<String> = (0..3).map(|server| format!("SET {} 1", ensemble.key(server))).collect();
    client.send(pipeline(sets.iter().map(String::as_str).chain(["WAIT 1 10000"])));
    assert_eq!([(); 4].map(|()| client.reply()), ["+OK", "+OK", "+OK", "1"]);
    replicas[1].pause();
    client.send(pipeline(sets.iter().map(String::as_str).chain(["WAIT 1 200", "WAIT 0 10"])));
    assert_eq!([(); 5].map(|()| client.reply()), ["+OK", "+OK", "+OK", "0", "0"]);
    replicas[1].resume();
    assert_eq!(client.ask("WAIT 1 10000"), "1");
    for wrong in ["WAIT", "WAIT 1", "WAIT x 1", "WAIT 1 x", "WAIT 1 -1"] {
        assert!(client.ask(wrong).starts_with("-ERR "), "{wrong}");
    }
    // Whoever waits for ever and goes leaves nothing behind.
    client.send(resp(&["WAIT", "9", "0"]));
    eventually("three to wait", || (ensemble.in_use() == 3).then_some(()));
    drop(client);
    ensemble.expect_all_given_back();
    (0..3).for_each(|server| until_nobody_waits(&ensemble, server));
}
