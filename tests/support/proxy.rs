//! The proxy, as users run it: a file, a process, a log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::Signal;
use tempfile::TempDir;

use super::client::{Address, Client};
use super::process::{Port, Process, eventually};
use super::servers::Server;

/// One pool of a configuration.
pub struct Pool {
    text: String,
    listens: Address,
    _port: Option<Port>,
}

impl Pool {
    pub fn redis(name: &str, servers: &[Server]) -> Self {
        Self::new(name, "redis", &entries(servers))
    }

    pub fn memcached(name: &str, servers: &[Server]) -> Self {
        Self::new(name, "memcached", &entries(servers))
    }

    /// On a port of its own; `servers` as they stand in the list.
    pub fn new(name: &str, protocol: &str, servers: &[String]) -> Self {
        let port = Port::reserve();
        Self { _port: None, ..Self::at(name, protocol, servers, Address::Tcp(port.address())) }.holding(port)
    }

    pub fn at(name: &str, protocol: &str, servers: &[String], listens: Address) -> Self {
        let listen = match &listens {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        };
        let servers: String = servers.iter().map(|s| format!("      - \"{s}\"\n")).collect();
        let text = format!("  {name}:\n    listen: \"{listen}\"\n    protocol: {protocol}\n    servers:\n{servers}");
        Self { text, listens, _port: None }
    }

    pub fn holding(self, port: Port) -> Self {
        Self { _port: Some(port), ..self }
    }

    /// Where clients find it, if that is not what the file says.
    pub fn reached_at(self, listens: Address) -> Self {
        Self { listens, ..self }
    }

    /// One more key of the pool.
    pub fn set(mut self, line: &str) -> Self {
        self.text += &format!("    {line}\n");
        self
    }
}

fn entries(servers: &[Server]) -> Vec<String> {
    servers.iter().map(Server::entry).collect()
}

/// A running proxy. When it ends, its log must not hold a warning or an error that the test did not announce.
pub struct Outrigger {
    process: Process,
    pools: Vec<Pool>,
    folder: TempDir,
    stats: Port,
    announced: Vec<String>,
}

impl Outrigger {
    pub fn start(pools: impl IntoIterator<Item = Pool>) -> Self {
        Self::start_with("workers: 2\n", pools)
    }

    /// With more global keys, whole lines.
    pub fn start_with(globals: &str, pools: impl IntoIterator<Item = Pool>) -> Self {
        let pools: Vec<Pool> = pools.into_iter().collect();
        let folder = tempfile::tempdir().unwrap();
        let stats = Port::reserve();
        let mut text = format!("{globals}\nadmin:\n  stats: {}\npools:\n", stats.address());
        pools.iter().for_each(|pool| text += &pool.text);
        let file = folder.path().join("outrigger.yml");
        std::fs::write(&file, text).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_outrigger"));
        let arguments = [Path::new("-c"), &file];
        let process = Process::start(program, &arguments, folder.path(), &folder.path().join("log"));
        let mut proxy = Self { process, pools, folder, stats, announced: Vec::new() };
        for index in 0..proxy.pools.len() {
            let address = proxy.pools[index].listens.clone();
            eventually(&format!("the proxy at {address:?}"), || {
                let ended = proxy.process.has_ended();
                assert!(ended.is_none(), "the proxy ended: {ended:?}\n{}", proxy.log());
                address.connect().ok()
            });
        }
        // From here on it handles signals.
        eventually("the proxy to say that it serves", || proxy.log().contains("statistics on").then_some(()));
        proxy
    }

    /// A client of the first pool.
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    /// A client that was let in: this request got this line. A place may be given back a little later than it was left.
    pub fn admitted(&self, request: &str, line: &str) -> Client {
        eventually("a place for a client", || {
            let mut client = self.client();
            client.send(request);
            client.try_line().is_ok_and(|got| got.starts_with(line.as_bytes())).then_some(client)
        })
    }

    pub fn client_of(&self, pool: usize) -> Client {
        self.address_of(pool).connect().unwrap()
    }

    pub fn address_of(&self, pool: usize) -> Address {
        self.pools[pool].listens.clone()
    }

    /// The TCP address of a pool.
    pub fn socket_address(&self, pool: usize) -> SocketAddr {
        match self.address_of(pool) {
            Address::Tcp(address) => address,
            Address::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// Says that the log may hold warnings with this text.
    pub fn announce(&mut self, text: &str) {
        self.announced.push(text.to_owned());
    }

    /// A file of the proxy's own folder, which is its working directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    pub fn stats_text(&self) -> String {
        let text = Address::Tcp(self.stats.address()).connect().unwrap().rest();
        assert!(text.ends_with("}\n"), "{text}");
        text
    }

    pub fn stats(&self) -> serde_json::Value {
        serde_json::from_str(&self.stats_text()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// SIGTERM, and the end with exit code 0.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    fn surprises(&self) -> Vec<String> {
        let log = self.log();
        let bad = log.lines().filter(|l| l.contains(" WARN ") || l.contains("ERROR ") || l.contains("panicked"));
        bad.filter(|l| !self.announced.iter().any(|a| l.contains(a))).map(str::to_owned).collect()
    }
}

impl Drop for Outrigger {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            eprintln!("--- the proxy's log\n{}---", self.log());
        } else {
            let surprises = self.surprises();
            assert!(surprises.is_empty(), "the log holds what nobody announced:\n{}", surprises.join("\n"));
        }
    }
}
