//! Commands that Outrigger does not know: modules' and those of newer servers. What they are, the servers are asked.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use support::client::resp;
use support::fake::Talk;
use support::{Client, Fake, Outrigger, Pool, Server, eventually};

/// `COMMAND INFO` of a command with these flags, first, last and step of its keys, and categories, as Redis 7 tells it.
fn info(name: &str, arity: i32, flags: &str, keys: (i32, i32, i32), categories: &str, subcommands: &str) -> String {
    let set = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        format!("*{}\r\n{}", words.len(), words.iter().map(|word| format!("+{word}\r\n")).collect::<String>())
    };
    let (first, last, step) = keys;
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let specs = match first {
        0 => "*0\r\n".to_owned(),
        _ => {
            let last = if last < 0 { last } else { last - first };
            let begin =
                format!("*4\r\n{}{}{}*2\r\n{}:{first}\r\n", bulk("type"), bulk("index"), bulk("spec"), bulk("index"));
            let numbers =
                format!("{}:{last}\r\n{}:{step}\r\n{}:0\r\n", bulk("lastkey"), bulk("keystep"), bulk("limit"));
            let find = format!("*4\r\n{}{}{}*6\r\n{numbers}", bulk("type"), bulk("range"), bulk("spec"));
            let flags = bulk("flags") + &set("RW access update");
            format!("*1\r\n*6\r\n{flags}{}{begin}{}{find}", bulk("begin_search"), bulk("find_keys"))
        }
    };
    let (flags, categories) = (set(flags), set(categories));
    let numbers = format!(":{first}\r\n:{last}\r\n:{step}\r\n");
    format!("*10\r\n{}:{arity}\r\n{flags}{numbers}{categories}*0\r\n{specs}{subcommands}", bulk(name))
}

/// A server with a module: a map of keys and values.
struct Modded {
    fake: Fake,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    values: Mutex<HashMap<String, String>>,
    /// Names that were asked for.
    asked: Mutex<Vec<String>>,
    /// Requests of the module, in order.
    served: Mutex<Vec<String>>,
    connections: AtomicUsize,
    /// It does not answer COMMAND.
    stalls: AtomicBool,
    /// It does not let us ask.
    refuses: AtomicBool,
}

impl Modded {
    fn start() -> Self {
        let state = Arc::<State>::default();
        let served = state.clone();
        let fake = Fake::start(move |_, talk| {
            served.connections.fetch_add(1, SeqCst);
            served.serve(talk);
        });
        Self { fake, state }
    }

    fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }

    fn served(&self) -> Vec<String> {
        self.state.served.lock().unwrap().clone()
    }
}

impl State {
    fn serve(&self, talk: &mut Talk) {
        while let Some(request) = talk.request() {
            let words: Vec<&str> = request.split(' ').collect();
            let name = words[0].to_lowercase();
            if name == "command" {
                self.asked.lock().unwrap().push(words[2].to_owned());
                if self.stalls.load(SeqCst) {
                    return talk.stall();
                }
                if self.refuses.load(SeqCst) {
                    talk.say("-NOPERM this user has no permissions to run the 'command|info' command\r\n");
                } else {
                    talk.say(format!("*1\r\n{}", self.describe(words[2])));
                }
                continue;
            }
            if name.starts_with("mod") {
                self.served.lock().unwrap().push(request.clone());
            }
            let mut values = self.values.lock().unwrap();
            let reply = match (&name[..], &words[1..]) {
                ("mod.set" | "set", [key, value]) => {
                    values.insert((*key).to_owned(), (*value).to_owned());
                    "+OK\r\n".to_owned()
                }
                ("mod.get" | "get", [key]) => match values.get(*key) {
                    Some(value) => format!("${}\r\n{value}\r\n", value.len()),
                    None => "$-1\r\n".to_owned(),
                },
                ("mod.pairs", pairs) => {
                    pairs.chunks(2).for_each(|pair| drop(values.insert(pair[0].to_owned(), pair[1].to_owned())));
                    "+OK\r\n".to_owned()
                }
                ("mod.wait", _) => {
                    drop(values);
                    // Somebody else has to set the key meanwhile.
                    eventually("a key to be set", || self.values.lock().unwrap().get(words[1]).map(drop));
                    "+woken\r\n".to_owned()
                }
                _ => format!("+{}\r\n", words.join("-")),
            };
            talk.say(reply);
        }
    }

