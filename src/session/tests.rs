//! Sessions on a runtime like a worker's, over real sockets, with the test as their clients and servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::{ServerAddress, Settings, default_settings};
use crate::discovery::Names;
use crate::io::Pass;
use crate::io::testing::{on_worker, on_worker_with};
use crate::local::LocalServers;
use crate::pool::{Ground, Tools, Topology};

mod changes;
mod overload;
mod walk;

/// A pool over servers that answer a Redis command with its last argument.
struct Fixture {
    pool: Rc<Pool>,
    topology: Topology,
    ground: Ground,
    shared: Rc<Shared>,
    servers: Rc<Servers>,
    _directory: TempDir,
}

#[derive(Default)]
struct Servers {
    /// They speak memcached, and have nothing but what `touch` finds.
    memcached: Cell<bool>,
    /// They read, but do not answer as long as this is set.
    held: Cell<bool>,
    released: Notify,
    /// They answer with so many keys more.
    more: Cell<usize>,
    seen: Cell<usize>,
    /// The last arguments of Redis requests, as they came.
    told: RefCell<Vec<String>>,
}

impl Servers {
    fn release(&self) {
        self.held.set(false);
        self.released.notify_waiters();
    }

    async fn serve(self: Rc<Self>, listener: UnixListener) {
        loop {
            let socket = listener.accept().await.unwrap().0;
            spawn_local(self.clone().answer(socket));
        }
    }

    async fn answer(self: Rc<Self>, socket: UnixStream) {
        let (input, mut output) = socket.into_split();
        let mut lines = BufReader::new(input).lines();
        while self.memcached.get()
            && let Ok(Some(line)) = lines.next_line().await
        {
            let retrieval = line.starts_with("get ") || line.starts_with("gets ");
            assert!(retrieval || line.len() <= 2046, "memcached would close the connection");
            self.seen.set(self.seen.get() + line.split(' ').filter(|word| word.starts_with("key")).count());
            let reply = if retrieval || line.starts_with("gat") { "END\r\n" } else { "TOUCHED\r\n" };
            let _ = output.write_all(reply.as_bytes()).await;
        }
        while let Ok(Some(header)) = lines.next_line().await {
            let (mut key, mut selects) = (String::new(), false);
            for _ in 0..header[1..].parse::<usize>().unwrap() * 2 {
                key = lines.next_line().await.unwrap().unwrap();
                selects |= key == "SELECT";
            }
            if selects {
                let _ = output.write_all(b"+OK\r\n").await;
                continue;
            }
            self.seen.set(self.seen.get() + 1);
            self.told.borrow_mut().push(key.clone());
            while self.held.get() {
                self.released.notified().await;
            }
            let _ = output.write_all(reply(&key.repeat(1 + self.more.get())).as_bytes()).await;
        }
    }
}

fn get(key: &str) -> String {
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
}

fn reply(key: &str) -> String {
    format!("${}\r\n{key}\r\n", key.len())
}

impl Fixture {
    fn new(pass: &Rc<Pass>, servers: usize, change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(Protocol::Redis, pass, servers, change)
    }

    fn of(protocol: Protocol, pass: &Rc<Pass>, servers: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let state = Rc::<Servers>::default();
        state.memcached.set(protocol == Protocol::Memcached);
        let serve = |_, listener| drop(spawn_local(state.clone().serve(listener)));
        Self { servers: state.clone(), ..Self::over(protocol, pass, servers, change, serve) }
    }

    /// Over other servers: they are told their number and where they listen.
    fn over(
        protocol: Protocol,
        pass: &Rc<Pass>,
        servers: usize,
        change: impl FnOnce(&mut Settings),
        serve: impl Fn(usize, UnixListener),
    ) -> Self {
        let mut settings = default_settings();
        let index = settings.pools.iter().position(|p| p.protocol == protocol).unwrap();
        settings.pools[index].servers.truncate(servers);
        change(&mut settings);
        let directory = tempfile::tempdir().unwrap();
        for (n, server) in settings.pools[index].servers.iter_mut().enumerate() {
            let path = directory.path().join(n.to_string());
            serve(n, UnixListener::bind(&path).unwrap());
            server.address = ServerAddress::Unix { path };
        }
        // The others' servers are not needed.
        settings.pools = vec![settings.pools.swap_remove(index)];
        let names = Names::new(Arc::new(|_| ()), None);
        let ground = Ground::new(names, LocalServers::new(), Arc::default(), Arc::new(|| ()), 1);
        let topology = Topology::first(Arc::new(settings.clone()), &ground).unwrap();
        let (pool, _) = Pool::build(&topology.pools[0], &Tools { worker: 0, pass }, None, None);
        for connection in pool.connections() {
            spawn_local(connection.clone().run());
        }
        let shared = Shared::new(pass.clone(), Common::new(&settings, None), 0);
        Self { pool, topology, ground, shared, servers: Rc::default(), _directory: directory }
    }

