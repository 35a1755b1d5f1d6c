//! A Redis client's connection: what it says when it connects, how it authenticates, what it may get wrong.

mod support;

use support::client::{Address, resp};
use support::{Client, Outrigger, Pool, Port, Server};

fn one(lines: &[&str]) -> Option<(Server, Outrigger)> {
    one_with("workers: 2", lines)
}

fn one_with(globals: &str, lines: &[&str]) -> Option<(Server, Outrigger)> {
    let server = Server::redis()?;
    let pool = Pool::redis("cache", std::slice::from_ref(&server));
    let pool = lines.iter().fold(pool, |pool, line| pool.set(line));
    Some((server, Outrigger::start_with(globals, [pool])))
}

#[test]
fn the_proxy_answers_for_the_connection() {
    let (_server, proxy) = need!(one(&[]));
    let mut client = proxy.client();
    assert_eq!(client.ask("PING"), "+PONG");
    assert_eq!(client.ask("ping hello"), "\"hello\"");
    assert_eq!(client.ask("ECHO hello"), "\"hello\"");
    assert_eq!(client.ask("SELECT 0"), "+OK");
    assert!(client.ask("SELECT 1").starts_with("-ERR DB index is out of range"));
    assert!(client.ask("SELECT x").starts_with("-ERR "));
    let time = client.ask("TIME");
    assert!(time.starts_with("[\"1") && time.split(' ').count() == 2, "{time}");
    assert_eq!(client.ask("RESET"), "+RESET");
    assert!(client.ask("AUTH secret").starts_with("-ERR AUTH <password> called without any password configured"));
    assert_eq!(client.ask("QUIT"), "+OK");
    client.expect_closed();
}

#[test]
fn a_client_may_tell_about_itself() {
    let (_server, proxy) = need!(one(&[]));
    let (mut client, mut other) = (proxy.client(), proxy.client());
    assert_ne!(client.ask("CLIENT ID"), other.ask("CLIENT ID"));
    assert_eq!(client.ask("CLIENT GETNAME"), "nil");
    assert_eq!(client.ask("CLIENT SETNAME me"), "+OK");
    assert_eq!(client.ask("client getname"), "\"me\"");
    assert_eq!(client.ask("CLIENT SETINFO LIB-NAME redis-py"), "+OK");
    assert_eq!(client.ask("CLIENT SETINFO lib-ver 8.1"), "+OK");
    let info = client.ask("CLIENT INFO");
    for part in ["name=me", "lib-name=redis-py", "lib-ver=8.1", "resp=2", "db=0"] {
        assert!(info.contains(part), "{part}: {info}");
    }
    assert_eq!(client.ask("CLIENT NO-EVICT on"), "+OK");
    assert_eq!(client.ask("CLIENT NO-TOUCH off"), "+OK");
    assert!(client.ask("CLIENT LIST").contains("name=me "));
    assert!(client.ask("CLIENT NONSENSE").starts_with("-ERR unknown subcommand 'NONSENSE'"));
    assert_eq!(client.ask("RESET"), "+RESET");
    assert_eq!(client.ask("CLIENT GETNAME"), "nil");
}

#[test]
fn replies_can_be_switched_off() {
    let (_server, proxy) = need!(one(&[]));
    let mut client = proxy.client();
    let all =
        ["CLIENT REPLY OFF", "SET a 1", "PING", "nonsense", "CLIENT REPLY ON", "CLIENT REPLY SKIP", "SET a 2", "GET a"];
    client.send(all.map(|l| resp(&l.split(' ').collect::<Vec<_>>())).concat());
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.reply(), "\"2\"");
    let twice = ["CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "SET a 3", "GET a"];
    client.send(twice.map(|l| resp(&l.split(' ').collect::<Vec<_>>())).concat());
    assert_eq!(client.reply(), "\"3\"");
    assert_eq!(client.ask("PING"), "+PONG");
}

