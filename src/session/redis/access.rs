//! ACL: the users of the pool, as Redis tells of them. They come from the configuration, so nothing changes them here.

use std::io::Read;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::super::Step;
use super::super::meter::Verdict;
use super::Request;
use super::local::{parse_integer, printable};
use super::users::{find, free_user};
use crate::config::{PasswordHash, User};
use crate::protocol::redis::acl::log::{Denial, Reason};
use crate::protocol::redis::commands::{AclCommand, CATEGORY_NAMES, Command, Resolved, resolve};
use crate::protocol::redis::{acl, errors, reply};
use crate::telemetry::{Class, Trouble};

/// Bits of a password that ACL GENPASS makes, and the most that it makes.
const GENPASS_BITS: i64 = 256;
const MOST_BITS: i64 = 4096;

const HELP: [&str; 21] = [
    "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Returns whether the user can execute the given command without executing the command.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "LOG [<count> | RESET]",
    "    Show the ACL log entries.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
    "HELP",
    "    Prints this help.",
];

impl Request<'_, '_> {
    pub(super) fn acl(&mut self, command: &'static Command, what: AclCommand) -> Step {
        match what {
            AclCommand::Cat => self.acl_cat(),
            AclCommand::Dryrun => self.acl_dryrun(),
            AclCommand::Genpass => self.acl_genpass(),
            AclCommand::Getuser => self.acl_getuser(),
            AclCommand::Help => self.answer(|out, _| {
                reply::write_array_header(out, HELP.len());
                HELP.iter().for_each(|line| reply::write_simple(out, line));
            }),
            AclCommand::List => {
                let lines: Vec<String> = self.all_users().iter().map(|user| line(user)).collect();
                self.answer(|out, _| write_texts(out, lines.iter().map(String::as_str)))
            }
            AclCommand::Users => {
                let users = self.all_users();
                self.answer(|out, _| write_texts(out, users.iter().map(|user| &user.name[..])))
            }
            AclCommand::Whoami => self.answer(|out, r| reply::write_bulk(out, r.user_name().as_bytes())),
            AclCommand::Log => self.acl_log(),
            AclCommand::Change => {
                self.refuse_acl(command, "users come from the configuration file, change it and reload")
            }
        }
    }

    fn refuse_acl(&mut self, command: &'static Command, why: &str) -> Step {
        let verdict = Verdict::Rejected(Class::Proxy, Trouble::Unsupported);
        let why = format!("{why} (pool {})", self.pool_name());
        self.answer_as(verdict, |out, _| errors::refused_for(out, command, &why))
    }

    /// The users of the pool, by name, with the one who may do everything, if there is such a one.
    fn all_users(&self) -> Vec<Arc<User>> {
        let settings = &self.pool.settings;
        let mut users: Vec<Arc<User>> = settings.users.iter().flatten().cloned().collect();
        let free = settings.users.is_none() || settings.redis_auth.is_some();
        if free && find(settings, free_user(settings).as_bytes()).is_none() {
            let password = settings.redis_auth.as_ref().map(|auth| PasswordHash::of(auth.password.0.as_bytes()));
            users.push(Arc::new(everything(free_user(settings), password)));
        }
        users.sort_by(|one, other| one.name.cmp(&other.name));
        users
    }

    fn user_named(&self, name: &[u8]) -> Option<Arc<User>> {
        self.all_users().into_iter().find(|user| user.name.as_bytes() == name)
    }

    /// `ACL CAT [category]`
    fn acl_cat(&mut self) -> Step {
        match self.args.len() {
            2 => self.answer(|out, _| write_texts(out, CATEGORY_NAMES.iter().map(|name| &name[1..]))),
            3 => match acl::category(self.arg(2)) {
                Some(names) => self.answer(|out, _| write_texts(out, names.iter().copied())),
                None => {
                    let text = format!("ERR Unknown category '{}'", printable(self.arg(2)));
                    self.error(&text)
                }
            },
            _ => self.answer(|out, r| errors::subcommand_syntax(out, "ACL", r.arg(1))),
        }
    }

    /// `ACL DRYRUN user command [argument...]`
    fn acl_dryrun(&mut self) -> Step {
        let Some(user) = self.user_named(self.arg(2)) else {
            let text = format!("ERR User '{}' not found", printable(self.arg(2)));
            return self.error(&text);
        };
        let (args, bytes) = (self.args, self.input.bytes());
        let (argc, arg) = (args.len() - 3, |index| args.get(bytes, index + 3));
        match resolve(argc, arg) {
            Resolved::Command(asked) => {
                let denied = user.permissions.check(asked, argc, arg).err();
                match denied.and_then(|denied| denied.verbose(&user.name, asked, arg)) {
                    Some(text) => self.answer(|out, _| reply::write_bulk(out, &text)),
                    None => self.say(reply::OK),
                }
            }
            Resolved::WrongArity(asked) => self.answer(|out, _| errors::wrong_arity(out, asked)),
            Resolved::Unknown | Resolved::UnknownSubcommand(_) => {
                let text = format!("ERR Command '{}' not found", printable(self.arg(3)));
                self.error(&text)
            }
        }
    }

