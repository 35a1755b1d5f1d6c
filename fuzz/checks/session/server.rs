//! A server: it answers as the model does, when and in what pieces the input says, until it misbehaves.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use outrigger::config::Protocol;

use super::choices::Choices;
use super::fixture::Proxy;
use super::ledger::Ledger;
use super::{memcached, redis};

/// The worst that a server does.
#[derive(Debug, Clone, Copy)]
pub enum Mischief {
    /// Closes, in the middle of whatever it is.
    Close,
    /// Sends FIN, and reads on.
    HalfClose,
    /// What is no reply.
    Garbage,
    /// A reply that nothing asked for.
    Extra,
    /// Calls a good storage request malformed.
    OutOfStep,
}

pub struct Server {
    index: usize,
    protocol: Protocol,
    listener: UnixListener,
    links: Vec<Link>,
}

/// One connection.
struct Link {
    socket: UnixStream,
    /// Came, and is no whole request yet.
    inbox: Vec<u8>,
    /// Whole requests without an answer.
    asked: VecDeque<Asked>,
    /// Answers that are not sent.
    outbox: Vec<u8>,
    /// The proxy must close it, nothing is answered any more.
    spoilt: bool,
    closed: bool,
}

struct Asked {
    reply: Vec<u8>,
    storage: bool,
}

impl Server {
    pub fn new(index: usize, protocol: Protocol, listener: UnixListener) -> Self {
        Self { index, protocol, listener, links: Vec::new() }
    }

    pub fn accept(&mut self) -> bool {
        let before = self.links.len();
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true).expect("non-blocking");
            let (inbox, asked, outbox) = Default::default();
            self.links.push(Link { socket, inbox, asked, outbox, spoilt: false, closed: false });
        }
        self.links.len() > before
    }

    /// The number of a connection, if there is one.
    fn choose(&self, choices: &mut Choices<'_>) -> Option<usize> {
        (!self.links.is_empty()).then(|| choices.below(self.links.len()))
    }

    /// Reads everything, and notes every whole request. True if something came.
    pub fn read(&mut self, ledger: &mut Ledger) -> bool {
        let mut came = false;
        for link in &mut self.links {
            came |= link.read();
            if !link.spoilt {
                link.take_requests(self.index, self.protocol, ledger);
            }
        }
        self.links.retain(|link| !link.closed);
        came
    }

    /// Answers some requests of one connection, and sends a piece of what is to be sent.
    pub fn answer(&mut self, choices: &mut Choices<'_>) {
        let Some(link) = self.choose(choices) else { return };
        let link = &mut self.links[link];
        let count = choices.piece(link.asked.len());
        link.answer(count);
        let piece = choices.piece(link.outbox.len());
        link.send(piece);
    }

    /// Answers everything. True if there was something.
    pub fn answer_all(&mut self) -> bool {
        let mut some = false;
        for link in &mut self.links {
            link.answer(usize::MAX);
            some |= link.send(usize::MAX);
        }
        some
    }

    pub fn misbehave(&mut self, what: Mischief, choices: &mut Choices<'_>, proxy: &Proxy, ledger: &mut Ledger) {
        self.accept();
        self.read(ledger);
        let Some(at) = self.choose(choices) else { return };
        let link = &mut self.links[at];
        if link.spoilt {
            return;
        }
        if !matches!(what, Mischief::Close | Mischief::HalfClose) {
            link.send(usize::MAX);
        }
        let in_flight = proxy.in_flight(self.index);
        super::trace(|| format!("server {} link {at}: {what:?}, {in_flight} in flight", self.index));
        match what {
            Mischief::Close => {
                ledger.fault(self.index);
                self.links.remove(at);
            }
            Mischief::HalfClose => {
                ledger.fault(self.index);
                let _ = link.socket.shutdown(Shutdown::Write);
                link.spoilt = true;
            }
            Mischief::Garbage => {
                let garbage = match self.protocol {
                    Protocol::Redis => choices.pick(&redis::GARBAGE),
                    Protocol::Memcached => choices.pick(&memcached::GARBAGE),
                };
                if link.is_between_replies() && link.write_whole(garbage) {
                    super::trace(|| format!("  {}", garbage.escape_ascii()));
                    ledger.fault(self.index);
                    link.spoilt = true;
                }
            }
            Mischief::Extra => {
                let extra = match self.protocol {
                    Protocol::Redis => redis::EXTRA,
                    Protocol::Memcached => memcached::EXTRA,
                };
                // Requests on their way may be written before the proxy sees it, and then it is the reply to one.
                let idle = in_flight == 0 && ledger.quiet;
                if link.is_between_replies() && link.write_whole(extra) {
                    ledger.fault(self.index);
                    link.spoilt = idle;
                    ledger.conduct[self.index].out_of_step |= !idle;
                }
            }
            Mischief::OutOfStep => {
                let Some(storage) = link.asked.iter().position(|asked| asked.storage) else { return };
                if ledger.conduct[self.index].out_of_step {
                    // It would be taken for the reply to another request.
                    return;
                }
                link.answer(storage);
                link.send(usize::MAX);
                if link.is_between_replies() && link.write_whole(memcached::OUT_OF_STEP) {
                    ledger.fault(self.index);
                    link.spoilt = true;
                }
            }
        }
    }

    /// After the proxy had its time: what it should have closed it has closed.
    pub fn check_closed(&mut self) {
        for link in self.links.iter_mut().filter(|link| link.spoilt) {
            link.read();
            assert!(link.closed, "server {}: the proxy goes on with a connection that is out of step", self.index);
        }
        self.links.retain(|link| !link.closed);
    }
}

