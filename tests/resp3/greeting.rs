//! HELLO: what the proxy says that it is, and with which servers it can keep what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::need;
use crate::support::client::resp;
use crate::support::{Fake, Outrigger, Pool, Port, Server, eventually};

/// The fields of a HELLO in their order, of either version.
fn greeting(proto: &str, server: &str, version: &str, modules: &str) -> String {
    let header = if proto == "3" { "%7" } else { "*14" };
    format!(
        "{header}|$6|server|${}|{server}|$7|version|${}|{version}|$5|proto|:{proto}|$2|id|:ID|$4|mode|$10|standalone|\
         $4|role|$6|master|$7|modules|{modules}",
        server.len(),
        version.len()
    )
}

fn without_id(reply: &str) -> String {
    let (before, rest) = reply.split_once("$2|id|:").expect(reply);
    format!("{before}$2|id|:ID|{}", rest.split_once('|').unwrap().1)
}

const MODULES: &str = "*1\r\n*4\r\n$4\r\nname\r\n$2\r\nbf\r\n$3\r\nver\r\n:1\r\n";

/// A server that speaks RESP3, holds nothing, and says that it is this version of Valkey. `pushes`: it says something that
/// nobody asked for around every reply.
fn valkey(version: impl Fn() -> String + Send + Sync + 'static, pushes: bool) -> (Fake, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let fake = Fake::start(move |_, talk| {
        let mut three = false;
        while let Some(request) = talk.request() {
            if request.starts_with("HELLO") {
                three |= request == "HELLO 3";
                count.fetch_add(usize::from(request == "HELLO"), SeqCst);
                let (header, number, version) = (if three { "%4" } else { "*8" }, 2 + u8::from(three), version());
                let modules = if three { MODULES.replace("*4", "%2") } else { MODULES.to_owned() };
                talk.say(format!(
                    "{header}\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n${}\r\n{version}\r\n$5\r\nproto\r\n:{number}\r\n\
                     $7\r\nmodules\r\n{modules}",
                    version.len()
                ));
                continue;
            }
            let key = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let push = if pushes && three { ">2\r\n+invalidate\r\n*1\r\n$1\r\nx\r\n" } else { "" };
            talk.say(format!("{push}${}\r\n{key}\r\n{push}", key.len()));
        }
    });
    (fake, asked)
}

#[test]
fn the_proxy_says_what_its_servers_say() {
    let version = Arc::new(AtomicUsize::new(0));
    let current = version.clone();
    let (fake, asked) = valkey(move || format!("9.0.{}", current.load(SeqCst)), false);
    let mut proxy = Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &[fake.entry()])]);
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| client.send(resp(&["HELLO"])));
    for client in &mut clients {
        let expected = greeting("2", "valkey", "9.0.0", "*1|*4|$4|name|$2|bf|$3|ver|:1|");
        assert_eq!(without_id(&client.raw()), expected);
    }
    let client = &mut clients[0];
    let three = greeting("3", "valkey", "9.0.0", "*1|%2|$4|name|$2|bf|$3|ver|:1|");
    assert_eq!(without_id(&client.ask_raw("HELLO 3")), three);
    assert!(asked.load(SeqCst) < 8, "asked {} times", asked.load(SeqCst));
    let before = asked.load(SeqCst);
    // Known by now.
    (0..10).for_each(|_| assert_eq!(without_id(&client.ask_raw("HELLO 3")), three));
    assert_eq!(asked.load(SeqCst), before);
    // A connection that is made anew may lead to another version.
    version.store(1, SeqCst);
    proxy.announce("connection lost");
    fake.hang_up();
    eventually("the new version", || client.ask_raw("HELLO 3").contains("|9.0.1|").then_some(()));
}

#[test]
fn without_a_server_it_speaks_like_redis() {
    let nobody = Port::reserve();
    let pool = Pool::new("cache", "redis", &[format!("{}:1", nobody.address())]).set("connect_timeout: 300ms");
    let mut proxy = Outrigger::start([pool]);
    proxy.announce("cannot connect");
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(without_id(&client.ask_raw("HELLO 3")), greeting("3", "redis", "7.0.15", "*0|"));
    }
    assert!(client.ask("GET a").starts_with("-ERR "));
    assert_eq!(client.ask("PING"), "+PONG");
}

#[test]
fn in_process_servers_speak_both() {
    let proxy = Outrigger::start([Pool::new("cache", "redis", &["local one".to_owned(), "local two".to_owned()])]);
    let mut client = proxy.client();
    assert_eq!(client.ask_raw("GET a"), "$-1|");
    assert_eq!(without_id(&client.ask_raw("HELLO 3")), greeting("3", "redis", "7.0.15", "*0|"));
    assert_eq!(client.ask_raw("GET a"), "_|");
    assert_eq!(client.ask_raw("SET a 1"), "+OK|");
    assert_eq!(client.ask_raw("MGET a b c d a"), "*5|$1|1|_|_|_|$1|1|");
    client.ask("HELLO 2");
    assert_eq!(client.ask_raw("MGET a b c d a"), "*5|$1|1|$-1|$-1|$-1|$1|1|");
}

#[test]
fn what_a_server_pushes_is_no_reply() {
    let (fake, _) = valkey(|| "9.0.0".to_owned(), true);
    let proxy = Outrigger::start_with("workers: 1\n", [Pool::new("cache", "redis", &[fake.entry()])]);
    let mut client = proxy.client();
    client.ask("HELLO 3");
    for round in 0..100 {
        let keys: Vec<String> = (0..10).map(|n| format!("{round}-{n}")).collect();
        client.send(keys.iter().flat_map(|key| resp(&["GET", key])).collect::<Vec<_>>());
        for key in keys {
            assert_eq!(client.reply(), format!("\"{key}\""));
        }
    }
    assert!(proxy.log().contains("dropped what a server pushed"));
    assert!(!proxy.log().contains("connection lost"), "pushes do not end a connection");
}

