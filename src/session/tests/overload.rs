//! Sessions when there is no room left, and with clients that do not read.

use super::*;
use crate::io::Budget;
use crate::io::Pass;

const LIMIT: usize = 8 << 20;

/// A worker whose process may hold [`LIMIT`] bytes.
fn on_small_worker<F: Future>(test: impl FnOnce(Rc<Pass>) -> F) {
    on_worker_with(Pass::with_budget(Arc::new(Budget::new(LIMIT))), test);
}

fn small(settings: &mut Settings) {
    // Servers answer with the key.
    settings.limits.max_key_bytes = 2 << 20;
    settings.pools.iter_mut().for_each(|pool| pool.timeout = None);
}

/// Something else in the process holds so many bytes.
fn fill(pass: &Rc<Pass>, bytes: usize) -> Held {
    let held = Held::new(pass.clone());
    held.set(bytes);
    held
}

/// Reads until this much has come.
async fn expect(client: &mut UnixStream, expected: &str) {
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), expected);
}

/// One line, without its end.
async fn line(client: &mut UnixStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        sleep(Duration::from_millis(1)).await;
    }
}

fn large(letter: &str) -> String {
    letter.repeat(1 << 20)
}

#[test]
fn a_new_session_asks_for_sixteen_replies_and_for_more_when_they_are_small() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, small);
        test.servers.held.set(true);
        let (mut client, session, _task) = test.connect();
        client.write_all(get("a").repeat(500).as_bytes()).await.unwrap();
        until(|| session.paused.get()).await;
        assert_eq!(session.replies.borrow().unanswered(), 16);
        test.servers.release();
        expect(&mut client, &reply("a").repeat(500)).await;
        test.servers.held.set(true);
        client.write_all(get("b").repeat(500).as_bytes()).await.unwrap();
        until(|| session.paused.get()).await;
        assert_eq!(session.replies.borrow().unanswered(), 64);
        test.servers.release();
        expect(&mut client, &reply("b").repeat(500)).await;
    });
}

#[test]
fn a_client_that_does_not_read_large_replies_makes_the_session_hold_few_of_them() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, small);
        let (mut client, session, _task) = test.connect();
        // One reply is enough to know.
        client.write_all(get(&large("x")).as_bytes()).await.unwrap();
        expect(&mut client, &reply(&large("x"))).await;
        let requests: String = (0..20).map(|_| get(&large("y"))).collect();
        let (mut input, mut output) = client.into_split();
        let writing = spawn_local(async move { output.write_all(requests.as_bytes()).await });
        until(|| session.blocked.get() && session.paused.get()).await;
        sleep(Duration::from_millis(20)).await;
        assert!(session.replies.borrow().bytes() < 3 << 20, "{}", session.replies.borrow().bytes());
        let mut got = vec![0; reply(&large("y")).len() * 20];
        input.read_exact(&mut got).await.unwrap();
        assert!(got == reply(&large("y")).repeat(20).as_bytes());
        writing.await.unwrap().unwrap();
    });
}

#[test]
fn without_room_requests_for_servers_are_refused_in_their_turn_and_others_answered() {
    on_small_worker(async |pass| {
        let test = Fixture::new(&pass, 3, small);
        test.servers.held.set(true);
        let (mut client, ..) = test.connect();
        client.write_all(get("first").as_bytes()).await.unwrap();
        test.seen(1).await;
        let fill = fill(&pass, LIMIT * 9 / 8);
        let ping = "*1\r\n$4\r\nPING\r\n";
        let mget = "*4\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
        client.write_all(format!("{}{ping}{mget}{ping}", get("second")).as_bytes()).await.unwrap();
        until(|| test.pool.cells().client_refused_overload.get() == 2).await;
        test.servers.release();
        expect(&mut client, &reply("first")).await;
        let refused = line(&mut client).await;
        assert!(refused.starts_with("-ERR proxy overloaded: 9437"), "{refused}");
        assert!(refused.ends_with(" bytes buffered, limit 8388608 (max_buffered_bytes)"), "{refused}");
        expect(&mut client, "+PONG\r\n").await;
        assert!(line(&mut client).await.starts_with("-ERR proxy overloaded: "));
        expect(&mut client, "+PONG\r\n").await;
        drop(fill);
        client.write_all(get("third").as_bytes()).await.unwrap();
        expect(&mut client, &reply("third")).await;
        assert_eq!(test.servers.seen.get(), 2, "only what was not refused");
    });
}

