//! The ways to an upgrade, and when there is none.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::stage::Installed;
use crate::support::client::{Address, resp};
use crate::support::process::{Port, Process};
use crate::support::proxy::PROGRAM;
use crate::support::{Fake, How, Outrigger, Pool, eventually};

/// A server that answers every request with its key.
fn echo() -> Fake {
    Fake::start(|_, talk| talk.echo())
}

fn over(fake: &Fake) -> Pool {
    Pool::new("r", "redis", &[fake.entry()]).set("timeout: 15s")
}

#[test]
fn sigusr2_upgrades() {
    let server = echo();
    let mut proxy = Outrigger::start([over(&server)]);
    let mut client = proxy.client();
    for _ in 0..2 {
        Process::inherit();
        let id = client.ask("CLIENT ID");
        proxy.signal(Signal::USR2);
        proxy.is_succeeded();
        proxy.expect_end_of_replaced();
        assert_eq!(client.ask("GET a"), "\"a\"");
        assert_eq!(client.ask("CLIENT ID"), id);
    }
    proxy.terminate();
}

#[test]
fn a_process_that_is_started_by_hand_takes_over() {
    let server = echo();
    let mut proxy = Outrigger::start([over(&server)]);
    let mut client = proxy.client();
    assert_eq!(client.ask("GET a"), "\"a\"");
    let id = client.ask("CLIENT ID");
    let log = std::fs::OpenOptions::new().append(true).open(proxy.file("log")).unwrap();
    let mut by_hand = Command::new(PROGRAM);
    by_hand.arg("-c").arg(proxy.file("outrigger.yml")).args(["-u", &proxy.pid().to_string()]);
    by_hand.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
    let pid = by_hand.spawn().unwrap().id();
    proxy.is_succeeded();
    assert_eq!(proxy.pid(), pid);
    proxy.expect_end_of_replaced();
    assert_eq!(client.ask("CLIENT ID"), id);
    // Its own successor is started by the same arguments, and takes over from it, not from the one that is gone.
    proxy.upgrade();
    proxy.expect_end_of_replaced();
    assert_eq!(client.ask("CLIENT ID"), id);
    proxy.terminate();
}

#[test]
fn sigquit_without_a_successor_is_ignored() {
    let server = echo();
    let mut proxy = Outrigger::start([over(&server)]);
    proxy.announce("SIGQUIT ignored: no other process has taken over");
    let mut client = proxy.client();
    proxy.signal(Signal::QUIT);
    eventually("the warning", || proxy.log().contains("SIGQUIT ignored").then_some(()));
    assert_eq!(client.ask("GET a"), "\"a\"");
    assert_eq!(proxy.client().ask("GET b"), "\"b\"");
    proxy.upgrade();
    proxy.signal(Signal::QUIT);
    proxy.expect_end_of_replaced();
    assert_eq!(client.ask("GET a"), "\"a\"");
}

#[test]
fn a_process_that_drains_is_not_replaced() {
    let server = Fake::start(|_, talk| talk.stall());
    for delay in ["", "pre_stop_delay: 15s\n"] {
        let mut proxy = Outrigger::start_with(&format!("workers: 1\ndrain_timeout: 15s\n{delay}"), [over(&server)]);
        proxy.announce("SIGUSR2 ignored: this process is ending");
        let mut client = proxy.client();
        client.send(resp(&["GET", "a"]));
        eventually("the request to be in flight", || {
            (proxy.stats()["r"][server.name()]["out_queue"].as_u64()? > 0).then_some(())
        });
        proxy.signal(Signal::TERM);
        eventually("the drain", || proxy.log().contains("draining").then_some(()));
        proxy.signal(Signal::USR2);
        let (code, said) = proxy.ask_for_upgrade();
        assert_eq!((code, &said[..]), (Some(1), "outrigger: this process is ending\n"));
        assert!(!proxy.log().contains("starting the process"), "{}", proxy.log());
    }
}

#[test]
fn a_process_that_is_told_to_end_while_its_successor_starts_ends_with_it() {
    let server = echo();
    let installed = Installed::new();
    let how = How { program: Some(installed.path()), ..How::default() };
    let mut proxy = Outrigger::start_as(how, "workers: 1\n", [over(&server)]);
    installed.install_script("echo $$ > started; while [ ! -e go ]; do sleep 0.01; done; exec $outrigger \"$@\"");
    let (code, said) = thread::scope(|scope| {
        let asked = scope.spawn(|| proxy.ask_for_upgrade());
        eventually("the successor", || {
            std::fs::read(proxy.file("started")).is_ok_and(|pid| !pid.is_empty()).then_some(())
        });
        proxy.signal(Signal::TERM);
        asked.join().unwrap()
    });
    assert_eq!(code, Some(1), "{said}");
    let told = Instant::now();
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    std::fs::write(proxy.file("go"), "").unwrap();
    let pid = std::fs::read_to_string(proxy.file("started")).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "nobody serves in its place");
    assert!(proxy.address_of(0).connect().is_err());
}

