//! What happens when servers misbehave: who is told what, and that nobody is told another's reply.

mod support;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::client::resp;
use support::fleet::{Dialect, Fleet, Seen};
use support::{Client, Fake, Outrigger, Pool, Server, eventually};

/// One Redis pool over fakes, one worker, so that one connection is shared; nothing is sent twice.
fn over(fakes: &[&Fake], timeout: &str) -> Outrigger {
    let servers: Vec<String> = fakes.iter().map(|f| f.entry()).collect();
    let pool = Pool::new("cache", "redis", &servers).set(timeout).set("retry_budget_percent: 0");
    let mut proxy = Outrigger::start_with("workers: 1", [pool]);
    proxy.announce("no reply in time");
    proxy
}

fn get(key: &str) -> Vec<u8> {
    resp(&["GET", key])
}

fn told(reason: &str, fake: &Fake) -> String {
    format!("-ERR {reason} (pool cache, server {})", fake.name())
}

#[test]
fn a_late_reply_is_dropped_and_the_connection_stays() {
    let server = Fake::start(|_, talk| {
        let first = talk.request();
        let second = talk.request();
        assert_eq!((first.as_deref(), second.as_deref()), (Some("GET a"), Some("GET b")));
        talk.say("$1\r\na\r\n$1\r\nb\r\n");
        talk.echo();
    });
    let proxy = over(&[&server], "timeout: 300");
    let mut client = proxy.client();
    assert_eq!(client.ask("GET a"), told("Connection timed out: no reply within 300 ms", &server));
    assert_eq!(client.ask("GET b"), "\"b\"");
    assert_eq!(client.ask("GET c"), "\"c\"");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_time_out_takes_what_the_file_says() {
    let server = Fake::start(|_, talk| talk.stall());
    let mut proxy = over(&[&server], "timeout: 300");
    proxy.announce("connection lost");
    let (mut client, asked) = (proxy.client(), Instant::now());
    assert_eq!(client.ask("GET a"), told("Connection timed out: no reply within 300 ms", &server));
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(900), "{took:?}");
}

#[test]
fn a_silent_connection_is_replaced() {
    let server = Fake::start(|number, talk| if number == 0 { talk.stall() } else { talk.echo() });
    let mut proxy = over(&[&server], "timeout: 150");
    proxy.announce("connection lost");
    let mut client = proxy.client();
    assert!(client.ask("GET a").starts_with("-ERR Connection timed out"));
    eventually("a connection that answers", || {
        let reply = client.ask("GET b");
        assert!(reply == "\"b\"" || reply.starts_with("-ERR Connection timed out"), "{reply}");
        (reply == "\"b\"").then_some(())
    });
    assert_eq!(server.accepted(), 2);
}

