//! Rows of the command table: strings, bitmaps, HyperLogLogs.

use super::Route::{Key, Keys, One, Split};
use super::Split::{Mget, Mset};
use super::keys::*;
use super::*;

pub(super) static ROWS: &[Command] = &[
    string("append", 3, WRITE | DENYOOM | FAST, &[key(1, ADD)], "2.0.0", Key),
    string("decr", 2, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "1.0.0", Key),
    string("decrby", 3, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "1.0.0", Key),
    string("get", 2, READONLY | FAST, &[key(1, READ)], "1.0.0", Key),
    string("getdel", 2, WRITE | FAST, &[key(1, TAKE)], "6.2.0", Key),
    string("getex", -2, WRITE | FAST, &[key(1, EXCHANGE)], "6.2.0", Key),
    string("getrange", 4, READONLY, &[key(1, READ)], "2.4.0", Key),
    string("getset", 3, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "1.0.0", Key).deprecated("6.2.0"),
    string("incr", 2, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "1.0.0", Key),
    string("incrby", 3, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "1.0.0", Key),
    string("incrbyfloat", 3, WRITE | DENYOOM | FAST, &[key(1, EXCHANGE)], "2.6.0", Key),
    string("lcs", -3, READONLY, &[range(1, 1, 1, READ)], "7.0.0", Keys),
    string("mget", -2, READONLY | FAST, &[range(1, -1, 1, READ)], "1.0.0", Split(Mget)),
    string("mset", -3, WRITE | DENYOOM, &[range(1, -1, 2, REPLACE)], "1.0.1", Split(Mset)),
    string("msetnx", -3, WRITE | DENYOOM, &[range(1, -1, 2, OW | INSERT)], "1.0.1", Keys),
    string("psetex", 4, WRITE | DENYOOM, &[key(1, REPLACE)], "2.6.0", Key),
    string("set", -3, WRITE | DENYOOM, &[key(1, EXCHANGE | VARIABLE_FLAGS)], "1.0.0", Key),
    string("setex", 4, WRITE | DENYOOM, &[key(1, REPLACE)], "2.0.0", Key),
    string("setnx", 3, WRITE | DENYOOM | FAST, &[key(1, OW | INSERT)], "1.0.0", Key),
    string("setrange", 4, WRITE | DENYOOM, &[key(1, CHANGE)], "2.2.0", Key),
    string("strlen", 2, READONLY | FAST, &[key(1, RO)], "2.2.0", Key),
    string("substr", 4, READONLY, &[key(1, READ)], "1.0.0", Key).deprecated("2.0.0"),
    bitmap("bitcount", -2, READONLY, &[key(1, READ)], "2.6.0", Key),
    bitmap("bitfield", -2, WRITE | DENYOOM, &[key(1, EXCHANGE | VARIABLE_FLAGS)], "3.2.0", Key),
    bitmap("bitfield_ro", -2, READONLY | FAST, &[key(1, READ)], "6.0.0", Key),
    bitmap("bitop", -4, WRITE | DENYOOM, &[key(2, REPLACE), range(3, -1, 1, READ)], "2.6.0", Keys),
    bitmap("bitpos", -3, READONLY, &[key(1, READ)], "2.8.7", Key),
    bitmap("getbit", 3, READONLY | FAST, &[key(1, READ)], "2.2.0", Key),
    bitmap("setbit", 4, WRITE | DENYOOM, &[key(1, EXCHANGE)], "2.2.0", Key),
    hyperloglog("pfadd", -2, WRITE | DENYOOM | FAST, &[key(1, ADD)], "2.8.9", Key),
    hyperloglog("pfcount", -2, READONLY, &[range(1, -1, 1, RW | ACCESS)], "2.8.9", Keys),
    hyperloglog("pfdebug", 3, WRITE | DENYOOM | ADMIN, &[key(2, RW | ACCESS)], "2.8.9", Key).restricted(),
    hyperloglog("pfmerge", -2, WRITE | DENYOOM, &[key(1, RW | ACCESS | INSERT), range(2, -1, 1, READ)], "2.8.9", Keys),
    hyperloglog("pfselftest", 1, ADMIN, &[], "2.8.9", One).restricted(),
];

const fn string(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::String, route)
}

const fn bitmap(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Bitmap, route)
}

const fn hyperloglog(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Hyperloglog, route)
}
