//! Scripts through the proxy: a server that has lost them is given them again, nobody is told NOSCRIPT who need not be, and
//! no request of a client overtakes another.

mod support;

use std::collections::HashMap;

use support::client::{Reply, resp};
use support::{Client, Outrigger, Pool, Server, eventually};

/// Appends, and returns the whole value.
const APPEND: &str = "redis.call('APPEND',KEYS[1],ARGV[1]) return redis.call('GET',KEYS[1])";
/// Counts in another key beside, and returns its new value.
const COUNT: &str = "return redis.call('INCRBY',KEYS[1]..':count',ARGV[1])";
const READ: &str = "return redis.call('GET',KEYS[1])";

struct Fleet {
    proxy: Outrigger,
    servers: [Server; 3],
    shas: HashMap<&'static str, String>,
}

impl Fleet {
    fn start(lines: &[&str]) -> Option<Self> {
        let servers = Server::three(Server::redis)?;
        let pool = lines.iter().fold(Pool::redis("cache", &servers).set("hash: murmur"), |pool, line| pool.set(line));
        // What the shas are, a server of its own says, so that none of the pool has the scripts.
        let other = Server::redis()?;
        let mut other = (other.client(), other);
        let mut load = |body: &'static str| {
            other.0.send(resp(&["SCRIPT", "LOAD", body]));
            (body, other.0.reply().trim_matches('"').to_owned())
        };
        let shas = [APPEND, COUNT, READ].map(&mut load).into();
        Some(Self { proxy: Outrigger::start([pool]), servers, shas })
    }

    fn sha(&self, body: &str) -> &str {
        &self.shas[body]
    }

    /// What the metric says.
    fn metric(&self, name: &str) -> f64 {
        let text = self.proxy.http("GET", "/metrics").body;
        let line =
            text.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Each server forgets all scripts and cuts all connections, and keeps its data. No request may be in flight.
    fn forget(&self, clients: &mut [Client]) {
        for server in &self.servers {
            let mut direct = server.client();
            assert_eq!(direct.ask("SCRIPT FLUSH"), "+OK");
            assert!(direct.ask("CLIENT KILL TYPE normal SKIPME yes").parse::<u32>().is_ok());
        }
        // A read is sent again on a connection that works: then the old one is known to be gone.
        let keys: Vec<String> = (0..30).map(|n| format!("probe:{n}")).collect();
        for client in clients {
            client.send(resp(&[&["MGET".to_owned()][..], &keys].concat()));
            assert!(client.reply().starts_with("[nil nil"));
        }
    }
}

/// One request of a script, with one key and one argument.
fn call(name: &str, script: &str, key: &str, argument: &str) -> Vec<u8> {
    resp(&[name, script, "1", key, argument])
}

#[test]
fn a_script_runs_on_every_server_and_worker_once_it_came_in_an_eval() {
    let fleet = need!(Fleet::start(&[]));
    let mut clients: Vec<Client> = (0..4).map(|_| fleet.proxy.client()).collect();
    // Somebody must have said what it is.
    clients[0].send(call("EVALSHA", fleet.sha(APPEND), "a", "x"));
    assert!(clients[0].reply().starts_with("-NOSCRIPT"));
    clients[0].send(call("EVAL", APPEND, "a", "x"));
    assert_eq!(clients[0].reply(), "\"x\"");
    for n in 0..40 {
        let client = &mut clients[n % 4];
        client.send(call("EvalSha", &fleet.sha(APPEND).to_uppercase(), &format!("key:{n}"), "y"));
        assert_eq!(client.reply(), "\"y\"");
    }
    assert_eq!(
        (fleet.metric("outrigger_scripts_remembered"), fleet.metric("outrigger_scripts_remembered_bytes") > 70.0),
        (1.0, true)
    );
    // Once for each worker and server, less the one that ran the EVAL.
    let sent = fleet.metric("outrigger_scripts_sent_total");
    assert!((2.0..=5.0).contains(&sent), "{sent}");
}

