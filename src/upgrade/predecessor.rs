//! The new process's side: it takes what the old one has.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::door;
use super::spawn::{STANDARD_INPUT, VARIABLE};
use super::wire::{Estate, Message, PROTOCOL, Received, Wire};
use crate::session::carried::Carried;

/// For what the old process has at hand.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The process that is to be replaced by this one.
#[derive(Debug)]
pub struct Predecessor {
    wire: Wire,
    /// 0: not known yet.
    pid: u32,
}

/// What a process begins with.
#[derive(Debug)]
pub struct Inherited {
    /// Listening sockets by address.
    pub sockets: Vec<(String, OwnedFd)>,
    pub estate: Estate,
}

impl Predecessor {
    /// The process to take over from: the one that started this one, or else the one that is named.
    ///
    /// # Errors
    /// Those of [`Predecessor::from_environment`] and [`Predecessor::take_over`].
    pub fn find(named: Option<u32>) -> io::Result<Option<Self>> {
        // In this order: the successor of a process that had itself been told to take over is told the same.
        match Self::from_environment() {
            Some(found) => found.map(Some),
            None => named.map(Self::take_over).transpose(),
        }
    }

    /// The process that started this one as its successor, if one did. Takes the standard input then; to be called once,
    /// at the start, before anything reads that.
    ///
    /// # Errors
    /// When there is one, but no understanding with it.
    pub fn from_environment() -> Option<io::Result<Self>> {
        let value = env::var_os(VARIABLE)?;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{VARIABLE}: {e}"));
        Some(take_standard_input(&value).map_err(named).and_then(|wire| Self::greet(wire, 0)))
    }

    /// A running process that is asked, by its id, to hand over to this one.
    ///
    /// # Errors
    /// When there is no such process, it refuses, or there is no understanding with it.
    pub fn take_over(pid: u32) -> io::Result<Self> {
        let mut old = Self { wire: door::connect(pid)?, pid };
        old.say(&Message::TakeOver)?;
        Self::greet(old.wire, pid)
    }

    pub(super) fn greet(wire: Wire, pid: u32) -> io::Result<Self> {
        let mut old = Self { wire, pid };
        old.say(&Message::hello())?;
        match old.hear(Some(ANSWER_LIMIT))?.message {
            Message::Hello { protocol: PROTOCOL, pid, .. } => Ok(Self { pid, ..old }),
            Message::Hello { protocol, version, pid } => {
                let text = format!(
                    "process {pid} is outrigger {version}, which upgrades by protocol {protocol}; this one does by {PROTOCOL}"
                );
                Err(io::Error::new(ErrorKind::Unsupported, text))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The listening sockets, to be taken in place of new ones; what is not wanted is just closed.
    ///
    /// # Errors
    /// When the old process has changed its mind, or is gone.
    pub fn sockets(&mut self) -> io::Result<Inherited> {
        let mut sockets = Vec::new();
        loop {
            let Received { message, descriptors, .. } = self.hear(Some(ANSWER_LIMIT))?;
            match message {
                Message::Sockets { addresses } if addresses.len() == descriptors.len() => {
                    sockets.extend(addresses.into_iter().zip(descriptors));
                }
                Message::Begin { sockets: count, estate } if count == sockets.len() => {
                    return Ok(Inherited { sockets, estate });
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Says that this process could serve, and waits for the word to do so. Before it, no client may be accepted: if it does
    /// not come the old process goes on, and this one must end.
    ///
    /// # Errors
    /// The word does not come.
    pub fn ready(&mut self) -> io::Result<()> {
        self.say(&Message::Ready { pid: std::process::id(), room: room() })?;
        // No limit: who gave up waiting could not know whether it was told to serve meanwhile. The old process has one.
        match self.hear(None)?.message {
            Message::Go => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Says that clients are accepted here, and has a thread take the sessions that come, until all have.
    ///
    /// # Errors
    /// The old process has given up and goes on; this one must end.
    pub fn serving(mut self, take: impl FnMut(Carried, OwnedFd) + Send + 'static) -> io::Result<JoinHandle<()>> {
        self.say(&Message::Serving)?;
        thread::Builder::new().name("sessions".into()).spawn(move || self.take_sessions(take))
    }

    /// Says why this process cannot serve.
    pub fn failed(self, why: &str) {
        // It sees that this process ends.
        let _ = self.wire.say(&Message::failed(why));
    }

    fn take_sessions(mut self, mut take: impl FnMut(Carried, OwnedFd)) {
        let (pid, mut taken) = (self.pid, 0);
        loop {
            let Received { message, raw, mut descriptors } = match self.wire.receive(None) {
                Ok(Some(received)) => received,
                Ok(None) => return tracing::warn!(pid, taken, "the old process ended before it had handed over"),
                // Of one session; the next one may be fine.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::QuotaExceeded) => {
                    tracing::error!(pid, %error, "cannot take a session");
                    continue;
                }
                Err(error) => return tracing::error!(pid, %error, taken, "cannot take sessions"),
            };
            match (message, descriptors.pop()) {
                (Message::Session(carried), Some(socket)) => {
                    taken += 1;
                    take(Carried { input: raw, ..carried }, socket);
                }
                (Message::Done { sessions, left }, _) => {
                    // Whoever reads the line below finds this process ready to be replaced.
                    drop(take);
                    tracing::info!(pid, taken, left, "the old process has handed over");
                    if taken != sessions {
                        tracing::error!(pid, sent = sessions, taken, "sessions were lost on the way");
                    }
                    return;
                }
                (message, _) => tracing::error!(pid, ?message, "not to be said by the old process now"),
            }
        }
    }

    fn say(&mut self, message: &Message) -> io::Result<()> {
        let result = self.wire.say(message);
        while let Err(error) = &result
            && matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            // Nobody takes it: the reason may have been said before. If not, this fails at the end of what was.
            self.hear(None)?;
        }
        result.map_err(|error| self.named(error))
    }

    fn hear(&mut self, limit: Option<Duration>) -> io::Result<Received> {
        let received = self.wire.receive(limit.map(|limit| Instant::now() + limit)).map_err(|e| self.named(e))?;
        match received {
            Some(Received { message: Message::Failed { why }, .. }) => Err(io::Error::other(why)),
            Some(received) => Ok(received),
            None => Err(self.named(io::Error::new(ErrorKind::ConnectionAborted, "it has given the upgrade up"))),
        }
    }

    fn named(&self, error: io::Error) -> io::Error {
        let text = match error.kind() {
            ErrorKind::TimedOut => "it does not answer".to_owned(),
            _ => error.to_string(),
        };
        match self.pid {
            0 => io::Error::new(error.kind(), format!("the process to be replaced: {text}")),
            pid => io::Error::new(error.kind(), format!("process {pid}, to be replaced: {text}")),
        }
    }
}

fn unexpected(message: &Message) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not to be said by the old process now: {message:?}"))
}

fn take_standard_input(value: &OsStr) -> io::Result<Wire> {
    if value != STANDARD_INPUT {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("'{}' is not {STANDARD_INPUT}", value.display())));
    }
    let input = io::stdin();
    let wire = Wire::new(input.as_fd().try_clone_to_owned()?)
        .map_err(|e| io::Error::new(e.kind(), format!("the standard input does not lead to an old process: {e}")))?;
    // The copy is this process's alone; the original would be its children's, too, and keep the wire open.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(wire)
}

/// Sessions that this process has room for: files that it may open, but for a part for servers and clients to come.
fn room() -> u64 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    limit.saturating_sub(limit / 16).saturating_sub(open)
}
