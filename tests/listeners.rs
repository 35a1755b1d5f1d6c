//! The set of listeners changes while clients come: real sockets on loopback, no workers.

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use outrigger::config::{ListenAddress, Protocol};
use outrigger::listener::{HandOver, Inherited, Listeners, Permit, Wanted};
use outrigger::pool::PoolId;
use outrigger::worker::{Accepted, Socket};
use support::{PATIENCE, Port, eventually, watch};
use tokio::runtime::Runtime;

#[path = "listeners/addresses.rs"]
mod addresses;
#[path = "listeners/unix_sockets.rs"]
mod unix_sockets;

/// Those that count descriptors of the process have it to themselves.
static PROCESS: RwLock<()> = RwLock::new(());

/// Listeners on a runtime of their own; every client is told the name of its pool and its number, and counted as long as
/// it stays.
struct Fixture {
    listeners: Listeners,
    hand_over: HandOver,
    /// Their places in the limits of their pools.
    inside: Arc<Mutex<Vec<(PoolId, Permit)>>>,
    runtime: Runtime,
}

impl Fixture {
    fn new() -> Self {
        let inside: Arc<Mutex<Vec<(PoolId, Permit)>>> = Arc::default();
        let guests = inside.clone();
        let hand_over: HandOver = Arc::new(move |accepted: Accepted| {
            let Accepted { socket, pool, id, permit, .. } = accepted;
            let text = format!("pool {} client {id}\n", pool.0);
            guests.lock().unwrap().push((pool, permit));
            // The client may be gone.
            let _ = match socket {
                Socket::Tcp(mut socket) => socket.write_all(text.as_bytes()),
                Socket::Unix(mut socket) => socket.write_all(text.as_bytes()),
            };
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { listeners: Listeners::new(), hand_over, inside, runtime }
    }

    fn with(wanted: Vec<Wanted>) -> Self {
        let mut fixture = Self::new();
        fixture.change(wanted);
        fixture
    }

    fn change(&mut self, wanted: Vec<Wanted>) {
        self.change_with(wanted, Vec::new());
    }

    fn change_with(&mut self, wanted: Vec<Wanted>, inherited: Vec<(String, OwnedFd)>) {
        let prepared = self.listeners.prepare(wanted, &mut Inherited::new(inherited)).unwrap();
        let _inside = self.runtime.enter();
        self.listeners.apply(prepared, &self.hand_over);
    }

    /// What keeps the given change from being made, one line for each reason.
    fn refused(&self, wanted: Vec<Wanted>) -> String {
        let Err(errors) = self.listeners.prepare(wanted, &mut Inherited::default()) else { panic!("no error") };
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Clients wait in the queue from now on, until the sender is dropped.
    fn stall(&self) -> mpsc::Sender<()> {
        let (go, wait) = mpsc::channel::<()>();
        let (stalled, is_stalled) = mpsc::channel();
        self.runtime.spawn(async move {
            stalled.send(()).unwrap();
            let _ = wait.recv();
        });
        is_stalled.recv().unwrap();
        go
    }

    fn addresses(&self) -> Vec<&str> {
        self.listeners.addresses().collect()
    }
}

fn wanted(pool: u64, listen: ListenAddress) -> Wanted {
    Wanted {
        pool: PoolId(pool),
        pool_name: format!("pool{pool}"),
        protocol: Protocol::Redis,
        listen,
        backlog: 512,
        client_connections: None,
        resolved: None,
    }
}

fn tcp(host: &str, port: u16) -> ListenAddress {
    ListenAddress::Tcp { host: host.to_owned(), port }
}

fn unix(path: &Path) -> ListenAddress {
    ListenAddress::Unix { path: path.to_owned(), mode: None }
}

/// A listener of a pool on 127.0.0.1.
fn on(pool: u64, port: &Port) -> Wanted {
    wanted(pool, tcp("127.0.0.1", port.number()))
}

fn local(port: &Port) -> SocketAddr {
    ([127, 0, 0, 1], port.number()).into()
}

fn connect(port: &Port) -> TcpStream {
    try_connect(local(port)).unwrap()
}

fn try_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn connect_unix(path: &Path) -> UnixStream {
    let socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// What a client is told before the connection closes.
fn told(mut client: impl Read) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// The pool a client has come to.
fn pool_of(client: impl Read) -> u64 {
    let text = told(client);
    let number = text.strip_prefix("pool ").and_then(|rest| rest.split(' ').next());
    number.unwrap_or_else(|| panic!("{text:?}")).parse().unwrap()
}

/// A client that connects, reads what it is told, and comes again, until it is stopped.
struct Visitors {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Visitors {
    fn start(address: SocketAddr) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), count.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(SeqCst) {
                let mut text = String::new();
                try_connect(address)?.read_to_string(&mut text)?;
                assert!(text.starts_with("pool "), "{text:?}");
                counted.fetch_add(1, SeqCst);
            }
            Ok(())
        });
        Self { stop, count, thread }
    }

    /// Until so many more have been served.
    fn wait_for(&self, more: usize) {
        let enough = self.count.load(SeqCst) + more;
        let served = || (self.thread.is_finished() || self.count.load(SeqCst) >= enough).then_some(());
        eventually("clients to be served", served);
    }

    /// All were served.
    fn stop(self) {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn pools_swap_their_ports_and_those_who_wait_come_to_the_new_pool() {
    let _process = PROCESS.read();
    let [one, two] = [Port::reserve(), Port::reserve()];
    let mut fixture = Fixture::with(vec![on(1, &one), on(2, &two)]);
    assert_eq!([pool_of(connect(&one)), pool_of(connect(&two))], [1, 2]);
    let stalled = fixture.stall();
    let waiting = connect(&one);
    fixture.change(vec![on(2, &one), on(1, &two)]);
    drop(stalled);
    assert_eq!(pool_of(waiting), 2);
    assert_eq!([pool_of(connect(&one)), pool_of(connect(&two))], [2, 1]);
    assert_eq!(fixture.addresses().len(), 2);
}

#[test]
fn a_moved_listener_takes_in_who_waits_at_the_old_address() {
    let _process = PROCESS.read();
    let [old, new] = [Port::reserve(), Port::reserve()];
    let mut fixture = Fixture::with(vec![on(7, &old)]);
    let stalled = fixture.stall();
    let waiting: Vec<_> = (0..50).map(|_| connect(&old)).collect();
    fixture.change(vec![on(7, &new)]);
    assert!(is_refused(local(&old)));
    drop(stalled);
    for client in waiting {
        assert_eq!(pool_of(client), 7);
    }
    assert_eq!(pool_of(connect(&new)), 7);
}

#[test]
fn stopping_takes_in_who_waits_and_closes_everything() {
    let _process = PROCESS.read();
    let (folder, port) = (support::folder(), Port::reserve());
    let path = folder.path().join("s");
    let mut fixture = Fixture::with(vec![on(1, &port), wanted(2, unix(&path))]);
    let _stalled = fixture.stall();
    let (waiting, waiting_too) = (connect(&port), connect_unix(&path));
    fixture.listeners.stop(false);
    assert_eq!((pool_of(waiting), pool_of(waiting_too)), (1, 2));
    assert!(is_refused(local(&port)));
    assert!(!path.exists());
    assert!(fixture.addresses().is_empty());
}

#[test]
fn what_cannot_be_bound_is_said_for_all_and_nothing_changes() {
    let _process = PROCESS.read();
    let folder = support::folder();
    let [kept, free, taken] = [Port::reserve(), Port::reserve(), Port::reserve()];
    let other = TcpListener::bind(local(&taken)).unwrap();
    let (file, socket) = (folder.path().join("file"), folder.path().join("socket"));
    fs::write(&file, "precious").unwrap();
    let fixture = Fixture::with(vec![on(1, &kept)]);
    let errors = fixture.refused(vec![
        on(2, &kept),
        on(3, &free),
        wanted(4, unix(&socket)),
        on(5, &taken),
        wanted(6, unix(&file)),
        wanted(7, tcp("no-such-host.invalid", 1)),
    ]);
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 3, "{errors}");
    assert!(lines[0].starts_with("pool pool7: cannot listen on no-such-host.invalid:1: "), "{errors}");
    let expected = format!("pool pool5: cannot listen on {}: Address already in use (os error 98)", local(&taken));
    assert_eq!(lines[1], expected);
    let expected = format!("pool pool6: cannot listen on {}: the file exists and is not a socket", file.display());
    assert_eq!(lines[2], expected);
    assert_eq!(pool_of(connect(&kept)), 1);
    assert!(is_refused(local(&free)));
    assert!(!socket.exists());
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    drop(other);
}

#[test]
fn what_is_prepared_and_dropped_leaves_no_trace() {
    let _process = PROCESS.read();
    let (folder, port) = (support::folder(), Port::reserve());
    let path = folder.path().join("s");
    let listeners = Listeners::new();
    let all = vec![on(1, &port), wanted(2, unix(&path))];
    let prepared = listeners.prepare(all, &mut Inherited::default()).unwrap();
    assert!(path.exists());
    drop(prepared);
    assert!(is_refused(local(&port)));
    assert!(!path.exists());
}

#[test]
fn the_limit_of_a_pool_counts_its_clients_wherever_they_came_in() {
    let _process = PROCESS.read();
    let [old, new] = [Port::reserve(), Port::reserve()];
    let limited = |port, limit| Wanted { client_connections: Some(limit), ..on(1, port) };
    let mut fixture = Fixture::with(vec![limited(&old, 2)]);
    assert_eq!([pool_of(connect(&old)), pool_of(connect(&old))], [1, 1]);
    assert_eq!(told(connect(&old)), "-ERR max number of clients reached\r\n");
    fixture.change(vec![limited(&new, 3), on(2, &old)]);
    assert_eq!([pool_of(connect(&new)), pool_of(connect(&old))], [1, 2]);
    assert_eq!(told(connect(&new)), "-ERR max number of clients reached\r\n");
    // Places that are given back are there again.
    fixture.inside.lock().unwrap().retain(|(pool, _)| *pool != PoolId(1));
    assert_eq!(pool_of(connect(&new)), 1);
    fixture.change(vec![Wanted { protocol: Protocol::Memcached, ..limited(&new, 1) }]);
    assert_eq!(told(connect(&new)), "ERROR Too many open connections\r\n");
    fixture.change(vec![on(1, &new)]);
    assert_eq!(pool_of(connect(&new)), 1);
}

#[test]
fn clients_are_numbered_on_and_on() {
    let _process = PROCESS.read();
    let [one, two] = [Port::reserve(), Port::reserve()];
    let mut fixture = Fixture::with(vec![on(1, &one)]);
    assert_eq!(told(connect(&one)), "pool 1 client 1\n");
    fixture.change(vec![on(1, &two)]);
    assert_eq!(told(connect(&two)), "pool 1 client 2\n");
    assert_eq!(fixture.listeners.last_client(), 2);
    fixture.listeners.continue_from(99);
    fixture.listeners.continue_from(5);
    assert_eq!(told(connect(&two)), "pool 1 client 100\n");
}

/// The backlog of a listener whose clients are not let in: one more than that may wait.
fn backlog_of(port: &Port) -> usize {
    let address = socket2::SockAddr::from(local(port));
    let mut clients = Vec::new();
    loop {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        if socket.connect_timeout(&address, Duration::from_millis(100)).is_err() {
            return clients.len() - 1;
        }
        clients.push(socket);
    }
}

#[test]
fn a_kept_socket_goes_by_the_new_backlog() {
    let _process = PROCESS.read();
    let port = Port::reserve();
    let mut fixture = Fixture::with(vec![Wanted { backlog: 3, ..on(1, &port) }]);
    let stalled = fixture.stall();
    assert_eq!(backlog_of(&port), 3);
    fixture.change(vec![Wanted { backlog: 8, ..on(1, &port) }]);
    drop(stalled);
    eventually("an empty queue", || (fixture.inside.lock().unwrap().len() >= 4).then_some(()));
    let _stalled = fixture.stall();
    assert_eq!(backlog_of(&port), 8);
}

#[test]
fn a_listener_that_cannot_accept_any_more_is_opened_again_by_the_next_change() {
    let _process = PROCESS.read();
    let port = Port::reserve();
    let mut fixture = Fixture::with(vec![on(1, &port)]);
    for (_, socket) in fixture.listeners.sockets().unwrap() {
        rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).unwrap();
    }
    eventually("the listener to stop", || fixture.listeners.sockets().unwrap().is_empty().then_some(()));
    assert!(is_refused(local(&port)));
    fixture.change(vec![on(1, &port)]);
    assert_eq!(pool_of(connect(&port)), 1);
}

#[test]
fn the_next_process_goes_on_with_the_same_sockets() {
    let _process = PROCESS.read();
    let (folder, port, unwanted) = (support::folder(), Port::reserve(), Port::reserve());
    let path = folder.path().join("s");
    let both = |pool| vec![on(pool, &port), wanted(pool + 1, unix(&path))];
    let mut first = Fixture::with([both(1), vec![on(9, &unwanted)]].concat());
    let sockets = first.listeners.sockets().unwrap();
    let texts: Vec<_> = sockets.iter().map(|(text, _)| text.clone()).collect();
    assert_eq!(texts, [local(&port).to_string(), path.display().to_string(), local(&unwanted).to_string()]);
    let clients = Visitors::start(local(&port));
    // A successor that fails takes nothing with it.
    let failing = Inherited::new(first.listeners.sockets().unwrap());
    drop(Listeners::new().prepare(both(3), &mut { failing }).unwrap());
    assert_eq!(pool_of(connect_unix(&path)), 2);
    clients.wait_for(5);
    let mut second = Fixture::new();
    second.change_with(both(3), sockets);
    clients.wait_for(20);
    first.listeners.stop(true);
    clients.wait_for(20);
    clients.stop();
    assert_eq!((pool_of(connect(&port)), pool_of(connect_unix(&path))), (3, 4));
    assert!(is_refused(local(&unwanted)));
    drop(first);
    assert_eq!(pool_of(connect_unix(&path)), 4);
    second.listeners.stop(false);
    assert!(!path.exists());
}

#[test]
fn the_next_process_may_want_other_addresses() {
    let _process = PROCESS.read();
    let [port, moved] = [Port::reserve(), Port::reserve()];
    let mut first = Fixture::with(vec![on(1, &port), on(2, &moved)]);
    let sockets = first.listeners.sockets().unwrap();
    let clients = [Visitors::start(local(&port)), Visitors::start(local(&moved))];
    let mut second = Fixture::new();
    let other_names = vec![wanted(3, tcp("127.1", port.number())), wanted(4, tcp("0.0.0.0", moved.number()))];
    second.change_with(other_names, sockets);
    clients.iter().for_each(|c| c.wait_for(10));
    clients.into_iter().for_each(Visitors::stop);
    first.listeners.stop(true);
    assert_eq!((pool_of(connect(&port)), pool_of(connect(&moved))), (3, 4));
}

#[test]
fn what_is_handed_over_and_does_not_listen_is_not_used() {
    let _process = PROCESS.read();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let sockets = vec![("connected".to_owned(), connected.into()), ("listening".to_owned(), listener.into())];
    let mut inherited = Inherited::new(sockets);
    assert!(inherited.take("connected").is_none());
    assert!(inherited.take("listening").is_some());
    assert!(inherited.take("listening").is_none());
}

#[test]
fn clients_that_keep_coming_are_never_refused_while_the_pools_change() {
    let _process = PROCESS.read();
    let folder = support::folder();
    let (ports, path) = ([Port::reserve(), Port::reserve()], folder.path().join("s"));
    let all = |round: u64| {
        let mode = Some(if round.is_multiple_of(3) { 0o666 } else { 0o660 });
        let mut all = vec![on(round % 5, &ports[0]), on(round % 5 + 1, &ports[1])];
        all.push(wanted(round % 7, ListenAddress::Unix { path: path.clone(), mode }));
        all.iter_mut().for_each(|w| w.backlog = 512 + u32::from(round.is_multiple_of(4)));
        all
    };
    let mut fixture = Fixture::with(all(0));
    let clients = ports.each_ref().map(|port| Visitors::start(local(port)));
    for round in 1..=200 {
        fixture.change(all(round));
        clients.iter().for_each(|clients| clients.wait_for(2));
        assert_eq!(pool_of(connect_unix(&path)), round % 7);
    }
    clients.into_iter().for_each(Visitors::stop);
}

#[test]
fn a_thousand_changes_leave_no_descriptor_behind() {
    let _process = PROCESS.write();
    let folder = support::folder();
    let ports: Vec<_> = (0..4).map(|_| Port::reserve()).collect();
    let mut random = 12345_u32;
    let mut next = move |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % below
    };
    let mut fixture = Fixture::with(Vec::new());
    let before = watch::descriptors(std::process::id());
    for round in 0..1000 {
        let mut all = Vec::new();
        for port in &ports {
            let host = ["", "0.0.0.0", "127.0.0.1", "::"][next(4) as usize];
            if !host.is_empty() {
                all.push(wanted(next(4).into(), tcp(host, port.number())));
            }
        }
        for name in ["a", "b"] {
            if next(2) == 1 {
                all.push(wanted(next(4).into(), unix(&folder.path().join(name))));
            }
        }
        let listeners = all.len();
        if next(3) == 0 && round % 250 != 0 {
            drop(fixture.listeners.prepare(all, &mut Inherited::default()).unwrap());
        } else {
            fixture.change(all);
            if round % 250 == 0 {
                let open = || watch::descriptors(std::process::id()) == before + listeners;
                eventually("the unwanted to close", || open().then_some(()));
            }
        }
    }
    fixture.change(Vec::new());
    eventually("the last to close", || (watch::descriptors(std::process::id()) == before).then_some(()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