#[test]
fn hello_says_which_version_is_spoken() {
    let (_server, proxy) = need!(one(&[]));
    let mut client = proxy.client();
    for hello in ["HELLO", "HELLO 2", "hello 2 SETNAME me"] {
        let reply = client.ask(hello);
        assert!(reply.contains("\"proto\" 2") && reply.contains("\"role\" \"master\""), "{reply}");
    }
    assert_eq!(client.ask("CLIENT GETNAME"), "\"me\"");
    assert!(client.ask("HELLO 3").contains("\"proto\" 3"));
    assert!(client.ask("HELLO").contains("\"proto\" 3"));
    assert_eq!(client.ask("HELLO 4"), "-NOPROTO unsupported protocol version");
    assert!(client.ask("HELLO x").starts_with("-ERR Protocol version is not an integer"));
    assert!(client.ask("HELLO 2 NONSENSE").starts_with("-ERR Syntax error in HELLO option"));
    assert_eq!(client.ask("PING"), "+PONG");
}

#[test]
fn what_clients_say_when_they_connect_never_closes_the_connection() {
    let (_server, proxy) = need!(one(&[]));
    let hellos: [&[&str]; 10] = [
        &[
            "HELLO 3",
            "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip",
            "CLIENT SETINFO LIB-NAME redis-py",
        ],
        &["CLIENT SETINFO LIB-NAME redis-rs", "CLIENT SETINFO LIB-VER 1.8.1"],
        &["HELLO 3", "CLIENT SETINFO LIB-NAME node-redis", "CLIENT SETINFO LIB-VER 6", "CLIENT MAINT_NOTIFICATIONS ON"],
        &["hello 3", "client SETINFO LIB-NAME ioredis", "client SETINFO LIB-VER 6", "info"],
        &["HELLO 3", "CLIENT SETINFO LIB-NAME GlidePy", "CLIENT SETINFO LIB-VER 2", "INFO REPLICATION"],
        &["HELLO 3"],
        &["CONFIG GET save", "CONFIG GET appendonly"],
        &["COMMAND", "COMMAND DOCS", "COMMAND DOCS get", "COMMAND COUNT", "COMMAND INFO get"],
        &["AUTH x", "SELECT 0", "CLIENT SETNAME a", "CLIENT ID", "PING", "READONLY", "CLUSTER SLOTS", "CLUSTER NODES"],
        &["HELLO 3 AUTH default x SETNAME a", "CLIENT TRACKING ON", "CLIENT NO-EVICT ON", "CLIENT CACHING YES", "QUIT"],
    ];
    for hello in hellos {
        let mut client = proxy.client();
        client.send(hello.iter().flat_map(|l| resp(&l.split(' ').collect::<Vec<_>>())).collect::<Vec<_>>());
        let replies: Vec<String> = hello.iter().map(|_| client.reply()).collect();
        let number = format!("{}", std::process::id());
        match hello.last() {
            Some(&"QUIT") => assert_eq!(replies.last().map(String::as_str), Some("+OK")),
            _ => assert_eq!(client.ask(&format!("ECHO {number}")), format!("\"{number}\""), "{hello:?}: {replies:?}"),
        }
    }
    let mut client = proxy.client();
    assert!(client.ask("INFO").contains("loading:0"));
    let replication = client.ask("INFO REPLICATION");
    assert!(replication.contains("role:master") && !replication.contains("loading"), "{replication}");
}

#[test]
fn command_describes_what_the_proxy_knows() {
    let (_server, proxy) = need!(one(&[]));
    let plain = need!(Server::redis());
    let (mut client, mut direct) = (proxy.client(), plain.client());
    let count: usize = client.ask("COMMAND COUNT").parse().unwrap();
    assert!(count > 200, "{count}");
    for asked in [
        "COMMAND GETKEYS GET a",
        "COMMAND GETKEYS MSET a 1 b 2",
        "COMMAND GETKEYS EVAL x 2 a b c",
        "COMMAND GETKEYS XREAD COUNT 1 STREAMS a b 0 0",
        "COMMAND GETKEYS ZUNIONSTORE d 2 a b",
        "COMMAND GETKEYS SORT a BY w GET x STORE d",
        "COMMAND GETKEYS PING",
        "COMMAND GETKEYS nonsense",
        "COMMAND INFO nonsense",
    ] {
        assert_eq!(client.ask(asked), direct.ask(asked), "{asked}");
    }
    let info = client.ask("COMMAND INFO get");
    assert!(info.starts_with("[[\"get\" 2 ["), "{info}");
}

