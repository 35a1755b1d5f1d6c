//! Connections whose server is described anew, or is not wanted any more.

use super::*;

impl Fixture {
    fn move_to(&self, path: &Path, change: impl FnOnce(&mut Server)) -> Rc<Health> {
        let (mut server, health) = (describe(path), Rc::<Health>::default());
        change(&mut server);
        self.connection.update(Arc::new(server), health.clone());
        health
    }

    /// The connection's own task, so that a test sees its end.
    fn task(&self) -> tokio::task::JoinHandle<()> {
        let ticking = self.connection.clone();
        spawn_local(async move {
            loop {
                sleep(Duration::from_millis(2)).await;
                ticking.check_deadlines(Instant::now());
            }
        });
        spawn_local(self.connection.clone().run())
    }

    fn assert_at_rest(&self) {
        let cells = &self.connection.wire.cells;
        assert_empty(cells);
        assert_eq!((cells.server_connections.get(), self.connection.in_flight()), (0, 0));
        assert!(self.connection.is_over());
    }
}

fn failed(sequence: u64) -> (u64, Result<String, Reason>) {
    (sequence, Err(Reason::Removed))
}

#[test]
fn one_that_leaves_answers_out_what_it_has_and_ends() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        let task = test.task();
        test.send(0, b"written\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 9).await;
        test.send(1, b"not yet\r\n");
        test.connection.leave();
        assert!(!test.connection.is_over());
        assert_eq!(receive(&mut socket, 9).await, "not yet\r\n");
        socket.write_all(b"+0\r\n").await.unwrap();
        test.asker.told(1).await;
        assert!(!task.is_finished());
        socket.write_all(b"+1\r\n").await.unwrap();
        assert_eq!(test.asker.told(2).await, [ok(0, "+0\r\n"), ok(1, "+1\r\n")]);
        task.await.unwrap();
        assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
        test.assert_at_rest();
    });
}

#[test]
fn one_that_is_not_used_for_long_is_closed_and_what_comes_just_then_goes_by_a_new_link() {
    on_worker(async |pass| {
        let (test, limit) = (Fixture::new(&pass, |_| ()).run(), Duration::from_secs(60));
        assert_eq!(test.connection.close_unused(Instant::now() + limit, limit), None, "there is no link");
        test.send(0, b"first\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 7).await;
        assert_eq!(test.connection.close_unused(Instant::now() + 10 * limit, limit), Some(limit), "it is in use");
        socket.write_all(b"+0\r\n").await.unwrap();
        test.asker.told(1).await;
        assert!(test.connection.close_unused(Instant::now() + limit / 2, limit).is_some_and(|left| left > limit / 3));
        assert!(test.connection.is_up());
        assert_eq!(test.connection.close_unused(Instant::now() + limit, limit), None);
        test.send(1, b"second\r\n");
        assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0, "nothing more is written to it");
        let mut socket = test.accept().await;
        assert_eq!(receive(&mut socket, 8).await, "second\r\n");
        socket.write_all(b"+1\r\n").await.unwrap();
        assert_eq!(test.asker.told(2).await, [ok(0, "+0\r\n"), ok(1, "+1\r\n")]);
    });
}

#[test]
fn one_that_leaves_without_a_link_makes_one_for_what_waits() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        let task = test.task();
        test.send(0, b"waits\r\n");
        test.connection.leave();
        let mut socket = test.accept().await;
        receive(&mut socket, 7).await;
        socket.write_all(b"+0\r\n").await.unwrap();
        assert_eq!(test.asker.told(1).await, [ok(0, "+0\r\n")]);
        task.await.unwrap();
        test.assert_at_rest();
    });
}

#[test]
fn one_that_is_out_of_time_fails_each_request_once() {
    on_worker(async |pass| {
        for up in [true, false] {
            let test = Fixture::new(&pass, with_database);
            let task = test.task();
            send_read(&test.connection, &test.asker, 0, b"read\r\n");
            test.send(1, &vec![b'L'; 8 << 20]);
            test.send(2, b"never written\r\n");
            let mut socket = test.accept().await;
            receive(&mut socket, SELECT).await;
            if up {
                socket.write_all(b"+OK\r\n").await.unwrap();
                receive(&mut socket, 1000).await;
            }
            test.connection.leave();
            test.connection.end();
            test.connection.end();
            assert_eq!(*test.asker.told.borrow(), [failed(0), failed(1), failed(2)], "at once; up: {up}");
            task.await.unwrap();
            test.assert_at_rest();
            assert_eq!(test.asker.told.borrow().len(), 3);
        }
    });
}

