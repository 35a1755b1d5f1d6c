//! Keeps secrets out of excerpts. Works on lines, because a file with a syntax error has no tree, and hides rather too
//! much than too little: a misspelled `redis_auth` holds a password too.

use super::fields::closest;

/// Words that hold a secret, in this spelling or a near one.
const SECRET_KEYS: [&str; 3] = ["redis_auth", "password", "token"];
/// Words that look like those but name where the secret is.
const HARMLESS_KEYS: [&str; 6] = ["username", "password_file", "password_env", "token_file", "token_env", "nopass"];
/// Parts of words that hold a secret wherever a colon follows.
const SECRET_PARTS: [&str; 4] = ["auth", "pass", "secret", "token"];

/// The front of `line`, which starts at `line_start`, that holds no secret: all of it, unless it has a key for one, or is
/// nested under a line that has.
pub(super) fn without_secret<'t>(text: &'t str, line: &'t str, line_start: usize) -> &'t str {
    let ends = [end_of_secret_key(line), end_of_password_sign(line)];
    if let Some(end) = ends.into_iter().flatten().min() {
        return &line[..end];
    }
    let indent = |l: &str| l.len() - l.trim_start().len();
    let mut depth = indent(line);
    for above in text[..line_start].lines().rev().filter(|l| !l.trim().is_empty()) {
        if depth == 0 {
            break;
        }
        if indent(above) < depth {
            depth = indent(above);
            let nested = words(above).any(|(_, word)| is_secret_key(word));
            let harmless = words(line).next().is_some_and(|(_, word)| HARMLESS_KEYS.contains(&word));
            if nested && !harmless {
                return &line[..indent(line)];
            }
        }
    }
    line
}

/// Where the key of a secret ends in a line, its colon included.
fn end_of_secret_key(line: &str) -> Option<usize> {
    let (start, word) = words(line).find(|(start, word)| {
        let colon = line[start + word.len()..].trim_start_matches(['"', '\'', ' ']).starts_with(':');
        is_secret_key(word) || colon && !HARMLESS_KEYS.contains(word) && SECRET_PARTS.iter().any(|p| word.contains(p))
    })?;
    let end = start + word.len();
    let colon = line[end..].find(':').map_or(0, |i| i + 1);
    Some(end + colon)
}

/// Where the sign ends that makes a word of a rule line a password, as in Redis: `>secret`.
fn end_of_password_sign(line: &str) -> Option<usize> {
    let before = |at: usize| line[..at].ends_with([' ', '"', '\'']);
    let after = |at: usize| line[at + 1..].starts_with(|c: char| !c.is_whitespace());
    line.match_indices(['>', '<']).find(|(at, _)| before(*at) && after(*at)).map(|(at, _)| at + 1)
}

fn is_secret_key(word: &str) -> bool {
    !HARMLESS_KEYS.contains(&word) && closest(word, &SECRET_KEYS).is_some()
}

/// The words of a line that may be keys, each with its place.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let of_key = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + line[rest..].find(of_key)?;
        let length = line[start..].find(|c| !of_key(c)).unwrap_or(line.len() - start);
        rest = start + length;
        Some((start, &line[start..rest]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of the last line.
    fn shown(text: &str) -> &str {
        let start = text.rfind('\n').map_or(0, |i| i + 1);
        without_secret(text, &text[start..], start)
    }

    #[test]
    fn what_follows_the_key_of_a_secret_is_hidden() {
        assert_eq!(shown("  redis_auth: hunter2"), "  redis_auth:");
        assert_eq!(shown("  redis_auht: hunter2"), "  redis_auht:");
        assert_eq!(shown("  redis_auth hunter2"), "  redis_auth");
        assert_eq!(shown("  auth: hunter2"), "  auth:");
        assert_eq!(shown("  \"redis-auth\" : hunter2"), "  \"redis-auth\" :");
        assert_eq!(shown("  redis_auth: {username: me, password: hunter2}"), "  redis_auth:");
        assert_eq!(shown("    passwrod: hunter2"), "    passwrod:");
        assert_eq!(shown("  token: hunter2"), "  token:");
        assert_eq!(shown("  rules: '>hunter2 ~*'"), "  rules: '>");
        assert_eq!(shown("  rules: +get <hunter2"), "  rules: +get <");
        assert_eq!(shown("  admin_token: hunter2"), "  admin_token:");
    }

    #[test]
    fn lines_below_the_key_are_hidden() {
        assert_eq!(shown("  redis_auth:\n    hunter2"), "    ");
        assert_eq!(shown("  redis_auth:\n    password: |\n\n      hunter2\n      more"), "      ");
        assert_eq!(shown("  redis_auth:\n    user: hunter2"), "    ");
    }

    #[test]
    fn everything_else_is_shown() {
        for line in [
            "  hash: fnv",
            "    - 10.0.0.1:6379:1 auth-1",
            "  redis_auth: x\n  hash: fnv",
            "auth:\n  hash: fnv",
            "  redis_auth:\n    password_file: /run/secrets/redis",
            "  redis_auth:\n    username: me",
            "  token_file: /run/secrets/token",
        ] {
            assert_eq!(shown(line), line.rsplit('\n').next().unwrap_or(""), "{line}");
        }
    }
}
