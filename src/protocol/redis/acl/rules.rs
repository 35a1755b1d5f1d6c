//! The words of a rule line, one after the other, to what they allow.

use thiserror::Error;

use super::{Access, KeyPattern, Permissions, READ, WRITE, command_named, each, number};
use crate::protocol::redis::commands::{CATEGORY_NAMES, Categories, Command, NOSCRIPT, lookup};

/// What a line of rules says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether anybody may log in as this user.
    pub on: bool,
    pub permissions: Permissions,
}

/// A word that is no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Byte offset of the word in the line.
    pub at: usize,
    pub why: BadRule,
}

/// Why a word is no rule. None of them repeats what may be a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadRule {
    #[error("unknown command '{0}'")]
    Command(String),
    #[error("unknown category '@{0}'")]
    Category(String),
    #[error("a rule for an argument of a subcommand, '{0}'; allowed: +command, +command|subcommand")]
    Argument(String),
    #[error("'{0}' after all keys were allowed has no effect; allowed: `resetkeys` before it, or no `~*`")]
    KeysAfterAll(String),
    #[error("'{0}' after all channels were allowed has no effect; allowed: `resetchannels` before it, or no `&*`")]
    ChannelsAfterAll(String),
    #[error("no access in '{0}'; allowed: %R~pattern, %W~pattern, %RW~pattern")]
    Access(String),
    #[error("a password among the rules; allowed: the keys password, password_hash, password_file, nopass")]
    Password,
    #[error("'(' begins a selector, which Outrigger does not have; allowed: another user with these rules")]
    Selector,
    #[error(
        "unknown rule '{0}'; allowed: on, off, +command, -command, +@category, -@category, ~keys, %R~keys, %W~keys, \
         &channels, allcommands, nocommands, allkeys, resetkeys, allchannels, resetchannels"
    )]
    Unknown(String),
}

/// Takes the rules in their order. A user without any may log in, and do nothing.
///
/// # Errors
/// With every word that is no rule.
pub fn parse(line: &str) -> Result<Rules, Vec<Wrong>> {
    let mut rules = Rules { on: true, permissions: Permissions::default() };
    let mut wrong = Vec::new();
    for word in line.split_ascii_whitespace() {
        let at = word.as_ptr().addr() - line.as_ptr().addr();
        if let Err(why) = rules.take(word) {
            wrong.push(Wrong { at, why });
        }
    }
    rules.permissions.finish();
    if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
}

impl Rules {
    fn take(&mut self, word: &str) -> Result<(), BadRule> {
        let permissions = &mut self.permissions;
        let lower = word.to_ascii_lowercase();
        match &lower[..] {
            "on" => self.on = true,
            "off" => self.on = false,
            "allcommands" | "+@all" => permissions.give_all(true),
            "nocommands" | "-@all" => permissions.give_all(false),
            "allkeys" | "~*" => (permissions.all_keys, permissions.keys) = (true, Vec::new()),
            "resetkeys" => (permissions.all_keys, permissions.keys) = (false, Vec::new()),
            "allchannels" | "&*" => (permissions.all_channels, permissions.channels) = (true, Vec::new()),
            "resetchannels" => (permissions.all_channels, permissions.channels) = (false, Vec::new()),
            "reset" => *self = Self { on: false, permissions: Permissions::default() },
            // What is restored is the servers' own affair; and there are no selectors.
            "sanitize-payload" | "skip-sanitize-payload" | "clearselectors" => {}
            "nopass" | "resetpass" => return Err(BadRule::Password),
            _ => return permissions.take(word, &lower),
        }
        Ok(())
    }
}

impl Permissions {
    /// A rule that begins with a sign.
    fn take(&mut self, word: &str, lower: &str) -> Result<(), BadRule> {
        match word.as_bytes() {
            [sign @ (b'+' | b'-'), b'@', ..] => self.give_category(*sign == b'+', &lower[2..]),
            [sign @ (b'+' | b'-'), _, ..] => self.give(*sign == b'+', &lower[1..]),
            [b'~', ..] => self.add_keys(word, READ | WRITE, &word[1..]),
            [b'%', ..] => {
                let (access, glob) = word[1..].split_once('~').ok_or_else(|| BadRule::Access(word.to_owned()))?;
                let access = match &access.to_ascii_uppercase()[..] {
                    "R" => READ,
                    "W" => WRITE,
                    "RW" | "WR" => READ | WRITE,
                    _ => return Err(BadRule::Access(word.to_owned())),
                };
                self.add_keys(word, access, glob)
            }
            [b'&', ..] if self.all_channels => Err(BadRule::ChannelsAfterAll(word.to_owned())),
            [b'&', glob @ ..] => {
                if !self.channels.iter().any(|known| known.as_bytes() == glob) {
                    self.channels.push(word[1..].to_owned());
                }
                Ok(())
            }
            [b'>' | b'<' | b'#' | b'!', ..] => Err(BadRule::Password),
            [b'(' | b')', ..] => Err(BadRule::Selector),
            _ => Err(BadRule::Unknown(word.to_owned())),
        }
    }

