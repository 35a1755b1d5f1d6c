//! What is answered in place of a server's "there is no such key", against a redis-server that is empty.

use std::collections::BTreeSet;

use outrigger::protocol::redis::Version;
use outrigger::protocol::redis::commands::{self, Command, Resolved, Route};

use super::live::{Server, ask, words};

/// Each command that reads by key, in each form that has a reply of another shape.
const READS: &str = "
    GET k|GETRANGE k 0 9|SUBSTR k 0 9|STRLEN k|MGET a|MGET a b c
    LCS a b|LCS a b LEN|LCS a b IDX|LCS a b idx MINMATCHLEN 4 WITHMATCHLEN
    BITCOUNT k|BITCOUNT k 0 1|GETBIT k 7|BITPOS k 0|BITPOS k 1|BITPOS k 1 0|BITPOS k 0 2 3
    BITFIELD_RO k|BITFIELD_RO k GET u8 0|BITFIELD_RO k GET u8 0 GET i16 #3|PFCOUNT k|PFCOUNT a b
    LINDEX k 0|LLEN k|LRANGE k 0 -1|LPOS k a|LPOS k a RANK 2|LPOS k a COUNT 0|LPOS k count|LPOS k a RANK 1 count 3 MAXLEN 2
    SCARD k|SDIFF a b|SINTER a b|SINTERCARD 2 a b LIMIT 3|SISMEMBER k m|SMEMBERS k|SMISMEMBER k m|SMISMEMBER k m n
    SRANDMEMBER k|SRANDMEMBER k 2|SRANDMEMBER k -2|SSCAN k 0|SSCAN k 0 COUNT 3|SUNION a b
    HEXISTS k f|HGET k f|HGETALL k|HKEYS k|HLEN k|HMGET k f|HMGET k f g h|HSTRLEN k f|HVALS k
    HRANDFIELD k|HRANDFIELD k 2|HRANDFIELD k 2 WITHVALUES|HSCAN k 0 MATCH *
    ZCARD k|ZCOUNT k 0 1|ZDIFF 2 a b|ZINTER 2 a b WITHSCORES|ZINTERCARD 2 a b|ZLEXCOUNT k - +|ZMSCORE k m|ZMSCORE k m n
    ZRANDMEMBER k|ZRANDMEMBER k 2|ZRANDMEMBER k 2 WITHSCORES|ZRANGE k 0 -1|ZRANGE k 0 -1 WITHSCORES|ZRANGEBYLEX k - +
    ZRANGEBYSCORE k 0 1|ZRANK k m|ZREVRANGE k 0 1|ZREVRANGEBYLEX k + -|ZREVRANGEBYSCORE k 1 0|ZREVRANK k m|ZSCAN k 0
    ZSCORE k m|ZUNION 2 a b
    DUMP k|EXISTS k|EXPIRETIME k|PEXPIRETIME k|PTTL k|SORT_RO k|SORT_RO k GET x*|TOUCH k|TTL k|TYPE k
    OBJECT ENCODING k|OBJECT FREQ k|OBJECT IDLETIME k|OBJECT REFCOUNT k|MEMORY USAGE k
    XLEN k|XRANGE k - +|XREVRANGE k + -|XREAD STREAMS k 0|XREAD COUNT 2 STREAMS a b 0 0
    XPENDING k g|XINFO CONSUMERS k g|XINFO GROUPS k|XINFO STREAM k
    GEODIST k a b|GEOHASH k a|GEOHASH k a b|GEOPOS k a|GEOPOS k a b|GEOSEARCH k FROMLONLAT 0 0 BYRADIUS 1 m
    GEORADIUS_RO k 0 0 1 m|GEORADIUSBYMEMBER_RO k m 1 m
    HTTL k FIELDS 2 a b|HPTTL k FIELDS 1 a|HEXPIRETIME k FIELDS 2 a b|HPEXPIRETIME k FIELDS 1 a";

/// Those that Redis 7.0 does not know yet, with what 7.4 answers.
fn newer(line: &str) -> Option<&'static str> {
    let is_new = ["HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME"].iter().any(|name| line.starts_with(name));
    is_new.then_some(if line.contains("FIELDS 2") { "*2\r\n:-2\r\n:-2\r\n" } else { "*1\r\n:-2\r\n" })
}

fn lines() -> impl Iterator<Item = &'static str> {
    READS.split(['|', '\n']).map(str::trim).filter(|line| !line.is_empty())
}

fn command(words: &[&str]) -> &'static Command {
    match commands::resolve(words.len(), |index| words.get(index).map(|word| word.as_bytes())) {
        Resolved::Command(command) => command,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The reply, if there is one for a miss.
fn miss(version: Version, words: &[&str]) -> Option<String> {
    let mut out = Vec::new();
    let arg = |index: usize| words.get(index).map(|word: &&str| word.as_bytes());
    let found = command(words).write_miss(version, words.len(), arg, &mut out);
    assert_eq!(found, !out.is_empty());
    found.then(|| String::from_utf8(out).unwrap())
}

#[test]
fn misses_are_answered_as_an_empty_server_answers() {
    let Some(server) = Server::start() else { return };
    let (mut two, mut three) = (server.connect(), server.connect());
    ask(&mut three, &words("HELLO 3"));
    for (version, line) in
        [Version::Resp2, Version::Resp3].into_iter().flat_map(|version| lines().map(move |line| (version, line)))
    {
        let stream = if version == Version::Resp2 { &mut two } else { &mut three };
        let reply = String::from_utf8(ask(stream, &words(line))).unwrap();
        let reply = match newer(line) {
            Some(newer) if reply.starts_with("-ERR unknown command") => newer.to_owned(),
            _ => reply,
        };
        // What Redis itself calls an error is no miss.
        assert_eq!(
            miss(version, &words(line)),
            Some(reply).filter(|reply| !reply.starts_with('-')),
            "{version:?} {line}"
        );
    }
}

#[test]
fn no_command_that_reads_by_key_is_forgotten() {
    let covered: BTreeSet<&str> = lines().map(|line| command(&words(line)).name).collect();
    let all = commands::all().flat_map(|command| std::iter::once(command).chain(command.subcommands));
    let forwarded = all.clone().filter(|c| matches!(c.route, Route::Key | Route::Keys | Route::Split(_)));
    let reads: BTreeSet<&str> = forwarded.filter(|command| command.is_read()).map(|command| command.name).collect();
    assert_eq!(covered, reads);
    for command in all.filter(|command| !command.is_read()) {
        let mut out = Vec::new();
        assert!(!command.write_miss(Version::Resp2, 9, |_| Some(b"k"), &mut out), "{} is no read", command.name);
    }
}
