//! Sessions whose pool changes under them, or goes; and sessions that go on in another process.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::config::PoolSettings;
use crate::session::carried::Carried;

impl Fixture {
    /// The pool of other settings, as a worker makes it. What leaves is told so only by [`Change::done`].
    fn change(&mut self, what: impl FnOnce(&mut PoolSettings)) -> Change {
        let mut settings = Settings::clone(&self.topology.settings);
        what(&mut settings.pools[0]);
        let next = self.topology.next(Arc::new(settings), &self.ground).unwrap();
        next.take_over(&self.topology);
        let tools = Tools { worker: 0, pass: &self.shared.pass };
        let (pool, moved) = Pool::build(&next.pools[0], &tools, None, Some(&self.pool));
        moved.new.iter().for_each(|connection| drop(spawn_local(connection.clone().run())));
        self.topology = next;
        self.pool = pool.clone();
        Change { pool, leaving: moved.leaving }
    }

    fn departure(&self) -> Receiver<(Carried, OwnedFd)> {
        let (departure, departed) = channel();
        self.shared.depart(departure);
        departed
    }

    /// Goes on with a session that has departed, as another process does.
    fn arrive(&self, (carried, socket): (Carried, OwnedFd)) -> JoinHandle<()> {
        let text = serde_json::to_string(&carried).unwrap();
        let arrived = Carried { input: carried.input, ..serde_json::from_str(&text).unwrap() };
        let socket = std::os::unix::net::UnixStream::from(socket);
        let stream = Stream::Unix(UnixStream::from_std(socket).unwrap());
        let shared = Shared::new(self.shared.pass.clone(), Common::new(&self.topology.settings, None), 0);
        let session = Session::new(arrived.id, stream, self.pool.clone(), shared);
        session.restore(&arrived);
        spawn_local(session.run())
    }
}

struct Change {
    pool: Rc<Pool>,
    leaving: Vec<Rc<crate::backend::Connection>>,
}

impl Change {
    fn adopted_by(self, sessions: &[&Rc<Session>]) -> Self {
        sessions.iter().for_each(|session| session.adopt(self.pool.clone()));
        self
    }

    fn done(self) {
        self.leaving.iter().for_each(|connection| connection.leave());
    }
}

fn command(words: &[&str]) -> String {
    let words: String = words.iter().map(|word| reply(word)).collect();
    format!("*{}\r\n{words}", words.matches('$').count())
}

async fn expect(client: &mut UnixStream, expected: &str) {
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), expected);
}

async fn departed(from: &Receiver<(Carried, OwnedFd)>) -> (Carried, OwnedFd) {
    loop {
        match from.try_recv() {
            Ok(session) => return session,
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Long enough for anything that is not held back.
async fn a_while() {
    sleep(Duration::from_millis(20)).await;
}

#[test]
fn a_link_to_another_database_that_nobody_uses_is_closed_and_made_again() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |settings| settings.pools[0].databases = Some(4));
        let (mut client, _, _) = test.connect();
        let cells = test.pool.shared().servers[0].cells[0].clone();
        let links = async |wanted: u64| {
            while cells.server_connections.get() != wanted {
                sleep(Duration::from_millis(1)).await;
            }
        };
        // The usual one stays, however long it is not used.
        ask(&mut client, &get("a"), &reply("a")).await;
        ask(&mut client, "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n", "+OK\r\n").await;
        for key in ["b", "c"] {
            let before = Instant::now();
            ask(&mut client, &get(key), &reply(key)).await;
            links(2).await;
            let minute = Duration::from_secs(60);
            let left = test.pool.close_unused(before + minute / 2).expect("there is a link");
            assert!((minute / 2..minute).contains(&left), "{left:?}");
            assert_eq!(test.pool.close_unused(Instant::now() + minute), None);
            links(1).await;
            assert_eq!(test.pool.close_unused(Instant::now() + minute), None, "none is left");
        }
    });
}