#[test]
fn a_server_that_keeps_answering_others_is_not_cut_off() {
    // Every tenth request is answered late; the rest keep the connection alive.
    let server = Fake::start(|_, talk| {
        let mut owed = String::new();
        while let Some(request) = talk.request() {
            let key = request.trim_start_matches("GET ").to_owned();
            owed += &format!("${}\r\n{key}\r\n", key.len());
            if !key.starts_with("hold") {
                talk.say(std::mem::take(&mut owed));
            }
        }
    });
    let proxy = over(&[&server], "timeout: 100");
    let mut client = proxy.client();
    for round in 0..10 {
        assert!(client.ask(&format!("GET hold{round}")).starts_with("-ERR Connection timed out"));
        assert_eq!(client.ask(&format!("GET go{round}")), format!("\"go{round}\""));
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn what_was_never_written_is_sent_again_and_what_was_is_not() {
    const REQUESTS: usize = 12;
    let (close, closing) = channel::<()>();
    let closing: Mutex<Receiver<()>> = Mutex::new(closing);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = {
        let seen = seen.clone();
        Fake::start(move |number, talk| {
            if number == 0 {
                // Reads one request, then lets the socket fill up.
                talk.request();
                let _ = closing.lock().unwrap().recv();
                return;
            }
            while let Some(request) = talk.request() {
                let key = request.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().unwrap().push(key);
                talk.say("+OK\r\n");
            }
        })
    };
    let mut proxy = over(&[&server], "timeout: 15s");
    proxy.announce("connection lost");
    let mut client = proxy.client();
    let value = "v".repeat(1 << 20);
    let requests = (0..REQUESTS).flat_map(|n| resp(&["SET", &n.to_string(), &value]));
    client.send_aside(requests.collect());
    let name = server.name();
    eventually("a queue that the socket does not take", || {
        let stats = &proxy.stats()["cache"][&name];
        let (unwritten, written) = (stats["in_queue"].as_u64()?, stats["out_queue"].as_u64()?);
        (unwritten + written == REQUESTS as u64 && unwritten > 0 && written > 0).then_some(())
    });
    close.send(()).unwrap();
    let replies: Vec<String> = (0..REQUESTS).map(|_| client.reply()).collect();
    let again: Vec<String> = (0..REQUESTS).filter(|n| replies[*n] == "+OK").map(|n| n.to_string()).collect();
    assert_eq!(*seen.lock().unwrap(), again, "each request went to the second connection or failed: {replies:?}");
    assert!(!again.is_empty());
    assert!(replies[0].contains("(pool cache, server "), "the first was written: {replies:?}");
    assert!(replies.iter().skip_while(|r| *r != "+OK").all(|r| r == "+OK"), "in order: {replies:?}");
}

/// Sends three GETs in one write to a server whose first connection does `misbehave` after the first answer.
fn three_in_one_write(misbehave: fn(&mut support::fake::Talk)) -> (Fake, Vec<String>) {
    let server = Fake::start(move |number, talk| {
        if number == 0 {
            for _ in 0..3 {
                talk.request();
            }
            misbehave(talk);
        } else {
            talk.echo();
        }
    });
    let mut proxy = over(&[&server], "timeout: 5s");
    proxy.announce("connection lost");
    let mut client = proxy.client();
    client.send([get("a"), get("b"), get("c")].concat());
    let mut replies: Vec<String> = (0..3).map(|_| client.reply()).collect();
    replies.push(client.ask("GET d"));
    assert_eq!(server.accepted(), 2);
    (server, replies)
}

#[test]
fn garbage_fails_the_requests_of_its_connection_and_no_others() {
    let (server, replies) = three_in_one_write(|talk| {
        talk.say("$1\r\na\r\nHTTP/1.1 400 Bad Request\r\n\r\n");
        talk.stall();
    });
    assert_eq!((replies[0].as_str(), replies[3].as_str()), ("\"a\"", "\"d\""));
    for reply in &replies[1..3] {
        assert!(reply.starts_with("-ERR Invalid reply: "), "{reply}");
        assert!(reply.ends_with(&format!("(pool cache, server {})", server.name())), "{reply}");
    }
}

#[test]
fn a_truncated_reply_is_never_forwarded() {
    let (server, replies) = three_in_one_write(|talk| talk.say("$1\r\na\r\n$10\r\nonly"));
    let closed = told("Connection closed by the server", &server);
    assert_eq!(replies, ["\"a\"", &closed, &closed, "\"d\""]);
}

#[test]
fn a_reply_that_is_too_deep_or_too_long_is_garbage() {
    let deep: fn(&mut support::fake::Talk) = |talk| {
        talk.say("$1\r\na\r\n".to_owned() + &"*1\r\n".repeat(5000));
        talk.stall();
    };
    let long: fn(&mut support::fake::Talk) = |talk| {
        talk.say("$1\r\na\r\n$99999999999\r\n");
        talk.stall();
    };
    let many: fn(&mut support::fake::Talk) = |talk| {
        talk.say("$1\r\na\r\n*2000000000\r\n");
        talk.stall();
    };
    for misbehave in [deep, long, many] {
        let (_server, replies) = three_in_one_write(misbehave);
        assert_eq!((replies[0].as_str(), replies[3].as_str()), ("\"a\"", "\"d\""));
        assert!(replies[1..3].iter().all(|r| r.starts_with("-ERR Invalid reply: ")), "{replies:?}");
    }
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_connection_before_it_is_anyones() {
    let server = Fake::start(|number, talk| {
        if number == 0 {
            talk.request();
            talk.say("$1\r\na\r\n$5\r\nstray\r\n");
            talk.stall();
        }
        talk.echo();
    });
    let mut proxy = over(&[&server], "timeout: 5s");
    proxy.announce("connection lost");
    let mut client = proxy.client();
    assert_eq!(client.ask("GET a"), "\"a\"");
    for key in ["b", "c"] {
        assert_eq!(client.ask(&format!("GET {key}")), format!("\"{key}\""));
    }
    assert_eq!(server.accepted(), 2);
}

#[test]
fn replies_that_come_byte_by_byte_are_put_together() {
    let server = Fake::start(|_, talk| {
        while let Some(request) = talk.request() {
            let key = request.trim_start_matches("GET ").to_owned();
            for byte in format!("*2\r\n${}\r\n{key}\r\n:-12\r\n", key.len()).bytes() {
                talk.say([byte]);
            }
        }
    });
    let proxy = over(&[&server], "timeout: 5s");
    let mut client = proxy.client();
    client.send([get("a"), get("bcd")].concat());
    assert_eq!(client.reply(), "[\"a\" -12]");
    assert_eq!(client.reply(), "[\"bcd\" -12]");
}

#[test]
fn a_server_that_turns_clients_away_is_not_hammered() {
    let server = Fake::start(|_, talk| talk.say("-ERR max number of clients reached\r\n"));
    let mut proxy = over(&[&server], "timeout: 400");
    proxy.announce("connection lost");
    let (mut client, asked) = (proxy.client(), Instant::now());
    for _ in 0..10 {
        let reply = client.ask("GET a");
        assert!(reply.starts_with("-ERR "), "{reply}");
    }
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    assert!(server.accepted() <= 200, "{} connections for 10 requests", server.accepted());
}

#[test]
fn the_first_request_after_a_long_idle_time_is_served_though_the_server_has_closed_meanwhile() {
    let redis = need!(Server::redis_with(&["--timeout", "1"]));
    let memcached = need!(Server::memcached_with(&["-o", "idle_timeout=1"]));
    let pools =
        [Pool::redis("r", std::slice::from_ref(&redis)), Pool::memcached("m", std::slice::from_ref(&memcached))];
    let proxy = Outrigger::start_with("workers: 1", pools.map(|pool| pool.set("retry_budget_percent: 0")));
    let (mut r, mut m) = (proxy.client_of(0), proxy.client_of(1));
    // What has a connection to itself leaves it idle as well.
    let transaction = |client: &mut Client| {
        for (request, reply) in [("WATCH b", "+OK"), ("MULTI", "+OK"), ("INCR b", "+QUEUED")] {
            assert_eq!(client.ask(request), reply);
        }
        client.ask("EXEC")
    };
    for round in 1..=2 {
        assert_eq!(r.ask("INCR a"), round.to_string());
        assert_eq!(transaction(&mut r), format!("[{round}]"));
        assert_eq!(m.tell("set a 0 0 1|x"), "STORED");
        let closed = || {
            let stats = proxy.stats();
            let closed = |pool: &str, server: &Server| stats[pool][server.name()]["server_eof"].as_u64().unwrap();
            [closed("r", &redis), closed("m", &memcached)]
        };
        eventually("the servers to close", || {
            let [r, m] = closed();
            (r >= 2 * round && m >= round).then_some(())
        });
    }
    assert!(!proxy.log().contains("WARN"), "{}", proxy.log());
}

/// As when a firewall has forgotten the connection: nothing comes over it any more, and nobody is told.
#[test]
fn the_first_read_after_a_long_idle_time_is_served_though_the_connection_has_died_unseen() {
    let server = Fake::start(|number, talk| {
        if number == 0 {
            talk.request();
            talk.say("$1\r\na\r\n");
            return talk.stall();
        }
        talk.echo();
    });
    let pool = Pool::new("cache", "redis", &[server.entry()]).set("timeout: 800");
    let mut proxy = Outrigger::start_with("workers: 1", [pool]);
    proxy.announce("connection lost");
    let mut client = proxy.client();
    assert_eq!(client.ask("GET a"), "\"a\"");
    std::thread::sleep(Duration::from_millis(1300));
    let asked = Instant::now();
    assert_eq!(client.ask("GET b"), "\"b\"");
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(400) && took < Duration::from_millis(800), "{took:?}");
    assert_eq!(server.accepted(), 2);
}

/// Sixteen connections want the server, and hundreds of requests each of them.
#[test]
fn the_connections_of_all_workers_do_not_run_for_a_server_that_is_down() {
    let mut server = need!(Server::redis());
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("server_connections: 4");
    let mut proxy = Outrigger::start_with("workers: 4", [pool]);
    proxy.announce("connection lost");
    proxy.announce("cannot connect");
    let mut clients: Vec<_> = (0..64).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("SET a 1"), "+OK"));
    let tried = || {
        let text = proxy.http("GET", "/metrics").body;
        let is_it = |line: &&str| {
            line.starts_with("outrigger_server_connection_errors_total{") && line.contains("connect_failed")
        };
        text.lines().find(is_it).and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).expect("the metric")
    };
    server.kill();
    let (start, mut refused) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        for client in &mut clients {
            assert!(client.ask("GET a").starts_with("-ERR "));
            refused += 1;
        }
    }
    // Each at once, after 10 ms, after 20 ms and so on: nine times at the most in two seconds.
    let tried = tried();
    println!("{tried} attempts for {refused} requests");
    assert!((16..=16 * 9).contains(&tried), "{tried} attempts for {refused} requests");
    server.restart();
    for client in &mut clients {
        eventually("the server to be back", || (client.ask("GET a") == "nil").then_some(()));
    }
    let mut direct = server.client();
    let told = direct.ask("INFO stats");
    let received = told.split("total_connections_received:").nth(1).and_then(|rest| rest.split("\\r").next());
    let received: usize = received.expect("the number").parse().expect("a number");
    // The test's own are among them: one to see that it is there, and this one.
    assert!(received <= 16 + 3, "{received} connections for 16");
}

