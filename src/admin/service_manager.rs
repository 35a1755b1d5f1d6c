//! Tells systemd, or whoever else set `NOTIFY_SOCKET`, how the process is: the protocol of `sd_notify(3)`.
//!
//! Not with the crate `sd-notify`: it takes an abstract name for a path, and reads the environment each time.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const VARIABLE: &str = "NOTIFY_SOCKET";
/// A message that the service manager has not taken by then is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager; without one, every message goes nowhere.
#[derive(Debug)]
pub struct ServiceManager {
    address: Option<SocketAddr>,
    /// The end was told, after which nothing else is.
    stops: AtomicBool,
}

impl ServiceManager {
    /// The one that started this process. The environment stays as it is, for the process that may replace this one.
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return Self::to(None) };
        Self::at(&name).unwrap_or_else(|error| {
            tracing::warn!(%error, "{VARIABLE} is {name:?}; allowed: a path, or @ and an abstract name");
            Self::to(None)
        })
    }

    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(Self::to(Some(address)))
    }

    fn to(address: Option<SocketAddr>) -> Self {
        Self { address, stops: AtomicBool::new(false) }
    }

    /// The process serves: after its start, and after each reload, whether that went well or not.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", line_of_status(status)));
    }

    /// A reload begins; to be followed by [`ServiceManager::ready`].
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        // `Type=notify-reload` tells by the time which reload is meant.
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n"));
    }

    /// The process drains, and ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\n");
        self.stops.store(true, Relaxed);
    }

    /// Another process is the service from now on. To be told by the one that was, as it alone is believed.
    pub fn main_pid(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\n"));
    }

    fn tell(&self, message: &str) {
        let Some(address) = &self.address else { return };
        if self.stops.load(Relaxed) {
            return;
        }
        // A socket for each message, as there are few: one that lasted would have to be made again when the manager is.
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.send_to_addr(message.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::warn!(%error, message = message.trim_end(), "the service manager cannot be told");
        }
    }
}

/// One line, whatever is in the text: each line of a message is an order of its own.
fn line_of_status(text: &str) -> String {
    let mut line = String::from("STATUS=");
    line.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    line + "\n"
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::*;

    /// The next message to a service manager, by its keys and values.
    fn heard(socket: &UnixDatagram) -> Vec<(String, String)> {
        let mut message = [0; 1000];
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = socket.recv(&mut message).expect("a message");
        let text = String::from_utf8_lossy(&message[..length]);
        let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        text.lines().map(|line| pair(line).expect("a key and a value")).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn each_message_is_as_sd_notify_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.as_os_str()).unwrap();
        manager.ready("serving 2 pools");
        assert_eq!(heard(&socket), pairs(&[("READY", "1"), ("STATUS", "serving 2 pools")]));
        manager.ready("a\nMAINPID=1");
        assert_eq!(heard(&socket), pairs(&[("READY", "1"), ("STATUS", "a MAINPID=1")]));
        manager.main_pid(4711);
        assert_eq!(heard(&socket), pairs(&[("MAINPID", "4711")]));
        manager.stopping();
        assert_eq!(heard(&socket), pairs(&[("STOPPING", "1")]));
    }

    #[test]
    fn a_reload_says_when_it_began_by_the_clock_of_the_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let now = || clock_gettime(ClockId::Monotonic).tv_sec;
        let before = now();
        ServiceManager::at(path.as_os_str()).unwrap().reloading();
        let message = heard(&socket);
        assert_eq!((&message[0].0[..], &message[0].1[..], &message[1].0[..]), ("RELOADING", "1", "MONOTONIC_USEC"));
        let microseconds: i64 = message[1].1.parse().unwrap();
        assert!((before..=now()).contains(&(microseconds / 1_000_000)));
    }

    #[test]
    fn a_manager_that_went_and_came_back_is_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = ServiceManager::at(path.as_os_str()).unwrap();
        manager.ready("to nobody");
        let socket = UnixDatagram::bind(&path).unwrap();
        manager.ready("one");
        assert_eq!(heard(&socket), pairs(&[("READY", "1"), ("STATUS", "one")]));
        std::fs::remove_file(&path).unwrap();
        let socket = UnixDatagram::bind(&path).unwrap();
        manager.ready("two");
        assert_eq!(heard(&socket), pairs(&[("READY", "1"), ("STATUS", "two")]));
    }

    #[test]
    fn names_that_are_neither_paths_nor_abstract_are_refused() {
        for name in
            ["", "vsock:2:1234", "relative/path", &format!("/{}", "a".repeat(200)), &format!("@{}", "a".repeat(200))]
        {
            assert!(ServiceManager::at(OsStr::new(name)).is_err(), "{name}");
        }
    }

    /// The variable is that of a process, so this test runs itself in another one.
    #[test]
    fn the_environment_names_the_manager_to_this_process_and_the_next() {
        const INNER: &str = "OUTRIGGER_TEST_NOTIFIES";
        const NAME: &str =
            "admin::service_manager::tests::the_environment_names_the_manager_to_this_process_and_the_next";
        if env::var_os(INNER).is_some() {
            let manager = ServiceManager::from_environment();
            manager.ready("first");
            manager.ready(if ServiceManager::from_environment().address.is_some() { "kept" } else { "lost" });
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("outrigger-test-notify-{}", id());
        let run = |name: &OsStr| {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", NAME]);
            assert!(command.env(INNER, "1").env(VARIABLE, name).output().unwrap().status.success());
        };
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        let at = format!("@{abstract_name}");
        for (socket, name) in [(&by_path, path.as_os_str()), (&by_name, OsStr::new(&at))] {
            run(name);
            for status in ["first", "kept"] {
                assert_eq!(heard(socket), pairs(&[("READY", "1"), ("STATUS", status)]));
            }
        }
        run(OsStr::new(""));
        run(OsStr::new("nonsense"));
    }
}
