//! Both sides, within one process and between two: the tests start themselves again as successors, by the names of the
//! tests in [`roles`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::spawn::VARIABLE;
use super::wire::{Message, Received, Wire};
use super::*;
use crate::session::carried::{Carried, Dialect, MOST_INPUT, Memcached, Redis, Replies};

mod at_the_door;

const PATIENCE: Duration = Duration::from_secs(30);

/// A shell command as the successor.
fn shell(command: &str) -> Upgrade {
    Upgrade::new(Spawn { program: "/bin/sh".into(), arguments: vec!["-c".into(), command.into()] })
}

/// One of the [`roles`] as the successor, by way of a shell that keeps its output to itself.
fn role(name: &str, command: &str) -> Upgrade {
    let (program, itself) = (PathBuf::from("/bin/sh"), std::env::current_exe().unwrap());
    let name = format!("upgrade::tests::roles::{name}");
    let words = ["-c".into(), command.into(), itself.into(), name.into()];
    let rest = ["--exact", "--include-ignored", "--test-threads=1"].map(Into::into);
    Upgrade::new(Spawn { program, arguments: words.into_iter().chain(rest).collect() })
}

const AS_IT_IS: &str = r#"exec "$0" "$@" >/dev/null 2>&1"#;
/// As `-d` does it: what was started ends well, and another process goes on.
const IN_THE_BACKGROUND: &str = r#"exec 3<&0; "$0" "$@" <&3 3<&- >/dev/null 2>&1 & exit 0"#;

fn listeners(count: usize) -> Vec<(String, TcpListener)> {
    let one = |_| TcpListener::bind("127.0.0.1:0").unwrap();
    (0..count).map(one).map(|listener| (listener.local_addr().unwrap().to_string(), listener)).collect()
}

/// What a process that accepts at this address says: its id, and what it was told at the start.
fn ask_at(address: &str) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    said
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A limit that nothing here reaches.
fn start<S: AsFd>(upgrade: &Upgrade, sockets: &[(String, S)]) -> Result<Successor, Failure> {
    upgrade.start(sockets, &Estate { last_client: 41, ..Estate::default() }, PATIENCE)
}

fn failure(upgrade: &Upgrade) -> String {
    start(upgrade, &listeners(2)).unwrap_err().to_string()
}

/// Both ends, in this process; what a thread of the new one does with its own.
fn within<T: Send + 'static>(
    new: impl FnOnce(std::io::Result<Predecessor>) -> T + Send + 'static,
) -> (Caller, thread::JoinHandle<T>) {
    let (wire, other) = Wire::pair().unwrap();
    let thread = thread::spawn(move || new(Predecessor::greet(Wire::new(other).unwrap(), 0)));
    (Caller { wire, pid: std::process::id() }, thread)
}

fn no_sockets() -> [(String, TcpListener); 0] {
    []
}

#[test]
fn a_successor_accepts_at_the_sockets_that_it_was_handed() {
    let sockets = listeners(3);
    let successor = start(&role("serves", AS_IT_IS), &sockets).unwrap();
    let addresses: Vec<String> = sockets.iter().map(|(address, _)| address.clone()).collect();
    drop(sockets);
    for address in &addresses {
        assert_eq!(ask_at(address), format!("{} of 3 after 41", successor.pid()));
    }
    // A session goes along and is answered by the other process.
    let (mut client, server) = UnixStream::pair().unwrap();
    let redis = Redis { name: "me".into(), replies: Replies::SkipNext, ..Redis::default() };
    let carried = Carried { pool: "p".into(), id: 9, dialect: Dialect::Redis(redis), input: b"*1\r\n".to_vec() };
    successor.send(&carried, &server).unwrap();
    drop(server);
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, format!("{} {carried:?}", successor.pid()));
    let pid = successor.pid();
    successor.finish(0).unwrap();
    eventually("the end and the reaping of the successor", || !PathBuf::from(format!("/proc/{pid}")).exists());
}

#[test]
fn more_sockets_than_fit_into_a_message_arrive() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let sockets = listeners(1500);
    let successor = start(&role("serves", AS_IT_IS), &sockets).unwrap();
    let addresses: Vec<String> = sockets.iter().map(|(address, _)| address.clone()).collect();
    drop(sockets);
    for address in addresses.iter().step_by(100) {
        assert_eq!(ask_at(address), format!("{} of 1500 after 41", successor.pid()));
    }
}

#[test]
fn a_successor_may_go_into_the_background() {
    let sockets = listeners(1);
    let successor = start(&role("serves", IN_THE_BACKGROUND), &sockets).unwrap();
    assert_eq!(ask_at(&sockets[0].0), format!("{} of 1 after 41", successor.pid()));
    successor.finish(0).unwrap();
}

