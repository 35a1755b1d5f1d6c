//! What may differ between two servers that were asked the same: what is by chance or by the clock, which is made equal here,
//! and what the proxy does differently on purpose, with the reason.

use super::generator::{Request, name_of};
use super::wire::Value;

/// A reply without what is by chance.
pub fn normal(request: &Request, reply: Value) -> Value {
    if matches!(reply, Value::Line(_)) && reply.number().is_none() {
        return reply;
    }
    let name = name_of(request);
    let second = request.get(1).map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).unwrap_or_default();
    let has = |option: &[u8]| request.iter().any(|word| word.eq_ignore_ascii_case(option));
    let from_zero = request.get(if name == "SCAN" { 1 } else { 2 }).is_some_and(|cursor| cursor == b"0");
    match (&name[..], &second[..]) {
        // In the order of a hash table with a seed of its own.
        ("KEYS" | "SMEMBERS" | "SUNION" | "SINTER" | "SDIFF" | "HKEYS" | "HVALS" | "SPOP", _) => sorted(reply, 1),
        ("PUBSUB", "CHANNELS" | "SHARDCHANNELS") => sorted(reply, 1),
        ("HGETALL", _) => sorted(reply, 2),
        // A part of a hash table.
        ("SCAN" | "SSCAN" | "HSCAN" | "ZSCAN", _) if !has(b"100000") || !from_zero => Value::text("some"),
        ("SCAN" | "SSCAN", _) => parts(reply, |at, part| if at == 1 { sorted(part, 1) } else { part }),
        ("HSCAN" | "ZSCAN", _) => parts(reply, |at, part| if at == 1 { sorted(part, 2) } else { part }),
        // Of a set that is not sorted at all (BY without a `*`) LIMIT leaves a part, in the order of its hash table.
        ("SORT" | "SORT_RO", _) if has(b"BY") && has(b"LIMIT") => shape(reply),
        ("SORT" | "SORT_RO", _) if has(b"BY") => sorted(reply, 1),
        ("FUNCTION", "LIST") => sorted(reply, 1),
        // By chance.
        ("RANDOMKEY" | "SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER", _) => shape(reply),
        // By the clock, or by what else the server did.
        ("TIME" | "LASTSAVE" | "CLIENT", _) => shape(reply),
        ("OBJECT", "IDLETIME") | ("MEMORY", "USAGE") => shape(reply),
        ("TTL" | "PTTL" | "EXPIRETIME" | "PEXPIRETIME", _) => rounded(reply, &name),
        ("XPENDING", _) if request.len() > 3 => {
            parts(reply, |_, entry| parts(entry, |at, part| if at == 2 { shape(part) } else { part }))
        }
        ("XINFO", "CONSUMERS" | "STREAM") => numbers_gone(reply),
        // A set or a hash is written in the order of its table.
        ("DUMP", _) | ("FUNCTION", "DUMP") => match reply {
            Value::Bytes(kind, bytes) => Value::Bytes(kind, bytes.len().to_string().into_bytes()),
            other => other,
        },
        // The number of the connection.
        ("HELLO", _) => after(reply, "id"),
        _ => reply,
    }
}

/// Confirmations of subscriptions, and messages; not the reply to a PING of a subscriber.
pub fn is_push(reply: &Value) -> bool {
    const WORDS: [&[u8]; 9] = [
        b"subscribe",
        b"psubscribe",
        b"ssubscribe",
        b"unsubscribe",
        b"punsubscribe",
        b"sunsubscribe",
        b"message",
        b"pmessage",
        b"smessage",
    ];
    // Who had nothing to leave is told so by the proxy, as by a reply.
    let of_nothing = matches!(reply.elements().get(1), Some(Value::Line(_)));
    matches!(reply, Value::Many(b'>' | b'*', _)) && WORDS.contains(&word(reply)) && !of_nothing
}

fn is_message(push: &Value) -> bool {
    word(push).ends_with(b"message")
}

fn word(push: &Value) -> &[u8] {
    match push.elements().first() {
        Some(Value::Bytes(b'$', word)) => word,
        _ => b"",
    }
}

/// Channels are listed in the order of a hash table.
pub fn unordered(reply: Value) -> Value {
    let names = reply.elements().iter().all(|part| matches!(part, Value::Bytes(..)));
    if names && word(&reply) != b"pong" { sorted(reply, 1) } else { reply }
}

/// What a subscriber gets: who leaves all channels leaves them in the order of a hash table, in which the patterns are tried
/// as well that one message may match. Messages and confirmations apart: the proxy sends messages that come while it waits for
/// confirmations after these, of which it may wait for several, of several servers.
pub fn heard(pushes: &[Value]) -> Vec<Value> {
    let leaves = |push: &Value| word(push).ends_with(b"unsubscribe");
    let (messages, confirmations): (Vec<Value>, Vec<Value>) = pushes.iter().cloned().partition(is_message);
    let mut normal = Vec::new();
    for run in confirmations.chunk_by(|one, next| word(one) == word(next) && leaves(one)) {
        let mut channels: Vec<Value> = run.iter().map(|push| push.elements()[1].clone()).collect();
        channels.sort();
        normal.push(run[0].elements()[0].clone());
        normal.extend(channels);
        normal.extend(run.iter().map(|push| push.elements()[2].clone()));
    }
    for run in messages.chunk_by(|one, next| word(one) == b"pmessage" && one.elements()[2..] == next.elements()[2..]) {
        let mut run = run.to_vec();
        run.sort();
        normal.extend(run);
    }
    normal
}

