//! What a session has, goes along: its client cannot tell that another process serves it.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::need;
use crate::support::client::{Address, resp};
use crate::support::{Bound, Client, Fake, Outrigger, Pool, Relay, Server, Trouble, eventually};

/// One worker, so that whoever is answered after something was sent by another knows that it was read.
const ONE_WORKER: &str = "workers: 1\n";

/// Pool 0 is a Redis, pool 1 a memcached.
fn both(globals: &str, line: &str) -> Option<([Server; 2], Outrigger)> {
    let servers = [Server::redis()?, Server::memcached()?];
    let [redis, memcached] = &servers;
    let pools = [
        Pool::redis("r", std::slice::from_ref(redis)).set(line),
        Pool::memcached("m", std::slice::from_ref(memcached)).set(line),
    ];
    let proxy = Outrigger::start_with(globals, pools);
    Some((servers, proxy))
}

/// Everything that was sent to the pools before was read.
fn all_is_read(proxy: &Outrigger) {
    for _ in 0..2 {
        assert_eq!(proxy.client_of(0).ask("PING"), "+PONG");
    }
}

#[test]
fn what_a_redis_client_has_said_about_itself_goes_along() {
    let server = need!(Server::redis_with(&["--requirepass", "s3cret"]));
    let pool = Pool::redis("r", std::slice::from_ref(&server)).set("redis_auth: s3cret");
    let mut proxy = Outrigger::start([pool]);
    let (mut named, mut stranger, mut silent) = (proxy.client(), proxy.client(), proxy.client());
    let (mut skipping, mut fresh) = (proxy.client(), proxy.client());
    assert_eq!(stranger.ask("GET a"), "-NOAUTH Authentication required.");
    for client in [&mut named, &mut silent, &mut skipping] {
        assert_eq!(client.ask("AUTH s3cret"), "+OK");
    }
    assert_eq!(named.ask("CLIENT SETNAME me"), "+OK");
    assert_eq!(named.ask("CLIENT SETINFO LIB-NAME lib"), "+OK");
    assert_eq!(named.ask("SET a 1"), "+OK");
    let (id, own) = (named.ask("CLIENT ID"), named.ask("CLIENT INFO"));
    silent.send(resp(&["CLIENT", "REPLY", "OFF"]));
    silent.send(resp(&["SET", "b", "2"]));
    skipping.send(resp(&["CLIENT", "REPLY", "SKIP"]));
    for generation in 0..2 {
        proxy.upgrade();
        proxy.expect_end_of_replaced();
        assert_eq!(named.ask("GET a"), "\"1\"");
        assert_eq!(named.ask("CLIENT GETNAME"), "\"me\"");
        assert_eq!(named.ask("CLIENT ID"), id);
        assert_eq!(stranger.ask("GET a"), "-NOAUTH Authentication required.");
        silent.send(resp(&["SET", "b", &generation.to_string()]));
        // The number of a client is nobody else's, whichever process let it in.
        let mut newcomer = proxy.client();
        assert_eq!(newcomer.ask("AUTH s3cret"), "+OK");
        assert_ne!(newcomer.ask("CLIENT ID"), id);
    }
    let field = |info: &str, name: &str| {
        info.split(' ').find(|part| part.trim_matches('"').starts_with(name)).unwrap().to_owned()
    };
    let info = named.ask("CLIENT INFO");
    for name in ["id=", "name=", "lib-name="] {
        assert_eq!(field(&info, name), field(&own, name));
    }
    silent.send(resp(&["CLIENT", "REPLY", "ON"]));
    assert_eq!(silent.reply(), "+OK");
    assert_eq!(silent.ask("GET b"), "\"1\"");
    skipping.send(resp(&["SET", "c", "3"]));
    assert_eq!(skipping.ask("GET c"), "\"3\"");
    // One that never said a word.
    assert_eq!(fresh.ask("AUTH s3cret"), "+OK");
    assert_eq!(fresh.ask("GET c"), "\"3\"");
}

