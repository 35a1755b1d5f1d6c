//! Commands that the proxy answers itself: what clients say when they connect, and what is about the connection.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::Step;
use super::super::meter::Verdict;
use super::{Client, ReplyMode, Request, State};
use crate::config::Credentials;
use crate::protocol::redis::commands::{Command, ProxyCommand, Route};
use crate::protocol::redis::{errors, introspect, reply};
use crate::telemetry::{Class, Ending, Trouble};

/// The Redis whose commands the table speaks; `INFO` calls it `redis_version`, where clients look what they may use.
const REDIS_VERSION: &str = "7.0.15";

/// What a client may say before it has given the password; the same as in Redis.
pub(super) fn is_allowed_before_auth(command: &Command) -> bool {
    use ProxyCommand::{Auth, Hello, Quit, Reset};
    matches!(command.route, Route::Proxy(Auth | Hello | Quit | Reset))
}

impl Request<'_, '_> {
    pub(super) fn answer_locally(&mut self, command: &Command, what: ProxyCommand) -> Step {
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
            ProxyCommand::Info => self.info(),
            ProxyCommand::Command => self.command(),
            ProxyCommand::Readonly | ProxyCommand::Readwrite => self.deny(Trouble::Unsupported, errors::NO_CLUSTER),
            // Its arity lets no request without a subcommand come here.
            ProxyCommand::Client => self.error("ERR unknown subcommand. Try CLIENT HELP."),
            ProxyCommand::ClientHelp => self.client_help(),
            ProxyCommand::ClientId => self.answer(|out, r| reply::write_integer(out, r.session.id as i64)),
            ProxyCommand::ClientGetname => self.answer(|out, r| match &r.state.client {
                Some(client) if !client.name.is_empty() => reply::write_bulk(out, client.name.as_bytes()),
                _ => out.extend_from_slice(reply::NULL),
            }),
            ProxyCommand::ClientSetname => self.set_name(),
            ProxyCommand::ClientSetinfo => self.set_info(),
            ProxyCommand::ClientInfo => self.answer(|out, r| reply::write_bulk(out, r.client_line().as_bytes())),
            // The proxy never evicts a client, and server connections are shared: nothing to switch.
            ProxyCommand::ClientNoEvict | ProxyCommand::ClientNoTouch => self.client_switch(),
            ProxyCommand::ClientReply => self.client_reply(),
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Step {
        self.answer(|out, _| out.extend_from_slice(bytes))
    }

    /// Refuses what is said well, for another reason.
    fn deny(&mut self, trouble: Trouble, error: &[u8]) -> Step {
        self.answer_as(Verdict::Rejected(Class::Proxy, trouble), |out, _| out.extend_from_slice(error))
    }

    fn error(&mut self, text: &str) -> Step {
        self.answer(|out, _| reply::write_error(out, text))
    }

    fn ping(&mut self, command: &Command) -> Step {
        match self.args.len() {
            1 => self.say(reply::PONG),
            2 => self.answer(|out, r| reply::write_bulk(out, r.arg(1))),
            _ => self.answer(|out, _| errors::wrong_arity(out, command)),
        }
    }

    /// It has given the password, or there is none, perhaps not any more. One that was let in stays in when another password
    /// comes, as with Redis.
    pub(super) fn is_authenticated(&self) -> bool {
        self.state.authenticated || self.pool.settings.redis_auth.is_none()
    }

    /// `AUTH password` and `AUTH user password`.
    fn auth(&mut self) -> Step {
        let Some(wanted) = &self.pool.settings.redis_auth else {
            return self.say(errors::AUTH_WITHOUT_PASSWORD);
        };
        let (user, password) = match self.args.len() {
            2 => (None, self.arg(1)),
            3 => (Some(self.arg(1)), self.arg(2)),
            _ => return self.say(errors::SYNTAX),
        };
        if !accepts(wanted, user, password) {
            return self.deny(Trouble::Unauthenticated, errors::WRONGPASS);
        }
        self.state.authenticated = true;
        self.say(reply::OK)
    }

    /// `HELLO [2 [AUTH user password] [SETNAME name]]`.
    fn hello(&mut self) -> Step {
        if self.args.len() > 1 {
            match parse_integer(self.arg(1)) {
                None => return self.error("ERR Protocol version is not an integer or out of range"),
                Some(2) => {}
                Some(_) => return self.deny(Trouble::Unsupported, errors::NOPROTO),
            }
        }
        let mut name = None;
        let mut authenticated = self.is_authenticated();
        let mut position = 2;
        while position < self.args.len() {
            let left = self.args.len() - position - 1;
            let option = self.arg(position);
            if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
                let (user, password) = (self.arg(position + 1), self.arg(position + 2));
                let wanted = &self.pool.settings.redis_auth;
                // Like a Redis without a password, whose default user accepts any.
                if !wanted.as_ref().map_or(user == b"default", |w| accepts(w, Some(user), password)) {
                    return self.deny(Trouble::Unauthenticated, errors::WRONGPASS);
                }
                authenticated = true;
                position += 3;
            } else if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
                match client_text(self.arg(position + 1)) {
                    Some(text) => name = Some(text),
                    None => return self.error(BAD_NAME),
                }
                position += 2;
            } else {
                let text = format!("ERR Syntax error in HELLO option '{}'", printable(option));
                return self.error(&text);
            }
        }
        if !authenticated {
            return self.error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            );
        }
        self.state.authenticated = true;
        if let Some(name) = name {
            self.state.client().name = name;
        }
        self.answer(|out, r| write_hello(out, r.session.id))
    }

    fn reset(&mut self) -> Step {
        *self.state = State::new(self.pool);
        self.say(reply::RESET)
    }

    fn select(&mut self) -> Step {
        let served = self.pool.settings.redis_db;
        match parse_integer(self.arg(1)) {
            None => self.error("ERR invalid DB index"),
            Some(n) if n == i64::from(served) => self.say(reply::OK),
            Some(_) => {
                let text =
                    format!("ERR DB index is out of range: pool {} serves database {served} only", self.pool_name());
                self.error(&text)
            }
        }
    }

    fn pool_name(&self) -> &str {
        &self.pool.settings.name
    }

    fn client_help(&mut self) -> Step {
        const LINES: [&str; 9] = [
            "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GETNAME, SETNAME <name>",
            "    Return or set the name of this connection to the proxy.",
            "ID, INFO",
            "    Return the number of this connection, or what is known of it.",
            "SETINFO <LIB-NAME|LIB-VER> <value>",
            "    Tell the name or the version of the client library.",
            "REPLY <ON|OFF|SKIP>, NO-EVICT <ON|OFF>, NO-TOUCH <ON|OFF>",
            "    As in Redis, for this connection.",
        ];
        self.answer(|out, _| {
            reply::write_array_header(out, LINES.len());
            LINES.iter().for_each(|line| reply::write_simple(out, line));
        })
    }

    fn set_name(&mut self) -> Step {
        match client_text(self.arg(2)) {
            Some(name) => {
                self.state.client().name = name;
                self.say(reply::OK)
            }
            None => self.error(BAD_NAME),
        }
    }

    fn set_info(&mut self) -> Step {
        let Some(text) = client_text(self.arg(3)) else {
            let attribute = printable(self.arg(2));
            let text = format!("ERR {attribute} cannot contain spaces, newlines or special characters.");
            return self.error(&text);
        };
        let attribute = self.arg(2).to_ascii_lowercase();
        match &attribute[..] {
            b"lib-name" => self.state.client().library = text,
            b"lib-ver" => self.state.client().library_version = text,
            _ => {
                let text = format!("ERR Unrecognized option '{}'", printable(self.arg(2)));
                return self.error(&text);
            }
        }
        self.say(reply::OK)
    }

    fn client_switch(&mut self) -> Step {
        let value = self.arg(2);
        match value.eq_ignore_ascii_case(b"on") || value.eq_ignore_ascii_case(b"off") {
            true => self.say(reply::OK),
            false => self.say(errors::SYNTAX),
        }
    }

    fn client_reply(&mut self) -> Step {
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

    fn client_line(&self) -> String {
        let none = Client::default();
        let client = self.state.client.as_deref().unwrap_or(&none);
        let (id, db) = (self.session.id, self.pool.settings.redis_db);
        let Client { name, library, library_version } = client;
        format!("id={id} name={name} db={db} resp=2 lib-name={library} lib-ver={library_version}\n")
    }

    fn info(&mut self) -> Step {
        let mut wanted = self.args.iter(self.input.bytes()).skip(1).map(<[u8]>::to_ascii_lowercase).peekable();
        let mut all = wanted.peek().is_none();
        let wanted: Vec<Vec<u8>> = wanted.collect();
        all |= wanted.iter().any(|w| matches!(&w[..], b"all" | b"default" | b"everything"));
        let mut text = String::new();
        for (name, section) in self.info_sections() {
            if all || wanted.iter().any(|w| w == name.to_ascii_lowercase().as_bytes()) {
                let gap = if text.is_empty() { "" } else { "\r\n" };
                text += &format!("{gap}# {name}\r\n{section}");
            }
        }
        self.answer(|out, _| reply::write_bulk(out, text.as_bytes()))
    }

    /// What clients look for before they start (`loading`, `role`), and what is true of the proxy.
    fn info_sections(&self) -> [(&'static str, String); 4] {
        let (pid, servers) = (std::process::id(), self.pool.servers());
        let uptime = unix_time().0.saturating_sub(self.session.shared.started);
        let (version, pool) = (env!("CARGO_PKG_VERSION"), self.pool_name());
        [
            (
                "Server",
                format!(
                    "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nprocess_id:{pid}\r\n\
                     uptime_in_seconds:{uptime}\r\n"
                ),
            ),
            ("Persistence", "loading:0\r\n".into()),
            ("Replication", "role:master\r\nconnected_slaves:0\r\n".into()),
            ("Outrigger", format!("outrigger_version:{version}\r\npool:{pool}\r\nservers:{servers}\r\n")),
        ]
    }

    fn command(&mut self) -> Step {
        self.answer(|out, r| introspect::command(out, r.args.len(), |i| r.args.get(r.input.bytes(), i)))
    }
}

impl State {
    fn client(&mut self) -> &mut Client {
        self.client.get_or_insert_default()
    }
}

/// Client bytes as they may stand in an error line; cut where they are too many.
fn printable(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(128)].escape_ascii().to_string()
}