    fn add_keys(&mut self, word: &str, access: Access, glob: &str) -> Result<(), BadRule> {
        if self.all_keys {
            return Err(BadRule::KeysAfterAll(word.to_owned()));
        }
        match self.keys.iter_mut().find(|pattern| pattern.glob == glob) {
            Some(known) => known.access |= access,
            None => self.keys.push(KeyPattern { access, glob: glob.to_owned() }),
        }
        Ok(())
    }

    /// Gives or takes away all commands, those included that the table does not have.
    fn give_all(&mut self, allow: bool) {
        self.commands.fill(if allow { u64::MAX } else { 0 });
        (self.all_commands, self.others) = (allow, allow);
        self.first_arguments.clear();
        self.rules.clear();
    }

    fn give_category(&mut self, allow: bool, name: &str) -> Result<(), BadRule> {
        let bit = CATEGORY_NAMES.iter().position(|known| known[1..] == *name);
        let wanted: Categories = 1 << bit.ok_or_else(|| BadRule::Category(name.to_owned()))?;
        each().filter(|command| command.categories() & wanted != 0).for_each(|command| self.set(allow, command));
        self.note(allow, &format!("@{name}"));
        Ok(())
    }

    /// `+get`, `+config|get`, and the first argument of a command without subcommands: `+select|0`.
    fn give(&mut self, allow: bool, name: &str) -> Result<(), BadRule> {
        let command = match command_named(name.as_bytes()) {
            Some(command) => command,
            None => return self.give_argument(allow, name),
        };
        self.set(allow, command);
        self.note(allow, name);
        Ok(())
    }

    fn give_argument(&mut self, allow: bool, name: &str) -> Result<(), BadRule> {
        let unknown = || BadRule::Command(name.to_owned());
        let (container, argument) = name.split_once('|').filter(|_| allow).ok_or_else(unknown)?;
        let command = lookup(container.as_bytes()).ok_or_else(unknown)?;
        if !command.subcommands.is_empty() || argument.is_empty() {
            let is_of_subcommand =
                argument.split_once('|').is_some_and(|(name, _)| command.subcommand(name.as_bytes()).is_some());
            return Err(if is_of_subcommand { BadRule::Argument(name.to_owned()) } else { unknown() });
        }
        let Some(number) = number(command) else { return Err(unknown()) };
        let rule = (number, argument.to_owned());
        if !self.first_arguments.contains(&rule) {
            self.first_arguments.push(rule);
        }
        self.note(allow, name);
        Ok(())
    }

    /// A command with all its subcommands.
    fn set(&mut self, allow: bool, command: &Command) {
        self.all_commands &= allow;
        for command in std::iter::once(command).chain(command.subcommands) {
            let Some(number) = number(command) else { continue };
            let bit = 1 << (number % 64);
            match allow {
                true => self.commands[number / 64] |= bit,
                false => self.commands[number / 64] &= !bit,
            }
            self.first_arguments.retain(|(of, _)| *of != number);
        }
    }

    /// Remembers a rule, in place of those that it makes meaningless: the same one, and those about its subcommands.
    fn note(&mut self, allow: bool, name: &str) {
        self.rules.retain(|known| {
            known[1..].strip_prefix(name).is_none_or(|rest| !(rest.is_empty() || rest.starts_with('|')))
        });
        self.rules.push(format!("{}{name}", if allow { '+' } else { '-' }));
    }

    /// When all rules were taken.
    fn finish(&mut self) {
        let may_run = |command: &'static Command| number(command).is_some_and(|number| self.has(number));
        // A script cannot call the others, or nothing comes of it.
        let matters = |command: &&'static Command| {
            command.flags & NOSCRIPT == 0 && command.subcommands.is_empty() && command.own_name() != "help"
        };
        self.scripts = self.all_keys && self.all_channels && self.others && each().filter(matters).all(may_run);
    }
}