impl Link {
    fn read(&mut self) -> bool {
        let mut buffer = [0; 8 * 1024];
        let mut came = false;
        loop {
            match self.socket.read(&mut buffer) {
                Ok(count @ 1..) => self.inbox.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return came,
                Ok(_) | Err(_) => {
                    self.closed = true;
                    return true;
                }
            }
            came = true;
        }
    }

    fn take_requests(&mut self, server: usize, protocol: Protocol, ledger: &mut Ledger) {
        let mut at = 0;
        loop {
            let rest = &self.inbox[at..];
            let found = match protocol {
                Protocol::Redis => redis::arrived(rest).map(|(n, a)| (n, a.tokens, a.keys, a.reply, false)),
                Protocol::Memcached => memcached::arrived(rest).map(|(n, a)| (n, a.tokens, a.keys, a.reply, a.storage)),
            };
            let Some((length, tokens, keys, reply, storage)) = found else { break };
            let request = &rest[..length];
            super::trace(|| format!("server {server} is asked {}", super::super::shown(request)));
            for key in keys.iter().filter(|_| !ledger.shifting) {
                let owner = ledger.owner(key);
                assert_eq!(
                    owner,
                    server,
                    "a request for server {owner} came to {server}: {}",
                    super::super::shown(request)
                );
            }
            for token in &tokens {
                ledger.arrived(server, *token, request);
            }
            if let (Some(key), true) = (keys.first(), tokens.iter().all(|token| token.write)) {
                ledger.in_order(server, key, request);
            }
            self.asked.push_back(Asked { reply, storage });
            at += length;
        }
        self.inbox.drain(..at);
    }

    fn answer(&mut self, count: usize) {
        if !self.spoilt {
            let count = count.min(self.asked.len());
            self.asked.drain(..count).for_each(|asked| self.outbox.extend(asked.reply));
        }
    }

    fn send(&mut self, count: usize) -> bool {
        let count = if self.spoilt { 0 } else { count.min(self.outbox.len()) };
        // An error shows when reading.
        let sent = if count > 0 { self.socket.write(&self.outbox[..count]).unwrap_or(0) } else { 0 };
        super::trace(|| format!("  a server sends {}", super::super::shown(&self.outbox[..sent])));
        self.outbox.drain(..sent);
        sent > 0
    }

    /// Every reply that was begun has been sent to its end.
    fn is_between_replies(&self) -> bool {
        self.outbox.is_empty()
    }

    fn write_whole(&mut self, bytes: &[u8]) -> bool {
        match self.socket.write(bytes) {
            Ok(count) => {
                assert_eq!(count, bytes.len(), "the socket took a part of a few bytes");
                true
            }
            Err(_) => false,
        }
    }
}
