//! The error replies of the proxy, in Redis's own words wherever Redis has some: client libraries tell errors apart by
//! their text. Each function appends one whole error line; nothing that a client sent can end that line early.

use std::io::Write;

use super::commands::keys::KeyError;
use super::commands::{Command, Group, Refusal};
use super::reply::write_line_text;
use super::request::RequestError;

/// Most bytes of a name or argument that an error repeats, as in Redis.
const REPEATED: usize = 128;

/// Most bytes of a key that an error repeats.
const REPEATED_KEY: usize = 64;

/// Before a client has authenticated.
pub const NOAUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";
/// After AUTH or HELLO with a wrong user or password.
pub const WRONGPASS: &[u8] = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
/// After AUTH with a password alone where none is configured.
pub const AUTH_WITHOUT_PASSWORD: &[u8] = b"-ERR AUTH <password> called without any password configured for the \
    default user. Are you sure your configuration is correct?\r\n";
/// After HELLO with a protocol version that is not offered.
pub const NOPROTO: &[u8] = b"-NOPROTO unsupported protocol version\r\n";
/// After EXEC, when a request since MULTI was refused.
pub const EXECABORT: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
/// After what Redis does not take within MULTI.
pub const NOT_IN_TRANSACTION: &[u8] = b"-ERR Command not allowed inside a transaction\r\n";
/// After arguments that no form of the command has.
pub const SYNTAX: &[u8] = b"-ERR syntax error\r\n";
/// After something else than a number.
pub const NOT_AN_INTEGER: &[u8] = b"-ERR value is not an integer or out of range\r\n";
/// After SELECT of another database than the pool's.
pub const DB_OUT_OF_RANGE: &[u8] = b"-ERR DB index is out of range\r\n";
/// After what only a node of a Redis Cluster does.
pub const NO_CLUSTER: &[u8] = b"-ERR This instance has cluster support disabled\r\n";

/// Redis has no such command, and neither have we.
pub fn unknown_command<'a>(out: &mut Vec<u8>, argc: usize, arg: impl Fn(usize) -> Option<&'a [u8]>) {
    out.extend_from_slice(b"-ERR unknown command '");
    write_line_text(out, as_c_string(arg(0).unwrap_or_default(), REPEATED));
    out.extend_from_slice(b"', with args beginning with: ");
    let start = out.len();
    for index in 1..argc {
        // The quotes and blanks count too.
        let left = REPEATED.saturating_sub(out.len() - start);
        if left == 0 {
            break;
        }
        out.push(b'\'');
        write_line_text(out, as_c_string(arg(index).unwrap_or_default(), left));
        out.extend_from_slice(b"' ");
    }
    out.extend_from_slice(b"\r\n");
}

/// The container has no such subcommand.
pub fn unknown_subcommand(out: &mut Vec<u8>, container: &Command, subcommand: &[u8]) {
    out.extend_from_slice(b"-ERR unknown subcommand '");
    write_line_text(out, as_c_string(subcommand, REPEATED));
    append(out, format_args!("'. Try {} HELP.\r\n", container.name.to_ascii_uppercase()));
}

/// The subcommand exists, but not with these arguments, and finds that out itself.
pub fn subcommand_syntax(out: &mut Vec<u8>, container: &str, subcommand: &[u8]) {
    out.extend_from_slice(b"-ERR unknown subcommand or wrong number of arguments for '");
    write_line_text(out, as_c_string(subcommand, REPEATED));
    append(out, format_args!("'. Try {container} HELP.\r\n"));
}

/// The command exists, but not with that many arguments.
pub fn wrong_arity(out: &mut Vec<u8>, command: &Command) {
    append(out, format_args!("-ERR wrong number of arguments for '{}' command\r\n", command.name));
}

/// What the command is, no server could say.
pub fn not_learnt(out: &mut Vec<u8>, name: &[u8], why: &str, pool: &str) {
    out.extend_from_slice(b"-ERR cannot learn what '");
    write_line_text(out, as_c_string(name, REPEATED));
    out.extend_from_slice(b"' is: ");
    write_line_text(out, why.as_bytes());
    append(out, format_args!("; `commands` of pool {pool} can say\r\n"));
}

/// Redis has the command, the proxy does not offer it.
pub fn refused(out: &mut Vec<u8>, command: &Command, reason: Refusal) {
    // Clients that probe for a cluster know this text.
    if reason == Refusal::Cluster {
        out.extend_from_slice(NO_CLUSTER);
        return;
    }
    not_supported(out, command, "", reason.text());
}

/// Only those may use it whom the pool's settings allow to destroy what others rely on.
pub fn restricted(out: &mut Vec<u8>, command: &Command, pool: &str) {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    append(out, format_args!("-ERR '{name}' is for administrators: pool {pool} has allow_admin_commands: false\r\n"));
}

/// The same of the pool that stands in for this one, which it concerns as well.
pub fn restricted_at_stand_in(out: &mut Vec<u8>, command: &Command, pool: &str, stand_in: &str) {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    append(
        out,
        format_args!(
            "-ERR '{name}' is for administrators, and empties pool {stand_in}, which stands in for {pool}, as well: pool \
             {stand_in} has allow_admin_commands: false\r\n"
        ),
    );
}

