//! What rules allow, against a live redis-server: ACL SETUSER and ACL DRYRUN of every command with some arguments.

use outrigger::protocol::redis::acl::{self, Denied};
use outrigger::protocol::redis::commands::{self, Command};

use super::live::{Server, ask, words};

const RULES: [&str; 16] = [
    "",
    "+@all ~* &*",
    "+@all ~app:* &app:*",
    "+@read ~app:*",
    "+@all -@dangerous ~app:* %R~1*",
    "+@all %R~app:* %W~1*",
    "+@all %W~app:* %R~1*",
    "-@all +@fast -@write +@connection -client ~*",
    "+@slow -@admin +config|get +acl|whoami ~*",
    "+get +set +del +mget +select|0 +ping|app:1 %RW~*",
    "+@all -@all +client -client|kill +@pubsub &app:*",
    "+@all -@scripting +eval -config +config|get -select +select|1 ~*",
    "+@hash +@set +@sortedset +@list +@stream +@geo +@bitmap +@hyperloglog ~app:*",
    "+@keyspace +@string +@transaction +@blocking -@slow ~*",
    "allcommands nocommands +@write -xadd allkeys resetkeys ~a?p:[0-2]",
    "+@all resetchannels &app:1 &ap* ~1",
];

/// Requests whose arguments mean more than a number of them.
const REQUESTS: &str = "\
    SET app:1 v GET|SET app:1 v EX 1|SET 1 v GET|BITFIELD app:1 GET u8 0|BITFIELD app:1 GET u8 0 SET u8 0 1|BITFIELD 1 GET u8 0\n\
    MGET app:1 app:2|MGET app:1 other|MSET app:1 v other v|DEL app:1 1|COPY app:1 1|COPY 1 app:1|RENAME app:1 app:2\n\
    EVAL x 2 app:1 1|EVAL x 1 other|EVALSHA x 1 app:1|FCALL f 1 app:1|EVAL_RO x 0\n\
    ZUNIONSTORE app:1 2 app:2 1|ZUNIONSTORE app:1 1 other|ZINTER 2 app:1 app:2|LMPOP 2 app:1 1 LEFT|SINTERCARD 1 app:1\n\
    XREAD COUNT 1 STREAMS app:1 app:2 0 0|XREAD STREAMS app:1 1 0 0|XREADGROUP GROUP g c STREAMS app:1 >|XADD app:1 * a b\n\
    SORT app:1 STORE app:2|SORT app:1 STORE other|SORT app:1 LIMIT 0 1 DESC STORE 1|SORT_RO app:1\n\
    GEORADIUS app:1 1 1 1 m STORE app:2|GEORADIUS app:1 1 1 1 m STORE other|GEOSEARCHSTORE app:1 1 FROMMEMBER m BYRADIUS 1 m\n\
    SUBSCRIBE app:1 app:2|SUBSCRIBE app:1 other|PSUBSCRIBE app:*|PSUBSCRIBE app:1|PUBLISH app:1 x|PUBLISH other x|SSUBSCRIBE app:1\n\
    SPUBLISH other x|UNSUBSCRIBE other|PUBSUB CHANNELS *|OBJECT ENCODING app:1|MEMORY USAGE other|SELECT 0|SELECT 1|PING app:1\n\
    CONFIG GET a|CONFIG SET a b|CLIENT KILL a|CLIENT ID|ACL WHOAMI|BITOP AND app:1 app:2 other|PFMERGE app:1 app:2|LCS app:1 1\n\
    EXISTS app:1 1|EXISTS other|STRLEN 1|TOUCH app:1 other|GETEX app:1|GETDEL app:1|BLPOP app:1 other 0|SMOVE app:1 1 x";

