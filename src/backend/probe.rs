//! Asking a server how it is, past all queues: on a connection of the probe's own, which is kept from one time to the next.

use super::connect::{ask, connect, is_current};
use super::{Facts, Reason, Server};
use crate::config::Protocol;
use crate::io::Stream;
use crate::protocol::redis::{reply, response};
use crate::protocol::{Limits, Parsed, memcached};

/// A reply to a probe is a line; one that is longer than this is none.
const LONGEST_REPLY: usize = 64 * 1024;

/// A probe of one server. It needs a runtime with I/O; time limits are the caller's, who just drops what takes too long.
pub struct Probe {
    server: Server,
    protocol: Protocol,
    /// Databases that clients may work in besides the server's usual one.
    others: Vec<u32>,
    limits: Limits,
    /// Nothing is unanswered on it. It is taken out while something is, so that an exchange that is dropped half done
    /// takes the connection along.
    link: Option<Stream>,
    /// The last failure was not the server's.
    blameless: bool,
}

impl Probe {
    /// Of the server described; not connected yet.
    pub fn new(server: Server, protocol: Protocol) -> Self {
        let limits = Limits { max_response_bytes: LONGEST_REPLY, max_line_bytes: LONGEST_REPLY, ..Limits::default() };
        Self { server, protocol, others: Vec::new(), limits, link: None, blameless: false }
    }

    /// Clients may work in these databases as well.
    pub fn with_databases(self, others: impl IntoIterator<Item = u32>) -> Self {
        Self { others: others.into_iter().collect(), ..self }
    }

    /// How many databases there are to empty.
    pub fn databases(&self) -> u32 {
        1 + self.others.len() as u32
    }

    /// Whether the last failure was no fault of the server: this process has no descriptor left, for one.
    pub fn is_blameless(&self) -> bool {
        self.blameless
    }

    /// Sees whether the server can be connected to and answers: Redis `PING`, memcached `version`.
    ///
    /// # Errors
    /// Why not, in words for people; an error reply in the server's own.
    pub async fn check(&mut self) -> Result<(), String> {
        match self.protocol {
            Protocol::Redis => match self.redis("PING", &["PING"]).await? {
                // It serves whoever is let in.
                Err(error) if error.starts_with("NOAUTH") || error.starts_with("NOPERM") => Ok(()),
                result => result,
            },
            Protocol::Memcached => self.memcached("version", memcached::Expect::Version).await?,
        }
    }

    /// Empties the server: the databases that the pool serves, or all of a memcached.
    ///
    /// # Errors
    /// Why it may not be empty.
    pub async fn flush(&mut self) -> Result<(), String> {
        match self.protocol {
            // Without ASYNC a large database blocks its server for seconds; before Redis 4 there is no such word.
            Protocol::Redis => match self.redis("FLUSHDB", &["FLUSHDB", "ASYNC"]).await? {
                Err(error) if error.starts_with("ERR ") => self.redis("FLUSHDB", &["FLUSHDB"]).await??,
                result => result?,
            },
            Protocol::Memcached => self.memcached("flush_all", memcached::Expect::Ok).await??,
        }
        if self.others.is_empty() { Ok(()) } else { self.flush_others().await }
    }

    /// On a connection of its own: on the usual one another could be selected when it is made anew.
    async fn flush_others(&self) -> Result<(), String> {
        let mut stream = connect(&self.server, &Facts::default()).await.map_err(|reason| reason.to_string())?;
        for database in &self.others {
            match self.redis_on(&mut stream, "SELECT", &["SELECT", &database.to_string()]).await? {
                // There is no such database, so it holds nothing.
                Err(error) if error.starts_with("ERR ") => continue,
                selected => selected?,
            }
            match self.redis_on(&mut stream, "FLUSHDB", &["FLUSHDB", "ASYNC"]).await? {
                Err(error) if error.starts_with("ERR ") => {
                    self.redis_on(&mut stream, "FLUSHDB", &["FLUSHDB"]).await??;
                }
                flushed => flushed?,
            }
        }
        Ok(())
    }

    /// Outer error: no reply. Inner error: an error reply.
    async fn redis(&mut self, name: &'static str, command: &[&str]) -> Result<Result<(), String>, String> {
        let limits = self.limits.clone();
        let reply = self.exchange(name, &request(command), |received| scan_redis(received, &limits)).await?;
        Ok(is_done(name, &reply))
    }

