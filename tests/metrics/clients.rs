//! Clients that do known things: what they have done must be what was counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outrigger::admin::{State, TopologyView};
use outrigger::telemetry::{BINS, BOUNDS, Class};
use serde_json::Value;

use crate::exposition::Exposition;
use crate::need;
use crate::support::client::resp;
use crate::support::{Client, Outrigger, Pool, Server, eventually};

/// Clients of each pool, and how often each does everything.
const CLIENTS: usize = 4;
const ROUNDS: usize = 25;

/// What a request was and what became of it.
type Done = (&'static str, &'static str);

/// A request with its reply, both as bytes, and how it is counted.
struct Exchange {
    request: Vec<u8>,
    reply: Vec<u8>,
    done: Done,
    /// Of those that were rejected.
    reason: Option<&'static str>,
    fragments: usize,
}

fn exchange(request: Vec<u8>, reply: &str, command: &'static str, result: &'static str) -> Exchange {
    let reply = reply.replace('|', "\r\n").into_bytes();
    Exchange { request, reply, done: (command, result), reason: None, fragments: 0 }
}

impl Exchange {
    fn because(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    fn in_pieces(self, fragments: usize) -> Self {
        Self { fragments, ..self }
    }
}

/// `keys`: on different servers.
fn redis(client: usize, round: usize, keys: &[String; 2]) -> Vec<Exchange> {
    let key = format!("key:{client}:{round}");
    let ask = |text: &str, reply: &str, command, result| {
        exchange(resp(&text.split(' ').collect::<Vec<_>>()), reply, command, result)
    };
    vec![
        ask(&format!("SET {key} value"), "+OK|", "write", "ok"),
        ask(&format!("GET {key}"), "$5|value|", "read", "ok"),
        ask(&format!("GET {key}:none"), "$-1|", "read", "miss"),
        ask(&format!("SET {key} other NX"), "$-1|", "write", "miss"),
        ask(&format!("DEL {key}:none"), ":0|", "write", "ok"),
        ask(&format!("INCR {key}"), "-ERR value is not an integer or out of range|", "write", "error"),
        ask(&format!("EVAL return(1) 1 {key}"), ":1|", "other", "ok"),
        ask(&format!("MGET {} {}", keys[0], keys[1]), "*2|$-1|$-1|", "read", "ok").in_pieces(2),
        ask("PING", "+PONG|", "proxy", "ok"),
        ask("GET", "-ERR wrong number of arguments for 'get' command|", "read", "rejected").because("invalid"),
        ask("NOSUCH a", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' |", "other", "rejected")
            .because("unsupported"),
    ]
}

fn memcached(client: usize, round: usize, keys: &[String; 2]) -> Vec<Exchange> {
    let key = format!("key:{client}:{round}");
    let tell = |text: &str, reply: &str, command, result| {
        exchange(format!("{}\r\n", text.replace('|', "\r\n")).into_bytes(), reply, command, result)
    };
    vec![
        tell(&format!("set {key} 0 0 5|value"), "STORED|", "write", "ok"),
        tell(&format!("get {key}"), &format!("VALUE {key} 0 5|value|END|"), "read", "ok"),
        tell(&format!("get {key}:none"), "END|", "read", "miss"),
        tell(&format!("delete {key}:none"), "NOT_FOUND|", "write", "miss"),
        tell(
            &format!("incr {key} 1"),
            "CLIENT_ERROR cannot increment or decrement non-numeric value|",
            "write",
            "error",
        ),
        tell(&format!("get {} {}", keys[0], keys[1]), "END|", "read", "miss").in_pieces(2),
    ]
}

/// Two keys that no server has and that belong to different ones.
fn apart(proxy: &Outrigger, pool: usize, servers: &[Server], set: impl Fn(&mut Client, &str)) -> [String; 2] {
    let (mut client, name) = (proxy.client_of(pool), ["cache", "memory"][pool]);
    let requests = |server: &Server| proxy.stats()[name][&server.name()]["requests"].as_u64().unwrap();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for number in 0..100 {
        let (key, before) = (format!("apart:{number}"), servers.iter().map(requests).collect::<Vec<_>>());
        set(&mut client, &key);
        let owner = servers.iter().zip(before).find(|(server, before)| requests(server) > *before).unwrap().0;
        found.insert(owner.name(), key);
        if let [a, b] = &found.values().cloned().collect::<Vec<_>>()[..] {
            return [a.clone(), b.clone()];
        }
    }
    panic!("all keys are on one server");
}

/// Everything that all clients of a pool do, and what they must have been told; at the end they leave.
struct Ledger {
    done: BTreeMap<Done, usize>,
    reasons: BTreeMap<&'static str, usize>,
    fragmented: usize,
    fragments: usize,
    sent: usize,
    received: usize,
    /// All requests, the time of each from sending it to its reply.
    time: Duration,
}

impl Ledger {
    fn keep(proxy: &Outrigger, pool: usize, script: impl Fn(usize, usize) -> Vec<Exchange> + Sync) -> Self {
        let lists: Vec<(Vec<Exchange>, Duration)> = std::thread::scope(|scope| {
            let run = |client| {
                let script = &script;
                scope.spawn(move || {
                    let (mut connection, mut all, mut time) = (proxy.client_of(pool), Vec::new(), Duration::ZERO);
                    for exchange in (0..ROUNDS).flat_map(|round| script(client, round)) {
                        let start = Instant::now();
                        connection.exchange(&exchange.request, &exchange.reply);
                        time += start.elapsed();
                        all.push(exchange);
                    }
                    (all, time)
                })
            };
            let running: Vec<_> = (0..CLIENTS).map(run).collect();
            running.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let mut ledger = Self {
            done: BTreeMap::new(),
            reasons: BTreeMap::new(),
            fragmented: 0,
            fragments: 0,
            sent: 0,
            received: 0,
            time: lists.iter().map(|(_, time)| *time).sum(),
        };
        lists.iter().flat_map(|(all, _)| all).for_each(|exchange| ledger.note(exchange));
        ledger
    }

    fn note(&mut self, exchange: &Exchange) {
        *self.done.entry(exchange.done).or_default() += 1;
        exchange.reason.into_iter().for_each(|reason| *self.reasons.entry(reason).or_default() += 1);
        self.fragmented += usize::from(exchange.fragments > 0);
        self.fragments += exchange.fragments;
        self.sent += exchange.request.len();
        self.received += exchange.reply.len();
    }
}

/// How much more there is than before.
struct Difference<'a> {
    pool: &'a str,
    before: &'a Exposition,
    after: &'a Exposition,
}

impl Difference<'_> {
    #[track_caller]
    fn of(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<(&str, &str)> = [("pool", self.pool)].iter().chain(labels).copied().collect();
        self.after.sum(name, &labels) - self.before.sum(name, &labels)
    }

    #[track_caller]
    fn check(&self, ledger: &Ledger) {
        for command in ["read", "write", "other", "proxy"] {
            for result in ["ok", "miss", "error", "failed", "rejected"] {
                let counted = self.of("outrigger_requests_total", &[("command", command), ("result", result)]);
                let done = ledger.done.get(&(command, result)).copied().unwrap_or_default();
                assert_eq!(counted, done as f64, "{} {command} {result}", self.pool);
            }
        }
        for (labels, _) in self.after.find("outrigger_request_errors_total", &[("pool", self.pool)]) {
            let reason = labels["reason"].as_str();
            let known = ledger.reasons.get(reason).copied().unwrap_or_default();
            assert_eq!(self.of("outrigger_request_errors_total", &[("reason", reason)]), known as f64, "{reason}");
        }
        assert_eq!(self.of("outrigger_request_bytes_total", &[]), ledger.sent as f64);
        assert_eq!(self.of("outrigger_response_bytes_total", &[]), ledger.received as f64);
        assert_eq!(self.of("outrigger_fragmented_requests_total", &[]), ledger.fragmented as f64);
        assert_eq!(self.of("outrigger_fragments_total", &[]), ledger.fragments as f64);
        self.check_times(ledger);
        assert_eq!(self.of("outrigger_sessions_opened_total", &[]), CLIENTS as f64);
        assert_eq!(self.of("outrigger_sessions_closed_total", &[("reason", "client")]), CLIENTS as f64);
    }

    /// Each time is shorter than what the client has seen, all requests took some time, and none is missing.
    #[track_caller]
    fn check_times(&self, ledger: &Ledger) {
        let name = |part: &str| format!("outrigger_request_duration_seconds{part}");
        for command in ["read", "write", "other"] {
            let answered = ledger.done.iter().filter(|((c, result), _)| *c == command && *result != "rejected");
            let answered: usize = answered.map(|(_, count)| count).sum();
            let labels = [("command", command)];
            assert_eq!(self.of(&name("_count"), &labels), answered as f64, "{command}");
            assert_eq!(self.of(&name("_bucket"), &[("command", command), ("le", "+Inf")]), answered as f64);
        }
        let (requests, servers) = (self.of(&name("_sum"), &[]), "outrigger_server_request_duration_seconds_sum");
        assert!(requests > 0.0 && requests < ledger.time.as_secs_f64(), "{requests} of {:?}", ledger.time);
        let of_servers = self.of(servers, &[]) + self.of("outrigger_server_queue_duration_seconds_sum", &[]);
        assert!(of_servers > 0.0 && of_servers < 2.0 * ledger.time.as_secs_f64(), "{of_servers} of {:?}", ledger.time);
    }
}

/// The metrics agree with the statistics of each server.
#[track_caller]
fn check_servers(answer: &Exposition, stats: &Value, pool: &str, servers: &[Server]) {
    for server in servers.iter().map(Server::name) {
        let of_server = &stats[pool][&server];
        let same = [
            ("requests", "outrigger_server_requests_total"),
            ("responses", "outrigger_server_responses_total"),
            ("request_bytes", "outrigger_server_request_bytes_total"),
            ("response_bytes", "outrigger_server_response_bytes_total"),
            ("server_retries", "outrigger_server_retries_total"),
            ("server_timedout", "outrigger_server_timeouts_total"),
            ("in_queue", "outrigger_server_queued_requests"),
            ("out_queue", "outrigger_server_in_flight_requests"),
            ("responses", "outrigger_server_request_duration_seconds_count"),
            ("responses", "outrigger_server_queue_duration_seconds_count"),
        ];
        let labels = [("pool", pool), ("server", server.as_str())];
        for (field, name) in same {
            assert_eq!(answer.sum(name, &labels), of_server[field].as_f64().unwrap(), "{server} {name}");
        }
        assert!(answer.sum("outrigger_server_requests_total", &labels) > 0.0, "{server}");
        let connected = [labels[0], labels[1], ("state", "connected")];
        let connections = of_server["server_connections"].as_f64().unwrap();
        assert_eq!(answer.sum("outrigger_server_connections", &connected), connections);
        assert!(answer.sum("outrigger_server_connections_opened_total", &labels) >= connections);
    }
}

/// `/topology` says the same.
#[track_caller]
fn check_topology(answer: &Exposition, view: &TopologyView) {
    assert_eq!(view.latency_bounds_us, BOUNDS);
    for pool in &view.pools {
        let name = ("pool", pool.name.as_str());
        for (command, results) in &pool.requests {
            for (result, count) in results {
                let labels = [name, ("command", command), ("result", result)];
                assert_eq!(answer.sum("outrigger_requests_total", &labels), *count as f64, "{labels:?}");
            }
        }
        for (command, bins) in &pool.latency {
            let count = answer.sum("outrigger_request_duration_seconds_count", &[name, ("command", command)]);
            assert_eq!((bins.len(), bins.iter().sum::<u64>() as f64), (BINS, count), "{command}");
        }
        assert_eq!(pool.requests.len(), Class::COUNT);
        assert_eq!(answer.sum("outrigger_response_bytes_total", &[name]), pool.response_bytes as f64);
        assert!((pool.servers.iter().map(|server| server.ring_share).sum::<f64>() - 1.0).abs() < 1e-6);
        for server in &pool.servers {
            let labels = [name, ("server", server.name.as_str())];
            assert_eq!(answer.sum("outrigger_server_requests_total", &labels), server.requests as f64);
            assert_eq!(server.latency.iter().sum::<u64>(), server.responses);
            assert_eq!((server.state, server.traffic_percent, server.reason.as_deref()), (State::Live, 100, None));
            assert_eq!(server.connections.connected, server.connections_opened);
        }
    }
}

/// The answer when no client is there.
fn idle(proxy: &Outrigger) -> Exposition {
    eventually("all clients to have left", || {
        let answer = super::scrape(proxy);
        (answer.sum("outrigger_sessions", &[]) == 0.0).then_some(answer)
    })
}

#[test]
fn what_clients_did_is_what_was_counted() {
    let redis_servers = need!(Server::three(Server::redis));
    let memcached_servers = need!(Server::three(Server::memcached));
    let pools = [Pool::redis("cache", &redis_servers), Pool::memcached("memory", &memcached_servers)];
    let proxy = Outrigger::start(pools.map(|pool| pool.set("hash: murmur")));
    let apart = [
        apart(&proxy, 0, &redis_servers, |client, key| assert_eq!(client.ask(&format!("DEL {key}")), "0")),
        apart(&proxy, 1, &memcached_servers, |client, key| {
            assert_eq!(client.tell(&format!("delete {key}")), "NOT_FOUND");
        }),
    ];
    let before = idle(&proxy);
    let ledgers = [
        Ledger::keep(&proxy, 0, |client, round| redis(client, round, &apart[0])),
        Ledger::keep(&proxy, 1, |client, round| memcached(client, round, &apart[1])),
    ];
    let (after, stats) = (idle(&proxy), proxy.stats());
    for (pool, ledger) in ["cache", "memory"].into_iter().zip(&ledgers) {
        Difference { pool, before: &before, after: &after }.check(ledger);
    }
    check_servers(&after, &stats, "cache", &redis_servers);
    check_servers(&after, &stats, "memory", &memcached_servers);
    check_topology(&after, &serde_json::from_value(proxy.json("/topology")).unwrap());
}