#[test]
fn a_password_is_asked_of_clients_and_given_to_servers() {
    let server = need!(Server::redis_with(&["--requirepass", "s3cret"]));
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("redis_auth: s3cret").set("redis_db: 3");
    let proxy = Outrigger::start([pool]);
    let mut client = proxy.client();
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.");
    assert_eq!(client.ask("PING"), "-NOAUTH Authentication required.");
    assert!(client.ask("HELLO 2").starts_with("-NOAUTH HELLO must be called with the client already authenticated"));
    assert_eq!(client.ask("AUTH wrong"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(client.ask("AUTH someone s3cret"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(client.ask("AUTH s3cret"), "+OK");
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(client.ask("SELECT 3"), "+OK");
    assert!(client.ask("SELECT 0").starts_with("-ERR DB index is out of range"));
    assert_eq!(client.ask("RESET"), "+RESET");
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.");
    assert!(client.ask("HELLO 2 AUTH default s3cret").contains("\"proto\" 2"));
    assert_eq!(client.ask("GET a"), "\"1\"");
    // In the database of the file, not in another.
    let mut direct = server.client();
    direct.ask("AUTH s3cret");
    assert_eq!(direct.ask("EXISTS a"), "0");
    direct.ask("SELECT 3");
    assert_eq!(direct.ask("GET a"), "\"1\"");
    assert!(!proxy.log().contains("s3cret"));
}

#[test]
fn a_user_of_the_servers_access_list() {
    let server = need!(Server::redis_with(&["--user", "app", "on", ">pw", "~*", "+@all", "--user", "default", "off"]));
    let auth = "redis_auth: {username: app, password: pw}";
    let proxy = Outrigger::start([Pool::redis("cache", std::slice::from_ref(&server)).set(auth)]);
    let mut client = proxy.client();
    assert!(client.ask("AUTH pw").starts_with("-WRONGPASS"));
    assert_eq!(client.ask("AUTH app pw"), "+OK");
    assert_eq!(client.ask("SET a 1"), "+OK");
}

#[test]
fn a_login_that_fails_fails_every_request_with_the_reason() {
    let server = need!(Server::redis_with(&["--requirepass", "s3cret", "--databases", "2"]));
    let cases = [
        (vec!["redis_auth: wrong"], "AUTH wrong", "-ERR AUTH failed: WRONGPASS"),
        (vec!["redis_auth: s3cret", "redis_db: 7"], "AUTH s3cret", "-ERR SELECT failed: ERR DB index is out of range"),
        (vec!["redis_db: 1"], "PING", "-ERR SELECT failed: NOAUTH Authentication required."),
    ];
    for (lines, login, expected) in cases {
        let pool = Pool::redis("cache", std::slice::from_ref(&server));
        let mut proxy = Outrigger::start([lines.iter().fold(pool, |pool, line| pool.set(line))]);
        proxy.announce("cannot connect");
        let mut client = proxy.client();
        assert!(client.ask(login).starts_with('+'));
        for command in ["SET a 1", "GET a"] {
            let reply = client.ask(command);
            assert!(reply.starts_with(expected), "{lines:?}: {reply}");
            assert!(reply.ends_with(&format!("(pool cache, server {})", server.name())), "{reply}");
        }
        assert!(!proxy.log().contains("s3cret") && !proxy.log().contains("wrong"), "{}", proxy.log());
    }
    let mut direct = server.client();
    direct.ask("AUTH s3cret");
    assert_eq!(direct.ask("DBSIZE"), "0");
}

#[test]
fn inline_commands_as_one_types_them() {
    let (_server, proxy) = need!(one(&[]));
    let mut client = proxy.client();
    client.exchange("PING\r\n", "+PONG\r\n");
    client.exchange("ping\n", "+PONG\r\n");
    client.exchange("SET  a   \"x y\\n\"\r\n", "+OK\r\n");
    client.exchange("GET a\r\n\r\n\r\nGET 'a'\n", "$4\r\nx y\n\r\n$4\r\nx y\n\r\n");
    client.exchange("nonsense 1 2\r\n", "-ERR unknown command 'nonsense', with args beginning with: '1' '2' \r\n");
    client.exchange("*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", "+PONG\r\n");
    client.exchange("QUIT\r\n", "+OK\r\n");
    client.expect_closed();
}

#[test]
fn a_half_closed_client_gets_its_replies() {
    let (_server, proxy) = need!(one(&[]));
    let mut client = proxy.client();
    client.send(
        [resp(&["SET", "a", "1"]), resp(&["GET", "a"]).repeat(500), resp(&["PING"]), b"*2\r\n$3".to_vec()].concat(),
    );
    client.half_close();
    client.expect(["+OK\r\n", &"$1\r\n1\r\n".repeat(500), "+PONG\r\n"].concat());
    client.expect_closed();
}

#[test]
fn requests_may_come_byte_by_byte() {
    let (_server, proxy) = need!(one(&[]));
    let mut client = proxy.client();
    let requests =
        [resp(&["SET", "a", "some value"]), resp(&["GET", "a"]), b"PING\r\n".to_vec(), resp(&["MGET", "a", "b"])];
    for byte in requests.concat() {
        client.send([byte]);
    }
    client.expect("+OK\r\n$10\r\nsome value\r\n+PONG\r\n*2\r\n$10\r\nsome value\r\n$-1\r\n");
}

#[test]
fn what_cannot_be_read_is_answered_and_ends_the_connection() {
    let (_server, proxy) = need!(one(&[]));
    let plain = need!(Server::redis());
    let bad: [&[u8]; 9] = [
        b"*x\r\n",
        b"*1\r\n:3\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$-5\r\n",
        b"*99999999999\r\n",
        b"*1\r\n$99999999999\r\n",
        b"SET \"a\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n!1\r\n",
        b"*1\r\n$+4\r\nPING\r\n",
    ];
    for bytes in bad {
        let shown = bytes.escape_ascii().to_string();
        let answer = |mut client: Client| {
            client.send([resp(&["SET", "a", "1"]), resp(&["GET", "a"]), bytes.to_vec()].concat());
            client.rest()
        };
        let (got, expected) = (answer(proxy.client()), answer(plain.client()));
        assert_eq!(got, expected, "{shown}");
        assert!(got.starts_with("+OK\r\n$1\r\n1\r\n-ERR Protocol error: ") && got.ends_with("\r\n"), "{shown}: {got}");
    }
    let mut browser = proxy.client();
    browser.send("POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 2\r\n");
    assert!(browser.rest().starts_with("-ERR Protocol error"));
    assert_eq!(proxy.client().ask("GET a"), "\"1\"");
    assert_eq!(proxy.stats()["cache"]["client_err"], 10);
}

#[test]
fn limits_are_kept_and_named() {
    let limits = "workers: 1\nlimits:\n  max_request_bytes: 64KiB\n  max_key_bytes: 100\n  max_arguments: 50\n  max_line_bytes: 1KiB\n";
    let (_server, proxy) = need!(one_with(limits, &[]));
    let mut client = proxy.client();
    let long = "k".repeat(101);
    for (command, reply) in [
        (format!("GET {long}"), "-ERR key too long: "),
        (format!("MGET a {long}"), "-ERR key too long: "),
        (format!("SUNION a {long}"), "-ERR key too long: "),
        (format!("EVAL return{{}} 1 {long}"), "-ERR key too long: "),
    ] {
        let got = client.ask(&command);
        assert!(got.starts_with(reply) && got.contains("the limit is 100"), "{command}: {got}");
    }
    assert_eq!(client.ask(&format!("SET {} v", "k".repeat(100))), "+OK");
    let closes: [(Vec<u8>, &str); 4] = [
        (resp(&["SET", "a", &"v".repeat(70_000)]), "request too large, the limit is 65536 bytes"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$70000\r\n".to_vec(), "request too large, the limit is 65536 bytes"),
        (resp(&vec!["MGET"; 51]), "too many arguments, the limit is 50"),
        (vec![b'x'; 1025], "too big inline request"),
    ];
    for (bytes, text) in closes {
        let mut client = proxy.client();
        client.send_aside(bytes);
        assert_eq!(client.rest(), format!("-ERR Protocol error: {text}\r\n"));
    }
    assert_eq!(client.ask("PING"), "+PONG");
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let (_server, proxy) = need!(one_with("workers: 1", &["timeout: 5s"]));
    let mut client = proxy.client();
    client.send(resp(&["SET", "big", &"v".repeat(200_000)]));
    assert_eq!(client.reply(), "+OK");
    let slow: Vec<Client> = (0..4)
        .map(|_| {
            let slow = proxy.client();
            slow.send_aside(resp(&["GET", "big"]).repeat(100));
            slow
        })
        .collect();
    for n in 0..200 {
        assert_eq!(client.ask(&format!("SET k{n} {n}")), "+OK");
        assert_eq!(client.ask(&format!("GET k{n}")), format!("\"{n}\""));
    }
    for mut slow in slow {
        for _ in 0..100 {
            assert_eq!(slow.reply().len(), 200_002);
        }
    }
}

#[test]
fn more_unanswered_requests_than_a_session_may_have() {
    let (_server, proxy) =
        need!(one_with("workers: 1\nlimits: {max_session_requests: 8, max_connection_requests: 4}", &[]));
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let requests =
            (0..2000).flat_map(|n| [resp(&["SET", "a", "b"]), resp(&["ECHO", &format!("{number}:{n}")])].concat());
        client.send_aside(requests.collect());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        for n in 0..2000 {
            assert_eq!((client.reply().as_str(), client.reply()), ("+OK", format!("\"{number}:{n}\"")));
        }
    }
}

#[test]
fn unix_sockets_on_both_sides() {
    let server = need!(Server::redis_unix());
    let folder = support::folder();
    let path = folder.path().join("proxy.sock");
    // A socket that somebody left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = Address::from(std::path::PathBuf::from(format!("{} 0600", path.display())).as_path());
    let pool = Pool::at("cache", "redis", &[server.entry()], listen).reached_at(Address::from(path.as_path()));
    let proxy = Outrigger::start([pool]);
    let mut client = proxy.client();
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(server.client().ask("GET a"), "\"1\"");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn ipv6_on_both_sides() {
    let server = need!(Server::redis_v6());
    let port = Port::reserve_v6();
    let pool = Pool::at("cache", "redis", &[server.entry()], Address::Tcp(port.address())).holding(port);
    let proxy = Outrigger::start([pool]);
    assert_eq!(proxy.client().ask("SET a 1"), "+OK");
    assert_eq!(server.client().ask("GET a"), "\"1\"");
    let bare = Pool::new("cache", "redis", &[server.entry().replace(['[', ']'], "")]);
    assert_eq!(Outrigger::start([bare]).client().ask("GET a"), "\"1\"");
}

#[test]
fn a_server_may_have_a_name() {
    let server = need!(Server::redis());
    let entry = server.entry().replace("127.0.0.1", "localhost");
    let mut proxy = Outrigger::start([Pool::new("cache", "redis", &[entry, "no.such.host.invalid:1:1".into()])
        .set("hash: murmur")
        .set("connect_timeout: 5s")
        .set("timeout: 5s")]);
    proxy.announce("the name of a server cannot be resolved");
    proxy.announce("cannot connect");
    let mut client = proxy.client();
    let replies: Vec<String> = (0..20).map(|n| client.ask(&format!("SET key:{n} {n}"))).collect();
    assert!(replies.iter().any(|r| r == "+OK"), "{replies:?}");
    let failed = replies.iter().find(|r| *r != "+OK").expect("a key of the other");
    assert!(failed.starts_with("-ERR Host is down: no.such.host.invalid: "), "{failed}");
    assert!(failed.ends_with("(pool cache, server no.such.host.invalid:1)"), "{failed}");
}

#[test]
fn the_limit_of_clients_is_enforced_and_places_are_given_back() {
    let (_server, proxy) = need!(one(&["client_connections: 3"]));
    let mut clients: Vec<Client> = (0..3).map(|_| proxy.admitted("PING\r\n", "+PONG")).collect();
    let mut refused = proxy.client();
    assert_eq!(refused.rest(), "-ERR max number of clients reached\r\n");
    clients.pop();
    clients.push(proxy.admitted("PING\r\n", "+PONG"));
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), "+PONG"));
}