#[test]
fn without_room_a_refused_data_block_is_not_taken_for_commands() {
    on_small_worker(async |pass| {
        let test = Fixture::of(Protocol::Memcached, &pass, 2, small);
        let (mut client, ..) = test.connect();
        let room = fill(&pass, LIMIT * 9 / 8);
        // Whole, whole without an answer, and so large that its end is still to come when it is refused.
        let block = "version\r\n".repeat(100_000);
        let requests = [
            "set key 0 0 9\r\nversion\r\n\r\n".into(),
            "set key 0 0 9 noreply\r\nversion\r\n\r\n".into(),
            format!("set key 0 0 {}\r\n{block}\r\n", block.len()),
            "get key key2 key3\r\n".into(),
            "flush_all\r\n".into(),
            "verbosity 1\r\n".into(),
        ];
        client.write_all(requests.concat().as_bytes()).await.unwrap();
        for _ in 0..4 {
            let refused = line(&mut client).await;
            assert!(refused.starts_with("SERVER_ERROR proxy overloaded: 9"), "{refused}");
        }
        expect(&mut client, "OK\r\n").await;
        assert_eq!(test.pool.cells().client_refused_overload.get(), 5);
        assert_eq!(test.servers.seen.get(), 0);
        drop(room);
        client.write_all(b"touch key 0\r\n").await.unwrap();
        expect(&mut client, "TOUCHED\r\n").await;
    });
}

#[test]
fn half_of_a_large_request_does_not_wait_for_room_that_others_like_it_hold() {
    on_small_worker(async |pass| {
        let test = Fixture::new(&pass, 1, small);
        let (mut client, session, task) = test.connect();
        client.write_all(&get(&large("x")).as_bytes()[..500_000]).await.unwrap();
        until(|| session.inbound.borrow().len() == 500_000).await;
        let _room = fill(&pass, LIMIT * 9 / 8);
        let held = pass.budget().total();
        client.write_all(b"x").await.unwrap();
        assert!(line(&mut client).await.starts_with("-ERR proxy overloaded: "));
        task.await.unwrap();
        Pass::before_park();
        assert!(pass.budget().total() <= held - 500_000, "{held}");
    });
}

