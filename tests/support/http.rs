//! Requests to the admin port, one connection each.

use std::collections::HashMap;

use serde_json::Value;

use super::client::Address;

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Response {
    /// From all that was sent before the end.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text:?}"));
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Self {
            status: status.unwrap_or_else(|| panic!("no status: {first:?}")),
            headers: lines.filter_map(header).collect(),
            body: body.to_owned(),
        }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A request with these lines of header, and its answer.
#[track_caller]
pub fn http(address: &Address, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut client = address.connect().unwrap();
    client.send(format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{lines}{length}\r\n{body}"));
    Response::parse(&client.rest())
}
