//! Commands that concern all servers of a pool: over three real servers they answer as one Redis would, or say which server
//! is missing; over one they pass as they are.

mod support;

#[path = "fan_out/admin.rs"]
mod admin;
#[path = "fan_out/info.rs"]
mod info;
#[path = "fan_out/merges.rs"]
mod merges;
#[path = "fan_out/one_server.rs"]
mod one_server;
#[path = "fan_out/order.rs"]
mod order;
#[path = "fan_out/scan.rs"]
mod scan;

use support::client::Reply;
use support::{Client, Outrigger, Pool, Server};

/// A proxy with the pool `cache` over three servers.
struct Fleet {
    proxy: Outrigger,
    servers: [Server; 3],
}

impl Fleet {
    fn start(lines: &[&str]) -> Option<Self> {
        Self::of(Server::three(Server::redis)?, lines)
    }

    /// Servers that let themselves be debugged, and remember every command as a slow one.
    fn open(lines: &[&str]) -> Option<Self> {
        let options = ["--enable-debug-command", "yes", "--latency-monitor-threshold", "1"];
        Self::of(Server::three(|| Server::redis_with(&options))?, lines)
    }

    fn of(servers: [Server; 3], lines: &[&str]) -> Option<Self> {
        let pool = lines.iter().fold(Pool::redis("cache", &servers).set("hash: murmur"), |pool, line| pool.set(line));
        Some(Self { proxy: Outrigger::start([pool]), servers })
    }

    /// One key of each server, in the order of the servers; they hold themselves.
    fn keys(&self) -> [String; 3] {
        let mut client = self.proxy.client();
        let keys: Vec<String> = (0..60).map(|n| format!("key:{n}")).collect();
        keys.iter().for_each(|key| assert_eq!(client.ask(&format!("SET {key} {key}")), "+OK"));
        let keys = self.servers.each_ref().map(|server| {
            let mut direct = server.client();
            let own = |key: &&String| direct.ask(&format!("EXISTS {key}")) == "1";
            keys.iter().find(own).expect("a server without a key").clone()
        });
        self.flush();
        keys.iter().for_each(|key| assert_eq!(client.ask(&format!("SET {key} {key}")), "+OK"));
        keys
    }

    fn flush(&self) {
        self.servers.iter().for_each(|server| assert_eq!(server.client().ask("FLUSHALL"), "+OK"));
    }

    /// The second server dies; what its clients are told.
    fn lose_the_second(&mut self) -> String {
        self.servers[1].kill();
        for text in ["connection lost", "cannot connect", "server ejected"] {
            self.proxy.announce(text);
        }
        format!("(pool cache, server {})", self.servers[1].name())
    }
}

/// The elements of an array, in the order of their texts.
#[track_caller]
fn sorted(client: &mut Client, command: &str) -> Vec<String> {
    client.send(support::client::resp(&command.split(' ').collect::<Vec<_>>()));
    let Reply::Array(elements) = client.try_reply().unwrap() else { panic!("{command}: no array") };
    let mut elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
    elements.sort();
    elements
}