#[test]
fn a_successor_that_does_not_come_to_serve_is_no_harm() {
    let missing = Upgrade::new(Spawn { program: "/no/such/file".into(), arguments: Vec::new() });
    assert_eq!(failure(&missing), "cannot start /no/such/file: No such file or directory (os error 2)");
    let text = |upgrade: &Upgrade| {
        let said = failure(upgrade);
        let (first, rest) = said.strip_prefix("process ").unwrap().split_once([' ', ':']).unwrap();
        let pid: u32 = first.parse().unwrap();
        assert!(!is_alive(pid), "{said}");
        rest.to_owned()
    };
    assert_eq!(text(&shell("exit 3")), "ended before it served (exit status: 3)");
    assert_eq!(text(&shell("kill -9 $$")), "ended before it served (signal: 9 (SIGKILL))");
    assert_eq!(text(&shell("exit 0")), "ended before it served");
    assert_eq!(text(&shell("exec sleep 100 <&-")), "ended before it served");
    assert!(text(&shell("echo hello >&0; exec sleep 100")).contains("not a message of an upgrade"));
    assert_eq!(text(&role("fails", AS_IT_IS)), "cannot serve: config.yml:3:1: no such thing");
    let protocol = "is outrigger 9.9.9, which upgrades by protocol 2; this one does by 1";
    assert_eq!(text(&role("speaks_protocol_2", AS_IT_IS)), protocol);
    assert_eq!(text(&role("ends_when_ready", AS_IT_IS)), "ended before it served (exit status: 7)");
}

#[test]
fn a_successor_that_hangs_is_ended_and_another_one_may_come() {
    let upgrade = shell("exec sleep 100");
    let sockets = listeners(1);
    let begin = Instant::now();
    let said = upgrade.start(&sockets, &Estate::default(), Duration::from_millis(300)).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10));
    let Failure::Late { pid, .. } = said else { panic!("{said}") };
    assert_eq!(said.to_string(), format!("process {pid} did not serve within 0.3 s"));
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "it has ended, and was reaped");
    // The old process still has everything; and is not in the middle of an upgrade.
    assert!(matches!(
        upgrade.start(&sockets, &Estate::default(), Duration::from_millis(10)),
        Err(Failure::Late { .. })
    ));
    let successor = start(&role("serves", AS_IT_IS), &sockets).unwrap();
    assert_eq!(ask_at(&sockets[0].0), format!("{} of 1 after 41", successor.pid()));
}

#[test]
fn one_is_replaced_once_at_a_time() {
    let upgrade = role("serves", AS_IT_IS);
    let first = start(&upgrade, &listeners(1)).unwrap();
    let under_way = "this process is being replaced already";
    assert_eq!(failure(&upgrade), under_way);
    let (caller, new) = within(|old| old.and_then(|mut old| old.sockets()).map(|_| ()));
    let refused = upgrade.hand_to(caller, &no_sockets(), &Estate::default(), PATIENCE).unwrap_err();
    assert_eq!(refused.to_string(), under_way);
    assert_eq!(new.join().unwrap().unwrap_err().to_string(), under_way);
    // It died, say.
    drop(first);
    let second = start(&upgrade, &listeners(1)).unwrap();
    second.finish(0).unwrap();
    assert_eq!(failure(&upgrade), under_way, "after the end there is nothing to hand over");
}

#[test]
fn a_new_process_that_is_late_or_wrong_is_told_to_end() {
    let (caller, new) = within(|old| {
        let mut old = old?;
        old.sockets()?;
        thread::sleep(Duration::from_millis(300));
        old.ready()
    });
    let late = shell("").hand_to(caller, &listeners(2), &Estate::default(), Duration::from_millis(100)).unwrap_err();
    let text = format!("process {} did not serve within 0.1 s", std::process::id());
    assert_eq!((late.to_string(), new.join().unwrap().unwrap_err().to_string()), (text.clone(), text));

    // An old process of another protocol, and one that is gone.
    let (mut caller, new) = within(|old| old.unwrap_err().to_string());
    caller.wire.receive(None).unwrap();
    caller.wire.say(&Message::Hello { protocol: 7, version: "0.0.1".into(), pid: 5 }).unwrap();
    assert_eq!(new.join().unwrap(), "process 5 is outrigger 0.0.1, which upgrades by protocol 7; this one does by 1");
    let (caller, new) = within(|old| old.unwrap_err().to_string());
    drop(caller);
    assert_eq!(new.join().unwrap(), "the process to be replaced: it has given the upgrade up");
}

