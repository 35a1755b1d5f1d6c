//! CLIENT about all clients of a pool, on whichever worker they are.

mod support;

use std::time::{Duration, Instant};

use support::client::{Address, resp};
use support::{Client, Outrigger, Pool, Server, eventually};

/// A value of a line of CLIENT LIST.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let start = format!("{name}=");
    line.split(' ').find_map(|part| part.strip_prefix(&start[..])).unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// The lines of CLIENT LIST.
fn list(client: &mut Client, more: &str) -> Vec<String> {
    let reply = client.ask(format!("CLIENT LIST {more}").trim_end());
    reply.trim_matches('"').split("\\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn id(client: &mut Client) -> String {
    client.ask("CLIENT ID")
}

/// Two pools over one server, with three workers.
fn scene() -> Option<(Server, Outrigger)> {
    let server = Server::redis()?;
    let pools = ["one", "two"].map(|name| Pool::redis(name, std::slice::from_ref(&server)));
    Some((server, Outrigger::start_with("workers: 3\n", pools)))
}

#[test]
fn a_list_has_every_client_of_the_pool_and_no_other() {
    let (server, proxy) = need!(scene());
    let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
    let mut stranger = proxy.client_of(1);
    assert_eq!(stranger.ask("CLIENT SETNAME stranger"), "+OK");
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&format!("CLIENT SETNAME c{number}")), "+OK");
        assert_eq!(client.ask("CLIENT SETINFO LIB-NAME lib"), "+OK");
        assert_eq!(client.ask("GET a"), "nil");
    }
    let lines = list(&mut clients[0], "");
    assert_eq!(lines.len(), 6, "{lines:?}");
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(field(line, "name"), format!("c{number}"), "the oldest first");
        assert_eq!(field(line, "cmd"), if number == 0 { "client|list" } else { "get" });
        assert_eq!((field(line, "user"), field(line, "lib-name"), field(line, "flags")), ("default", "lib", "N"));
        assert_eq!(field(line, "laddr"), proxy.socket_address(0).to_string());
        assert_eq!(field(line, "id"), id(&mut clients[number]));
        assert!(field(line, "age").parse::<u64>().unwrap() < 60 && field(line, "idle").parse::<u64>().unwrap() < 60);
    }
    assert_eq!(list(&mut stranger, "").len(), 1);
    // The fields are those of Redis 7.2.
    let theirs = list(&mut server.client(), "").remove(0);
    let names = |line: &str| line.split(' ').map(|part| part.split('=').next().unwrap().to_owned()).collect::<Vec<_>>();
    let mut expected = names(&theirs);
    expected.extend(
        ["lib-name", "lib-ver"].map(str::to_owned).into_iter().filter(|name| !theirs.contains(&format!(" {name}="))),
    );
    assert_eq!(names(&lines[0]), expected);

    let [one, three] = [1, 3].map(|number| id(&mut clients[number]));
    let ids = list(&mut clients[0], &format!("ID {three} {one} 999999 {}", id(&mut stranger)));
    assert_eq!(ids.iter().map(|line| field(line, "id")).collect::<Vec<_>>(), [&one, &three]);
    assert_eq!(list(&mut clients[0], "TYPE normal").len(), 6);
    assert_eq!(list(&mut clients[0], "TYPE replica").len(), 0);
    drop(clients.pop());
    eventually("a client to be off the list", || (list(&mut clients[0], "").len() == 5).then_some(()));
    let info = clients[2].ask("CLIENT INFO");
    assert!(info.contains("name=c2") && field(&info, "cmd") == "client|info", "{info}");
}

