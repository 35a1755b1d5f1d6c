//! The load generator: one thread, one epoll, each reply compared byte for byte with the one its request must get.
//!   closed loop: a client sends `depth` requests in one write, and the next ones when all of them are answered
//!                (`Refill::Batch`, as redis-benchmark and a pipeline of redis-py do) or one by one (`Refill::Window`)
//!   open loop:   request n is due at start + n/rate and goes to client n mod clients, answered or not; its latency
//!                counts from the time it was due, so a stall is charged to all who waited

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::histogram::Histogram;
use crate::sys::{Epoll, Result, check_interrupt};
use crate::workload::{Dice, Operation, Script};

/// How long answers may be missing after the last request.
const PATIENCE: Duration = Duration::from_secs(5);
const READ_BUFFER: usize = 64 * 1024;
/// The longest sleep, so that an interrupt is noticed.
const NAP_NS: u64 = 100_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Refill {
    /// The next `depth` requests when the last of these is answered.
    Batch,
    /// One request for each reply.
    Window,
}

#[derive(Debug, Clone, Copy)]
pub enum Pace {
    Closed {
        depth: usize,
        refill: Refill,
    },
    /// Requests a second.
    Open {
        rate: u32,
    },
}

/// What one run saw.
pub struct Sample {
    pub latencies: Histogram,
    /// From the first request to the last reply.
    pub elapsed: Duration,
}

impl Sample {
    pub fn requests(&self) -> f64 {
        self.latencies.total() as f64
    }
}

/// Connected clients, ready to run any number of times.
pub struct Load<'a> {
    script: &'a Script,
    clients: Vec<Client>,
    epoll: Epoll,
    dice: Dice,
    buffer: Vec<u8>,
    /// Requests sent and not yet answered, over all clients.
    outstanding: usize,
    clock: Instant,
}

struct Client {
    stream: TcpStream,
    /// Oldest first: what was asked, and when (ns on the clock of the load).
    pending: VecDeque<(Operation, u64)>,
    /// Bytes of the oldest pending reply that have arrived.
    matched: usize,
    unsent: Vec<u8>,
    /// EPOLLOUT is asked for: the socket was full.
    waits_for_room: bool,
}

impl<'a> Load<'a> {
    /// Client n talks to target n mod targets.
    pub fn connect(script: &'a Script, targets: &[SocketAddr], clients: usize, seed: u64) -> Result<Self> {
        let epoll = Epoll::new().map_err(|error| format!("epoll: {error}"))?;
        let clients = (0..clients).map(|index| {
            let target = targets[index % targets.len()];
            let client = Client::connect(target).map_err(|error| format!("connect to {target}: {error}"))?;
            epoll.add(&client.stream, index).map_err(|error| format!("epoll: {error}"))?;
            Ok(client)
        });
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let (dice, buffer) = (Dice::new(seed), vec![0; READ_BUFFER]);
        Ok(Self { script, clients, epoll, dice, buffer, outstanding: 0, clock: Instant::now() })
    }

    /// Runs for `duration`, then waits until every request is answered, so that nothing of it leaks into the next run.
    pub fn run(&mut self, duration: Duration, pace: Pace) -> Result<Sample> {
        let mut latencies = Histogram::new();
        let start = self.now();
        let end = start + duration.as_nanos() as u64;
        let mut schedule = Schedule::new(start, pace);
        if let Pace::Closed { depth, .. } = pace {
            for index in 0..self.clients.len() {
                self.send(index, depth, self.now())?;
            }
        }
        loop {
            let now = self.now();
            if now >= end && self.outstanding == 0 {
                return Ok(Sample { latencies, elapsed: Duration::from_nanos(now - start) });
            }
            if now > end + PATIENCE.as_nanos() as u64 {
                return Err(format!("{} requests unanswered {PATIENCE:?} after the last one", self.outstanding));
            }
            check_interrupt()?;
            let sleep = schedule.next_due().map_or(NAP_NS, |due| due.min(end).saturating_sub(now).min(NAP_NS));
            let events = self.epoll.wait(sleep).map_err(|error| format!("epoll: {error}"))?;
            self.send_due(&mut schedule, end)?;
            for position in 0..events {
                let (index, writable) = self.epoll.ready(position);
                if writable {
                    self.flush(index)?;
                }
                let answered = self.receive(index, &mut latencies)?;
                if let Pace::Closed { depth, refill } = pace
                    && answered > 0
                {
                    self.refill(index, answered, depth, refill, end)?;
                }
                self.send_due(&mut schedule, end)?;
            }
        }
    }

