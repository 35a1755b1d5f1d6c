//! A proxy with one pool, `cache`, and its file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Client, Fake, Outrigger, Pool, eventually};

/// What a server that fails makes a proxy say.
const TROUBLE: [&str; 6] = [
    "cannot connect",
    "connection lost",
    "no reply in time",
    "the server is not ready",
    "server ejected",
    "server fails but is not ejected",
];

pub struct Scene {
    pub proxy: Outrigger,
}

/// Waits for a condition.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// One in-process server, which has time for large requests on a busy machine.
pub fn local() -> Pool {
    Pool::new("cache", "redis", &["local one".to_owned()]).set("timeout: 15s")
}

/// One server at this address.
pub fn at(entry: &str) -> Pool {
    Pool::new("cache", "redis", &[format!("{entry} one")])
}

/// A Redis that answers each command by name with what this says.
pub fn answering(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Fake {
    Fake::start(move |_, talk| {
        while let Some(request) = talk.request() {
            talk.say(reply(&request));
        }
    })
}

/// A Redis that accepts everything, and what it was asked.
pub fn agreeable() -> (Fake, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    let fake = answering(move |request| {
        told.lock().unwrap().push(request.to_owned());
        "+OK\r\n".to_owned()
    });
    (fake, heard)
}

/// A server that takes requests and never answers.
pub fn mute() -> Fake {
    Fake::start(|_, talk| talk.stall())
}

impl Scene {
    /// With one worker, so that what two clients do happens one after the other.
    pub fn new(globals: &str, pool: Pool) -> Self {
        Self::of(globals, [pool])
    }

    pub fn of(globals: &str, pools: impl IntoIterator<Item = Pool>) -> Self {
        let mut proxy = Outrigger::start_with(&format!("workers: 1\n{globals}"), pools);
        TROUBLE.iter().for_each(|text| proxy.announce(text));
        Self { proxy }
    }

    /// Writes the file with this in place of that.
    pub fn write(&self, from: &str, to: &str) {
        let file = self.proxy.file("outrigger.yml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
        self.proxy.put_configuration(&text.replace(from, to));
    }

    /// Writes the file, and returns when the proxy says that it goes by it.
    pub fn change(&self, from: &str, to: &str) {
        let generation = |scene: &Self| scene.config()["generation"].as_u64().unwrap();
        let before = generation(self);
        self.write(from, to);
        self.proxy.signal(Signal::HUP);
        until("a new configuration", || generation(self) > before);
    }

    pub fn config(&self) -> Value {
        self.proxy.stats()["config"].clone()
    }

    /// A field of the statistics of the pool.
    pub fn of_pool(&self, field: &str) -> u64 {
        self.proxy.stats()["cache"][field].as_u64().unwrap()
    }

    /// A field of the statistics of the server `one`.
    pub fn of_server(&self, field: &str) -> Value {
        self.proxy.stats()["cache"]["one"][field].clone()
    }

    pub fn requests(&self) -> u64 {
        self.of_server("requests").as_u64().unwrap()
    }

    pub fn state(&self) -> String {
        self.of_server("server_state").as_str().unwrap().to_owned()
    }

    pub fn becomes(&self, state: &str) {
        until(state, || self.state() == state);
    }

    /// Asks until the answer begins like that.
    #[track_caller]
    pub fn says(&self, client: &mut Client, request: &str, wanted: &str) {
        let shown: String = request.chars().take(40).collect();
        until(&format!("{wanted} in answer to {shown}"), || client.ask(request).starts_with(wanted));
    }

    /// The worker has done what came before.
    pub fn pass(&self) {
        let mut client = self.proxy.client();
        assert!(client.ask("PING").contains("PONG"));
        assert!(client.ask("PING").contains("PONG"));
    }

    /// Under the new file some of the keys of a client lie elsewhere, and under the old one again where they were.
    pub fn moves_keys(&self, keys: &[String], from: &str, to: &str) {
        let mut client = self.proxy.client();
        keys.iter().for_each(|key| assert_eq!(client.ask(&format!("SET {key} 1")), "+OK"));
        let mut found = || keys.iter().filter(|key| client.ask(&format!("GET {key}")) == "\"1\"").count();
        assert_eq!(found(), keys.len());
        self.change(from, to);
        until("keys that have moved", || found() < keys.len());
        self.change(to, from);
        until("keys that are back", || found() == keys.len());
    }
}

/// Sockets of this machine by their two ports, local and remote: whether they have a keepalive timer.
pub fn keepalive_timers() -> HashMap<(u16, u16), bool> {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        ((port(fields[1]), port(fields[2])), fields[5].starts_with("02:"))
    };
    text.lines().skip(1).map(row).collect()
}
