//! Transactions through the proxy, over real servers: with one it is hard to tell from Redis, with several every key is where
//! it belongs, and whatever is lost the client is told the truth.

mod support;

mod transactions {
    pub mod kept;
    pub mod order;
    pub mod trouble;
}

use std::time::Duration;

use support::ensemble::{Ensemble, compare, pipeline};
use support::{Pool, Server};

/// A pool of one server that lets FLUSHALL pass.
fn one() -> Option<Ensemble> {
    Ensemble::start(1, &["allow_admin_commands: true"])
}

#[test]
fn with_one_server_every_use_and_misuse_answers_as_redis_does() {
    let ensemble = need!(one());
    compare(
        &ensemble,
        "0 MULTI
         0 MULTI
         0 SET a 1
         0 GET a
         0 EXEC
         0 EXEC
         0 DISCARD
         0 MULTI
         0 EXEC
         0 MULTI
         0 DISCARD
         0 UNWATCH
         0 MULTI
         0 WATCH a
         0 INCR a
         0 EXEC
         0 MULTI
         0 nonsense
         0 SET a 9
         0 EXEC
         0 GET a
         0 MULTI
         0 GET
         0 EXEC
         0 MULTI
         0 SET b 1
         0 EXEC x
         0 EXEC
         0 GET b
         0 EXEC x
         0 MULTI x
         0 DISCARD x
         0 WATCH
         0 MULTI
         0 SET b 2
         0 DISCARD x
         0 EXEC
         0 MULTI
         0 LPUSH a x
         0 SET c 3
         0 EXEC
         0 GET c
         0 MULTI
         0 PING
         0 ECHO hello
         0 DBSIZE
         0 KEYS a
         0 EXEC
         0 MULTI
         0 UNWATCH
         0 BLPOP list 0
         0 XREAD BLOCK 0 STREAMS s $
         0 BLMOVE x y LEFT LEFT 0
         0 WAIT 0 0
         0 EXEC
         0 MULTI
         0 EVAL return{1,redis.call('get','a')} 0
         0 EVAL return(redis.call('set',KEYS[1],ARGV[1])) 1 e v
         0 EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
         0 EXEC
         0 MULTI
         0 DISCARD
         0 MULTI
         0 HSET h f v
         0 HGETALL h
         0 MSET m1 1 m2 2
         0 MGET m1 m2
         0 DEL m1 m2 none
         0 PUBLISH nobody message
         0 EXEC",
    );
    ensemble.expect_all_given_back();
}

#[test]
fn with_one_server_watch_does_what_redis_does() {
    let ensemble = need!(one());
    compare(
        &ensemble,
        "0 SET a 1
         0 WATCH a
         0 GET a
         0 MULTI
         0 SET a 2
         0 EXEC
         0 WATCH a
         1 SET a 3
         0 MULTI
         0 SET a 4
         0 EXEC
         0 GET a
         0 WATCH a
         0 SET a 5
         0 MULTI
         0 SET a 6
         0 EXEC
         0 GET a
         0 WATCH a
         1 SET a 7
         0 UNWATCH
         0 MULTI
         0 INCR a
         0 EXEC
         0 WATCH a
         0 WATCH b c
         1 SET c 1
         0 MULTI
         0 PING
         0 EXEC
         0 WATCH a
         1 SET a 8
         0 MULTI
         0 DISCARD
         0 MULTI
         0 INCR a
         0 EXEC
         0 WATCH a
         1 INCR a
         0 MULTI
         0 nonsense
         0 EXEC
         0 MULTI
         0 GET a
         0 EXEC
         0 WATCH none
         0 MULTI
         0 GET none
         0 EXEC
         0 WATCH a
         1 EXPIRE a 1000
         0 MULTI
         0 EXEC
         0 WATCH list
         0 LPUSH list x
         0 BLPOP list 1
         0 BLPOP list 0.01
         0 MULTI
         0 GET a
         0 EXEC
         0 WATCH a
         0 EXEC
         0 WATCH a
         0 EVAL return(redis.call('incr',KEYS[1])) 1 a
         0 MULTI
         0 GET a
         0 EXEC",
    );
    ensemble.expect_all_given_back();
}

