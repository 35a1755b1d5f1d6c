//! How the client speaks, and to which database: HELLO, RESET, SELECT.

use super::super::Step;
use super::client::{BAD_NAME, client_text};
use super::local::{parse_integer, printable};
use super::{ReplyMode, Request};
use crate::backend::{Said, Variant};
use crate::protocol::redis::{REDIS_VERSION, Version, convert, errors, reply};
use crate::telemetry::Trouble;

impl Request<'_, '_> {
    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`. Another version is spoken when all that was asked before is
    /// answered, and the reply waits until a server has said what it is.
    pub(super) fn hello(&mut self) -> Step {
        let hello = match self.read_hello() {
            Ok(hello) => hello,
            Err(step) => return step,
        };
        let before = self.session.variant();
        let variant = Variant { version: hello.version.unwrap_or(before.version), ..before };
        if let Some(step) = self.before_change(variant) {
            return step;
        }
        if let Some((user, password)) = &hello.credentials
            && !self.authenticate(Some(user), password)
        {
            return self.deny(Trouble::Unauthenticated, errors::WRONGPASS);
        }
        if !self.is_authenticated() {
            return self.error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            );
        }
        if self.must_wait_for_facts() {
            return Step::NoRoom;
        }
        let facts = &self.pool.shared().facts;
        if variant.version == Version::Resp3 && facts.lack_hello() {
            return self.deny(Trouble::Unsupported, errors::NOPROTO);
        }
        self.state.authenticated = true;
        if let Some(name) = hello.name {
            self.name_client(name);
        }
        self.session.set_variant(variant);
        let known = facts.known();
        self.answer_shaped(|out, r| write_hello(out, known.as_deref(), variant.version, r.session.id))
    }

    /// What a HELLO says, or the reply to one that says nothing.
    fn read_hello(&mut self) -> Result<Hello, Step> {
        let mut hello = Hello { version: None, credentials: None, name: None };
        if self.args.len() > 1 {
            let Some(number) = parse_integer(self.arg(1)) else {
                return Err(self.error("ERR Protocol version is not an integer or out of range"));
            };
            hello.version = Version::of(number);
            if hello.version.is_none() {
                return Err(self.deny(Trouble::Unsupported, errors::NOPROTO));
            }
        }
        let mut position = 2;
        while position < self.args.len() {
            let left = self.args.len() - position - 1;
            let option = self.arg(position);
            if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
                hello.credentials = Some((self.arg(position + 1).to_vec(), self.arg(position + 2).to_vec()));
                position += 3;
            } else if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
                match client_text(self.arg(position + 1)) {
                    Some(text) => hello.name = Some(text),
                    None => return Err(self.error(BAD_NAME)),
                }
                position += 2;
            } else {
                let text = format!("ERR Syntax error in HELLO option '{}'", printable(option));
                return Err(self.error(&text));
            }
        }
        Ok(hello)
    }

    /// Has a server asked what it is, if that is not known, once for the request at hand. Whether there is an answer to wait
    /// for; without one the reply says what was known before, or else which Redis the proxy speaks like.
    fn must_wait_for_facts(&mut self) -> bool {
        let asked = self.state.asked.take();
        if asked.is_some_and(|question| self.pool.was_answered(question)) || self.pool.shared().facts.are_settled() {
            return false;
        }
        let waker = self.session.waker.borrow();
        self.state.asked = waker.as_ref().and_then(|waker| self.pool.ask_what_servers_are(self.session.id, waker));
        self.state.asked.is_some()
    }

    /// Back to how a session begins. What it has told about its library stays, as with Redis: it is still the same one.
    pub(super) fn reset(&mut self) -> Step {
        let changes = self.session.variant() != self.pool.usual() || self.state.transaction.is_some();
        if changes && self.session.is_awaiting() {
            return self.session.settles_first();
        }
        self.give_up();
        self.session.drop_subscriptions();
        self.session.set_variant(self.pool.usual());
        let skipped = self.state.replies == ReplyMode::SkipThis;
        self.start_anew();
        if skipped {
            self.state.replies = ReplyMode::SkipThis;
        }
        self.say(reply::RESET)
    }

    /// `SELECT index`. What comes after it goes by other connections, so it waits for the replies to what came before.
    pub(super) fn select(&mut self) -> Step {
        let Some(number) = parse_integer(self.arg(1)) else { return self.say(errors::NOT_AN_INTEGER) };
        let Some(database) = self.served_database(number) else {
            let text = self.no_database();
            return self.error(&text);
        };
        let variant = Variant { database, ..self.session.variant() };
        if let Some(step) = self.before_change(variant) {
            return step;
        }
        self.session.set_variant(variant);
        self.say(reply::OK)
    }

    /// What comes before requests may go by connections of this variant: the replies to those that went by others.
    fn before_change(&mut self, variant: Variant) -> Option<Step> {
        if variant == self.session.variant() {
            return None;
        }
        if self.session.is_awaiting() {
            return Some(self.session.settles_first());
        }
        // Lines that carry nothing any more go; the next are of the new variant.
        self.session.tend_subscriptions();
        None
    }

    /// The database of this number, if the pool lets its clients work in it.
    pub(super) fn served_database(&self, number: i64) -> Option<u32> {
        u32::try_from(number).ok().filter(|number| self.pool.settings.serves_database(*number))
    }

    /// Why it does not.
    pub(super) fn no_database(&self) -> String {
        let (pool, settings) = (self.pool_name(), &self.pool.settings);
        let served = match settings.databases {
            None => format!("database {} only", settings.redis_db),
            Some(databases) => format!("databases 0 to {}", databases - 1),
        };
        format!("ERR DB index is out of range: pool {pool} serves {served} (databases)")
    }

    /// The version of the protocol that the client speaks.
    pub(super) fn version(&self) -> Version {
        self.session.variant().version
    }

    /// Answers here with a reply that `write` writes in RESP3; a client of RESP2 gets it in that form.
    pub(super) fn answer_shaped(&mut self, write: impl FnOnce(&mut Vec<u8>, &Self)) -> Step {
        let version = self.version();
        self.answer(|out, r| match version {
            Version::Resp3 => write(out, r),
            Version::Resp2 => {
                let pass = &r.session.shared.pass;
                let mut reply = pass.take_buffer();
                write(&mut reply, r);
                convert::to_resp2(&reply, out);
                pass.give_buffer(reply);
            }
        })
    }

    /// Answers here with text for people.
    pub(super) fn answer_text(&mut self, text: &str) -> Step {
        self.answer_shaped(|out, _| reply::write_verbatim(out, text.as_bytes()))
    }
}

/// What a client says with HELLO.
struct Hello {
    version: Option<Version>,
    /// A user and a password.
    credentials: Option<(Vec<u8>, Vec<u8>)>,
    name: Option<String>,
}

/// In RESP3.
fn write_hello(out: &mut Vec<u8>, known: Option<&Said>, version: Version, id: u64) {
    let text = |out: &mut Vec<u8>, name: &str, value: &str| {
        reply::write_bulk(out, name.as_bytes());
        reply::write_bulk(out, value.as_bytes());
    };
    let number = |out: &mut Vec<u8>, name: &str, value: i64| {
        reply::write_bulk(out, name.as_bytes());
        reply::write_integer(out, value);
    };
    reply::write_map_header(out, 7);
    text(out, "server", known.map_or("redis", |known| &known.server));
    text(out, "version", known.map_or(REDIS_VERSION, |known| &known.version));
    number(out, "proto", version.number().into());
    number(out, "id", id as i64);
    text(out, "mode", "standalone");
    text(out, "role", "master");
    reply::write_bulk(out, b"modules");
    out.extend_from_slice(known.map_or(reply::EMPTY_ARRAY, |known| &known.modules));
}
