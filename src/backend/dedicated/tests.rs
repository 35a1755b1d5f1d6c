//! A dedicated connection on a runtime like a worker's, over real sockets, with the test as its server, tenant and keeper.

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use super::*;
use crate::backend::{Endpoint, Login};
use crate::io::Ticker;
use crate::protocol::Limits;
use crate::telemetry::Times;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test as a worker runs its tasks.
fn on_worker<F: Future>(test: impl FnOnce(Rc<Pass>) -> F) {
    let pass = Pass::new();
    pass.install();
    let mut builder = Builder::new_current_thread();
    builder.enable_all().on_thread_park(Pass::before_park).on_thread_unpark(Pass::after_park);
    let runtime = builder.build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { timeout(PATIENCE, test(pass)).await.expect("it hangs") });
    drop(runtime);
    Pass::uninstall();
}

/// What a tenant is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Reply(u64, String),
    Fail(u64, Reason),
    Message(u32, String),
    Lost(u32, Reason),
}

/// Done with the connection by a tenant that has just got a reply.
type OnReply = Box<dyn Fn(&Rc<Dedicated>)>;

#[derive(Default)]
struct Guest {
    told: RefCell<Vec<Told>>,
    changed: Notify,
    on_reply: RefCell<Option<(Rc<Dedicated>, OnReply)>>,
}

impl Guest {
    fn note(&self, told: Told) {
        self.told.borrow_mut().push(told);
        self.changed.notify_one();
    }

    /// Waits until it was told so much.
    async fn told(&self, count: usize) -> Vec<Told> {
        while self.told.borrow().len() < count {
            self.changed.notified().await;
        }
        self.told.borrow().clone()
    }
}

fn text(payload: &Payload<'_>) -> String {
    String::from_utf8_lossy(payload.as_slice()).into_owned()
}

impl Requester for Guest {
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>) {
        self.note(Told::Reply(ticket.sequence, text(&payload)));
        let on_reply = self.on_reply.borrow_mut().take();
        if let Some((dedicated, what)) = on_reply {
            what(&dedicated);
        }
    }

    fn fail(self: Rc<Self>, ticket: Ticket, failure: &Failure<'_>) {
        assert!(failure.lost.is_none(), "nothing of a dedicated connection is sent again");
        assert_eq!((failure.pool, failure.server), ("pool", "server"));
        self.note(Told::Fail(ticket.sequence, failure.reason.clone()));
    }
}

impl Tenant for Guest {
    fn message(self: Rc<Self>, line: u32, payload: Payload<'_>) {
        self.note(Told::Message(line, text(&payload)));
    }

    fn lost(self: Rc<Self>, line: u32, failure: &Failure<'_>) {
        self.note(Told::Lost(line, failure.reason.clone()));
    }
}

/// Keeps one connection, and what it says.
#[derive(Default)]
struct Desk {
    failures: RefCell<Vec<(Reason, &'static str)>>,
    answers: Cell<u32>,
    lost: RefCell<Vec<u64>>,
    returned: RefCell<Vec<(u64, bool)>>,
    me: RefCell<Weak<Self>>,
}

impl ServerHealth for Desk {
    fn failed(&self, _: Instant, reason: &Reason, what: &'static str) {
        self.failures.borrow_mut().push((reason.clone(), what));
    }

    fn answered(&self) {
        self.answers.set(self.answers.get() + 1);
    }

    fn is_ejected(&self) -> bool {
        false
    }

    fn may_be_ejected(&self) -> bool {
        false
    }

    fn recoveries(&self) -> u64 {
        0
    }

    fn may_repeat(&self) -> bool {
        panic!("nothing is sent twice")
    }
}

impl Keeper for Desk {
    fn health(&self) -> Rc<dyn ServerHealth> {
        self.me.borrow().upgrade().unwrap()
    }

    fn not_connected(&self, _: Instant, _: bool, _: &Reason) {}

    fn connected(&self) {}

    fn heard(&self) {}

    fn lost(&self, number: u64) {
        self.lost.borrow_mut().push(number);
    }

    fn take_back(&self, dedicated: &Rc<Dedicated>, clean: bool) {
        self.returned.borrow_mut().push((dedicated.number, clean));
        if clean { dedicated.move_out() } else { dedicated.close() }
    }

