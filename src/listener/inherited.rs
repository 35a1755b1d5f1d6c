//! Sockets that the process before has handed over.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Socket as RawSocket, Type};

use super::bind::bound_to;

/// Listening sockets of the process before, by the text of their address. Those that nobody takes are closed on drop;
/// they stay open as long as that process has them, too.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, RawSocket)>);

impl Inherited {
    /// By address, as [`Listeners::sockets`](super::Listeners::sockets) says it. What does not listen is not for us.
    pub fn new(sockets: Vec<(String, OwnedFd)>) -> Self {
        let sockets = sockets.into_iter().map(|(address, socket)| (address, RawSocket::from(socket)));
        Self(sockets.filter(|(_, socket)| listens(socket)).collect())
    }

    /// The socket of this address.
    pub fn take(&mut self, address: &str) -> Option<OwnedFd> {
        self.take_if(|text, _| text == address).map(OwnedFd::from)
    }

    pub(super) fn take_if(&mut self, is_it: impl Fn(&str, &RawSocket) -> bool) -> Option<RawSocket> {
        let index = self.0.iter().position(|(address, socket)| is_it(address, socket))?;
        Some(self.0.swap_remove(index).1)
    }

    /// Duplicates of those at addresses like that.
    pub(super) fn find(&self, is_it: impl Fn(SocketAddr) -> bool) -> Vec<(String, RawSocket)> {
        let fits = self.0.iter().filter(|(_, socket)| bound_to(socket).is_some_and(&is_it));
        fits.filter_map(|(address, socket)| Some((address.clone(), socket.try_clone().ok()?))).collect()
    }
}

fn listens(socket: &RawSocket) -> bool {
    socket.is_listener().unwrap_or(false) && socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
}
