//! The old process's side: a successor is started, or comes by itself, and gets everything.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use serde::Serialize;
use thiserror::Error;

use super::door::Caller;
use super::spawn::{Offspring, Spawn};
use super::wire::{Estate, MOST_DESCRIPTORS, Message, PROTOCOL, Wire};
use crate::session::carried::{Carried, MOST_INPUT};

/// A successor loads its configuration and starts in this time, or it does not.
pub const LIMIT: Duration = Duration::from_secs(60);

/// From "go" to "serving" there is nothing to do but to begin.
const GO_LIMIT: Duration = Duration::from_secs(10);

/// A process closes its files a moment before it can be seen to have ended.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Why there is no successor. This process goes on.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("this process is being replaced already")]
    UnderWay,
    #[error("this process is ending")]
    Ending,
    #[error("this is process 1 of its container, which ends with it; replace the container instead")]
    First,
    #[error("cannot start {program}: {error}")]
    Start { program: String, error: io::Error },
    #[error("process {pid} ended before it served{}", status.map(|s| format!(" ({s})")).unwrap_or_default())]
    Ended { pid: u32, status: Option<ExitStatus> },
    #[error("process {pid} cannot serve: {why}")]
    Said { pid: u32, why: String },
    #[error("process {pid} did not serve within {} s", limit.as_secs_f32())]
    Late { pid: u32, limit: Duration },
    #[error("process {pid} is outrigger {version}, which upgrades by protocol {protocol}; this one does by {PROTOCOL}")]
    Protocol { pid: u32, version: String, protocol: u32 },
    #[error("process {pid}: {error}")]
    Wire { pid: u32, error: io::Error },
}

/// How this process is replaced; once at a time.
#[derive(Debug)]
pub struct Upgrade {
    spawn: Spawn,
    under_way: Arc<AtomicBool>,
    handing: Mutex<HandingOver>,
}

/// What is known of an attempt by those who may have to end it.
#[derive(Debug, Default)]
struct HandingOver {
    /// To the process that does not serve yet.
    wire: Option<OwnedFd>,
    given_up: bool,
}

/// One attempt. Ends with its drop.
#[derive(Debug)]
struct Attempt(Arc<AtomicBool>);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl Upgrade {
    pub fn new(spawn: Spawn) -> Self {
        Self { spawn, under_way: Arc::default(), handing: Mutex::default() }
    }

    /// What a successor is started from.
    pub fn program(&self) -> &Path {
        &self.spawn.program
    }

