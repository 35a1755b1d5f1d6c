//! What the tests of upgrades share.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::client::{Address, resp};
use crate::support::fleet::Dialect;
use crate::support::proxy::PROGRAM;
use crate::support::{Outrigger, PATIENCE};

/// Clients that connect, ask and leave, one after the other. Nobody may be turned away.
pub struct Callers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Calls>>,
}

#[derive(Debug, Default)]
pub struct Calls {
    pub made: u64,
    /// From the attempt to connect to the last reply.
    pub longest: Duration,
    pub wrong: Vec<String>,
}

impl Callers {
    pub fn start(count: usize, dialect: Dialect, address: &Address) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number| {
            let (stop, address) = (stop.clone(), address.clone());
            thread::spawn(move || call_again_and_again(number, dialect, &address, &stop))
        };
        Self { threads: (0..count).map(start).collect(), stop }
    }

    pub fn stop(self) -> Calls {
        self.stop.store(true, SeqCst);
        let mut all = Calls::default();
        for calls in self.threads.into_iter().map(|thread| thread.join().unwrap()) {
            all.made += calls.made;
            all.longest = all.longest.max(calls.longest);
            all.wrong.extend(calls.wrong);
        }
        all
    }
}

fn call_again_and_again(number: usize, dialect: Dialect, address: &Address, stop: &AtomicBool) -> Calls {
    let mut calls = Calls::default();
    while !stop.load(SeqCst) {
        let begun = Instant::now();
        if let Err(error) = call(&format!("call{number}:{}", calls.made), dialect, address) {
            calls.wrong.push(format!("caller {number}, call {}: {error}", calls.made));
        }
        calls.made += 1;
        calls.longest = calls.longest.max(begun.elapsed());
        thread::park_timeout(Duration::from_millis(2));
    }
    calls
}

/// Stores a value that names the call, and asks for it.
fn call(name: &str, dialect: Dialect, address: &Address) -> std::io::Result<()> {
    let mut client = address.connect()?;
    client.patience(PATIENCE);
    let got = match dialect {
        Dialect::Redis => {
            client.send([resp(&["SET", name, name]), resp(&["GET", name])].concat());
            format!("{} {}", client.try_reply()?, client.try_reply()?)
        }
        Dialect::Memcached => {
            client.send(format!("set {name} 0 0 {}\r\n{name}\r\nget {name}\r\n", name.len()));
            format!("{} {}", client.try_memcached_reply()?, client.try_memcached_reply()?)
        }
    };
    let wanted = match dialect {
        Dialect::Redis => format!("+OK \"{name}\""),
        Dialect::Memcached => format!("STORED VALUE {name} 0 {}|{name}|END", name.len()),
    };
    if got == wanted { Ok(()) } else { Err(std::io::Error::other(format!("got {got}, wanted {wanted}"))) }
}

/// Threads and open descriptors of the proxy.
pub fn threads_and_descriptors(proxy: &Outrigger) -> (usize, usize) {
    let count = |what| std::fs::read_dir(format!("/proc/{}/{what}", proxy.pid())).unwrap().count();
    (count("task"), count("fd"))
}

pub fn memory_kib(proxy: &Outrigger) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A program of one's own, that can be replaced by another as an update does it: by a rename.
pub struct Installed {
    folder: tempfile::TempDir,
}

impl Installed {
    /// The proxy as it was built.
    pub fn new() -> Self {
        let installed = Self { folder: crate::support::folder() };
        installed.install_the_proxy();
        installed
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("outrigger")
    }

    pub fn install_the_proxy(&self) {
        self.install("cp \"$1\" new", &[PROGRAM]);
    }

    /// A shell script; `$outrigger` is the proxy.
    pub fn install_script(&self, lines: &str) {
        self.install_file(&format!("#!/bin/sh\noutrigger={PROGRAM}\n{lines}\n"), "755");
    }

    pub fn install_file(&self, text: &str, mode: &str) {
        self.install("printf %s \"$1\" > new; chmod $2 new", &[text, mode]);
    }

    /// By another process: had this one the file open for writing, whatever another test starts at that moment would have
    /// it, too, and a file that somebody writes cannot be run.
    fn install(&self, how: &str, arguments: &[&str]) {
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &format!("{how}; mv new outrigger"), "sh"]).args(arguments);
        assert!(shell.current_dir(self.folder.path()).status().unwrap().success());
    }
}

/// Changes the proxy's configuration on disk; the watch may see it at any time.
pub fn edit(proxy: &Outrigger, change: impl FnOnce(String) -> String) {
    let file = proxy.file("outrigger.yml");
    let text = change(std::fs::read_to_string(&file).unwrap());
    std::fs::write(proxy.file("new.yml"), text).unwrap();
    std::fs::rename(proxy.file("new.yml"), file).unwrap();
}
