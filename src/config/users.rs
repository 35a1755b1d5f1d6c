//! `users`: who may log in to a pool as what, and what each may do. Passwords become digests as soon as they are read; no
//! message shows one.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::auth::secret;
use super::fields::{Fields, closest};
use super::report::{Span, quoted};
use super::value::Value;
use super::yaml::{Kind, Node};
use crate::protocol::redis::acl::{self, BadRule, Permissions, Rules};
use crate::protocol::redis::commands::CATEGORY_NAMES;

/// Whoever gives no name is this user.
pub const DEFAULT_USER: &str = "default";

/// Bytes of a password that a client may offer: what a password file may hold.
const LONGEST_PASSWORD: usize = 64 * 1024;

const NAME_ALLOWED: &str = "allowed: letters, digits and signs of ASCII, without spaces";
const PASSWORD_ALLOWED: &str = "allowed: password, password_hash, password_file, password_env, or `nopass: true`";
const HASH_ALLOWED: &str = "allowed: the SHA-256 of the password, 64 hexadecimal digits";
const RULES_ALLOWED: &str = "allowed: rules of a Redis ACL, such as \"~app:* +@read\"";

/// One user of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Whether anybody may log in as this user.
    pub on: bool,
    /// Any password will do.
    pub nopass: bool,
    /// Each of them will do.
    pub passwords: Vec<PasswordHash>,
    /// As they stand in the file, with single spaces.
    pub rules: String,
    pub permissions: Permissions,
    /// What the user's scripts do is not asked about.
    pub trust_scripts: bool,
}

/// The SHA-256 of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash([u8; 32]);

impl PasswordHash {
    pub fn of(password: &[u8]) -> Self {
        Self(Sha256::digest(password).into())
    }

    /// 64 hexadecimal digits; a `#` may stand before them, as in Redis.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').unwrap_or(text);
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(hash))
    }

    /// As ACL GETUSER shows it.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// It takes as long for a near miss as for any other.
    fn is(&self, given: &Self) -> bool {
        let differences = self.0.iter().zip(given.0).fold(0, |sum, (own, given)| sum | (own ^ given));
        std::hint::black_box(differences) == 0
    }
}

/// Nobody needs to see it, and a short password could be found by it.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl User {
    /// Whether a client with this password may be this user.
    pub fn accepts(&self, password: &[u8]) -> bool {
        if !self.on || password.len() > LONGEST_PASSWORD {
            return false;
        }
        let given = PasswordHash::of(password);
        // All are looked at, so that the time says nothing of which it was.
        self.passwords.iter().fold(self.nopass, |known, own| known | own.is(&given))
    }
}

/// Reads `users: {name: {…}, …}`; `None` if it is no mapping, which has been reported then.
pub(super) fn users(value: Value<'_>, base: &Path) -> Option<Vec<Arc<User>>> {
    let fields = Fields::of(value.node, "'users'", value.context)?;
    let mut users = Vec::new();
    for (name, node) in fields.all() {
        match name.scalar() {
            Some(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                users.extend(user(text, node, value, base).map(Arc::new));
            }
            _ => {
                let found = name.describe();
                value.context.report.error(name.at, format!("bad name of a user: {found}; {NAME_ALLOWED}"));
            }
        }
    }
    Some(users)
}

fn user(name: &str, node: &Node, value: Value<'_>, base: &Path) -> Option<User> {
    let report = value.context.report;
    let what = format!("user {}", quoted(name));
    let mut fields = Fields::of(node, &what, value.context)?;
    let nopass = fields.read("nopass", false, |v| v.boolean());
    let given: Vec<Value<'_>> =
        ["password", "password_file", "password_env"].into_iter().filter_map(|key| fields.value(key)).collect();
    let hash = fields.value("password_hash");
    let trust_scripts = fields.read("trust_scripts", false, |v| v.boolean());
    let rules = fields.value("rules");
    fields.finish(false);

    let has_password = !given.is_empty() || hash.is_some();
    let mut passwords: Vec<_> =
        given.into_iter().filter_map(|v| secret(v, base)).map(|s| PasswordHash::of(s.0.as_bytes())).collect();
    passwords.extend(hash.and_then(password_hash));
    let Some(rules) = rules else {
        report.error(node.at, format!("missing key in {what}: 'rules'; {RULES_ALLOWED}"));
        return None;
    };
    let (text, Rules { on, mut permissions }) = read_rules(rules)?;
    if nopass && has_password {
        report.error(node.at, format!("both a password and 'nopass' in {what}; allowed: one of them"));
    } else if on && !nopass && !has_password {
        report.error(node.at, format!("no password in {what}; {PASSWORD_ALLOWED}, or `off` among the rules"));
    }
    if trust_scripts {
        permissions.trust_scripts();
    }
    Some(User { name: name.to_owned(), on, nopass, passwords, rules: text, permissions, trust_scripts })
}

fn password_hash(value: Value<'_>) -> Option<PasswordHash> {
    let report = value.context.report;
    report.secret(value.node.at);
    let hash = value.node.scalar().and_then(PasswordHash::parse);
    if hash.is_none() {
        report.error(value.node.at, format!("bad 'password_hash'; {HASH_ALLOWED}"));
    }
    hash
}

/// The rules as text and what they mean.
fn read_rules(value: Value<'_>) -> Option<(String, Rules)> {
    let text = value.text(RULES_ALLOWED)?;
    match acl::parse(text) {
        Ok(rules) => Some((text.split_ascii_whitespace().collect::<Vec<_>>().join(" "), rules)),
        Err(wrong) => {
            for wrong in wrong {
                value.context.report.error(place(value.node, text, wrong.at), describe(&wrong.why));
            }
            None
        }
    }
}

