//! Debian's Prometheus on loopback, and questions to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::files::folder;
use crate::support::process::{Process, program};
use crate::support::{PATIENCE, Port, eventually};

/// The body of a page. HTTP/1.0, so that it ends with the connection.
fn get(address: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer}")).1.to_owned()
}

pub struct Prometheus {
    _process: Process,
    port: Port,
    _folder: TempDir,
    /// In seconds since 1970.
    started: f64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { format!("%{b:02X}") }).collect()
}

impl Prometheus {
    /// Scrapes these four times a second, as the job `outrigger`, and evaluates the rules.
    pub fn start(targets: &[SocketAddr]) -> Option<Self> {
        let program = program("prometheus")?;
        let own = crate::support::folder();
        let rules = ["recording.yml", "alerts.yml"].map(|file| folder().join(file).display().to_string());
        let targets: Vec<String> = targets.iter().map(SocketAddr::to_string).collect();
        let configuration = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s}}\n\
             rule_files: {rules:?}\n\
             scrape_configs: [{{job_name: outrigger, static_configs: [{{targets: {targets:?}}}]}}]\n"
        );
        std::fs::write(own.path().join("prometheus.yml"), configuration).unwrap();
        let port = Port::reserve();
        let listen = format!("--web.listen-address={}", port.address());
        let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", &listen];
        let log = own.path().join("log");
        let process = Process::start(&program, &arguments, own.path(), &log);
        let prometheus = Self { _process: process, port, _folder: own, started: now() };
        eventually("Prometheus", || TcpStream::connect(prometheus.port.address()).ok());
        Some(prometheus)
    }

    /// What `/api/v1/PATH` answers.
    fn ask(&self, path: &str) -> Result<Value, String> {
        let body = get(self.port.address(), &format!("/api/v1/{path}"));
        // While it starts it answers in plain text.
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// The numbers that an expression has now.
    pub fn values(&self, expression: &str) -> Result<Vec<f64>, String> {
        let data = self.ask(&format!("query?query={}", encoded(expression)))?;
        Ok(numbers(&data["result"]))
    }

    /// Those that it had since the start, one a second.
    pub fn course(&self, expression: &str) -> Result<Vec<f64>, String> {
        let (from, to) = (self.started, now());
        let data = self.ask(&format!("query_range?query={}&start={from}&end={to}&step=1", encoded(expression)))?;
        Ok(numbers(&data["result"]))
    }

    /// `label_values(selector, label)`.
    pub fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>, String> {
        let data = self.ask(&format!("label/{label}/values?match[]={}", encoded(selector)))?;
        let texts = data.as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(texts.map(str::to_owned).collect())
    }

    /// The rules as it has them: name, and the error of the last evaluation.
    pub fn rules(&self) -> Vec<(String, String)> {
        let data = self.ask("rules").unwrap();
        let groups = data["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        rules.map(|rule| (text(rule, "name"), text(rule, "lastError"))).collect()
    }

    /// Waits until the expression has a value.
    pub fn wait_for(&self, expression: &str) {
        eventually(expression, || self.values(expression).is_ok_and(|found| !found.is_empty()).then_some(()));
    }
}

/// The finite values of a result, of all its series.
fn numbers(result: &Value) -> Vec<f64> {
    let series = result.as_array().into_iter().flatten();
    let points = series.flat_map(|one| match one["values"].as_array() {
        Some(points) => points.clone(),
        None => vec![one["value"].clone()],
    });
    points.filter_map(|point| point[1].as_str()?.parse().ok()).filter(|value: &f64| value.is_finite()).collect()
}
