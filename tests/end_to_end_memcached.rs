//! memcached through the proxy, over three real servers: every reply is the one that a single memcached would give.

mod support;

use support::{Client, Outrigger, Pool, Server};

struct Fleet {
    proxy: Outrigger,
    servers: [Server; 3],
}

impl Fleet {
    fn start() -> Option<Self> {
        Self::start_with("workers: 2")
    }

    fn start_with(globals: &str) -> Option<Self> {
        let servers = Server::three(Server::memcached)?;
        let pool = Pool::memcached("cache", &servers).set("hash: murmur");
        Some(Self { proxy: Outrigger::start_with(globals, [pool]), servers })
    }

    /// One key of each server, in the order of the servers; the value of each is its key.
    fn keys(&self) -> [String; 3] {
        let mut client = self.proxy.client();
        let keys: Vec<String> = (0..60).map(|n| format!("key:{n}")).collect();
        keys.iter().for_each(|k| assert_eq!(client.tell(&format!("set {k} 0 0 {}|{k}", k.len())), "STORED"));
        self.servers.each_ref().map(|server| {
            let mut direct = server.client();
            let own = |key: &&String| direct.tell(&format!("get {key}")) != "END";
            keys.iter().find(own).expect("a server without a key").clone()
        })
    }
}

/// One request a line, `|` for the line ends inside it; replies are the same at every run.
const REQUESTS: &str = "\
get a
set a 5 0 1|1
get a
gets none
 get  a
add a 0 0 1|2
add b 1 100 1|2
replace b 2 -0 1|3
replace none 0 0 1|3
append a 0 0 2|xy
prepend a 0 0 2|wv
append none 0 0 1|x
get a
set n 0 0 2|10
incr n 5
decr n 100
incr n 18446744073709551615
incr none 1
incr a 1
incr n x
decr n -1
touch n 100
touch none 1
touch n x
gat 100 n
gats 0 none
gat 100 none
delete n
delete n
delete a 0
delete a 5
set neg 0 -1 1|x
get neg
set empty 0 0 0|
get empty
cas none 0 0 1 99|x
cas b 0 0 1 999999999|x
cas b 0 0 1 x|x
set k 4294967295 0 1|x
get k
set k x 0 1|x
set k 0 x 1|x
set k 0 0 x
set k 0 0 -1
set k 0 0
set
get
delete
incr k
touch k
cas k 0 0 1|x
bogus
GET a
verbosity 1
set k 0 0 3|abcde
get k";

