//! A worker whose topology changes while its sessions are in the middle of something. A real worker on its own thread, with
//! the test as its clients and servers.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrigger::backend::Reason;
use outrigger::config;
use outrigger::discovery::Names;
use outrigger::listener::{Inherited, Listeners, Wanted, to_the_idlest};
use outrigger::local::LocalServers;
use outrigger::pool::{Ground, Topology};
use outrigger::session::Common;
use outrigger::telemetry::ServerCells;
use outrigger::worker::{Plan, Worker};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    ground: Ground,
    topology: Arc<Topology>,
    worker: Worker,
    listeners: Listeners,
    runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

impl Stage {
    /// The pools as in the file, where `DIR` stands for a folder for sockets.
    fn start(text: &str) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let names = Names::new(Arc::new(|_| ()), None);
        let ground = Ground::new(names, LocalServers::new(), Arc::default(), Arc::new(|| ()), 1);
        let settings = Arc::new(read(text, &directory));
        let topology = Arc::new(Topology::first(settings.clone(), &ground).unwrap());
        let common = Common::new(&settings, None);
        let (worker, _) = Worker::start(0, Plan { topology: topology.clone(), common }).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut stage = Self { ground, topology, worker, listeners: Listeners::new(), runtime, directory };
        stage.listen();
        stage
    }

    fn listen(&mut self) {
        let _inside = self.runtime.enter();
        let wanted = self.topology.pools.iter().map(|pool| Wanted::of(&pool.settings, pool.id)).collect();
        let prepared = self.listeners.prepare(wanted, &mut Inherited::default()).unwrap();
        self.listeners.apply(prepared, &to_the_idlest(vec![self.worker.clone()]));
    }

    fn change(&mut self, text: &str) {
        let next = self.topology.next(Arc::new(read(text, &self.directory)), &self.ground).unwrap();
        next.take_over(&self.topology);
        self.topology = Arc::new(next);
        self.worker.adopt(self.topology.clone());
        self.listen();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn server(&self, name: &str) -> UnixListener {
        UnixListener::bind(self.path(name)).unwrap()
    }

    fn client(&self, pool: &str) -> Talk {
        Talk::new(UnixStream::connect(self.path(pool)).unwrap())
    }

    fn cells(&self, pool: &str) -> Arc<ServerCells> {
        let pool = self.topology.pools.iter().find(|known| known.settings.name == pool).unwrap();
        pool.servers[0].cells[0].clone()
    }
}

fn read(text: &str, directory: &tempfile::TempDir) -> config::Settings {
    let text = text.replace("DIR", directory.path().to_str().unwrap());
    config::parse("test", &text).unwrap_or_else(|error| panic!("{error}")).settings
}

/// A pool that listens at a socket of its name.
fn pool(name: &str, keys: &str, servers: &[&str]) -> String {
    let servers: String = servers.iter().map(|server| format!("      - DIR/{server}:1 {server}\n")).collect();
    let keys: String = keys.lines().map(|line| format!("    {line}\n")).collect();
    format!("  {name}:\n    listen: DIR/{name}\n    protocol: redis\n    timeout: 20s\n{keys}    servers:\n{servers}")
}

fn pools(drain: &str, pools: &[String]) -> String {
    format!("drain_timeout: {drain}\npools:\n{}", pools.concat())
}

/// One end of a connection.
struct Talk(BufReader<UnixStream>);

