//! The Redis engine: everyday string commands over RESP2 or RESP3, with Redis 7's replies, on a bounded [`Store`].

mod expiry;
mod float;
mod frame;
mod keys;
mod numbers;
mod reply;
mod strings;

#[cfg(test)]
mod tests;

use bytes::{Buf, BytesMut};

use super::server::{Engine, Flow, OUTPUT_LIMIT};
use super::store::{Millis, Store, TooLarge};
use crate::protocol::redis::Version;
use frame::{Framed, Framer, arguments};
use reply::{Error, Reply};

/// Most arguments of one request, as in Redis.
const MAX_ARGUMENTS: usize = 1024 * 1024;

/// A request may be so much larger than the largest item: names, headers, more than one value.
const REQUEST_ROOM: usize = 64 * 1024;

/// One Redis server.
pub struct RedisServer {
    store: Store,
}

/// One connection to it.
pub struct RedisSession {
    framer: Framer,
    version: Version,
}

/// A command in execution.
struct Call<'a> {
    store: &'a mut Store,
    command: &'static Command,
    /// The arguments after the command's name.
    args: &'a [&'a [u8]],
    now: Millis,
    /// Of the connection.
    version: &'a mut Version,
    reply: Reply<'a>,
    /// Set by QUIT.
    close: bool,
}

type Outcome = Result<(), Error>;

/// One line of the command table.
struct Command {
    name: &'static str,
    /// Number of arguments, the name included; at least so many if negative.
    arity: i32,
    run: fn(&mut Call<'_>) -> Outcome,
}

const fn command(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Outcome) -> Command {
    Command { name, arity, run }
}

/// Everything that is offered; sorted, for a binary search.
static COMMANDS: [Command; 44] = [
    command("append", 3, strings::append),
    command("auth", -2, keys::auth),
    command("dbsize", 1, keys::dbsize),
    command("decr", 2, numbers::decr),
    command("decrby", 3, numbers::decrby),
    command("del", -2, keys::del),
    command("echo", 2, keys::echo),
    command("exists", -2, keys::exists),
    command("expire", -3, expiry::expire),
    command("expireat", -3, expiry::expireat),
    command("expiretime", 2, expiry::expiretime),
    command("flushall", -1, keys::flush),
    command("flushdb", -1, keys::flush),
    command("get", 2, strings::get),
    command("getdel", 2, strings::getdel),
    command("getex", -2, strings::getex),
    command("getrange", 4, strings::getrange),
    command("getset", 3, strings::getset),
    command("hello", -1, keys::hello),
    command("incr", 2, numbers::incr),
    command("incrby", 3, numbers::incrby),
    command("incrbyfloat", 3, numbers::incrbyfloat),
    command("mget", -2, strings::mget),
    command("mset", -3, strings::mset),
    command("msetnx", -3, strings::msetnx),
    command("persist", 2, expiry::persist),
    command("pexpire", -3, expiry::pexpire),
    command("pexpireat", -3, expiry::pexpireat),
    command("pexpiretime", 2, expiry::pexpiretime),
    command("ping", -1, keys::ping),
    command("psetex", 4, strings::psetex),
    command("pttl", 2, expiry::pttl),
    command("quit", -1, keys::quit),
    command("select", 2, keys::select),
    command("set", -3, strings::set),
    command("setex", 4, strings::setex),
    command("setnx", 3, strings::setnx),
    command("setrange", 4, strings::setrange),
    command("strlen", 2, strings::strlen),
    command("substr", 4, strings::getrange),
    command("touch", -2, keys::exists),
    command("ttl", 2, expiry::ttl),
    command("type", 2, keys::type_),
    command("unlink", -2, keys::del),
];

impl Engine for RedisServer {
    type Session = RedisSession;

    fn new(capacity: u64) -> Self {
        Self { store: Store::new(capacity) }
    }

    fn session(&self) -> RedisSession {
        RedisSession {
            framer: Framer::new(2 * self.store.max_item_bytes() + REQUEST_ROOM, MAX_ARGUMENTS),
            version: Version::Resp2,
        }
    }

    fn serve(&mut self, session: &mut RedisSession, input: &mut BytesMut, output: &mut Vec<u8>, now: Millis) -> Flow {
        while output.len() < OUTPUT_LIMIT {
            let flow = match session.framer.next(input) {
                Ok(Framed::Incomplete) => return Flow::NeedsInput,
                Ok(Framed::Oversized) => {
                    Reply::new(output, session.version).error(&TooLarge.into());
                    continue;
                }
                Ok(Framed::Complete(len)) => {
                    let request = input.get(..len).unwrap_or_default();
                    let version = &mut session.version;
                    let flow = arguments(request).map(|arguments| self.execute(&arguments, version, output, now));
                    input.advance(len);
                    flow
                }
                Err(error) => Err(error),
            };
            match flow {
                Ok(false) => {}
                Ok(true) => return Flow::Close,
                Err(error) => {
                    Reply::new(output, session.version).error(&format!("ERR {error}").into());
                    return Flow::Close;
                }
            }
        }
        Flow::OutputFull
    }
}

impl RedisServer {
    /// Runs one command; whether the connection is to be closed after its reply.
    fn execute(&mut self, arguments: &[&[u8]], version: &mut Version, output: &mut Vec<u8>, now: Millis) -> bool {
        let Some((name, args)) = arguments.split_first() else { return false };
        let command = match find(name, arguments.len()) {
            Ok(command) => command,
            Err(error) => {
                Reply::new(output, *version).error(&error);
                return false;
            }
        };
        let reply = Reply::new(output, *version);
        let mut call = Call { store: &mut self.store, command, args, now, version, reply, close: false };
        if let Err(error) = (command.run)(&mut call) {
            call.reply.error(&error);
        }
        call.close
    }
}

/// The command of this name that takes so many arguments.
fn find(name: &[u8], arguments: usize) -> Result<&'static Command, Error> {
    let lower = name.to_ascii_lowercase();
    let Ok(at) = COMMANDS.binary_search_by(|c| c.name.as_bytes().cmp(&lower)) else { return Err(not_offered(name)) };
    let Some(command) = COMMANDS.get(at) else { return Err(not_offered(name)) };
    let wanted = command.arity.unsigned_abs() as usize;
    let fits = if command.arity < 0 { arguments >= wanted } else { arguments == wanted };
    if fits { Ok(command) } else { Err(wrong_arity(command)) }
}

fn not_offered(name: &[u8]) -> Error {
    let shown = name.get(..name.len().min(128)).unwrap_or_default().escape_ascii();
    format!("ERR '{shown}' is not offered by Outrigger's in-process servers; point the pool at a real Redis").into()
}

fn wrong_arity(command: &Command) -> Error {
    format!("ERR wrong number of arguments for '{}' command", command.name).into()
}

impl From<TooLarge> for Error {
    fn from(_: TooLarge) -> Self {
        "ERR the value is too large for this in-process server: an item may take a quarter of its memory (local_memory)"
            .into()
    }
}

const SYNTAX: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

impl<'a> Call<'a> {
    /// The argument at `index`, after the name; empty if the arity check let it be missing.
    fn arg(&self, index: usize) -> &'a [u8] {
        self.args.get(index).copied().unwrap_or_default()
    }
}