fn parts(reply: Value, change: impl Fn(usize, Value) -> Value) -> Value {
    match reply {
        Value::Many(kind, elements) => {
            Value::Many(kind, elements.into_iter().enumerate().map(|(at, part)| change(at, part)).collect())
        }
        other => other,
    }
}

/// In groups of so many elements; a map has groups of its own.
fn sorted(reply: Value, group: usize) -> Value {
    match reply {
        Value::Many(kind, elements) => {
            let group = if kind == b'%' { 2 } else { group };
            let mut groups: Vec<&[Value]> = elements.chunks(group).collect();
            groups.sort();
            let elements = groups.concat();
            Value::Many(kind, elements)
        }
        other => other,
    }
}

/// Only what kind of reply it is, and how many elements it has.
fn shape(reply: Value) -> Value {
    match reply {
        Value::Bytes(kind, _) => Value::Bytes(kind, b"some".to_vec()),
        Value::Line(line) if matches!(line[0], b':' | b',') => Value::Line(vec![line[0]]),
        other => parts(other, |_, part| shape(part)),
    }
}

fn numbers_gone(reply: Value) -> Value {
    match reply {
        Value::Line(line) if line[0] == b':' => Value::Line(b":".to_vec()),
        other => parts(other, |_, part| numbers_gone(part)),
    }
}

/// What is left, and when that is, unless it was said as a time.
fn rounded(reply: Value, name: &str) -> Value {
    let unit = if name.starts_with('P') { 1000 } else { 1 };
    match reply.number() {
        Some(number) if number > 0 && (number < 4_102_444_800 * unit || name.ends_with("TTL")) => {
            Value::text("some time")
        }
        _ => reply,
    }
}

/// Without the element after the one that says so.
fn after(reply: Value, name: &str) -> Value {
    match reply {
        Value::Many(kind, mut elements) => {
            if let Some(at) = elements.iter().position(|element| *element == Value::text(name))
                && at + 1 < elements.len()
            {
                elements[at + 1] = Value::text("some");
            }
            Value::Many(kind, elements)
        }
        other => other,
    }
}

/// Where the proxy says something else on purpose: both are errors, and
/// - the proxy's says more, after the same words, or
/// - two things are wrong, and Redis looks at them in another order: at the function, the script or the timeout before the keys,
///   which the proxy needs first; at passwords before other options; at what is no `int` before the databases.
pub fn is_worded_differently(request: &Request, ours: &Value, theirs: &Value) -> bool {
    const TWO_REASONS: [&str; 10] =
        ["SWAPDB", "FCALL", "FCALL_RO", "EVALSHA", "EVALSHA_RO", "HELLO", "SELECT", "MOVE", "XREAD", "XREADGROUP"];
    let (Value::Line(ours), Value::Line(theirs)) = (ours, theirs) else { return false };
    let errors = ours.starts_with(b"-") && theirs.starts_with(b"-");
    errors && (ours.starts_with(theirs) || TWO_REASONS.contains(&&name_of(request)[..]))
}

/// What the proxy refuses on purpose, after which both are no longer in the same state.
pub fn is_refused_on_purpose(ours: &Value, theirs: &Value) -> bool {
    let Value::Line(line) = ours else { return false };
    let text = String::from_utf8_lossy(line);
    let queued = *theirs == Value::Line(b"+QUEUED".to_vec());
    // What the proxy answers itself: the name of a session, its database, its protocol version. `generator.rs` asks seldom
    // for that within transactions, so that little is left uncompared.
    text.contains(" within MULTI' is not supported by Outrigger")
        // A watching connection has its database and its version.
        || text.contains(" is not supported by Outrigger while keys are watched")
        // Newer servers take one argument more (WITHSCORE, Redis 7.2); this one says at EXEC that it does not.
        || text == "+QUEUED" && ["'zrank'", "'zrevrank'"].iter().any(|name| is_wrong_arity(theirs, name))
        // Redis looks for the keys at EXEC; the proxy must know where to send the request.
        || queued && NO_KEYS.iter().any(|why| text.contains(why))
}

fn is_wrong_arity(reply: &Value, name: &str) -> bool {
    let text = format!("-ERR wrong number of arguments for {name} command");
    *reply == Value::Line(text.into_bytes())
}

/// How it is said that the keys of a request cannot be found.
const NO_KEYS: [&str; 6] =
    ["numkeys", "umber of keys", "syntax error", "not an integer", "wrong number of arguments", "at least 1 input key"];
