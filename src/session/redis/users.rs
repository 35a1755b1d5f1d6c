//! Who the client has logged in as, and what it may do.

use std::sync::Arc;

use super::super::Step;
use super::super::clients::Card;
use super::super::meter::Verdict;
use super::{Request, State};
use crate::config::{Credentials, DEFAULT_USER, PoolSettings, User};
use crate::protocol::redis::acl::log::Reason;
use crate::protocol::redis::commands::{Command, ProxyCommand, Route};
use crate::protocol::redis::{acl, errors, reply};
use crate::telemetry::Trouble;

/// Whom a client has logged in as.
#[derive(Default)]
pub(super) struct Who {
    /// `None`: nobody yet, or the one who may do everything: [`free_user`].
    user: Option<Arc<User>>,
    /// There is something that the user may not do.
    pub(super) restricted: bool,
    /// What the user was last looked up in.
    settings: Option<Arc<PoolSettings>>,
}

impl Who {
    /// The name of one of the pool's users; empty: the one who may do everything, or nobody yet.
    pub(super) fn name(&self) -> &str {
        self.user.as_ref().map_or("", |user| &user.name)
    }

    /// What it may do, if that is not everything.
    pub(super) fn rights(&self) -> Option<&Arc<User>> {
        self.user.as_ref().filter(|_| self.restricted)
    }

    /// Of a session of another process: somebody of this name, who is looked up before the first request.
    pub(super) fn named(name: &str) -> Self {
        let nobody = || User {
            name: name.to_owned(),
            on: false,
            nopass: false,
            passwords: Vec::new(),
            rules: String::new(),
            permissions: acl::Permissions::default(),
            trust_scripts: false,
        };
        Self { user: (!name.is_empty()).then(|| Arc::new(nobody())), restricted: true, settings: None }
    }

    fn become_one(&mut self, user: Option<Arc<User>>, card: &Card) {
        self.restricted = user.as_ref().is_some_and(|user| !user.permissions.are_all());
        card.told().user = user.clone();
        self.user = user;
    }
}

/// What a client may say before it has given the password; the same as in Redis.
pub(super) fn is_allowed_before_auth(command: &Command) -> bool {
    use ProxyCommand::{Auth, Hello, Quit, Reset};
    matches!(command.route, Route::Proxy(Auth | Hello | Quit | Reset))
}

/// The user who may do everything, and has the password of `redis_auth`, if there is one.
pub(super) fn free_user(settings: &PoolSettings) -> &str {
    settings.redis_auth.as_ref().and_then(|auth| auth.username.as_deref()).unwrap_or(DEFAULT_USER)
}

pub(super) fn find<'a>(settings: &'a PoolSettings, name: &[u8]) -> Option<&'a Arc<User>> {
    settings.users.iter().flatten().find(|user| user.name.as_bytes() == name)
}

/// Nobody needs to log in, and there is nothing to log in as.
fn is_open(settings: &PoolSettings) -> bool {
    settings.redis_auth.is_none() && settings.users.is_none()
}

impl State {
    /// The client is as it comes: the default user if that needs no password, or nobody.
    pub(super) fn log_out(&mut self, settings: &Arc<PoolSettings>, card: &Card) {
        let default = find(settings, DEFAULT_USER.as_bytes()).filter(|user| user.on && user.nopass);
        self.authenticated = default.is_some() || is_open(settings);
        self.who.become_one(default.cloned(), card);
        self.who.settings = Some(settings.clone());
    }

    /// Goes by what the settings say of the user now. `false`: nothing, there is no such user any more. One that was let in
    /// stays in when another password comes, or nobody may log in as this user any more, as with Redis.
    pub(in crate::session) fn follow(&mut self, settings: &Arc<PoolSettings>, card: &Card) -> bool {
        if self.who.settings.as_ref().is_some_and(|known| Arc::ptr_eq(known, settings)) {
            return true;
        }
        if !self.authenticated {
            self.log_out(settings, card);
            return true;
        }
        let before = self.who.settings.replace(settings.clone());
        let name = match &self.who.user {
            Some(user) => user.name.clone(),
            None => free_user(before.as_ref().unwrap_or(settings)).to_owned(),
        };
        let now = find(settings, name.as_bytes());
        if now.is_none() && self.who.user.is_some() {
            // It stays unknown, however often one looks.
            self.who.settings = before;
            return false;
        }
        self.who.become_one(now.cloned(), card);
        true
    }
}