#[test]
fn a_restarted_server_is_given_its_scripts_again() {
    let mut fleet = need!(Fleet::start(&[]));
    fleet.proxy.announce("connection lost");
    fleet.proxy.announce("cannot connect");
    let mut client = fleet.proxy.client();
    client.send(call("EVAL", COUNT, "a", "1"));
    assert_eq!(client.reply(), "1");
    for _ in 0..2 {
        fleet.servers.iter_mut().for_each(Server::restart);
        // As with any other write, one that was in flight is lost, and the client is told so.
        eventually("the servers' return", || {
            client.send(call("EVALSHA", fleet.sha(COUNT), "a", "1"));
            match client.reply() {
                error if error.contains("pool cache, server") => None,
                reply => {
                    assert_eq!(reply, "1");
                    Some(())
                }
            }
        });
    }
}

/// What a single Redis would have.
#[derive(Default)]
struct Model(HashMap<String, (String, i64)>);

impl Model {
    fn value(&mut self, key: &str) -> &mut (String, i64) {
        self.0.entry(key.to_owned()).or_default()
    }
}

/// xorshift: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A request of some kind, and the reply that it must get.
fn anything(random: &mut Random, fleet: &Fleet, model: &mut Model, client: usize, n: usize) -> (Vec<u8>, String) {
    let key = format!("{client}:{}", random.below(6));
    let text = format!("{n}.");
    let number = random.below(100).to_string();
    let (value, count) = model.value(&key);
    let quoted = |value: &str| format!("\"{value}\"");
    match random.below(7) {
        kind @ 0..=2 => {
            value.push_str(&text);
            let request = match kind {
                0 => call("EVAL", APPEND, &key, &text),
                _ => call("EVALSHA", fleet.sha(APPEND), &key, &text),
            };
            (request, quoted(value))
        }
        3 => {
            *count += number.parse::<i64>().unwrap();
            (call("EVALSHA", fleet.sha(COUNT), &key, &number), count.to_string())
        }
        4 => {
            value.push_str(&text);
            (resp(&["APPEND", &key, &text]), value.len().to_string())
        }
        5 => (resp(&["GET", &key]), if value.is_empty() { "nil".to_owned() } else { quoted(value) }),
        _ => {
            let reply = if value.is_empty() { "nil".to_owned() } else { quoted(value) };
            (resp(&["EVALSHA_RO", fleet.sha(READ), "1", &key]), reply)
        }
    }
}

#[test]
fn pipelines_get_what_one_redis_would_say_though_servers_forget_scripts_between_them() {
    let fleet = need!(Fleet::start(&[]));
    let mut clients: Vec<Client> = (0..4).map(|_| fleet.proxy.client()).collect();
    let mut models: Vec<Model> = (0..4).map(|_| Model::default()).collect();
    let mut random = Random(20_260_801);
    for body in [APPEND, COUNT, READ] {
        clients[0].send(call("EVAL", body, "loaded", "1"));
        assert!(!clients[0].reply().starts_with('-'));
    }
    let mut n = 0;
    for round in 0..60 {
        let mut expected = Vec::new();
        for (number, client) in clients.iter_mut().enumerate() {
            let mut pipeline = Vec::new();
            for _ in 0..1 + random.below(120) {
                n += 1;
                let (request, reply) = anything(&mut random, &fleet, &mut models[number], number, n);
                pipeline.extend(request);
                expected.push((number, reply));
            }
            client.send_aside(pipeline);
        }
        for (number, reply) in expected {
            assert_eq!(clients[number].reply(), reply, "client {number} in round {round}");
        }
        if random.below(3) == 0 {
            fleet.forget(&mut clients);
        }
    }
    assert!(fleet.metric("outrigger_scripts_sent_total") > 20.0);
}