#[test]
fn a_client_on_another_worker_can_be_killed() {
    let (_server, proxy) = need!(scene());
    let mut killer = proxy.client();
    let address = |killer: &mut Client, victim: &mut Client| {
        let number = id(victim);
        field(&list(killer, &format!("ID {number}"))[0], "addr").to_owned()
    };
    for round in 0..6 {
        let (mut victim, mut bystander) = (proxy.client(), proxy.client());
        assert_eq!(bystander.ask("PING"), "+PONG");
        let number = id(&mut victim);
        let at = address(&mut killer, &mut victim);
        let (order, expected) = match round {
            0 => (format!("CLIENT KILL {at}"), "+OK"),
            1 => (format!("CLIENT KILL ID {number}"), "1"),
            2 => (format!("CLIENT KILL ADDR {at} SKIPME yes"), "1"),
            3 => (format!("CLIENT KILL ID {number} USER default TYPE normal ADDR {at}"), "1"),
            4 => (format!("CLIENT KILL LADDR {} ID {number}", proxy.socket_address(0)), "1"),
            _ => {
                assert_eq!(killer.ask(&format!("CLIENT KILL ID {number} MAXAGE 1000")), "0");
                (format!("CLIENT KILL ID {number} TYPE NORMAL"), "1")
            }
        };
        assert_eq!(killer.ask(&order), expected, "{order}");
        victim.expect_closed();
        assert_eq!(bystander.ask("PING"), "+PONG");
        eventually("the victim to be off the list", || {
            list(&mut killer, &format!("ID {number}")).is_empty().then_some(())
        });
    }
    let mut stranger = proxy.client_of(1);
    let number = id(&mut stranger);
    assert_eq!(killer.ask(&format!("CLIENT KILL ID {number}")), "0", "a client of another pool");
    assert_eq!(stranger.ask("PING"), "+PONG");
    // All but itself, then itself.
    let mut others: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    others.iter_mut().for_each(|other| assert_eq!(other.ask("PING"), "+PONG"));
    eventually("five others", || (list(&mut killer, "").len() == 6).then_some(()));
    assert_eq!(killer.ask("CLIENT KILL TYPE normal"), "5");
    others.iter_mut().for_each(Client::expect_closed);
    eventually("all others to be off the list", || (list(&mut killer, "").len() == 1).then_some(()));
    assert_eq!(killer.ask("CLIENT KILL TYPE normal SKIPME no"), "1");
    killer.expect_closed();
    let metrics = proxy.http("GET", "/metrics").body;
    assert!(metrics.contains("outrigger_sessions_closed_total{pool=\"one\",reason=\"killed\"} 12"), "{metrics}");
}

#[test]
fn what_is_said_wrong_is_answered_as_redis_answers_it() {
    let (server, proxy) = need!(scene());
    let (mut client, mut direct) = (proxy.client(), server.client());
    for same in [
        "CLIENT KILL 1.2.3.4:5",
        "CLIENT KILL ID 0",
        "CLIENT KILL ID x",
        "CLIENT KILL TYPE nosuch",
        "CLIENT KILL USER nosuch",
        "CLIENT KILL ID 99999",
        "CLIENT KILL ID 1 ADDR",
        "CLIENT KILL SKIPME maybe ID 1",
        "CLIENT KILL NOSUCH x",
        "CLIENT LIST nosuch",
        "CLIENT LIST TYPE nosuch",
        "CLIENT LIST TYPE",
        "CLIENT LIST ID x",
        "CLIENT LIST TYPE master",
        "CLIENT PAUSE x",
        "CLIENT PAUSE -1",
        "CLIENT PAUSE 1 nosuch",
        "CLIENT UNPAUSE",
        "CLIENT TRACKINGINFO",
        "CLIENT GETREDIR",
        "CLIENT CACHING yes",
        "CLIENT TRACKING off",
        "CLIENT TRACKING nosuch",
        "CLIENT UNBLOCK 99999",
        "CLIENT UNBLOCK x",
        "CLIENT UNBLOCK 1 nosuch",
        "CLIENT NO-EVICT nosuch",
        "CLIENT REPLY nosuch",
        "CLIENT NOSUCH",
        "CLIENT",
    ] {
        assert_eq!(client.ask(same), direct.ask(same), "{same}");
    }
    assert!(client.ask("CLIENT TRACKING on").starts_with("-ERR 'CLIENT TRACKING' is not supported by Outrigger: "));
    assert!(client.ask("CLIENT HELP").starts_with("[+CLIENT <subcommand>"));
    assert_eq!(client.ask("CLIENT NO-EVICT on"), "+OK");
    assert_eq!(client.ask("CLIENT NO-TOUCH on"), "+OK");
    assert_eq!(field(&list(&mut client, "")[0], "flags"), "eT");
}