#[test]
fn a_stopped_server_costs_its_own_keys_only() {
    let stalled = Fake::start(|_, talk| talk.stall());
    let fine = Fake::start(|_, talk| talk.echo());
    let pool = Pool::new("cache", "redis", &[stalled.entry(), fine.entry()]);
    let mut proxy = Outrigger::start([pool.set("timeout: 200").set("hash: murmur")]);
    proxy.announce("connection lost");
    proxy.announce("no reply in time");
    let mut client = proxy.client();
    let (mut slow, mut quick) = (0, 0);
    for n in 0..20 {
        let asked = Instant::now();
        let reply = client.ask(&format!("GET key{n}"));
        if reply.starts_with('-') {
            assert!(reply.ends_with(&format!("(pool cache, server {})", stalled.name())), "{reply}");
            slow += 1;
        } else {
            assert_eq!(reply, format!("\"key{n}\""));
            assert!(asked.elapsed() < Duration::from_millis(150), "{:?}", asked.elapsed());
            quick += 1;
        }
    }
    assert!(slow > 0 && quick > 0, "{slow} {quick}");
}

/// One memcached pool over a fake, one worker.
fn text_over(fake: &Fake, timeout: &str) -> Outrigger {
    let pool = Pool::new("cache", "memcached", &[fake.entry()]).set(timeout).set("retry_budget_percent: 0");
    let mut proxy = Outrigger::start_with("workers: 1", [pool]);
    proxy.announce("no reply in time");
    proxy
}