#[test]
fn requests_go_by_one_pool_until_all_are_answered_and_then_by_the_newest() {
    on_worker(async |pass| {
        let mut test = Fixture::new(&pass, 3, |_| ());
        test.servers.held.set(true);
        let (mut client, session, _) = test.connect();
        client.write_all(["a", "b", "c"].map(get).concat().as_bytes()).await.unwrap();
        test.seen(1).await;
        let waiting = test.servers.seen.get();
        // Three in a row, while it waits by the first of all.
        test.change(|pool| drop(pool.servers.pop())).adopted_by(&[&session]).done();
        let middle = test.change(|pool| pool.servers[0].weight = 2).adopted_by(&[&session]);
        let last = test.change(|pool| drop(pool.servers.pop())).adopted_by(&[&session]);
        client.write_all(["d", "e", "f"].map(get).concat().as_bytes()).await.unwrap();
        a_while().await;
        assert!(test.servers.seen.get() < 6, "{waiting}, then {}", test.servers.seen.get());
        let unused: Vec<_> = middle.leaving.iter().chain(&last.leaving).cloned().collect();
        middle.done();
        last.done();
        test.servers.release();
        expect(&mut client, &["a", "b", "c", "d", "e", "f"].map(reply).concat()).await;
        assert!(Rc::ptr_eq(&session.pool(), &test.pool));
        while !unused.iter().all(|connection| connection.is_over()) {
            sleep(Duration::from_millis(1)).await;
        }
        let sent: u64 = test.pool.shared().servers.iter().map(|server| server.cells[0].requests.get()).sum();
        assert!(sent >= 3, "the last three went to the server that is left, not {sent}");
    });
}

#[test]
fn no_write_overtakes_another_although_the_client_hears_of_neither() {
    on_worker(async |pass| {
        let set = |value| command(&["SET", "key", value]);
        // Session 1 goes by connection 0 of one, by connection 1 of two.
        for (before, after) in [(1, 2), (2, 1)] {
            let mut test = Fixture::new(&pass, 1, |settings| settings.pools[0].server_connections = before);
            test.servers.held.set(true);
            let (mut client, session, _) = test.connect();
            client.write_all((command(&["CLIENT", "REPLY", "OFF"]) + &set("1")).as_bytes()).await.unwrap();
            test.seen(1).await;
            test.change(|pool| pool.server_connections = after).adopted_by(&[&session]).done();
            client.write_all(set("2").as_bytes()).await.unwrap();
            a_while().await;
            assert_eq!(*test.servers.told.borrow(), ["1"], "{before} connections, then {after}");
            test.servers.release();
            test.seen(2).await;
            assert_eq!(*test.servers.told.borrow(), ["1", "2"]);
        }
    });
}

#[test]
fn who_says_nothing_any_more_does_not_keep_the_pool_before() {
    on_worker(async |pass| {
        let mut test = Fixture::new(&pass, 2, |_| ());
        test.servers.held.set(true);
        let (mut client, session, _) = test.connect();
        client.write_all(get("a").as_bytes()).await.unwrap();
        test.seen(1).await;
        let before = Rc::downgrade(&test.pool);
        test.change(|pool| pool.server_connections = 3).adopted_by(&[&session]).done();
        assert!(before.upgrade().is_some());
        test.servers.release();
        expect(&mut client, &reply("a")).await;
        a_while().await;
        assert!(before.upgrade().is_none());
    });
}

#[test]
fn what_waits_for_room_goes_on_by_the_next_pool() {
    on_worker(async |pass| {
        let mut test = Fixture::new(&pass, 1, |settings| {
            settings.session_limits.max_connection_requests = 1;
            settings.pools[0].timeout = None;
        });
        test.servers.held.set(true);
        let (mut one, first, _) = test.connect();
        let (mut other, second, _) = test.connect();
        one.write_all(get("a").as_bytes()).await.unwrap();
        test.seen(1).await;
        other.write_all(get("b").as_bytes()).await.unwrap();
        a_while().await;
        assert!(second.paused.get(), "there is no room for it");
        // Both are session 1, and their connection is another one now.
        test.change(|pool| pool.server_connections = 2).adopted_by(&[&first, &second]).done();
        test.seen(2).await;
        test.servers.release();
        expect(&mut other, &reply("b")).await;
        expect(&mut one, &reply("a")).await;
    });
}