/// Waits until these requests have been read: the session has them in its input.
fn is_waiting(proxy: &Outrigger, watcher: &mut Client, waiting: &str) {
    let _ = proxy;
    eventually("a request to wait", || {
        let line = list(watcher, &format!("ID {waiting}")).remove(0);
        (field(&line, "qbuf") != "0").then_some(())
    });
}

#[test]
fn a_pause_holds_writes_back_and_lets_reads_go() {
    let (server, proxy) = need!(scene());
    let (mut operator, mut reader) = (proxy.client(), proxy.client());
    let mut writers: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    let mut stranger = proxy.client_of(1);
    assert_eq!(operator.ask("SET a 1"), "+OK");
    assert_eq!(operator.ask("CLIENT PAUSE 600000 WRITE"), "+OK");
    assert_eq!(reader.ask("GET a"), "\"1\"");
    let ids: Vec<String> = writers.iter_mut().map(id).collect();
    for (number, writer) in writers.iter_mut().enumerate() {
        writer.send([resp(&["GET", "a"]), resp(&["APPEND", "a", &number.to_string()]), resp(&["GET", "b"])].concat());
        assert_eq!(writer.reply(), "\"1\"", "what comes before is answered");
    }
    ids.iter().for_each(|id| is_waiting(&proxy, &mut reader, id));
    assert_eq!(server.client().ask("GET a"), "\"1\"");
    // That of another pool is not held back.
    assert_eq!(stranger.ask("SET c 1"), "+OK");
    assert_eq!(operator.ask("CLIENT UNPAUSE"), "+OK");
    for writer in &mut writers {
        assert!(["2", "3", "4", "5"].contains(&&writer.reply()[..]));
        assert_eq!(writer.reply(), "nil");
    }
    assert_eq!(server.client().ask("STRLEN a"), "5");
}

#[test]
fn a_pause_of_all_ends_by_itself_and_may_be_ended() {
    let (_server, proxy) = need!(scene());
    let (mut operator, mut client) = (proxy.client(), proxy.client());
    assert_eq!(client.ask("SET a 1"), "+OK");
    let start = Instant::now();
    assert_eq!(operator.ask("CLIENT PAUSE 300"), "+OK");
    assert_eq!(client.ask("GET a"), "\"1\"");
    assert!((Duration::from_millis(295)..Duration::from_secs(3)).contains(&start.elapsed()), "{:?}", start.elapsed());
    // Its own requests wait as well, but for the one that ends the pause.
    operator
        .send([resp(&["CLIENT", "PAUSE", "600000", "ALL"]), resp(&["CLIENT", "UNPAUSE"]), resp(&["PING"])].concat());
    assert_eq!([operator.reply(), operator.reply(), operator.reply()], ["+OK", "+OK", "+PONG"]);
    // One that waits can be killed, and one that comes later waits too.
    assert_eq!(operator.ask("CLIENT PAUSE 600000 WRITE"), "+OK");
    let number = id(&mut client);
    client.send(resp(&["SET", "a", "2"]));
    is_waiting(&proxy, &mut operator, &number);
    assert_eq!(operator.ask(&format!("CLIENT KILL ID {number}")), "1");
    client.expect_closed();
    let mut late = proxy.client();
    let number = id(&mut late);
    late.send(resp(&["INCR", "a"]));
    is_waiting(&proxy, &mut operator, &number);
    assert_eq!(operator.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!(late.reply(), "2");
}

#[test]
fn who_waits_is_not_idle() {
    let server = need!(Server::redis());
    let pool = Pool::redis("one", std::slice::from_ref(&server)).set("client_idle_timeout: 300ms");
    let proxy = Outrigger::start_with("workers: 2\n", [pool]);
    let (mut client, mut idle) = (proxy.client(), proxy.client());
    assert_eq!(client.ask("CLIENT PAUSE 1500 WRITE"), "+OK");
    client.send(resp(&["SET", "a", "1"]));
    idle.expect_closed();
    assert_eq!(client.reply(), "+OK");
}

#[test]
fn transactions_and_waits_are_seen() {
    let (server, proxy) = need!(scene());
    let (mut watcher, mut client, mut waiting) = (proxy.client(), proxy.client(), proxy.client());
    let ids = [&mut client, &mut waiting].map(id);
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("SET a 1"), "+QUEUED");
    assert_eq!(client.ask("SET b 1"), "+QUEUED");
    let line = list(&mut watcher, &format!("ID {}", ids[0])).remove(0);
    assert_eq!((field(&line, "flags"), field(&line, "multi")), ("x", "2"));
    assert_eq!(client.ask("EXEC"), "[+OK +OK]");
    assert_eq!(client.ask("PING"), "+PONG");
    let line = list(&mut watcher, &format!("ID {}", ids[0])).remove(0);
    assert_eq!((field(&line, "flags"), field(&line, "multi")), ("N", "-1"));
    waiting.send(resp(&["BLPOP", "list", "0"]));
    eventually("a client to wait", || {
        let line = list(&mut watcher, &format!("ID {}", ids[1])).remove(0);
        (field(&line, "flags") == "b" && server.client().ask("CLIENT LIST").contains("flags=b")).then_some(())
    });
    assert_eq!(watcher.ask(&format!("CLIENT KILL ID {}", ids[1])), "1");
    waiting.expect_closed();
    eventually("the server to be rid of it", || {
        (!server.client().ask("CLIENT LIST").contains("flags=b")).then_some(())
    });
    assert_eq!(watcher.ask("RPUSH list x"), "1");
    assert_eq!(watcher.ask("LLEN list"), "1");
}

