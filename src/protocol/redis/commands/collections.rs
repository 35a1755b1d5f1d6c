//! Rows of the command table: lists, sets, hashes, sorted sets.

use super::Route::{Key, Keys};
use super::keys::*;
use super::*;

/// What most blocking commands share.
const POPPING: Flags = WRITE | NOSCRIPT | BLOCKING;

pub(super) static ROWS: &[Command] = &[
    list("blmove", 6, DENYOOM | POPPING, &[key(1, TAKE), key(2, ADD)], "6.2.0", Keys),
    list("blmpop", -5, WRITE | BLOCKING, &[counted(2, TAKE)], "7.0.0", Keys),
    list("blpop", -3, POPPING, &[range(1, -2, 1, TAKE)], "2.0.0", Keys),
    list("brpop", -3, POPPING, &[range(1, -2, 1, TAKE)], "2.0.0", Keys),
    list("brpoplpush", 4, DENYOOM | POPPING, &[key(1, TAKE), key(2, ADD)], "2.2.0", Keys).deprecated("6.2.0"),
    list("lindex", 3, READONLY, &[key(1, READ)], "1.0.0", Key),
    list("linsert", 5, WRITE | DENYOOM, &[key(1, ADD)], "2.2.0", Key),
    list("llen", 2, READONLY | FAST, &[key(1, RO)], "1.0.0", Key),
    list("lmove", 5, WRITE | DENYOOM, &[key(1, TAKE), key(2, ADD)], "6.2.0", Keys),
    list("lmpop", -4, WRITE, &[counted(1, TAKE)], "7.0.0", Keys),
    list("lpop", -2, WRITE | FAST, &[key(1, TAKE)], "1.0.0", Key),
    list("lpos", -3, READONLY, &[key(1, READ)], "6.0.6", Key),
    list("lpush", -3, WRITE | DENYOOM | FAST, &[key(1, ADD)], "1.0.0", Key),
    list("lpushx", -3, WRITE | DENYOOM | FAST, &[key(1, ADD)], "2.2.0", Key),
    list("lrange", 4, READONLY, &[key(1, READ)], "1.0.0", Key),
    list("lrem", 4, WRITE, &[key(1, REMOVE)], "1.0.0", Key),
    list("lset", 4, WRITE | DENYOOM, &[key(1, CHANGE)], "1.0.0", Key),
    list("ltrim", 4, WRITE, &[key(1, REMOVE)], "1.0.0", Key),
    list("rpop", -2, WRITE | FAST, &[key(1, TAKE)], "1.0.0", Key),
    list("rpoplpush", 3, WRITE | DENYOOM, &[key(1, TAKE), key(2, ADD)], "1.2.0", Keys).deprecated("6.2.0"),
    list("rpush", -3, WRITE | DENYOOM | FAST, &[key(1, ADD)], "1.0.0", Key),
    list("rpushx", -3, WRITE | DENYOOM | FAST, &[key(1, ADD)], "2.2.0", Key),
    set("sadd", -3, WRITE | DENYOOM | FAST, &[key(1, ADD)], "1.0.0", Key),
    set("scard", 2, READONLY | FAST, &[key(1, RO)], "1.0.0", Key),
    set("sdiff", -2, READONLY, &[range(1, -1, 1, READ)], "1.0.0", Keys),
    set("sdiffstore", -3, WRITE | DENYOOM, &[key(1, REPLACE), range(2, -1, 1, READ)], "1.0.0", Keys),
    set("sinter", -2, READONLY, &[range(1, -1, 1, READ)], "1.0.0", Keys),
    set("sintercard", -3, READONLY, &[counted(1, READ)], "7.0.0", Keys),
    set("sinterstore", -3, WRITE | DENYOOM, &[key(1, CHANGE), range(2, -1, 1, READ)], "1.0.0", Keys),
    set("sismember", 3, READONLY | FAST, &[key(1, RO)], "1.0.0", Key),
    set("smembers", 2, READONLY, &[key(1, READ)], "1.0.0", Key),
    set("smismember", -3, READONLY | FAST, &[key(1, READ)], "6.2.0", Key),
    set("smove", 4, WRITE | FAST, &[key(1, TAKE), key(2, ADD)], "1.0.0", Keys),
    set("spop", -2, WRITE | FAST, &[key(1, TAKE)], "1.0.0", Key),
    set("srandmember", -2, READONLY, &[key(1, READ)], "1.0.0", Key),
    set("srem", -3, WRITE | FAST, &[key(1, REMOVE)], "1.0.0", Key),
    set("sscan", -3, READONLY, &[key(1, READ)], "2.8.0", Key),
    set("sunion", -2, READONLY, &[range(1, -1, 1, READ)], "1.0.0", Keys),
    set("sunionstore", -3, WRITE | DENYOOM, &[key(1, REPLACE), range(2, -1, 1, READ)], "1.0.0", Keys),
    hash("hdel", -3, WRITE | FAST, &[key(1, REMOVE)], "2.0.0", Key),
    hash("hexists", 3, READONLY | FAST, &[key(1, RO)], "2.0.0", Key),
    hash("hexpire", -6, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "7.4.0", Key),
    hash("hexpireat", -6, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "7.4.0", Key),
    hash("hexpiretime", -5, READONLY | FAST, &[key(1, READ)], "7.4.0", Key),
    hash("hget", 3, READONLY | FAST, &[key(1, READ)], "2.0.0", Key),
    hash("hgetall", 2, READONLY, &[key(1, READ)], "2.0.0", Key),
    hash("hgetdel", -5, WRITE | FAST, &[key(1, TAKE)], "8.0.0", Key),
    hash("hgetex", -5, WRITE | FAST, &[key(1, EXCHANGE)], "8.0.0", Key),
    hash("hincrby", 4, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "2.0.0", Key),
    hash("hincrbyfloat", 4, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "2.6.0", Key),
    hash("hkeys", 2, READONLY, &[key(1, READ)], "2.0.0", Key),
    hash("hlen", 2, READONLY | FAST, &[key(1, RO)], "2.0.0", Key),
    hash("hmget", -3, READONLY | FAST, &[key(1, READ)], "2.0.0", Key),
    hash("hmset", -4, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "2.0.0", Key).deprecated("4.0.0"),
    hash("hpersist", -5, WRITE | FAST, &[key(1, CHANGE)], "7.4.0", Key),
    hash("hpexpire", -6, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "7.4.0", Key),
    hash("hpexpireat", -6, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "7.4.0", Key),
    hash("hpexpiretime", -5, READONLY | FAST, &[key(1, READ)], "7.4.0", Key),
    hash("hpttl", -5, READONLY | FAST, &[key(1, READ)], "7.4.0", Key),
    hash("hrandfield", -2, READONLY, &[key(1, READ)], "6.2.0", Key),
    hash("hscan", -3, READONLY, &[key(1, READ)], "2.8.0", Key),
    hash("hset", -4, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "2.0.0", Key),
    hash("hsetex", -6, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "8.0.0", Key),
    hash("hsetnx", 4, WRITE | DENYOOM | FAST, &[key(1, ADD)], "2.0.0", Key),
    hash("hstrlen", 3, READONLY | FAST, &[key(1, RO)], "3.2.0", Key),
    hash("httl", -5, READONLY | FAST, &[key(1, READ)], "7.4.0", Key),
    hash("hvals", 2, READONLY, &[key(1, READ)], "2.0.0", Key),
    sorted_set("bzmpop", -5, WRITE | BLOCKING, &[counted(2, TAKE)], "7.0.0", Keys),
    sorted_set("bzpopmax", -3, POPPING | FAST, &[range(1, -2, 1, TAKE)], "5.0.0", Keys),
    sorted_set("bzpopmin", -3, POPPING | FAST, &[range(1, -2, 1, TAKE)], "5.0.0", Keys),
    sorted_set("zadd", -4, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "1.2.0", Key),
    sorted_set("zcard", 2, READONLY | FAST, &[key(1, RO)], "1.2.0", Key),
    sorted_set("zcount", 4, READONLY | FAST, &[key(1, READ)], "2.0.0", Key),
    sorted_set("zdiff", -3, READONLY, &[counted(1, READ)], "6.2.0", Keys),
    sorted_set("zdiffstore", -4, WRITE | DENYOOM, &[key(1, REPLACE), counted(2, READ)], "6.2.0", Keys),
    sorted_set("zincrby", 4, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "1.2.0", Key),
    sorted_set("zinter", -3, READONLY, &[counted(1, READ)], "6.2.0", Keys),
    sorted_set("zintercard", -3, READONLY, &[counted(1, READ)], "7.0.0", Keys),
    sorted_set("zinterstore", -4, WRITE | DENYOOM, &[key(1, REPLACE), counted(2, READ)], "2.0.0", Keys),
    sorted_set("zlexcount", 4, READONLY | FAST, &[key(1, READ)], "2.8.9", Key),
    sorted_set("zmpop", -4, WRITE, &[counted(1, TAKE)], "7.0.0", Keys),
    sorted_set("zmscore", -3, READONLY | FAST, &[key(1, READ)], "6.2.0", Key),
    sorted_set("zpopmax", -2, WRITE | FAST, &[key(1, TAKE)], "5.0.0", Key),
    sorted_set("zpopmin", -2, WRITE | FAST, &[key(1, TAKE)], "5.0.0", Key),
    sorted_set("zrandmember", -2, READONLY, &[key(1, READ)], "6.2.0", Key),
    sorted_set("zrange", -4, READONLY, &[key(1, READ)], "1.2.0", Key),
    sorted_set("zrangebylex", -4, READONLY, &[key(1, READ)], "2.8.9", Key).deprecated("6.2.0"),
    sorted_set("zrangebyscore", -4, READONLY, &[key(1, READ)], "1.0.5", Key).deprecated("6.2.0"),
    sorted_set("zrangestore", -5, WRITE | DENYOOM, &[key(1, REPLACE), key(2, READ)], "6.2.0", Keys),
    // WITHSCORE since 7.2.
    sorted_set("zrank", -3, READONLY | FAST, &[key(1, READ)], "2.0.0", Key),
    sorted_set("zrem", -3, WRITE | FAST, &[key(1, REMOVE)], "1.2.0", Key),
    sorted_set("zremrangebylex", 4, WRITE, &[key(1, REMOVE)], "2.8.9", Key),
    sorted_set("zremrangebyrank", 4, WRITE, &[key(1, REMOVE)], "2.0.0", Key),
    sorted_set("zremrangebyscore", 4, WRITE, &[key(1, REMOVE)], "1.2.0", Key),
    sorted_set("zrevrange", -4, READONLY, &[key(1, READ)], "1.2.0", Key).deprecated("6.2.0"),
    sorted_set("zrevrangebylex", -4, READONLY, &[key(1, READ)], "2.8.9", Key).deprecated("6.2.0"),
    sorted_set("zrevrangebyscore", -4, READONLY, &[key(1, READ)], "2.2.0", Key).deprecated("6.2.0"),
    sorted_set("zrevrank", -3, READONLY | FAST, &[key(1, READ)], "2.0.0", Key),
    sorted_set("zscan", -3, READONLY, &[key(1, READ)], "2.8.0", Key),
    sorted_set("zscore", 3, READONLY | FAST, &[key(1, READ)], "1.2.0", Key),
    sorted_set("zunion", -3, READONLY, &[counted(1, READ)], "6.2.0", Keys),
    sorted_set("zunionstore", -4, WRITE | DENYOOM, &[key(1, REPLACE), counted(2, READ)], "2.0.0", Keys),
];

const fn list(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::List, route)
}

const fn set(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Set, route)
}

const fn hash(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Hash, route)
}

const fn sorted_set(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::SortedSet, route)
}
