//! The port at the start, at a reload, at an upgrade.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::support::client::Address;
use crate::support::http::http;
use crate::support::proxy::PROGRAM;
use crate::support::{How, Outrigger, Pool, Port, Response, eventually};

fn pool() -> Pool {
    Pool::new("cache", "redis", &["local one".to_owned()])
}

/// Writes the file with this in place of that, and has it read.
fn reload(proxy: &Outrigger, from: &str, to: &str) -> Response {
    let file = proxy.file("outrigger.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    proxy.http("POST", "/reload")
}

#[test]
fn a_reload_moves_the_port_and_answers_who_asked_for_it() {
    let proxy = Outrigger::start([pool()]);
    let (old, new) = (proxy.admin_address(), Port::reserve());
    let answer = reload(&proxy, &format!("listen: {old}"), &format!("listen: {}", new.address()));
    assert_eq!(answer.status, 200, "although the port is closed by then: {}", answer.body);
    let at = Address::Tcp(new.address());
    assert_eq!(http(&at, "GET", "/healthz", &[], "").status, 200);
    eventually("the old one to close", || std::net::TcpStream::connect(old).is_err().then_some(()));
    let topology = http(&at, "GET", "/topology", &[], "").json();
    assert_eq!(topology["config"]["generation"], 2);
}

#[test]
fn a_reload_moves_it_between_all_addresses_and_one_on_the_same_port() {
    let mut proxy = Outrigger::start([pool()]);
    proxy.announce("can be reached from other machines and has no token");
    let own = proxy.admin_address();
    let everywhere = format!("listen: 0.0.0.0:{}", own.port());
    assert_eq!(reload(&proxy, &format!("listen: {own}"), &everywhere).status, 200);
    let elsewhere = Address::Tcp(([127, 0, 0, 2], own.port()).into());
    assert_eq!(http(&elsewhere, "GET", "/healthz", &[], "").status, 200);
    assert_eq!(reload(&proxy, &everywhere, &format!("listen: {own}")).status, 200);
    eventually("one address only", || elsewhere.connect().is_err().then_some(()));
    assert_eq!(proxy.http("GET", "/healthz").status, 200);
}

#[test]
fn a_port_that_cannot_be_had_leaves_everything_as_it_was() {
    let mut proxy = Outrigger::start([pool()]);
    proxy.announce("the configuration was not changed");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (own, taken) = (proxy.admin_address(), taken.local_addr().unwrap());
    let _held = TcpListener::bind(taken);
    let answer = reload(&proxy, &format!("listen: {own}"), &format!("listen: {taken}"));
    assert_eq!(answer.status, 422);
    let error = format!("admin: cannot listen on {taken}: Address already in use (os error 98)\n");
    let text = std::fs::read_to_string(proxy.file("outrigger.yml")).unwrap();
    let line = text.lines().position(|line| line.ends_with(&format!(" {taken}"))).unwrap() + 1;
    let said = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("outrigger.yml:{line}:11: {error}")), "{said}");
    assert_eq!(proxy.json("/topology")["config"]["generation"], 1);
}

#[test]
fn an_address_that_was_asked_for_and_is_taken_is_an_error_and_the_default_one_is_not() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = crate::support::folder();
    let (file, port) = (folder.path().join("outrigger.yml"), Port::reserve());
    let pools = format!("pools:\n  a: {{listen: '{}', protocol: redis, servers: [local:1 one]}}\n", port.address());
    std::fs::write(&file, format!("admin:\n  listen: {address}\n  stats: off\n{pools}")).unwrap();
    let output = std::process::Command::new(PROGRAM).arg("-c").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("admin: cannot listen on {address}: Address already in use")), "{said}");

    // Whoever has the default address, or nobody: in both cases the next proxy starts without a word about it in its file.
    let _holder = TcpListener::bind("127.0.0.1:22223");
    let how = How::default();
    let text = |admin: &str| {
        let stats = admin.lines().find(|line| line.contains("stats:")).unwrap();
        format!("admin:\n{stats}\n{pools}")
    };
    let mut proxy = Outrigger::start_text(how, text, vec![Address::Tcp(port.address())]);
    proxy.announce("no admin port");
    let said = "no admin port: `admin.listen` names another address for it, or `off`";
    assert!(proxy.log().contains(said), "{}", proxy.log());
    assert!(proxy.log().contains("admin: cannot listen on 127.0.0.1:22223: Address already in use"));
}