#[test]
fn a_session_of_a_removed_pool_is_answered_what_it_has_asked_and_then_closed() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |settings| settings.session_limits.max_session_requests = 2);
        test.servers.held.set(true);
        let (mut client, session, task) = test.connect();
        client.write_all(["a", "b", "c", "d"].map(get).concat().as_bytes()).await.unwrap();
        test.seen(1).await;
        session.leave();
        a_while().await;
        test.servers.release();
        assert_eq!(to_end(&mut client).await, ["a", "b", "c", "d"].map(reply).concat());
        task.await.unwrap();
    });
}

#[test]
fn of_a_session_that_was_ended_nothing_more_is_taken() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |_| ());
        let (_client, session, task) = test.connect();
        a_while().await;
        session.inbound.borrow_mut().hold(get("a").as_bytes());
        session.paused.set(true);
        session.end();
        task.await.unwrap();
        a_while().await;
        assert_eq!(test.servers.seen.get(), 0);
    });
}

#[test]
fn a_session_departs_with_its_last_answer_and_not_only_when_its_client_speaks_again() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |_| ());
        test.servers.held.set(true);
        let (mut client, session, task) = test.connect();
        client.write_all(get("a").as_bytes()).await.unwrap();
        test.seen(1).await;
        let from = test.departure();
        session.wake();
        a_while().await;
        assert!(from.try_recv().is_err(), "it is owed an answer");
        test.servers.release();
        let left = departed(&from).await;
        task.await.unwrap();
        expect(&mut client, &reply("a")).await;
        test.arrive(left);
        client.write_all(get("b").as_bytes()).await.unwrap();
        expect(&mut client, &reply("b")).await;
    });
}

#[test]
fn a_session_departs_only_when_what_its_client_does_not_hear_of_is_done() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |_| ());
        test.servers.held.set(true);
        let (mut client, session, _) = test.connect();
        let quiet = command(&["CLIENT", "REPLY", "OFF"]) + &command(&["SET", "key", "1"]);
        client.write_all(quiet.as_bytes()).await.unwrap();
        test.seen(1).await;
        let from = test.departure();
        session.wake();
        a_while().await;
        assert!(from.try_recv().is_err(), "its next request would overtake this one");
        test.servers.release();
        let left = departed(&from).await;
        test.arrive(left);
        client.write_all((command(&["CLIENT", "REPLY", "ON"]) + &get("b")).as_bytes()).await.unwrap();
        expect(&mut client, &("+OK\r\n".to_owned() + &reply("b"))).await;
    });
}

#[test]
fn a_client_that_does_not_read_departs_when_it_has_read() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |_| ());
        let (mut client, session, _) = test.connect();
        let echo = command(&["ECHO", &"x".repeat(1 << 20)]);
        client.write_all(echo.as_bytes()).await.unwrap();
        while !session.blocked.get() {
            sleep(Duration::from_millis(1)).await;
        }
        let from = test.departure();
        session.wake();
        a_while().await;
        assert!(from.try_recv().is_err());
        expect(&mut client, &reply(&"x".repeat(1 << 20))).await;
        departed(&from).await;
    });
}

/// What `requests` get when their session departs after each of these numbers of bytes, one after the other.
async fn talk(test: &Fixture, requests: &[u8], cuts: &[usize]) -> Vec<u8> {
    let (mut client, mut session, mut task) = {
        let (client, session, task) = test.connect();
        (client, Some(session), task)
    };
    let mut at = 0;
    for cut in cuts.iter().copied().chain([requests.len()]) {
        client.write_all(&requests[at..cut]).await.unwrap();
        at = cut;
        if cut == requests.len() {
            break;
        }
        a_while().await;
        let session = session.take().expect("one departure");
        let from = test.departure();
        session.wake();
        let left = departed(&from).await;
        task.await.unwrap();
        *test.shared.departure.borrow_mut() = None;
        task = test.arrive(left);
    }
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    task.await.unwrap();
    all
}