    fn is_news(&self, _: Instant) -> bool {
        true
    }
}

struct Fixture {
    dedicated: Rc<Dedicated>,
    guest: Rc<Guest>,
    desk: Rc<Desk>,
    cells: Arc<ServerCells>,
    listener: UnixListener,
    _directory: TempDir,
}

const LINE: u32 = 7;

impl Fixture {
    fn new(pass: &Rc<Pass>, change: impl FnOnce(&mut Server)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut server = Server {
            pool: "pool".into(),
            name: "server".into(),
            endpoint: Endpoint::Unix(path),
            login: Login::default(),
            connect_timeout: None,
            timeout: None,
            slow_timeout: None,
            slowlog_threshold: None,
            max_reconnect_delay: Duration::from_millis(50),
            failure_replies: vec!["LOADING".into()],
            limits: Limits::default(),
            max_requests: 100,
            max_bytes: 1 << 20,
        };
        change(&mut server);
        let (guest, desk, cells) = (Rc::<Guest>::default(), Rc::<Desk>::default(), Arc::<ServerCells>::default());
        *desk.me.borrow_mut() = Rc::downgrade(&desk);
        let keeper: Rc<dyn Keeper> = desk.clone();
        let tools = (pass.clone(), cells.clone(), Arc::default());
        let dedicated = Dedicated::new(
            (1, Rc::downgrade(&keeper)),
            (Variant::default(), Arc::new(server)),
            tools,
            (guest.clone(), LINE),
        );
        spawn_local(dedicated.clone().run());
        watch(&dedicated);
        Self { dedicated, guest, desk, cells, listener, _directory: directory }
    }

    fn send(&self, sequence: u64, request: &str) {
        self.send_as(sequence, Answer::One, Wait::Usual, request);
    }

    fn send_as(&self, sequence: u64, answer: Answer, wait: Wait, request: &str) {
        send(&self.dedicated, Some(Ticket { sequence, part: 0 }), answer, wait, request);
    }

    async fn accept(&self) -> UnixStream {
        self.listener.accept().await.unwrap().0
    }

    /// Requests whose time was taken.
    fn timed(&self) -> u64 {
        let mut times = Times::default();
        self.cells.latency.add_to(&mut times);
        times.count()
    }

    /// It is over, and nothing of it is left in any gauge.
    async fn ends(&self) {
        while self.cells.server_connections.get() + self.cells.connecting.get() > 0 {
            yield_now().await;
        }
        let cells = &self.cells;
        let queues = [&cells.in_queue, &cells.in_queue_bytes, &cells.out_queue, &cells.out_queue_bytes];
        assert_eq!(queues.map(|gauge| gauge.get()), [0; 4]);
        assert!(self.dedicated.is_lost() && !self.dedicated.is_up());
        assert_eq!(*self.desk.lost.borrow(), [1], "once");
    }
}

/// Watches the deadlines, as a worker does for all of its connections.
fn watch(dedicated: &Rc<Dedicated>) {
    let dedicated = dedicated.clone();
    spawn_local(async move {
        let ticker = Rc::new(Ticker::new(Duration::from_millis(2)).unwrap());
        dedicated.wire.pass.use_ticker(ticker.clone());
        loop {
            ticker.tick().await;
            if dedicated.check_deadlines(dedicated.wire.pass.now()) {
                ticker.set();
            }
        }
    });
}

fn send(dedicated: &Rc<Dedicated>, ticket: Option<Ticket>, answer: Answer, wait: Wait, request: &str) {
    dedicated.send(ticket, answer, wait, |out, pass| out.push(Payload::Borrowed(request.as_bytes()), pass));
}

async fn receive(socket: &mut UnixStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    socket.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

async fn say(socket: &mut UnixStream, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
}

fn reply(sequence: u64, text: &str) -> Told {
    Told::Reply(sequence, text.into())
}

fn message(text: &str) -> Told {
    Told::Message(LINE, text.into())
}

#[test]
fn what_is_queued_before_there_is_a_link_is_sent_and_answered_in_order() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |server| server.login.database = 1);
        test.send(0, "MULTI\r\n");
        send(&test.dedicated, None, Answer::One, Wait::Usual, "SET\r\n");
        test.send(2, "EXEC\r\n");
        assert_eq!((test.dedicated.in_flight(), test.dedicated.is_up()), (3, false));
        let mut socket = test.accept().await;
        receive(&mut socket, "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n").await;
        say(&mut socket, "+OK\r\n").await;
        receive(&mut socket, "MULTI\r\nSET\r\nEXEC\r\n").await;
        say(&mut socket, "+OK\r\n+QUEUED\r\n*1\r\n").await;
        assert_eq!(test.guest.told(1).await, [reply(0, "+OK\r\n")]);
        say(&mut socket, "+OK\r\n").await;
        assert_eq!(test.guest.told(2).await[1], reply(2, "*1\r\n+OK\r\n"), "nobody asked for the reply to SET");
        let cells = &test.cells;
        assert_eq!((cells.requests.get(), cells.responses.get(), cells.request_bytes.get()), (3, 3, 18));
        assert!(test.desk.answers.get() > 0 && test.desk.failures.borrow().is_empty());
    });
}