/// In RESP3 as in RESP2, and in the database that each has selected.
#[test]
fn the_protocol_and_the_database_of_each_are_seen() {
    let server = need!(Server::redis());
    let pool = Pool::redis("one", std::slice::from_ref(&server)).set("databases: 4");
    let proxy = Outrigger::start([pool]);
    let (mut watcher, mut client) = (proxy.client(), proxy.client());
    let number = id(&mut client);
    client.send(resp(&["HELLO", "3"]));
    while !client.line().contains("modules") {}
    let _ = client.line();
    client.exchange(resp(&["SELECT", "2"]), "+OK\r\n");
    let line = list(&mut watcher, &format!("ID {number}")).remove(0);
    assert_eq!((field(&line, "resp"), field(&line, "db"), field(&line, "cmd")), ("3", "2", "select"));
    client.send(resp(&["CLIENT", "INFO"]));
    let header = client.line();
    let length: usize = header.strip_prefix('=').and_then(|n| n.parse().ok()).expect("a verbatim string");
    client.expect("txt:id=");
    client.skip(length + 2 - 7);
    client.exchange(
        resp(&["CLIENT", "TRACKINGINFO"]),
        "%3\r\n$5\r\nflags\r\n~1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n",
    );
    client.exchange(resp(&["CLIENT", "GETNAME"]), "_\r\n");
    client.exchange(resp(&["ACL", "GETUSER", "nosuch"]), "_\r\n");
}

#[test]
fn clients_of_a_unix_socket_have_its_path() {
    let server = need!(Server::redis());
    let folder = support::folder();
    let path = folder.path().join("s");
    let pool = Pool::at("one", "redis", &[server.entry()], Address::Unix(path.clone()));
    let proxy = Outrigger::start([pool]);
    let mut client = proxy.client();
    let line = list(&mut client, "").remove(0);
    assert_eq!((field(&line, "addr"), field(&line, "flags")), (&format!("{}:0", path.display())[..], "U"));
    assert_eq!(client.ask(&format!("CLIENT KILL {}:0", path.display())), "+OK");
    client.expect_closed();
}

#[test]
fn users_are_listed_and_killed_by_name() {
    let server = need!(Server::redis());
    let users = "users: {app: {password: pw, rules: '~* +@all -client +client|id'}, default: {nopass: true, rules: '~* &* +@all'}}";
    let proxy = Outrigger::start([Pool::redis("one", std::slice::from_ref(&server)).set(users)]);
    let (mut operator, mut app) = (proxy.client(), proxy.client());
    assert_eq!(app.ask("AUTH app pw"), "+OK");
    let number = id(&mut app);
    assert_eq!(field(&list(&mut operator, &format!("ID {number}"))[0], "user"), "app");
    assert!(app.ask("CLIENT KILL USER default").starts_with("-NOPERM"));
    assert_eq!(operator.ask("CLIENT KILL USER app"), "1");
    app.expect_closed();
}