impl Request<'_, '_> {
    /// It has given the password, or there is none, perhaps not any more. One that was let in stays in when another password
    /// comes, as with Redis.
    pub(super) fn is_authenticated(&self) -> bool {
        self.state.authenticated || is_open(&self.pool.settings)
    }

    /// `AUTH password` and `AUTH user password`.
    pub(super) fn auth(&mut self) -> Step {
        let (args, bytes) = (self.args, self.input.bytes());
        let arg = |index| args.get(bytes, index).unwrap_or_default().to_vec();
        let (user, password) = match args.len() {
            2 => (None, arg(1)),
            3 => (Some(arg(1)), arg(2)),
            _ => return self.say(errors::SYNTAX),
        };
        let settings = &self.pool.settings;
        let any_will_do = find(settings, DEFAULT_USER.as_bytes()).map_or(is_open(settings), |user| user.nopass);
        if user.is_none() && any_will_do {
            return self.say(errors::AUTH_WITHOUT_PASSWORD);
        }
        if !self.authenticate(user.as_deref(), &password) {
            return self.deny(Trouble::Unauthenticated, errors::WRONGPASS);
        }
        self.say(reply::OK)
    }

    /// Lets the client in if these are the user and the password; without a password any does for the default user, like
    /// with a Redis that has none.
    pub(super) fn authenticate(&mut self, user: Option<&[u8]>, password: &[u8]) -> bool {
        let settings = &self.pool.settings;
        let found = find(settings, user.unwrap_or(DEFAULT_USER.as_bytes()));
        let fits = match (found, &settings.redis_auth) {
            (Some(found), _) => found.accepts(password),
            (None, Some(wanted)) => accepts(wanted, user, password),
            (None, None) => settings.users.is_none() && user.is_none_or(|user| user == DEFAULT_USER.as_bytes()),
        };
        if fits {
            self.state.authenticated = true;
            self.state.who.become_one(found.cloned(), &self.session.card);
        } else {
            self.note_denial(Reason::Auth, self.arg(0), user.unwrap_or(DEFAULT_USER.as_bytes()));
        }
        fits
    }

    /// The name of the user that the client has logged in as.
    pub(super) fn user_name(&self) -> &str {
        self.state.who.user.as_ref().map_or_else(|| free_user(&self.pool.settings), |user| &user.name)
    }

    /// Refuses the request if the user may not make it.
    #[inline]
    pub(super) fn forbid(&mut self, command: &'static Command) -> Option<Step> {
        if !self.state.who.restricted {
            return None;
        }
        let user = self.state.who.user.clone()?;
        let (args, bytes) = (self.args, self.input.bytes());
        let denied = user.permissions.check(command, args.len(), |i| args.get(bytes, i)).err()?;
        let noted = match denied {
            acl::Denied::Command | acl::Denied::Script => Some((Reason::Command, command.name.as_bytes())),
            acl::Denied::Key(at) => Some((Reason::Key, self.arg(at))),
            acl::Denied::Channel(at) => Some((Reason::Channel, self.arg(at))),
            // Redis keeps none of these.
            acl::Denied::Sort(_) | acl::Denied::Unclear(_) => None,
        };
        if let Some((reason, object)) = noted {
            self.note_denial(reason, object, user.name.as_bytes());
        }
        self.spoil();
        Some(match (denied.error(&user.name, command), denied) {
            (Some(text), _) => {
                let verdict = Verdict::Rejected(command.class(), Trouble::Forbidden);
                self.answer_as(verdict, |out, _| reply::write_error(out, &text))
            }
            (None, acl::Denied::Unclear(error)) => {
                self.reject(command, |out, _| errors::key_error(out, command, error))
            }
            (None, _) => return None,
        })
    }
}

fn accepts(wanted: &Credentials, user: Option<&[u8]>, password: &[u8]) -> bool {
    let name = wanted.username.as_deref().unwrap_or(DEFAULT_USER);
    let known = user.unwrap_or(DEFAULT_USER.as_bytes()) == name.as_bytes();
    wanted.password.is(password) & known
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
