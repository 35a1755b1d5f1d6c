//! A proxy over some real Redis servers, and what tests of connections that a client has to itself need of both.

use std::sync::OnceLock;

use rustix::process::Signal;

use super::client::resp;
use super::{Client, Outrigger, Pool, Server, eventually};

/// What a server that is away makes the proxy say.
pub const AWAY: [&str; 7] = [
    "cannot connect",
    "connection lost",
    "no reply in time",
    "server ejected",
    "server returns",
    "server is back",
    "server fails but is not ejected",
];

pub struct Ensemble {
    pub proxy: Outrigger,
    pub servers: Vec<Server>,
    keys: OnceLock<Vec<Vec<String>>>,
}

impl Ensemble {
    /// One pool over so many servers, with these lines.
    pub fn start(servers: usize, lines: &[&str]) -> Option<Self> {
        Self::start_with("workers: 2\n", servers, &[], lines)
    }

    /// With other globals, and more arguments for the servers.
    pub fn start_with(globals: &str, servers: usize, arguments: &[&str], lines: &[&str]) -> Option<Self> {
        let servers = (0..servers).map(|_| Server::redis_with(arguments)).collect::<Option<Vec<_>>>()?;
        let pool = lines.iter().fold(Pool::redis("cache", &servers).set("hash: murmur"), |pool, line| pool.set(line));
        Some(Self { proxy: Outrigger::start_with(globals, [pool]), servers, keys: OnceLock::new() })
    }

    /// A client of RESP2 or RESP3.
    pub fn client(&self, version: u8) -> Client {
        let mut client = self.proxy.client();
        greet(&mut client, version);
        client
    }

    /// Keys of the server at this place, as the ring is at the first call. Nothing of them is left in any server.
    pub fn keys(&self, server: usize) -> &[String] {
        let all = self.keys.get_or_init(|| {
            let mut client = self.proxy.client();
            let mut direct: Vec<Client> = self.servers.iter().map(Server::client).collect();
            let mut all = vec![Vec::new(); direct.len()];
            for key in (0..60).map(|n| format!("k{n}")) {
                assert_eq!(client.ask(&format!("SET {key} 1")), "+OK");
                let place = direct.iter_mut().position(|server| server.ask(&format!("DEL {key}")) == "1").unwrap();
                all[place].push(key);
            }
            all
        });
        &all[server]
    }

    /// A key of the server at this place.
    pub fn key(&self, server: usize) -> &str {
        &self.keys(server)[0]
    }

    /// The sum of a metric of the servers, of the lines with this label.
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.proxy.http("GET", "/metrics").body;
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Dedicated connections that somebody uses.
    pub fn in_use(&self) -> u64 {
        self.metric("outrigger_server_dedicated_connections{", "state=\"in_use\"")
    }

    /// Nobody has a connection to itself any more.
    #[track_caller]
    pub fn expect_all_given_back(&self) {
        eventually("dedicated connections to be given back", || (self.in_use() == 0).then_some(()));
    }

    /// Trouble with servers may be told of.
    pub fn announce_trouble(&mut self) {
        AWAY.iter().for_each(|text| self.proxy.announce(text));
    }

    /// Has the file read with this in place of that, and returns when the proxy goes by it.
    pub fn reload(&self, from: &str, to: &str) {
        let generation = || self.proxy.stats()["config"]["generation"].as_u64().unwrap();
        let (before, file) = (generation(), self.proxy.file("outrigger.yml"));
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
        self.proxy.put_configuration(&text.replace(from, to));
        self.proxy.signal(Signal::HUP);
        eventually("a new configuration", || (generation() > before).then_some(()));
    }

    /// The line of a server in the file.
    pub fn line(&self, server: usize) -> String {
        format!("      - \"{}\"\n", self.servers[server].entry())
    }

    /// Waits until this many connections of the server at this place have this in their line of CLIENT LIST.
    #[track_caller]
    pub fn until_listed(&self, server: usize, text: &str, count: usize) {
        let mut direct = self.servers[server].client();
        eventually(&format!("{count} connections with {text}"), || {
            (direct.ask("CLIENT LIST").matches(text).count() == count).then_some(())
        });
    }
}

pub fn greet(client: &mut Client, version: u8) {
    if version == 3 {
        client.ask("HELLO 3");
    }
}

/// A pipeline of these requests, their arguments separated by spaces.
pub fn pipeline<L: AsRef<str>>(lines: impl IntoIterator<Item = L>) -> Vec<u8> {
    lines.into_iter().flat_map(|line| resp(&line.as_ref().split(' ').collect::<Vec<_>>())).collect()
}

/// Has some clients say this through the proxy, and as many to a plain Redis, and compares every reply byte for byte, in
/// either version. A line is the number of its client and a request.
#[track_caller]
pub fn compare(ensemble: &Ensemble, script: &str) {
    let Some(plain) = Server::redis() else { return };
    let lines: Vec<(usize, &str)> = script
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(number, request)| (number.parse().unwrap(), request))
        .collect();
    let clients = lines.iter().map(|(number, _)| number + 1).max().unwrap();
    for version in [2, 3] {
        let mut through: Vec<Client> = (0..clients).map(|_| ensemble.client(version)).collect();
        let mut direct: Vec<Client> = (0..clients).map(|_| plain.client()).collect();
        direct.iter_mut().for_each(|client| greet(client, version));
        assert_eq!(through[0].ask("FLUSHALL"), "+OK");
        assert_eq!(direct[0].ask("FLUSHALL"), "+OK");
        let mut before = Vec::new();
        for (number, request) in &lines {
            before.push(format!("{number} {request}"));
            let got = through[*number].ask_raw(request);
            let expected = direct[*number].ask_raw(request);
            assert_eq!(got, expected, "RESP{version}, after\n{}", before.join("\n"));
        }
    }
}
