//! A successor that does not come to serve: the old process goes on, nobody notices, and the next upgrade may go well.

use std::net::TcpListener;
use std::time::Instant;

use rustix::process::Signal;

use crate::need;
use crate::stage::{Callers, Installed, edit};
use crate::support::client::resp;
use crate::support::fleet::Dialect;
use crate::support::{Client, How, Outrigger, Pool, Server, eventually};

/// A proxy of both protocols that runs a file which can be replaced, and clients in all states.
struct Scene {
    proxy: Outrigger,
    installed: Installed,
    callers: Vec<Callers>,
    /// Half of a request is sent.
    half: Client,
    quiet: Client,
    asked: u32,
    _servers: [Server; 2],
}

impl Scene {
    fn set() -> Option<Self> {
        let servers = [Server::redis()?, Server::memcached()?];
        let [redis, memcached] = &servers;
        let pools =
            [Pool::redis("r", std::slice::from_ref(redis)), Pool::memcached("m", std::slice::from_ref(memcached))]
                .map(|pool| pool.set("timeout: 15s"));
        let installed = Installed::new();
        let how = How { program: Some(installed.path()), ..How::default() };
        let mut proxy = Outrigger::start_as(how, "workers: 2\n", pools);
        proxy.announce("no other process takes over, this one goes on");
        let callers = [(Dialect::Redis, 0), (Dialect::Memcached, 1)];
        let callers = callers.map(|(dialect, pool)| Callers::start(1, dialect, &proxy.address_of(pool))).into();
        let (half, quiet) = (proxy.client(), proxy.client());
        let mut scene = Self { proxy, installed, callers, half, quiet, asked: 0, _servers: servers };
        scene.half.send("*2\r\n$4\r\nINCR\r\n");
        Some(scene)
    }

    /// The upgrade fails, `outrigger upgrade` and the log say why, and nothing else has happened.
    #[track_caller]
    fn is_refused(&mut self, why: &[&str]) {
        let (code, said) = self.proxy.ask_for_upgrade();
        assert_eq!(code, Some(1), "{said}");
        let log = self.proxy.log();
        for why in why {
            assert!(said.contains(why), "{said}");
            assert!(log.contains(why), "{log}");
        }
        self.goes_on();
    }

    #[track_caller]
    fn goes_on(&mut self) {
        self.half.send("$1\r\nh\r\n*2\r\n$4\r\nINCR\r\n");
        self.asked += 1;
        assert_eq!(self.half.reply(), self.asked.to_string());
        assert_eq!(self.proxy.client().ask("GET h"), format!("\"{}\"", self.asked));
        assert_eq!(self.proxy.client_of(1).tell("get none"), "END");
    }

    /// What was wrong is right again: the next upgrade works, and nobody has noticed a thing.
    #[track_caller]
    fn then_all_goes_well(mut self) {
        let before = self.proxy.pid();
        self.installed.install_the_proxy();
        self.proxy.upgrade();
        self.proxy.expect_end_of_replaced();
        assert_ne!(self.proxy.pid(), before);
        self.goes_on();
        assert_eq!(self.quiet.ask("PING"), "+PONG");
        for calls in self.callers.into_iter().map(Callers::stop) {
            assert_eq!(calls.wrong, Vec::<String>::new());
            assert!(calls.made > 0);
        }
        // A drain would wait for its other half.
        drop(self.half);
        self.proxy.terminate();
    }
}

#[test]
fn a_configuration_that_is_wrong_is_said_with_line_and_column() {
    let mut scene = need!(Scene::set());
    // The watch sees it as well.
    scene.proxy.announce("reload failed");
    scene.proxy.announce("configuration");
    let right = std::fs::read_to_string(scene.proxy.file("outrigger.yml")).unwrap();
    edit(&scene.proxy, |text| text.replace("timeout: 15s", "timeout: soon"));
    let line = right.lines().position(|line| line.contains("timeout: 15s")).unwrap() + 1;
    scene.is_refused(&["cannot serve: ", &format!("outrigger.yml:{line}:14: bad value of 'timeout': 'soon'")]);
    edit(&scene.proxy, |_| "pools: [".to_owned());
    scene.is_refused(&["cannot serve: ", "outrigger.yml:1:"]);
    edit(&scene.proxy, |_| right);
    scene.then_all_goes_well();
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let mut scene = need!(Scene::set());
    let path = scene.installed.path().display().to_string();
    scene.installed.install_file("not a program", "644");
    scene.is_refused(&[&format!("cannot start {path}: Permission denied")]);
    scene.installed.install_file("not a program", "755");
    scene.is_refused(&[&format!("cannot start {path}: Exec format error")]);
    std::fs::remove_file(scene.installed.path()).unwrap();
    scene.is_refused(&[&format!("cannot start {path}: No such file or directory")]);
    scene.then_all_goes_well();
}

