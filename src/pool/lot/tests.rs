//! Lots on a runtime like a worker's, over real sockets, with the test as servers and tenants.

use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use super::*;
use crate::backend::testing::describe;
use crate::backend::{Answer, Failure, Requester, Ticket, Wait};
use crate::io::Payload;
use crate::io::testing::{next_pass, on_worker, until};

mod walk;

#[derive(Default)]
struct Health {
    ejected: Cell<bool>,
    failures: Cell<u32>,
}

impl ServerHealth for Health {
    fn failed(&self, _: Instant, _: &Reason, _: &'static str) {
        self.failures.set(self.failures.get() + 1);
    }

    fn answered(&self) {}

    fn is_ejected(&self) -> bool {
        self.ejected.get()
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

fn server(path: &Path) -> Arc<Server> {
    Arc::new(Server {
        connect_timeout: Some(Duration::from_secs(5)),
        timeout: Some(Duration::from_millis(30)),
        slow_timeout: Some(Duration::from_secs(5)),
        failure_replies: Vec::new(),
        max_requests: 1000,
        ..describe(path)
    })
}

/// A server that answers each line with itself.
struct Echo {
    listener: Option<UnixListener>,
    accepted: Rc<Cell<usize>>,
    directory: TempDir,
}

impl Echo {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        Self { listener: Some(listener), accepted: Rc::default(), directory }
    }

    /// Serves every connection by itself.
    fn run(mut self) -> Self {
        let (listener, accepted) = (self.listener.take().unwrap(), self.accepted.clone());
        spawn_local(async move {
            loop {
                let socket = listener.accept().await.unwrap().0;
                accepted.set(accepted.get() + 1);
                spawn_local(echo(socket));
            }
        });
        self
    }

    fn terms(&self, health: &Rc<Health>, most: usize, idle: usize) -> Terms {
        let server = server(&self.directory.path().join("s"));
        let (usual, facts) = (Variant::default(), Arc::default());
        Terms { server, usual, facts, health: health.clone(), bounds: Bounds { most, idle } }
    }

    fn lot(&self, pass: &Rc<Pass>, most: usize, idle: usize) -> Rc<Lot> {
        Lot::new(self.terms(&Rc::default(), most, idle), pass.clone(), Arc::default())
    }
}

async fn echo(socket: UnixStream) {
    let (input, mut output) = socket.into_split();
    let mut lines = BufReader::new(input).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let _ = output.write_all(format!("+{line}\r\n").as_bytes()).await;
    }
}

/// A tenant that counts.
#[derive(Default)]
struct Guest {
    replies: Cell<usize>,
    failures: Cell<usize>,
    losses: Cell<usize>,
}

impl Requester for Guest {
    fn reply(self: Rc<Self>, _: Ticket, _: Payload<'_>) {
        self.replies.set(self.replies.get() + 1);
    }

    fn fail(self: Rc<Self>, _: Ticket, _: &Failure<'_>) {
        self.failures.set(self.failures.get() + 1);
    }
}

impl Tenant for Guest {
    fn message(self: Rc<Self>, _: u32, payload: Payload<'_>) {
        panic!("{payload:?}")
    }

    fn lost(self: Rc<Self>, _: u32, _: &Failure<'_>) {
        self.losses.set(self.losses.get() + 1);
    }
}

fn ask(dedicated: &Rc<Dedicated>, wait: Wait, line: &str) {
    let write = |out: &mut crate::io::Outbound, pass: &Pass| {
        out.push(Payload::Borrowed(format!("{line}\r\n").as_bytes()), pass);
    };
    dedicated.send(Some(Ticket::default()), Answer::One, wait, write);
}

/// Leases a connection, and has it answered, so that there is a link.
async fn proven(lot: &Rc<Lot>) -> Rc<Dedicated> {
    let guest = Rc::<Guest>::default();
    let dedicated = lot.lease(Variant::default(), guest.clone(), 0).unwrap();
    ask(&dedicated, Wait::Slow, "PING");
    until("an answer", || guest.replies.get() == 1).await;
    dedicated
}