#[test]
fn every_command_answers_as_one_memcached_does() {
    let fleet = need!(Fleet::start());
    let plain = need!(Server::memcached());
    let (mut through, mut direct) = (fleet.proxy.client(), plain.client());
    let mut differences = Vec::new();
    for request in REQUESTS.lines() {
        // An end that both know, since one request may be answered with several lines.
        let answer = |client: &mut Client| {
            client.send(format!("{}\r\nset end 0 0 3\r\nend\r\nget end\r\n", request.replace('|', "\r\n")));
            let mut lines = Vec::new();
            while lines.last().is_none_or(|l| l != "VALUE end 0 3|end|END") {
                lines.push(client.memcached_reply());
            }
            lines
        };
        let (got, expected) = (answer(&mut through), answer(&mut direct));
        if got != expected {
            differences.push(format!("{request}: {got:?}, memcached: {expected:?}"));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn many_keys_come_back_in_the_order_in_which_they_were_asked_for() {
    let fleet = need!(Fleet::start());
    let [a, b, c] = fleet.keys();
    let mut client = fleet.proxy.client();
    let value = |key: &str| format!("VALUE {key} 0 {}|{key}|", key.len());
    let expected = [&c, &a, &b, &c].map(|k| value(k)).concat() + "END";
    assert_eq!(client.tell(&format!("get {c} none {a} {b} {c} nothing")), expected);
    assert_eq!(client.tell(&format!("gat 100 {c} none {a} {b} {c}")), expected);
    let gets = client.tell(&format!("gets {b} none {a}"));
    let words: Vec<&str> = gets.split(['|', ' ']).collect();
    assert_eq!((words[1], words[7], words[words.len() - 1]), (b.as_str(), a.as_str(), "END"), "{gets}");
    assert_eq!(client.tell(&format!("cas {b} 0 0 1 {}|x", words[4])), "STORED");
    assert_eq!(client.tell(&format!("cas {b} 0 0 1 {}|x", words[4])), "EXISTS");
    assert!(client.tell(&format!("gats 100 {a} {c}")).starts_with(&format!("VALUE {a} 0 ")));
    assert_eq!(client.tell("get none nothing nowhere"), "END");
    // As many as there are, with values that look like replies.
    let keys: Vec<String> = (0..500).map(|n| format!("many:{n}")).collect();
    keys.iter().for_each(|k| assert_eq!(client.tell(&format!("set {k} 7 0 5|END|")), "STORED"));
    let all: String = keys.iter().map(|k| format!("VALUE {k} 7 5|END\r\n|")).collect();
    assert_eq!(client.tell(&format!("get {}", keys.join(" "))), all + "END");
}

#[test]
fn noreply_is_silent_and_in_order() {
    let fleet = need!(Fleet::start());
    let mut client = fleet.proxy.client();
    let requests = "set a 0 0 1 noreply|1|incr a 1 noreply|append a 0 0 1 noreply|x|add a 0 0 1 noreply|2|touch a 0 noreply|\
                    set b 0 0 1 noreply|1|delete b noreply|verbosity 1 noreply|cas a 0 0 1 1 noreply|x|\
                    set toolarge 0 0 bad noreply|get a|get b";
    client.send(requests.replace('|', "\r\n") + "\r\n");
    let first = client.memcached_reply();
    let get = if first.starts_with("CLIENT_ERROR") { client.memcached_reply() } else { first };
    assert_eq!(get, "VALUE a 0 2|2x|END");
    assert_eq!(client.memcached_reply(), "END");
    client.send("flush_all noreply\r\n");
    support::eventually("the flush", || (client.tell("get a") == "END").then_some(()));
}

#[test]
fn keys_have_up_to_250_bytes() {
    let fleet = need!(Fleet::start());
    let mut client = fleet.proxy.client();
    let (longest, too_long) = ("k".repeat(250), "k".repeat(251));
    assert_eq!(client.tell(&format!("set {longest} 0 0 1|x")), "STORED");
    assert_eq!(client.tell(&format!("get {longest}")), format!("VALUE {longest} 0 1|x|END"));
    for request in ["get", "gets", "delete", "gat 0"] {
        let reply = client.tell(&format!("{request} {too_long}"));
        assert_eq!(reply, "CLIENT_ERROR bad command line format", "{request}");
    }
    assert_eq!(client.tell(&format!("get {longest} {too_long}")), "CLIENT_ERROR bad command line format");
    assert_eq!(client.tell(&format!("set {too_long} 0 0 1|x")), "CLIENT_ERROR bad command line format");
    assert_eq!(client.memcached_reply(), "ERROR", "the block, which memcached takes for a command too");
    assert_eq!(client.tell("get a"), "END");
}

#[test]
fn a_block_that_is_too_large_or_malformed_does_not_lose_the_stream() {
    let fleet = need!(Fleet::start());
    let mut client = fleet.proxy.client();
    let large = "x".repeat(3 << 20);
    client.send_aside(format!("set a 0 0 {}\r\n{large}\r\nget a\r\nset a 0 0 1\r\n1\r\n", large.len()).into_bytes());
    assert_eq!(client.memcached_reply(), "SERVER_ERROR object too large for cache");
    assert_eq!(client.memcached_reply(), "END");
    assert_eq!(client.memcached_reply(), "STORED");
    client.send("set a 0 0 3\r\nabcdef\r\nget a\r\n");
    assert_eq!(client.memcached_reply(), "CLIENT_ERROR bad data chunk");
    let after: Vec<String> = (0..2).map(|_| client.memcached_reply()).collect();
    assert!(after.contains(&"VALUE a 0 1|1|END".to_owned()) || after.contains(&"END".to_owned()), "{after:?}");
}

#[test]
fn a_block_beyond_the_proxys_limit_is_thrown_away() {
    let fleet = need!(Fleet::start_with("workers: 1\nlimits: {max_request_bytes: 100KiB}"));
    let mut client = fleet.proxy.client();
    for length in [200_000, 5_000_000] {
        client.send_aside(format!("set a 0 0 {length}\r\n{}\r\nversion\r\n", "x".repeat(length)).into_bytes());
        assert_eq!(client.memcached_reply(), "SERVER_ERROR object too large for cache");
        assert!(client.memcached_reply().starts_with("VERSION "));
    }
    client.send(format!("set a 0 0 200000 noreply\r\n{}\r\nget a\r\n", "x".repeat(200_000)));
    assert_eq!(client.memcached_reply(), "END");
}

#[test]
fn flush_all_goes_to_every_server() {
    let mut fleet = need!(Fleet::start());
    let keys = fleet.keys();
    let mut client = fleet.proxy.client();
    assert_eq!(client.tell("flush_all 1000"), "OK");
    assert!(client.tell(&format!("get {}", keys.join(" "))).starts_with("VALUE "));
    assert_eq!(client.tell("flush_all"), "OK");
    for (server, key) in fleet.servers.iter().zip(&keys) {
        assert_eq!(server.client().tell(&format!("get {key}")), "END");
    }
    assert!(client.tell("flush_all x").starts_with("CLIENT_ERROR "));
    fleet.servers[1].kill();
    fleet.proxy.announce("connection lost");
    fleet.proxy.announce("cannot connect");
    let reply = client.tell("flush_all");
    assert!(reply.starts_with("SERVER_ERROR ") && reply.contains(&fleet.servers[1].name()), "{reply}");
}

#[test]
fn a_dead_server_costs_its_own_keys() {
    let mut fleet = need!(Fleet::start());
    let [a, b, c] = fleet.keys();
    fleet.servers[1].kill();
    fleet.proxy.announce("connection lost");
    fleet.proxy.announce("cannot connect");
    let mut client = fleet.proxy.client();
    support::eventually("a refused connection", || client.tell(&format!("get {b}")).contains("refused").then_some(()));
    let refused = format!("SERVER_ERROR Connection refused (pool cache, server {})", fleet.servers[1].name());
    for request in [format!("get {b}"), format!("get {a} {b} {c}"), format!("set {b} 0 0 1|x"), format!("delete {b}")] {
        assert_eq!(client.tell(&request), refused, "{request}");
    }
    assert_eq!(client.tell(&format!("get {a}")), format!("VALUE {a} 0 {}|{a}|END", a.len()));
    assert_eq!(client.tell(&format!("get {c} {a}")).matches("VALUE").count(), 2);
    client.send(format!("set {b} 0 0 1 noreply\r\nx\r\nget {a}\r\n"));
    assert!(client.memcached_reply().starts_with("VALUE "));
    fleet.servers[1].restart();
    // The next attempt to connect may be some hundred milliseconds away.
    let stored = || (client.tell(&format!("set {b} 0 0 1|x")) == "STORED").then_some(());
    support::eventually("the server's return", stored);
}

#[test]
fn the_proxy_answers_for_itself() {
    let fleet = need!(Fleet::start());
    let mut client = fleet.proxy.client();
    assert!(client.tell("version").starts_with("VERSION "));
    assert_eq!(client.tell("verbosity 2"), "OK");
    let stats = client.tell("stats");
    for name in ["pid", "uptime", "time", "version"] {
        assert!(stats.contains(&format!("STAT {name} ")), "{name}: {stats}");
    }
    assert!(stats.contains(&format!("STAT pid {}|", fleet.proxy.pid())) && stats.ends_with("|END"), "{stats}");
    assert!(client.tell("stats items").starts_with("CLIENT_ERROR "));
    client.send("get a\r\nquit\r\nget b\r\n");
    assert_eq!(client.rest(), "END\r\n");
}

#[test]
fn meta_commands_are_refused_politely() {
    let fleet = need!(Fleet::start());
    let mut client = fleet.proxy.client();
    for request in ["mg key v", "md key", "mn", "me key", "ma key"] {
        assert!(client.tell(request).starts_with("CLIENT_ERROR meta commands are not supported"), "{request}");
    }
    client.send("ms key 3\r\nabc\r\nget a\r\n");
    assert!(client.memcached_reply().starts_with("CLIENT_ERROR meta commands are not supported"));
    let mut last = client.memcached_reply();
    while last != "END" {
        last = client.memcached_reply();
    }
    // A binary `get`: told in text, then closed.
    let mut binary = fleet.proxy.client();
    binary.send([0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'k']);
    assert_eq!(binary.rest(), "CLIENT_ERROR the binary protocol is not supported by this proxy\r\n");
}

#[test]
fn requests_may_come_byte_by_byte_and_end_with_a_half_close() {
    let fleet = need!(Fleet::start());
    let mut client = fleet.proxy.client();
    for byte in b"set a 0 0 5\r\n1\r\n34\r\nget a\r\nget a b c\r\n" {
        client.send([*byte]);
    }
    client.expect("STORED\r\nVALUE a 0 5\r\n1\r\n34\r\nEND\r\nVALUE a 0 5\r\n1\r\n34\r\nEND\r\n");
    client.send("get a\r\n".repeat(500) + "set a 0 0 10\r\nhalf");
    client.half_close();
    client.expect("VALUE a 0 5\r\n1\r\n34\r\nEND\r\n".repeat(500));
    client.expect_closed();
}

#[test]
fn large_values_pass_through_whole() {
    let fleet = need!(Fleet::start());
    let mut client = fleet.proxy.client();
    let value: String = (0..1_000_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    for length in [0, 1, 4096, 16_383, 16_384, 16_385, 65_536, 1_000_000] {
        let value = &value[..length];
        client.send_aside(format!("set big 0 0 {length}\r\n{value}\r\n").into_bytes());
        assert_eq!(client.memcached_reply(), "STORED");
        assert_eq!(client.tell("get big none small"), format!("VALUE big 0 {length}|{value}|END"));
        assert_eq!(client.tell("get big"), format!("VALUE big 0 {length}|{value}|END"));
    }
}

#[test]
fn unix_sockets_and_the_limit_of_clients() {
    let server = need!(Server::memcached_unix());
    let proxy =
        Outrigger::start([Pool::memcached("cache", std::slice::from_ref(&server)).set("client_connections: 1")]);
    let mut client = proxy.admitted("version\r\n", "VERSION");
    assert_eq!(client.tell("set a 0 0 1|x"), "STORED");
    assert_eq!(proxy.client().rest(), "ERROR Too many open connections\r\n");
    assert_eq!(client.tell("get a"), "VALUE a 0 1|x|END");
}