/// Asks until this goes; how often, and what went wrong.
struct Askers {
    stop: Arc<AtomicBool>,
    running: Vec<thread::JoinHandle<usize>>,
}

impl Askers {
    fn start(address: &Address) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |()| {
            let (address, stop) = (address.clone(), stop.clone());
            thread::spawn(move || {
                let mut answered = 0;
                while !stop.load(Relaxed) {
                    // It panics if it is refused, or gets no answer.
                    assert_eq!(http(&address, "GET", "/healthz", &[], "").status, 200);
                    answered += 1;
                }
                answered
            })
        };
        Self { running: [(); 3].map(start).into(), stop }
    }

    fn answered(mut self) -> usize {
        self.stop.store(true, Relaxed);
        self.running.drain(..).map(|asker| asker.join().unwrap()).sum()
    }
}

impl Drop for Askers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

#[test]
fn nobody_is_refused_at_an_upgrade() {
    let folder = crate::support::folder();
    let path = folder.path().join("admin.sock");
    for admin in [None, Some(Address::Unix(path.clone()))] {
        let how = How { admin: admin.clone(), ..How::default() };
        let mut proxy = Outrigger::start_as(how, "workers: 1\n", [pool()]);
        let address = admin.unwrap_or_else(|| Address::Tcp(proxy.admin_address()));
        let askers = Askers::start(&address);
        for _ in 0..3 {
            let before = proxy.json("/topology")["pid"].as_u64().unwrap();
            proxy.upgrade();
            eventually("the next process", || (proxy.json("/topology")["pid"] != before).then_some(()));
            // One that ended before its parent would be reaped by that.
            proxy.expect_end_of_replaced();
        }
        let answered = askers.answered();
        assert!(answered > 20, "{answered}");
        proxy.terminate();
    }
    assert!(!path.exists(), "the last one takes it away");
}

#[test]
fn what_an_operator_has_ejected_stays_so_over_an_upgrade_for_as_long_as_said() {
    let servers = ["local one".to_owned(), "local two".to_owned()];
    let pool = Pool::new("cache", "redis", &servers)
        .set("auto_eject_hosts: true")
        .set("on_readmit: keep")
        .set("server_retry_timeout: 10ms")
        .set("probe_interval: 10ms");
    let mut proxy = Outrigger::start([pool]);
    proxy.announce("server ejected");
    for server in ["one", "two"] {
        proxy.http("POST", &format!("/pools/cache/servers/{server}/eject?for=1h"));
    }
    let servers = |proxy: &Outrigger| proxy.json("/topology")["pools"][0]["servers"].clone();
    let before = servers(&proxy);
    proxy.upgrade();
    proxy.expect_end_of_replaced();
    for (before, after) in before.as_array().unwrap().iter().zip(servers(&proxy).as_array().unwrap()) {
        assert_eq!(
            (&after["state"], &after["reason"]),
            (&"ejected".into(), &"by hand".into()),
            "both, whatever the guard says"
        );
        let until = |server: &serde_json::Value| {
            chrono::DateTime::parse_from_rfc3339(server["until"].as_str().unwrap()).unwrap()
        };
        assert!((until(after) - until(before)).num_seconds().abs() < 30, "{before} {after}");
    }
}

#[test]
fn an_upgrade_with_another_address_opens_that_and_closes_the_old_one() {
    let mut proxy = Outrigger::start([pool()]);
    let (old, new) = (proxy.admin_address(), Port::reserve());
    let folder = crate::support::folder();
    let path = folder.path().join("admin.sock");
    let file = proxy.file("outrigger.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    drop(new);
    std::fs::write(&file, text.replace(&format!("listen: {old}"), &format!("listen: \"{} 0600\"", path.display())))
        .unwrap();
    proxy.upgrade();
    let at = Address::Unix(path.clone());
    eventually("the new address", || at.connect().ok());
    assert_eq!(http(&at, "GET", "/healthz", &[], "").status, 200);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    eventually("the old one to close", || std::net::TcpStream::connect(old).is_err().then_some(()));
}
