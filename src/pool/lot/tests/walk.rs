//! A long random walk: leases, requests, losses, silences, returns, ejections and reloads, against a model.
//!
//! Each request names its tenant, so the servers see when a connection has two, or was not clean, or leads to another place
//! or database than was asked for; each reply names its request, so the tenants see when it is another's.

use std::collections::{HashSet, VecDeque};

use super::*;

/// State of Steele's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// What servers have seen that must not be.
type Wrongs = Rc<RefCell<Vec<String>>>;

/// Answers SELECT, and lines of `tenant sequence server database word`. STATE leaves something of the tenant's on the connection, CLEAN takes it
/// away; after MUTE nothing is answered any more, and at CLOSE the connection ends.
async fn serve(listener: UnixListener, name: usize, wrongs: Wrongs) {
    loop {
        let socket = listener.accept().await.unwrap().0;
        spawn_local(answer(socket, name, wrongs.clone()));
    }
}

async fn answer(socket: UnixStream, name: usize, wrongs: Wrongs) {
    let (input, mut output) = socket.into_split();
    let mut lines = BufReader::new(input).lines();
    let (mut owner, mut mute, mut database) = (None, false, "0".to_owned());
    while let Ok(Some(line)) = lines.next_line().await {
        if line == "*2" {
            for _ in 0..4 {
                database = lines.next_line().await.unwrap().unwrap();
            }
            let _ = output.write_all(b"+OK\r\n").await;
            continue;
        }
        let [tenant, sequence, server, number, word] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        if owner.as_ref().is_some_and(|owner| owner != tenant) || server != name.to_string() || number != database {
            wrongs
                .borrow_mut()
                .push(format!("{line} at server {name}, database {database}, on a connection of {owner:?}"));
        }
        match word {
            "STATE" => owner = Some(tenant.to_owned()),
            "CLEAN" => owner = None,
            "MUTE" => mute = true,
            "CLOSE" => return,
            _ => {}
        }
        if !mute {
            let _ = output.write_all(format!("+{tenant} {sequence}\r\n").as_bytes()).await;
        }
    }
}

/// A tenant, which knows what it is owed.
struct Guest {
    name: usize,
    owed: RefCell<VecDeque<u64>>,
    /// It has given the connection back.
    left: Cell<bool>,
    lost: Cell<bool>,
    /// Requests that were answered, and that failed; of all tenants.
    ends: Rc<[Cell<usize>; 2]>,
}

impl Guest {
    fn settle(&self, ticket: Ticket, failed: bool) {
        assert!(!self.left.get() && !self.lost.get(), "told of something after the end");
        assert_eq!(self.owed.borrow_mut().pop_front(), Some(ticket.sequence), "in the order of the requests");
        let count = &self.ends[usize::from(failed)];
        count.set(count.get() + 1);
    }
}

impl Requester for Guest {
    fn reply(self: Rc<Self>, ticket: Ticket, payload: Payload<'_>) {
        self.settle(ticket, false);
        let expected = format!("+{} {}\r\n", self.name, ticket.sequence);
        assert_eq!(String::from_utf8_lossy(payload.as_slice()), expected);
    }

    fn fail(self: Rc<Self>, ticket: Ticket, _: &Failure<'_>) {
        self.settle(ticket, true);
    }
}

impl Tenant for Guest {
    fn message(self: Rc<Self>, _: u32, payload: Payload<'_>) {
        panic!("{payload:?}")
    }

    fn lost(self: Rc<Self>, line: u32, _: &Failure<'_>) {
        assert!(!self.left.get() && !self.lost.replace(true) && line as usize == self.name);
        assert!(self.owed.borrow().is_empty(), "every request has failed before");
    }
}

/// A lease, as the model sees it.
struct Stay {
    guest: Rc<Guest>,
    dedicated: Rc<Dedicated>,
    /// The server that it leads to.
    server: usize,
    sequence: u64,
    /// Something of it is on the connection.
    state: bool,
}

impl Stay {
    fn ask(&mut self, random: &mut Random) {
        if self.dedicated.is_lost() || !self.dedicated.has_room() {
            return;
        }
        let word = match random.below(60) {
            0 => "CLOSE",
            1 => "MUTE",
            2..10 => "STATE",
            10..20 => "CLEAN",
            _ => "GET",
        };
        self.say(word, if random.below(4) == 0 { Wait::For(Duration::from_millis(20)) } else { Wait::Usual });
    }

    fn say(&mut self, word: &str, wait: Wait) {
        self.state = word == "STATE" || (self.state && word != "CLEAN");
        self.sequence += 1;
        self.guest.owed.borrow_mut().push_back(self.sequence);
        let database = self.dedicated.variant.database;
        let line = format!("{} {} {} {database} {word}\r\n", self.guest.name, self.sequence, self.server);
        let ticket = Ticket { sequence: self.sequence, part: 0 };
        self.dedicated.send(Some(ticket), Answer::One, wait, |out, pass| {
            out.push(Payload::Borrowed(line.as_bytes()), pass);
        });
    }

    fn leave(&self) {
        self.guest.left.set(true);
        self.dedicated.give_back(!self.state);
    }
}

struct Walk {
    random: Random,
    lot: Rc<Lot>,
    health: Rc<Health>,
    servers: Vec<TempDir>,
    /// The server that the lot leads to now, and its bounds.
    now: (usize, Bounds),
    stays: Vec<Stay>,
    leased: usize,
    refused: u64,
    down: usize,
    ends: Rc<[Cell<usize>; 2]>,
}

impl Walk {
    fn step(&mut self) {
        match self.random.below(100) {
            0..25 => self.lease(),
            25..70 => self.ask(),
            70..92 => self.leave(),
            92 => drop(self.lot.close_unused(Instant::now() + UNUSED)),
            93..96 => self.eject(),
            96..98 => self.reload(),
            _ => self.lot.close_stale(),
        }
        self.check();
    }

