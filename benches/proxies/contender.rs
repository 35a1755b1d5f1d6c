//! Who takes part: nobody in between, nutcracker, and any number of builds of Outrigger; and the servers behind them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::args::Pinning;
use crate::process::{Process, find_program, free_address};
use crate::sys::{self, Result};
use crate::workload::{KEYS, Operation, Protocol, Script};

/// Named on the command line or by default.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Direct,
    Nutcracker(PathBuf),
    Outrigger(PathBuf),
}

/// Two servers of one protocol, loaded with every key.
pub struct Servers {
    pub addresses: Vec<SocketAddr>,
    pub script: Script,
    _processes: Vec<Process>,
}

/// A contender that accepts requests of one protocol.
pub struct Contender {
    pub name: String,
    /// One, or both servers for the direct one.
    pub targets: Vec<SocketAddr>,
    /// `None` for the direct one.
    pub proxy: Option<Process>,
}

impl Entry {
    /// What `path` is shows in its file name.
    pub fn at(name: &str, path: &str) -> Result<Self> {
        let remedy = if path.contains("nutcracker") {
            "install it (apt-get install nutcracker), or leave it out with --only"
        } else {
            "build it (cargo build --release), name another with --outrigger PATH, or leave it out with --only"
        };
        let path = find_program(path, remedy)?;
        let is_nutcracker = path.file_name().is_some_and(|file| file.to_string_lossy().contains("nutcracker"));
        let kind = if is_nutcracker { Kind::Nutcracker(path) } else { Kind::Outrigger(path) };
        Ok(Self { name: name.into(), kind })
    }

    pub fn start(
        &self,
        protocol: Protocol,
        servers: &Servers,
        pinning: &Pinning,
        directory: &Path,
    ) -> Result<Contender> {
        let name = format!("{}-{}", self.name, protocol.name());
        let (path, has_workers) = match &self.kind {
            Kind::Direct => {
                return Ok(Contender { name: self.name.clone(), targets: servers.addresses.clone(), proxy: None });
            }
            Kind::Nutcracker(path) => (path, false),
            Kind::Outrigger(path) => (path, true),
        };
        let (listen, stats) = (free_address()?, free_address()?);
        let pool = pool_settings(protocol, listen, &servers.addresses);
        let config = if has_workers { with_one_worker(&pool) } else { pool };
        let file = directory.join(format!("{name}.yml"));
        std::fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command = Command::new(path);
        command.arg("-c").arg(&file).args(["-s", &stats.port().to_string(), "-a", "127.0.0.1"]);
        if !has_workers {
            // Its defaults are in /var/log and /run, which belong to the service.
            command.arg("-o").arg(directory.join(format!("{name}.log")));
            command.arg("-p").arg(directory.join(format!("{name}.pid")));
        }
        let mut proxy = Process::start(&name, command, &pinning.proxy, directory)?;
        proxy.wait_for(listen)?;
        Ok(Contender { name: self.name.clone(), targets: vec![listen], proxy: Some(proxy) })
    }
}

/// The same for every proxy but for the port. Named servers: the ring does not depend on today's ports.
fn pool_settings(protocol: Protocol, listen: SocketAddr, servers: &[SocketAddr]) -> String {
    let mut text = format!(
        "bench:\n  listen: {listen}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: {}\n  timeout: 1000\n  preconnect: true\n  servers:\n",
        protocol == Protocol::Redis
    );
    for (index, server) in servers.iter().enumerate() {
        text.push_str(&format!("    - {server}:1 server{index}\n"));
    }
    text
}

/// nutcracker has one data thread; so has its opponent.
fn with_one_worker(pool: &str) -> String {
    let indented: String = pool.lines().map(|line| format!("  {line}\n")).collect();
    format!("workers: 1\npools:\n{indented}")
}

impl Servers {
    pub fn start(protocol: Protocol, pinning: &Pinning, directory: &Path) -> Result<Self> {
        let script = Script::new(protocol);
        let (mut addresses, mut processes) = (Vec::new(), Vec::new());
        for index in 0..2 {
            let address = free_address()?;
            let name = format!("{}-{index}", protocol.name());
            let command = match protocol {
                Protocol::Redis => redis_command(address, directory)?,
                Protocol::Memcached => memcached_command(address)?,
            };
            let mut process = Process::start(&name, command, &pinning.servers, directory)?;
            process.wait_for(address)?;
            preload(&script, address).map_err(|error| format!("{name}: preload: {error}\n{}", process.log_end()))?;
            addresses.push(address);
            processes.push(process);
        }
        Ok(Self { addresses, script, _processes: processes })
    }
}

fn redis_command(address: SocketAddr, directory: &Path) -> Result<Command> {
    let mut command = Command::new(find_program("redis-server", "install it: apt-get install redis-server")?);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"]);
    command.args(["--daemonize", "no"]).arg("--dir").arg(directory);
    Ok(command)
}

fn memcached_command(address: SocketAddr) -> Result<Command> {
    let mut command = Command::new(find_program("memcached", "install it: apt-get install memcached")?);
    command.args(["-l", "127.0.0.1", "-p", &address.port().to_string(), "-U", "0", "-t", "1", "-c", "1024"]);
    if sys::is_root() {
        // It refuses to run as root unasked, and a change of user would undo that it dies with us.
        command.args(["-u", "root"]);
    }
    Ok(command)
}

/// Stores every key, a thousand at a time.
fn preload(script: &Script, address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    for first in (0..KEYS).step_by(1000) {
        let operations: Vec<Operation> = (first..(first + 1000).min(KEYS)).map(Operation::set).collect();
        let requests: Vec<u8> = operations.iter().flat_map(|&set| script.request(set)).copied().collect();
        let expected: Vec<u8> = operations.iter().flat_map(|&set| script.reply(set)).copied().collect();
        stream.write_all(&requests)?;
        let mut replies = vec![0; expected.len()];
        stream.read_exact(&mut replies)?;
        if replies != expected {
            return Err(std::io::Error::other(format!("unexpected replies: {:.200}", replies.escape_ascii())));
        }
    }
    Ok(())
}