    /// The same, on this connection.
    async fn redis_on(
        &self,
        stream: &mut Stream,
        name: &'static str,
        command: &[&str],
    ) -> Result<Result<(), String>, String> {
        let reply = ask(stream, name, &request(command), |received| scan_redis(received, &self.limits)).await;
        reply.map(|reply| is_done(name, &reply)).map_err(|reason| reason.to_string())
    }

    async fn memcached(&mut self, name: &'static str, expect: memcached::Expect) -> Result<Result<(), String>, String> {
        let limits = self.limits.clone();
        let scan = |received: &[u8]| {
            memcached::response::scan(received, expect, &limits).map_err(|e| Reason::Protocol(e.to_string()))
        };
        let reply = self.exchange(name, format!("{name}\r\n").as_bytes(), scan).await?;
        Ok(memcached::response::error_line(&reply).map_or(Ok(()), |error| Err(line(error))))
    }

    /// On the connection that there is; on a new one if the server has closed that since, or is said to be elsewhere.
    async fn exchange(
        &mut self,
        name: &'static str,
        request: &[u8],
        scan: impl Fn(&[u8]) -> Result<Parsed<usize>, Reason>,
    ) -> Result<Vec<u8>, String> {
        if let Some(mut stream) = self.link.take().filter(|link| is_current(&self.server.endpoint, link))
            && let Ok(reply) = ask(&mut stream, name, request, &scan).await
        {
            self.link = Some(stream);
            return Ok(reply);
        }
        self.blameless = false;
        let mut stream = connect(&self.server, &Facts::default()).await.map_err(|reason| {
            self.blameless = !reason.is_failure();
            reason.to_string()
        })?;
        let reply = ask(&mut stream, name, request, &scan).await.map_err(|reason| reason.to_string())?;
        self.link = Some(stream);
        Ok(reply)
    }
}

fn request(command: &[&str]) -> Vec<u8> {
    let mut request = Vec::new();
    reply::write_command(&mut request, command);
    request
}

fn scan_redis(received: &[u8], limits: &Limits) -> Result<Parsed<usize>, Reason> {
    response::scan(received, limits).map_err(|e| Reason::Protocol(e.to_string()))
}

/// Whether the server did what it was told.
fn is_done(name: &str, reply: &[u8]) -> Result<(), String> {
    match reply.split_first() {
        Some((b'+', _)) => Ok(()),
        Some((b'-', text)) => Err(line(text)),
        _ => Err(format!("unexpected reply to {name}: {}", line(reply))),
    }
}