impl Talk {
    fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(socket))
    }

    fn accept(listener: &UnixListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok((socket, _)) = listener.accept() {
                socket.set_nonblocking(false).unwrap();
                return Self::new(socket);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("nobody connects");
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn expect(&mut self, text: &str) {
        let mut got = vec![0; text.len()];
        self.0.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), text);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The other side has closed.
    fn ends(&mut self) {
        match self.0.read(&mut [0; 1]) {
            Ok(count) => assert_eq!(count, 0, "more came"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// Nothing comes.
    fn is_silent(&mut self) {
        self.0.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let result = self.0.read(&mut [0; 1]);
        assert!(result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "something came");
        self.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn at_rest(cells: &ServerCells) -> bool {
    let gauges =
        [&cells.in_queue, &cells.in_queue_bytes, &cells.out_queue, &cells.out_queue_bytes, &cells.server_connections];
    gauges.map(|gauge| gauge.get()) == [0; 5]
}

const GET: &str = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

#[test]
fn a_session_of_a_removed_pool_still_finds_the_pool_that_stood_in_and_was_removed_with_it() {
    let ejecting = "auto_eject_hosts: true\nserver_failure_limit: 1\nmax_ejected_percent: 100\non_ejected: spare\non_readmit: keep";
    let (home, spare) = (pool("home", ejecting, &["s"]), pool("spare", "", &["t"]));
    let mut stage = Stage::start(&pools("30s", &[home, spare]));
    let (_nobody, stand_in) = (stage.server("s"), stage.server("t"));
    let health = stage.topology.pools.iter().find(|pool| pool.settings.name == "home").unwrap().health.clone();
    health.failed(0, Instant::now(), &Reason::Closed, "connection lost");
    stage.worker.bell().health_changed();
    let cells = stage.cells("spare");
    let mut client = stage.client("home");
    client.send(GET);
    let mut server = Talk::accept(&stand_in);
    server.expect(GET);
    server.send("$1\r\n1\r\n");
    client.expect("$1\r\n1\r\n");

    let (half, rest) = GET.split_at(12);
    client.send(half);
    std::thread::sleep(Duration::from_millis(20));
    stage.change(&pools("30s", &[pool("other", "", &["u"])]));
    std::thread::sleep(Duration::from_millis(100));
    client.send(rest);
    server.expect(GET);
    server.send("$1\r\n2\r\n");
    client.expect("$1\r\n2\r\n");
    client.ends();
    server.ends();
    eventually("counts at 0", || at_rest(&cells));
}

#[test]
fn what_a_removed_pool_has_not_finished_in_time_is_ended() {
    let mut stage = Stage::start(&pools("100ms", &[pool("p", "", &["s"])]));
    let listener = stage.server("s");
    let cells = stage.cells("p");
    let (mut client, mut other) = (stage.client("p"), stage.client("p"));
    client.send(GET);
    let mut server = Talk::accept(&listener);
    server.expect(GET);
    other.send(&GET[..5]);
    eventually("both are there", || stage.worker.sessions() == 2);
    stage.change(&pools("100ms", &[pool("other", "", &["u"])]));
    client.ends();
    other.ends();
    server.ends();
    eventually("counts at 0", || at_rest(&cells) && stage.worker.sessions() == 0);
}

#[test]
fn what_a_removed_server_has_not_answered_in_time_fails() {
    let mut stage = Stage::start(&pools("100ms", &[pool("p", "", &["s"])]));
    let (old, new) = (stage.server("s"), stage.server("t"));
    let cells = stage.cells("p");
    let mut client = stage.client("p");
    client.send(GET);
    let mut server = Talk::accept(&old);
    server.expect(GET);
    stage.change(&pools("100ms", &[pool("p", "", &["t"])]));
    client.send(GET);
    assert_eq!(client.line(), "-ERR Server was removed from the configuration (pool p, server s)");
    server.ends();
    let mut server = Talk::accept(&new);
    server.expect(GET);
    server.send("+t\r\n");
    client.expect("+t\r\n");
    eventually("counts at 0", || at_rest(&cells));
}

#[test]
fn topologies_that_come_faster_than_answers_are_skipped_by_the_sessions_that_wait() {
    let text = |servers: &[&str]| pools("30s", &[pool("p", "server_connections: 2", servers)]);
    let mut stage = Stage::start(&text(&["s"]));
    let listeners = ["s", "t", "u", "v"].map(|name| stage.server(name));
    let (mut client, cells) = (stage.client("p"), stage.cells("p"));
    client.send(GET);
    let mut first = Talk::accept(&listeners[0]);
    first.expect(GET);
    // The worker finds several in its queue.
    for servers in [&["t"][..], &["t", "u"], &["u"], &["v"]] {
        stage.change(&text(servers));
    }
    client.send(&GET.repeat(3));
    first.is_silent();
    client.is_silent();
    first.send("+s\r\n");
    client.expect("+s\r\n");
    let mut last = Talk::accept(&listeners[3]);
    last.expect(&GET.repeat(3));
    last.send(&"+v\r\n".repeat(3));
    client.expect(&"+v\r\n".repeat(3));
    first.ends();
    listeners[1..3].iter().for_each(|listener| {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "a server that was never needed was connected to");
    });
    eventually("counts at 0", || at_rest(&cells));
}
