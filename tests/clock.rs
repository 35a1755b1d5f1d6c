//! Deadlines hold even while a worker is too busy to end its pass, whose clock stands still for as long.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use outrigger::backend::{
    Connection, Endpoint, Expect, Failure, Login, Reason, Records, Request, Requester, Server, ServerHealth, Ticket,
};
use outrigger::discovery::Host;
use outrigger::io::{Pass, Payload, Ticker};
use outrigger::protocol::Limits;
use outrigger::telemetry::ServerCells;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

#[derive(Default)]
struct Asker(RefCell<Option<String>>);

impl Requester for Asker {
    fn reply(self: Rc<Self>, _: Ticket, _: Payload<'_>) {
        self.0.replace(Some("a reply".into()));
    }

    fn fail(self: Rc<Self>, _: Ticket, failure: &Failure<'_>) {
        self.0.replace(Some(failure.to_string()));
    }
}

/// A server that is never ejected.
struct Healthy;

impl ServerHealth for Healthy {
    fn failed(&self, _: Instant, _: &Reason, _: &'static str) {}

    fn answered(&self) {}

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
        false
    }
}

const TIMEOUT: Duration = Duration::from_millis(40);

fn server(port: u16) -> Server {
    Server {
        pool: "cache".into(),
        name: "silent".into(),
        endpoint: Endpoint::Tcp(Host::Address(([127, 0, 0, 1], port).into())),
        login: Login::default(),
        connect_timeout: None,
        timeout: Some(TIMEOUT),
        slow_timeout: None,
        slowlog_threshold: None,
        max_reconnect_delay: Duration::from_secs(1),
        failure_replies: Vec::new(),
        limits: Limits::default(),
        max_requests: 100,
        max_bytes: 1000,
    }
}

/// Always ready: the run queue does not empty before the time is over.
async fn keep_busy(time: Duration) {
    let until = Instant::now() + time;
    std::future::poll_fn(|cx| {
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Looks every millisecond whether it is so, but not for ever.
async fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT * 20;
    while !is_so() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a worker does for all of its connections.
async fn watch_deadlines(connection: Rc<Connection>, pass: Rc<Pass>) {
    let ticker = Rc::new(Ticker::new(Ticker::period(TIMEOUT)).unwrap());
    pass.use_ticker(ticker.clone());
    pass.watch_deadlines();
    loop {
        ticker.tick().await;
        if connection.check_deadlines(pass.now()) {
            ticker.set();
        }
    }
}

#[test]
fn a_deadline_that_passes_during_a_long_pass_is_not_missed() {
    // Nobody accepts: the connection is made by the kernel, and no reply ever comes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pass = Pass::new();
    pass.install();
    let mut builder = Builder::new_current_thread();
    builder.enable_all().event_interval(2).on_thread_park(Pass::before_park).on_thread_unpark(Pass::after_park);
    let runtime = builder.build_local(LocalOptions::default()).unwrap();
    let asker = Rc::new(Asker::default());
    let told = runtime.block_on(async {
        let cells = Arc::new(ServerCells::default());
        let server = Arc::new(server(listener.local_addr().unwrap().port()));
        let connection = Connection::new(
            server,
            Rc::new(Healthy),
            pass.clone(),
            Records { cells: cells.clone(), ..Records::default() },
        );
        spawn_local(connection.clone().run());
        spawn_local(watch_deadlines(connection.clone(), pass));
        connection.preconnect();
        let seen = &cells;
        until(|| seen.server_connections.get() == 1).await;
        let request = Request::once(Ticket::default(), Expect::Resp);
        connection.send(Some(asker.clone()), request, |out, pass| {
            out.push(Payload::Borrowed(b"*1\r\n$4\r\nPING\r\n"), pass);
        });
        // Written, and the deadline is watched.
        until(|| seen.out_queue.get() == 1).await;
        spawn_local(keep_busy(TIMEOUT * 2));
        until(|| asker.0.borrow().is_some()).await;
        asker.0.take()
    });
    Pass::uninstall();
    assert_eq!(told.as_deref(), Some("Connection timed out: no reply within 40 ms (pool cache, server silent)"));
}