fn gauges(lot: &Lot) -> (u64, u64) {
    (lot.cells.dedicated_in_use.get(), lot.cells.dedicated_idle.get())
}

#[test]
fn a_connection_given_back_clean_is_used_again() {
    on_worker(async |pass| {
        let server = Echo::start().run();
        let lot = server.lot(&pass, 10, 5);
        let guest = Rc::<Guest>::default();
        for round in 1..=1000 {
            let dedicated = lot.lease(Variant::default(), guest.clone(), 0).unwrap();
            assert_eq!(gauges(&lot), (1, 0));
            ask(&dedicated, Wait::Slow, "PING");
            while guest.replies.get() < round {
                next_pass(&pass).await;
            }
            dedicated.give_back(true);
            assert_eq!(gauges(&lot), (0, 1));
        }
        assert_eq!((server.accepted.get(), lot.cells.dedicated_opened.get()), (1, 1));
        assert_eq!(Rc::strong_count(&guest), 1);
    });
}

#[test]
fn one_that_is_not_clean_or_not_answered_is_closed() {
    on_worker(async |pass| {
        let server = Echo::start().run();
        let lot = server.lot(&pass, 10, 5);
        proven(&lot).await.give_back(false);
        let unanswered = proven(&lot).await;
        ask(&unanswered, Wait::Ever, "PING");
        unanswered.give_back(true);
        let not_made = lot.lease(Variant::default(), Rc::<Guest>::default(), 0).unwrap();
        not_made.give_back(true);
        assert_eq!(gauges(&lot), (0, 0));
        until("all closed", || lot.cells.server_connections.get() + lot.cells.connecting.get() == 0).await;
        assert!(unanswered.is_lost() && not_made.is_lost());
        assert_eq!(lot.cells.dedicated_opened.get(), 3);
    });
}

#[test]
fn there_are_no_more_than_allowed_and_the_client_is_told_which_setting_says_so() {
    on_worker(async |pass| {
        let server = Echo::start().run();
        let lot = server.lot(&pass, 2, 1);
        let (first, second) = (proven(&lot).await, proven(&lot).await);
        let full = lot.lease(Variant::default(), Rc::<Guest>::default(), 0).err().unwrap();
        let text = "too many dedicated connections: dedicated_connections: 2 are in use (pool pool, server server)";
        assert_eq!((full.to_string().as_str(), lot.cells.dedicated_refused.get()), (text, 1));
        first.give_back(true);
        assert_eq!(gauges(&lot), (1, 1));
        second.give_back(true);
        assert_eq!(gauges(&lot), (0, 1), "one is kept: that which was used last");
        let again = lot.lease(Variant::default(), Rc::<Guest>::default(), 0).unwrap();
        assert!(Rc::ptr_eq(&again, &second));
        // One more than before, and none kept.
        lot.update(server.terms(&Rc::default(), 3, 0));
        let others = [(); 2].map(|()| lot.lease(Variant::default(), Rc::<Guest>::default(), 0).unwrap());
        assert!(lot.lease(Variant::default(), Rc::<Guest>::default(), 0).is_err());
        others.iter().chain([&again]).for_each(|one| one.give_back(true));
        assert_eq!(gauges(&lot), (0, 0));
    });
}