#[test]
fn nobody_is_told_noscript_and_nothing_overtakes_though_servers_are_restarted_under_pipelines() {
    let mut fleet = need!(Fleet::start(&[]));
    fleet.proxy.announce("connection lost");
    fleet.proxy.announce("cannot connect");
    let mut first = fleet.proxy.client();
    first.send(call("EVAL", APPEND, "loaded", "1"));
    assert_eq!(first.reply(), "\"1\"");
    let (sha, address) = (fleet.sha(APPEND).to_owned(), fleet.proxy.address_of(0));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (sha, address, stop) = (sha.clone(), address.clone(), stop.clone());
            std::thread::spawn(move || {
                let (mut client, mut n, mut done) = (address.connect().unwrap(), 0, 0);
                let key = |n: u32| format!("{number}:{}", n % 5);
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    let from = n;
                    let mut pipeline = Vec::new();
                    while n < from + 100 {
                        // In turn by a script and without one.
                        pipeline.extend(call("EVALSHA", &sha, &key(n), &format!("{n}.")));
                        pipeline.extend(resp(&["APPEND", &key(n), &format!("{n}!.")]));
                        n += 1;
                    }
                    client.send_aside(pipeline);
                    for n in from..from + 100 {
                        match client.try_reply().unwrap() {
                            Reply::Bulk(value) => {
                                done += 1;
                                in_order(&String::from_utf8(value).unwrap(), n);
                            }
                            Reply::Error(error) => assert!(error.contains("pool cache, server"), "{error}"),
                            other => panic!("{other}"),
                        }
                        match client.try_reply().unwrap() {
                            Reply::Integer(_) => {}
                            Reply::Error(error) => assert!(error.contains("pool cache, server"), "{error}"),
                            other => panic!("{other}"),
                        }
                    }
                }
                done
            })
        })
        .collect();
    for round in 0..9 {
        fleet.servers[round % 3].restart();
        eventually("servers that answer", || (!first.ask("MGET a b c d e f g h i j k l").contains('-')).then_some(()));
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let done: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(done > 1000, "{done}");
}

/// What was appended came in the order in which it was sent; `last` is the end.
fn in_order(value: &str, last: u32) {
    let place = |word: &str| match word.strip_suffix('!') {
        Some(number) => 2 * number.parse::<u32>().unwrap() + 1,
        None => 2 * word.parse::<u32>().unwrap(),
    };
    let places: Vec<u32> = value.split_terminator('.').map(place).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "{value}");
    assert_eq!(places.last(), Some(&(2 * last)), "{value}");
}

#[test]
fn when_others_have_a_server_forget_its_scripts_the_newest_request_is_healed_and_the_order_kept() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    client.send(call("EVAL", APPEND, "key", "0."));
    assert_eq!(client.reply(), "\"0.\"");
    let forget = || fleet.servers.iter().for_each(|server| assert_eq!(server.client().ask("SCRIPT FLUSH"), "+OK"));
    // One at a time.
    for n in 1..10 {
        forget();
        client.send(call("EVALSHA", fleet.sha(APPEND), "key", &format!("{n}.")));
        in_order(client.reply().trim_matches('"'), n);
    }
    let known = |client: &mut Client, n: u32| {
        client.send(call("EVALSHA", fleet.sha(APPEND), "key", &format!("{n}.")));
        in_order(client.reply().trim_matches('"'), n);
    };
    // In a pipeline those before the last are told.
    known(&mut client, 10);
    forget();
    let pipeline =
        (11..14).flat_map(|n| call("EVALSHA", fleet.sha(APPEND), "key", &format!("{n}."))).collect::<Vec<_>>();
    client.send(pipeline);
    let replies: Vec<String> = (11..14).map(|_| client.reply()).collect();
    assert!(replies[..2].iter().all(|reply| reply.starts_with("-NOSCRIPT ")), "{replies:?}");
    in_order(replies[2].trim_matches('"'), 13);
    // A write behind it must not come before it.
    known(&mut client, 14);
    forget();
    let behind = [call("EVALSHA", fleet.sha(APPEND), "key", "15."), resp(&["APPEND", "key", "15!."])].concat();
    client.send(behind);
    assert!(client.reply().starts_with("-NOSCRIPT "));
    assert!(client.reply().parse::<u32>().is_ok());
    client.send(call("EVALSHA", fleet.sha(APPEND), "key", "16."));
    let value = client.reply();
    assert!(value.ends_with("13.14.15!.16.\""), "{value}");
    assert_eq!(fleet.metric("outrigger_scripts_sent_total"), 13.0);
}