#[test]
fn of_two_upgrades_at_once_one_is_refused() {
    let server = echo();
    let installed = Installed::new();
    let how = How { program: Some(installed.path()), ..How::default() };
    let mut proxy = Outrigger::start_as(how, "workers: 1\n", [over(&server)]);
    let mut client = proxy.client();
    // It takes its time.
    installed.install_script("touch started; while [ ! -e go ]; do sleep 0.01; done; exec $outrigger \"$@\"");
    thread::scope(|scope| {
        let first = scope.spawn(|| proxy.ask_for_upgrade());
        eventually("the first successor", || proxy.file("started").exists().then_some(()));
        for _ in 0..2 {
            let (code, said) = proxy.ask_for_upgrade();
            assert_eq!((code, &said[..]), (Some(1), "outrigger: this process is being replaced already\n"));
        }
        let by_hand = Command::new(PROGRAM)
            .arg("-c")
            .arg(proxy.file("outrigger.yml"))
            .args(["-u", &proxy.pid().to_string()])
            .output()
            .unwrap();
        assert_eq!(by_hand.status.code(), Some(1));
        let said = String::from_utf8_lossy(&by_hand.stderr);
        assert!(said.contains("cannot take over: this process is being replaced already"), "{said}");
        assert_eq!(proxy.client().ask("GET a"), "\"a\"");
        std::fs::write(proxy.file("go"), "").unwrap();
        let (code, said) = first.join().unwrap();
        assert_eq!(code, Some(0), "{said}");
    });
    proxy.is_succeeded();
    proxy.expect_end_of_replaced();
    assert_eq!(client.ask("GET a"), "\"a\"");
}

#[test]
fn while_sessions_are_arriving_there_is_no_next_upgrade() {
    const WHY: &str = "the sessions of the process before are still arriving";
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = Fake::start(move |number, talk| {
        if number == 0 {
            let _ = wait.lock().unwrap().recv();
        }
        talk.echo();
    });
    let mut proxy = Outrigger::start_with("workers: 1\n", [over(&server)]);
    proxy.announce(WHY);
    let mut client = proxy.client();
    client.send(resp(&["GET", "a"]));
    eventually("the request to be in flight", || {
        (proxy.stats()["r"][server.name()]["out_queue"].as_u64()? > 0).then_some(())
    });
    proxy.upgrade();
    let (code, said) = proxy.ask_for_upgrade();
    assert_eq!((code, said), (Some(1), format!("outrigger: {WHY}\n")));
    assert_eq!(proxy.client().ask("GET b"), "\"b\"");
    go.send(()).unwrap();
    assert_eq!(client.reply(), "\"a\"");
    proxy.expect_end_of_replaced();
    proxy.upgrade();
    proxy.expect_end_of_replaced();
    assert_eq!(client.ask("GET c"), "\"c\"");
}

/// A proxy in the background, known by its pid file.
struct Background {
    folder: tempfile::TempDir,
    generations: Vec<Process>,
}

impl Background {
    fn start(text: &str) -> Self {
        Process::inherit();
        let folder = crate::support::folder();
        std::fs::write(folder.path().join("outrigger.yml"), text).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["-c", "outrigger.yml", "-d", "-p", "pid", "-o", "log"]).current_dir(folder.path());
        let started = command.stdin(Stdio::null()).output().unwrap();
        assert!(started.status.success(), "{started:?}");
        let mut background = Self { folder, generations: Vec::new() };
        background.generations.push(Process::of(background.pid()));
        background
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pid(&self) -> u32 {
        eventually("the pid file", || std::fs::read_to_string(self.file("pid")).ok()?.trim().parse().ok())
    }

    fn upgrade(&mut self) {
        let before = self.pid();
        let asked = Command::new(PROGRAM).args(["upgrade", "-p"]).arg(self.file("pid")).output().unwrap();
        assert!(asked.status.success(), "{asked:?}");
        assert_ne!(self.pid(), before);
        self.generations.push(Process::of(self.pid()));
        let old = self.generations.len() - 2;
        assert_eq!(self.generations[old].wait().code(), Some(0));
    }
}

/// The session that a process belongs to: the sixth field of its `stat`. Zero when its leader is outside the
/// container, which `getsid` of rustix cannot say.
fn session(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn a_process_in_the_background_is_replaced_by_another_in_the_background() {
    let (server, port) = (echo(), Port::reserve());
    let pool = format!("{{listen: \"{}\", protocol: redis, servers: [\"{}\"]}}", port.address(), server.entry());
    let mut proxy =
        Background::start(&format!("workers: 1\nadmin: {{listen: off, stats: off}}\npools: {{r: {pool}}}\n"));
    let mut client = eventually("the proxy", || Address::Tcp(port.address()).connect().ok());
    assert_eq!(client.ask("GET a"), "\"a\"");
    for _ in 0..3 {
        proxy.upgrade();
        assert_eq!(client.ask("GET a"), "\"a\"");
        assert_ne!(session(proxy.pid()), session(std::process::id()), "it has no terminal");
    }
    let mut last = proxy.generations.pop().unwrap();
    last.signal(Signal::TERM);
    assert_eq!(last.wait().code(), Some(0), "{}", std::fs::read_to_string(proxy.file("log")).unwrap());
    assert!(!proxy.file("pid").exists());
    let log = std::fs::read_to_string(proxy.file("log")).unwrap();
    assert!(!log.contains(" WARN ") && !log.contains("ERROR"), "{log}");
}

#[test]
fn the_service_manager_is_told_who_the_service_is() {
    let server = echo();
    let folder = crate::support::folder();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let heard = || {
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let environment = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
    let mut proxy = Outrigger::start_as(How { environment, ..How::default() }, "workers: 1\n", [over(&server)]);
    assert!(heard().starts_with("READY=1\n"));
    for _ in 0..2 {
        proxy.upgrade();
        proxy.expect_end_of_replaced();
        // The new one says it, whom the manager does not know yet; the old one says who it is.
        let mut both = [heard(), heard()];
        both.sort();
        assert_eq!(both[0], format!("MAINPID={}\n", proxy.pid()));
        assert!(both[1].starts_with("READY=1\n"), "{both:?}");
    }
    proxy.terminate();
    assert_eq!(heard(), "STOPPING=1\n");
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 10]).is_err(), "nothing else");
}