#[test]
fn a_lost_link_fails_everything_in_order_and_then_the_connection() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        test.send(0, "one\r\n");
        test.send(1, "two\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, "one\r\ntwo\r\n").await;
        say(&mut socket, "+1\r\n").await;
        test.guest.told(1).await;
        test.send(2, "three\r\n");
        drop(socket);
        let fails = [1, 2].map(|sequence| Told::Fail(sequence, Reason::Closed));
        let told = test.guest.told(4).await;
        assert_eq!((&told[..1], &told[1..3]), (&[reply(0, "+1\r\n")][..], &fails[..]));
        assert_eq!(told[3..], [Told::Lost(LINE, Reason::Closed)]);
        test.ends().await;
        assert_eq!(*test.desk.failures.borrow(), [(Reason::Closed, "connection lost")]);
        assert_eq!((test.cells.server_eof.get(), test.cells.server_err.get()), (1, 0));
    });
}

#[test]
fn a_server_that_closes_an_idle_connection_is_not_to_blame() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        drop(test.accept().await);
        assert_eq!(test.guest.told(1).await, [Told::Lost(LINE, Reason::Closed)]);
        test.ends().await;
        assert!(test.desk.failures.borrow().is_empty());
    });
}

#[test]
fn a_connection_that_cannot_be_made_fails_what_waits_for_it() {
    on_worker(async |pass| {
        let refused = Fixture::new(&pass, |server| server.endpoint = Endpoint::Unix("/nobody/listens".into()));
        refused.send(0, "x");
        let told = refused.guest.told(2).await;
        assert!(matches!(&told[..], [Told::Fail(0, one), Told::Lost(LINE, other)] if one == other), "{told:?}");
        refused.ends().await;
        assert!(matches!(&refused.desk.failures.borrow()[..], [(Reason::NotConnected(_), "cannot connect")]));
    });
    on_worker(async |pass| {
        let silent = |server: &mut Server| {
            server.login.database = 1;
            server.connect_timeout = Some(Duration::from_millis(30));
        };
        let silent = Fixture::new(&pass, silent);
        silent.send_as(0, Answer::One, Wait::Ever, "x");
        let reason = Reason::ConnectTimedOut(30);
        let told = [Told::Fail(0, reason.clone()), Told::Lost(LINE, reason.clone())];
        assert_eq!(silent.guest.told(2).await, told);
        silent.ends().await;
        assert_eq!(*silent.desk.failures.borrow(), [(reason, "cannot connect")]);
    });
}

#[test]
fn a_request_without_a_reply_in_time_costs_the_connection() {
    // A worker has one ticker, so each has a worker to itself.
    for (wait, limit, blamed) in
        [(Wait::Usual, 200, 1), (Wait::Slow, 300, 1), (Wait::For(Duration::from_millis(250)), 950, 0)]
    {
        on_worker(async |pass| {
            let limits = |server: &mut Server| {
                server.timeout = Some(Duration::from_millis(200));
                server.slow_timeout = Some(Duration::from_millis(300));
            };
            let test = Fixture::new(&pass, limits);
            let start = pass.now();
            test.send_as(0, Answer::One, wait, "x");
            test.send_as(1, Answer::One, Wait::Ever, "y");
            let mut socket = test.accept().await;
            receive(&mut socket, "xy").await;
            let reason = Reason::TimedOut(limit);
            let told = [Told::Fail(0, reason.clone()), Told::Fail(1, reason.clone()), Told::Lost(LINE, reason)];
            assert_eq!(test.guest.told(3).await, told, "{wait:?}");
            assert!(start.elapsed() >= Duration::from_millis(limit as u64), "{wait:?}");
            assert_eq!(socket.read(&mut [0]).await.unwrap(), 0, "the server sees that nobody waits any more");
            test.ends().await;
            assert_eq!((test.desk.failures.borrow().len(), test.cells.server_timedout.get()), (blamed, 1));
        });
    }
}