#[test]
fn a_late_memcached_reply_is_dropped_and_the_connection_stays() {
    let server = Fake::start(|_, talk| {
        let lines = [talk.line(), talk.line()];
        assert_eq!(lines.map(Option::unwrap_or_default), ["get a", "get b"]);
        talk.say("VALUE a 0 5\r\nlate!\r\nEND\r\nVALUE b 0 3\r\nbbb\r\nEND\r\n");
        talk.stall();
    });
    let proxy = text_over(&server, "timeout: 300");
    let mut client = proxy.client();
    let told = format!("Connection timed out: no reply within 300 ms (pool cache, server {})", server.name());
    assert_eq!(client.tell("get a"), format!("SERVER_ERROR {told}"));
    assert_eq!(client.tell("get b"), "VALUE b 0 3|bbb|END");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_memcached_reply_of_another_kind_ends_the_connection() {
    for nonsense in ["+OK\r\n", "VALUE a 0 x\r\n", "VALUE a 0 1\r\nxyz\r\nEND\r\n", "\r\n", "STORED\r\n"] {
        let server = Fake::start(move |number, talk| {
            talk.line();
            if number == 0 {
                talk.say(nonsense);
                talk.stall();
            }
            talk.say("END\r\n");
            talk.stall();
        });
        let mut proxy = text_over(&server, "timeout: 5s");
        proxy.announce("connection lost");
        let mut client = proxy.client();
        let reply = client.tell("get a");
        assert!(reply.starts_with("SERVER_ERROR Invalid reply: "), "{nonsense:?}: {reply}");
        assert!(reply.ends_with(&format!("(pool cache, server {})", server.name())), "{reply}");
        assert_eq!(client.tell("get b"), "END");
        assert_eq!(server.accepted(), 2);
    }
}

#[test]
fn a_server_that_says_no_is_quoted() {
    let server = Fake::start(|_, talk| {
        while let Some(line) = talk.line() {
            if line.starts_with("set") {
                talk.line();
            }
            talk.say("SERVER_ERROR out of memory storing object\r\n");
        }
    });
    let proxy = text_over(&server, "timeout: 5s");
    let mut client = proxy.client();
    for request in ["get a", "get a b", "set a 0 0 1|x", "delete a", "incr a 1"] {
        assert_eq!(client.tell(request), "SERVER_ERROR out of memory storing object", "{request}");
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_redis_that_is_loading_is_quoted() {
    let server = Fake::start(|_, talk| {
        while talk.request().is_some() {
            talk.say("-LOADING Redis is loading the dataset in memory\r\n");
        }
    });
    let mut proxy = over(&[&server], "timeout: 5s");
    proxy.announce("the server is not ready");
    assert_eq!(proxy.client().ask("GET a"), "-LOADING Redis is loading the dataset in memory");
    assert_eq!(proxy.client().ask("MGET a b"), "-LOADING Redis is loading the dataset in memory");
}

/// When a server did not serve, and which.
struct Outage {
    server: String,
    from: Instant,
    to: Instant,
}

const TIMEOUT: Duration = Duration::from_millis(500);
/// From the end of a fault to the last error: a time-out, the silence that ends a connection, a loaded machine.
const AFTERMATH: Duration = Duration::from_millis(2500);

fn judge(name: &str, seen: &Seen, outages: &[Outage]) {
    assert!(seen.wrong.is_empty(), "{name}: {}", seen.wrong.join("\n"));
    assert!(seen.answered > 3000, "{name}: only {} replies", seen.answered);
    assert!(seen.matched > seen.answered / 3, "{name}: {} of {} replies named a key", seen.matched, seen.answered);
    assert!(!seen.errors.is_empty(), "{name}: the faults were not noticed");
    for (at, text) in &seen.errors {
        assert!(text.contains(&format!("(pool {name}, server ")), "{name}: {text}");
        let excused =
            outages.iter().any(|o| text.contains(&o.server) && *at >= o.from && *at <= o.to + TIMEOUT + AFTERMATH);
        assert!(excused, "{name}: without a reason: {text}");
    }
}

#[test]
fn every_reply_belongs_to_its_request_while_servers_die_stall_and_return() {
    let mut redis = need!(Server::three(Server::redis));
    let mut memcached = need!(Server::three(Server::memcached));
    let timeout = format!("timeout: {}", TIMEOUT.as_millis());
    let mut proxy =
        Outrigger::start([Pool::redis("r", &redis).set(&timeout), Pool::memcached("m", &memcached).set(&timeout)]);
    proxy.announce("connection lost");
    proxy.announce("cannot connect");
    proxy.announce("no reply in time");
    let longest = 4 * TIMEOUT + AFTERMATH;
    let fleets = [
        Fleet::sail(30, Dialect::Redis, &proxy.address_of(0), longest),
        Fleet::sail(30, Dialect::Memcached, &proxy.address_of(1), longest),
    ];
    let wait = |time| {
        let until = Instant::now() + time;
        eventually("the next fault", || (Instant::now() >= until).then_some(()));
    };
    let mut outages = [Vec::new(), Vec::new()];
    let mut fault = |number: usize, break_it: fn(&mut Server), mend: fn(&mut Server), time| {
        let from = Instant::now();
        break_it(&mut redis[number]);
        break_it(&mut memcached[number]);
        wait(time);
        mend(&mut redis[number]);
        mend(&mut memcached[number]);
        for (list, server) in outages.iter_mut().zip([&redis[number], &memcached[number]]) {
            list.push(Outage { server: server.name(), from, to: Instant::now() });
        }
        wait(Duration::from_millis(600));
    };
    let second = Duration::from_millis(1000);
    wait(second / 2);
    fault(0, Server::kill, Server::restart, second);
    fault(1, |s| s.pause(), |s| s.resume(), second * 2);
    fault(2, |s| s.pause(), Server::restart, second);
    fault(0, Server::restart, Server::restart, second / 10);
    fault(1, |s| s.pause(), |s| s.resume(), TIMEOUT * 3 / 2);
    let [redis_seen, memcached_seen] = fleets.map(Fleet::land);
    judge("r", &redis_seen, &outages[0]);
    judge("m", &memcached_seen, &outages[1]);
    // All is well again.
    let (mut redis, mut memcached) = (proxy.client_of(0), proxy.client_of(1));
    eventually("all servers to be back", || {
        let fine = (0..30).all(|n| redis.ask(&format!("SET after{n} x")) == "+OK");
        let fine = fine && (0..30).all(|n| memcached.tell(&format!("set after{n} 0 0 1|x")) == "STORED");
        fine.then_some(())
    });
}

#[test]
fn without_faults_there_are_no_errors_however_many_connections_a_server_has() {
    let redis = need!(Server::three(Server::redis));
    let memcached = need!(Server::three(Server::memcached));
    let pools = [Pool::redis("r", &redis), Pool::memcached("m", &memcached)];
    let proxy = Outrigger::start(pools.map(|pool| pool.set("server_connections: 3").set("timeout: 10s")));
    let longest = Duration::from_secs(10);
    let fleets = [
        Fleet::sail(20, Dialect::Redis, &proxy.address_of(0), longest),
        Fleet::sail(20, Dialect::Memcached, &proxy.address_of(1), longest),
    ];
    let until = Instant::now() + Duration::from_millis(1500);
    eventually("the end of the trip", || (Instant::now() >= until).then_some(()));
    for seen in fleets.map(Fleet::land) {
        assert_eq!((seen.wrong, seen.errors.len()), (Vec::new(), 0));
        assert!(seen.matched > 1000 && seen.matched > seen.answered / 3, "{} of {}", seen.matched, seen.answered);
    }
}

#[test]
fn the_clients_own_death_is_nobody_elses_trouble() {
    let redis = need!(Server::redis());
    let proxy = Outrigger::start([Pool::redis("cache", std::slice::from_ref(&redis))]);
    let mut client = proxy.client();
    let value = "v".repeat(100_000);
    client.send(resp(&["SET", "big", &value]));
    assert_eq!(client.reply(), "+OK");
    for n in 0..100 {
        // Asks for much, and leaves when the first of it comes.
        let mut rude = proxy.client();
        rude.send(get("big").repeat(50));
        rude.expect("$100000\r\n");
        drop(rude);
        assert_eq!(client.ask(&format!("SET k{n} {n}")), "+OK");
        assert_eq!(client.ask(&format!("GET k{n}")), format!("\"{n}\""));
    }
}