    /// Whether a successor is starting, or has taken over.
    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Relaxed)
    }

    /// Starts a successor and hands it the listening sockets, each with its address. Blocks until it serves, or fails to;
    /// `limit` is for its start.
    ///
    /// # Errors
    /// The process that was started has ended then, and this one goes on.
    pub fn start<S: AsFd>(
        &self,
        sockets: &[(String, S)],
        estate: &Estate,
        limit: Duration,
    ) -> Result<Successor, Failure> {
        let attempt = self.attempt()?;
        let begin = Instant::now();
        let (mut offspring, wire) = self.spawn().map_err(|error| {
            let program = self.spawn.program.display().to_string();
            Failure::Start { program, error }
        })?;
        let mut handing = Handing { wire, pid: offspring.pid(), limit, deadline: begin + limit };
        match self.hand_over(&mut handing, sockets, estate) {
            Ok(room) => Ok(handing.done(room, Some(offspring), attempt)),
            Err(mut failure) => {
                if let Failure::Ended { status, .. } = &mut failure {
                    // One that went into the background has ended well, as far as can be seen.
                    *status = offspring.wait(END_LIMIT).filter(|status| !status.success());
                }
                handing.refuse(&failure);
                offspring.kill();
                Err(failure)
            }
        }
    }

    /// Hands over to a process that came by itself. Blocks as [`Upgrade::start`] does.
    ///
    /// # Errors
    /// The caller has been told; this process goes on.
    pub fn hand_to<S: AsFd>(
        &self,
        caller: Caller,
        sockets: &[(String, S)],
        estate: &Estate,
        limit: Duration,
    ) -> Result<Successor, Failure> {
        let attempt = match self.attempt() {
            Ok(attempt) => attempt,
            Err(failure) => {
                caller.refuse(&failure.to_string());
                return Err(failure);
            }
        };
        let Caller { wire, pid } = caller;
        let mut handing = Handing { wire, pid, limit, deadline: Instant::now() + limit };
        match self.hand_over(&mut handing, sockets, estate) {
            Ok(room) => Ok(handing.done(room, None, attempt)),
            Err(failure) => {
                handing.refuse(&failure);
                Err(failure)
            }
        }
    }

    /// This process ends: a successor that does not serve yet never will.
    pub fn give_up(&self) {
        let mut now = self.handing();
        now.given_up = true;
        if let Some(wire) = now.wire.take() {
            // Ends the wait for what it says.
            let _ = shutdown(wire, Shutdown::Both);
        }
    }

    /// Returns the number of sessions that the successor takes.
    fn hand_over<S: AsFd>(
        &self,
        handing: &mut Handing,
        sockets: &[(String, S)],
        estate: &Estate,
    ) -> Result<u64, Failure> {
        let mut now = self.handing();
        if now.given_up {
            return Err(Failure::Ending);
        }
        let pid = handing.pid;
        now.wire = Some(handing.wire.duplicate().map_err(|error| Failure::Wire { pid, error })?);
        drop(now);
        let result = handing.everything(sockets, estate);
        let mut now = self.handing();
        now.wire = None;
        if now.given_up { Err(Failure::Ending) } else { result }
    }

    fn handing(&self) -> MutexGuard<'_, HandingOver> {
        self.handing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt(&self) -> Result<Attempt, Failure> {
        if std::process::id() == 1 {
            return Err(Failure::First);
        }
        match self.under_way.swap(true, Relaxed) {
            true => Err(Failure::UnderWay),
            false => Ok(Attempt(self.under_way.clone())),
        }
    }

    fn spawn(&self) -> io::Result<(Offspring, Wire)> {
        let (wire, other) = Wire::pair()?;
        Ok((self.spawn.start(other)?, wire))
    }
}

/// Handing over, until the other process serves.
struct Handing {
    wire: Wire,
    /// Of the other process, as far as is known.
    pid: u32,
    limit: Duration,
    deadline: Instant,
}

impl Handing {
    /// Returns the number of sessions that the successor takes.
    fn everything<S: AsFd>(&mut self, sockets: &[(String, S)], estate: &Estate) -> Result<u64, Failure> {
        self.greet()?;
        self.send_sockets(sockets, estate)?;
        let room = match self.hear()? {
            Message::Ready { pid, room } => {
                // Another one than before, if it went into the background meanwhile.
                self.pid = pid;
                room
            }
            other => return Err(self.unexpected(&other)),
        };
        self.say(&Message::Go)?;
        (self.limit, self.deadline) = (GO_LIMIT, Instant::now() + GO_LIMIT);
        match self.hear()? {
            Message::Serving => Ok(room),
            other => Err(self.unexpected(&other)),
        }
    }

    fn greet(&mut self) -> Result<(), Failure> {
        self.say(&Message::hello())?;
        match self.hear()? {
            Message::Hello { protocol: PROTOCOL, .. } => Ok(()),
            Message::Hello { protocol, version, .. } => Err(Failure::Protocol { pid: self.pid, version, protocol }),
            other => Err(self.unexpected(&other)),
        }
    }

