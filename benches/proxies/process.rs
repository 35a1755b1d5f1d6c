//! Child processes that cannot outlive the bench, and what /proc says about them.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys::{self, Result, check_interrupt};

const START_PATIENCE: Duration = Duration::from_secs(10);

/// A running child; dropped, it is killed and waited for. Killed too when the bench dies without dropping.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on `cpus` (empty: anywhere), its output in `name`.log under `directory`.
    pub fn start(name: &str, mut command: Command, cpus: &[usize], directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let (cpus, parent) = (cpus.to_vec(), std::process::id());
        // SAFETY: between fork and exec only plain system calls are made; nothing allocates or locks.
        unsafe {
            command.pre_exec(move || {
                sys::die_with_parent(parent)?;
                sys::pin_current_thread(&cpus)
            })
        };
        let child = command.spawn().map_err(|error| format!("{name}: {}: {error}", command.get_program().display()))?;
        Ok(Self { name: name.into(), child, log })
    }

    /// Returns when `address` accepts; fails with the end of the log when the process ends or stays silent.
    pub fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let start = Instant::now();
        loop {
            check_interrupt()?;
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended at start: {status}\n{}", self.name, self.log_end()));
            }
            if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            if start.elapsed() > START_PATIENCE {
                let name = &self.name;
                return Err(format!(
                    "{name} does not listen on {address} after {START_PATIENCE:?}\n{}",
                    self.log_end()
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn cpu_ns(&self) -> Result<u64> {
        sys::process_cpu_ns(self.pid())
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).map_err(|error| format!("{}: {path}: {error}", self.name))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| format!("{}: no VmRSS in {path}", self.name))
    }

    /// The last lines the process wrote, for an error message.
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("  {} | {line}\n", self.name)).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // By the handle, so by the pid of our own child; both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map_err(|error| format!("no free port on 127.0.0.1: {error}"))
}

/// Looks a program up in PATH and where Debian puts daemons; a path with a slash is taken as it is.
pub fn find_program(name: &str, remedy: &str) -> Result<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let places =
        std::env::split_paths(&directories).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut candidates: Vec<PathBuf> = places.map(|directory| directory.join(name)).collect();
    if name.contains('/') {
        candidates = vec![PathBuf::from(name)];
    }
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| format!("{name} is missing: {remedy}"))
}
