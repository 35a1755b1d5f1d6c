//! A worker that is warm allocates nothing for a small request.
//!
//! A real worker on its own thread, two real servers for each protocol, real sockets; the allocator counts what that one
//! thread asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use outrigger::config::{ListenAddress, Protocol, Settings, default_settings};
use outrigger::discovery::Names;
use outrigger::listener::{Inherited, Listeners, Wanted, to_the_idlest};
use outrigger::local::LocalServers;
use outrigger::pool::{Ground, Topology};
use outrigger::session::Common;
use outrigger::worker::{Plan, Worker};

/// Passes everything on to the system, and counts the allocations of one thread.
struct Counting;

/// The kernel's number of the thread that is watched; 0: none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Where the first few came from.
static CULPRITS: Mutex<Vec<String>> = Mutex::new(Vec::new());
const SHOWN: usize = 5;

thread_local! {
    /// This thread's number, once it has been asked for; -1 while it describes an allocation.
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

fn count() {
    let watched = WATCHED.load(Relaxed);
    // Fails only while the thread ends.
    let _ = THREAD.try_with(|thread| {
        if watched == 0 || thread.get() == -1 {
            return;
        }
        if thread.get() == 0 {
            thread.set(rustix::thread::gettid().as_raw_nonzero().get());
        }
        if thread.get() == watched {
            let before = ALLOCATIONS.fetch_add(1, Relaxed);
            if before < SHOWN {
                thread.set(-1);
                let culprit = Backtrace::force_capture().to_string();
                CULPRITS.lock().unwrap().push(culprit);
                thread.set(watched);
            }
        }
    });
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A worker over two in-process servers per pool, with a listener for each pool.
struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    fn start() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut settings = default_settings();
        for pool in &mut settings.pools {
            pool.servers.truncate(2);
            // Looking up where the first allocations came from can take longer than a request may.
            (pool.timeout, pool.connect_timeout) = (None, None);
            pool.listen = ListenAddress::Unix { path: directory.path().join(name(pool.protocol)), mode: None };
        }
        start_worker(settings);
        Self { directory }
    }

    fn connect(&self, protocol: Protocol) -> Client {
        Client::connect(protocol, &self.directory.path().join(name(protocol)))
    }
}

/// Runs for as long as the process does.
fn start_worker(settings: Settings) {
    let names = Names::new(Arc::new(|_| ()), None);
    let ground = Ground::new(names, LocalServers::new(), Arc::default(), Arc::new(|| ()), 8);
    let common = Common::new(&settings, None);
    let topology = Arc::new(Topology::first(Arc::new(settings), &ground).unwrap());
    let (worker, _) = Worker::start(7, Plan { topology: topology.clone(), common }).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let mut listeners = Listeners::new();
        let wanted = topology.pools.iter().map(|pool| Wanted::of(&pool.settings, pool.id));
        let prepared = listeners.prepare(wanted.collect(), &mut Inherited::default()).unwrap();
        listeners.apply(prepared, &to_the_idlest(vec![worker]));
        runtime.block_on(std::future::pending::<()>());
    });
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Redis => "redis",
        Protocol::Memcached => "memcached",
    }
}

/// The kernel's number of the worker's thread.
fn worker_thread() -> i32 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap());
    let mut workers = tasks.filter(|task| fs::read_to_string(task.path().join("comm")).unwrap().trim() == "worker-7");
    workers.next().unwrap().file_name().to_str().unwrap().parse().unwrap()
}

struct Client {
    protocol: Protocol,
    socket: BufReader<UnixStream>,
    sent: usize,
}

impl Client {
    fn connect(protocol: Protocol, path: &Path) -> Self {
        let start = std::time::Instant::now();
        let socket = loop {
            match UnixStream::connect(path) {
                Ok(socket) => break socket,
                Err(e) => assert!(start.elapsed().as_secs() < 20, "{}: {e}", path.display()),
            }
        };
        socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        Self { protocol, socket: BufReader::new(socket), sent: 0 }
    }

    /// Sends `depth` requests in one write: ten gets, then one set, and so on, over a hundred keys.
    fn send(&mut self, depth: usize) {
        let mut requests = String::new();
        for number in self.sent..self.sent + depth {
            let key = format!("key:{:010}", number * 7 % 100);
            let value = "v".repeat(100);
            let request = match (self.protocol, number % 11) {
                (Protocol::Redis, 10) => format!("*3\r\n$3\r\nSET\r\n$14\r\n{key}\r\n$100\r\n{value}\r\n"),
                (Protocol::Redis, _) => format!("*2\r\n$3\r\nGET\r\n$14\r\n{key}\r\n"),
                (Protocol::Memcached, 10) => format!("set {key} 0 0 100\r\n{value}\r\n"),
                (Protocol::Memcached, _) => format!("get {key}\r\n"),
            };
            requests += &request;
        }
        self.sent += depth;
        self.socket.get_mut().write_all(requests.as_bytes()).unwrap();
    }

    fn receive(&mut self, replies: usize) {
        for _ in 0..replies {
            let line = self.line();
            match line.as_str() {
                "+OK" | "$-1" | "STORED" | "END" => {}
                "$100" => self.value(),
                value if value.starts_with("VALUE ") => {
                    self.value();
                    assert_eq!(self.line(), "END");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn value(&mut self) {
        let mut value = [0; 102];
        self.socket.read_exact(&mut value).unwrap();
        assert!(value.ends_with(b"v\r\n"));
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.socket.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }
}

fn talk(clients: &mut [Client], depth: usize, requests: usize) {
    for _ in 0..requests / depth {
        clients.iter_mut().for_each(|client| client.send(depth));
        clients.iter_mut().for_each(|client| client.receive(depth));
    }
}

/// Allocations on the worker's thread while `work` is done.
fn allocations_of(work: impl FnOnce()) -> usize {
    ALLOCATIONS.store(0, Relaxed);
    WATCHED.store(worker_thread(), Relaxed);
    work();
    WATCHED.store(0, Relaxed);
    ALLOCATIONS.load(Relaxed)
}

#[test]
fn a_warm_worker_allocates_nothing_for_a_small_request() {
    let fixture = Fixture::start();
    for protocol in [Protocol::Redis, Protocol::Memcached] {
        for clients in [1, 8] {
            let mut clients: Vec<Client> = (0..clients).map(|_| fixture.connect(protocol)).collect();
            for depth in [1, 16, 64] {
                // Buffers grow to what the largest batch needs, and how large that gets is the scheduler's whim: a round
                // that sets a new mark is warm-up. What a request costs, it costs in every round.
                let mut counts = Vec::new();
                while counts.len() < 8 && counts.last() != Some(&0) {
                    counts.push(allocations_of(|| talk(&mut clients, depth, 1600)));
                }
                let culprits = CULPRITS.lock().unwrap().join("\n");
                let many = clients.len();
                assert_eq!(
                    counts.last(),
                    Some(&0),
                    "{protocol:?}, {many} clients, depth {depth}: {counts:?}\n{culprits}"
                );
            }
        }
    }

    // And it is counted: what the proxy answers with a text of its own is put together on the heap.
    let mut client = fixture.connect(Protocol::Redis);
    let allocations = allocations_of(|| {
        client.socket.get_mut().write_all(b"INFO\r\n").unwrap();
        assert!(client.line().starts_with('$'));
    });
    assert!(allocations > 0);
}
