//! The page at `/` of the admin port, in a real browser: it shows what is, in time, and nothing that it shows can do harm.

mod support;

#[path = "page/browser.rs"]
mod browser;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use browser::Browser;
use support::client::Address;
use support::{How, Outrigger, Port, Server, eventually};

/// What would run if a name or a key became HTML: an image that cannot be loaded.
const HOSTILE_KEY: &str = "<img src=x onerror=alert(1)>";
/// A server's name has no spaces.
const HOSTILE_NAME: &str = "<img/src=x/onerror=alert(1)>";

/// A proxy with one pool, and the page of it.
struct Scene {
    proxy: Outrigger,
    admin: Port,
    pool: Port,
    browser: Browser,
}

impl Scene {
    /// `admin`, `pool`: more lines of these parts of the configuration.
    fn start(admin: &str, servers: &[String], pool: &str) -> Option<Self> {
        let browser = Browser::start()?;
        let (admin_port, pool_port) = (Port::reserve(), Port::reserve());
        let proxy = start_proxy(&admin_port, &pool_port, admin, servers, pool);
        Some(Self { proxy, admin: admin_port, pool: pool_port, browser })
    }

    fn origin(&self) -> String {
        format!("http://{}", self.admin.address())
    }

    fn open(&self) {
        self.browser.open(&self.origin());
    }

    /// Nothing went wrong in the page, and it asked nobody but the proxy.
    #[track_caller]
    fn expect_no_complaint(&self) {
        assert_eq!(self.browser.console(), Vec::<String>::new());
        assert_eq!(self.browser.origins(), BTreeSet::from([self.origin()]));
    }
}

fn start_proxy(admin_port: &Port, pool_port: &Port, admin: &str, servers: &[String], pool: &str) -> Outrigger {
    let servers: String = servers.iter().map(|server| format!("      - \"{server}\"\n")).collect();
    let (admin_address, listen) = (Address::Tcp(admin_port.address()), pool_port.address());
    let how = How { admin: Some(admin_address), admin_keys: admin.to_owned(), ..How::default() };
    let text = |admin: &str| {
        format!(
            "workers: 2\n{admin}pools:\n  cache:\n    protocol: redis\n    listen: {listen}\n{pool}    servers:\n{servers}"
        )
    };
    Outrigger::start_text(how, text, vec![Address::Tcp(listen)])
}

fn local(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("local {name}")).collect()
}

/// A client that reads and writes, half of it the one key.
struct Load {
    ended: Arc<AtomicBool>,
    client: Option<JoinHandle<()>>,
}

