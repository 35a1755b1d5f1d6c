//! Secrets. `redis_auth`: the password as text, as in twemproxy, or a mapping with a user name and a password that may also
//! come from a file or from the environment; `admin.token`, which may come from there as well. No message shows any of it.

use std::path::Path;

use super::Dialect;
use super::fields::Fields;
use super::report::quoted;
use super::settings::{Credentials, Secret};
use super::value::Value;
use super::yaml::Kind;

/// A password file that is larger than this is some other file.
const MAX_PASSWORD_FILE: u64 = 64 * 1024;

/// What the value means; `None` if it is wrong, which has been reported then.
pub(super) fn credentials(value: Value<'_>, base: &Path) -> Option<Credentials> {
    if value.context.dialect == Dialect::Outrigger && matches!(value.node.kind, Kind::Mapping(_)) {
        return from_mapping(value, base);
    }
    let allowed = match value.context.dialect {
        Dialect::Outrigger => {
            "allowed: a password, or a mapping with username and one of password, password_file, password_env"
        }
        Dialect::Twemproxy => "allowed: a password",
    };
    let password = plain(value, allowed)?;
    Some(Credentials { username: None, password: Secret(password) })
}

fn from_mapping(value: Value<'_>, base: &Path) -> Option<Credentials> {
    let report = value.context.report;
    let mut fields = Fields::of(value.node, "'redis_auth'", value.context)?;
    let username =
        fields.read("username", None, |v| v.text("allowed: the name of an ACL user").map(|t| Some(t.to_owned())));
    let text = fields.value("password");
    let file = fields.value("password_file");
    let env = fields.value("password_env");
    fields.finish(true);

    let given: Vec<Value<'_>> = [text, file, env].into_iter().flatten().collect();
    let [one] = given.as_slice() else {
        let wrong = if given.is_empty() { "no password" } else { "more than one password" };
        let allowed = "allowed: one of password, password_file, password_env";
        report.error(value.node.at, format!("{wrong} in 'redis_auth'; {allowed}"));
        return None;
    };
    Some(Credentials { username, password: secret(*one, base)? })
}

/// `admin.token`, or one of the two keys that say where it is.
pub(super) fn token(fields: &mut Fields<'_>, base: &Path) -> Option<Secret> {
    let keys = ["token", "token_file", "token_env"];
    let given: Vec<Value<'_>> = keys.into_iter().filter_map(|key| fields.value(key)).collect();
    if let [_, second, ..] = given.as_slice() {
        second
            .context
            .report
            .error(second.node.at, "more than one token in 'admin'; allowed: one of token, token_file, token_env");
    }
    let token = secret(*given.first()?, base)?;
    // It is sent as a word of a header.
    if !token.0.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "bad token in 'admin'; allowed: letters, digits and signs of ASCII, without spaces";
        given[0].context.report.error(given[0].node.at, message);
        return None;
    }
    Some(token)
}

/// The secret itself, or where it is: by the end of its key.
pub(super) fn secret(value: Value<'_>, base: &Path) -> Option<Secret> {
    let secret = match value.key {
        key if key.ends_with("_file") => from_file(value, base)?,
        key if key.ends_with("_env") => from_environment(value)?,
        _ => plain(value, "allowed: text")?,
    };
    Some(Secret(secret))
}

/// The password stands in the configuration itself.
fn plain(value: Value<'_>, allowed: &str) -> Option<String> {
    value.context.report.secret(value.node.at);
    value.text(allowed).map(str::to_owned)
}

impl Value<'_> {
    /// What it is a key of.
    fn what(&self) -> &'static str {
        if self.key.starts_with("token") { "token" } else { "password" }
    }
}

fn from_file(value: Value<'_>, base: &Path) -> Option<String> {
    let what = value.what();
    let name = value.text(&format!("allowed: the name of a file that holds the {what}"))?;
    let (path, report) = (base.join(name), value.context.report);
    let password = content(&path);
    report.input(&path, &password);
    let refuse = |reason| report.error(value.node.at, format!("no {what} in the file {}: {reason}", quoted(name)));
    password.map_err(refuse).ok()
}

/// The content of a file, without the line end that editors add, or why it is no password.
fn content(path: &Path) -> Result<String, String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("not a regular file".to_owned());
    }
    if meta.len() > MAX_PASSWORD_FILE {
        return Err("larger than 64 KiB".to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err("it is empty".to_owned()),
        password => Ok(password.to_owned()),
    }
}

fn from_environment(value: Value<'_>) -> Option<String> {
    let name = value.text("allowed: the name of an environment variable")?;
    // `std::env::var` panics on none of these, but they name no variable.
    let known = if name.contains(['=', '\0']) { None } else { std::env::var(name).ok() };
    let password = known.filter(|password| !password.is_empty());
    if password.is_none() {
        let (what, name) = (value.what(), quoted(name));
        let message = format!("no {what} in the environment variable {name}: it is not set, empty or no UTF-8");
        value.context.report.error(value.node.at, message);
    }
    password
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn a_token_that_no_header_can_hold_is_refused() {
        for (bad, why) in [
            ("''", "bad value of 'token': nothing"),
            ("'two words'", "bad token in 'admin'; allowed:"),
            ("naïve", "bad token in 'admin'; allowed:"),
        ] {
            let text = format!("admin: {{token: {bad}}}\npools:\n  a: {{listen: 'h:1', servers: ['h:2']}}\n");
            let errors = parse("test", &text).expect_err("a bad token").to_string();
            assert!(errors.contains("test:1:16") && errors.contains(why), "{errors}");
            assert!(!errors.contains("words") && !errors.contains("naïve"), "{errors}");
        }
    }
}