/// Redis has the command, and there is a reason of its own why the proxy does not offer it.
pub fn refused_for(out: &mut Vec<u8>, command: &Command, why: &str) {
    not_supported(out, command, "", why);
}

/// `'CLIENT KILL' is not supported by Outrigger: why`.
fn not_supported(out: &mut Vec<u8>, command: &Command, form: &str, why: &str) {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    append(out, format_args!("-ERR '{name}{form}' is not supported by Outrigger: {why}\r\n"));
}

/// The keys of a request are on two servers.
pub fn cross_server(out: &mut Vec<u8>, command: &Command, one: (&[u8], &str), other: (&[u8], &str)) {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    append(out, format_args!("-ERR '{name}' needs all its keys on one server, but "));
    for (index, (key, server)) in [one, other].into_iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"'" } else { b" and '" });
        write_key(out, key);
        out.extend_from_slice(b"' is on ");
        write_line_text(out, server.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// The keys of a transaction are on two servers.
pub fn transaction_apart(out: &mut Vec<u8>, command: &Command, server: &str, pinned: &str) {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    append(out, format_args!("-ERR '{name}' within a transaction needs its keys where those before are: they are on "));
    write_line_text(out, server.as_bytes());
    out.extend_from_slice(b", those before are on ");
    write_line_text(out, pinned.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// After EXEC, when the server of the transaction cannot be reached any more.
pub fn exec_abort(out: &mut Vec<u8>, why: &str) {
    out.extend_from_slice(b"-EXECABORT Transaction discarded because of: ");
    write_line_text(out, why.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A request within a transaction whose connection was lost.
pub fn transaction_lost(out: &mut Vec<u8>, why: &str) {
    out.extend_from_slice(b"-ERR transaction lost: ");
    write_line_text(out, why.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// More was said within MULTI, before a key said which server it is for, than is kept.
pub fn transaction_too_large(out: &mut Vec<u8>, limit: usize) {
    append(out, format_args!("-ERR transaction too large: requests before its first key, limit {limit} bytes\r\n"));
}

/// A command that concerns more than the one server of a transaction.
pub fn refused_in_transaction(out: &mut Vec<u8>, command: &Command) {
    let why = "within a transaction only what one server does";
    not_supported(out, command, " within MULTI", why);
}

/// The server of the key is ejected, and what stands in for it takes simple requests only.
pub fn not_at_stand_in(out: &mut Vec<u8>, command: &Command, server: &str) {
    let why =
        format!("its server is ejected, and {server}, which stands in, takes no transactions and nothing that blocks");
    not_supported(out, command, " now", &why);
}

/// In RESP2, while there are subscriptions.
pub fn not_while_subscribed(out: &mut Vec<u8>, command: &Command) {
    let why = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
    let begin = if command.name == "exec" { "EXECABORT Transaction discarded because of:" } else { "ERR" };
    append(out, format_args!("-{begin} Can't execute '{}': {why}\r\n", command.name));
}

/// Something that the client has begun must end before.
pub fn not_now(out: &mut Vec<u8>, command: &Command, when: &str) {
    let name = command.name.to_ascii_uppercase().replace('|', " ");
    append(out, format_args!("-ERR '{name}' is not supported by Outrigger {when}\r\n"));
}

/// A key is longer than the limit.
pub fn key_too_long(out: &mut Vec<u8>, key: &[u8], limit: usize) {
    out.extend_from_slice(b"-ERR key too long: '");
    write_key(out, key);
    append(out, format_args!("' has {} bytes, the limit is {limit}\r\n", key.len()));
}

/// The keys of a request cannot be told, for a reason that Redis refuses it for too.
pub fn key_error(out: &mut Vec<u8>, command: &Command, error: KeyError) {
    let scripting = command.group == Group::Scripting;
    let counts_first = ["lmpop", "zmpop", "blmpop", "bzmpop", "sintercard"].contains(&command.name);
    let text = match error {
        KeyError::NotInteger if counts_first => "numkeys should be greater than 0",
        KeyError::NotInteger if command.name.starts_with("fcall") => "Bad number of keys provided",
        KeyError::NotInteger => "value is not an integer or out of range",
        KeyError::TooFew if scripting => "Number of keys can't be negative",
        KeyError::TooFew if counts_first => "numkeys should be greater than 0",
        KeyError::TooFew => {
            append(out, format_args!("-ERR at least 1 input key is needed for '{}' command\r\n", command.name));
            return;
        }
        KeyError::TooMany if scripting || command.name == "sintercard" => {
            "Number of keys can't be greater than number of args"
        }
        KeyError::Pairs => return wrong_arity(out, command),
        KeyError::TooMany | KeyError::Syntax => "syntax error",
    };
    append(out, format_args!("-ERR {text}\r\n"));
}

/// What came is not a request; the session closes after this.
pub fn protocol(out: &mut Vec<u8>, error: &RequestError) {
    append(out, format_args!("-ERR {error}\r\n"));
}

/// A key as a human can read it in a line: escaped, and cut to a bounded length.
pub fn write_key(out: &mut Vec<u8>, key: &[u8]) {
    let shown = &key[..key.len().min(REPEATED_KEY)];
    append(out, format_args!("{}", shown.escape_ascii()));
    if shown.len() < key.len() {
        out.extend_from_slice(b"...");
    }
}

/// What C's `%.*s` prints: up to a NUL byte, and no more than `most` bytes.
fn as_c_string(text: &[u8], most: usize) -> &[u8] {
    let text = &text[..text.len().min(most)];
    text.split(|&byte| byte == 0).next().unwrap_or(text)
}

/// Appends text that holds no line end.
fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into memory does not fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::redis::commands::lookup;

    fn command(name: &str) -> &'static Command {
        let (name, sub) = name.split_once(' ').unwrap_or((name, ""));
        let found = lookup(name.as_bytes()).unwrap();
        found.subcommand(sub.as_bytes()).unwrap_or(found)
    }

    /// The one line that `write` writes, without its ends.
    fn line(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = b"+before\r\n".to_vec();
        write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.strip_prefix("+before\r\n-").unwrap().strip_suffix("\r\n").unwrap();
        assert!(!line.contains(['\r', '\n']), "{line:?}");
        line.to_owned()
    }

    fn unknown(args: &[&str]) -> String {
        line(|out| unknown_command(out, args.len(), |index| args.get(index).map(|arg| arg.as_bytes())))
    }

    #[test]
    fn unknown_commands_in_the_words_of_redis() {
        assert_eq!(unknown(&["foo"]), "ERR unknown command 'foo', with args beginning with: ");
        assert_eq!(unknown(&["Foo", "a", "b c"]), "ERR unknown command 'Foo', with args beginning with: 'a' 'b c' ");
        assert_eq!(
            unknown(&["a\r\n+OK", "b\n", "c\0d"]),
            "ERR unknown command 'a  +OK', with args beginning with: 'b ' 'c' "
        );
        let long = "x".repeat(200);
        let cut = "x".repeat(128);
        assert_eq!(
            unknown(&[&long, &long, "y"]),
            format!("ERR unknown command '{cut}', with args beginning with: '{cut}' ")
        );
        let some = "x".repeat(100);
        let rest = "y".repeat(25);
        let expected = format!("ERR unknown command 'f', with args beginning with: '{some}' '{rest}' ");
        assert_eq!(unknown(&["f", &some, &"y".repeat(50), "z"]), expected);
    }

    #[test]
    fn subcommands_and_arity_in_the_words_of_redis() {
        let text = line(|out| unknown_subcommand(out, command("client"), b"MAINT_NOTIFICATIONS"));
        assert_eq!(text, "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.");
        assert_eq!(line(|out| wrong_arity(out, command("get"))), "ERR wrong number of arguments for 'get' command");
        let text = line(|out| wrong_arity(out, command("xgroup create")));
        assert_eq!(text, "ERR wrong number of arguments for 'xgroup|create' command");
    }

    #[test]
    fn refusals_name_the_command_and_the_reason() {
        let text = line(|out| refused(out, command("memory doctor"), Refusal::Admin));
        assert_eq!(
            text,
            "ERR 'MEMORY DOCTOR' is not supported by Outrigger: it is about one server and the pool has several, ask \
             that server itself"
        );
        let text = line(|out| refused(out, command("client kill"), Refusal::Connection));
        assert!(text.starts_with("ERR 'CLIENT KILL' is not supported by Outrigger: "), "{text}");
        let text = line(|out| refused(out, command("cluster slots"), Refusal::Cluster));
        assert_eq!(text, "ERR This instance has cluster support disabled");
        let text = line(|out| restricted(out, command("config set"), "cache"));
        assert_eq!(text, "ERR 'CONFIG SET' is for administrators: pool cache has allow_admin_commands: false");
    }

    #[test]
    fn keys_are_escaped_and_cut() {
        let one = (&b"a\r\n"[..], "alpha");
        let long = "k".repeat(100);
        let text = line(|out| cross_server(out, command("rename"), one, (long.as_bytes(), "10.0.0.1:6379")));
        let expected = format!(
            r"ERR 'RENAME' needs all its keys on one server, but 'a\r\n' is on alpha and '{}...' is on 10.0.0.1:6379",
            &long[..64]
        );
        assert_eq!(text, expected);
        let text = line(|out| key_too_long(out, b"\xff\xff\xff", 2));
        assert_eq!(text, r"ERR key too long: '\xff\xff\xff' has 3 bytes, the limit is 2");
    }

    #[test]
    fn constants_are_one_line_each() {
        let texts =
            [NOAUTH, WRONGPASS, AUTH_WITHOUT_PASSWORD, NOPROTO, SYNTAX, NOT_AN_INTEGER, DB_OUT_OF_RANGE, NO_CLUSTER];
        for text in texts {
            line(|out| out.extend_from_slice(text));
        }
        assert_eq!(
            line(|out| protocol(out, &RequestError::ExpectedDollar(b'\n'))),
            "ERR Protocol error: expected '$', got ' '"
        );
    }
}