#[test]
fn a_reset_or_the_end_of_the_client_forgets_what_was_begun() {
    let ensemble = need!(one());
    let mut other = ensemble.client(2);
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        other.ask("SET a 0");
        for begun in ["MULTI", "MULTI|SET a 1", "WATCH a", "WATCH a|MULTI|SET a 1", "MULTI|nonsense"] {
            begun.split('|').for_each(|request| drop(client.ask(request)));
            assert_eq!(client.ask("RESET"), "+RESET", "after {begun}");
            assert_eq!(client.ask("EXEC"), "-ERR EXEC without MULTI", "after {begun}");
            assert_eq!(client.ask("GET a"), "\"0\"");
        }
        // In one go: what comes after sees what came before.
        let at_once = ["MULTI", "INCR a", "EXEC", "RESET", "GET a", "MULTI", "INCR a", "RESET", "GET a", "SET a 0"];
        client.send(pipeline(at_once));
        let replies: Vec<String> = at_once.iter().map(|_| client.reply()).collect();
        let expected = ["+OK", "+QUEUED", "[1]", "+RESET", "\"1\"", "+OK", "+QUEUED", "+RESET", "\"1\"", "+OK"];
        assert_eq!(replies, expected);
        client.send(pipeline(["MULTI", "SET a 1", "QUIT", "EXEC"]));
        assert_eq!(client.rest(), "+OK\r\n+QUEUED\r\n+OK\r\n");
        let mut gone = ensemble.client(version);
        gone.send(pipeline(["MULTI", "SET a 2"]));
        assert_eq!((gone.reply(), gone.reply()), ("+OK".into(), "+QUEUED".into()));
        drop(gone);
        ensemble.expect_all_given_back();
        assert_eq!(other.ask("GET a"), "\"0\"");
    }
}

#[test]
fn who_hears_no_replies_has_transactions_all_the_same() {
    let ensemble = need!(one());
    let mut client = ensemble.client(2);
    client.send(pipeline(["CLIENT REPLY SKIP", "MULTI", "INCR a", "INCR a", "EXEC", "GET a"]));
    assert_eq!([(); 4].map(|()| client.reply()), ["+QUEUED", "+QUEUED", "[1 2]", "\"2\""]);
    client.send(pipeline(["MULTI", "INCR a", "CLIENT REPLY OFF"]));
    assert_eq!((client.reply(), client.reply()), ("+OK".into(), "+QUEUED".into()));
    // That is refused, so the client goes on hearing.
    assert!(client.reply().starts_with("-ERR "));
    assert!(client.ask("EXEC").starts_with("-EXECABORT"));
    let silent = ["CLIENT REPLY OFF", "WATCH a", "MULTI", "INCR a", "EXEC", "MULTI", "INCR a", "DISCARD", "INCR a"];
    client.send(pipeline(silent));
    client.send(pipeline(["CLIENT REPLY ON", "GET a"]));
    assert_eq!((client.reply(), client.reply()), ("+OK".into(), "\"4\"".into()));
    ensemble.expect_all_given_back();
}