/// A request, and what it is answered with.
fn large_requests(length: usize) -> [(usize, Vec<u8>, &'static str); 2] {
    let value = "0123456789".repeat(length / 10);
    let set = format!("set k{length} 0 0 {length}\r\n{value}\r\n").into_bytes();
    [(0, resp(&["SET", &format!("k{length}"), &value]), "+OK\r\n"), (1, set, "STORED\r\n")]
}

/// The value of that length is there.
fn expect_stored(proxy: &Outrigger, length: usize) {
    let (value, key) = ("0123456789".repeat(length / 10), format!("k{length}"));
    let (mut redis, mut memcached) = (proxy.client_of(0), proxy.client_of(1));
    redis.exchange(resp(&["GET", &key]), format!("${length}\r\n{value}\r\n"));
    memcached.exchange(format!("get {key}\r\n"), format!("VALUE {key} 0 {length}\r\n{value}\r\nEND\r\n"));
}

#[test]
fn half_a_request_finds_its_other_half_in_the_next_process() {
    let (_servers, mut proxy) = need!(both(ONE_WORKER, "timeout: 15s"));
    let requests: Vec<_> = [10, 20, 1_000, 60_000].into_iter().flat_map(large_requests).collect();
    // At the first byte, in the first line, and in the middle of what follows.
    let cuts =
        requests.iter().flat_map(|request| [1, 12, request.1.len() / 2, request.1.len() - 1].map(|at| (request, at)));
    let mut halves = Vec::new();
    for ((pool, request, reply), at) in cuts {
        let mut client = proxy.client_of(*pool);
        client.send(&request[..at]);
        halves.push((client, &request[at..], *reply));
    }
    all_is_read(&proxy);
    proxy.upgrade();
    proxy.expect_end_of_replaced();
    for (client, rest, reply) in &mut halves {
        client.exchange(&rest[..rest.len() / 2], "");
        client.exchange(&rest[rest.len() / 2..], *reply);
    }
    for length in [10, 20, 1_000, 60_000] {
        expect_stored(&proxy, length);
    }
}

#[test]
fn half_a_large_request_is_finished_where_it_began_and_the_session_goes_then() {
    let (_servers, mut proxy) = need!(both(ONE_WORKER, "timeout: 15s"));
    let lengths = [100_000, 900_000];
    let requests: Vec<_> = lengths.into_iter().flat_map(large_requests).collect();
    let mut halves = Vec::new();
    for (pool, request, reply) in &requests {
        let mut client = proxy.client_of(*pool);
        let at = request.len() * 9 / 10;
        client.send(&request[..at]);
        halves.push((client, &request[at..], *reply, *pool));
    }
    all_is_read(&proxy);
    proxy.upgrade();
    // The next process serves others meanwhile.
    all_is_read(&proxy);
    for (client, rest, reply, _) in &mut halves {
        client.exchange(rest, *reply);
    }
    let answered = Instant::now();
    proxy.expect_end_of_replaced();
    assert!(answered.elapsed() < Duration::from_secs(5), "{:?}", answered.elapsed());
    for (client, _, _, pool) in &mut halves {
        match pool {
            0 => assert_eq!(client.ask("EXISTS k100000"), "1"),
            _ => assert_eq!(client.tell("get none"), "END"),
        }
    }
    lengths.into_iter().for_each(|length| expect_stored(&proxy, length));
}

#[test]
fn the_rest_of_a_refused_data_block_is_thrown_away_by_the_next_process() {
    let (_servers, mut proxy) = need!(both("workers: 1\nlimits: {max_request_bytes: 100KiB}\n", "timeout: 15s"));
    let mut client = proxy.client_of(1);
    let length = 5_000_000;
    client.exchange(format!("set k 0 0 {length}\r\nstart"), "SERVER_ERROR object too large for cache\r\n");
    let mut left = length + 2 - "start".len();
    for _ in 0..2 {
        proxy.upgrade();
        proxy.expect_end_of_replaced();
        client.send("get none\r\n".repeat(1000));
        left -= 10_000;
    }
    client.send(vec![b'x'; left]);
    assert_eq!(client.tell("get k"), "END");
    assert_eq!(client.tell("set k 0 0 1|1"), "STORED");
}

#[test]
fn requests_in_flight_are_answered_by_the_old_process_and_the_session_goes_then() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = Fake::start(move |number, talk| {
        if number == 0 {
            let _ = wait.lock().unwrap().recv();
        }
        talk.echo();
    });
    let pool = Pool::new("r", "redis", &[server.entry()]).set("timeout: 15s");
    let mut proxy = Outrigger::start_with(ONE_WORKER, [pool]);
    let (mut one, mut many) = (proxy.client(), proxy.client());
    one.send(resp(&["GET", "a"]));
    many.send_aside((0..3000).flat_map(|n| resp(&["GET", &format!("k{n}")])).collect());
    eventually("the requests to be in flight", || {
        let stats = &proxy.stats()["r"][&server.name()];
        (stats["in_queue"].as_u64()? + stats["out_queue"].as_u64()? >= 10).then_some(())
    });
    proxy.upgrade();
    go.send(()).unwrap();
    assert_eq!(one.reply(), "\"a\"");
    for n in 0..3000 {
        assert_eq!(many.reply(), format!("\"k{n}\""));
    }
    // Nobody asks anything more; and still the sessions go, before they would be closed at the end of the drain.
    let answered = Instant::now();
    proxy.expect_end_of_replaced();
    assert!(answered.elapsed() < Duration::from_secs(5), "{:?}", answered.elapsed());
    for mut client in [one, many] {
        assert_eq!(client.ask("GET b"), "\"b\"");
    }
}

/// A client that has asked for more than fits into the sockets, and reads nothing.
fn full(proxy: &Outrigger) -> Client {
    let client = proxy.client();
    client.send_aside(resp(&["GET", "large"]).repeat(40));
    client
}

