//! A connection on a runtime like a worker's, over real sockets, with the test as its server and as its sessions.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use super::*;
use crate::backend::testing::{Place, assert_empty, describe};
use crate::io::Payload;
use crate::io::testing::{on_worker, watch};

mod changes;
mod failures;
mod scripts;

/// What became of the requests, in the order in which it did.
#[derive(Default)]
struct Asker {
    told: RefCell<Vec<(u64, Result<String, Reason>)>>,
    /// Those that may be sent to another server.
    offered: RefCell<Vec<u64>>,
    changed: Notify,
}

impl Asker {
    fn note(&self, ticket: Ticket, result: Result<String, Reason>) {
        self.told.borrow_mut().push((ticket.sequence, result));
        self.changed.notify_one();
    }

    /// Waits until `count` requests have come to an end.
    async fn told(&self, count: usize) -> Vec<(u64, Result<String, Reason>)> {
        while self.told.borrow().len() < count {
            self.changed.notified().await;
        }
        self.told.borrow().clone()
    }
}

impl Requester for Asker {
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>) {
        self.note(ticket, Ok(String::from_utf8_lossy(payload.as_slice()).into_owned()));
    }

    fn fail(self: Rc<Self>, ticket: Ticket, failure: &Failure<'_>) {
        if failure.lost.is_some() {
            self.offered.borrow_mut().push(ticket.sequence);
        }
        self.note(ticket, Err(failure.reason.clone()));
    }

    fn no_script(self: Rc<Self>, ticket: Ticket, request: Lost, payload: Payload<'_>) {
        let text = [&request.bytes[..], payload.as_slice()].concat();
        self.note(ticket, Ok(String::from_utf8_lossy(&text).into_owned()));
    }
}

/// What a server's connections say of it.
#[derive(Default)]
struct Health {
    failures: Cell<u32>,
    /// Of each failure: when it began, and when it was told.
    times: RefCell<Vec<(Instant, Instant)>>,
    answers: Cell<u32>,
    ejected: Cell<bool>,
    /// Ejected at so many failures; 0: not by failures.
    limit: u32,
}

impl ServerHealth for Health {
    fn failed(&self, begun: Instant, _: &Reason, _: &'static str) {
        self.failures.set(self.failures.get() + 1);
        self.times.borrow_mut().push((begun, Instant::now()));
    }

    fn answered(&self) {
        self.answers.set(self.answers.get() + 1);
    }

    fn is_ejected(&self) -> bool {
        self.ejected.get() || (self.limit > 0 && self.failures.get() >= self.limit)
    }

    fn may_be_ejected(&self) -> bool {
        self.limit > 0
    }

    fn recoveries(&self) -> u64 {
        0
    }

    fn may_repeat(&self) -> bool {
        true
    }
}

struct Fixture {
    connection: Rc<Connection>,
    asker: Rc<Asker>,
    place: Place,
}

impl Fixture {
    fn new(pass: &Rc<Pass>, change: impl FnOnce(&mut Server)) -> Self {
        let place = Place::make();
        Self { connection: connection(pass, &place.path, change), asker: Rc::default(), place }
    }

    fn run(self) -> Self {
        run(&self.connection);
        self
    }

    fn send(&self, sequence: u64, request: &[u8]) {
        send(&self.connection, &self.asker, sequence, request);
    }

    async fn accept(&self) -> UnixStream {
        self.place.accept().await
    }
}

fn connection(pass: &Rc<Pass>, path: &Path, change: impl FnOnce(&mut Server)) -> Rc<Connection> {
    let mut server = describe(path);
    change(&mut server);
    Connection::new(Arc::new(server), Rc::<Health>::default(), pass.clone(), Records::default())
}

fn connection_of(pass: &Rc<Pass>, path: &Path, health: Rc<Health>) -> Rc<Connection> {
    Connection::new(Arc::new(describe(path)), health, pass.clone(), Records::default())
}

/// Drives a connection and watches its deadlines, as a worker does for all of its connections.
fn run(connection: &Rc<Connection>) {
    spawn_local(connection.clone().run());
    let checked = connection.clone();
    watch(&connection.wire.pass, move |now| checked.check_deadlines(now));
}

fn send(connection: &Rc<Connection>, asker: &Rc<Asker>, sequence: u64, bytes: &[u8]) {
    send_as(connection, asker, Request::once(Ticket { sequence, part: 0 }, Expect::Resp), bytes);
}

fn send_read(connection: &Rc<Connection>, asker: &Rc<Asker>, sequence: u64, bytes: &[u8]) {
    let once = Request::once(Ticket { sequence, part: 0 }, Expect::Resp);
    send_as(connection, asker, Request { repeatable: true, ..once }, bytes);
}

fn send_as(connection: &Rc<Connection>, asker: &Rc<Asker>, request: Request, bytes: &[u8]) {
    let requester: Rc<dyn Requester> = asker.clone();
    connection.send(Some(requester), request, |out, pass| out.push(Payload::Borrowed(bytes), pass));
}