/// A server from before HELLO, which wants a password.
fn old_server() -> Fake {
    Fake::start(|_, talk| {
        while let Some(request) = talk.request() {
            let words: Vec<&str> = request.split(' ').collect();
            match words[0] {
                "AUTH" => talk.say("+OK\r\n"),
                "GET" => talk.say("$3\r\nold\r\n"),
                name => {
                    let arguments: String = words[1..].iter().map(|word| format!("`{word}`, ")).collect();
                    talk.say(format!("-ERR unknown command `{name}`, with args beginning with: {arguments}\r\n"));
                }
            }
        }
    })
}

#[test]
fn servers_without_hello_make_resp3_an_error_and_nothing_worse() {
    let old = old_server();
    let pool = Pool::new("cache", "redis", &[old.entry()])
        .set("redis_auth: s3cret")
        .set("auto_eject_hosts: true")
        .set("on_readmit: keep")
        .set("max_ejected_percent: 100")
        .set("server_failure_limit: 1")
        .set("probe_interval: 1m");
    let proxy = Outrigger::start([pool]);
    let mut client = proxy.client();
    assert_eq!(client.ask("HELLO 3 AUTH default s3cret"), "-NOPROTO unsupported protocol version");
    assert_eq!(client.ask("GET a"), "\"old\"");
    let hello = client.ask("HELLO 2 AUTH default s3cret");
    assert!(hello.contains("\"server\" \"redis\""), "{hello}");
    assert_eq!(client.ask("GET a"), "\"old\"");
    assert!(!proxy.log().contains("s3cret") && !proxy.log().contains("ejected"), "{}", proxy.log());
}

#[test]
fn one_server_without_hello_among_others_says_so_itself() {
    let (new, _) = valkey(|| "9.0.0".to_owned(), false);
    let old = old_server();
    let pool = Pool::new("cache", "redis", &[format!("{} a", new.entry()), format!("{} b", old.entry())])
        .set("auto_eject_hosts: true")
        .set("on_readmit: keep")
        .set("server_failure_limit: 1")
        .set("probe_interval: 1m");
    let mut proxy = Outrigger::start_with("workers: 1\n", [pool]);
    proxy.announce("cannot connect, through no fault of the server");
    let (mut two, mut three) = (proxy.client(), proxy.client());
    three.ask("HELLO 3");
    let mut seen = [false; 2];
    for n in 0..30 {
        let reply = three.ask(&format!("GET k{n}"));
        match reply.strip_prefix("-ERR ") {
            Some(error) => {
                assert!(error.starts_with("HELLO failed: ERR unknown command `HELLO`"), "{error}");
                assert_eq!(two.ask(&format!("GET k{n}")), "\"old\"", "RESP2 goes on");
                seen[0] = true;
            }
            None => {
                assert_eq!(reply, format!("\"k{n}\""));
                seen[1] = true;
            }
        }
    }
    assert_eq!(seen, [true; 2], "keys on both servers");
    assert!(!proxy.log().contains("server ejected"));
}

#[test]
fn a_password_opens_either_version() {
    let server = need!(Server::redis_with(&["--requirepass", "s3cret"]));
    let pool = Pool::redis("cache", std::slice::from_ref(&server)).set("redis_auth: s3cret").set("redis_db: 2");
    let proxy = Outrigger::start([pool]);
    let mut client = proxy.client();
    assert!(client.ask("HELLO 3").starts_with("-NOAUTH HELLO must be called with the client already authenticated"));
    assert_eq!(
        client.ask("HELLO 3 AUTH default wrong"),
        "-WRONGPASS invalid username-password pair or user is disabled."
    );
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.");
    assert!(client.ask_raw("HELLO 3 AUTH default s3cret SETNAME me").contains("$5|proto|:3|"));
    assert_eq!(client.ask_raw("CLIENT GETNAME"), "$2|me|");
    assert_eq!(client.ask_raw("GET a"), "_|");
    assert_eq!(client.ask("SET a 1"), "+OK");
    let mut direct = server.client();
    direct.ask("AUTH s3cret");
    direct.ask("SELECT 2");
    assert_eq!(direct.ask("GET a"), "\"1\"", "in the pool's database");
    assert_eq!(client.ask_raw("RESET"), "+RESET|");
    assert_eq!(client.ask("GET a"), "-NOAUTH Authentication required.");
    assert!(client.ask_raw("HELLO 2 AUTH default s3cret").contains("$5|proto|:2|"));
    assert_eq!(client.ask_raw("CLIENT GETNAME"), "$-1|");
    assert!(!proxy.log().contains("s3cret"));
}

#[test]
fn what_a_client_does_not_want_to_hear_changes_the_version_all_the_same() {
    let server = need!(Server::redis());
    let proxy = Outrigger::start([Pool::redis("cache", std::slice::from_ref(&server))]);
    let mut client = proxy.client();
    for line in ["CLIENT REPLY OFF", "SET a 1", "HELLO 3", "INCR a", "CLIENT REPLY ON", "GET nosuch", "GET a"] {
        client.send(resp(&line.split(' ').collect::<Vec<_>>()));
    }
    client.expect("+OK\r\n_\r\n$1\r\n2\r\n");
}
