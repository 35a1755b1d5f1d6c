//! The proxy, as users run it: a file, a process, a log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::Signal;
use tempfile::TempDir;

use super::client::{Address, Client};
use super::http::{Response, http};
use super::process::{Port, Process, eventually};
use super::servers::Server;

/// The proxy as it was built.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_outrigger");

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

fn admin_block(admin: &Address, stats: &Port) -> String {
    let listen = match admin {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => path.display().to_string(),
    };
    format!("admin:\n  listen: {listen}\n  stats: {}\n", stats.address())
}

/// How the proxy is started, where that is not as usual.
#[derive(Default)]
pub struct How {
    /// Another file than the one that was built.
    pub program: Option<PathBuf>,
    /// More arguments.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Where the admin port is; `None`: at a port of its own.
    pub admin: Option<Address>,
    /// More lines below `admin:`.
    pub admin_keys: String,
}

/// A running proxy. When it ends, its log must not hold a warning or an error that the test did not announce. After an
/// upgrade it is the process that took over; all write one log.
pub struct Outrigger {
    process: Process,
    /// Those that were replaced, the oldest first.
    replaced: Vec<Process>,
    pools: Vec<Pool>,
    folder: TempDir,
    stats: Port,
    admin: Address,
    _admin_port: Port,
    announced: Vec<String>,
}

impl Outrigger {
    pub fn start(pools: impl IntoIterator<Item = Pool>) -> Self {
        Self::start_with("workers: 2\n", pools)
    }

    /// With more global keys, whole lines.
    pub fn start_with(globals: &str, pools: impl IntoIterator<Item = Pool>) -> Self {
        Self::start_as(How::default(), globals, pools)
    }

    pub fn start_as(how: How, globals: &str, pools: impl IntoIterator<Item = Pool>) -> Self {
        let pools: Vec<Pool> = pools.into_iter().collect();
        let all: String = pools.iter().map(|pool| pool.text.as_str()).collect();
        let text = |admin: &str| format!("{globals}\n{admin}pools:\n{all}");
        let mut proxy = Self::start_text(how, text, pools.iter().map(|pool| pool.listens.clone()).collect());
        proxy.pools = pools;
        proxy
    }

    /// With a whole configuration, which is given the block `admin:`; its pools listen there.
    pub fn start_text(how: How, text: impl FnOnce(&str) -> String, listens: Vec<Address>) -> Self {
        let pools: Vec<Pool> =
            listens.into_iter().map(|listens| Pool { text: String::new(), listens, _port: None }).collect();
        let folder = super::folder();
        let (stats, admin_port) = (Port::reserve(), Port::reserve());
        let admin = how.admin.unwrap_or(Address::Tcp(admin_port.address()));
        let file = folder.path().join("outrigger.yml");
        std::fs::write(&file, text(&(admin_block(&admin, &stats) + &how.admin_keys))).unwrap();
        let mut command = Command::new(how.program.as_deref().unwrap_or(Path::new(PROGRAM)));
        command.arg("-c").arg(&file).args(how.arguments).envs(how.environment);
        let process = Process::launch(command, folder.path(), &folder.path().join("log"));
        let mut proxy = Self {
            process,
            replaced: Vec::new(),
            pools,
            folder,
            stats,
            admin,
            _admin_port: admin_port,
            announced: Vec::new(),
        };
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

    pub fn stats_address(&self) -> SocketAddr {
        self.stats.address()
    }

    /// The TCP address of the admin port.
    pub fn admin_address(&self) -> SocketAddr {
        match &self.admin {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// `admin:` as it stands in the file.
    pub fn admin_block(&self) -> String {
        admin_block(&self.admin, &self.stats)
    }

    /// Asks the admin port.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str) -> Response {
        http(&self.admin, method, path, &[], "")
    }

    /// The same with lines of header and a body.
    #[track_caller]
    pub fn http_with(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        http(&self.admin, method, path, headers, body)
    }

    /// What a path says, in JSON.
    #[track_caller]
    pub fn json(&self, path: &str) -> serde_json::Value {
        let response = self.http("GET", path);
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        response.json()
    }

    /// A file of the proxy's own folder, which is its working directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has the file of the configuration hold this, all at once: the watcher may look at any time.
    pub fn put_configuration(&self, text: &str) {
        let beside = self.file("outrigger.yml.new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, self.file("outrigger.yml")).unwrap();
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

    /// `outrigger upgrade`, whatever becomes of it: its exit code, and what it said.
    pub fn ask_for_upgrade(&self) -> (Option<i32>, String) {
        Process::inherit();
        let asked = Command::new(PROGRAM).args(["upgrade", "--pid", &self.pid().to_string()]).output().unwrap();
        let said = [asked.stdout, asked.stderr].concat();
        (asked.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// `outrigger upgrade`; from then on this is the process that took over.
    #[track_caller]
    pub fn upgrade(&mut self) -> String {
        let (code, said) = self.ask_for_upgrade();
        assert_eq!(code, Some(0), "{said}\n{}", self.log());
        self.is_succeeded();
        said
    }

    /// Another process takes over, as the log says: from then on this is that one.
    pub fn is_succeeded(&mut self) {
        let pid = eventually("another process to take over", || {
            let log = self.log();
            let mut pids = log.lines().filter_map(|line| {
                let (before, _) = line.split_once(" serves; ")?;
                before.rsplit_once("process ")?.1.parse().ok()
            });
            pids.nth(self.replaced.len())
        });
        self.replaced.push(std::mem::replace(&mut self.process, Process::of(pid)));
    }

    /// All that were replaced have handed over and ended well.
    #[track_caller]
    pub fn expect_end_of_replaced(&mut self) {
        eventually("the sessions to be handed over", || {
            (self.log().matches("the old process has handed over").count() >= self.replaced.len()).then_some(())
        });
        for number in 0..self.replaced.len() {
            let status = self.replaced[number].wait();
            assert_eq!(status.code(), Some(0), "process {number}\n{}", self.log());
        }
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
        self.replaced.iter_mut().for_each(Process::kill);
        self.process.kill();
        if std::thread::panicking() {
            eprintln!("--- the proxy's log\n{}---", self.log());
        } else {
            let surprises = self.surprises();
            assert!(surprises.is_empty(), "the log holds what nobody announced:\n{}", surprises.join("\n"));
        }
    }
}