/// The new side by hand: a successor with room for so many sessions, and its end of the wire.
fn by_hand(room: u64) -> (Successor, Wire) {
    let (wire, other) = Wire::pair().unwrap();
    let mut other = Wire::new(other).unwrap();
    let new = thread::spawn(move || {
        other.say(&Message::hello()).unwrap();
        while other.receive(None).unwrap().unwrap().message
            != (Message::Begin { sockets: 0, estate: Estate::default() })
        {}
        other.say(&Message::Ready { pid: 77, room }).unwrap();
        assert_eq!(other.receive(None).unwrap().unwrap().message, Message::Go);
        other.say(&Message::Serving).unwrap();
        other
    });
    let caller = Caller { wire, pid: 77 };
    let successor = shell("").hand_to(caller, &no_sockets(), &Estate::default(), PATIENCE).unwrap();
    (successor, new.join().unwrap())
}

fn session(id: u64, input: Vec<u8>) -> Carried {
    Carried { pool: "p".into(), id, dialect: Dialect::Memcached(Memcached { discard: 1 }), input }
}

#[test]
fn what_goes_along_may_be_of_a_version_that_knows_more_or_less() {
    let read = |json: &str| serde_json::from_str::<Carried>(json).unwrap();
    let less = read(r#"{"pool":"p","id":7,"dialect":{"Redis":{"authenticated":true}}}"#);
    let dialect = Dialect::Redis(Redis { authenticated: true, ..Redis::default() });
    assert_eq!(less, Carried { pool: "p".into(), id: 7, dialect, input: Vec::new() });
    let more = read(r#"{"pool":"p","id":7,"mood":"fine","dialect":{"Memcached":{"discard":9,"flags":[1]}}}"#);
    assert_eq!(more.dialect, Dialect::Memcached(Memcached { discard: 9 }));
}

#[test]
fn a_successor_gets_no_more_sessions_than_it_has_room_for() {
    let (successor, mut new) = by_hand(2);
    let socket = UnixStream::pair().unwrap().0;
    let too_long = successor.send(&session(0, vec![0; MOST_INPUT + 1]), &socket).unwrap_err();
    assert_eq!(too_long.kind(), std::io::ErrorKind::InvalidInput);
    successor.send(&session(1, vec![0; MOST_INPUT]), &socket).unwrap();
    successor.send(&session(2, Vec::new()), &socket).unwrap();
    let full = successor.send(&session(3, Vec::new()), &socket).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::QuotaExceeded);
    successor.finish(1).unwrap();
    let mut said = || new.receive(None).unwrap();
    assert!(
        matches!(said(), Some(Received { raw, descriptors, .. }) if (raw.len(), descriptors.len()) == (MOST_INPUT, 1))
    );
    assert!(said().is_some());
    assert_eq!(said().unwrap().message, Message::Done { sessions: 2, left: 1 });
    assert!(said().is_none());
}

#[test]
fn sessions_that_threads_send_at_once_arrive_whole() {
    const THREADS: u64 = 4;
    const EACH: u64 = 100;
    let input = |id: u64| -> Vec<u8> { (0..id * 163 % MOST_INPUT as u64).map(|n| (n * id) as u8).collect() };
    let (tell, told) = mpsc::channel();
    let (caller, new) = within(move |old| {
        let mut old = old.unwrap();
        assert!(old.sockets().unwrap().sockets.is_empty());
        old.ready().unwrap();
        old.serving(move |carried, socket| tell.send((carried, socket)).unwrap()).unwrap()
    });
    let successor = shell("").hand_to(caller, &no_sockets(), &Estate::default(), PATIENCE).unwrap();
    let mut clients = Vec::new();
    thread::scope(|scope| {
        let send = |thread: u64| {
            let successor = &successor;
            scope.spawn(move || {
                let mut clients = Vec::new();
                for id in thread * EACH..(thread + 1) * EACH {
                    let (client, server) = UnixStream::pair().unwrap();
                    successor.send(&session(id, input(id)), server).unwrap();
                    clients.push((id, client));
                }
                clients
            })
        };
        let threads: Vec<_> = (0..THREADS).map(send).collect();
        threads.into_iter().for_each(|thread| clients.extend(thread.join().unwrap()));
    });
    successor.finish(0).unwrap();
    new.join().unwrap().join().unwrap();
    let mut last = [None; THREADS as usize];
    for (carried, socket) in told.iter() {
        let id = carried.id;
        assert!(carried == session(id, input(id)), "{id}");
        let before = last[(id / EACH) as usize].replace(id);
        assert!(before < Some(id), "{id} after {before:?}");
        UnixStream::from(socket).write_all(&id.to_le_bytes()).unwrap();
    }
    assert_eq!(clients.len() as u64, THREADS * EACH);
    for (id, mut client) in clients {
        let mut said = Vec::new();
        client.read_to_end(&mut said).unwrap();
        assert_eq!(said, id.to_le_bytes());
    }
}

/// Runs the rest of the calling test in a process where nothing else happens; `false` in the process that has seen to it.
fn alone() -> bool {
    const ALONE: &str = "OUTRIGGER_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let name = thread::current().name().unwrap().to_owned();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", &name, "--nocapture"]).env(ALONE, "yes").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn nothing_is_left_of_fifty_attempts() {
    if !alone() {
        return;
    }
    let sockets = listeners(3);
    let upgrades = [shell("exit 3"), role("fails", AS_IT_IS), role("fails", IN_THE_BACKGROUND), shell("echo x >&0")];
    let (files, tasks) = (open_files(), threads());
    for round in 0..50 {
        upgrades[round % 4].start(&sockets, &Estate::default(), PATIENCE).unwrap_err();
        let (caller, new) = within(|old| {
            let mut old = old.unwrap();
            old.sockets().unwrap();
            old.ready().unwrap();
            old.serving(|_, _| ()).unwrap().join().unwrap();
        });
        let successor = shell("").hand_to(caller, &sockets, &Estate::default(), PATIENCE).unwrap();
        successor.send(&session(1, vec![1]), UnixStream::pair().unwrap().0).unwrap();
        successor.finish(0).unwrap();
        new.join().unwrap();
    }
    assert_eq!(open_files(), files);
    eventually("the end of threads", || threads() == tasks);
    let children = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
    assert_eq!(children.unwrap_err(), rustix::io::Errno::CHILD);
}