impl Load {
    fn start(scene: &Scene, key: &'static str) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (mut client, end) = (scene.proxy.client(), ended.clone());
        let client = std::thread::spawn(move || {
            for number in 0.. {
                for request in [["SET", &format!("key{}", number % 100), "value"].as_slice(), &["GET", key]] {
                    client.send(support::client::resp(request));
                    client.reply();
                }
                if end.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        Self { ended, client: Some(client) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let ended = self.client.take().expect("a client").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the client failed");
    }
}

#[test]
fn it_loads_goes_on_and_shows_an_ejection_within_2_seconds() {
    let (one, mut two) = (need!(Server::redis()), need!(Server::redis()));
    let servers = [format!("{} one", one.entry()), format!("{} two", two.entry())];
    let policy = "    auto_eject_hosts: true\n    on_readmit: keep\n    server_failure_limit: 2\n    server_retry_timeout: 30s\n";
    let mut scene = need!(Scene::start("", &servers, policy));
    let load = Load::start(&scene, "favourite");
    scene.open();
    let browser = &scene.browser;
    browser.expect("#headline", "All is well");
    browser.expect("#pools h2", "cache");
    browser.expect(".servers", "two");
    // It goes on by itself.
    let mut rates = BTreeSet::new();
    eventually("four rates", || {
        let rate = browser.text(".pool .value");
        if !matches!(&rate[..], "" | "0" | "–") {
            rates.insert(rate);
        }
        (rates.len() >= 4).then_some(())
    });
    browser.expect(".keys", "favourite");

    for warning in ["server ejected", "connection lost", "cannot connect"] {
        scene.proxy.announce(warning);
    }
    two.kill();
    eventually("the ejection", || scene.proxy.log().contains("server ejected").then_some(()));
    let ejected = Instant::now();
    browser.expect("#headline", "1 of 2 servers ejected");
    assert!(ejected.elapsed() < Duration::from_secs(2), "{:?}", ejected.elapsed());
    assert_eq!(browser.text(".servers tr:nth-child(2) .state"), "ejected");
    browser.expect("#events", "cache/two ejected");
    let mut client = scene.proxy.client();
    assert!(client.ask("MONITOR").contains("not supported"));
    browser.expect(".errors", "unsupported");
    drop(load);
    scene.expect_no_complaint();
}

#[test]
fn what_others_have_named_is_shown_as_text() {
    let mut scene = need!(Scene::start("", &local(&[HOSTILE_NAME, "__proto__"]), ""));
    let load = Load::start(&scene, HOSTILE_KEY);
    scene.open();
    let browser = &scene.browser;
    browser.expect(".servers", HOSTILE_NAME);
    browser.expect(".servers", "__proto__");
    browser.expect(".ring", HOSTILE_NAME);
    browser.expect(".keys", HOSTILE_KEY);
    // The text of an error comes from the file.
    let file = scene.proxy.file("outrigger.yml");
    scene.proxy.announce("the configuration was not changed");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\"{HOSTILE_KEY}\": 1\n")).unwrap();
    browser.expect("#headline", "The last reload failed");
    browser.expect("#reload-error-text", HOSTILE_KEY);
    browser.expect("#events", HOSTILE_KEY);
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    drop(load);
    scene.expect_no_complaint();
}

#[test]
fn a_token_is_asked_for_and_kept_in_the_tab_alone() {
    let scene = need!(Scene::start("  token: open-sesame\n", &local(&["one"]), ""));
    scene.open();
    let browser = &scene.browser;
    browser.expect("#headline", "A token is needed");
    assert_eq!(browser.text("#pools"), "");
    browser.type_keys("open-barley\n");
    browser.expect("#headline", "The token was not accepted");
    browser.type_keys("open-sesame\n");
    browser.expect("#headline", "All is well");
    assert_eq!(browser.value("Object.values(sessionStorage).join()"), "open-sesame");
    assert_eq!(browser.value("localStorage.length + document.cookie.length"), 0);
    assert_eq!(browser.value("location.href"), format!("{}/", scene.origin()));
    // Loaded again, it asks nobody.
    scene.open();
    browser.expect("#headline", "All is well");
    let complaints = browser.console();
    let refusals = complaints.iter().filter(|line| line.contains("/topology") && line.contains("401")).count();
    assert_eq!((refusals, complaints.len()), (2, 2), "{complaints:?}");
}

#[test]
fn it_says_that_the_proxy_is_gone_and_goes_on_with_the_next() {
    let mut scene = need!(Scene::start("", &local(&["one"]), ""));
    scene.open();
    scene.browser.expect("#headline", "All is well");
    scene.proxy.terminate();
    scene.browser.expect("#headline", "Outrigger does not answer");
    scene.browser.expect("#details", "Next try in");
    scene.proxy = start_proxy(&scene.admin, &scene.pool, "", &local(&["another"]), "");
    scene.browser.expect("#headline", "All is well");
    scene.browser.expect(".servers", "another");
    assert!(!scene.browser.text(".servers").contains("one"), "the old one is still there");
}

#[test]
fn a_hundred_servers_fit_a_phone() {
    let names: Vec<String> = (0..100).map(|number| format!("a-server-with-a-long-name-{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = need!(Scene::start("", &local(&names), ""));
    let load = Load::start(&scene, "key");
    let browser = &scene.browser;
    for dark in [false, true] {
        browser.resize(360, 740, dark);
        scene.open();
        browser.expect(".standing", "100 servers live");
        let rows = "document.querySelectorAll('.servers tbody tr').length";
        assert!(browser.value(rows).as_u64() < Some(20), "{}", browser.value(rows));
        browser.value("document.querySelector('.more').click()");
        assert_eq!(browser.value(rows), 100);
        assert_eq!(browser.value("document.documentElement.scrollWidth"), 360, "it is wider than the phone");
        let background = browser.value("getComputedStyle(document.body).backgroundColor");
        let brightness = background.as_str().and_then(|rgb| rgb[4..].split(',').next()?.parse().ok()).unwrap_or(128);
        assert_eq!(brightness < 100, dark, "{background}");
    }
    drop(load);
    scene.expect_no_complaint();
}
