//! A headless Chromium, driven through chromedriver: WebDriver is JSON over HTTP.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::process::{Process, eventually, program};

/// No traffic of Chromium's own.
const QUIET: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--mute-audio",
];

/// One browser with one page. It ends with this value.
pub struct Browser {
    driver: SocketAddr,
    /// `/session/ID`; empty before there is one.
    session: String,
    _process: Process,
    folder: TempDir,
}

impl Browser {
    pub fn start() -> Option<Self> {
        let (driver, chromium) = (program("chromedriver")?, program("chromium")?);
        let folder = crate::support::folder();
        let output = folder.path().join("log");
        let process = Process::start(&driver, &["--port=0"], folder.path(), &output);
        let driver = eventually("chromedriver", || {
            let said = std::fs::read_to_string(&output).ok()?;
            let port = said.split("successfully on port ").nth(1)?.split('.').next()?.parse().ok()?;
            Some(SocketAddr::from(([127, 0, 0, 1], port)))
        });
        let mut browser = Self { driver, session: String::new(), _process: process, folder };
        browser.open_session(&chromium);
        Some(browser)
    }

    fn open_session(&mut self, chromium: &Path) {
        let profile = format!("--user-data-dir={}", self.folder.path().join("profile").display());
        let arguments: Vec<&str> = QUIET.iter().copied().chain([profile.as_str()]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
        }}});
        let opened = self.ask("POST", "/session", Some(wanted));
        self.session = format!("/session/{}", opened["sessionId"].as_str().expect("a session"));
    }

    pub fn open(&self, address: &str) {
        // What the empty page of the start asked for is nobody's business here.
        self.origins();
        self.command("/url", json!({"url": address}));
    }

    /// As on a screen of this size; narrow ones are phones.
    pub fn resize(&self, width: u32, height: u32, dark: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// What an expression is in the page.
    pub fn value(&self, expression: &str) -> Value {
        self.command("/execute/sync", json!({"script": format!("return {expression}"), "args": []}))
    }

    pub fn text(&self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({selector:?})?.innerText"));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a text in an element.
    #[track_caller]
    pub fn expect(&self, selector: &str, wanted: &str) {
        eventually(&format!("{wanted:?} in {selector}"), || {
            // To look takes a tenth of that, and the page needs time as well.
            std::thread::sleep(Duration::from_millis(20));
            self.text(selector).contains(wanted).then_some(())
        });
    }

    /// Types into the field that has the focus.
    pub fn type_keys(&self, keys: &str) {
        let active = self.ask("GET", &format!("{}/element/active", self.session), None);
        let id = active.as_object().and_then(|e| e.values().next()).and_then(Value::as_str).expect("an element");
        self.command(&format!("/element/{id}/value"), json!({"text": keys}));
    }

    /// What the console says since it was asked last.
    pub fn console(&self) -> Vec<String> {
        let entries = self.command("/se/log", json!({"type": "browser"}));
        let entries = entries.as_array().expect("a log").iter();
        entries.map(|entry| format!("{}: {}", entry["level"], entry["message"])).collect()
    }

    /// Whom the page asked since this was asked last, without what never leaves the browser.
    pub fn origins(&self) -> BTreeSet<String> {
        let entries = self.command("/se/log", json!({"type": "performance"}));
        let entries = entries.as_array().expect("a log").iter();
        let messages = entries.filter_map(|entry| serde_json::from_str::<Value>(entry["message"].as_str()?).ok());
        let asked = messages.filter_map(|entry| {
            let message = &entry["message"];
            (message["method"] == "Network.requestWillBeSent").then(|| message["params"]["request"]["url"].clone())
        });
        let outside = |url: &str| !["data:", "chrome:"].iter().any(|scheme| url.starts_with(scheme));
        let origin = |url: &str| url.split('/').take(3).collect::<Vec<_>>().join("/");
        asked.filter_map(|url| url.as_str().filter(|url| outside(url)).map(origin)).collect()
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("/goog/cdp/execute", json!({"cmd": command, "params": parameters}))
    }

    fn command(&self, path: &str, body: Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), Some(body))
    }

    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) =
            self.try_ask(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["value"].clone()
    }

    fn try_ask(&self, method: &str, path: &str, body: Option<Value>) -> std::io::Result<(u16, Value)> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut socket = TcpStream::connect(self.driver)?;
        socket.set_read_timeout(Some(PATIENCE * 2))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.driver,
            body.len()
        );
        socket.write_all(head.as_bytes())?;
        socket.write_all(body.as_bytes())?;
        // It keeps the connection open, whatever it is asked.
        let (mut input, mut status, mut length) = (BufReader::new(socket), 0, 0);
        for line in input.by_ref().lines() {
            let line = line?;
            if line.is_empty() {
                break;
            } else if line.starts_with("HTTP/") {
                status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
        }
        let mut answer = vec![0; length];
        input.read_exact(&mut answer)?;
        Ok((status, serde_json::from_slice(&answer)?))
    }
}

impl Drop for Browser {
    /// Without this Chromium would outlive chromedriver.
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.try_ask("DELETE", &self.session, None);
        }
    }
}
