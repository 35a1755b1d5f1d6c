//! Rows of the command table: keys of any type, transactions, pub/sub, scripts.

use super::FanOut::{All, Any, Concat, Everywhere, Greatest, Random, Running, Scan, SumPairs, Union};
use super::Refusal::Connection;
use super::Route::{Channel, FanOut, Key, Keys, One, Refused, Split, Subscribe, Transaction, Unsubscribe, Wait};
use super::Split::Sum;
use super::keys::*;
use super::*;
use super::{Subscription as S, TransactionCommand as T};

pub(super) static ROWS: &[Command] = &[
    generic("copy", -3, WRITE | DENYOOM, &[key(1, READ), key(2, REPLACE)], "6.2.0", Keys),
    generic("del", -2, WRITE, &[range(1, -1, 1, RM | DELETE)], "1.0.0", Split(Sum)),
    generic("dump", 2, READONLY, &[key(1, READ)], "2.6.0", Key),
    generic("exists", -2, READONLY | FAST, &[range(1, -1, 1, RO)], "1.0.0", Split(Sum)),
    generic("expire", -3, WRITE | FAST, &[key(1, CHANGE)], "1.0.0", Key),
    generic("expireat", -3, WRITE | FAST, &[key(1, CHANGE)], "1.2.0", Key),
    generic("expiretime", 2, READONLY | FAST, &[key(1, READ)], "7.0.0", Key),
    generic("keys", 2, READONLY, &[], "1.0.0", FanOut(Concat)).also(C_DANGEROUS),
    generic("migrate", -6, WRITE, &[key(3, TAKE), all_after("KEYS", -2, TAKE | INCOMPLETE)], "2.6.0", Keys)
        .restricted()
        .also(C_DANGEROUS),
    generic("move", 3, WRITE | FAST, &[key(1, EXCHANGE)], "1.0.0", Key),
    generic("object", -2, 0, &[], "2.2.3", One).of(OBJECT_SUB),
    generic("persist", 2, WRITE | FAST, &[key(1, CHANGE)], "2.2.0", Key),
    generic("pexpire", -3, WRITE | FAST, &[key(1, CHANGE)], "2.6.0", Key),
    generic("pexpireat", -3, WRITE | FAST, &[key(1, CHANGE)], "2.6.0", Key),
    generic("pexpiretime", 2, READONLY | FAST, &[key(1, READ)], "7.0.0", Key),
    generic("pttl", 2, READONLY | FAST, &[key(1, READ)], "2.6.0", Key),
    generic("randomkey", 1, READONLY, &[], "1.0.0", FanOut(Random)),
    generic("rename", 3, WRITE, &[key(1, TAKE), key(2, REPLACE)], "1.0.0", Keys),
    generic("renamenx", 3, WRITE | FAST, &[key(1, TAKE), key(2, OW | INSERT)], "1.0.0", Keys),
    generic("restore", -4, WRITE | DENYOOM, &[key(1, REPLACE)], "2.6.0", Key).also(C_DANGEROUS),
    generic("scan", -2, READONLY, &[], "2.8.0", FanOut(Scan)),
    generic("sort", -2, WRITE | DENYOOM, &[key(1, READ), unknown(READ), unknown(REPLACE)], "1.0.0", Keys)
        .also(C_DANGEROUS | C_LIST | C_SET | C_SORTEDSET)
        .not(C_KEYSPACE),
    generic("sort_ro", -2, READONLY, &[key(1, READ), unknown(READ)], "7.0.0", Keys)
        .also(C_DANGEROUS | C_LIST | C_SET | C_SORTEDSET)
        .not(C_KEYSPACE),
    generic("touch", -2, READONLY | FAST, &[range(1, -1, 1, RO)], "3.2.1", Split(Sum)),
    generic("ttl", 2, READONLY | FAST, &[key(1, READ)], "1.0.0", Key),
    generic("type", 2, READONLY | FAST, &[key(1, RO)], "1.0.0", Key),
    generic("unlink", -2, WRITE | FAST, &[range(1, -1, 1, RM | DELETE)], "4.0.0", Split(Sum)),
    generic("wait", 3, NOSCRIPT, &[], "3.0.0", Wait).also(C_CONNECTION).not(C_KEYSPACE),
    generic("waitaof", 4, BLOCKING, &[], "7.2.0", Wait),
    transaction("discard", 1, SESSION | FAST | ALLOW_BUSY, &[], "2.0.0", Transaction(T::Discard)),
    transaction("exec", 1, SESSION | SKIP_SLOWLOG, &[], "1.2.0", Transaction(T::Exec)),
    transaction("multi", 1, SESSION | FAST | ALLOW_BUSY, &[], "1.2.0", Transaction(T::Multi)),
    transaction("unwatch", 1, SESSION | FAST | ALLOW_BUSY, &[], "2.2.0", Transaction(T::Unwatch)),
    transaction("watch", -2, SESSION | FAST | ALLOW_BUSY, &[range(1, -1, 1, RO)], "2.2.0", Transaction(T::Watch)),
    pubsub("psubscribe", -2, SUBSCRIBING, &[], "2.0.0", Subscribe(S::Patterns)),
    pubsub("publish", 3, PUBSUB | LOADING | STALE | FAST, &[], "2.0.0", Channel),
    pubsub("pubsub", -2, 0, &[], "2.8.0", One).of(PUBSUB_SUB),
    pubsub("punsubscribe", -1, SUBSCRIBING, &[], "2.0.0", Unsubscribe(S::Patterns)),
    pubsub("spublish", 3, PUBSUB | LOADING | STALE | FAST, &[key(1, NOT_KEY)], "7.0.0", Channel),
    pubsub("ssubscribe", -2, SUBSCRIBING, &[range(1, -1, 1, NOT_KEY)], "7.0.0", Subscribe(S::Shards)),
    pubsub("subscribe", -2, SUBSCRIBING, &[], "2.0.0", Subscribe(S::Channels)),
    pubsub("sunsubscribe", -1, SUBSCRIBING, &[range(1, -1, 1, NOT_KEY)], "7.0.0", Unsubscribe(S::Shards)),
    pubsub("unsubscribe", -1, SUBSCRIBING, &[], "2.0.0", Unsubscribe(S::Channels)),
    scripting("eval", -3, RUNNING, &[counted(2, EXCHANGE)], "2.6.0", Keys),
    scripting("eval_ro", -3, READONLY | RUNNING, &[counted(2, READ)], "7.0.0", Keys),
    scripting("evalsha", -3, RUNNING, &[counted(2, EXCHANGE)], "2.6.0", Keys),
    scripting("evalsha_ro", -3, READONLY | RUNNING, &[counted(2, READ)], "7.0.0", Keys),
    scripting("fcall", -3, RUNNING, &[counted(2, EXCHANGE)], "7.0.0", Keys),
    scripting("fcall_ro", -3, READONLY | RUNNING, &[counted(2, READ)], "7.0.0", Keys),
    scripting("function", -2, 0, &[], "7.0.0", One).of(FUNCTION_SUB),
    scripting("script", -2, 0, &[], "2.6.0", One).of(SCRIPT_SUB),
];

