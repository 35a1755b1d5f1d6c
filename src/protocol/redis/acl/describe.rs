//! Permissions in Redis's words: as ACL LIST and ACL GETUSER show them, and in errors.

use super::{Denied, Permissions, READ, WRITE};
use crate::protocol::redis::commands::Command;

impl Permissions {
    /// `-@all +get`: means the same as the rules that were given.
    pub fn commands(&self) -> String {
        let mut text = if self.others { "+@all" } else { "-@all" }.to_owned();
        for rule in &self.rules {
            text.push(' ');
            text.push_str(rule);
        }
        text
    }

    /// `~*`, or `~app:* %R~shared:*`; empty: none.
    pub fn keys(&self) -> String {
        if self.all_keys {
            return "~*".to_owned();
        }
        let one = |pattern: &super::KeyPattern| match pattern.access {
            READ => format!("%R~{}", pattern.glob),
            WRITE => format!("%W~{}", pattern.glob),
            _ => format!("~{}", pattern.glob),
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// `&*`, or `&news &chat:*`; empty: none.
    pub fn channels(&self) -> String {
        if self.all_channels {
            return "&*".to_owned();
        }
        self.channels.iter().map(|glob| format!("&{glob}")).collect::<Vec<_>>().join(" ")
    }

    /// All of it as the rules of one line.
    pub fn line(&self) -> String {
        let (keys, channels) = (self.keys(), self.channels());
        // What there is none of has no word but the one for channels, as a user of an old Redis would have them all.
        let keys = if keys.is_empty() { keys } else { keys + " " };
        let reset = if self.all_channels { "" } else { "resetchannels " };
        let channels = if channels.is_empty() { channels } else { channels + " " };
        format!("{keys}{reset}{channels}{}", self.commands())
    }
}

impl Denied {
    /// As a client is told whose request it is. `None`: the request is wrong, whoever sends it.
    pub fn error(self, user: &str, command: &Command) -> Option<String> {
        let name = command.name;
        Some(match self {
            Self::Command => format!("NOPERM User {user} has no permissions to run the '{name}' command"),
            Self::Key(_) => "NOPERM No permissions to access a key".to_owned(),
            Self::Channel(_) => "NOPERM No permissions to access a channel".to_owned(),
            Self::Sort(option) => format!("ERR {option} option of SORT denied due to insufficient ACL permissions."),
            Self::Script => format!(
                "NOPERM User {user} has no permissions to run the '{name}' command: what a script does is not seen by \
                 Outrigger, so only users who may do everything a script can may run one (or with `trust_scripts: true`)"
            ),
            Self::Unclear(_) => return None,
        })
    }

    /// As ACL DRYRUN tells it, naming the key or the channel. `None`: nothing was denied.
    pub fn verbose<'a>(
        self,
        user: &str,
        command: &Command,
        arg: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> Option<Vec<u8>> {
        let about = |index: usize, what: &str| {
            let mut text = format!("User {user} has no permissions to access the '").into_bytes();
            text.extend_from_slice(arg(index).unwrap_or_default());
            text.extend_from_slice(format!("' {what}").as_bytes());
            text
        };
        match self {
            Self::Key(index) => Some(about(index, "key")),
            Self::Channel(index) => Some(about(index, "channel")),
            Self::Unclear(_) => None,
            Self::Command | Self::Sort(_) | Self::Script => {
                let text = self.error(user, command)?;
                let text = text.split_once(' ').map_or(&text[..], |(_, text)| text);
                Some(text.as_bytes().to_vec())
            }
        }
    }
}