    fn connect(&self) -> (UnixStream, Rc<Session>, JoinHandle<()>) {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let session = Session::new(1, Stream::Unix(ours), self.pool.clone(), self.shared.clone());
        let task = spawn_local(session.clone().run());
        (theirs, session, task)
    }

    async fn seen(&self, requests: usize) {
        while self.servers.seen.get() < requests {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn to_end(client: &mut UnixStream) -> String {
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    all
}

#[test]
fn a_client_that_stops_sending_gets_all_its_replies() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 2, |_| ());
        let (mut client, _, task) = test.connect();
        client.write_all(["a", "b", "c", "d"].map(get).concat().as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(to_end(&mut client).await, ["a", "b", "c", "d"].map(reply).concat());
        task.await.unwrap();
        assert_eq!(test.pool.cells().client_connections.get(), 0);
    });
}

#[test]
fn a_drain_answers_what_a_pause_held_back_and_then_closes() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |settings| settings.session_limits.max_session_requests = 2);
        test.servers.held.set(true);
        let (mut client, session, task) = test.connect();
        client.write_all(["a", "b", "c", "d"].map(get).concat().as_bytes()).await.unwrap();
        test.seen(1).await;
        assert!(session.paused.get());
        test.shared.drain();
        session.wake();
        sleep(Duration::from_millis(5)).await;
        test.servers.release();
        assert_eq!(to_end(&mut client).await, ["a", "b", "c", "d"].map(reply).concat());
        task.await.unwrap();
    });
}

#[test]
fn a_drain_closes_idle_sessions_at_once() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |_| ());
        let (mut client, session, task) = test.connect();
        sleep(Duration::from_millis(1)).await;
        test.shared.drain();
        session.wake();
        assert_eq!(to_end(&mut client).await, "");
        task.await.unwrap();
    });
}