    fn refill(&mut self, index: usize, answered: usize, depth: usize, refill: Refill, end: u64) -> Result<()> {
        let now = self.now();
        if now >= end {
            return Ok(());
        }
        match refill {
            Refill::Window => self.send(index, answered, now),
            Refill::Batch if self.clients[index].pending.is_empty() => self.send(index, depth, now),
            Refill::Batch => Ok(()),
        }
    }

    /// Open loop: everything whose time has come.
    fn send_due(&mut self, schedule: &mut Schedule, end: u64) -> Result<()> {
        while let Some(due) = schedule.next_due()
            && due <= self.now()
            && due < end
        {
            let index = (schedule.sent % self.clients.len() as u64) as usize;
            schedule.sent += 1;
            self.send(index, 1, due)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, count: usize, at: u64) -> Result<()> {
        let client = &mut self.clients[index];
        for _ in 0..count {
            let operation = self.dice.next_operation();
            client.pending.push_back((operation, at));
            client.unsent.extend_from_slice(self.script.request(operation));
        }
        self.outstanding += count;
        if client.waits_for_room { Ok(()) } else { self.flush(index) }
    }

    /// Writes what there is; the rest waits for EPOLLOUT.
    fn flush(&mut self, index: usize) -> Result<()> {
        let client = &mut self.clients[index];
        let written = match client.stream.write(&client.unsent) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(format!("client {index}: write: {error}")),
        };
        let all = written == client.unsent.len();
        client.unsent.drain(..written);
        if !all || client.waits_for_room {
            client.waits_for_room = !all;
            self.epoll.want_write(&client.stream, index, !all).map_err(|error| format!("epoll: {error}"))?;
        }
        Ok(())
    }

    /// Reads once and returns how many requests that answered.
    fn receive(&mut self, index: usize, latencies: &mut Histogram) -> Result<usize> {
        let client = &mut self.clients[index];
        let length = match client.stream.read(&mut self.buffer) {
            Ok(0) => return Err(format!("client {index}: closed with {} requests unanswered", client.pending.len())),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(format!("client {index}: read: {error}")),
        };
        let now = self.clock.elapsed().as_nanos() as u64;
        let mut answered = 0;
        let mut input = &self.buffer[..length];
        while !input.is_empty() {
            let Some(&(operation, at)) = client.pending.front() else {
                return Err(format!("client {index}: a reply that nobody asked for: {}", input.escape_ascii()));
            };
            let expected = &self.script.reply(operation)[client.matched..];
            let shared = expected.len().min(input.len());
            if input[..shared] != expected[..shared] {
                return Err(self.mismatch(index, operation, input));
            }
            input = &input[shared..];
            if shared < expected.len() {
                client.matched += shared;
                break;
            }
            client.matched = 0;
            client.pending.pop_front();
            latencies.record(now - at);
            answered += 1;
        }
        self.outstanding -= answered;
        Ok(answered)
    }

    fn mismatch(&self, index: usize, operation: Operation, input: &[u8]) -> String {
        let matched = self.clients[index].matched;
        let request = self.script.request(operation).escape_ascii();
        let expected = self.script.reply(operation).escape_ascii();
        let got = input[..input.len().min(200)].escape_ascii();
        format!(
            "WRONG REPLY to client {index}\n  request  {request}\n  expected {expected}\n  got      {got} (from byte {matched} of the reply)"
        )
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

impl Client {
    fn connect(target: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, pending: VecDeque::new(), matched: 0, unsent: Vec::new(), waits_for_room: false })
    }
}

/// When the requests of an open loop are due; of a closed one, never.
struct Schedule {
    start: u64,
    sent: u64,
    rate: Option<u64>,
}

impl Schedule {
    fn new(start: u64, pace: Pace) -> Self {
        let rate = match pace {
            Pace::Closed { .. } => None,
            Pace::Open { rate } => Some(u64::from(rate)),
        };
        Self { start, sent: 0, rate }
    }

    fn next_due(&self) -> Option<u64> {
        self.rate.map(|rate| self.start + self.sent * 1_000_000_000 / rate)
    }
}
