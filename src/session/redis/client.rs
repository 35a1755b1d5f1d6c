//! CLIENT about the connection itself: what a client tells about itself, asks about itself, and how it wants its replies.

use std::sync::atomic::Ordering::Relaxed;

use super::super::Step;
use super::super::clients::Card;
use super::local::printable;
use super::{ReplyMode, Request, State};
use crate::protocol::redis::commands::{ClientCommand, Command};
use crate::protocol::redis::{errors, reply};

/// After CLIENT CACHING, as tracking is never on.
const NOT_TRACKING: &str = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT \
    mode enabled";

const HELP: [&str; 47] = [
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CACHING (YES|NO)",
    "    Refused: tracking is never on.",
    "GETREDIR",
    "    Return -1: tracking is never on.",
    "GETNAME",
    "    Return the name of the current connection to the proxy.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>. Only clients of the same pool can be killed and are listed.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "    * ID <client-id>",
    "      Kill connections by client id.",
    "    * MAXAGE <maxage>",
    "      Kill connections older than the specified age.",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <client-id> [<client-id>...]]",
    "    Return information about client connections.",
    "PAUSE <timeout> [WRITE|ALL], UNPAUSE",
    "    Suspend all, or just write, requests for <timeout> milliseconds, and stop that.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO <LIB-NAME|LIB-VER> <value>",
    "    Tell the name or the version of the client library.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "TRACKING OFF, TRACKINGINFO",
    "    Tracking is never on.",
    "NO-EVICT (ON|OFF), NO-TOUCH (ON|OFF)",
    "    As in Redis, and without effect: server connections are shared.",
    "HELP",
    "    Print this help.",
];

impl Request<'_, '_> {
    pub(super) fn client(&mut self, command: &'static Command, what: ClientCommand) -> Step {
        match what {
            ClientCommand::Caching => self.error(NOT_TRACKING),
            ClientCommand::Getredir => self.answer(|out, _| reply::write_integer(out, -1)),
            ClientCommand::Kill => self.kill_clients(command),
            ClientCommand::List => self.list_clients(),
            ClientCommand::Pause => self.pause(),
            ClientCommand::Tracking => self.tracking(command),
            ClientCommand::Trackinginfo => self.answer_shaped(|out, _| write_no_tracking(out)),
            ClientCommand::Unblock => self.unblock(command),
            ClientCommand::Unpause => {
                self.session.gate.open();
                self.say(reply::OK)
            }
        }
    }

    pub(super) fn client_help(&mut self) -> Step {
        self.answer(|out, _| {
            reply::write_array_header(out, HELP.len());
            HELP.iter().for_each(|line| reply::write_simple(out, line));
        })
    }

    pub(super) fn get_name(&mut self) -> Step {
        self.answer(|out, r| match &r.session.card.told().name {
            name if name.is_empty() => out.extend_from_slice(r.version().null()),
            name => reply::write_bulk(out, name.as_bytes()),
        })
    }

    pub(super) fn set_name(&mut self) -> Step {
        match client_text(self.arg(2)) {
            Some(name) => {
                self.name_client(name);
                self.say(reply::OK)
            }
            None => self.error(BAD_NAME),
        }
    }

    /// CLIENT SETNAME, and HELLO with SETNAME.
    pub(super) fn name_client(&mut self, name: String) {
        self.session.card.told().name = name.into();
    }

    pub(super) fn set_info(&mut self) -> Step {
        let Some(text) = client_text(self.arg(3)) else {
            let attribute = printable(self.arg(2));
            let text = format!("ERR {attribute} cannot contain spaces, newlines or special characters.");
            return self.error(&text);
        };
        let attribute = self.arg(2).to_ascii_lowercase();
        match &attribute[..] {
            b"lib-name" => self.session.card.told().library = text.into(),
            b"lib-ver" => self.session.card.told().library_version = text.into(),
            _ => {
                let text = format!("ERR Unrecognized option '{}'", printable(self.arg(2)));
                return self.error(&text);
            }
        }
        self.say(reply::OK)
    }

    /// CLIENT NO-EVICT and NO-TOUCH: remembered, as the proxy evicts no client and server connections are shared.
    pub(super) fn client_switch(&mut self, no_touch: bool) -> Step {
        let value = self.arg(2);
        let on = value.eq_ignore_ascii_case(b"on");
        if !on && !value.eq_ignore_ascii_case(b"off") {
            return self.say(errors::SYNTAX);
        }
        let card = &self.session.card;
        let switch = if no_touch { &card.no_touch } else { &card.no_evict };
        switch.store(on, Relaxed);
        self.say(reply::OK)
    }

    pub(super) fn client_reply(&mut self) -> Step {
        let mode = self.arg(2).to_ascii_lowercase();
        match &mode[..] {
            b"on" => {
                self.state.replies = ReplyMode::On;
                self.say(reply::OK)
            }
            b"off" => {
                self.state.replies = ReplyMode::Off;
                self.say(&[])
            }
            b"skip" => {
                // No reply to this one either; what follows it is skipped, also when this one was itself skipped.
                if self.state.replies != ReplyMode::Off {
                    self.state.replies = ReplyMode::SkipNext;
                }
                self.say(&[])
            }
            _ => self.say(errors::SYNTAX),
        }
    }

    fn tracking(&mut self, command: &'static Command) -> Step {
        let value = self.arg(2);
        if value.eq_ignore_ascii_case(b"off") {
            return self.say(reply::OK);
        }
        if !value.eq_ignore_ascii_case(b"on") {
            return self.say(errors::SYNTAX);
        }
        let why = "server connections are shared, and Outrigger tells no client which keys change";
        self.answer_as(super::unsupported(command), |out, _| errors::refused_for(out, command, why))
    }

    /// RESET: the client is nobody again, without a name. What it has told about its library stays: it is the same one.
    pub(super) fn start_anew(&mut self) {
        let card = &self.session.card;
        card.told().name = Box::default();
        card.no_evict.store(false, Relaxed);
        card.no_touch.store(false, Relaxed);
        *self.state = State::new(self.pool, card);
    }
}

impl Card {
    /// `N`, or what is special about it.
    pub(super) fn flags(&self) -> String {
        let in_multi = self.queued.load(Relaxed) >= 0;
        let all = [
            (self.is_subscribed(), 'P'),
            (in_multi, 'x'),
            (self.blocks.load(Relaxed), 'b'),
            (self.is_unix, 'U'),
            (self.no_evict.load(Relaxed), 'e'),
            (self.no_touch.load(Relaxed), 'T'),
        ];
        let text: String = all.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).collect();
        if text.is_empty() { "N".to_owned() } else { text }
    }
}

/// In RESP3.
fn write_no_tracking(out: &mut Vec<u8>) {
    reply::write_map_header(out, 3);
    reply::write_bulk(out, b"flags");
    reply::write_set_header(out, 1);
    reply::write_bulk(out, b"off");
    reply::write_bulk(out, b"redirect");
    reply::write_integer(out, -1);
    reply::write_bulk(out, b"prefixes");
    reply::write_array_header(out, 0);
}

pub(super) const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// A name as Redis accepts it, and of bounded length: printable, without spaces.
pub(super) fn client_text(bytes: &[u8]) -> Option<String> {
    let fine = bytes.len() <= 256 && bytes.iter().all(|b| (b'!'..=b'~').contains(b));
    fine.then(|| String::from_utf8_lossy(bytes).into_owned())
}
