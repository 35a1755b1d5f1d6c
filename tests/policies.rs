//! What becomes of the keys of an ejected server, by the pool's policy: an error at once, a miss, or a pool that stands in.
//! Against real servers, of which one is killed. And what time a slow command has.

mod support;

#[path = "policies/memcached.rs"]
mod memcached;
#[path = "policies/redis.rs"]
mod redis;
#[path = "policies/slow.rs"]
mod slow;

use support::{Client, Outrigger, Pool, Server, eventually};

/// Longest lifetime that keys get in the pool that stands in, in seconds.
const GUTTER_TTL: i64 = 30;

/// With a policy, and what makes it ejected at the first failure and for longer than a test runs.
fn ejecting(pool: Pool, policy: &str) -> Pool {
    let pool = if matches!(policy, "rehash" | "spare") { pool.set("on_readmit: keep") } else { pool };
    let pool = if policy == "spare" { pool.set(&format!("gutter_ttl: {GUTTER_TTL}s")) } else { pool };
    pool.set("auto_eject_hosts: true")
        .set("server_failure_limit: 1")
        .set("server_retry_timeout: 10m")
        .set("max_ejected_percent: 100")
        .set("probe_interval: 1m")
        .set(&format!("on_ejected: {policy}"))
}

/// Three servers behind a proxy, and who has which keys.
struct Scene {
    proxy: Outrigger,
    servers: [Server; 3],
    client: Client,
    keys: [Vec<String>; 3],
}

impl Scene {
    fn new(servers: [Server; 3], pools: impl Iterator<Item = Pool>) -> Self {
        let mut proxy = Outrigger::start(pools);
        for text in ["connection lost", "cannot connect", "no reply in time", "server ejected"] {
            proxy.announce(text);
        }
        let client = proxy.client();
        Self { proxy, servers, client, keys: Default::default() }
    }

    /// Finds out by asking the servers themselves.
    fn find_keys(&mut self, keys: &[String], has: impl Fn(&mut Client, &str) -> bool) {
        for (server, found) in self.servers.iter().zip(&mut self.keys) {
            let mut client = server.client();
            *found = keys.iter().filter(|key| has(&mut client, key)).cloned().collect();
            assert!(found.len() >= 6, "{found:?}");
        }
        assert_eq!(self.keys.iter().map(Vec::len).sum::<usize>(), keys.len());
    }

    /// A key of the server that is lost.
    fn lost(&self, index: usize) -> String {
        self.keys[1][index].clone()
    }

    /// A key of a server that stays.
    fn kept(&self, index: usize) -> String {
        self.keys[index % 2 * 2][index / 2].clone()
    }

    /// `L0`, `K0` and so on become keys of the lost server and of those that stay.
    fn with_keys(&self, command: &str) -> String {
        (0..6).fold(command.to_owned(), |command, index| {
            command.replace(&format!("L{index}"), &self.lost(index)).replace(&format!("K{index}"), &self.kept(index))
        })
    }

    /// Kills one server; returns when the reply to a read of its key, which `read` asks for, shows that it is ejected.
    fn lose(&mut self, read: impl Fn(&mut Client, &str) -> String, is_ejected: impl Fn(&str) -> bool) {
        self.servers[1].kill();
        let key = self.lost(0);
        eventually("the ejection", || is_ejected(&read(&mut self.client, &key)).then_some(()));
    }

    /// Kills one server; returns when the proxy has no connection to it, and has not noticed more than that.
    fn kill_unnoticed(&mut self) {
        self.servers[1].kill();
        let name = self.servers[1].name();
        eventually("the end of the connections", || {
            (self.proxy.stats()["cache"][&name]["server_connections"] == 0).then_some(())
        });
        assert!(!self.proxy.log().contains("server ejected"));
    }

    /// Whether this says that the lost server is ejected, since when, and why.
    fn says_ejected(&self, error: &str) -> bool {
        says_ejected(error, "cache", &self.servers[1])
    }
}

fn says_ejected(error: &str, pool: &str, server: &Server) -> bool {
    let text = error.trim_start_matches("-ERR ").trim_start_matches("SERVER_ERROR ");
    text.starts_with("Server is ejected since 20")
        && text.contains("Z: ")
        && text.contains("Connection ")
        && text.ends_with(&format!(" (pool {pool}, server {})", server.name()))
}
