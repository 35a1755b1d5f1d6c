//! The admin port: HTTP/1.1 for operators and their programs, by pingora's session.
//!
//! ```text
//!   accept (Port) ─► read a header ─► guard: token, Host, Origin ─► routes: one line a path ─► answer
//!        ▲               │ bounded: 16 KiB, 5 s                                                   │
//!        └── a silent client gives way to one who waits ◄──── keep-alive, 10 s ◄──────────────────┘
//! ```
//! It runs on a thread of its own, until the very end of the process: what is asked costs clients nothing, and `/readyz`
//! says no while the process drains.

mod actions;
mod answer;
mod connection;
mod guard;
mod metered;
mod request;
mod routes;
mod tell;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::port::{Port, PortSocket};
use super::sources::Sources;
use crate::config::AdminSettings;
use crate::telemetry::Log;

/// Clients at a time.
const CLIENTS: usize = 64;
const NAME: &str = "admin";

/// What came of a reload that was asked for here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// Another configuration is in force: what has changed.
    Changed(String),
    Same,
    /// What was running goes on: all that was wrong.
    Failed(String),
    /// The process was not started with a configuration file.
    NoFile,
}

/// Who asks for a reload waits here for its outcome.
pub type ReloadOrder = oneshot::Sender<Reloaded>;

/// What is asked and ordered here.
pub struct App {
    pub sources: Arc<Sources>,
    pub log: Log,
    pub reload: mpsc::Sender<ReloadOrder>,
}

/// Serves HTTP on a socket that may be replaced.
pub struct AdminServer {
    app: Arc<App>,
    pub port: Port,
}

impl AdminServer {
    /// A server without a socket.
    pub fn new(app: App) -> Self {
        Self { app: Arc::new(app), port: Port::new(NAME, CLIENTS) }
    }

    /// Opens a socket for these settings, if they want one. It may take its port from `held`, the one it is to replace.
    /// Nothing, with a warning, if the address is the default and somebody else has it: two proxies run on one machine
    /// without a word about it in their files.
    ///
    /// # Errors
    /// With the address in the text.
    pub fn bind(settings: &AdminSettings, held: Option<&PortSocket>) -> io::Result<Option<PortSocket>> {
        let Some(listen) = &settings.listen else { return Ok(None) };
        match Port::bind(NAME, listen, held) {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if !settings.asked_for => {
                tracing::warn!(%error, "no admin port: `admin.listen` names another address for it, or `off`");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Serves on a thread of its own, until the port is closed for good.
    ///
    /// # Errors
    /// When the system is out of threads or descriptors.
    pub fn start(self: &Arc<Self>) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = self.clone();
        let serve = move || {
            runtime.block_on(server.port.run(|client, seat| {
                tokio::spawn(connection::serve(server.app.clone(), client, seat));
            }));
        };
        std::thread::Builder::new().name(NAME.to_owned()).spawn(serve)
    }
}
