//! A dedicated connection with the test as its server, tenant and keeper.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};

use super::super::*;
use crate::backend::testing::{Place, assert_empty, describe};
use crate::io::testing::watch;
use crate::telemetry::Times;

/// What a tenant is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Reply(u64, String),
    Fail(u64, Reason),
    Message(u32, String),
    Lost(u32, Reason),
}

/// Done with the connection by a tenant that has just got a reply.
pub type OnReply = Box<dyn Fn(&Rc<Dedicated>)>;

#[derive(Default)]
pub struct Guest {
    pub told: RefCell<Vec<Told>>,
    pub changed: Notify,
    pub on_reply: RefCell<Option<(Rc<Dedicated>, OnReply)>>,
}

impl Guest {
    pub fn note(&self, told: Told) {
        self.told.borrow_mut().push(told);
        self.changed.notify_one();
    }

    /// Waits until it was told so much.
    pub async fn told(&self, count: usize) -> Vec<Told> {
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
pub struct Desk {
    pub failures: RefCell<Vec<(Reason, &'static str)>>,
    pub answers: Cell<u32>,
    pub lost: RefCell<Vec<u64>>,
    pub returned: RefCell<Vec<(u64, bool)>>,
    pub me: RefCell<Weak<Self>>,
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

pub struct Fixture {
    pub dedicated: Rc<Dedicated>,
    pub guest: Rc<Guest>,
    pub desk: Rc<Desk>,
    pub cells: Arc<ServerCells>,
    pub place: Place,
}

pub const LINE: u32 = 7;

impl Fixture {
    pub fn new(pass: &Rc<Pass>, change: impl FnOnce(&mut Server)) -> Self {
        let place = Place::make();
        let mut server = describe(&place.path);
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
        let checked = dedicated.clone();
        watch(pass, move |now| checked.check_deadlines(now));
        Self { dedicated, guest, desk, cells, place }
    }

    pub fn send(&self, sequence: u64, request: &str) {
        self.send_as(sequence, Answer::One, Wait::Usual, request);
    }

    pub fn send_as(&self, sequence: u64, answer: Answer, wait: Wait, request: &str) {
        send(&self.dedicated, Some(Ticket { sequence, part: 0 }), answer, wait, request);
    }

    pub async fn accept(&self) -> UnixStream {
        self.place.accept().await
    }

    /// Requests whose time was taken.
    pub fn timed(&self) -> u64 {
        let mut times = Times::default();
        self.cells.latency.add_to(&mut times);
        times.count()
    }

    /// It is over, and nothing of it is left in any gauge.
    pub async fn ends(&self) {
        while self.cells.server_connections.get() + self.cells.connecting.get() > 0 {
            yield_now().await;
        }
        assert_empty(&self.cells);
        assert!(self.dedicated.is_lost() && !self.dedicated.is_up());
        assert_eq!(*self.desk.lost.borrow(), [1], "once");
    }
}

pub fn send(dedicated: &Rc<Dedicated>, ticket: Option<Ticket>, answer: Answer, wait: Wait, request: &str) {
    dedicated.send(ticket, answer, wait, |out, pass| out.push(Payload::Borrowed(request.as_bytes()), pass));
}

pub async fn receive(socket: &mut UnixStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    socket.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

pub async fn say(socket: &mut UnixStream, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
}

pub fn reply(sequence: u64, text: &str) -> Told {
    Told::Reply(sequence, text.into())
}

pub fn message(text: &str) -> Told {
    Told::Message(LINE, text.into())
}
