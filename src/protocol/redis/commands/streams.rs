//! Rows of the command table: streams and geo.

use super::Route::{Key, Keys, One};
use super::keys::*;
use super::*;

const RADIUS_KEYS: &[KeySpec] = &[key(1, READ), after("STORE", 6, REPLACE), after("STOREDIST", 6, REPLACE)];
const RADIUS_BY_MEMBER_KEYS: &[KeySpec] = &[key(1, READ), after("STORE", 5, REPLACE), after("STOREDIST", 5, REPLACE)];

pub(super) static ROWS: &[Command] = &[
    stream("xack", -4, WRITE | FAST, &[key(1, CHANGE)], "5.0.0", Key),
    stream("xadd", -5, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "5.0.0", Key),
    stream("xautoclaim", -6, WRITE | FAST, &[key(1, REMOVE)], "6.2.0", Key),
    stream("xclaim", -6, WRITE | FAST, &[key(1, CHANGE)], "5.0.0", Key),
    stream("xdel", -3, WRITE | FAST, &[key(1, REMOVE)], "5.0.0", Key),
    stream("xgroup", -2, 0, &[], "5.0.0", One).of(XGROUP_SUB),
    stream("xinfo", -2, 0, &[], "5.0.0", One).of(XINFO_SUB),
    stream("xlen", 2, READONLY | FAST, &[key(1, RO)], "5.0.0", Key),
    stream("xpending", -3, READONLY, &[key(1, READ)], "5.0.0", Key),
    stream("xrange", -4, READONLY, &[key(1, READ)], "5.0.0", Key),
    stream("xread", -4, READONLY | BLOCKING, &[streams(1, READ)], "5.0.0", Keys),
    stream("xreadgroup", -7, WRITE | BLOCKING, &[streams(4, READ)], "5.0.0", Keys),
    stream("xrevrange", -4, READONLY, &[key(1, READ)], "5.0.0", Key),
    stream("xsetid", -3, WRITE | DENYOOM | FAST, &[key(1, CHANGE)], "5.0.0", Key),
    stream("xtrim", -4, WRITE, &[key(1, REMOVE)], "5.0.0", Key),
    geo("geoadd", -5, WRITE | DENYOOM, &[key(1, CHANGE)], "3.2.0", Key),
    geo("geodist", -4, READONLY, &[key(1, READ)], "3.2.0", Key),
    geo("geohash", -2, READONLY, &[key(1, READ)], "3.2.0", Key),
    geo("geopos", -2, READONLY, &[key(1, READ)], "3.2.0", Key),
    geo("georadius", -6, WRITE | DENYOOM, RADIUS_KEYS, "3.2.0", Keys).deprecated("6.2.0"),
    geo("georadius_ro", -6, READONLY, &[key(1, READ)], "3.2.10", Key).deprecated("6.2.0"),
    geo("georadiusbymember", -5, WRITE | DENYOOM, RADIUS_BY_MEMBER_KEYS, "3.2.0", Keys).deprecated("6.2.0"),
    geo("georadiusbymember_ro", -5, READONLY, &[key(1, READ)], "3.2.10", Key).deprecated("6.2.0"),
    geo("geosearch", -7, READONLY, &[key(1, READ)], "6.2.0", Key),
    geo("geosearchstore", -8, WRITE | DENYOOM, &[key(1, REPLACE), key(2, READ)], "6.2.0", Keys),
];

static XGROUP_SUB: &[Command] = &[
    stream("xgroup|create", -5, WRITE | DENYOOM, &[key(2, ADD)], "5.0.0", Key),
    stream("xgroup|createconsumer", 5, WRITE | DENYOOM, &[key(2, ADD)], "6.2.0", Key),
    stream("xgroup|delconsumer", 5, WRITE, &[key(2, REMOVE)], "5.0.0", Key),
    stream("xgroup|destroy", 4, WRITE, &[key(2, REMOVE)], "5.0.0", Key),
    stream("xgroup|help", 2, LOADING | STALE, &[], "5.0.0", One),
    stream("xgroup|setid", -5, WRITE, &[key(2, CHANGE)], "5.0.0", Key),
];

static XINFO_SUB: &[Command] = &[
    stream("xinfo|consumers", 4, READONLY, &[key(2, READ)], "5.0.0", Key),
    stream("xinfo|groups", 3, READONLY, &[key(2, READ)], "5.0.0", Key),
    stream("xinfo|help", 2, LOADING | STALE, &[], "5.0.0", One),
    stream("xinfo|stream", -3, READONLY, &[key(2, READ)], "5.0.0", Key),
];

const fn stream(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Stream, route)
}

const fn geo(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: &'static [KeySpec],
    since: &'static str,
    route: Route,
) -> Command {
    row(name, arity, flags, keys, since, Group::Geo, route)
}