    fn describe(&self, name: &str) -> String {
        let none = "*0\r\n";
        match name {
            "mod.set" => info(name, 3, "write denyoom module", (1, 1, 1), "@write @slow", none),
            "mod.get" => info(name, 2, "readonly module fast", (1, 1, 1), "@read @fast", none),
            "mod.pairs" => info(name, -3, "write module", (1, -1, 2), "@write", none),
            "mod.list" => info(name, -1, "readonly module", (0, 0, 0), "", none),
            "mod.wait" => info(name, 2, "readonly module blocking", (1, 1, 1), "", none),
            "mod.shutdown" => info(name, 1, "admin module", (0, 0, 0), "@admin @dangerous", none),
            "mod.any" => info(name, -2, "readonly module movablekeys", (0, 0, 0), "", none),
            "mod.track" => info(name, 1, "module", (0, 0, 0), "@connection", none),
            "mod" => {
                let get = info("mod|get", 3, "readonly", (2, 2, 1), "@read", none);
                info(name, -2, "module", (0, 0, 0), "", &format!("*1\r\n{get}"))
            }
            "object|age" => info(name, 3, "readonly", (2, 2, 1), "@read", none),
            _ => "*-1\r\n".to_owned(),
        }
    }
}

fn pool(servers: &[&Modded]) -> Pool {
    let entries: Vec<String> = servers.iter().map(|server| server.fake.entry()).collect();
    Pool::new("cache", "redis", &entries).set("hash: murmur")
}

/// A key of each server.
fn keys(client: &mut Client, servers: &[&Modded]) -> Vec<String> {
    (0..50).for_each(|n| assert_eq!(client.ask(&format!("SET key:{n} {n}")), "+OK"));
    let of = |server: &&Modded| server.state.values.lock().unwrap().keys().min().unwrap().clone();
    servers.iter().map(of).collect()
}

fn total<T>(servers: &[&Modded], of: impl Fn(&Modded) -> Vec<T>) -> Vec<T> {
    servers.iter().flat_map(|server| of(server)).collect()
}

#[test]
fn a_command_of_a_module_is_learnt_once_and_goes_to_the_server_of_its_key() {
    let (one, two) = (Modded::start(), Modded::start());
    let servers = [&one, &two];
    let proxy = Outrigger::start([pool(&servers)]);
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    keys(&mut clients[0], &servers);
    // All at once, from both workers, in the middle of pipelines.
    let request = |key: &str, value: &str| {
        [resp(&["SET", key, "before"]), resp(&["Mod.SET", key, value]), resp(&["GET", key])].concat()
    };
    for (n, client) in clients.iter_mut().enumerate() {
        let pipeline: Vec<u8> =
            (0..30).flat_map(|round| request(&format!("key:{n}:{round}"), &format!("{round}"))).collect();
        client.send(pipeline);
    }
    for client in &mut clients {
        for round in 0..30 {
            assert_eq!(
                (client.reply(), client.reply(), client.reply()),
                ("+OK".into(), "+OK".into(), format!("\"{round}\""))
            );
        }
    }
    assert_eq!(total(&servers, Modded::asked), ["mod.set"]);
    assert!(servers.iter().all(|server| server.served().len() > 30));
    // Where a GET looks for it there it is.
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&format!("MOD.GET key:{n}:7")), "\"7\"");
        assert_eq!(client.ask("mod.get"), "-ERR wrong number of arguments for 'mod.get' command");
    }
    assert_eq!(total(&servers, Modded::asked), ["mod.set", "mod.get"]);
    assert_eq!(clients[0].ask("COMMAND GETKEYS mod.set a b"), "[\"a\"]");
    let info = clients[0].ask("COMMAND INFO Mod.Get mod.none");
    assert!(
        info.starts_with("[[\"mod.get\" 2 [+readonly +fast] 1 1 1 [+@read +@fast]") && info.ends_with(" nil]"),
        "{info}"
    );
}