async fn receive(socket: &mut UnixStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

const LOST: Reason = Reason::Closed;

fn ok(sequence: u64, reply: &str) -> (u64, Result<String, Reason>) {
    (sequence, Ok(reply.into()))
}

fn with_database(server: &mut Server) {
    server.login.database = 1;
}

const SELECT: usize = b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n".len();

#[test]
fn what_was_written_in_part_fails_and_what_was_not_is_sent_again() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        let large = vec![b'L'; 8 << 20];
        test.send(0, &large);
        test.send(1, b"second\r\n");
        let mut first = test.accept().await;
        receive(&mut first, 1000).await;
        drop(first);
        let mut second = test.accept().await;
        assert_eq!(receive(&mut second, 8).await, "second\r\n");
        second.write_all(b"+2\r\n").await.unwrap();
        let told = test.asker.told(2).await;
        assert!(matches!(&told[0], (0, Err(_))), "{told:?}");
        assert_eq!(told[1], ok(1, "+2\r\n"));
    });
}

#[test]
fn what_expired_while_connecting_is_never_sent_and_takes_no_room() {
    on_worker(async |pass| {
        let limits = |server: &mut Server| {
            with_database(server);
            server.timeout = Some(Duration::from_millis(500));
            server.max_requests = 1;
        };
        let test = Fixture::new(&pass, limits).run();
        test.send(0, b"expires\r\n");
        let mut socket = test.accept().await;
        assert_eq!(test.asker.told(1).await, [(0, Err(Reason::TimedOut(500)))]);
        assert!(test.connection.has_room(), "nothing can be waited for on a connection that is not made");
        receive(&mut socket, SELECT).await;
        test.send(1, b"in time\r\n");
        socket.write_all(b"+OK\r\n").await.unwrap();
        assert_eq!(receive(&mut socket, 9).await, "in time\r\n");
        socket.write_all(b"+1\r\n").await.unwrap();
        assert_eq!(test.asker.told(2).await[1], ok(1, "+1\r\n"));
    });
}

#[test]
fn a_server_that_drops_every_connection_unheard_is_not_asked_in_circles() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, with_database).run();
        test.send(0, b"never written\r\n");
        let accepts = Cell::new(0);
        let serve = async {
            loop {
                let mut socket = test.accept().await;
                accepts.set(accepts.get() + 1);
                receive(&mut socket, SELECT).await;
                socket.write_all(b"+OK\r\n").await.unwrap();
            }
        };
        tokio::select! {
            () = serve => {}
            told = test.asker.told(1) => assert_eq!(told, [(0, Err(LOST))]),
        }
        assert_eq!(accepts.get(), 2, "once more, in case that the first was an accident");
    });
}

#[test]
fn replies_sent_before_the_connection_broke_count() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        test.send(0, b"first\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 7).await;
        let mut socket = socket.into_std().unwrap();
        socket.write_all(b"+1\r\n").unwrap();
        drop(socket);
        // At the end of this pass, before the reply is looked at, its write fails.
        test.send(1, b"second\r\n");
        assert_eq!(test.asker.told(1).await, [ok(0, "+1\r\n")]);
        let mut socket = test.accept().await;
        assert_eq!(receive(&mut socket, 8).await, "second\r\n");
    });
}

#[test]
fn sessions_that_wait_for_room_go_on_when_what_was_in_the_way_is_written() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |server| server.max_bytes = 1000).run();
        test.send(0, &[b'L'; 2000]);
        // No reply comes; only the write makes room.
        poll_fn(|cx| {
            if test.connection.has_room() {
                return Poll::Ready(());
            }
            test.connection.wait_for_room(cx.waker());
            Poll::Pending
        })
        .await;
    });
}

#[test]
fn a_request_times_out_although_the_pass_is_long() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |server| server.timeout = Some(Duration::from_millis(20))).run();
        test.send(0, b"request\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 9).await;
        // Keeps the run queue from running empty, so that the pass and its clock stand still while the timer fires.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            yield_now().await;
        }
        assert_eq!(test.asker.told(1).await, [(0, Err(Reason::TimedOut(20)))]);
    });
}

#[test]
fn a_connection_that_stays_silent_is_closed_and_late_replies_are_dropped() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |server| server.timeout = Some(Duration::from_millis(500))).run();
        test.send(0, b"late\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 6).await;
        test.asker.told(1).await;
        socket.write_all(b"+late\r\n").await.unwrap();
        sleep(Duration::from_millis(10)).await;
        test.send(1, b"next\r\n");
        receive(&mut socket, 6).await;
        socket.write_all(b"+next\r\n").await.unwrap();
        assert_eq!(test.asker.told(2).await[1], ok(1, "+next\r\n"));
        test.send(2, b"lost\r\n");
        receive(&mut socket, 6).await;
        assert_eq!(socket.read(&mut [0; 10]).await.unwrap(), 0, "closed after silence");
        assert_eq!(test.asker.told(3).await[2], (2, Err(Reason::TimedOut(500))));
    });
}