#[test]
fn one_that_leaves_does_not_wait_for_a_link_that_nobody_needs() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, with_database);
        let task = test.task();
        test.connection.preconnect();
        let mut socket = test.accept().await;
        // It never answers.
        receive(&mut socket, SELECT).await;
        test.connection.leave();
        task.await.unwrap();
        test.assert_at_rest();
    });
}

#[test]
fn one_that_leaves_ends_when_the_last_request_expires_before_there_is_a_link() {
    on_worker(async |pass| {
        let limits = |server: &mut Server| {
            with_database(server);
            server.timeout = Some(Duration::from_millis(20));
        };
        let test = Fixture::new(&pass, limits);
        let task = test.task();
        test.send(0, b"expires\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, SELECT).await;
        test.connection.leave();
        assert_eq!(test.asker.told(1).await, [(0, Err(Reason::TimedOut(20)))]);
        task.await.unwrap();
        test.assert_at_rest();
    });
}

#[test]
fn after_a_move_the_old_link_answers_what_it_was_sent_and_the_new_one_takes_the_rest_in_order() {
    on_worker(async |pass| {
        let (test, place) = (Fixture::new(&pass, |_| ()).run(), Place::make());
        test.send(0, b"old\r\n");
        let mut old = test.accept().await;
        receive(&mut old, 5).await;
        test.move_to(&place.path, |_| ());
        (1..4).for_each(|sequence| test.send(sequence, b"new\r\n"));
        sleep(Duration::from_millis(20)).await;
        old.write_all(b"+0\r\n").await.unwrap();
        let mut new = place.accept().await;
        assert_eq!(receive(&mut new, 15).await, "new\r\n".repeat(3));
        assert_eq!(old.read(&mut [0; 1]).await.unwrap(), 0, "nothing more was sent there");
        new.write_all(b"+1\r\n+2\r\n+3\r\n").await.unwrap();
        let expected = [ok(0, "+0\r\n"), ok(1, "+1\r\n"), ok(2, "+2\r\n"), ok(3, "+3\r\n")];
        assert_eq!(test.asker.told(4).await, expected);
    });
}

#[test]
fn another_login_is_another_link_to_the_same_place() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        test.send(0, b"before\r\n");
        let mut old = test.accept().await;
        receive(&mut old, 8).await;
        test.move_to(&test.place.path.clone(), with_database);
        test.send(1, b"after\r\n");
        old.write_all(b"+0\r\n").await.unwrap();
        let mut new = test.accept().await;
        receive(&mut new, SELECT).await;
        new.write_all(b"+OK\r\n").await.unwrap();
        assert_eq!(receive(&mut new, 7).await, "after\r\n");
        new.write_all(b"+1\r\n").await.unwrap();
        assert_eq!(test.asker.told(2).await, [ok(0, "+0\r\n"), ok(1, "+1\r\n")]);
    });
}

#[test]
fn an_attempt_at_the_old_place_is_called_off_and_costs_nothing() {
    on_worker(async |pass| {
        let (test, place) = (Fixture::new(&pass, with_database).run(), Place::make());
        test.send(0, b"request\r\n");
        let mut old = test.accept().await;
        receive(&mut old, SELECT).await;
        // Its time is up in the same moment.
        test.connection.give_up(Reason::ConnectTimedOut(1));
        let health = test.move_to(&place.path, |_| ());
        let mut new = place.accept().await;
        assert_eq!(receive(&mut new, 9).await, "request\r\n");
        new.write_all(b"+0\r\n").await.unwrap();
        assert_eq!(test.asker.told(1).await, [ok(0, "+0\r\n")]);
        assert_eq!(health.failures.get(), 0);
    });
}