/// Every command with plain arguments, as few as it takes.
fn plain(command: &'static Command) -> Vec<String> {
    let name = command.name.replace('|', " ");
    let least = usize::from(command.arity.unsigned_abs()) - name.split(' ').count();
    let with = |argument: &str| {
        std::iter::once(&name[..]).chain(std::iter::repeat_n(argument, least)).collect::<Vec<_>>().join(" ")
    };
    ["app:1", "other", "1"].map(with).to_vec()
}

fn ours(line: &str, request: &str) -> String {
    let args: Vec<&[u8]> = words(request).into_iter().map(str::as_bytes).collect();
    let arg = |index: usize| args.get(index).copied();
    let commands::Resolved::Command(command) = commands::resolve(args.len(), arg) else { panic!("{request}") };
    let permissions = acl::parse(line).unwrap().permissions;
    match permissions.check(command, args.len(), arg) {
        // The server learns that only when it runs them.
        Ok(()) | Err(Denied::Script | Denied::Sort(_) | Denied::Unclear(_)) => "+OK\r\n".to_owned(),
        Err(denied) => {
            let text = String::from_utf8(denied.verbose("u", command, arg).unwrap()).unwrap();
            // In the words of 7.0.
            let text = text.replacen("User u has", "This user has", 1);
            format!("${}\r\n{text}\r\n", text.len())
        }
    }
}

#[test]
fn rules_allow_what_they_allow_in_redis() {
    let Some(server) = Server::start() else { return };
    let mut client = server.connect();
    let all = commands::all().flat_map(|command| std::iter::once(command).chain(command.subcommands));
    let mut requests: Vec<String> = all.filter(|command| command.subcommands.is_empty()).flat_map(plain).collect();
    requests.extend(REQUESTS.split(['\n', '|']).map(|request| request.trim().to_owned()));
    let (mut compared, mut denied) = (0, 0);
    for line in RULES {
        let set: Vec<&str> =
            ["ACL", "SETUSER", "u", "reset", "on", "nopass"].into_iter().chain(line.split_whitespace()).collect();
        assert_eq!(String::from_utf8_lossy(&ask(&mut client, &set)), "+OK\r\n", "{line}");
        for request in &requests {
            let dry: Vec<&str> = ["ACL", "DRYRUN", "u"].into_iter().chain(words(request)).collect();
            let theirs = String::from_utf8_lossy(&ask(&mut client, &dry)).into_owned();
            // Newer than the server, or with other bounds there.
            if theirs.starts_with("-ERR Command '") || theirs.starts_with("-ERR wrong number") {
                continue;
            }
            // Redis asks for no right to the keys of MIGRATE, nor to that of a PFMERGE without a source.
            if request.starts_with("migrate") || request.starts_with("pfmerge ") {
                continue;
            }
            assert_eq!(ours(line, request), theirs, "{line:?}: {request}");
            compared += 1;
            denied += usize::from(theirs.starts_with('$'));
        }
        // As it is shown, it means the same to Redis.
        let shown = acl::parse(line).unwrap().permissions.line();
        let again: Vec<&str> = ["ACL", "SETUSER", "v", "reset"].into_iter().chain(shown.split(' ')).collect();
        assert_eq!(String::from_utf8_lossy(&ask(&mut client, &again)), "+OK\r\n", "{shown}");
    }
    assert!(compared > 10_000 && denied > 3_000, "{compared} compared, {denied} denied");
}

#[test]
fn the_categories_have_the_commands_that_they_have_in_redis() {
    let Some(server) = Server::start() else { return };
    let mut client = server.connect();
    for category in commands::CATEGORY_NAMES {
        let reply = String::from_utf8_lossy(&ask(&mut client, &["ACL", "CAT", &category[1..]])).into_owned();
        let theirs: Vec<&str> = reply.split("\r\n").skip(2).step_by(2).collect();
        let own = acl::category(&category.as_bytes()[1..]).unwrap();
        for name in &theirs {
            assert!(own.contains(name), "{category}: {name}");
        }
        assert!(theirs.len() > 2, "{reply}");
    }
}