/// What other tests start as another process.
mod roles {
    use super::*;

    const IGNORED: &str = "started by other tests";

    /// Ends a role whose test has failed.
    fn predecessor() -> Option<Predecessor> {
        std::env::var_os(VARIABLE)?;
        thread::spawn(|| {
            thread::sleep(PATIENCE);
            std::process::exit(1);
        });
        Some(Predecessor::from_environment().unwrap().unwrap_or_else(|error| panic!("{IGNORED}: {error}")))
    }

    fn answer(listener: OwnedFd, text: String) {
        let listener = TcpListener::from(listener);
        thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                let _ = client.write_all(text.as_bytes());
            }
        });
    }

    #[test]
    #[ignore = "started by other tests"]
    fn serves() {
        let Some(mut old) = predecessor() else { return };
        let inherited = old.sockets().unwrap();
        let count = inherited.sockets.len();
        old.ready().unwrap();
        for (address, socket) in inherited.sockets {
            let socket = TcpListener::from(socket);
            assert_eq!(socket.local_addr().unwrap(), address.parse::<SocketAddr>().unwrap());
            answer(socket.into(), format!("{} of {count} after {}", std::process::id(), inherited.estate.last_client));
        }
        let take = |carried: Carried, socket: OwnedFd| {
            let text = format!("{} {carried:?}", std::process::id());
            UnixStream::from(socket).write_all(text.as_bytes()).unwrap();
        };
        old.serving(take).unwrap().join().unwrap();
        // For clients that come after the old process; and then no longer than that.
        thread::sleep(Duration::from_millis(500));
    }

    #[test]
    #[ignore = "started by other tests"]
    fn fails() {
        let Some(old) = predecessor() else { return };
        // The sockets are not even looked at.
        old.failed("config.yml:3:1: no such thing");
    }

    #[test]
    #[ignore = "started by other tests"]
    fn ends_when_ready() {
        let Some(mut old) = predecessor() else { return };
        old.sockets().unwrap();
        old.ready().unwrap();
        std::process::exit(7);
    }

    #[test]
    #[ignore = "started by other tests"]
    fn speaks_protocol_2() {
        if std::env::var_os(VARIABLE).is_none() {
            return;
        }
        let mut wire = Wire::new(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
        wire.say(&Message::Hello { protocol: 2, version: "9.9.9".into(), pid: 1 }).unwrap();
        while wire.receive(Some(Instant::now() + PATIENCE)).unwrap().is_some() {}
    }

    #[test]
    #[ignore = "started by other tests"]
    fn asks_its_parent() {
        if std::env::var_os("OUTRIGGER_TEST_ASK").is_some() {
            println!("answer: {}", ask(std::os::unix::process::parent_id(), |_| ()).unwrap_err());
        }
    }
}
