//! Two Outriggers in front of the same servers, a Prometheus that scrapes both, clients that ask all the time, and what
//! happens to them: reloads, a bad file, a server that hangs, dies and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;

use crate::prometheus::Prometheus;
use crate::support::client::Address;
use crate::support::{Client, Outrigger, Pool, Server};

/// Like a cache of sessions with a tight timeout: what fails is seen soon.
const CACHE: [&str; 11] = [
    "hash: murmur",
    "timeout: 200ms",
    "auto_eject_hosts: true",
    "server_failure_limit: 2",
    "server_retry_timeout: 500ms",
    "probe_interval: 100ms",
    "probe_timeout: 100ms",
    "slow_start: 1s",
    "on_readmit: keep",
    "client_connections: 50",
    "slowlog_threshold: 50ms",
];

/// Both proxies have ejected the server; it has all its requests again; both have counted that it was lost.
const AWAY: &str = "count(outrigger_server_up{server=\"cache-1\"} == 0) == 2";
const BACK: &str = "count(outrigger_server_traffic_ratio{server=\"cache-1\"} == 1) == 2";
const LOST: &str = "count(sum by (instance) (outrigger_server_connection_errors_total{server=\"cache-1\"}) > 0) == 2";

/// How often the server dies at most.
const MOST_DEATHS: usize = 10;

pub struct Scene {
    pub prometheus: Prometheus,
    pub proxies: [Outrigger; 2],
    servers: [Server; 3],
    load: Load,
}

/// One proxy: the pool `cache` on these servers, given by their addresses, and the pool `pages` on memcacheds of its own.
pub fn proxy(servers: [&str; 3]) -> Outrigger {
    let named = [1, 2, 3].map(|number| format!("{} cache-{number}", servers[number - 1]));
    let cache = CACHE.iter().fold(Pool::new("cache", "redis", &named), |pool, line| pool.set(line));
    let pages = Pool::new("pages", "memcached", &["local page-1".to_owned(), "local page-2".to_owned()]);
    let mut proxy = Outrigger::start([cache, pages]);
    ["the configuration was not changed", "cache-1", "cache-2", "ejected", "cannot connect"]
        .iter()
        .for_each(|text| proxy.announce(text));
    proxy
}

impl Scene {
    pub fn start() -> Option<Self> {
        let servers = Server::three(Server::redis)?;
        let entries = servers.each_ref().map(Server::entry);
        let proxies = [(); 2].map(|()| proxy(entries.each_ref().map(String::as_str)));
        let prometheus = Prometheus::start(&[proxies[0].admin_address(), proxies[1].admin_address()])?;
        let load = Load::start(&proxies);
        prometheus.wait_for("min(count_over_time(outrigger_ready[1m])) >= 4");
        Some(Self { prometheus, proxies, servers, load })
    }

    pub fn play(&mut self) {
        self.reload();
        self.lose_a_server();
        self.cut_connections();
    }

    /// A good file, a bad one, another good one.
    fn reload(&self) {
        let [changed, failed] =
            ["changed", "failed"].map(|result| format!("min(outrigger_config_reloads_total{{result=\"{result}\"}})"));
        self.write("timeout: 201ms");
        self.prometheus.wait_for(&format!("{changed} >= 1"));
        self.write("timeout: soon");
        self.prometheus.wait_for(&format!("{failed} >= 1"));
        self.write("timeout: 202ms");
        self.prometheus.wait_for(&format!("{changed} >= 2"));
    }

    /// Another timeout.
    fn write(&self, timeout: &str) {
        for proxy in &self.proxies {
            let file = proxy.file("outrigger.yml");
            let text = std::fs::read_to_string(&file).unwrap();
            let lines =
                text.lines().map(|l| if l.starts_with("    timeout:") { format!("    {timeout}") } else { l.into() });
            std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
            proxy.signal(Signal::HUP);
        }
    }

    /// It hangs until both have ejected it, and comes back; it dies, and comes back.
    fn lose_a_server(&mut self) {
        self.servers[0].pause();
        self.prometheus.wait_for(AWAY);
        self.servers[0].resume();
        self.prometheus.wait_for(BACK);
        for _ in 0..MOST_DEATHS {
            self.die();
            if self.prometheus.values(LOST).is_ok_and(|found| !found.is_empty()) {
                return;
            }
        }
        panic!("in {MOST_DEATHS} deaths of a server no client was the first to see it");
    }

    /// Where probes alone see it and eject the server, no connection of clients is in use when it breaks.
    fn die(&mut self) {
        self.servers[0].kill();
        self.prometheus.wait_for(AWAY);
        self.servers[0].restart();
        self.prometheus.wait_for(BACK);
    }

    /// One that is there again at once: requests are sent a second time.
    fn cut_connections(&mut self) {
        self.servers[1].restart();
        self.prometheus
            .wait_for("count(outrigger_server_connections{server=\"cache-2\", state=\"connected\"} > 0) == 2");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.load.stop();
    }
}

/// Clients that ask until they are stopped.
struct Load {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(proxies: &[Outrigger]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let ask: [fn(&Address, &AtomicBool); 2] = [ask_redis, ask_memcached];
        let jobs = proxies
            .iter()
            .flat_map(|proxy| ask.into_iter().enumerate().map(|(pool, ask)| (proxy.address_of(pool), ask)));
        let clients = jobs
            .map(|(address, ask)| {
                let ends = Arc::clone(&ends);
                thread::spawn(move || {
                    // Clients come and go.
                    while !ends.load(Relaxed) {
                        ask(&address, &ends);
                    }
                })
            })
            .collect();
        Self { ends, clients }
    }

    fn stop(&mut self) {
        self.ends.store(true, Relaxed);
        self.clients.drain(..).for_each(|client| client.join().unwrap());
    }
}

/// How many rounds a client stays.
const ROUNDS: usize = 50;
/// The load is light: what is looked at is not how much it can be.
const PAUSE: Duration = Duration::from_millis(4);

fn rounds(ends: &AtomicBool, mut round: impl FnMut(usize)) {
    for number in (0..ROUNDS).take_while(|_| !ends.load(Relaxed)) {
        round(number);
        thread::sleep(PAUSE);
    }
}

/// Reads that find something and that do not, writes, scripts, what spreads, and what is an error.
fn ask_redis(address: &Address, ends: &AtomicBool) {
    let mut client: Client = address.connect().unwrap();
    rounds(ends, |number| {
        for command in [
            &format!("SET key:{number} value"),
            &format!("GET key:{number}"),
            &format!("GET nothing:{number}"),
            "MGET key:1 key:2 key:3 key:4",
            &format!("LPUSH key:{number} a"),
            &format!("EVAL return(1) 1 key:{number}"),
            "PING",
            "MONITOR",
        ] {
            client.ask(command);
        }
    });
}

fn ask_memcached(address: &Address, ends: &AtomicBool) {
    let mut client: Client = address.connect().unwrap();
    rounds(ends, |number| {
        client.tell(&format!("set page:{number} 0 0 5\r\nhello\r\n"));
        for command in [&format!("get page:{number} page:1\r\n"), "get nothing\r\n", "version\r\n"] {
            client.send(command);
            client.memcached_reply();
        }
    });
}
