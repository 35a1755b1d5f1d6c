//! Asks the running proxy over HTTP.
//!
//! The session is pingora's own: it is in the binary already, knows every way in which a body may end, and takes a unix
//! socket as well as a port, which the small client libraries do not. One request a connection, as there is one a second
//! at the most.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use pingora_core::BError;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::protocols::l4::stream::Stream;
use pingora_http::RequestHeader;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::place::{Address, Place};

/// For one answer, from the connect to its last byte. A proxy that needs longer is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who probes has a limit of its own, and should rather have a reason than be ended by that.
const PATIENCE_OF_PROBES: Duration = Duration::from_secs(2);
/// More is no answer of a proxy: the topology of 10 000 servers has about a tenth of it.
const MAX_BODY: usize = 256 * 1024 * 1024;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing was asked, as a flag or the environment is wrong.
    #[error("{0}")]
    Usage(String),
    #[error(
        "nothing listens on {0}: does the proxy run, and with this admin address? (--admin, OUTRIGGER_ADMIN, or -c FILE)"
    )]
    NobodyThere(Address),
    #[error("cannot connect to {0}: {1}")]
    Connect(Address, Error),
    #[error("{0} does not answer within {seconds} s", seconds = .1.as_secs())]
    Silent(Address, Duration),
    #[error(
        "what listens on {0} is no admin address of Outrigger: {1} (is it a pool's port, or that of the statistics?)"
    )]
    Stranger(Address, String),
    #[error("{0} wants a token (--token-file, OUTRIGGER_ADMIN_TOKEN, or -c FILE)")]
    NoToken(Address),
    #[error("{0} does not accept this token")]
    WrongToken(Address),
    #[error("{0} does not know {1}: its version is another one, or this is switched off there")]
    Unknown(Address, String),
    /// The proxy says why.
    #[error("{0}")]
    Refused(String),
    #[error("the answer of {0} cannot be read, its version is another one: {1}")]
    Unreadable(Address, serde_json::Error),
    #[error("{0}")]
    Terminal(#[from] Error),
}

/// Status and body.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Asks one proxy.
pub struct Client {
    place: Place,
    patience: Duration,
}

impl Client {
    pub fn new(place: Place) -> Self {
        Self { place, patience: PATIENCE }
    }

    /// For probes.
    pub fn impatient(self) -> Self {
        Self { patience: PATIENCE_OF_PROBES, ..self }
    }

    pub fn address(&self) -> &Address {
        &self.place.address
    }

    /// The answer as a value. Fields that are not known are ignored, those that are missing have their zero.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let body = self.get(path).await?;
        serde_json::from_slice(&body).map_err(|error| Failure::Unreadable(self.address().clone(), error))
    }

    /// The body of an answer, if that is 200.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.ask(path).await?;
        let address = self.address().clone();
        let reason = || serde_json::from_slice::<Reason>(&answer.body).ok().map(|reason| reason.error);
        match (answer.status, &self.place.token) {
            (200, _) => Ok(answer.body),
            (401, None) => Err(Failure::NoToken(address)),
            (401, Some(_)) => Err(Failure::WrongToken(address)),
            // A question that may have no answer; all other paths are there, if the version is the same.
            (404, _) if !path.starts_with("/explain?") => {
                Err(Failure::Unknown(address, path.split('?').next().unwrap_or(path).into()))
            }
            (status, _) => Err(match reason() {
                Some(reason) => Failure::Refused(reason),
                None => Failure::Stranger(address, format!("it answers {path} with status {status}")),
            }),
        }
    }

    /// Whatever is answered.
    pub async fn ask(&self, path: &str) -> Result<Answer, Failure> {
        let silent = |_| Failure::Silent(self.address().clone(), self.patience);
        timeout(self.patience, self.exchange(path)).await.map_err(silent)?
    }

    async fn exchange(&self, path: &str) -> Result<Answer, Failure> {
        let stream = self.connect().await?;
        let mut session = HttpSession::new(Box::new(stream));
        let stranger = |error: BError| Failure::Stranger(self.address().clone(), error.etype().as_str().to_owned());
        let request = self.request(path).map_err(stranger)?;
        session.write_request_header(Box::new(request)).await.map_err(stranger)?;
        session.read_response().await.map_err(stranger)?;
        let mut body = Vec::new();
        while let Some(piece) = session.read_body_ref().await.map_err(stranger)? {
            if body.len() + piece.len() > MAX_BODY {
                return Err(Failure::Stranger(self.address().clone(), format!("more than {MAX_BODY} bytes")));
            }
            body.extend_from_slice(piece);
        }
        let status = session.get_status().map_or(0, |status| status.as_u16());
        Ok(Answer { status, body })
    }

    fn request(&self, path: &str) -> Result<RequestHeader, BError> {
        let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
        request.insert_header("Host", self.address().host())?;
        request.insert_header("Connection", "close")?;
        request.insert_header("User-Agent", concat!("outrigger/", env!("CARGO_PKG_VERSION")))?;
        if let Some(token) = &self.place.token {
            request.insert_header("Authorization", format!("Bearer {token}"))?;
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Stream, Failure> {
        let connected: Result<Stream, Error> = match self.address() {
            Address::Tcp(address) => TcpStream::connect(address).await.map(Stream::from),
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::from),
        };
        connected.map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Failure::NobodyThere(self.address().clone()),
            _ => Failure::Connect(self.address().clone(), error),
        })
    }
}

/// What errors look like.
#[derive(serde::Deserialize)]
struct Reason {
    error: String,
}