/// The first line, as text.
fn line(reply: &[u8]) -> String {
    let line = reply.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::time::timeout;

    use super::*;
    use crate::backend::{Endpoint, Login};

    /// A server of one connection at a time, that answers each line as told; `None` closes.
    struct Fake {
        probe: Probe,
        connections: Arc<AtomicUsize>,
        _directory: TempDir,
    }

    impl Fake {
        fn start(
            protocol: Protocol,
            answer: impl Fn(usize, &str) -> Option<&'static str> + Send + Sync + 'static,
        ) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("s");
            let listener = UnixListener::bind(&path).unwrap();
            let connections = Arc::new(AtomicUsize::new(0));
            let counted = connections.clone();
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    serve(socket, counted.fetch_add(1, Relaxed), &answer).await;
                }
            });
            let server = Server {
                pool: "pool".into(),
                name: "server".into(),
                endpoint: Endpoint::Unix(path),
                login: Login::default(),
                connect_timeout: None,
                timeout: None,
                slow_timeout: None,
                slowlog_threshold: None,
                max_reconnect_delay: Duration::ZERO,
                failure_replies: vec![],
                limits: Limits::default(),
                max_requests: 1,
                max_bytes: 1,
            };
            Self { probe: Probe::new(server, protocol), connections, _directory: directory }
        }
    }

    async fn serve(socket: UnixStream, number: usize, answer: &impl Fn(usize, &str) -> Option<&'static str>) {
        let mut socket = BufReader::new(socket);
        let mut line = String::new();
        while socket.read_line(&mut line).await.is_ok_and(|n| n > 0) {
            let Some(text) = answer(number, line.trim_end()) else { return };
            socket.write_all(text.as_bytes()).await.unwrap();
            line.clear();
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(30), test).await.expect("it hangs") });
    }

    /// What a Redis that answers PING with this is said to be.
    async fn redis(pong: &'static str) -> Result<(), String> {
        Fake::start(Protocol::Redis, move |_, line| Some(if line == "PING" { pong } else { "" })).probe.check().await
    }

    #[test]
    fn a_redis_is_well_when_it_answers_unless_with_an_error() {
        run(async {
            assert_eq!(redis("+PONG\r\n").await, Ok(()));
            assert_eq!(redis("-NOAUTH Authentication required.\r\n").await, Ok(()));
            assert_eq!(redis("-NOPERM this user has no permissions\r\n").await, Ok(()));
            for bad in
                ["LOADING Redis is loading the dataset in memory", "MASTERDOWN Link with MASTER is down", "BUSY x"]
            {
                let reply: &'static str = format!("-{bad}\r\n").leak();
                assert_eq!(redis(reply).await, Err(bad.to_owned()));
            }
            assert_eq!(redis(":1\r\n").await, Err("unexpected reply to PING: :1".to_owned()));
            assert!(redis("HTTP/1.1 400 Bad Request\r\n").await.is_err_and(|e| e.starts_with("Invalid reply")));
            assert!(redis("+PONG\r\n+PONG\r\n").await.is_err_and(|e| e.contains("more than one reply")));
        });
    }

    #[test]
    fn a_memcached_is_well_when_it_says_its_version() {
        run(async {
            for (reply, result) in [
                ("VERSION 1.6.18\r\n", Ok(())),
                ("SERVER_ERROR out of memory\r\n", Err("SERVER_ERROR out of memory".to_owned())),
                ("ERROR\r\n", Err("ERROR".to_owned())),
            ] {
                let mut fake = Fake::start(Protocol::Memcached, move |_, line| (line == "version").then_some(reply));
                assert_eq!(fake.probe.check().await, result);
            }
        });
    }

    #[test]
    fn the_connection_is_kept_and_a_closed_one_is_replaced_without_a_word() {
        run(async {
            let mut fake = Fake::start(Protocol::Memcached, |number, line| match (number, line) {
                (0, "version") => Some("VERSION 1\r\n"),
                (0, _) => None,
                _ => Some("OK\r\n"),
            });
            for _ in 0..3 {
                assert_eq!(fake.probe.check().await, Ok(()));
            }
            assert_eq!(fake.connections.load(Relaxed), 1);
            assert_eq!(fake.probe.flush().await, Ok(()));
            assert_eq!(fake.connections.load(Relaxed), 2);
        });
    }

    #[test]
    fn an_exchange_given_up_takes_its_connection_along() {
        run(async {
            // The first connection answers too late: never what was asked next.
            let mut fake = Fake::start(Protocol::Memcached, |number, line| match (number, line) {
                (0, _) => Some(""),
                (_, "version") => Some("VERSION 1\r\n"),
                _ => Some("OK\r\n"),
            });
            let late = timeout(Duration::from_millis(20), fake.probe.check()).await;
            assert!(late.is_err(), "{late:?}");
            assert!(fake.probe.link.is_none());
            assert_eq!(fake.probe.check().await, Ok(()));
        });
    }

    #[test]
    fn a_server_that_is_not_there_is_unwell() {
        run(async {
            let mut fake = Fake::start(Protocol::Redis, |_, _| None);
            assert_eq!(fake.probe.check().await, Err("Connection closed by the server".to_owned()));
            fake.probe.server.endpoint = Endpoint::Unix("/nowhere/at/all".into());
            assert_eq!(fake.probe.check().await, Err("No such file or directory".to_owned()));
        });
    }

    #[test]
    fn a_redis_that_knows_no_async_is_flushed_nevertheless() {
        run(async {
            for (reply, result) in [("-ERR syntax error\r\n", Ok(())), ("-NOPERM no\r\n", Err("NOPERM no".to_owned()))]
            {
                let mut fake = Fake::start(Protocol::Redis, move |_, line| match line {
                    // The last line of the one form, and the first of the other.
                    "ASYNC" => Some(reply),
                    "*1" => Some("+OK\r\n"),
                    _ => Some(""),
                });
                assert_eq!(fake.probe.flush().await, result);
            }
        });
    }
}