    fn send_sockets<S: AsFd>(&mut self, sockets: &[(String, S)], estate: &Estate) -> Result<(), Failure> {
        for batch in sockets.chunks(MOST_DESCRIPTORS) {
            let addresses = batch.iter().map(|(address, _)| address.clone()).collect();
            let descriptors: Vec<BorrowedFd<'_>> = batch.iter().map(|(_, socket)| socket.as_fd()).collect();
            let sent = self.wire.send(&Message::Sockets { addresses }, &[], &descriptors);
            sent.map_err(|error| self.unsent(error))?;
        }
        self.say(&Message::Begin { sockets: sockets.len(), estate: estate.clone() })
    }

    fn say(&mut self, message: &Message) -> Result<(), Failure> {
        self.wire.say(message).map_err(|error| self.unsent(error))
    }

    /// Nobody takes what is said: the reason may have been said before.
    fn unsent(&mut self, error: io::Error) -> Failure {
        while is_gone(&error) {
            if let Err(failure) = self.hear() {
                return failure;
            }
        }
        self.failure(error)
    }

    fn hear(&mut self) -> Result<Message, Failure> {
        match self.wire.receive(Some(self.deadline)) {
            Ok(Some(received)) => match received.message {
                Message::Failed { why } => Err(Failure::Said { pid: self.pid, why }),
                message => Ok(message),
            },
            Ok(None) => Err(Failure::Ended { pid: self.pid, status: None }),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Has the other process know, if it is still there.
    fn refuse(&self, failure: &Failure) {
        let _ = self.wire.say(&Message::failed(&failure.to_string()));
    }

    fn failure(&self, error: io::Error) -> Failure {
        let (pid, limit) = (self.pid, self.limit);
        match error.kind() {
            ErrorKind::TimedOut => Failure::Late { pid, limit },
            _ if is_gone(&error) => Failure::Ended { pid, status: None },
            _ => Failure::Wire { pid, error },
        }
    }

    fn unexpected(&self, message: &Message) -> Failure {
        let text = format!("not to be said now: {message:?}");
        Failure::Wire { pid: self.pid, error: io::Error::new(ErrorKind::InvalidData, text) }
    }

    fn done(self, room: u64, offspring: Option<Offspring>, attempt: Attempt) -> Successor {
        let (room, sent) = (AtomicU64::new(room), AtomicU64::new(0));
        Successor { wire: self.wire, pid: self.pid, room, sent, attempt, _offspring: offspring }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// A process that serves in place of this one, and takes its sessions. When dropped without [`Successor::finish`], as when
/// it has died, this process may look for another one.
#[derive(Debug)]
pub struct Successor {
    wire: Wire,
    pid: u32,
    /// Sessions that it still takes.
    room: AtomicU64,
    sent: AtomicU64,
    attempt: Attempt,
    _offspring: Option<Offspring>,
}

/// [`Message::Session`] of a session that is someone else's.
#[derive(Serialize)]
enum Lent<'a> {
    Session(&'a Carried),
}

impl Successor {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a session along; the caller closes its own descriptor then. From any thread. Blocks while the successor has
    /// many to take, for 10 s at most.
    ///
    /// # Errors
    /// The session stays with this process. `QuotaExceeded`: the successor takes no more; others: it is gone or hangs.
    pub fn send(&self, carried: &Carried, socket: impl AsFd) -> io::Result<()> {
        if carried.input.len() > MOST_INPUT {
            return Err(io::Error::new(ErrorKind::InvalidInput, "more input than goes along with a session"));
        }
        if self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(1)).is_err() {
            return Err(io::Error::new(ErrorKind::QuotaExceeded, "the new process may not open more files"));
        }
        self.wire.send(&Lent::Session(carried), &carried.input, &[socket.as_fd()])?;
        self.sent.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Sessions sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Says that this was all: `left` sessions end here. This process is not replaced again.
    ///
    /// # Errors
    /// When the successor is gone, or hangs.
    pub fn finish(self, left: u64) -> io::Result<()> {
        self.wire.say(&Message::Done { sessions: self.sent(), left })?;
        std::mem::forget(self.attempt);
        Ok(())
    }
}
