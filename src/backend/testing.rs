//! What tests of connections need: a server, which the test itself is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

use super::{Endpoint, Login, Server};
use crate::protocol::Limits;
use crate::telemetry::ServerCells;

/// Where a test listens as a server.
pub struct Place {
    pub listener: UnixListener,
    pub path: PathBuf,
    _directory: TempDir,
}

impl Place {
    pub fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        Self { listener: UnixListener::bind(&path).unwrap(), path, _directory: directory }
    }

    pub async fn accept(&self) -> UnixStream {
        self.listener.accept().await.unwrap().0
    }
}

/// A server there, to which nothing is set.
pub fn describe(path: &Path) -> Server {
    Server {
        pool: "pool".into(),
        name: "server".into(),
        endpoint: Endpoint::Unix(path.to_owned()),
        login: Login::default(),
        connect_timeout: None,
        timeout: None,
        slow_timeout: None,
        slowlog_threshold: None,
        max_reconnect_delay: Duration::from_millis(50),
        failure_replies: vec!["LOADING".into()],
        limits: Limits::default(),
        max_requests: 100,
        max_bytes: 1 << 20,
    }
}

/// Nothing is in any queue, as far as the gauges say.
pub fn assert_empty(cells: &ServerCells) {
    let queues = [&cells.in_queue, &cells.in_queue_bytes, &cells.out_queue, &cells.out_queue_bytes];
    assert_eq!(queues.map(|gauge| gauge.get()), [0; 4]);
}