#[test]
fn a_full_process_reads_no_further_whoever_holds_something_and_goes_on_by_itself() {
    on_small_worker(async |pass| {
        let test = Fixture::new(&pass, 1, small);
        let (mut client, session, _task) = test.connect();
        let room = fill(&pass, LIMIT);
        // Nothing is known of its replies: one at a time.
        test.servers.held.set(true);
        client.write_all(get("a").repeat(500).as_bytes()).await.unwrap();
        until(|| session.paused.get()).await;
        assert_eq!(session.replies.borrow().unanswered(), 1);
        test.servers.release();
        expect(&mut client, &reply("a").repeat(500)).await;
        // They are small: a few at a time.
        test.servers.held.set(true);
        client.write_all(get("b").repeat(500).as_bytes()).await.unwrap();
        until(|| session.replies.borrow().unanswered() == 4).await;
        test.servers.release();
        expect(&mut client, &reply("b").repeat(500)).await;
        drop(room);
        assert_eq!(test.pool.cells().client_refused_overload.get(), 0);
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_when_nothing_more_can_be_held_and_one_that_reads_is_not() {
    on_small_worker(async |pass| {
        let test = Fixture::new(&pass, 1, small);
        test.servers.held.set(true);
        let (mut slow, session, task) = test.connect();
        let (mut reader, _, reading) = test.connect();
        test.servers.more.set((1 << 20) - 1);
        slow.write_all(get("x").repeat(16).as_bytes()).await.unwrap();
        reader.write_all(get("y").as_bytes()).await.unwrap();
        until(|| session.replies.borrow().unanswered() == 16).await;
        test.servers.release();
        expect(&mut reader, &reply(&large("y"))).await;
        // Sixteen were asked for, ten are a quarter above the limit.
        until(|| session.broken.get() || test.pool.connections().all(|c| c.in_flight() == 0)).await;
        // Now and then the worker looks after sessions whose sockets take no more.
        until(|| {
            session.check_patience(Instant::now());
            task.is_finished()
        })
        .await;
        assert_eq!(test.pool.cells().client_cut_overload.get(), 1);
        assert_eq!((session.replies.borrow().bytes(), session.inbound.borrow().len()), (0, 0));
        until(|| test.pool.connections().all(|c| c.in_flight() == 0)).await;
        until(|| pass.budget().total() == 0).await;
        drop(reader);
        reading.await.unwrap();
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut_after_the_limit_and_others_are_not() {
    on_worker(async |pass| {
        let limit = Duration::from_secs(7);
        let test = Fixture::new(&pass, 1, |settings| {
            small(settings);
            settings.pools.iter_mut().for_each(|pool| pool.client_write_timeout = Some(limit));
        });
        let (mut slow, session, task) = test.connect();
        let (_idle, other, _) = test.connect();
        slow.write_all(get(&large("x")).as_bytes()).await.unwrap();
        until(|| session.blocked.get()).await;
        assert_eq!(test.shared.watched.get(), 1);
        let now = pass.now();
        for session in [&session, &other] {
            session.check_patience(now);
            session.check_patience(now + limit * 9 / 10);
            assert!(!session.broken.get() && !session.closing.get());
        }
        // It takes something, but not enough for the socket to take more.
        slow.read_exact(&mut [0; 100_000]).await.unwrap();
        session.check_patience(now + limit * 11 / 10);
        assert!(!session.broken.get());
        session.check_patience(now + limit * 22 / 10);
        other.check_patience(now + limit * 22 / 10);
        task.await.unwrap();
        assert!(!other.broken.get() && !other.closing.get());
        assert_eq!((test.pool.cells().client_cut_slow.get(), test.shared.watched.get()), (1, 0));
        assert_eq!((session.replies.borrow().bytes(), pass.budget().total()), (0, 0));
    });
}

#[test]
fn an_idle_client_is_closed_quietly_unless_it_is_owed_something() {
    on_worker(async |pass| {
        let limit = Duration::from_secs(7);
        let test = Fixture::new(&pass, 1, |settings| {
            small(settings);
            settings.pools.iter_mut().for_each(|pool| pool.client_idle_timeout = Some(limit));
        });
        test.servers.held.set(true);
        let (mut idle, session, task) = test.connect();
        let (mut waiting, other, _other) = test.connect();
        waiting.write_all(get("a").as_bytes()).await.unwrap();
        test.seen(1).await;
        let now = pass.now();
        for (after, closed) in [(limit * 9 / 10, false), (limit * 11 / 10, true)] {
            session.check_patience(now + after);
            other.check_patience(now + after);
            assert_eq!((session.closing.get(), other.closing.get()), (closed, false));
        }
        assert_eq!(to_end(&mut idle).await, "");
        task.await.unwrap();
        test.servers.release();
        expect(&mut waiting, &reply("a")).await;
        let cells = test.pool.cells();
        assert_eq!((cells.client_closed_idle.get(), cells.client_err.get()), (1, 0));
    });
}

#[test]
fn what_a_session_answers_itself_counts_although_its_client_does_not_read() {
    on_small_worker(async |pass| {
        let test = Fixture::new(&pass, 1, small);
        let (mut client, session, _task) = test.connect();
        let echos = format!("*2\r\n$4\r\nECHO\r\n$10000\r\n{}\r\n", "e".repeat(10_000)).repeat(1000);
        let _ = timeout(Duration::from_millis(500), client.write_all(echos.as_bytes())).await;
        assert!(session.paused.get() && session.replies.borrow().bytes() >= 1 << 20);
        assert!(pass.budget().total() >= 1 << 20, "{} bytes counted", pass.budget().total());
    });
}

#[test]
fn a_client_that_stops_in_a_large_request_is_refused_when_there_is_no_room_left() {
    on_small_worker(async |pass| {
        let test = Fixture::new(&pass, 1, small);
        let (mut client, session, task) = test.connect();
        let half = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n{}", large("v"));
        client.write_all(half.as_bytes()).await.unwrap();
        until(|| session.inbound.borrow().len() == half.len()).await;
        assert_eq!(test.shared.watched.get(), 1, "the worker looks after it");
        session.check_patience(Instant::now());
        let room = fill(&pass, LIMIT * 9 / 8);
        // Nothing more comes of the request, and nothing else wakes the session.
        session.check_patience(Instant::now());
        assert!(line(&mut client).await.starts_with("-ERR proxy overloaded: "));
        task.await.unwrap();
        drop(room);
        assert_eq!(test.shared.watched.get(), 0);
    });
}
