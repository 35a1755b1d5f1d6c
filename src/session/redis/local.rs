//! Commands that the proxy answers itself: what clients say when they connect, and what is about the connection.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::Step;
use super::super::meter::Verdict;
use super::Request;
use crate::protocol::redis::commands::{Command, ProxyCommand};
use crate::protocol::redis::{errors, introspect, reply};
use crate::telemetry::{Class, Ending, Trouble};

impl Request<'_, '_> {
    pub(super) fn answer_locally(&mut self, command: &'static Command, what: ProxyCommand) -> Step {
        match what {
            ProxyCommand::Ping => self.ping(command),
            ProxyCommand::Echo => self.answer(|out, r| reply::write_bulk(out, r.arg(1))),
            ProxyCommand::Time => self.answer(|out, _| write_time(out)),
            ProxyCommand::Quit => {
                self.say(reply::OK);
                self.session.ends_for(Ending::Quit);
                Step::Close
            }
            ProxyCommand::Auth => self.auth(),
            ProxyCommand::Hello => self.hello(),
            ProxyCommand::Reset => self.reset(),
            ProxyCommand::Select => self.select(),
            ProxyCommand::Command => self.command(),
            ProxyCommand::Readonly | ProxyCommand::Readwrite => self.deny(Trouble::Unsupported, errors::NO_CLUSTER),
            // Its arity lets no request without a subcommand come here.
            ProxyCommand::Client => self.error("ERR unknown subcommand. Try CLIENT HELP."),
            ProxyCommand::ClientHelp => self.client_help(),
            ProxyCommand::ClientId => self.answer(|out, r| reply::write_integer(out, r.session.id as i64)),
            ProxyCommand::ClientGetname => self.get_name(),
            ProxyCommand::ClientSetname => self.set_name(),
            ProxyCommand::ClientSetinfo => self.set_info(),
            ProxyCommand::ClientInfo => self.client_info(),
            ProxyCommand::ClientNoEvict => self.client_switch(false),
            ProxyCommand::ClientNoTouch => self.client_switch(true),
            ProxyCommand::ClientReply => self.client_reply(),
            ProxyCommand::Clients(what) => self.client(command, what),
            ProxyCommand::Acl(what) => self.acl(command, what),
            // As with CLIENT.
            ProxyCommand::AclAlone => self.error("ERR unknown subcommand. Try ACL HELP."),
        }
    }

    pub(super) fn say(&mut self, bytes: &[u8]) -> Step {
        self.answer(|out, _| out.extend_from_slice(bytes))
    }

    /// Refuses what is said well, for another reason.
    pub(super) fn deny(&mut self, trouble: Trouble, error: &[u8]) -> Step {
        self.answer_as(Verdict::Rejected(Class::Proxy, trouble), |out, _| out.extend_from_slice(error))
    }

    pub(super) fn error(&mut self, text: &str) -> Step {
        self.answer(|out, _| reply::write_error(out, text))
    }

    fn ping(&mut self, command: &Command) -> Step {
        match self.args.len() {
            1 => self.say(reply::PONG),
            2 => self.answer(|out, r| reply::write_bulk(out, r.arg(1))),
            _ => self.answer(|out, _| errors::wrong_arity(out, command)),
        }
    }

    pub(super) fn pool_name(&self) -> &str {
        &self.pool.settings.name
    }

    fn command(&mut self) -> Step {
        self.answer_shaped(|out, r| {
            let arg = |i| r.args.get(r.input.bytes(), i);
            introspect::command(out, r.args.len(), arg, &|name| r.pool.learnt().named(name));
        })
    }
}

/// Client bytes as they may stand in an error line; cut where they are too many.
pub(super) fn printable(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(128)].escape_ascii().to_string()
}

/// A number as Redis reads it: without a plus, without zeros or anything else before it.
pub(super) fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(number).as_bytes() == bytes).then_some(number)
}

/// Seconds and microseconds since 1970.
pub(super) fn unix_time() -> (u64, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs(), now.subsec_micros())
}

fn write_time(out: &mut Vec<u8>) {
    let (seconds, micros) = unix_time();
    reply::write_array_header(out, 2);
    reply::write_bulk(out, seconds.to_string().as_bytes());
    reply::write_bulk(out, micros.to_string().as_bytes());
}