    /// `ACL LOG [count|RESET]`: of this pool.
    fn acl_log(&mut self) -> Step {
        let most = match self.args.len() {
            2 => 10,
            3 if self.arg(2).eq_ignore_ascii_case(b"reset") => {
                self.pool.shared().denials.clear();
                return self.say(reply::OK);
            }
            3 => match parse_integer(self.arg(2)) {
                Some(count) => usize::try_from(count).unwrap_or(0),
                None => return self.say(errors::NOT_AN_INTEGER),
            },
            _ => return self.answer(|out, r| errors::subcommand_syntax(out, "ACL", r.arg(1))),
        };
        let denials = &self.pool.shared().denials;
        self.answer_shaped(|out, _| denials.write(most, since_1970(), out))
    }

    /// For ACL LOG: the request at hand was denied. `user`: who it was, or wanted to be.
    #[cold]
    pub(super) fn note_denial(&self, reason: Reason, object: &[u8], user: &[u8]) {
        self.note_this_command();
        let mut client = String::new();
        self.describe(&self.session.card, Instant::now(), &mut client);
        let in_multi = self.state.transaction.as_ref().is_some_and(|transaction| transaction.is_open());
        let denial = Denial { reason, in_multi, object, user, client: client.trim_end() };
        self.pool.shared().denials.note(&denial, since_1970());
    }

    /// `ACL GENPASS [bits]`
    fn acl_genpass(&mut self) -> Step {
        let bits = match self.args.len() {
            2 => Some(GENPASS_BITS),
            3 => parse_integer(self.arg(2)),
            _ => return self.answer(|out, r| errors::subcommand_syntax(out, "ACL", r.arg(1))),
        };
        let Some(bits) = bits else { return self.say(errors::NOT_AN_INTEGER) };
        if !(1..=MOST_BITS).contains(&bits) {
            let text = format!(
                "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
                 {MOST_BITS}"
            );
            return self.error(&text);
        }
        let digits = (bits as usize).div_ceil(4);
        match random(digits.div_ceil(2)) {
            Ok(bytes) => {
                let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                text.truncate(digits);
                self.answer(|out, _| reply::write_bulk(out, text.as_bytes()))
            }
            Err(error) => {
                let text = format!("ERR no random numbers: {error}");
                self.error(&text)
            }
        }
    }

    /// `ACL GETUSER user`
    fn acl_getuser(&mut self) -> Step {
        match self.user_named(self.arg(2)) {
            Some(user) => self.answer_shaped(|out, _| write_user(out, &user)),
            None => self.say(self.version().null()),
        }
    }
}

/// A user who may do everything.
fn everything(name: &str, password: Option<PasswordHash>) -> User {
    let rules = "~* &* +@all";
    User {
        name: name.to_owned(),
        on: true,
        nopass: password.is_none(),
        passwords: password.into_iter().collect(),
        rules: rules.to_owned(),
        permissions: acl::parse(rules).map(|rules| rules.permissions).unwrap_or_default(),
        trust_scripts: false,
    }
}

fn flags(user: &User) -> impl Iterator<Item = &'static str> {
    [Some(if user.on { "on" } else { "off" }), user.nopass.then_some("nopass")].into_iter().flatten()
}

/// As ACL LIST shows a user.
fn line(user: &User) -> String {
    let mut text = format!("user {}", user.name);
    for flag in flags(user) {
        text.push(' ');
        text.push_str(flag);
    }
    for password in &user.passwords {
        text.push_str(" #");
        text.push_str(&password.hex());
    }
    format!("{text} {}", user.permissions.line())
}

/// In RESP3.
fn write_user(out: &mut Vec<u8>, user: &User) {
    let passwords: Vec<String> = user.passwords.iter().map(PasswordHash::hex).collect();
    let flags: Vec<&str> = flags(user).collect();
    reply::write_map_header(out, 6);
    reply::write_bulk(out, b"flags");
    reply::write_set_header(out, flags.len());
    flags.iter().for_each(|flag| reply::write_bulk(out, flag.as_bytes()));
    reply::write_bulk(out, b"passwords");
    write_texts(out, passwords.iter().map(String::as_str));
    for (name, text) in [
        ("commands", user.permissions.commands()),
        ("keys", user.permissions.keys()),
        ("channels", user.permissions.channels()),
    ] {
        reply::write_bulk(out, name.as_bytes());
        reply::write_bulk(out, text.as_bytes());
    }
    reply::write_bulk(out, b"selectors");
    reply::write_array_header(out, 0);
}

fn write_texts<'a>(out: &mut Vec<u8>, texts: impl ExactSizeIterator<Item = &'a str>) {
    reply::write_array_header(out, texts.len());
    texts.for_each(|text| reply::write_bulk(out, text.as_bytes()));
}

/// In milliseconds.
fn since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Bytes that nobody can guess.
fn random(count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