#[test]
fn a_session_that_ended_holds_no_bytes_while_servers_owe_it_replies() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 1, |_| ());
        test.servers.held.set(true);
        let (mut client, session, task) = test.connect();
        let pings = b"*1\r\n$4\r\nPING\r\n".repeat(100);
        client.write_all(get("a").as_bytes()).await.unwrap();
        client.write_all(&pings).await.unwrap();
        client.write_all(b"*1\r\n$4\r\nPI").await.unwrap();
        test.seen(1).await;
        assert!(session.replies.borrow().bytes() > 0 && !session.inbound.borrow().is_empty());
        // Not a half-close but an error: the session ends with its reply under way.
        session.broken.set(true);
        session.wake();
        task.await.unwrap();
        assert!(Rc::strong_count(&session) > 1, "the connection still knows it");
        assert_eq!((session.replies.borrow().bytes(), session.inbound.borrow().len()), (0, 0));
        drop(client);
        test.servers.release();
        while Rc::strong_count(&session) > 1 {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

/// Every way to be held up at once: hardly any room for requests or bytes on either side, replies of all sizes, slow
/// readers. Nobody sleeps for ever, and every reply is the one to its request.
#[test]
fn a_crowd_squeezes_through_narrow_limits() {
    on_worker(async |pass| {
        let narrow = |settings: &mut Settings| {
            settings.session_limits.max_session_requests = 3;
            settings.session_limits.max_session_bytes = 2000;
            settings.session_limits.max_connection_requests = 2;
            settings.session_limits.max_connection_bytes = 500;
            settings.pools.iter_mut().for_each(|pool| pool.timeout = None);
        };
        let test = Fixture::new(&pass, 2, narrow);
        let talk = |number: usize| {
            let (client, ..) = test.connect();
            async move {
                let keys: Vec<String> = (0..40)
                    .map(|n| {
                        let size =
                            [3, 40, 700, 3000, 20_000, 60_000][(n * 7 + number) % if number == 0 { 6 } else { 4 }];
                        format!("{number}-{n}-").chars().cycle().take(size).collect()
                    })
                    .collect();
                let (mut input, mut output) = client.into_split();
                let requests: String = keys.iter().map(|key| get(key)).collect();
                let writing = spawn_local(async move {
                    output.write_all(requests.as_bytes()).await.unwrap();
                    output.shutdown().await.unwrap();
                });
                let mut all = Vec::new();
                while input.read_buf(&mut all).await.unwrap() > 0 {
                    if number % 3 == 1 {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
                writing.await.unwrap();
                let expected: String = keys.iter().map(|key| reply(key)).collect();
                let wrong = all.iter().zip(expected.as_bytes()).position(|(got, due)| got != due);
                let from = wrong.unwrap_or(all.len().min(expected.len())).saturating_sub(50);
                let near = all[from..].iter().take(200).copied().collect::<Vec<u8>>().escape_ascii().to_string();
                assert!(
                    all == expected.as_bytes(),
                    "client {number} at {from}, {} of {}: {near}",
                    all.len(),
                    expected.len()
                );
            }
        };
        let clients: Vec<_> = (0..12).map(|number| spawn_local(talk(number))).collect();
        for client in clients {
            client.await.unwrap();
        }
        assert!(test.pool.connections().all(|c| c.in_flight() == 0));
    });
}

#[test]
fn no_client_makes_memcached_close_the_connection_of_all() {
    on_worker(async |pass| {
        for servers in [1, 3] {
            let test = Fixture::of(Protocol::Memcached, &pass, servers, |_| ());
            let (mut client, ..) = test.connect();
            let keys: String = (0..1000).map(|n| format!(" key{n:06}")).collect();
            let spaces = " ".repeat(3000);
            let requests = [
                format!("gat 0{keys}"),
                format!("get{keys}"),
                format!("{spaces}get{keys}"),
                format!("gat {spaces}0 key"),
                format!("touch {spaces}key 0"),
                format!("set key 0 0 {spaces}1\r\nx"),
                format!("flush_all{spaces}"),
                "touch key 0".into(),
            ];
            client.write_all((requests.join("\r\n") + "\r\n").as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let all = to_end(&mut client).await;
            let replies: Vec<&str> = all.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
            let refused = "CLIENT_ERROR";
            let expected = ["END", "END", "END", "END", refused, refused, refused, "TOUCHED"];
            assert_eq!(replies, expected, "{servers} servers");
            assert_eq!(test.servers.seen.get(), 3002);
        }
    });
}

#[test]
fn where_any_server_will_do_keys_are_never_on_different_ones() {
    on_worker(async |pass| {
        let random = |settings: &mut Settings| {
            settings.pools.iter_mut().for_each(|pool| pool.distribution = crate::ring::Distribution::Random);
        };
        let test = Fixture::new(&pass, 3, random);
        let (mut client, ..) = test.connect();
        let request = "*3\r\n$6\r\nRENAME\r\n$1\r\na\r\n$1\r\nb\r\n";
        client.write_all(request.repeat(20).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(to_end(&mut client).await, reply("b").repeat(20));
    });
}

#[test]
fn of_one_clients_writes_none_overtakes_another_when_their_server_is_ejected() {
    on_worker(async |pass| {
        let test = Fixture::new(&pass, 2, |settings| {
            for pool in &mut settings.pools {
                (pool.health.eject, pool.health.failure_limit) = (true, 1);
            }
        });
        let key = (0..).map(|n| format!("k{n}")).find(|key| test.pool.route(key.as_bytes()) == Ok(0)).unwrap();
        let set = |value| format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$1\r\n{value}\r\n", key.len());
        let (mut client, ..) = test.connect();
        let home = test.pool.connection(0, 1, test.pool.usual()).clone();
        // While this task is always ready no pass ends, and nothing is written.
        client.write_all(set(1).as_bytes()).await.unwrap();
        while home.in_flight() < 1 {
            yield_now().await;
        }
        // On another worker, whose word has not come here yet.
        test.pool.health().failed(0, Instant::now(), &crate::backend::Reason::Closed, "connection lost");
        client.write_all(set(2).as_bytes()).await.unwrap();
        while home.in_flight() < 2 {
            yield_now().await;
        }
        test.pool.adopt();
        assert_eq!(home.in_flight(), 0, "another server has the key now");
        assert_eq!(test.pool.route(key.as_bytes()), Ok(1));
        let mut replies = [0; 14];
        client.read_exact(&mut replies).await.unwrap();
        assert_eq!(*test.servers.told.borrow(), ["1", "2"]);
    });
}