    fn lease(&mut self) {
        let name = self.leased + self.down + self.refused as usize;
        let (owed, left, lost) = (RefCell::default(), Cell::new(false), Cell::new(false));
        let guest = Rc::new(Guest { name, owed, left, lost, ends: self.ends.clone() });
        let variant = Variant { database: [0, 0, 0, 5][self.random.below(4)], ..Variant::default() };
        match self.lot.lease(variant, guest.clone(), name as u32) {
            Ok(dedicated) => {
                assert!(!dedicated.is_lost() && dedicated.in_flight() == 0 && dedicated.variant == variant);
                let mut stay = Stay { guest, dedicated, server: self.now.0, sequence: 0, state: false };
                stay.ask(&mut self.random);
                self.stays.push(stay);
                self.leased += 1;
            }
            // The other end may have been lost again and again before it said anything.
            Err(Refusal::Down { .. }) => self.down += 1,
            Err(Refusal::Full { .. }) => {
                self.refused += 1;
                assert!(self.stays.len() >= self.now.1.most, "refused although there is room");
            }
        }
    }

    fn ask(&mut self) {
        if !self.stays.is_empty() {
            let one = self.random.below(self.stays.len());
            self.stays[one].ask(&mut self.random);
        }
    }

    fn leave(&mut self) {
        if self.stays.is_empty() {
            return;
        }
        let one = self.random.below(self.stays.len());
        // Most wait for what they are owed.
        if self.stays[one].dedicated.in_flight() == 0 || self.random.below(8) == 0 {
            self.stays.swap_remove(one).leave();
        }
    }

    fn eject(&mut self) {
        let ejected = !self.health.ejected.get();
        self.health.ejected.set(ejected);
        if ejected {
            self.lot.eject(self.random.below(2) == 0);
        }
    }

    fn reload(&mut self) {
        let bounds = Bounds { most: 4 + self.random.below(12), idle: self.random.below(6) };
        self.now = (self.random.below(self.servers.len()), bounds);
        self.lot.update(terms(&self.servers[self.now.0], &self.health, bounds));
    }

    fn check(&mut self) {
        self.stays.retain(|stay| !stay.guest.lost.get());
        let (in_use, idle) = gauges(&self.lot);
        assert_eq!(in_use as usize, self.stays.len());
        assert!(idle as usize <= self.now.1.idle, "{idle} idle of {:?}", self.now.1);
        assert!(idle == 0 || (in_use + idle) as usize <= self.now.1.most, "{in_use} + {idle} of {:?}", self.now.1);
        assert!(!self.health.ejected.get() || idle == 0, "an ejected server has idle connections");
        let numbers: HashSet<u64> = self.stays.iter().map(|stay| stay.dedicated.number).collect();
        assert_eq!(numbers.len(), self.stays.len(), "one connection for two tenants");
        assert_eq!(self.lot.cells.dedicated_refused.get(), self.refused);
    }
}

fn terms(server: &TempDir, health: &Rc<Health>, bounds: Bounds) -> Terms {
    let server = super::server(&server.path().join("s"));
    Terms { server, usual: Variant::default(), facts: Arc::default(), health: health.clone(), bounds }
}

async fn walk(pass: Rc<Pass>, seed: u64) {
    let wrongs = Wrongs::default();
    let servers: Vec<TempDir> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    for (name, directory) in servers.iter().enumerate() {
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        spawn_local(serve(listener, name, wrongs.clone()));
    }
    let (health, bounds) = (Rc::<Health>::default(), Bounds { most: 10, idle: 4 });
    let lot = Lot::new(terms(&servers[0], &health, bounds), pass.clone(), Arc::default());
    let (now, stays, random, ends) = ((0, bounds), Vec::new(), Random(seed), Rc::default());
    let mut walk = Walk { random, lot, health, servers, now, stays, leased: 0, refused: 0, down: 0, ends };
    for _ in 0..6_000 {
        walk.step();
        match walk.random.below(200) {
            0 => sleep(Duration::from_millis(5)).await,
            1..150 => next_pass(&pass).await,
            _ => {}
        }
        walk.lot.check_deadlines(Instant::now());
        assert_eq!(*wrongs.borrow(), [""; 0]);
    }
    while let Some(stay) = walk.stays.pop() {
        stay.leave();
    }
    walk.lot.leave();
    let cells = walk.lot.cells.clone();
    assert_eq!(gauges(&walk.lot), (0, 0));
    until("all closed", || cells.server_connections.get() + cells.connecting.get() == 0).await;
    let queues = [&cells.in_queue, &cells.in_queue_bytes, &cells.out_queue, &cells.out_queue_bytes];
    assert_eq!(queues.map(|gauge| gauge.get()), [0; 4]);
    assert_eq!(*wrongs.borrow(), [""; 0]);
    // The walk went where there is something to see.
    let (opened, ends) = (cells.dedicated_opened.get() as usize, [0, 1].map(|at: usize| walk.ends[at].get()));
    assert!(ends[0] > 500 && ends[1] > 50 && walk.refused > 0, "{ends:?}, refused {}", walk.refused);
    assert!(walk.down < walk.leased, "{} refused as the server is down, {} leased", walk.down, walk.leased);
    assert!(opened < walk.leased && cells.server_timedout.get() > 0, "{opened} opened for {}", walk.leased);
}

#[test]
fn every_request_is_told_of_once_in_order_and_no_connection_has_two_tenants() {
    for seed in [1, 2, 3] {
        on_worker(async |pass| walk(pass, seed).await);
    }
}