#[test]
fn a_reply_that_nobody_wants_is_healed_as_well() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    client.send(call("EVAL", APPEND, "key", "0."));
    assert_eq!(client.reply(), "\"0.\"");
    fleet.servers.iter().for_each(|server| drop(server.client().ask("SCRIPT FLUSH")));
    client.send(resp(&["CLIENT", "REPLY", "OFF"]));
    client.send(call("EVALSHA", fleet.sha(APPEND), "key", "1."));
    eventually("what was asked for unheard", || (fleet.proxy.client().ask("GET key") == "\"0.1.\"").then_some(()));
}

#[test]
fn bodies_that_are_too_long_or_without_a_memory_are_the_clients_own_affair() {
    let long = format!("{READ} --{}", "x".repeat(64 * 1024));
    let servers = [need!(Server::redis())];
    let mut direct = servers[0].client();
    direct.send(resp(&["SCRIPT", "LOAD", &long]));
    let long_sha = direct.reply().trim_matches('"').to_owned();
    direct.send(resp(&["SCRIPT", "LOAD", READ]));
    let short_sha = direct.reply().trim_matches('"').to_owned();
    let proxy =
        Outrigger::start([Pool::redis("cache", &servers), Pool::redis("forgetful", &servers).set("script_memory: 0")]);
    for (pool, body, sha) in [(0, &long[..], &long_sha), (1, READ, &short_sha)] {
        let mut client = proxy.client_of(pool);
        client.send(resp(&["EVAL", body, "1", "key"]));
        assert_eq!(client.reply(), "nil");
        client.send(resp(&["EVALSHA", sha, "1", "key"]));
        assert_eq!(client.reply(), "nil");
        assert_eq!(direct.ask("SCRIPT FLUSH"), "+OK");
        client.send(resp(&["EVALSHA", sha, "1", "key"]));
        assert!(client.reply().starts_with("-NOSCRIPT "));
    }
}

#[test]
fn within_a_transaction_a_script_goes_with_its_body() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    client.send(call("EVAL", APPEND, "key", "0."));
    assert_eq!(client.reply(), "\"0.\"");
    fleet.servers.iter().for_each(|server| drop(server.client().ask("SCRIPT FLUSH")));
    assert_eq!(client.ask("MULTI"), "+OK");
    for n in 1..3 {
        client.send(call("EVALSHA", fleet.sha(APPEND), "key", &format!("{n}.")));
        assert_eq!(client.reply(), "+QUEUED");
    }
    assert_eq!(client.ask("EXEC"), "[\"0.1.\" \"0.1.2.\"]");
}

#[test]
fn what_has_no_key_goes_to_one_server_which_the_settings_may_name() {
    let servers = need!(Server::three(Server::redis));
    let names = ["one", "two", "three"];
    let list: Vec<String> =
        servers.iter().zip(names).map(|(server, name)| format!("{} {name}", server.entry())).collect();
    let health = "auto_eject_hosts: true\n    on_ejected: fail_fast";
    let mut proxy = Outrigger::start([
        Pool::new("any", "redis", &list).set(health),
        Pool::new("named", "redis", &list).set(health).set("keyless_server: two"),
    ]);
    proxy.announce("server ejected");
    let script = "redis.call('INCR','ran') return 'done'";
    for (pool, server) in [(0, 0), (1, 1)] {
        let mut client = proxy.client_of(pool);
        for _ in 0..10 {
            client.send(resp(&["EVAL", script, "0"]));
            assert_eq!(client.reply(), "\"done\"");
        }
        let ran: Vec<String> = servers.iter().map(|server| server.client().ask("GET ran")).collect();
        assert_eq!(ran.iter().filter(|ran| *ran == "\"10\"").count(), pool + 1, "{ran:?}");
        assert!(pool == 0 || ran[server] == "\"10\"", "{ran:?}");
    }
    let before: Vec<String> = servers.iter().map(|server| server.client().ask("GET ran")).collect();
    for (number, pool) in ["any", "named"].into_iter().enumerate() {
        let path = format!("/pools/{pool}/servers/two/eject?for=60s");
        assert_eq!(proxy.http("POST", &path).status, 200);
        let mut client = proxy.client_of(number);
        client.send(resp(&["EVAL", script, "0"]));
        match number {
            0 => assert_eq!(client.reply(), "\"done\""),
            _ => {
                let reply = client.reply();
                assert!(
                    reply.starts_with("-ERR Server is ejected") && reply.ends_with("(pool named, server two)"),
                    "{reply}"
                );
            }
        }
    }
    assert_eq!(servers[1].client().ask("GET ran"), before[1]);
}