#[test]
fn a_transaction_is_in_the_database_and_the_version_that_the_client_has_chosen() {
    let ensemble = need!(Ensemble::start(1, &["databases: 4"]));
    let mut client = ensemble.client(2);
    client.send(pipeline(["SET a zero", "SELECT 2", "MULTI", "SET a two", "EXEC", "SELECT 0", "GET a", "SELECT 2"]));
    let expected = ["+OK", "+OK", "+OK", "+QUEUED", "[+OK]", "+OK", "\"zero\"", "+OK"];
    assert_eq!([(); 8].map(|()| client.reply()), expected);
    client.ask("HSET h f v");
    for version in ["2", "3", "2"] {
        client.send(pipeline(["MULTI", "PING", "EXEC", &format!("HELLO {version}"), "MULTI", "HGETALL h"]));
        assert_eq!([(); 3].map(|()| client.reply()), ["+OK", "+QUEUED", "[+PONG]"]);
        assert!(client.reply().starts_with("[\"server\""));
        assert_eq!((client.reply(), client.reply()), ("+OK".into(), "+QUEUED".into()));
        let map = if version == "3" { "*1|%1|$1|f|$1|v|" } else { "*1|*2|$1|f|$1|v|" };
        assert_eq!(client.ask_raw("EXEC"), map);
    }
    // While something is begun neither changes.
    for begin in ["WATCH a", "MULTI"] {
        assert_eq!(client.ask(begin), "+OK");
        for change in ["SELECT 1", "HELLO 3"] {
            let reply = client.ask(change);
            assert!(reply.starts_with("-ERR "), "{change} after {begin}: {reply}");
        }
    }
    assert!(client.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(client.ask("GET a"), "\"two\"");
    ensemble.expect_all_given_back();
}

#[test]
fn keys_of_one_server_are_a_transaction_and_keys_of_two_are_none() {
    let ensemble = need!(Ensemble::start(3, &[]));
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        for server in 0..3 {
            let (a, b) = (&ensemble.keys(server)[0], &ensemble.keys(server)[1]);
            let elsewhere = ensemble.key((server + 1) % 3);
            assert_eq!(client.ask("MULTI"), "+OK");
            assert_eq!(client.ask(&format!("SET {a} 1")), "+QUEUED");
            assert_eq!(client.ask(&format!("MSET {a} 2 {b} 2")), "+QUEUED");
            assert_eq!(client.ask("PING"), "+QUEUED");
            assert_eq!(client.ask("EXEC"), "[+OK +OK +PONG]");
            assert_eq!(client.ask("MULTI"), "+OK");
            assert_eq!(client.ask(&format!("SET {a} 3")), "+QUEUED");
            let refusal = client.ask(&format!("SET {elsewhere} 3"));
            let (one, other) = (ensemble.servers[server].name(), ensemble.servers[(server + 1) % 3].name());
            let expected = format!(
                "-ERR 'SET' within a transaction needs its keys where those before are: they are on {other}, those before are on {one}"
            );
            assert_eq!(refusal, expected);
            assert_eq!(client.ask(&format!("SET {b} 3")), "+QUEUED");
            assert_eq!(client.ask("EXEC"), "-EXECABORT Transaction discarded because of previous errors.");
            // Two in one request.
            assert_eq!(client.ask("MULTI"), "+OK");
            assert!(client.ask(&format!("MGET {a} {elsewhere}")).starts_with("-ERR "));
            assert!(client.ask("EXEC").starts_with("-EXECABORT"));
            // WATCH of the second leaves the first watched.
            assert_eq!(client.ask(&format!("WATCH {a}")), "+OK");
            assert!(client.ask(&format!("WATCH {elsewhere}")).starts_with("-ERR "));
            assert!(client.ask(&format!("WATCH {b} {elsewhere}")).starts_with("-ERR "));
            assert_eq!(client.ask("MULTI"), "+OK");
            assert_eq!(client.ask(&format!("GET {a}")), "+QUEUED");
            assert_eq!(client.ask("EXEC"), "[\"2\"]");
            // What is watched is on another server than what is written.
            assert_eq!(client.ask(&format!("WATCH {elsewhere}")), "+OK");
            assert_eq!(client.ask("MULTI"), "+OK");
            assert!(client.ask(&format!("SET {a} 4")).starts_with("-ERR "));
            assert!(client.ask("EXEC").starts_with("-EXECABORT"));
            assert_eq!(client.ask(&format!("MGET {a} {b} {elsewhere}")), "[\"2\" \"2\" nil]");
            client.ask(&format!("DEL {a} {b}"));
        }
    }
    ensemble.expect_all_given_back();
}

#[test]
fn what_has_no_key_waits_for_the_server_to_be_known() {
    let ensemble = need!(Ensemble::start(3, &[]));
    for version in [2, 3] {
        let mut client = ensemble.client(version);
        let before = ensemble.metric("outrigger_server_dedicated_connections_opened_total", "");
        for request in ["MULTI", "EXEC", "MULTI", "DISCARD", "MULTI", "PING", "DISCARD", "UNWATCH"] {
            assert!(!client.ask(request).starts_with('-'), "{request}");
        }
        assert_eq!(ensemble.metric("outrigger_server_dedicated_connections_opened_total", ""), before);
        for server in 0..3 {
            let key = ensemble.key(server);
            client.send(pipeline(["MULTI", "PING", "ECHO x", &format!("INCR {key}"), "ECHO y", "UNWATCH", "EXEC"]));
            assert_eq!(
                [(); 6].map(|()| client.reply()),
                ["+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED"]
            );
            let number = if version == 2 { 1 } else { 2 };
            assert_eq!(client.reply(), format!("[+PONG \"x\" {number} \"y\" +OK]"));
        }
        client.send(pipeline(["MULTI", "PING", "ECHO x", "EXEC"]));
        assert_eq!([(); 4].map(|()| client.reply()), ["+OK", "+QUEUED", "+QUEUED", "[+PONG \"x\"]"]);
        // Only what one server does.
        for refused in ["KEYS *", "DBSIZE", "INFO server", "FLUSHALL", "SUBSCRIBE c", "CLIENT ID", "SELECT 0"] {
            assert_eq!(client.ask("MULTI"), "+OK");
            assert!(client.ask(refused).starts_with("-ERR "), "{refused}");
            assert!(client.ask("EXEC").starts_with("-EXECABORT"), "{refused}");
        }
        assert_eq!(client.ask("DBSIZE"), "3");
    }
    ensemble.expect_all_given_back();
}

