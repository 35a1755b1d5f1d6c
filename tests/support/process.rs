//! Child processes, ports and patience.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

/// Nothing here takes longer, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until something is there.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A program's path. `None`, with a message, where it is not installed; in CI that is a failure.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Ends in a test that did not run; in CI that is a failure.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}, and CI must not skip tests");
    say_skipped(why);
}

/// Says that a test did not run, past the test harness, which shows nothing of tests that pass.
pub fn say_skipped(why: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// A TCP port on loopback that nobody else is given as long as this lives: the socket is bound but does not listen.
pub struct Port {
    _reserved: Socket,
    address: SocketAddr,
}

impl Port {
    pub fn reserve() -> Self {
        Self::on((Ipv4Addr::LOCALHOST, 0).into())
    }

    pub fn reserve_v6() -> Self {
        Self::on((Ipv6Addr::LOCALHOST, 0).into())
    }

    /// One number on two addresses of this machine.
    pub fn reserve_twice() -> [Self; 2] {
        let pair = || {
            let first = Self::reserve();
            let second = Self::try_on(([127, 0, 0, 2], first.number()).into()).ok()?;
            Some([first, second])
        };
        eventually("a port that is free on two addresses", pair)
    }

    fn on(any: SocketAddr) -> Self {
        Self::try_on(any).unwrap()
    }

    fn try_on(any: SocketAddr) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(any), Type::STREAM, None)?;
        // Lets the program listen on the same port.
        socket.set_reuse_address(true)?;
        socket.bind(&any.into())?;
        let address = socket.local_addr()?.as_socket().unwrap();
        Ok(Self { _reserved: socket, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn number(&self) -> u16 {
        self.address.port()
    }
}

/// A running program; killed, by its pid, when dropped.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts it with its output in a file.
    pub fn start<A: AsRef<OsStr>>(program: &Path, arguments: &[A], folder: &Path, output: &Path) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(output).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child, name: program.display().to_string() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("the end of {name}"), || self.has_ended())
    }

    /// SIGKILL, and reaped.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