#[test]
fn where_the_server_is_now_it_is_tried_at_once() {
    on_worker(async |pass| {
        let (test, place) = (Fixture::new(&pass, |_| ()), Place::make());
        let nowhere = place.path.with_file_name("nobody listens");
        test.move_to(&nowhere, |server| server.max_reconnect_delay = Duration::from_secs(1000));
        run(&test.connection);
        // Each attempt that fails makes the next one wait longer, which only other news of the server can shorten.
        for sequence in 0..3 {
            test.send(sequence, b"x");
            test.asker.told(sequence as usize + 1).await;
        }
        assert!(test.connection.is_backing_off());
        test.move_to(&place.path, |_| ());
        test.send(3, b"x");
        let mut socket = place.accept().await;
        receive(&mut socket, 1).await;
        socket.write_all(b"+3\r\n").await.unwrap();
        assert_eq!(test.asker.told(4).await[3], ok(3, "+3\r\n"));
    });
}

#[test]
fn there_and_back_twice_before_the_old_link_has_answered() {
    on_worker(async |pass| {
        let (test, place) = (Fixture::new(&pass, |_| ()).run(), Place::make());
        test.send(0, b"old\r\n");
        let mut old = test.accept().await;
        receive(&mut old, 5).await;
        for _ in 0..2 {
            test.move_to(&place.path, |_| ());
            sleep(Duration::from_millis(2)).await;
            test.move_to(&test.place.path.clone(), |_| ());
            sleep(Duration::from_millis(2)).await;
        }
        test.send(1, b"new\r\n");
        old.write_all(b"+0\r\n").await.unwrap();
        let mut new = test.accept().await;
        assert_eq!(receive(&mut new, 5).await, "new\r\n");
        new.write_all(b"+1\r\n").await.unwrap();
        assert_eq!(test.asker.told(2).await, [ok(0, "+0\r\n"), ok(1, "+1\r\n")]);
        let none = timeout(Duration::from_millis(20), place.accept()).await;
        assert!(none.is_err(), "the place where it was in between was connected to");
    });
}

#[test]
fn the_end_of_the_server_at_the_old_place_says_nothing_about_the_new_one() {
    on_worker(async |pass| {
        let (test, place) =
            (Fixture::new(&pass, |server| server.timeout = Some(Duration::from_millis(50))), Place::make());
        run(&test.connection);
        test.send(0, b"late\r\n");
        test.send(1, b"lost\r\n");
        let mut old = test.accept().await;
        receive(&mut old, 12).await;
        let health = test.move_to(&place.path, |_| ());
        test.asker.told(2).await;
        drop(old);
        test.send(2, b"new\r\n");
        let mut new = place.accept().await;
        receive(&mut new, 5).await;
        assert_eq!(health.failures.get(), 0, "what is slow, or ends, is not there any more");
        drop(new);
        test.asker.told(3).await;
        assert_eq!(health.failures.get(), 1, "and this is");
    });
}

#[test]
fn of_a_retired_link_that_is_jammed_only_the_request_under_way_is_finished() {
    on_worker(async |pass| {
        let (test, place) = (Fixture::new(&pass, |server| server.max_bytes = usize::MAX).run(), Place::make());
        let large = 8 << 20;
        test.send(0, &vec![b'L'; large]);
        let mut old = test.accept().await;
        receive(&mut old, 1000).await;
        test.move_to(&place.path, |_| ());
        // However much comes while it is written.
        (1..9).for_each(|sequence| test.send(sequence, &vec![b'n'; 1 << 20]));
        let rest = receive(&mut old, large - 1000).await;
        assert!(rest.bytes().all(|byte| byte == b'L'));
        sleep(Duration::from_millis(20)).await;
        assert!(old.try_read(&mut [0; 1]).is_err(), "more than the request was sent");
        old.write_all(b"+0\r\n").await.unwrap();
        let mut new = place.accept().await;
        receive(&mut new, 8 << 20).await;
        new.write_all(&b"+n\r\n".repeat(8)).await.unwrap();
        let told = test.asker.told(9).await;
        assert_eq!(told[0], ok(0, "+0\r\n"));
        assert!(told[1..].iter().zip(1..).all(|(told, sequence)| *told == ok(sequence, "+n\r\n")));
    });
}
