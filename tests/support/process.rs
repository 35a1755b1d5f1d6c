//! Child processes, ports and patience.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, pidfd_send_signal, set_child_subreaper,
    waitpid,
};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

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

/// A new folder below the build's own, so that not even a test that is killed leaves anything elsewhere; removed when dropped.
pub fn folder() -> TempDir {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // There must be room for the path of a socket in it, which is 107 bytes long at the most.
    let place = if all.as_os_str().len() <= 60 { all } else { Path::new("/tmp") };
    tempfile::tempdir_in(place).unwrap()
}

/// A program's path. `None`, with a message, where it is not installed; in CI that is a failure.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = in_path(name);
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
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
    being: Being,
    name: String,
}

enum Being {
    Child(Child),
    /// Started by a child that ends before it does. The descriptor is of this process, whoever gets its id later.
    Grandchild {
        pid: Pid,
        itself: OwnedFd,
        ended: Option<ExitStatus>,
    },
}

impl Process {
    /// Starts it with its output in a file.
    pub fn start<A: AsRef<OsStr>>(program: &Path, arguments: &[A], folder: &Path, output: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::launch(command, folder, output)
    }

    /// The same, with whatever else was said about it. What it leaves if it is killed goes with its folder.
    pub fn launch(mut command: Command, folder: &Path, output: &Path) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(output).unwrap();
        command.env_remove("XDG_RUNTIME_DIR");
        if !command.get_envs().any(|(name, _)| name == "TMPDIR") {
            command.env("TMPDIR", folder);
        }
        command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let name = command.get_program().display().to_string();
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { being: Being::Child(child), name }
    }

    /// One that a child of this test has started. Its end can be seen once that child has ended, if
    /// [`Process::inherit`] was called before.
    pub fn of(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        let itself = pidfd_open(pid, PidfdFlags::empty()).unwrap_or_else(|error| panic!("process {pid:?}: {error}"));
        Self { being: Being::Grandchild { pid, itself, ended: None }, name: format!("process {pid:?}") }
    }

    /// From now on processes whose parent ends become children of this test.
    pub fn inherit() {
        set_child_subreaper(Some(getpid())).unwrap();
    }

    pub fn id(&self) -> u32 {
        match &self.being {
            Being::Child(child) => child.id(),
            Being::Grandchild { pid, .. } => pid.as_raw_nonzero().get().cast_unsigned(),
        }
    }

    pub fn signal(&self, signal: Signal) {
        self.try_signal(signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    fn try_signal(&self, signal: Signal) -> Result<(), Errno> {
        match &self.being {
            Being::Child(child) => kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal),
            Being::Grandchild { itself, .. } => pidfd_send_signal(itself, signal),
        }
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        match &mut self.being {
            Being::Child(child) => child.try_wait().unwrap(),
            Being::Grandchild { ended: Some(status), .. } => Some(*status),
            Being::Grandchild { pid, ended, .. } => {
                *ended = match waitpid(Some(*pid), WaitOptions::NOHANG) {
                    Ok(found) => found.map(|(_, status)| ExitStatus::from_raw(status.as_raw())),
                    // It still has its parent.
                    Err(_) => None,
                };
                *ended
            }
        }
    }

    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("the end of {name}"), || self.has_ended())
    }

    /// SIGKILL, and reaped.
    pub fn kill(&mut self) {
        if let Being::Child(child) = &mut self.being {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        // Unless its parent does that.
        let deadline = Instant::now() + PATIENCE;
        while self.has_ended().is_none() && self.try_signal(Signal::KILL).is_ok() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