const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// A name as Redis accepts it, and of bounded length: printable, without spaces.
fn client_text(bytes: &[u8]) -> Option<String> {
    let fine = bytes.len() <= 256 && bytes.iter().all(|b| (b'!'..=b'~').contains(b));
    fine.then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn accepts(wanted: &Credentials, user: Option<&[u8]>, password: &[u8]) -> bool {
    let name = wanted.username.as_deref().unwrap_or("default");
    let known = user.unwrap_or(b"default") == name.as_bytes();
    wanted.password.is(password) & known
}

fn parse_integer(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Seconds and microseconds since 1970.
fn unix_time() -> (u64, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs(), now.subsec_micros())
}

fn write_time(out: &mut Vec<u8>) {
    let (seconds, micros) = unix_time();
    reply::write_array_header(out, 2);
    reply::write_bulk(out, seconds.to_string().as_bytes());
    reply::write_bulk(out, micros.to_string().as_bytes());
}

fn write_hello(out: &mut Vec<u8>, id: u64) {
    let text = |out: &mut Vec<u8>, name: &str, value: &str| {
        reply::write_bulk(out, name.as_bytes());
        reply::write_bulk(out, value.as_bytes());
    };
    let number = |out: &mut Vec<u8>, name: &str, value: i64| {
        reply::write_bulk(out, name.as_bytes());
        reply::write_integer(out, value);
    };
    reply::write_array_header(out, 14);
    text(out, "server", "outrigger");
    text(out, "version", env!("CARGO_PKG_VERSION"));
    number(out, "proto", 2);
    number(out, "id", id as i64);
    text(out, "mode", "standalone");
    text(out, "role", "master");
    reply::write_bulk(out, b"modules");
    out.extend_from_slice(reply::EMPTY_ARRAY);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn credentials(username: Option<&str>) -> Credentials {
        Credentials { username: username.map(Into::into), password: Secret("s3cret".into()) }
    }

    #[test]
    fn the_password_must_be_whole() {
        let wanted = credentials(None);
        assert!(accepts(&wanted, None, b"s3cret"));
        assert!(accepts(&wanted, Some(b"default"), b"s3cret"));
        for wrong in [&b""[..], b"s3cre", b"s3cret ", b"S3cret"] {
            assert!(!accepts(&wanted, None, wrong));
        }
    }

    #[test]
    fn a_pool_with_a_user_wants_its_name() {
        let wanted = credentials(Some("app"));
        assert!(accepts(&wanted, Some(b"app"), b"s3cret"));
        assert!(!accepts(&wanted, None, b"s3cret"));
        assert!(!accepts(&wanted, Some(b"other"), b"s3cret"));
    }
}