#[test]
fn what_no_server_knows_is_refused_in_redis_words_and_not_asked_for_each_time() {
    let one = Modded::start();
    let proxy = Outrigger::start([pool(&[&one])]);
    for _ in 0..5 {
        let mut client = proxy.client();
        assert_eq!(client.ask("NoSuch a b"), "-ERR unknown command 'NoSuch', with args beginning with: 'a' 'b' ");
        assert_eq!(client.ask("OBJECT nosuch a"), "-ERR unknown subcommand 'nosuch'. Try OBJECT HELP.");
        // About the connection: not even asked for.
        assert_eq!(client.ask("CLIENT nosuch"), "-ERR unknown subcommand 'nosuch'. Try CLIENT HELP.");
    }
    assert_eq!(one.asked(), ["nosuch", "object|nosuch"]);
    let mut client = proxy.client();
    for odd in ["a|b", "\u{e4}", &"x".repeat(65)] {
        assert!(client.ask(odd).starts_with("-ERR unknown command '"), "{odd}");
    }
    assert_eq!(one.asked().len(), 2);
}

#[test]
fn subcommands_are_learnt_of_containers_that_are_known_and_of_those_that_are_not() {
    let (one, two) = (Modded::start(), Modded::start());
    let servers = [&one, &two];
    let proxy = Outrigger::start([pool(&servers)]);
    let mut client = proxy.client();
    for key in keys(&mut client, &servers) {
        assert_eq!(client.ask(&format!("MOD GET {key}")), format!("+MOD-GET-{key}"));
        assert_eq!(client.ask(&format!("OBJECT AGE {key}")), format!("+OBJECT-AGE-{key}"));
    }
    assert_eq!(total(&servers, Modded::served).len(), 2);
    assert!(servers.iter().all(|server| server.served().len() == 1));
    assert_eq!(client.ask("MOD nosuch"), "-ERR unknown subcommand 'nosuch'. Try MOD HELP.");
    assert_eq!(client.ask("MOD get"), "-ERR wrong number of arguments for 'mod|get' command");
}

#[test]
fn keys_flags_and_categories_decide_what_becomes_of_it() {
    let (one, two) = (Modded::start(), Modded::start());
    let servers = [&one, &two];
    let proxy = Outrigger::start([pool(&servers)]);
    let mut client = proxy.client();
    let [a, b] = &keys(&mut client, &servers)[..] else { panic!() };
    assert_eq!(client.ask(&format!("MOD.PAIRS {a} 1 {a} 2")), "+OK");
    let reply = client.ask(&format!("MOD.PAIRS {a} 1 {b} 2"));
    assert!(
        reply.starts_with(&format!("-ERR 'MOD.PAIRS' needs all its keys on one server, but '{a}' is on ")),
        "{reply}"
    );
    assert_eq!(client.ask(&format!("MOD.PAIRS {a} 1 {b}")), "-ERR wrong number of arguments for 'mod.pairs' command");
    assert_eq!(client.ask("MOD.LIST x y"), "+MOD.LIST-x-y");
    let reply = client.ask("MOD.SHUTDOWN");
    assert_eq!(reply, "-ERR 'MOD.SHUTDOWN' is for administrators: pool cache has allow_admin_commands: false");
    let reply = client.ask("MOD.ANY a b");
    assert!(
        reply.contains("its keys cannot be told and the pool has several servers, `commands` of the pool can say"),
        "{reply}"
    );
    let reply = client.ask("MOD.TRACK");
    assert!(reply.starts_with("-ERR 'MOD.TRACK' is not supported by Outrigger: it concerns a connection"), "{reply}");
}

#[test]
fn one_server_gets_what_only_it_can_find_the_keys_of() {
    let one = Modded::start();
    let proxy = Outrigger::start([pool(&[&one]).set("allow_admin_commands: true")]);
    let mut client = proxy.client();
    assert_eq!(client.ask("MOD.ANY a b"), "+MOD.ANY-a-b");
    assert_eq!(client.ask("MOD.SHUTDOWN"), "+MOD.SHUTDOWN");
}

#[test]
fn one_that_blocks_holds_nobody_up() {
    let one = Modded::start();
    let proxy = Outrigger::start_with("workers: 1\n", [pool(&[&one])]);
    let (mut waits, mut sets) = (proxy.client(), proxy.client());
    waits.send(resp(&["MOD.WAIT", "key"]));
    eventually("the one that waits", || (!one.served().is_empty()).then_some(()));
    assert_eq!(sets.ask("SET key value"), "+OK");
    assert_eq!(waits.reply(), "+woken");
}

