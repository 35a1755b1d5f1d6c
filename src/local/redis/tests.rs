//! Every command, with the replies of redis-server 7.0; time is what each step says it is.

use bytes::BytesMut;

use super::*;

const MEMORY: u64 = 1024 * 1024;

/// A server and one connection to it.
struct Peer {
    server: RedisServer,
    session: RedisSession,
    now: Millis,
}

impl Peer {
    fn new() -> Self {
        let server = RedisServer::new(MEMORY);
        Self { session: server.session(), server, now: 1_000_000 }
    }

    fn send(&mut self, request: &[u8]) -> (String, Flow) {
        let (mut input, mut output) = (BytesMut::from(request), Vec::new());
        let flow = self.server.serve(&mut self.session, &mut input, &mut output, self.now);
        (String::from_utf8_lossy(&output).replace("\r\n", "|").replace('\0', "\\x00"), flow)
    }

    /// The reply to one command, its arguments separated by spaces; `_` is an empty argument.
    fn ask(&mut self, command: &str) -> String {
        let arguments: Vec<_> = command.split(' ').map(|a| if a == "_" { "" } else { a }).collect();
        let mut request = format!("*{}\r\n", arguments.len());
        for argument in arguments {
            request.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
        }
        self.send(request.as_bytes()).0
    }

    /// Runs a conversation: `command → reply`, and `@ms` to set the clock relative to the start.
    fn converse(&mut self, conversation: &str) {
        for line in conversation.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(millis) = line.strip_prefix('@') {
                self.now = 1_000_000 + millis.parse::<Millis>().unwrap();
                continue;
            }
            let (command, reply) = line.split_once(" → ").unwrap();
            assert_eq!(self.ask(command.trim()), reply.trim(), "{command} at {}", self.now);
        }
    }
}

fn converse(conversation: &str) {
    Peer::new().converse(conversation);
}

#[test]
fn the_table_is_sorted_and_every_command_checks_its_arity() {
    assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
    let mut peer = Peer::new();
    for command in &COMMANDS {
        let wanted = command.arity.unsigned_abs() as usize;
        let upper = command.name.to_ascii_uppercase();
        let error = format!("-ERR wrong number of arguments for '{}' command|", command.name);
        if wanted > 1 {
            assert_eq!(peer.ask(&[upper.as_str()].repeat(wanted - 1).join(" ")), error);
        }
        if command.arity > 0 {
            assert_eq!(peer.ask(&[upper.as_str()].repeat(wanted + 1).join(" ")), error);
        }
    }
}