#[test]
fn while_keys_are_watched_their_server_is_read_by_the_same_connection() {
    let ensemble = need!(Ensemble::start(3, &[]));
    let (mut client, mut other) = (ensemble.client(2), ensemble.client(2));
    let (here, there) = (ensemble.key(0), ensemble.key(1));
    for round in 0..20 {
        other.ask(&format!("SET {here} {round}"));
        other.ask(&format!("SET {there} {round}"));
        // All in one go, over three connections; what is read is what was written before.
        let requests = [
            format!("SET {there} a{round}"),
            format!("WATCH {here}"),
            format!("GET {here}"),
            format!("GET {there}"),
            format!("MGET {here} {there}"),
            format!("EXISTS {here}"),
            format!("SET {there} b{round}"),
            format!("GET {there}"),
            "MULTI".into(),
            format!("SET {here} c{round}"),
            "EXEC".into(),
            format!("GET {here}"),
        ];
        client.send(pipeline(&requests));
        let replies: Vec<String> = requests.iter().map(|_| client.reply()).collect();
        let expected = [
            "+OK".into(),
            "+OK".into(),
            format!("\"{round}\""),
            format!("\"a{round}\""),
            format!("[\"{round}\" \"a{round}\"]"),
            "1".into(),
            "+OK".into(),
            format!("\"b{round}\""),
            "+OK".into(),
            "+QUEUED".into(),
            "[+OK]".into(),
            format!("\"c{round}\""),
        ];
        assert_eq!(replies, expected);
    }
    // The own connection's list at the server shows it: it is the one that has watched keys and read last.
    assert_eq!(client.ask(&format!("WATCH {here}")), "+OK");
    assert_eq!(client.ask(&format!("STRLEN {here}")), "3");
    let list = ensemble.servers[0].client().ask("CLIENT LIST");
    assert_eq!(list.matches("cmd=strlen").count(), 1, "{list}");
    assert_eq!(client.ask("UNWATCH"), "+OK");
    ensemble.expect_all_given_back();
}

