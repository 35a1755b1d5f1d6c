//! What is asked: each command in its forms. A line is a form; one that begins with `*` is chosen more often.
//!
//! Words in capitals stand for themselves, `[ a | b ]` for one of these or nothing, `( a | b )` for one of these, `{ a }` for one
//! or more times that. Words in small letters are made up by `generator.rs`: `k` is any key, `ks kl kh kx kz kt kg kp` one that
//! probably holds a string, list, hash, set, sorted set, stream, places, HyperLogLog, `kq` a sorted set of equal scores; `#kx` is a number and that many keys.

/// Everything that reads and writes keys, and what it needs of a connection.
pub const DATA: &str = r"
*SET ks v [ NX | XX ] [ GET ] [ EX ttl | PX ttl | EXAT at | PXAT at | KEEPTTL ]
*SET ks i
GET ks
GETDEL ks
GETEX ks [ EX ttl | PX ttl | EXAT at | PXAT at | PERSIST ]
GETSET ks v
GETRANGE ks i i
SUBSTR ks i i
SETRANGE ks o v
SETEX ks ttl v
PSETEX ks ttl v
SETNX ks v
STRLEN ks
APPEND ks v
INCR ks
DECR ks
INCRBY ks i
DECRBY ks i
INCRBYFLOAT ks f
MGET { ks }
MSET { ks v }
MSETNX { ks v }
LCS ks ks [ LEN | IDX [ MINMATCHLEN n ] [ WITHMATCHLEN ] ]
SETBIT ks o ( 0 | 1 | n )
GETBIT ks o
BITCOUNT ks [ i i [ BIT | BYTE ] ]
BITPOS ks ( 0 | 1 | n ) [ i [ i [ BIT | BYTE ] ] ]
BITOP ( AND | OR | XOR | NOT | NAND ) ks { ks }
BITFIELD ks { [ OVERFLOW ( WRAP | SAT | FAIL ) ] ( GET type o | SET type o i | INCRBY type o i ) }
BITFIELD_RO ks { GET type o }
*LPUSH kl { v }
*RPUSH kl { v }
LPUSHX kl { v }
RPUSHX kl v
LPOP kl [ n ]
RPOP kl [ n ]
LRANGE kl i i
LLEN kl
LINDEX kl i
LSET kl i v
LINSERT kl ( BEFORE | AFTER | x ) v v
LREM kl i v
LTRIM kl i i
LPOS kl v [ RANK i ] [ COUNT i ] [ MAXLEN i ]
LMOVE kl kl ( LEFT | RIGHT ) ( LEFT | RIGHT )
RPOPLPUSH kl kl
LMPOP #kl ( LEFT | RIGHT | UP ) [ COUNT n ]
BLPOP { kl } tmo
BRPOP { kl } tmo
BLMOVE kl kl ( LEFT | RIGHT ) ( LEFT | RIGHT ) tmo
BRPOPLPUSH kl kl tmo
BLMPOP tmo #kl ( LEFT | RIGHT ) [ COUNT n ]
*HSET kh { fld v }
*HSET kh { fld i }
HMSET kh { fld v }
HSETNX kh fld v
HGET kh fld
HMGET kh { fld }
HGETALL kh
HKEYS kh
HVALS kh
HLEN kh
HSTRLEN kh fld
HEXISTS kh fld
HDEL kh { fld }
HINCRBY kh fld i
HINCRBYFLOAT kh fld f
HSCAN kh cur COUNT many [ MATCH pat ]
HRANDFIELD kh [ i [ WITHVALUES ] ]
*SADD kx { v }
*SADD kx { i }
SREM kx { v }
SMEMBERS kx
SISMEMBER kx v
SMISMEMBER kx { v }
SCARD kx
SMOVE kx kx v
SPOP kx many
SRANDMEMBER kx [ i ]
SUNION { kx }
SINTER { kx }
SDIFF { kx }
SUNIONSTORE kx { kx }
SINTERSTORE kx { kx }
SDIFFSTORE kx { kx }
SINTERCARD #kx [ LIMIT n ]
SSCAN kx cur COUNT many [ MATCH pat ]
*ZADD kz [ NX | XX ] [ GT | LT ] [ CH ] [ INCR ] { sc v }
*ZADD kz { sc v }
ZINCRBY kz sc v
ZREM kz { v }
ZCARD kz
ZSCORE kz v
ZMSCORE kz { v }
ZRANK kz v
ZREVRANK kz v
ZCOUNT kz bnd bnd
ZLEXCOUNT kq lex lex
ZRANGE kz i i [ REV ] [ WITHSCORES ]
ZRANGE kz bnd bnd BYSCORE [ REV ] [ LIMIT i i ] [ WITHSCORES ]
ZRANGE kq lex lex BYLEX [ REV ] [ LIMIT i i ]
ZREVRANGE kz i i [ WITHSCORES ]
ZRANGEBYSCORE kz bnd bnd [ WITHSCORES ] [ LIMIT i i ]
ZREVRANGEBYSCORE kz bnd bnd [ WITHSCORES ]
ZRANGEBYLEX kq lex lex [ LIMIT i i ]
ZREVRANGEBYLEX kq lex lex
ZRANGESTORE kz kz i i
ZRANGESTORE kz kz bnd bnd BYSCORE
ZREMRANGEBYRANK kz i i
ZREMRANGEBYSCORE kz bnd bnd
ZREMRANGEBYLEX kq lex lex
ZADD kq { 0 v }
ZPOPMIN kz [ n ]
ZPOPMAX kz [ n ]
ZMPOP #kz ( MIN | MAX ) [ COUNT n ]
BZPOPMIN { kz } tmo
BZPOPMAX { kz } tmo
BZMPOP tmo #kz ( MIN | MAX ) [ COUNT n ]
ZUNION #kz [ WEIGHTS f f ] [ AGGREGATE ( SUM | MIN | MAX ) ] [ WITHSCORES ]
ZINTER #kz [ WEIGHTS f ] [ AGGREGATE ( SUM | MIN | MAX ) ] [ WITHSCORES ]
ZDIFF #kz [ WITHSCORES ]
ZUNIONSTORE kz #kz [ WEIGHTS f f ] [ AGGREGATE ( SUM | MIN | MAX ) ]
ZINTERSTORE kz #kz [ AGGREGATE ( SUM | MIN | MAX ) ]
ZDIFFSTORE kz #kz
ZINTERCARD #kz [ LIMIT n ]
ZSCAN kz cur [ COUNT many ] [ MATCH pat ]
ZRANDMEMBER kz [ i [ WITHSCORES ] ]
*GEOADD kg [ NX | XX ] [ CH ] { lon lat v }
GEODIST kg v v [ M | KM | FT | MI ]
GEOPOS kg { v }
GEOHASH kg { v }
GEOSEARCH kg ( FROMMEMBER v | FROMLONLAT lon lat ) ( BYRADIUS n KM | BYBOX n n KM ) [ ASC | DESC ] [ COUNT n [ ANY ] ] [ WITHCOORD ] [ WITHDIST ] [ WITHHASH ]
GEOSEARCHSTORE kg kg FROMLONLAT lon lat BYRADIUS n KM [ STOREDIST ]
GEORADIUS kg lon lat n KM [ WITHDIST ] [ ASC ] [ STORE kz ]
GEORADIUS_RO kg lon lat n KM
GEORADIUSBYMEMBER kg v n KM
GEORADIUSBYMEMBER_RO kg v n KM
*PFADD kp { v }
PFCOUNT { kp }
PFMERGE kp { kp }
*XADD kt [ NOMKSTREAM ] [ ( MAXLEN | MINID ) [ = | ~ ] n [ LIMIT n ] ] id { fld v }
*XADD kt id { fld v }
XLEN kt
XRANGE kt rid rid [ COUNT i ]
XREVRANGE kt rid rid [ COUNT i ]
XDEL kt { id }
XTRIM kt ( MAXLEN | MINID ) [ = | ~ ] n [ LIMIT n ]
XSETID kt id
XREAD [ COUNT i ] STREAMS kt id
XREAD STREAMS kt kt id id
XREAD BLOCK ms STREAMS kt ( $ | id )
*XGROUP CREATE kt grp ( 0 | $ | id ) [ MKSTREAM ]
XGROUP SETID kt grp ( 0 | $ | id )
XGROUP CREATECONSUMER kt grp con
XGROUP DELCONSUMER kt grp con
XGROUP DESTROY kt grp
*XREADGROUP GROUP grp con [ COUNT i ] [ NOACK ] STREAMS kt ( > | id )
XREADGROUP GROUP grp con BLOCK ms STREAMS kt >
XACK kt grp { id }
XPENDING kt grp [ rid rid i [ con ] ]
XCLAIM kt grp con 0 { id } [ JUSTID ]
XAUTOCLAIM kt grp con 0 id [ COUNT n ] [ JUSTID ]
XINFO STREAM kt
XINFO GROUPS kt
XINFO CONSUMERS kt grp
XINFO HELP
DEL { k }
UNLINK { k }
EXISTS { k }
TOUCH { k }
TYPE k
EXPIRE k ttl [ NX | XX ]
PEXPIRE k ttl [ NX | XX ]
EXPIREAT k at [ NX | XX | GT | LT ]
PEXPIREAT k at
PERSIST k
TTL k
PTTL k
EXPIRETIME k
PEXPIRETIME k
RENAME k k
RENAMENX k k
COPY k k [ REPLACE ]
MOVE k n
DUMP k
RESTORE k ttl payload [ REPLACE ] [ ABSTTL ] [ IDLETIME n ]
SORT kl [ BY pat ] [ LIMIT i i ] [ GET # | GET pat ] [ ASC | DESC ] [ ALPHA ] [ STORE kl ]
SORT_RO kz [ LIMIT i i ] [ ALPHA ]
OBJECT ENCODING k
OBJECT REFCOUNT k
OBJECT IDLETIME k
OBJECT FREQ k
OBJECT HELP
MEMORY USAGE k [ SAMPLES n ]
EVAL script #k { v }
EVAL_RO roscript #k { v }
EVALSHA sha #k { v }
EVALSHA_RO sha #k
EVAL return(1) 0
SCRIPT LOAD script
SCRIPT EXISTS { sha }
FCALL name #k { v }
FCALL_RO name #k
FUNCTION LOAD [ REPLACE ] library
FUNCTION DELETE name
FUNCTION LIST [ LIBRARYNAME name ] [ WITHCODE ]
FUNCTION FLUSH
FUNCTION DUMP
PUBLISH chn v
SPUBLISH chn v
PUBSUB CHANNELS [ pat ]
PUBSUB NUMSUB { chn }
PUBSUB NUMPAT
KEYS pat
SCAN cur COUNT many [ MATCH pat ] [ TYPE ( string | list | hash | set | zset | stream | nosuch ) ]
RANDOMKEY
DBSIZE
WAIT ( 0 | 1 ) 1
PING
PING v
ECHO v
TIME
SELECT ( 0 | 1 | i )
CLIENT SETNAME cli
CLIENT GETNAME
CLIENT ID
CLIENT NO-EVICT ( ON | OFF | x )
AUTH v
HELLO i
HELLO ( 2 | 3 ) [ AUTH v v ] [ SETNAME cli ]
READONLY
LASTSAVE
ROLE
FLUSHDB [ ASYNC | SYNC | x ]
FLUSHALL
SWAPDB ( 0 | 1 ) ( 0 | 1 | x )
CONFIG GET hz
CONFIG GET nosuch x
CONFIG SET nosuch 1
CLUSTER KEYSLOT k
CLUSTER NODES
NOSUCH { v }
OBJECT nosuch k
CLIENT nosuch
";

/// What begins, ends and disturbs transactions.
pub const TRANSACTIONS: &str = r"
*MULTI
*EXEC
DISCARD
*WATCH { k }
UNWATCH
EXEC x
MULTI x
WATCH
RESET
";

/// Subscriptions, and what may and may not be asked beside them.
pub const SUBSCRIPTIONS: &str = r"
*SUBSCRIBE { chn }
*PSUBSCRIBE { pat }
*UNSUBSCRIBE
UNSUBSCRIBE { chn }
PUNSUBSCRIBE
PUNSUBSCRIBE { pat }
SSUBSCRIBE { chn }
SUNSUBSCRIBE [ chn ]
*PUBLISH chn v
*PUBLISH chn v
SPUBLISH chn v
PUBSUB CHANNELS [ pat ]
PUBSUB NUMSUB { chn }
PUBSUB NUMPAT
PUBSUB SHARDCHANNELS
PUBSUB SHARDNUMSUB { chn }
PING
PING v
GET ks
SET ks v
INCR ks
LPUSH kl { v }
MGET { ks }
EXISTS { k }
NOSUCH
ECHO v
SUBSCRIBE
PSUBSCRIBE
";

/// A piece of a form.
#[derive(Debug, Clone)]
pub enum Piece {
    Word(String),
    /// One of these.
    One(Vec<Vec<Piece>>),
    /// One of these or nothing.
    Maybe(Vec<Vec<Piece>>),
    /// That, once or more.
    Many(Vec<Piece>),
}

/// The forms of a text, the favoured ones several times.
pub fn forms(text: &str) -> Vec<Vec<Piece>> {
    let mut forms = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (times, line) = line.strip_prefix('*').map_or((1, line), |line| (5, line));
        let mut words = line.split(' ').peekable();
        let form = sequence(&mut words);
        assert!(words.next().is_none(), "{line}");
        forms.extend(std::iter::repeat_n(form, times));
    }
    forms
}

type Words<'a> = std::iter::Peekable<std::str::Split<'a, char>>;

fn sequence(words: &mut Words<'_>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some(word) = words.next_if(|word| !matches!(*word, "]" | ")" | "}" | "|")) {
        pieces.push(match word {
            "[" => Piece::Maybe(alternatives(words, "]")),
            "(" => Piece::One(alternatives(words, ")")),
            "{" => Piece::Many(alternatives(words, "}").remove(0)),
            word => Piece::Word(word.to_owned()),
        });
    }
    pieces
}

fn alternatives(words: &mut Words<'_>, end: &str) -> Vec<Vec<Piece>> {
    let mut all = vec![sequence(words)];
    while words.next_if_eq(&"|").is_some() {
        all.push(sequence(words));
    }
    assert_eq!(words.next(), Some(end), "of the grammar");
    all
}