#[test]
fn wherever_a_redis_session_departs_its_client_sees_no_difference() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 2, |_| ());
        let words: [&[&str]; 13] = [
            &["CLIENT", "SETNAME", "me"],
            &["CLIENT", "SETINFO", "LIB-NAME", "lib"],
            &["GET", "key"],
            &["CLIENT", "REPLY", "SKIP"],
            &["PING"],
            &["CLIENT", "GETNAME"],
            &["CLIENT", "INFO"],
            &["CLIENT", "REPLY", "OFF"],
            &["GET", "unheard"],
            &["CLIENT", "REPLY", "ON"],
            &["MGET", "a", "b", "c"],
            &["CLIENT", "ID"],
            &["GET", "last"],
        ];
        let requests: String = words.iter().map(|words| command(words)).collect();
        let requests = requests.as_bytes();
        let ages = |bytes: Vec<u8>| {
            // CLIENT INFO tells addresses and times, which are those of the moment.
            let text = String::from_utf8(bytes).unwrap();
            let line = |line: &str| if line.starts_with("id=") { names(line) } else { line.to_owned() };
            text.split("\r\n").filter(|line| !line.starts_with('$')).map(line).collect::<Vec<_>>()
        };
        let expected = ages(talk(&test, requests, &[]).await);
        assert!(expected.iter().any(|line| line.contains("name=me") && line.contains("lib-name=lib")), "{expected:?}");
        for cut in (0..requests.len()).step_by(7) {
            assert_eq!(ages(talk(&test, requests, &[cut]).await), expected, "after {cut} bytes");
        }
    });
}

fn names(line: &str) -> String {
    let told = |word: &&str| ["id=", "name=", "lib-"].iter().any(|name| word.starts_with(name));
    line.split(' ').filter(told).collect::<Vec<_>>().join(" ")
}

#[test]
fn wherever_a_memcached_session_departs_its_client_sees_no_difference() {
    on_worker(async |pass| {
        let small = |settings: &mut Settings| settings.limits.max_request_bytes = 100;
        let test = Fixture::of(Protocol::Memcached, &pass, 2, small);
        let refused = format!("set key 0 0 300\r\n{}\r\n", "x".repeat(300));
        let requests =
            format!("touch key1 0\r\n{refused}touch key2 0\r\nget key3 key4\r\nversion\r\n{refused}get key5\r\n");
        let requests = requests.as_bytes();
        let expected = talk(&test, requests, &[]).await;
        assert!(expected.starts_with(b"TOUCHED\r\nSERVER_ERROR"), "{}", expected.escape_ascii());
        for cut in (0..requests.len()).step_by(13) {
            let got = talk(&test, requests, &[cut]).await;
            assert_eq!(got.escape_ascii().to_string(), expected.escape_ascii().to_string(), "after {cut} bytes");
        }
    });
}

#[test]
fn half_a_large_request_stays_until_it_is_whole() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |_| ());
        let (mut client, session, _) = test.connect();
        let echo = command(&["ECHO", &"x".repeat(200_000)]);
        client.write_all(&echo.as_bytes()[..100_000]).await.unwrap();
        a_while().await;
        let from = test.departure();
        session.wake();
        a_while().await;
        assert!(from.try_recv().is_err());
        client.write_all(&echo.as_bytes()[100_000..]).await.unwrap();
        client.write_all(get("b").as_bytes()).await.unwrap();
        expect(&mut client, &reply(&"x".repeat(200_000))).await;
        let left = departed(&from).await;
        test.arrive(left);
        expect(&mut client, &reply("b")).await;
    });
}

/// Asks and waits for exactly this reply.
async fn ask(client: &mut UnixStream, request: &str, expected: &str) {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut reply = vec![0; expected.len()];
    client.read_exact(&mut reply).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&reply), expected);
}