#[test]
fn a_thousand_transactions_take_one_connection() {
    let ensemble = need!(one());
    let mut client = ensemble.client(2);
    let mut direct = ensemble.servers[0].client();
    let mut received = || -> u64 {
        let info = direct.ask("INFO stats");
        let text = info.split("total_connections_received:").nth(1).unwrap();
        text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    assert_eq!(client.ask("SET n 0"), "+OK");
    // Without WATCH they go with all the rest.
    for (watches, connections) in [(false, 0), (true, 1)] {
        let before = received();
        for number in 1..=1000 {
            if watches {
                assert_eq!(client.ask("WATCH n"), "+OK");
            }
            client.send(pipeline(["MULTI", "INCR n", "EXEC"]));
            let sum = number + if watches { 1000 } else { 0 };
            assert_eq!([(); 3].map(|()| client.reply()), ["+OK".to_owned(), "+QUEUED".into(), format!("[{sum}]")]);
        }
        assert_eq!(received() - before, connections);
        assert_eq!(ensemble.metric("outrigger_server_dedicated_connections_opened_total", ""), connections);
    }
    ensemble.expect_all_given_back();
}

#[test]
fn what_is_kept_before_the_server_is_known_is_limited() {
    let globals = "workers: 1\nlimits:\n  max_session_bytes: 64KiB\n";
    let ensemble = need!(Ensemble::start_with(globals, 3, &[], &[]));
    let mut client = ensemble.client(2);
    let large = "x".repeat(20_000);
    assert_eq!(client.ask("MULTI"), "+OK");
    for _ in 0..3 {
        assert_eq!(client.ask(&format!("ECHO {large}")), "+QUEUED");
    }
    let refusal = "-ERR transaction too large: requests before its first key, limit 65536 bytes";
    assert_eq!(client.ask(&format!("ECHO {large}")), refusal);
    assert!(client.ask("EXEC").starts_with("-EXECABORT"));
    // With its server known a transaction may be as large as the server likes.
    let key = ensemble.key(1);
    client.send_aside(pipeline(
        std::iter::once("MULTI".to_owned())
            .chain((0..200).map(|n| format!("SET {key} {n}{large}")))
            .chain([format!("STRLEN {key}"), "EXEC".into()]),
    ));
    assert_eq!(client.reply(), "+OK");
    (0..201).for_each(|_| assert_eq!(client.reply(), "+QUEUED"));
    assert_eq!(client.reply(), format!("[{}20003]", "+OK ".repeat(200)));
    ensemble.expect_all_given_back();
}

#[test]
fn too_many_transactions_at_once_are_told_so_and_no_more_than_that() {
    let ensemble = need!(Ensemble::start_with("workers: 1\n", 3, &[], &["dedicated_connections: 1"]));
    let key = ensemble.key(0);
    let (mut first, mut second) = (ensemble.client(2), ensemble.client(2));
    assert_eq!(first.ask(&format!("WATCH {key}")), "+OK");
    let full = "too many dedicated connections: dedicated_connections: 1 are in use";
    assert!(second.ask(&format!("WATCH {key}")).contains(full));
    assert_eq!(second.ask("EXEC"), "-ERR EXEC without MULTI");
    // Without WATCH none is needed, unless it is large.
    assert_eq!(second.ask("MULTI"), "+OK");
    assert_eq!(second.ask(&format!("SET {key} 1")), "+QUEUED");
    assert_eq!(second.ask("EXEC"), "[+OK]");
    let large = "x".repeat(40_000);
    assert_eq!(second.ask("MULTI"), "+OK");
    assert_eq!(second.ask(&format!("SET {key} {large}")), "+QUEUED");
    assert!(second.ask(&format!("SET {key} {large}")).contains(full));
    assert!(second.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(second.ask(&format!("GET {key}")), "\"1\"");
    // The first may go on, and has seen the change.
    assert_eq!(first.ask("MULTI"), "+OK");
    assert_eq!(first.ask(&format!("SET {key} 2")), "+QUEUED");
    assert_eq!(first.ask("EXEC"), "nil");
    assert_eq!(second.ask("MULTI"), "+OK");
    assert_eq!(second.ask(&format!("GET {key}")), "+QUEUED");
    assert_eq!(second.ask("EXEC"), "[\"1\"]");
    ensemble.expect_all_given_back();
}

#[test]
fn a_pool_of_a_password_wants_it_first() {
    let server = need!(Server::redis_with(&["--requirepass", "s3cret"]));
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("redis_auth: s3cret");
    let proxy = support::Outrigger::start([pool]);
    let mut client = proxy.client();
    client.patience(Duration::from_secs(10));
    for request in ["MULTI", "EXEC", "WATCH a", "DISCARD", "UNWATCH"] {
        assert_eq!(client.ask(request), "-NOAUTH Authentication required.");
    }
    assert_eq!(client.ask("AUTH s3cret"), "+OK");
    client.send(pipeline(["MULTI", "SET a 1", "EXEC"]));
    assert_eq!([(); 3].map(|()| client.reply()), ["+OK", "+QUEUED", "[+OK]"]);
}

#[test]
fn exec_may_take_as_long_as_what_it_runs() {
    let ensemble = need!(Ensemble::start(1, &["timeout: 200ms", "slow_timeout: 10s"]));
    let mut client = ensemble.client(2);
    let busy = "local t=redis.call('TIME') repeat local n=redis.call('TIME') until \
                (n[1]-t[1])*1000000+n[2]-t[2]>600000 return redis.call('INCR',KEYS[1])";
    client.send(pipeline(["MULTI"]));
    client.send(support::client::resp(&["EVAL", busy, "1", "count"]));
    client.send(pipeline(["EXEC"]));
    assert_eq!([(); 3].map(|()| client.reply()), ["+OK", "+QUEUED", "[1]"]);
    assert_eq!(client.ask("GET count"), "\"1\"");
}

#[test]
fn a_second_watch_comes_after_what_went_aside_before() {
    let ensemble = need!(Ensemble::start(1, &[]));
    // Large, so that the other connection would be faster.
    let large = "x".repeat(12 << 20);
    for round in 0..4 {
        let (mut client, written) = (ensemble.client(2), format!("w{round}"));
        assert_eq!(client.ask("WATCH a"), "+OK");
        let script = format!("return redis.call('SET','{written}',#ARGV[1])");
        client.send_aside(
            [
                support::client::resp(&["EVAL", &script, "0", &large]),
                pipeline([format!("WATCH {written}"), "MULTI".into(), "PING".into(), "EXEC".into()]),
            ]
            .concat(),
        );
        let replies: Vec<String> = (0..5).map(|_| client.reply()).collect();
        assert_eq!(replies, ["+OK", "+OK", "+OK", "+QUEUED", "[+PONG]"], "round {round}");
    }
}
