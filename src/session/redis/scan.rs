//! SCAN over several servers: one is finished, then the next begins. The cursor says which, see [`cursor`].
//!
//! So a key that is there from the first call to the last is returned, by the server that has it. A server that is away is
//! an error; the client may call again with the same cursor.

use std::rc::Rc;

use super::super::Step;
use super::super::merge::{Merge, Parts};
use super::super::meter::Verdict;
use super::fan_out::good;
use super::split::first_error;
use super::{Request, sent};
use crate::backend::Requester;
use crate::config::ServerAddress;
use crate::protocol::redis::commands::Command;
use crate::protocol::redis::cursor::{CursorError, Position, Servers, digits};
use crate::protocol::redis::{reply, response};
use crate::telemetry::Trouble;

impl Request<'_, '_> {
    pub(super) fn scan(&mut self, command: &'static Command) -> Step {
        let servers = self.scanned_servers();
        let position = match servers.decode(self.arg(1)) {
            Ok(position) => position,
            Err(error) => {
                let verdict = Verdict::Rejected(command.class(), Trouble::Invalid);
                return self.answer_as(verdict, |out, r| r.write_cursor_error(out, error));
            }
        };
        match self.pool.away(position.server) {
            Some(away) => self.answer_gone(command, away),
            None => self.scan_server(command, servers, position),
        }
    }

    /// The pool's own, each by all that makes it another one.
    fn scanned_servers(&self) -> Servers {
        let addresses: Vec<String> = self.pool.settings.servers.iter().map(|server| address(&server.address)).collect();
        let names = self.pool.settings.servers.iter().map(|server| server.name.as_str());
        Servers::new(names.zip(addresses.iter().map(String::as_str)))
    }

    fn write_cursor_error(&self, out: &mut Vec<u8>, error: CursorError) {
        let text = match error {
            CursorError::Invalid => "ERR invalid cursor".to_owned(),
            CursorError::Changed => {
                let pool = self.pool_name();
                format!("ERR invalid cursor: the servers of pool {pool} have changed since; start again with 0")
            }
        };
        reply::write_error(out, &text);
    }

    fn scan_server(&mut self, command: &'static Command, servers: Servers, at: Position) -> Step {
        let session = self.session;
        if session.refuses() {
            return self.refuse(command);
        }
        let connection = self.pool.connection(at.server, session.id, session.variant());
        if !connection.has_room() {
            return session.wait_for(connection);
        }
        let asked = session.asked(command.class());
        let server = self.pool.name_of(at.server).to_owned();
        let merge = Box::new(Scanned { parts: self.parts(1), servers, server: at.server, name: server });
        let part = match self.state.replies() {
            true => session.replies.borrow_mut().reserve_merge(asked, merge),
            false => session.unheard(Some(asked.class)),
        };
        let requester: Rc<dyn Requester> = session.clone();
        connection.send(Some(requester), sent(command, part), |out, pass| {
            let mut number = itoa::Buffer::new();
            let cursor = number.format(at.cursor).as_bytes();
            let all = self.args.iter(self.input.bytes()).enumerate();
            let words: Vec<&[u8]> = all.map(|(index, word)| if index == 1 { cursor } else { word }).collect();
            reply::write_command(out.tail(pass), &words);
        });
        self.input.skip(self.length);
        Step::Next
    }
}

fn address(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, port } => format!("{host}:{port}"),
        ServerAddress::Unix { path } => path.display().to_string(),
        ServerAddress::Local => "local".to_owned(),
    }
}

/// The reply of one server, with a cursor that tells where to go on.
struct Scanned {
    parts: Parts,
    servers: Servers,
    /// The place of the server, and its name.
    server: usize,
    name: String,
}

impl Merge for Scanned {
    fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(error) = first_error(&self.parts) {
            return out.extend_from_slice(error);
        }
        let reply = self.parts.iter().find_map(good).unwrap_or_default();
        let mut elements = response::elements(reply);
        let next = elements.next().and_then(response::text).and_then(digits);
        let Some(next) = next.filter(|_| elements.left() == 1) else {
            let text = format!("ERR server {} answered SCAN with what that does not return", self.name);
            return reply::write_error(out, &text);
        };
        let Some(given) = self.servers.encode(self.server, next) else {
            let text =
                format!("ERR the cursor {next} of server {} is too large to be passed on; scan that server", self.name);
            return reply::write_error(out, &text);
        };
        reply::write_array_header(out, 2);
        reply::write_bulk(out, itoa::Buffer::new().format(given).as_bytes());
        out.extend_from_slice(elements.rest());
    }
}
