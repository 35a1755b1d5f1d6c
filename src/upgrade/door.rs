//! Where a running process is asked for an upgrade: a socket without a file, named after the process, that goes with it.
//!
//! Anyone on the machine can connect to such a name, and take it first. So both sides look who the other one is: the caller
//! must be root or of the same user, and not in another container; the door must belong to the process that was meant.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, shutdown, socket_with,
};

use super::wire::{Message, Wire};

/// Most callers at a time; a further one is turned away.
const MOST_CALLERS: usize = 4;

/// Callers that say nothing are turned away after this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// The longest pause in what a caller is told: twice what a successor may take to start.
const PROGRESS_LIMIT: Duration = Duration::from_secs(120);

/// The door of this process: open until dropped.
#[derive(Debug)]
pub struct Door {
    socket: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// What a caller wants.
#[derive(Debug)]
pub enum Visit {
    /// That this process starts its successor.
    Upgrade(Visitor),
    /// To be the successor: for [`super::Upgrade::hand_to`].
    TakeOver(Caller),
}

/// Who is told how the upgrade goes.
#[derive(Debug)]
pub struct Visitor {
    wire: Wire,
    pub pid: u32,
}

/// A process that wants to take over.
#[derive(Debug)]
pub struct Caller {
    pub(super) wire: Wire,
    pub pid: u32,
}

impl Visitor {
    /// A line, for people.
    pub fn say(&self, line: &str) {
        // It may not wait for the end.
        let _ = self.wire.say(&Message::Progress(line.to_owned()));
    }

    /// The end; an error says why there is no upgrade.
    pub fn finish(self, result: Result<(), &str>) {
        let end = match result {
            Ok(()) => Message::Finished,
            Err(why) => Message::failed(why),
        };
        let _ = self.wire.say(&end);
    }
}

impl Caller {
    /// Says why it cannot take over.
    pub fn refuse(self, why: &str) {
        // It sees that the connection closes.
        let _ = self.wire.say(&Message::failed(why));
    }
}

impl Door {
    /// Opens the door of this process; `visit` is called for each request, on a thread of the request's own. Only after the
    /// process has gone into the background: the name is that of its id.
    ///
    /// # Errors
    /// When another process has taken the name, or there is no `/proc`.
    pub fn open(visit: impl Fn(Visit) + Send + Sync + 'static) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &name(std::process::id())?)?;
        listen(&socket, MOST_CALLERS as i32)?;
        let socket = Arc::new(socket);
        let listening = socket.clone();
        let thread = thread::Builder::new().name("door".into()).spawn(move || stand(&listening, Arc::new(visit)))?;
        Ok(Self { socket, thread: Some(thread) })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Wakes the thread, which has no other way to end.
        let _ = shutdown(&self.socket, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn stand(socket: &OwnedFd, visit: Arc<dyn Fn(Visit) + Send + Sync>) {
    // A clone for each caller inside.
    let inside = Arc::new(());
    loop {
        match accept_with(socket, SocketFlags::CLOEXEC) {
            Ok(caller) => {
                // What cannot be made out of a caller is its own loss.
                let _ = admit(caller, &inside, &visit);
            }
            Err(Errno::INVAL) => return,
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            // No descriptors left, mostly.
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
}

fn admit(caller: OwnedFd, inside: &Arc<()>, visit: &Arc<dyn Fn(Visit) + Send + Sync>) -> io::Result<()> {
    let wire = Wire::new(caller)?;
    let peer = wire.peer()?;
    if !peer.is_trusted() {
        let own = rustix::process::geteuid().as_raw();
        let why = match peer.pid {
            0 => "this process can be upgraded only from its own container".to_owned(),
            _ => format!("only root and user {own} may upgrade this process, not user {}", peer.uid),
        };
        return wire.say(&Message::failed(&why));
    }
    if Arc::strong_count(inside) > MOST_CALLERS {
        return wire.say(&Message::failed("too many ask at a time"));
    }
    let (place, visit) = (inside.clone(), visit.clone());
    thread::Builder::new().name("upgrade".into()).spawn(move || {
        let _place = place;
        receive(wire, peer.pid, &*visit);
    })?;
    Ok(())
}

fn receive(mut wire: Wire, pid: u32, visit: &dyn Fn(Visit)) {
    let why = match wire.receive(Some(Instant::now() + REQUEST_LIMIT)) {
        Ok(Some(received)) => match received.message {
            Message::Upgrade => return visit(Visit::Upgrade(Visitor { wire, pid })),
            Message::TakeOver => return visit(Visit::TakeOver(Caller { wire, pid })),
            other => format!("not a request: {other:?}"),
        },
        Ok(None) => return,
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            format!("nothing was said in {} s", REQUEST_LIMIT.as_secs())
        }
        Err(error) => error.to_string(),
    };
    let _ = wire.say(&Message::failed(&why));
}

/// Ids of processes are unique in their namespace only, abstract names in that of the network.
pub(super) fn name(pid: u32) -> io::Result<SocketAddrUnix> {
    let namespace = fs::metadata("/proc/self/ns/pid")?.ino();
    Ok(SocketAddrUnix::new_abstract_name(format!("outrigger-upgrade-{namespace}-{pid}").as_bytes())?)
}

/// Connects to the door of a process.
pub(super) fn connect(pid: u32) -> io::Result<Wire> {
    let wire = Wire::new(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)?;
    wire.connect(&name(pid)?).map_err(|error| match error {
        Errno::CONNREFUSED => io::Error::new(
            ErrorKind::ConnectionRefused,
            format!("process {pid} is no running outrigger, or one in another container"),
        ),
        Errno::AGAIN => io::Error::new(ErrorKind::TimedOut, format!("process {pid} does not answer")),
        other => io::Error::new(other.kind(), format!("process {pid} cannot be reached: {other}")),
    })?;
    match wire.peer()?.pid {
        found if found == pid => Ok(wire),
        found => {
            let text = format!("process {found} answers in the place of process {pid}");
            Err(io::Error::new(ErrorKind::PermissionDenied, text))
        }
    }
}

/// Asks a running process to start its successor; `say` gets lines about it as they come. Returns when the successor serves.
///
/// # Errors
/// When there is no such process, or no successor: why, for people.
pub fn ask(pid: u32, mut say: impl FnMut(&str)) -> Result<(), String> {
    let mut wire = connect(pid).map_err(|error| error.to_string())?;
    // One that is turned away learns why from the answer.
    let _ = wire.say(&Message::Upgrade);
    loop {
        match wire.receive(Some(Instant::now() + PROGRESS_LIMIT)) {
            Ok(Some(received)) => match received.message {
                Message::Progress(line) => say(&line),
                Message::Finished => return Ok(()),
                Message::Failed { why } => return Err(why),
                other => return Err(format!("process {pid} says what is no answer: {other:?}")),
            },
            Ok(None) => return Err(format!("process {pid} ended without an answer")),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(format!("process {pid} does not answer"));
            }
            Err(error) => return Err(format!("process {pid}: {error}")),
        }
    }
}