#[test]
fn the_configuration_describes_commands_and_nobody_is_asked() {
    let (one, two) = (Modded::start(), Modded::start());
    let servers = [&one, &two];
    let described = "commands:\n      mod.any: {keys: all, write: false}\n      OWN.list: {keys: none}";
    let proxy = Outrigger::start([pool(&servers).set(described)]);
    let mut client = proxy.client();
    for key in keys(&mut client, &servers) {
        assert_eq!(client.ask(&format!("MOD.ANY {key}")), format!("+MOD.ANY-{key}"));
    }
    assert!(servers.iter().all(|server| server.served().len() == 1));
    assert_eq!(client.ask("own.LIST a"), "+own.LIST-a");
    assert_eq!(total(&servers, Modded::asked), [""; 0]);
}

#[test]
fn when_nobody_can_say_what_it_is_the_client_is_told_why_and_asked_is_again() {
    let one = Modded::start();
    let mut proxy = Outrigger::start([pool(&[&one]).set("timeout: 300")]);
    proxy.announce("no reply in time");
    proxy.announce("connection lost");
    let mut client = proxy.client();
    one.state.refuses.store(true, SeqCst);
    let why =
        format!("server {}: NOPERM this user has no permissions to run the 'command|info' command", one.fake.name());
    let expected = format!("-ERR cannot learn what 'MOD.GET' is: {why}; `commands` of pool cache can say");
    assert_eq!(client.ask("MOD.GET a"), expected);
    one.state.refuses.store(false, SeqCst);
    eventually("another try", || (client.ask("MOD.GET a") == "nil").then_some(()));
    // A server that says nothing is waited for as long as for any reply.
    one.state.stalls.store(true, SeqCst);
    let reply = client.ask("MOD.SET a 1");
    assert!(reply.starts_with("-ERR cannot learn what 'MOD.SET' is: ") && reply.contains("300"), "{reply}");
    one.state.stalls.store(false, SeqCst);
    eventually("another try", || (client.ask("MOD.SET a 1") == "+OK").then_some(()));
}

#[test]
fn within_a_transaction_it_is_learnt_too() {
    let servers = [need!(Server::redis())];
    let proxy = Outrigger::start([Pool::redis("cache", &servers)]);
    let mut client = proxy.client();
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("NOSUCH"), "-ERR unknown command 'NOSUCH', with args beginning with: ");
    assert_eq!(client.ask("EXEC"), "-EXECABORT Transaction discarded because of previous errors.");
}

#[test]
fn commands_of_a_newer_server_work_by_what_it_says_of_them() {
    let servers = need!(Server::three(Server::valkey));
    let proxy = Outrigger::start([Pool::redis("cache", &servers).set("hash: murmur").set("hash_tag: \"{}\"")]);
    let mut client = proxy.client();
    let servers: Vec<Client> = servers.iter().map(Server::client).collect();
    for n in 0..20 {
        // One key and its value; the number of keys, then keys and values in turn.
        assert_eq!(client.ask(&format!("SET key:{n} {n}")), "+OK");
        assert_eq!(client.ask(&format!("DELIFEQ key:{n} other")), "0");
        assert_eq!(client.ask(&format!("DELIFEQ key:{n} {n}")), "1");
        assert_eq!(client.ask(&format!("MSETEX 2 {{{n}}}a 1 {{{n}}}b 2 EX 100")), "1");
        assert_eq!(client.ask(&format!("MGET {{{n}}}a {{{n}}}b")), "[\"1\" \"2\"]");
    }
    let sizes = servers.into_iter().map(|mut server| server.ask("DBSIZE").parse::<u32>().unwrap());
    assert_eq!(sizes.filter(|size| *size > 0).sum::<u32>(), 40);
    let apart =
        (0..20).map(|n| client.ask(&format!("MSETEX 2 a 1 {n} 2"))).find(|reply| reply.starts_with('-')).unwrap();
    assert!(apart.starts_with("-ERR 'MSETEX' needs all its keys on one server, but 'a' is on "), "{apart}");
    assert_eq!(client.ask("DELIFEQ a"), "-ERR wrong number of arguments for 'delifeq' command");
    assert!(client.ask("COMMANDLOG GET 1 slow").contains("is for administrators"));
    assert_eq!(client.ask("CLIENT CAPA redirect"), "-ERR unknown subcommand 'CAPA'. Try CLIENT HELP.");
    assert!(client.ask("SCRIPT SHOW 0000000000000000000000000000000000000000").starts_with("-NOSCRIPT "));
    assert_eq!(client.ask("COMMAND GETKEYS MSETEX 2 a 1 b 2 EX 10"), "[\"a\" \"b\"]");
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("DELIFEQ key:1 1"), "+QUEUED");
    assert_eq!(client.ask("EXEC"), "[0]");
}