#[test]
fn anything_else_says_that_it_is_not_offered() {
    let rest = "is not offered by Outrigger's in-process servers; point the pool at a real Redis|";
    let mut peer = Peer::new();
    assert_eq!(peer.ask("LPUSH k v"), format!("-ERR 'LPUSH' {rest}"));
    assert_eq!(peer.ask("multi"), format!("-ERR 'multi' {rest}"));
    let (reply, flow) = peer.send(b"*1\r\n$8\r\na\r\n+OK\xff\n\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(reply, format!(r"-ERR 'a\r\n+OK\xff\n' {rest}+PONG|"));
    assert_eq!(flow, Flow::NeedsInput);
}

#[test]
fn get_and_set() {
    converse(
        "GET k → $-1|
         SET k v → +OK|
         GET k → $1|v|
         set k _ → +OK|
         GET k → $0||
         SET k 1 NX → $-1|
         SET k 1 XX → +OK|
         SET n 1 xx → $-1|
         SET n 1 nx → +OK|
         SET k 2 GET → $1|1|
         SET new 2 GET → $-1|
         SET k 3 NX GET → $1|2|
         GET k → $1|2|
         SET k 3 NX XX → -ERR syntax error|
         SET k 3 EX → -ERR syntax error|
         SET k 3 EX 10 PX 10 → -ERR syntax error|
         SET k 3 EX 10 KEEPTTL → -ERR syntax error|
         SET k 3 KEEPTTL EX 10 → -ERR syntax error|
         SET k 3 PERSIST → -ERR syntax error|
         SET k 3 WHAT → -ERR syntax error|
         GET k → $1|2|
         SETNX k 9 → :0|
         SETNX k9 9 → :1|
         GETSET k 4 → $1|2|
         GETSET fresh 4 → $-1|
         GETDEL k → $1|4|
         GETDEL k → $-1|",
    );
}

#[test]
fn expiry_options_of_set() {
    converse(
        "SET k v EX 10 → +OK|
         PTTL k → :10000|
         TTL k → :10|
         @9999
         GET k → $1|v|
         @10000
         GET k → $-1|
         @0
         SET k v PX 1 → +OK|
         PTTL k → :1|
         SET k w KEEPTTL → +OK|
         PTTL k → :1|
         SET k w → +OK|
         PTTL k → :-1|
         SET k v EXAT 1001 → +OK|
         PTTL k → :1000|
         SET k v PXAT 1000001 → +OK|
         PTTL k → :1|
         SET k v EX 20 EX 30 → +OK|
         TTL k → :30|
         SET k v PXAT 999 → +OK|
         GET k → $-1|
         SETEX k 5 v → +OK|
         PEXPIRETIME k → :1005000|
         PSETEX k 5 v → +OK|
         PEXPIRETIME k → :1000005|
         SET k v EX 0 → -ERR invalid expire time in 'set' command|
         SET k v PX -1 → -ERR invalid expire time in 'set' command|
         SET k v EX 9223372036854775807 → -ERR invalid expire time in 'set' command|
         SET k v PX 9223372036854775807 → -ERR invalid expire time in 'set' command|
         SET k v EX 1.5 → -ERR value is not an integer or out of range|
         SETEX k 0 v → -ERR invalid expire time in 'setex' command|
         PSETEX k -9 v → -ERR invalid expire time in 'psetex' command|",
    );
}

#[test]
fn getex() {
    converse(
        "GETEX k EX x → $-1|
         SET k v → +OK|
         GETEX k → $1|v|
         GETEX k EX 10 → $1|v|
         TTL k → :10|
         GETEX k → $1|v|
         TTL k → :10|
         GETEX k PERSIST → $1|v|
         TTL k → :-1|
         GETEX k PXAT 1000007 → $1|v|
         PTTL k → :7|
         GETEX k EX 0 → -ERR invalid expire time in 'getex' command|
         GETEX k NX → -ERR syntax error|
         GETEX k EX 5 PERSIST → -ERR syntax error|
         GETEX k EXAT 1 → $1|v|
         EXISTS k → :0|",
    );
}

#[test]
fn several_keys() {
    converse(
        "MSET a 1 b 2 a 3 → +OK|
         MGET a missing b a → *4|$1|3|$-1|$1|2|$1|3|
         MSET a → -ERR wrong number of arguments for 'mset' command|
         MSET a 1 b → -ERR wrong number of arguments for 'mset' command|
         MSETNX c 1 a 2 → :0|
         EXISTS c → :0|
         MSETNX c 1 d 2 → :1|
         MSETNX c 1 d → -ERR wrong number of arguments for 'msetnx' command|
         EXISTS a a missing c → :3|
         TOUCH a a missing c → :3|
         DEL a a missing → :1|
         UNLINK b c → :2|
         DBSIZE → :1|
         PEXPIRE d 10 → :1|
         @10
         MGET d d → *2|$-1|$-1|
         DBSIZE → :0|",
    );
}

#[test]
fn counters() {
    converse(
        "INCR n → :1|
         INCRBY n 41 → :42|
         DECR n → :41|
         DECRBY n 42 → :-1|
         GET n → $2|-1|
         EXPIRE n 10 → :1|
         INCR n → :0|
         TTL n → :10|
         SET n 9223372036854775807 → +OK|
         INCR n → -ERR increment or decrement would overflow|
         DECRBY n -9223372036854775808 → -ERR decrement would overflow|
         SET n 007 → +OK|
         INCR n → -ERR value is not an integer or out of range|
         SET n _ → +OK|
         INCR n → -ERR value is not an integer or out of range|
         INCRBY m +1 → -ERR value is not an integer or out of range|
         INCRBY m -0 → -ERR value is not an integer or out of range|
         INCRBYFLOAT f 0.1 → $3|0.1|
         INCRBYFLOAT f 0.2 → $3|0.3|
         INCRBYFLOAT f -0.3 → $1|0|
         INCRBYFLOAT f x → -ERR value is not a valid float|
         INCRBYFLOAT f inf → -ERR increment would produce NaN or Infinity|
         SET f text → +OK|
         INCRBYFLOAT f 1 → -ERR value is not a valid float|",
    );
}

#[test]
fn parts_of_values() {
    converse(
        "APPEND k abc → :3|
         EXPIRE k 9 → :1|
         APPEND k def → :6|
         TTL k → :9|
         STRLEN k → :6|
         STRLEN missing → :0|
         GETRANGE k 1 3 → $3|bcd|
         GETRANGE k -3 -1 → $3|def|
         GETRANGE k -3 -4 → $0||
         GETRANGE k 0 -1 → $6|abcdef|
         GETRANGE k 5 900 → $1|f|
         GETRANGE k 6 900 → $0||
         GETRANGE k -900 0 → $1|a|
         GETRANGE k -900 -800 → $1|a|
         GETRANGE missing 0 -1 → $0||
         SUBSTR k 0 0 → $1|a|
         GETRANGE k a 0 → -ERR value is not an integer or out of range|
         SETRANGE k 2 XY → :6|
         GET k → $6|abXYef|
         SETRANGE k 8 Z → :9|
         GET k → $9|abXYef\\x00\\x00Z|
         SETRANGE k 1 _ → :9|
         SETRANGE none 1 _ → :0|
         EXISTS none → :0|
         SETRANGE pad 2 a → :3|
         GET pad → $3|\\x00\\x00a|
         SETRANGE k -1 a → -ERR offset is out of range|
         SETRANGE k 536870912 a → -ERR string exceeds maximum allowed size (proto-max-bulk-len)|
         SETRANGE k 9223372036854775807 a → -ERR string exceeds maximum allowed size (proto-max-bulk-len)|",
    );
}

#[test]
fn times_to_live() {
    converse(
        "TTL k → :-2|
         PTTL k → :-2|
         EXPIRETIME k → :-2|
         EXPIRE k 10 → :0|
         PERSIST k → :0|
         SET k v → +OK|
         EXPIRETIME k → :-1|
         PERSIST k → :0|
         EXPIRE k 10 → :1|
         EXPIRETIME k → :1010|
         PEXPIRETIME k → :1010000|
         PERSIST k → :1|
         PEXPIRE k 1499 → :1|
         TTL k → :1|
         PEXPIRE k 1500 → :1|
         TTL k → :2|
         EXPIREAT k 1020 → :1|
         TTL k → :20|
         PEXPIREAT k 1000030 → :1|
         PTTL k → :30|
         @29
         EXISTS k → :1|
         @30
         TTL k → :-2|
         @0
         SET k v → +OK|
         EXPIRE k -1 → :1|
         GET k → $-1|
         EXPIRE k 9223372036854775807 → -ERR invalid expire time in 'expire' command|
         PEXPIRE k 9223372036854775807 → -ERR invalid expire time in 'pexpire' command|
         EXPIRE k x → -ERR value is not an integer or out of range|",
    );
}

#[test]
fn conditions_of_expire() {
    converse(
        "SET k v → +OK|
         EXPIRE k 10 XX → :0|
         EXPIRE k 10 GT → :0|
         EXPIRE k 10 LT → :1|
         EXPIRE k 10 NX → :0|
         EXPIRE k 9 GT → :0|
         EXPIRE k 10 GT → :0|
         EXPIRE k 11 GT xx → :1|
         EXPIRE k 11 LT → :0|
         EXPIRE k 5 LT → :1|
         PERSIST k → :1|
         EXPIRE k 7 NX → :1|
         TTL k → :7|
         EXPIRE k -1 GT → :0|
         EXISTS k → :1|
         EXPIRE k 5 NX XX → -ERR NX and XX, GT or LT options at the same time are not compatible|
         EXPIRE k 5 GT LT → -ERR GT and LT options at the same time are not compatible|
         EXPIRE k 5 what → -ERR Unsupported option what|",
    );
}

#[test]
fn hello_says_which_version_is_spoken() {
    let hello = |header: &str, version: &str| {
        format!(
            "{header}|$6|server|$5|redis|$7|version|$6|7.0.15|$4|mode|$10|standalone|$4|role|$6|master|$5|proto|:{version}|"
        )
    };
    let (two, three) = (hello("*10", "2"), hello("%5", "3"));
    converse(&format!(
        "HELLO → {two}
         MGET a b → *2|$-1|$-1|
         HELLO 3 → {three}
         HELLO → {three}
         GET a → _|
         SET a 1 XX GET → _|
         MGET a b → *2|_|_|
         INCR a → :1|
         INCRBYFLOAT a 0.5 → $3|1.5|
         HELLO 4 → -NOPROTO unsupported protocol version|
         HELLO x → -ERR Protocol version is not an integer or out of range|
         HELLO 2 AUTH me any → -WRONGPASS invalid username-password pair or user is disabled.|
         HELLO 2 NONSENSE → -ERR Syntax error in HELLO option 'NONSENSE'|
         HELLO 2 SETNAME → -ERR Syntax error in HELLO option 'SETNAME'|
         GET b → _|
         HELLO 2 AUTH default any SETNAME me → {two}
         GET b → $-1|"
    ));
}

#[test]
fn keys_and_connections() {
    converse(
        "TYPE k → +none|
         SET k v → +OK|
         TYPE k → +string|
         PING → +PONG|
         PING hello → $5|hello|
         PING a b → -ERR wrong number of arguments for 'ping' command|
         ECHO hello → $5|hello|
         SELECT 0 → +OK|
         SELECT 1 → -ERR DB index is out of range|
         SELECT x → -ERR value is not an integer or out of range|
         AUTH default any → +OK|
         AUTH me any → -WRONGPASS invalid username-password pair or user is disabled.|
         AUTH a b c → -ERR syntax error|
         DBSIZE → :1|
         FLUSHALL NOW → -ERR syntax error|
         FLUSHALL ASYNC SYNC → -ERR syntax error|
         FLUSHDB ASYNC → +OK|
         DBSIZE → :0|
         SET k v → +OK|
         FLUSHALL → +OK|
         GET k → $-1|",
    );
    assert!(Peer::new().ask("AUTH pw").starts_with("-ERR AUTH <password> called without any password configured"));
}

#[test]
fn quit_answers_and_closes_and_later_requests_are_not_run() {
    let (reply, flow) = Peer::new().send(b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!((reply.as_str(), flow), ("+OK|", Flow::Close));
}

#[test]
fn a_broken_stream_is_answered_and_closed() {
    let (reply, flow) = Peer::new().send(b"*1\r\n$4\r\nPING\r\nGET / HTTP/1.1\r\n");
    assert_eq!(reply, "+PONG|-ERR Protocol error: expected '*' and '$' only|");
    assert_eq!(flow, Flow::Close);
}

#[test]
fn values_over_a_quarter_of_the_memory_are_refused_and_nothing_changes() {
    let mut peer = Peer::new();
    let large = "x".repeat(MEMORY as usize / 4);
    let error = "-ERR the value is too large for this in-process server: \
                 an item may take a quarter of its memory (local_memory)|";
    assert_eq!(peer.ask("SET k small"), "+OK|");
    for command in ["SET k", "SET k GET", "GETSET k", "APPEND k", "SETNX n", "MSET n 1 k", "MSETNX n 1 m"] {
        assert_eq!(peer.ask(&format!("{command} {large}").replace("k GET", "k")), error, "{command}");
    }
    assert_eq!(peer.ask("SETRANGE k 262144 x"), error);
    assert_eq!(peer.ask("MGET k n m"), "*3|$5|small|$-1|$-1|");
    // Over what a connection buffers: skipped, answered, and the next request is served.
    let huge = "x".repeat(MEMORY as usize);
    assert_eq!(peer.ask(&format!("SET k {huge}")), error);
    assert_eq!(peer.ask("GET k"), "$5|small|");
}

#[test]
fn a_reply_larger_than_the_memory_is_refused() {
    let mut peer = Peer::new();
    peer.ask(&format!("SET k {}", "x".repeat(200_000)));
    assert!(peer.ask("MGET k k k k k").starts_with("*5|$200000|"));
    assert!(peer.ask("MGET k k k k k k").starts_with("-ERR the reply would be larger"));
}

#[test]
fn a_full_output_stops_the_batch_and_the_rest_is_served_next() {
    let mut peer = Peer::new();
    peer.ask(&format!("SET k {}", "x".repeat(200_000)));
    let mut input = BytesMut::from(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".repeat(5).as_slice());
    let mut replies = Vec::new();
    loop {
        let mut output = Vec::new();
        let flow = peer.server.serve(&mut peer.session, &mut input, &mut output, peer.now);
        replies.push(output.len() / 200_000);
        if flow == Flow::NeedsInput {
            break;
        }
    }
    assert_eq!(replies, [2, 2, 1]);
}