#[test]
fn requests_to_a_dead_server_fail_at_once_and_it_is_tried_now_and_then() {
    on_worker(async |pass| {
        let directory = tempfile::tempdir().unwrap();
        let path: &Path = &directory.path().join("s");
        let health = Rc::<Health>::default();
        let (connection, asker) = (connection_of(&pass, path, health.clone()), Rc::<Asker>::default());
        run(&connection);
        let start = Instant::now();
        for sequence in 0..50 {
            send(&connection, &asker, sequence, b"x");
            asker.told(sequence as usize + 1).await;
        }
        assert!(health.failures.get() < 10, "{} attempts in {:?}", health.failures.get(), start.elapsed());
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let mut request = [0];
            while socket.read_exact(&mut request).is_ok() {
                socket.write_all(b"+1\r\n").unwrap();
            }
        });
        // The wait is at most 50 ms, and then it is tried without costing another request.
        sleep(Duration::from_millis(100)).await;
        send(&connection, &asker, 50, b"x");
        assert_eq!(asker.told(51).await[50], ok(50, "+1\r\n"));
    });
}

#[test]
fn requests_wait_for_the_ejection_that_some_more_failures_bring() {
    on_worker(async |pass| {
        let directory = tempfile::tempdir().unwrap();
        let health = Rc::new(Health { limit: 4, ..Health::default() });
        let path = directory.path().join("nobody listens");
        let (connection, asker) = (connection_of(&pass, &path, health.clone()), Rc::<Asker>::default());
        run(&connection);
        for sequence in 0..50 {
            send(&connection, &asker, sequence, b"x");
        }
        asker.told(50).await;
        assert_eq!(health.failures.get(), 4, "nobody is told before the server is ejected");
        assert_eq!(asker.offered.borrow().len(), 50, "whoever has the keys now may be asked");
        send(&connection, &asker, 50, b"x");
        asker.told(51).await;
        assert_eq!(health.failures.get(), 4, "an ejected server is left alone");
    });
}

#[test]
fn a_read_that_was_written_is_sent_again_before_what_was_not() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        send_read(&test.connection, &test.asker, 0, b"read\r\n");
        test.send(1, b"write\r\n");
        let mut first = test.accept().await;
        receive(&mut first, 13).await;
        drop(first);
        // Queued while there is no link.
        while test.connection.is_up() {
            yield_now().await;
        }
        test.send(2, b"later\r\n");
        let mut second = test.accept().await;
        assert_eq!(receive(&mut second, 13).await, "read\r\nlater\r\n");
        second.write_all(b"+0\r\n+2\r\n").await.unwrap();
        let told = test.asker.told(3).await;
        assert!(matches!(told[0], (1, Err(_))), "whether the write ran is not known: {told:?}");
        assert_eq!(told[1..], [ok(0, "+0\r\n"), ok(2, "+2\r\n")]);
    });
}

#[test]
fn a_read_is_sent_twice_and_not_three_times() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        // Heard once, so that a loss is no sign of a server that answers nobody.
        test.send(9, b"first\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, 7).await;
        socket.write_all(b"+9\r\n").await.unwrap();
        test.asker.told(1).await;
        send_read(&test.connection, &test.asker, 0, b"read\r\n");
        receive(&mut socket, 6).await;
        drop(socket);
        let mut socket = test.accept().await;
        receive(&mut socket, 6).await;
        drop(socket);
        assert_eq!(test.asker.told(2).await[1], (0, Err(LOST)));
    });
}

#[test]
fn a_link_that_died_unseen_while_idle_costs_no_read() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |server| server.timeout = Some(Duration::from_millis(400))).run();
        send_read(&test.connection, &test.asker, 0, b"read\r\n");
        let mut dead = test.accept().await;
        receive(&mut dead, 6).await;
        dead.write_all(b"+0\r\n").await.unwrap();
        test.asker.told(1).await;
        sleep(IDLE + Duration::from_millis(50)).await;
        // From here on nothing comes over this link, which stays open all the same.
        send_read(&test.connection, &test.asker, 1, b"read\r\n");
        let mut fresh = test.accept().await;
        receive(&mut fresh, 6).await;
        fresh.write_all(b"+1\r\n").await.unwrap();
        assert_eq!(test.asker.told(2).await[1], ok(1, "+1\r\n"));
        drop(dead);
    });
}

#[test]
fn a_retired_link_answers_what_it_has_and_the_next_takes_the_rest() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ()).run();
        test.send(0, b"old\r\n");
        let mut old = test.accept().await;
        receive(&mut old, 5).await;
        test.connection.retire();
        test.send(1, b"new\r\n");
        sleep(Duration::from_millis(20)).await;
        old.write_all(b"+0\r\n").await.unwrap();
        let mut new = test.accept().await;
        assert_eq!(receive(&mut new, 5).await, "new\r\n");
        new.write_all(b"+1\r\n").await.unwrap();
        assert_eq!(test.asker.told(2).await, [ok(0, "+0\r\n"), ok(1, "+1\r\n")]);
    });
}