#[test]
fn one_that_nobody_uses_is_closed_after_a_while() {
    on_worker(async |pass| {
        let server = Echo::start().run();
        let lot = server.lot(&pass, 10, 5);
        let (first, second) = (proven(&lot).await, proven(&lot).await);
        first.give_back(true);
        sleep(Duration::from_millis(50)).await;
        second.give_back(true);
        let (since, later) = (first.idle_since.get(), second.idle_since.get());
        assert!(later > since);
        assert_eq!(lot.close_unused(since + UNUSED / 2), Some(UNUSED / 2));
        assert_eq!(lot.close_unused(since + UNUSED), Some(later - since));
        until("one closed", || lot.cells.server_connections.get() == 1).await;
        assert!(first.is_lost() && !second.is_lost());
        assert_eq!((lot.close_unused(later + UNUSED), gauges(&lot)), (None, (0, 0)));
        assert_eq!(lot.close_unused(later + UNUSED), None);
    });
}

#[test]
fn one_that_the_server_has_closed_is_not_kept() {
    on_worker(async |pass| {
        let server = Echo::start();
        let lot = server.lot(&pass, 10, 5);
        let guest = Rc::<Guest>::default();
        let dedicated = lot.lease(Variant::default(), guest.clone(), 0).unwrap();
        let socket = server.listener.as_ref().unwrap().accept().await.unwrap().0;
        until("a link", || dedicated.is_up()).await;
        dedicated.give_back(true);
        assert_eq!(gauges(&lot), (0, 1));
        drop(socket);
        until("its end", || gauges(&lot) == (0, 0)).await;
        assert_eq!(guest.losses.get(), 0, "it is not the tenant's any more");
    });
}

#[test]
fn a_server_that_moves_or_is_ejected_or_removed_keeps_no_idle_connections() {
    on_worker(async |pass| {
        let (server, other) = (Echo::start().run(), Echo::start().run());
        let health = Rc::<Health>::default();
        let lot = Lot::new(server.terms(&health, 10, 5), pass.clone(), Arc::default());
        let (idle, in_use) = (proven(&lot).await, proven(&lot).await);
        idle.give_back(true);
        lot.update(other.terms(&health, 10, 5));
        assert_eq!(gauges(&lot), (1, 0));
        assert!(in_use.is_up(), "it serves on");
        in_use.give_back(true);
        assert_eq!(gauges(&lot), (0, 0), "and nobody else gets it");
        let (idle, in_use) = (proven(&lot).await, proven(&lot).await);
        assert_eq!((server.accepted.get(), other.accepted.get()), (2, 2));
        idle.give_back(true);
        health.ejected.set(true);
        lot.eject(false);
        assert_eq!((gauges(&lot), in_use.is_lost()), ((0, 0), true));
        let during = proven(&lot).await;
        during.give_back(true);
        assert_eq!(gauges(&lot), (0, 0), "none of an ejected server is kept");
        health.ejected.set(false);
        let (idle, in_use) = (proven(&lot).await, proven(&lot).await);
        idle.give_back(true);
        lot.leave();
        assert_eq!((gauges(&lot), in_use.is_up()), ((1, 0), true));
        lot.end();
        assert_eq!((gauges(&lot), in_use.is_lost(), lot.is_unused()), ((0, 0), true, true));
        until("all closed", || lot.cells.server_connections.get() == 0).await;
        assert_eq!(health.failures.get(), 0);
    });
}

#[test]
fn connections_that_are_lost_together_tell_of_one_failure() {
    on_worker(async |pass| {
        let server = Echo::start();
        let health = Rc::<Health>::default();
        let lot = Lot::new(server.terms(&health, 100, 5), pass.clone(), Arc::default());
        let guest = Rc::<Guest>::default();
        for round in 1..=2 {
            let mut sockets = Vec::new();
            for _ in 0..20 {
                ask(&lot.lease(Variant::default(), guest.clone(), 0).unwrap(), Wait::Ever, "BLPOP");
                sockets.push(server.listener.as_ref().unwrap().accept().await.unwrap().0);
            }
            until("links", || lot.cells.server_connections.get() == 20).await;
            drop(sockets);
            until("losses", || guest.losses.get() == round * 20).await;
            assert_eq!((guest.failures.get(), health.failures.get()), (round * 20, round as u32));
        }
    });
}
