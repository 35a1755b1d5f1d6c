//! A client: what it sends, what it is owed for that, and what it gets.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::super::shown;
use super::choices::Choices;
use super::fixture::Task;
use super::ledger::{Ledger, Owed, is_refusal};
use super::{memcached, redis};
use outrigger::backend::Expect;
use outrigger::config::Protocol;
use outrigger::protocol::{Parsed, memcached as text, redis as resp};

/// Most bytes read at once.
const READ: usize = 8 * 1024;

enum Dialogue {
    Redis(redis::Dialogue),
    Memcached(memcached::Dialogue),
}

pub struct Client {
    number: usize,
    /// `None`: it has left.
    socket: Option<UnixStream>,
    session: Task,
    dialogue: Dialogue,
    /// Composed, not sent.
    outbox: Vec<u8>,
    /// Sent, and no whole request yet.
    partial: Vec<u8>,
    /// Received, and no whole reply yet.
    inbox: Vec<u8>,
    owed: VecDeque<Owed>,
    /// Half requests that were refused: no reply comes to the whole.
    refused: usize,
    composed: u64,
    /// Its last request was sent: the session closes after it.
    last: bool,
    /// The session may wait for more before it sees that the last request is none.
    unsure: bool,
    /// It has said that it will send no more.
    silent: bool,
    /// The session has closed the connection.
    closed: bool,
}

impl Client {
    pub fn new(number: usize, protocol: Protocol, (socket, session): (UnixStream, Task)) -> Self {
        let dialogue = match protocol {
            Protocol::Redis => Dialogue::Redis(redis::Dialogue::default()),
            Protocol::Memcached => Dialogue::Memcached(memcached::Dialogue::default()),
        };
        Self {
            number,
            socket: Some(socket),
            session,
            dialogue,
            outbox: Vec::new(),
            partial: Vec::new(),
            inbox: Vec::new(),
            owed: VecDeque::new(),
            refused: 0,
            composed: 0,
            last: false,
            unsure: false,
            silent: false,
            closed: false,
        }
    }

    pub fn compose(&mut self, choices: &mut Choices<'_>) {
        let (client, request) = (self.number, self.composed);
        self.composed += 1;
        let key = |index: usize| {
            if index == 0 { format!("c{client}:{request}") } else { format!("c{client}:{request}:{index}") }
        };
        match self.dialogue {
            Dialogue::Redis(_) => redis::compose(choices, &key, &mut self.outbox),
            Dialogue::Memcached(_) => memcached::compose(choices, &key, &mut self.outbox),
        }
    }

    /// Damages what is not sent yet.
    pub fn damage(&mut self, choices: &mut Choices<'_>, ledger: &mut Ledger) {
        ledger.damaged = true;
        let at = match choices.byte() {
            // Not far from the end.
            near @ 0..=199 => self.outbox.len().saturating_sub(1 + usize::from(near)),
            _ => 0,
        };
        match choices.below(4) {
            0 if at < self.outbox.len() => self.outbox[at] = choices.byte(),
            1 if at < self.outbox.len() => self.outbox[at] ^= 1 << choices.below(8),
            2 => self.outbox.truncate(at),
            _ => {
                let count = choices.below(24);
                self.outbox.splice(at..at, choices.raw(count).iter().copied());
            }
        }
    }

    /// Sends a piece of what is composed.
    pub fn send(&mut self, choices: &mut Choices<'_>, ledger: &mut Ledger) {
        let count = choices.piece(self.outbox.len());
        self.send_up_to(count, ledger);
    }