#[test]
fn functions_run_by_their_keys() {
    let fleet = need!(Fleet::start(&[]));
    let library =
        "#!lua name=mine\nredis.register_function('touch_it', function(keys) return redis.call('INCR', keys[1]) end)";
    for server in &fleet.servers {
        let mut direct = server.client();
        direct.send(resp(&["FUNCTION", "LOAD", library]));
        assert_eq!(direct.reply(), "\"mine\"");
    }
    let mut client = fleet.proxy.client();
    for n in 0..20 {
        assert_eq!(client.ask(&format!("FCALL touch_it 1 key:{n}")), "1");
        assert_eq!(client.ask(&format!("GET key:{n}")), "\"1\"");
    }
    assert_eq!(client.ask("FCALL none 1 a"), "-ERR Function not found");
}

#[test]
fn what_is_loaded_and_flushed_through_the_proxy_is_so_everywhere() {
    let fleet = need!(Fleet::start(&["allow_admin_commands: true"]));
    let mut clients = [fleet.proxy.client(), fleet.proxy.client()];
    clients[0].send(resp(&["SCRIPT", "LOAD", COUNT]));
    assert_eq!(clients[0].reply(), format!("\"{}\"", fleet.sha(COUNT)));
    let run = |client: &mut Client, key: &str| {
        client.send(call("EVALSHA", fleet.sha(COUNT), key, "1"));
        client.reply()
    };
    fleet.forget(&mut clients);
    for n in 0..30 {
        assert_eq!(run(&mut clients[n % 2], &format!("key:{n}")), "1");
    }
    assert_eq!(clients[0].ask("SCRIPT FLUSH"), "+OK");
    // Whoever has all forgotten expects to be told so.
    for n in 0..30 {
        let reply = run(&mut clients[n % 2], &format!("key:{n}"));
        assert!(reply.starts_with("-NOSCRIPT "), "{reply}");
    }
    assert_eq!(fleet.metric("outrigger_scripts_remembered"), 0.0);
    clients[1].send(call("EVAL", COUNT, "key:0", "1"));
    assert_eq!(clients[1].reply(), "2");
    assert_eq!((1..30).map(|n| run(&mut clients[n % 2], &format!("key:{n}"))).collect::<Vec<_>>(), ["2"; 29]);
}

#[test]
fn a_server_that_a_reload_brings_is_given_the_scripts() {
    let fleet = need!(Fleet::start(&[]));
    let new = need!(Server::redis());
    let mut clients = [fleet.proxy.client(), fleet.proxy.client()];
    clients[0].send(call("EVAL", COUNT, "key", "1"));
    assert_eq!(clients[0].reply(), "1");
    let file = fleet.proxy.file("outrigger.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&fleet.servers[0].entry(), &new.entry())).unwrap();
    assert_eq!(fleet.proxy.http("POST", "/reload").status, 200);
    let at_the_new = || new.client().ask("DBSIZE").parse::<u32>().unwrap();
    for n in 0..60 {
        clients[n % 2].send(call("EVALSHA", fleet.sha(COUNT), &format!("key:{n}"), "1"));
        assert_eq!(clients[n % 2].reply(), "1");
    }
    assert!(at_the_new() > 5, "{}", at_the_new());
}