/// Where the word that begins at this byte of the text stands, if the text stands in the file as it is; otherwise where
/// all of it does.
fn place(node: &Node, text: &str, at: usize) -> Span {
    let Kind::Scalar { plain, multiline, .. } = &node.kind else { return node.at };
    let quote = usize::from(!plain);
    if *multiline || node.at.end.saturating_sub(node.at.start) != text.len() + 2 * quote {
        return node.at;
    }
    let word = text[at..].split_ascii_whitespace().next().unwrap_or_default();
    let start = node.at.start + quote + at;
    let column = node.at.column + quote + text[..at].chars().count();
    Span { line: node.at.line, column, start, end: start + word.len() }
}

/// With what was probably meant.
fn describe(why: &BadRule) -> String {
    let hint = |name: &str, known: &[&str], sign: &str| match closest_word(name, known) {
        Some(near) => format!("did you mean '{sign}{near}'? "),
        None => String::new(),
    };
    match why {
        BadRule::Command(name) => {
            let known: Vec<&str> = acl::command_names().collect();
            let hint = hint(name, &known, "");
            format!("{why}; {hint}allowed: a command (+get), a subcommand (+config|get), a category (+@read)")
        }
        BadRule::Category(name) => {
            let known: Vec<&str> = CATEGORY_NAMES.iter().map(|category| &category[1..]).collect();
            let all = CATEGORY_NAMES.join(", ");
            format!("{why}; {}allowed: @all, {all}", hint(name, &known, "@"))
        }
        _ => why.to_string(),
    }
}

/// [`closest`] for names that may have `-` and `|` in them.
fn closest_word<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let spelled: Vec<String> = known.iter().map(|known| known.replace('-', "_")).collect();
    let spelled: Vec<&str> = spelled.iter().map(String::as_str).collect();
    let near = closest(name, &spelled)?;
    spelled.iter().position(|known| *known == near).map(|at| known[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn pool(users: &str) -> String {
        format!("pools:\n  p:\n    listen: h:1\n    protocol: redis\n    servers: ['a:1']\n    users:\n{users}")
    }

    fn read(users: &str) -> Vec<Arc<User>> {
        parse("x.yml", &pool(users)).unwrap_or_else(|e| panic!("{e}")).settings.pools.remove(0).users.unwrap()
    }

    fn errors(users: &str) -> String {
        let errors = parse("x.yml", &pool(users)).expect_err("wrong").to_string();
        assert!(!errors.contains("hunter2"), "{errors}");
        errors
    }

    #[test]
    fn a_user_has_passwords_and_rules() {
        let hash = PasswordHash::of(b"hunter2").hex();
        let users = read(&format!(
            "      app: {{password: one, password_hash: '#{hash}', rules: '~app:*   +@read'}}\n\
             \x20     anyone: {{nopass: true, rules: +ping}}\n      default: {{rules: off}}\n"
        ));
        let [app, anyone, default] = &users[..] else { panic!("{users:?}") };
        assert!(app.accepts(b"one") && app.accepts(b"hunter2") && !app.accepts(b"on") && !app.accepts(b""));
        assert!(anyone.accepts(b"") && anyone.accepts(b"x") && !default.accepts(b""));
        assert_eq!(app.rules, "~app:* +@read");
        assert!(!app.accepts(&vec![b'x'; LONGEST_PASSWORD + 1]));
        assert!(!format!("{users:?}").contains(&hash));
    }

    #[test]
    fn a_wrong_rule_is_named_with_its_place_and_what_was_meant() {
        let text = errors("      app:\n        password: hunter2\n        rules: \"~app:* +gett -@dangerus\"\n");
        assert!(text.contains("x.yml:9:24: unknown command 'gett'; did you mean 'get'?"), "{text}");
        assert!(text.contains("x.yml:9:30: unknown category '@dangerus'; did you mean '@dangerous'?"), "{text}");
        let text = errors("      app: {nopass: true, rules: bogus}\n");
        assert!(text.contains("x.yml:7:34: unknown rule 'bogus'; allowed: on, off,"), "{text}");
    }

    #[test]
    fn what_else_may_be_wrong() {
        for (wrong, why) in [
            ("      app: {rules: +get}\n", "no password in user 'app'; allowed: password, password_hash,"),
            ("      app: {password: hunter2}\n", "missing key in user 'app': 'rules'; allowed:"),
            ("      app: {password: hunter2, nopass: true, rules: +get}\n", "both a password and 'nopass'"),
            ("      app: {password_hash: hunter2, rules: +get}\n", "bad 'password_hash'; allowed: the SHA-256"),
            ("      app: {password_file: none, rules: +get}\n", "no password in the file 'none'"),
            ("      app: {nopass: true, rules: '>hunter2 +get'}\n", "a password among the rules; allowed: the keys"),
            ("      app: {nopass: true, rules: '(+get)'}\n", "begins a selector"),
            ("      'a b': {nopass: true, rules: +get}\n", "bad name of a user: 'a b'; allowed:"),
            ("      app: {nopass: true, bogus: 1, rules: +get}\n", "unknown key in user 'app': 'bogus'; allowed:"),
            ("      app: [x]\n", "user 'app' is no mapping: a list"),
        ] {
            let text = errors(wrong);
            assert!(text.contains(why), "{wrong}{text}");
        }
    }
}