    /// True if something was sent.
    pub fn send_up_to(&mut self, count: usize, ledger: &mut Ledger) -> bool {
        if matches!(self.dialogue, Dialogue::Redis(_)) {
            // What the model cannot follow is not said.
            let all = [&self.partial[..], &self.outbox[..]].concat();
            if super::redis::leads_beyond(&all, ledger) {
                self.outbox.clear();
                return false;
            }
        }
        let count = count.min(self.outbox.len());
        let Some(socket) = self.socket.as_mut().filter(|_| !self.silent && count > 0) else { return false };
        match socket.write(&self.outbox[..count]) {
            Ok(sent) => {
                super::trace(|| format!("client {} sends {}", self.number, shown(&self.outbox[..sent])));
                self.partial.extend(self.outbox.drain(..sent));
                self.foresee(ledger);
                sent > 0
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            // The session has ended, as it had to; `receive` sees to it.
            Err(_) => {
                self.outbox.clear();
                self.silent = true;
                true
            }
        }
    }

    /// Notes what becomes of every whole request that was sent.
    fn foresee(&mut self, ledger: &mut Ledger) {
        while !self.last {
            let found = match &mut self.dialogue {
                Dialogue::Redis(dialogue) => dialogue.next(&self.partial, ledger),
                Dialogue::Memcached(dialogue) => dialogue.next(&self.partial, ledger),
            };
            let Some((length, mut fate)) = found else { return };
            self.partial.drain(..length);
            (self.last, self.unsure) = (fate.last, fate.unsure);
            ledger.sent(&fate);
            if let Some(want) = fate.want.take() {
                if self.refused > 0 {
                    self.refused -= 1;
                    continue;
                }
                self.owed.push_back(Owed::new(want, &fate, ledger));
            }
        }
    }

    /// Says that it sends no more.
    pub fn fall_silent(&mut self) {
        if let Some(socket) = self.socket.as_ref().filter(|_| !self.silent) {
            // The session may have closed already.
            let _ = socket.shutdown(Shutdown::Write);
        }
        self.silent = true;
        self.outbox.clear();
    }

    /// Leaves, whatever it is owed.
    pub fn leave(&mut self) {
        self.socket = None;
        self.outbox.clear();
        self.owed.clear();
    }

    pub fn receive(&mut self, choices: &mut Choices<'_>, ledger: &Ledger) {
        let count = choices.piece(READ);
        self.receive_up_to(count, ledger);
    }

    /// True if something came.
    pub fn receive_up_to(&mut self, count: usize, ledger: &Ledger) -> bool {
        let mut buffer = [0; READ];
        let Some(socket) = self.socket.as_mut().filter(|_| !self.closed && count > 0) else { return false };
        match socket.read(&mut buffer[..count.min(READ)]) {
            Ok(0) => {
                self.closed = true;
                self.check_close(ledger);
                true
            }
            Ok(count) => {
                super::trace(|| format!("client {} gets {}", self.number, shown(&buffer[..count])));
                self.inbox.extend_from_slice(&buffer[..count]);
                self.compare(ledger);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            // It closed while there was more to read.
            Err(error) => {
                let cut = ledger.pressed;
                assert!(
                    cut || (self.last && self.is_paid()),
                    "client {}: {error}, {} replies due",
                    self.number,
                    self.owed.len()
                );
                self.closed = true;
                true
            }
        }
    }

    /// Holds what came against what is owed.
    fn compare(&mut self, ledger: &Ledger) {
        let mut at = 0;
        while at < self.inbox.len() {
            let rest = &self.inbox[at..];
            let Some(owed) = self.owed.front() else {
                if ledger.pressed
                    && is_refusal(rest)
                    && let Some(length) = measure(rest, self.any_line(), self.number)
                {
                    self.refused += 1;
                    at += length;
                    continue;
                }
                panic!("client {} got what nobody owes it: {}", self.number, shown(rest));
            };
            let Some(length) = measure(rest, owed.expect, self.number) else { break };
            let (reply, want) = (&rest[..length], &owed.want);
            assert!(owed.accepts(reply, ledger), "client {} got {}\nfor {want:?}", self.number, shown(reply));
            self.owed.pop_front();
            at += length;
        }
        self.inbox.drain(..at);
    }

    /// The shape of an error that no request is known for.
    fn any_line(&self) -> Expect {
        match self.dialogue {
            Dialogue::Redis(_) => Expect::Resp,
            Dialogue::Memcached(_) => Expect::Memcached(text::Expect::Ok),
        }
    }

    fn check_close(&self, ledger: &Ledger) {
        if ledger.pressed {
            // It may have been cut, in the middle of a reply.
            return;
        }
        let number = self.number;
        assert!(self.last || self.silent, "client {number}: the session closed and had no reason to");
        assert!(self.is_paid(), "client {number}: {} replies were due at the end", self.owed.len());
        assert!(self.inbox.is_empty(), "client {number}: half a reply at the end: {}", shown(&self.inbox));
    }

    /// Everything is sent, and everything is here that is owed.
    pub fn is_settled(&self) -> bool {
        let all = self.outbox.is_empty() && self.is_paid() && (!self.last || self.unsure);
        self.socket.is_none() || self.closed || all
    }

    /// Every reply is here that must come.
    fn is_paid(&self) -> bool {
        self.owed.len() <= usize::from(self.unsure)
    }

    /// The session is over.
    pub fn is_over(&self) -> bool {
        (self.closed || self.socket.is_none()) && self.session.borrow().is_finished()
    }

    pub fn describe(&self) -> String {
        let due: Vec<_> = self.owed.iter().take(3).map(|owed| format!("{:?}", owed.want)).collect();
        let Self { number, last, silent, closed, .. } = self;
        let (unsent, gone, over) = (self.outbox.len(), self.socket.is_none(), self.session.borrow().is_finished());
        format!(
            "client {number}: {unsent} bytes unsent, {} replies due {due:?}, got {}, last {last}, silent {silent}, \
             closed {closed}, gone {gone}, session over {over}",
            self.owed.len(),
            shown(&self.inbox)
        )
    }

    pub fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// The session's task, to see whether it panicked.
    pub fn into_session(self) -> Task {
        self.session
    }
}

fn measure(bytes: &[u8], expect: Expect, client: usize) -> Option<usize> {
    let limits = outrigger::protocol::Limits::default();
    let parsed = match expect {
        Expect::Resp | Expect::Transaction(_) => {
            resp::response::scan(bytes, &limits).map_err(|error| error.to_string())
        }
        Expect::Memcached(expect) => text::response::scan(bytes, expect, &limits).map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(Parsed::Complete(length)) => Some(length),
        Ok(Parsed::Incomplete { .. }) => None,
        Err(error) => panic!("client {client} got {}: {error}", shown(bytes)),
    }
}
