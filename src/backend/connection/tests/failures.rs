//! What a connection does, and says of its server, when that is slow, refuses to serve, moves or is ejected.

use super::*;

/// As [`Fixture::new`], with what is said of the server.
fn watched(pass: &Rc<Pass>, change: impl FnOnce(&mut Server)) -> (Fixture, Rc<Health>) {
    let mut test = Fixture::new(pass, |_| ());
    let (mut server, health) = (describe(&test.place.path), Rc::<Health>::default());
    change(&mut server);
    test.connection = Connection::new(Arc::new(server), health.clone(), pass.clone(), Records::default());
    (test.run(), health)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Little time for usual requests, much for slow ones.
fn two_limits(server: &mut Server) {
    (server.timeout, server.slow_timeout) = (Some(millis(200)), Some(millis(20_000)));
}

fn send_slow(test: &Fixture, sequence: u64, bytes: &[u8]) {
    let once = Request::once(Ticket { sequence, part: 0 }, Expect::Resp);
    send_as(&test.connection, &test.asker, Request { time: Time::Slow, ..once }, bytes);
}

/// The connection is made, and was used.
async fn used(test: &Fixture) -> UnixStream {
    test.send(99, b"first\r\n");
    let mut socket = test.accept().await;
    receive(&mut socket, 7).await;
    socket.write_all(b"+99\r\n").await.unwrap();
    test.asker.told(1).await;
    socket
}

#[test]
fn the_rest_of_a_request_that_was_answered_early_does_not_open_the_next_connection() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        test.send(0, &vec![b'L'; 8 << 20]);
        let mut socket = test.accept().await;
        receive(&mut socket, 1000).await;
        socket.write_all(b"-ERR too large\r\n").await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(test.asker.told(1).await, [ok(0, "-ERR too large\r\n")]);
        while test.connection.is_up() {
            yield_now().await;
        }
        test.send(1, b"next\r\n");
        let mut second = test.accept().await;
        assert_eq!(receive(&mut second, 6).await, "next\r\n");
    });
}

#[test]
fn a_request_of_which_a_part_is_written_is_finished_before_its_link_is_retired() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        let large = vec![b'L'; 8 << 20];
        test.send(0, &large);
        let mut old = test.accept().await;
        receive(&mut old, 1000).await;
        test.connection.retire();
        sleep(millis(20)).await;
        receive(&mut old, large.len() - 1000).await;
        test.send(1, b"new\r\n");
        sleep(millis(20)).await;
        old.write_all(b"+0\r\n").await.unwrap();
        let mut new = test.accept().await;
        assert_eq!(receive(&mut new, 5).await, "new\r\n");
        assert_eq!(test.asker.told(1).await, [ok(0, "+0\r\n")]);
    });
}

#[test]
fn a_slow_request_on_an_idle_link_has_all_of_its_time() {
    on_worker(async |pass| {
        let (test, health) = watched(&pass, two_limits);
        let mut socket = used(&test).await;
        sleep(IDLE + millis(50)).await;
        send_slow(&test, 0, b"slow\r\n");
        receive(&mut socket, 6).await;
        sleep(millis(300)).await;
        let _ = socket.write_all(b"+0\r\n").await;
        assert_eq!(test.asker.told(2).await[1], ok(0, "+0\r\n"));
        assert_eq!(health.failures.get(), 0);
    });
}

#[test]
fn a_server_that_is_busy_with_a_slow_request_keeps_its_link() {
    on_worker(async |pass| {
        let (test, _) = watched(&pass, two_limits);
        let mut socket = used(&test).await;
        send_slow(&test, 0, b"slow\r\n");
        test.send(1, b"usual\r\n");
        receive(&mut socket, 13).await;
        assert_eq!(test.asker.told(2).await[1], (1, Err(Reason::TimedOut(200))));
        sleep(millis(300)).await;
        let _ = socket.write_all(b"+0\r\n+1\r\n").await;
        assert_eq!(test.asker.told(3).await[2], ok(0, "+0\r\n"));
    });
}