const LARGE: usize = 1 << 20;

#[test]
fn a_client_that_does_not_read_goes_when_it_has_read_or_is_closed_at_the_end_of_the_drain() {
    let (_servers, mut proxy) = need!(both("workers: 1\ndrain_timeout: 3000\n", "timeout: 15s"));
    proxy.announce("drain limit reached");
    let mut writer = proxy.client();
    writer.exchange(resp(&["SET", "large", &"x".repeat(LARGE)]), "+OK\r\n");
    let (mut late, mut never) = (full(&proxy), full(&proxy));
    eventually("replies that nobody reads", || {
        (proxy.stats()["buffered_bytes"].as_u64()? > LARGE as u64).then_some(())
    });
    let begun = Instant::now();
    proxy.upgrade();
    let reply = format!("${LARGE}\r\n{}\r\n", "x".repeat(LARGE));
    for _ in 0..40 {
        late.expect(&reply);
    }
    proxy.expect_end_of_replaced();
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(late.ask("PING"), "+PONG");
    assert_eq!(writer.ask("PING"), "+PONG");
    let got = never.rest();
    assert!(got.len() < 40 * LARGE, "{}", got.len());
}

#[test]
fn clients_that_were_connected_but_not_let_in_yet_are_served() {
    let (_servers, mut proxy) = need!(both(ONE_WORKER, "timeout: 15s"));
    let old = proxy.pid();
    proxy.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..100).map(|_| proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(resp(&["SET", &format!("q{number}"), "1", "GET"]));
    }
    // It comes when the process goes on, with all of them in the queue.
    proxy.signal(Signal::USR2);
    proxy.signal(Signal::CONT);
    proxy.is_succeeded();
    assert_ne!(proxy.pid(), old);
    for client in &mut clients {
        assert_eq!(client.reply(), "nil");
    }
    proxy.expect_end_of_replaced();
    for client in &mut clients {
        assert_eq!(client.ask("GET q99"), "\"1\"");
    }
}

#[test]
fn a_unix_socket_goes_along_with_its_clients_and_its_file() {
    let server = need!(Server::redis());
    let folder = crate::support::folder();
    let path = folder.path().join("proxy.sock");
    let pool = Pool::at("r", "redis", &[server.entry()], Address::Unix(path.clone())).set("timeout: 15s");
    let mut proxy = Outrigger::start([pool]);
    let mut client = proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    let file = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    let before = file();
    for _ in 0..3 {
        client.send("*2\r\n$3\r\nGET\r\n");
        proxy.upgrade();
        assert_eq!(proxy.client().ask("GET a"), "\"1\"");
        proxy.expect_end_of_replaced();
        assert_eq!(file(), before);
        client.send("$1\r\na\r\n");
        assert_eq!(client.reply(), "\"1\"");
    }
    proxy.terminate();
    assert!(!path.exists());
}

#[test]
fn what_was_written_without_a_reply_is_there_for_the_next_request() {
    let servers = need!(Server::redis().zip(Server::memcached()));
    let relays = [servers.0.socket_address(), servers.1.socket_address()].map(Relay::start);
    let pool = |(name, relay): (&str, &Relay)| {
        Pool::new(&name[..1], name, &[format!("{}:1", relay.address())]).set("timeout: 15s")
    };
    let pools = [pool(("redis", &relays[0])), pool(("memcached", &relays[1]))];
    let mut proxy = Outrigger::start_with(ONE_WORKER, pools);
    let (mut redis, mut memcached) = (proxy.client_of(0), proxy.client_of(1));
    assert_eq!(redis.ask("SET a old"), "+OK");
    assert_eq!(memcached.tell("set a 0 0 3|old"), "STORED");
    relays.iter().for_each(|relay| relay.trouble(Bound::ForServer, Trouble::Delay(Duration::from_secs(2))));
    redis.send([resp(&["CLIENT", "REPLY", "SKIP"]), resp(&["SET", "a", "new"])].concat());
    memcached.send("set a 0 0 3 noreply\r\nnew\r\n");
    assert_eq!(proxy.client_of(0).ask("PING"), "+PONG");
    assert_eq!(proxy.client_of(1).tell("version").split(' ').next(), Some("VERSION"));
    eventually("the writes to be on their way", || {
        let stats = proxy.stats();
        let written = |pool: &str, relay: &Relay| stats[pool][relay.address().to_string()]["out_queue"].as_u64();
        (written("r", &relays[0])? > 0 && written("m", &relays[1])? > 0).then_some(())
    });
    relays.iter().for_each(|relay| relay.trouble(Bound::ForServer, Trouble::None));
    proxy.upgrade();
    assert_eq!(redis.ask("GET a"), "\"new\"");
    assert_eq!(memcached.tell("get a"), "VALUE a 0 3|new|END");
    proxy.expect_end_of_replaced();
}