#[test]
fn a_program_that_ends_at_once_is_told_from_one_that_serves() {
    let mut scene = need!(Scene::set());
    scene.installed.install_script("exit 1");
    scene.is_refused(&[" ended before it served (exit status: 1)"]);
    scene.installed.install_script("exit 0");
    scene.is_refused(&[" ended before it served\n"]);
    scene.installed.install_script("echo no >&0; exit 3");
    scene.is_refused(&["not a message of an upgrade: it is too short"]);
    scene.then_all_goes_well();
}

#[test]
fn a_port_that_is_in_use_is_named() {
    let mut scene = need!(Scene::set());
    scene.proxy.announce("reload failed");
    scene.proxy.announce("cannot listen on");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let right = std::fs::read_to_string(scene.proxy.file("outrigger.yml")).unwrap();
    let more = format!("  more: {{listen: \"{address}\", protocol: redis, servers: [\"127.0.0.1:1:1\"]}}\n");
    edit(&scene.proxy, |text| text + &more);
    let place = format!("outrigger.yml:{}:18: pool more: cannot listen on {address}: ", right.lines().count() + 1);
    scene.is_refused(&["cannot serve: ", &format!("{place}Address already in use")]);
    edit(&scene.proxy, |_| right);
    scene.then_all_goes_well();
}

#[test]
fn a_successor_that_is_killed_while_it_starts_is_missed_at_once() {
    let mut scene = need!(Scene::set());
    // Before it says a word, and when it has got the sockets: it waits for a reader of its log then.
    let text = std::fs::read_to_string(scene.proxy.file("outrigger.yml")).unwrap();
    std::fs::write(scene.proxy.file("next.yml"), text + "log: {file: fifo}\n").unwrap();
    for script in ["kill -9 $$", "mkfifo fifo; (sleep 0.5; kill -9 $$) & exec $outrigger -c next.yml"] {
        scene.installed.install_script(script);
        let begun = Instant::now();
        scene.is_refused(&[" ended before it served (signal: 9 (SIGKILL))"]);
        assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
    }
    scene.then_all_goes_well();
}

#[test]
#[ignore = "long form: make chaos"]
fn a_successor_that_hangs_is_ended_after_a_minute() {
    let mut scene = need!(Scene::set());
    scene.installed.install_script("echo $$ > hangs; exec sleep 1000");
    let begun = Instant::now();
    scene.is_refused(&[" did not serve within 60 s"]);
    let took = begun.elapsed().as_secs();
    assert!((60..70).contains(&took), "{took} s");
    let pid = std::fs::read_to_string(scene.proxy.file("hangs")).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "it is ended");
    scene.then_all_goes_well();
}

/// Nobody is left then. What clients are told must be true all the same, and nothing may hang.
#[test]
fn when_the_successor_is_killed_as_soon_as_it_serves_clients_are_closed_and_the_old_process_ends() {
    let mut scene = need!(Scene::set());
    for text in ["a session cannot move", "ended before it had handed over"] {
        scene.proxy.announce(text);
    }
    let mut clients: Vec<Client> = (0..200).map(|_| scene.proxy.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), "+PONG"));
    let (code, said) = scene.proxy.ask_for_upgrade();
    assert_eq!(code, Some(0), "{said}");
    scene.proxy.is_succeeded();
    scene.proxy.signal(Signal::KILL);
    for client in &mut clients {
        client.send(resp(&["SET", "a", "1", "GET"]));
        // Answered or closed.
        if let Ok(reply) = client.try_reply() {
            assert!(["nil", "\"1\""].contains(&&reply.to_string()[..]), "{reply}");
        }
        client.expect_closed();
    }
    eventually("both to end", || scene.proxy.address_of(0).connect().is_err().then_some(()));
}