#[test]
fn no_time_runs_for_what_waits_behind_a_request_that_may_block() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |server| server.timeout = Some(Duration::from_millis(200)));
        test.send_as(0, Answer::One, Wait::Ever, "BLPOP\r\n");
        test.send(1, "GET\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, "BLPOP\r\nGET\r\n").await;
        sleep(Duration::from_millis(500)).await;
        assert!(test.guest.told.borrow().is_empty());
        say(&mut socket, "*-1\r\n").await;
        assert_eq!(test.guest.told(1).await, [reply(0, "*-1\r\n")]);
        say(&mut socket, "$-1\r\n").await;
        assert_eq!(test.guest.told(2).await[1], reply(1, "$-1\r\n"));
        assert_eq!(test.timed(), 0, "neither was the server's time");
        test.send(2, "GET\r\n");
        receive(&mut socket, "GET\r\n").await;
        say(&mut socket, "+2\r\n").await;
        test.guest.told(3).await;
        assert_eq!(test.timed(), 1);
        test.send(3, "GET\r\n");
        let told = test.guest.told(5).await;
        assert_eq!(told[3], Told::Fail(3, Reason::TimedOut(200)), "for it time has run");
    });
}

#[test]
fn messages_are_told_apart_from_replies_by_their_first_word() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        // A list that looks like a message is none as long as nobody has subscribed.
        let like = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n";
        test.send(0, "LRANGE\r\n");
        test.send_as(1, Answer::Confirmations(2), Wait::Usual, "SUBSCRIBE a b\r\n");
        test.send(2, "PING\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, "LRANGE\r\nSUBSCRIBE a b\r\nPING\r\n").await;
        let (a, b) = ("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n");
        let pong = "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
        say(&mut socket, &[like, a, like, b, like, pong, like].concat()).await;
        let told = test.guest.told(7).await;
        let expected =
            [reply(0, like), message(a), message(like), reply(1, b), message(like), reply(2, pong), message(like)];
        assert_eq!(told, expected);
        assert!(test.dedicated.is_subscribed() && !test.dedicated.is_reusable());
        // Refused, and the one after it is not taken for it.
        test.send_as(3, Answer::Confirmations(2), Wait::Usual, "SUBSCRIBE c d\r\n");
        test.send_as(4, Answer::Confirmations(2), Wait::Usual, "UNSUBSCRIBE\r\n");
        receive(&mut socket, "SUBSCRIBE c d\r\nUNSUBSCRIBE\r\n").await;
        let (a, b) = ("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n", "*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n");
        say(&mut socket, &["-NOPERM\r\n", a, b].concat()).await;
        assert_eq!(test.guest.told(10).await[7..], [reply(3, "-NOPERM\r\n"), message(a), reply(4, b)]);
        assert!(!test.dedicated.is_subscribed() && test.dedicated.is_reusable());
    });
}

#[test]
fn a_push_is_never_taken_for_a_reply() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        test.send(0, "GET\r\n");
        test.send_as(1, Answer::Confirmations(1), Wait::Usual, "SSUBSCRIBE a\r\n");
        let mut socket = test.accept().await;
        receive(&mut socket, "GET\r\nSSUBSCRIBE a\r\n").await;
        let (push, subscribed) = (">2\r\n+invalidate\r\n*0\r\n", ">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n");
        for byte in [push, "+0\r\n", subscribed, push].concat().chars() {
            say(&mut socket, &byte.to_string()).await;
            yield_now().await;
        }
        assert_eq!(test.guest.told(4).await, [message(push), reply(0, "+0\r\n"), reply(1, subscribed), message(push)]);
    });
}

#[test]
fn what_nobody_asked_for_costs_the_connection_and_reaches_nobody() {
    on_worker(async |pass| {
        for answer in ["+0\r\n+again\r\n", "+0\r\n*3\r\n", "+0\r\n$"] {
            let test = Fixture::new(&pass, |_| ());
            test.send(0, "x");
            let mut socket = test.accept().await;
            receive(&mut socket, "x").await;
            // At once, before anything shows that more has come than was asked for.
            let next = |dedicated: &Rc<Dedicated>| {
                send(dedicated, Some(Ticket { sequence: 1, part: 0 }), Answer::One, Wait::Usual, "y");
            };
            *test.guest.on_reply.borrow_mut() = Some((test.dedicated.clone(), Box::new(next)));
            say(&mut socket, answer).await;
            let reason = Reason::Protocol("a reply that no request asked for".into());
            let told = test.guest.told(3).await;
            assert_eq!(told, [reply(0, "+0\r\n"), Told::Fail(1, reason.clone()), Told::Lost(LINE, reason)]);
            test.ends().await;
        }
    });
}