static OBJECT_SUB: &[Command] = &[
    generic("object|encoding", 3, READONLY, &[key(2, RO)], "2.2.3", Key),
    generic("object|freq", 3, READONLY, &[key(2, RO)], "4.0.0", Key),
    generic("object|help", 2, LOADING | STALE, &[], "6.2.0", One),
    generic("object|idletime", 3, READONLY, &[key(2, RO)], "2.2.3", Key),
    generic("object|refcount", 3, READONLY, &[key(2, RO)], "2.2.3", Key),
];

static PUBSUB_SUB: &[Command] = &[
    pubsub("pubsub|channels", -2, PUBSUB | LOADING | STALE, &[], "2.8.0", FanOut(Union)),
    pubsub("pubsub|help", 2, LOADING | STALE, &[], "6.2.0", One).not(C_PUBSUB),
    pubsub("pubsub|numpat", 2, PUBSUB | LOADING | STALE, &[], "2.8.0", FanOut(Greatest)),
    pubsub("pubsub|numsub", -2, PUBSUB | LOADING | STALE, &[], "2.8.0", FanOut(SumPairs)),
    pubsub("pubsub|shardchannels", -2, PUBSUB | LOADING | STALE, &[], "7.0.0", FanOut(Union)),
    pubsub("pubsub|shardnumsub", -2, PUBSUB | LOADING | STALE, &[], "7.0.0", FanOut(SumPairs)),
];

static FUNCTION_SUB: &[Command] = &[
    scripting("function|delete", 3, WRITE | NOSCRIPT, &[], "7.0.0", FanOut(Everywhere)),
    scripting("function|dump", 2, NOSCRIPT, &[], "7.0.0", One),
    scripting("function|flush", -2, WRITE | NOSCRIPT, &[], "7.0.0", FanOut(Everywhere)),
    scripting("function|help", 2, LOADING | STALE, &[], "7.0.0", One),
    scripting("function|kill", 2, NOSCRIPT | ALLOW_BUSY, &[], "7.0.0", FanOut(Any)),
    scripting("function|list", -2, NOSCRIPT, &[], "7.0.0", One),
    scripting("function|load", -3, WRITE | DENYOOM | NOSCRIPT, &[], "7.0.0", FanOut(Everywhere)),
    scripting("function|restore", -3, WRITE | DENYOOM | NOSCRIPT, &[], "7.0.0", FanOut(Everywhere)),
    scripting("function|stats", 2, NOSCRIPT | ALLOW_BUSY, &[], "7.0.0", FanOut(Running)),
];

static SCRIPT_SUB: &[Command] = &[
    scripting("script|debug", 3, NOSCRIPT, &[], "3.2.0", Refused(Connection)),
    scripting("script|exists", -3, NOSCRIPT, &[], "2.6.0", FanOut(All)),
    scripting("script|flush", -2, NOSCRIPT, &[], "2.6.0", FanOut(Everywhere)),
    scripting("script|help", 2, LOADING | STALE, &[], "5.0.0", One),
    scripting("script|kill", 2, NOSCRIPT | ALLOW_BUSY, &[], "2.6.0", FanOut(Any)),
    scripting("script|load", 3, NOSCRIPT | STALE, &[], "2.6.0", FanOut(Everywhere)),
];

const fn generic(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Generic, route)
}

const fn transaction(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Transactions, route)
}

const fn pubsub(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Pubsub, route)
}

const fn scripting(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Scripting, route)
}
