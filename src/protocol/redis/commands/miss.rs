//! What Redis answers to a read when there is no such key: what a client gets when the server of its keys is ejected and
//! the pool is to treat that as a miss.

use super::Command;
use crate::protocol::redis::Version::{self, Resp2};
use crate::protocol::redis::reply::{EMPTY_ARRAY, NULL_ARRAY, write_array_header};

const ZERO: &[u8] = b":0\r\n";
/// There is no key, so it has no time to live either.
const NO_KEY: &[u8] = b":-2\r\n";
const EMPTY_BULK: &[u8] = b"$0\r\n\r\n";
const NO_TYPE: &[u8] = b"+none\r\n";
/// The scan is over, and found nothing.
const SCANNED: &[u8] = b"*2\r\n$1\r\n0\r\n*0\r\n";
const NO_MATCHES: &[u8] = b"*4\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n";
const NO_MATCHES_3: &[u8] = b"%2\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n";
const EMPTY_SET_3: &[u8] = b"~0\r\n";
const EMPTY_MAP_3: &[u8] = b"%0\r\n";

/// The reply for a missing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Miss {
    /// Always this.
    Is(&'static [u8]),
    /// An array with this element for every `step` arguments from `from` on.
    Each { from: usize, step: usize, element: &'static [u8] },
    /// Nil; the empty array when a number of members is asked for, which is argument 2.
    Members,
    /// LPOS: nil; the empty array with COUNT.
    Positions,
    /// LCS: the empty string; a length with LEN, a map with IDX.
    Subsequence,
    /// BITPOS: a missing key is zeros without end. So the first 0 is at 0, and there is no 1.
    FirstBit,
}

/// Every command that reads by key, but scripts (they decide for themselves what to answer) and XPENDING and XINFO (a
/// missing key is an error to them).
fn miss(name: &str, version: Version) -> Option<Miss> {
    const fn each(from: usize, element: &'static [u8]) -> Miss {
        Miss::Each { from, step: 1, element }
    }
    let null = version.null();
    let (null_array, empty_set, empty_map) = match version {
        Resp2 => (NULL_ARRAY, EMPTY_ARRAY, EMPTY_ARRAY),
        Version::Resp3 => (null, EMPTY_SET_3, EMPTY_MAP_3),
    };
    Some(match name {
        "get" | "hget" | "lindex" | "zscore" | "zrank" | "zrevrank" | "geodist" | "dump" => Miss::Is(null),
        "object|encoding" | "object|freq" | "object|idletime" | "object|refcount" | "memory|usage" => Miss::Is(null),
        "getrange" | "substr" => Miss::Is(EMPTY_BULK),
        "strlen" | "bitcount" | "getbit" | "pfcount" | "exists" | "touch" => Miss::Is(ZERO),
        "llen" | "scard" | "hlen" | "zcard" | "xlen" => Miss::Is(ZERO),
        "sismember" | "hexists" | "hstrlen" | "zcount" | "zlexcount" | "sintercard" | "zintercard" => Miss::Is(ZERO),
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => Miss::Is(NO_KEY),
        "type" => Miss::Is(NO_TYPE),
        "lrange" | "sort_ro" => Miss::Is(EMPTY_ARRAY),
        "smembers" | "sdiff" | "sinter" | "sunion" => Miss::Is(empty_set),
        "hgetall" => Miss::Is(empty_map),
        "hkeys" | "hvals" => Miss::Is(EMPTY_ARRAY),
        "zrange" | "zrangebylex" | "zrangebyscore" | "zrevrange" | "zrevrangebylex" | "zrevrangebyscore" => {
            Miss::Is(EMPTY_ARRAY)
        }
        "zdiff" | "zinter" | "zunion" | "xrange" | "xrevrange" => Miss::Is(EMPTY_ARRAY),
        "geosearch" | "georadius_ro" | "georadiusbymember_ro" => Miss::Is(EMPTY_ARRAY),
        "xread" => Miss::Is(null_array),
        "sscan" | "hscan" | "zscan" => Miss::Is(SCANNED),
        "mget" => each(1, null),
        "hmget" | "zmscore" | "geohash" => each(2, null),
        "geopos" => each(2, null_array),
        "smismember" => each(2, ZERO),
        // key FIELDS count field ...
        "httl" | "hpttl" | "hexpiretime" | "hpexpiretime" => each(4, NO_KEY),
        // key GET type offset ...
        "bitfield_ro" => Miss::Each { from: 2, step: 3, element: ZERO },
        "srandmember" | "hrandfield" | "zrandmember" => Miss::Members,
        "lpos" => Miss::Positions,
        "lcs" => Miss::Subsequence,
        "bitpos" => Miss::FirstBit,
        _ => return None,
    })
}

impl Command {
    /// Appends what Redis would answer if it had none of the keys. False, and nothing is appended, if the command is no
    /// read or has no such answer. The arguments are looked at for the shape of the reply only: a mistake in them that
    /// Redis would refuse is not noticed.
    pub fn write_miss<'a>(
        &self,
        version: Version,
        argc: usize,
        arg: impl Fn(usize) -> Option<&'a [u8]>,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(miss) = miss(self.name, version) else { return false };
        let has = |word: &str| (3..argc).filter_map(&arg).any(|a| a.eq_ignore_ascii_case(word.as_bytes()));
        let reply = match miss {
            // WITHSCORE.
            Miss::Is(_) if self.name.ends_with("rank") && argc > 3 && version == Resp2 => NULL_ARRAY,
            Miss::Is(reply) => reply,
            Miss::Each { from, step, element } => {
                let elements = argc.saturating_sub(from) / step;
                write_array_header(out, elements);
                (0..elements).for_each(|_| out.extend_from_slice(element));
                return true;
            }
            Miss::Members if argc > 2 => EMPTY_ARRAY,
            Miss::Positions if has("count") => EMPTY_ARRAY,
            Miss::Members | Miss::Positions => version.null(),
            Miss::Subsequence if has("idx") => {
                if version == Resp2 {
                    NO_MATCHES
                } else {
                    NO_MATCHES_3
                }
            }
            Miss::Subsequence if has("len") => ZERO,
            Miss::Subsequence => EMPTY_BULK,
            Miss::FirstBit if arg(2) == Some(b"0") => ZERO,
            Miss::FirstBit => b":-1\r\n",
        };
        out.extend_from_slice(reply);
        true
    }
}