#[test]
fn a_reply_that_comes_too_late_is_no_sign_of_health() {
    on_worker(async |pass| {
        let (test, health) = watched(&pass, |server| server.timeout = Some(millis(200)));
        let mut socket = used(&test).await;
        assert_eq!(health.answers.get(), 1);
        test.send(0, b"late\r\n");
        receive(&mut socket, 6).await;
        test.asker.told(2).await;
        socket.write_all(b"+0\r\n").await.unwrap();
        while test.connection.in_flight() > 0 {
            yield_now().await;
        }
        assert_eq!((health.failures.get(), health.answers.get()), (1, 1));
    });
}

#[test]
fn a_slow_request_that_times_out_began_when_it_was_queued() {
    on_worker(async |pass| {
        let limits =
            |server: &mut Server| (server.timeout, server.slow_timeout) = (Some(millis(50)), Some(millis(400)));
        let (test, health) = watched(&pass, limits);
        let queued = Instant::now();
        send_slow(&test, 0, b"slow\r\n");
        assert_eq!(test.asker.told(1).await, [(0, Err(Reason::TimedOut(400)))]);
        let begun = health.times.borrow()[0].0;
        assert!(begun < queued + millis(200), "{:?} later", begun - queued);
    });
}

#[test]
fn the_second_request_that_a_loading_server_refuses_began_after_the_first_failure() {
    on_worker(async |pass| {
        let (test, health) = watched(&pass, |server| server.timeout = Some(millis(20_000)));
        let mut socket = used(&test).await;
        for sequence in 0..2 {
            test.send(sequence, b"read\r\n");
            receive(&mut socket, 6).await;
            socket.write_all(b"-LOADING wait\r\n").await.unwrap();
            test.asker.told(sequence as usize + 2).await;
            // A client has to be told first, which is another pass.
            sleep(millis(1)).await;
        }
        let times = health.times.borrow().clone();
        assert!(times.len() == 2 && times[1].0 > times[0].1, "{times:?}");
    });
}

#[test]
fn a_thousand_refusals_in_one_read_are_told_once() {
    on_worker(async |pass| {
        let (test, health) = watched(&pass, |server| server.max_requests = 1000);
        (0..1000).for_each(|sequence| test.send(sequence, b"x"));
        let mut socket = test.accept().await;
        receive(&mut socket, 1000).await;
        socket.write_all("-LOADING wait\r\n".repeat(1000).as_bytes()).await.unwrap();
        test.asker.told(1000).await;
        assert!((1..10).contains(&health.failures.get()), "{}", health.failures.get());
        assert_eq!(health.answers.get(), 0);
    });
}

#[test]
fn reads_on_the_last_connection_of_an_ejected_server_are_offered() {
    on_worker(async |pass| {
        let (test, health) = watched(&pass, |_| ());
        send_read(&test.connection, &test.asker, 0, b"old\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 5).await;
        drop(socket);
        let mut socket = test.accept().await;
        receive(&mut socket, 5).await;
        send_read(&test.connection, &test.asker, 1, b"new\r\n");
        test.send(2, b"write\r\n");
        receive(&mut socket, 12).await;
        health.ejected.set(true);
        drop(socket);
        test.asker.told(3).await;
        assert_eq!(
            *test.asker.offered.borrow(),
            [1],
            "the first one was sent twice, and what a write did is not known"
        );
    });
}

#[test]
fn requests_do_not_wait_for_a_connection_to_a_server_that_was_ejected_meanwhile() {
    on_worker(async |pass| {
        let (test, health) = watched(&pass, with_database);
        test.send(0, b"never written\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, SELECT).await;
        health.ejected.set(true);
        // As the worker does when it is told.
        test.connection.check_deadlines(pass.now());
        assert_eq!(test.asker.told(1).await, [(0, Err(Reason::Ejected))]);
        assert_eq!((&test.asker.offered.borrow()[..], health.failures.get()), (&[0][..], 0));
    });
}

#[test]
fn a_server_that_moves_before_it_was_asked_is_not_taken_for_one_that_drops_connections() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        for _ in 0..3 {
            test.connection.preconnect();
            let _socket = test.accept().await;
            while !test.connection.is_up() {
                yield_now().await;
            }
            test.connection.retire();
            while test.connection.is_up() {
                yield_now().await;
            }
        }
        test.send(0, b"x");
        let mut socket = test.accept().await;
        receive(&mut socket, 1).await;
        socket.write_all(b"+0\r\n").await.unwrap();
        assert_eq!(test.asker.told(1).await, [ok(0, "+0\r\n")]);
    });
}
