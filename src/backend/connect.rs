//! Making a connection: resolve, connect, AUTH, SELECT. It counts as made only when the server accepted all of it.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use redis_protocol::resp2::decode::decode_bytes;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::ReadBuf;
use tokio::net::{TcpStream, UnixStream};

use super::{Endpoint, Reason, Server};
use crate::io::Stream;
use crate::protocol::redis::{reply, response};
use crate::protocol::{Limits, Parsed};

/// Connects and logs in. The caller sees to the time limit.
///
/// # Errors
/// The reason, with the server's own words where it gave any.
pub async fn connect(server: &Server) -> Result<Stream, Reason> {
    let mut stream = open(&server.endpoint).await?;
    log_in(&mut stream, server).await?;
    Ok(stream)
}

async fn open(endpoint: &Endpoint) -> Result<Stream, Reason> {
    match endpoint {
        Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        Endpoint::Tcp { host, port } => {
            // A name is resolved on the blocking pool, never on the worker's own thread; an address is only parsed.
            let addresses = tokio::net::lookup_host((host.as_str(), *port)).await;
            let addresses = addresses.map_err(|e| Reason::NotResolved(format!("{host}: {e}")))?;
            let mut last = Reason::NotResolved(format!("{host} has no address"));
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Stream::Tcp(stream));
                    }
                    Err(error) => last = error.into(),
                }
            }
            Err(last)
        }
    }
}

async fn log_in(stream: &mut Stream, server: &Server) -> Result<(), Reason> {
    let login = &server.login;
    if let Some(password) = &login.password {
        let mut command: Vec<&[u8]> = vec![b"AUTH"];
        command.extend(login.username.as_deref().map(str::as_bytes));
        command.push(password.as_bytes());
        exchange(stream, "AUTH", &command, &server.limits).await?;
    }
    if login.database != 0 {
        let database = login.database.to_string();
        exchange(stream, "SELECT", &[b"SELECT", database.as_bytes()], &server.limits).await?;
    }
    Ok(())
}

/// Sends one command and waits for `+OK`.
async fn exchange(stream: &mut Stream, name: &'static str, args: &[&[u8]], limits: &Limits) -> Result<(), Reason> {
    let mut request = Vec::new();
    reply::write_command(&mut request, args);
    let scan = |received: &[u8]| response::scan(received, limits).map_err(|e| Reason::Protocol(e.to_string()));
    accepted(name, ask(stream, name, &request, scan).await?)
}

/// Sends one request and waits for its one reply, whose end `scan` finds.
pub(super) async fn ask(
    stream: &mut Stream,
    name: &'static str,
    request: &[u8],
    scan: impl Fn(&[u8]) -> Result<Parsed<usize>, Reason>,
) -> Result<Vec<u8>, Reason> {
    write_all(stream, request).await?;
    let mut received = Vec::new();
    loop {
        if let Parsed::Complete(n) = scan(&received)? {
            if n != received.len() {
                return Err(Reason::Protocol(format!("more than one reply to {name}")));
            }
            return Ok(received);
        }
        let mut chunk = [0; 1024];
        let mut buf = ReadBuf::new(&mut chunk);
        poll_fn(|cx| stream.poll_read(cx, &mut buf)).await?;
        if buf.filled().is_empty() {
            return Err(Reason::Closed);
        }
        received.extend_from_slice(buf.filled());
    }
}

fn accepted(command: &'static str, received: Vec<u8>) -> Result<(), Reason> {
    match decode_bytes(&Bytes::from(received)) {
        Ok(Some((BytesFrame::SimpleString(_), _))) => Ok(()),
        Ok(Some((BytesFrame::Error(error), _))) => Err(Reason::Login { command, error: error.to_string() }),
        _ => Err(Reason::Protocol(format!("unexpected reply to {command}"))),
    }
}

async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        poll_fn(|cx| stream.poll_write_ready(cx)).await?;
        match stream.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