#[test]
fn a_tenant_may_give_it_back_in_the_middle_of_a_reply() {
    on_worker(async |pass| {
        for clean in [true, false] {
            let test = Fixture::new(&pass, |_| ());
            test.send(0, "x");
            let mut socket = test.accept().await;
            receive(&mut socket, "x").await;
            let give_back = move |dedicated: &Rc<Dedicated>| dedicated.give_back(clean);
            *test.guest.on_reply.borrow_mut() = Some((test.dedicated.clone(), Box::new(give_back)));
            say(&mut socket, "+0\r\n").await;
            assert_eq!(test.guest.told(1).await, [reply(0, "+0\r\n")]);
            assert_eq!(*test.desk.returned.borrow(), [(1, clean)]);
            assert_eq!(Rc::strong_count(&test.guest), 1, "it holds its tenant no longer");
            if clean {
                assert!(test.dedicated.is_reusable());
                continue;
            }
            assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
            test.ends().await;
            assert_eq!((test.cells.server_err.get(), test.desk.failures.borrow().len()), (0, 0));
            assert_eq!(test.guest.told.borrow().len(), 1);
        }
    });
}

#[test]
fn what_was_queued_is_still_written_when_the_tenant_leaves_and_its_replies_reach_nobody() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        let mut socket = test.accept().await;
        while !test.dedicated.is_up() {
            yield_now().await;
        }
        test.send(0, "SET a 1\r\n");
        test.dedicated.give_back(false);
        receive(&mut socket, "SET a 1\r\n").await;
        let _ = socket.write_all(b"+OK\r\n").await;
        test.ends().await;
        assert!(test.guest.told.borrow().is_empty());
    });
}

#[test]
fn a_tenant_that_takes_no_more_is_left_alone_and_no_time_runs() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |server| server.timeout = Some(Duration::from_millis(40)));
        let mut socket = test.accept().await;
        test.send(0, "x");
        test.dedicated.pause_reading(true);
        receive(&mut socket, "x").await;
        say(&mut socket, "+0\r\n").await;
        sleep(Duration::from_millis(100)).await;
        assert!(test.guest.told.borrow().is_empty());
        test.dedicated.pause_reading(false);
        assert_eq!(test.guest.told(1).await, [reply(0, "+0\r\n")]);
    });
}

#[test]
fn a_server_ejected_by_order_answers_what_is_in_flight_unless_that_may_block() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        let mut socket = test.accept().await;
        while !test.dedicated.is_up() {
            yield_now().await;
        }
        test.send(0, "x");
        test.dedicated.release();
        receive(&mut socket, "x").await;
        say(&mut socket, "+0\r\n").await;
        assert_eq!(test.guest.told(2).await, [reply(0, "+0\r\n"), Told::Lost(LINE, Reason::Ejected)]);
        test.ends().await;
        for blocks in [true, false] {
            let test = Fixture::new(&pass, |_| ());
            let _socket = test.accept().await;
            let mut expected = vec![Told::Lost(LINE, Reason::Ejected)];
            if blocks {
                test.send_as(0, Answer::One, Wait::Ever, "x");
                expected.insert(0, Told::Fail(0, Reason::Ejected));
            }
            test.dedicated.release();
            assert_eq!(*test.guest.told.borrow(), expected, "at once");
            test.ends().await;
            assert!(test.desk.failures.borrow().is_empty());
        }
    });
}

#[test]
fn a_reply_that_says_that_the_server_is_not_ready_is_handed_on_and_told_of() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |_| ());
        test.send(0, "x");
        let mut socket = test.accept().await;
        receive(&mut socket, "x").await;
        say(&mut socket, "-LOADING wait\r\n").await;
        assert_eq!(test.guest.told(1).await, [reply(0, "-LOADING wait\r\n")]);
        let told = [(Reason::NotReady("LOADING wait".into()), "the server is not ready")];
        while test.desk.failures.borrow().is_empty() {
            yield_now().await;
        }
        assert_eq!((test.desk.failures.borrow().clone(), test.desk.answers.get()), (told.to_vec(), 0));
    });
}

#[test]
fn there_is_room_again_when_what_is_in_the_way_is_answered() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, |server| server.max_requests = 2);
        let mut socket = test.accept().await;
        test.send(0, "x");
        assert!(test.dedicated.has_room());
        test.send(1, "y");
        assert!(!test.dedicated.has_room());
        say_when_asked(&mut socket).await;
        poll_fn(|cx| {
            if test.dedicated.has_room() {
                return Poll::Ready(());
            }
            test.dedicated.wait_for_room(cx.waker());
            Poll::Pending
        })
        .await;
        assert_eq!(test.guest.told.borrow().len(), 1);
    });
}

async fn say_when_asked(socket: &mut UnixStream) {
    receive(socket, "xy").await;
    say(socket, "+0\r\n").await;
}
