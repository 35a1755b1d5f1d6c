//! Making a connection: address, connect, AUTH, HELLO, SELECT. It counts as made only when the server accepted all of it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use redis_protocol::resp2::decode::decode_bytes;
use redis_protocol::resp2::types::BytesFrame;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::ReadBuf;
use tokio::net::{TcpStream, UnixStream};

use super::{Endpoint, Facts, Reason, Server};
use crate::discovery::{Host, Name};
use crate::io::{Stream, Ticker};
use crate::protocol::redis::{Version, reply, response};
use crate::protocol::{Limits, Parsed};

/// The longest that one address is waited for when there is another.
const LONGEST_TRY: Duration = Duration::from_secs(1);

/// The kernel asks whether the other end is still there when it has said nothing for so long.
const QUIET: Duration = Duration::from_secs(30);

/// Connects and logs in; what the server says of itself goes to `facts`. The caller sees to the time limit.
///
/// # Errors
/// The reason, with the server's own words where it gave any.
pub async fn connect(server: &Server, facts: &Facts) -> Result<Stream, Reason> {
    let mut attempt = Attempt { endpoint: &server.endpoint, made: false };
    let mut stream = open(server).await?;
    log_in(&mut stream, server, facts).await?;
    attempt.made = true;
    Ok(stream)
}

/// Whether new connections would lead to the same address as this one.
pub fn is_current(endpoint: &Endpoint, stream: &Stream) -> bool {
    match (endpoint, stream) {
        (Endpoint::Tcp(Host::Name(name, _)), Stream::Tcp(stream)) => {
            stream.peer_addr().is_ok_and(|peer| Some(peer.ip()) == name.current())
        }
        _ => true,
    }
}

/// Where a link leads, or without one, where one would that is made now: other servers are at other addresses. Empty if it is
/// not known.
pub fn address(endpoint: &Endpoint, link: Option<&Stream>) -> String {
    let text = |address: SocketAddr| address.to_string();
    match (endpoint, link) {
        (Endpoint::Unix(path), _) => path.display().to_string(),
        (_, Some(Stream::Tcp(link))) => link.peer_addr().map_or(String::new(), text),
        (Endpoint::Tcp(Host::Address(address)), _) => text(*address),
        (Endpoint::Tcp(Host::Name(name, port)), _) => {
            name.current().map_or(String::new(), |ip| text((ip, *port).into()))
        }
    }
}

/// A connection in the making. When it fails, or its time is up, the name of the server is worth another look: its
/// address may be another's by now.
struct Attempt<'a> {
    endpoint: &'a Endpoint,
    made: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let (Endpoint::Tcp(Host::Name(name, _)), false) = (self.endpoint, self.made) {
            name.poke();
        }
    }
}

async fn open(server: &Server) -> Result<Stream, Reason> {
    match &server.endpoint {
        Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        Endpoint::Tcp(Host::Address(address)) => open_tcp(*address).await,
        Endpoint::Tcp(Host::Name(name, port)) => open_named(name, *port, server.connect_timeout).await,
    }
}

/// Tries the addresses of a name one after the other, beginning with the one that was connected to last. One that is
/// silent gets its share of the time limit, all but the last; so the second is reached although the first is a black
/// hole, and the next connections begin with it.
async fn open_named(name: &Name, port: u16, limit: Option<Duration>) -> Result<Stream, Reason> {
    let not_resolved = |error| Reason::NotResolved(format!("{}: {error}", name.host()));
    let addresses = name.resolved().await.map_err(not_resolved)?;
    let share = limit.map_or(LONGEST_TRY, |limit| LONGEST_TRY.min(limit / addresses.len().max(1) as u32));
    let Some((last, others)) = addresses.split_last() else { return Err(not_resolved("no address".to_owned())) };
    for address in others {
        if let Ok(stream) = within(share, open_tcp((*address, port).into())).await {
            name.reached(*address);
            return Ok(stream);
        }
    }
    let stream = open_tcp((*last, port).into()).await?;
    name.reached(*last);
    Ok(stream)
}

/// A time limit of its own, because workers have no timers: one descriptor, for a connection that is being made.
async fn within<T>(limit: Duration, attempt: impl Future<Output = Result<T, Reason>>) -> Result<T, Reason> {
    let ticker = Ticker::new(limit)?;
    ticker.set();
    tokio::select! {
        biased;
        result = attempt => result,
        () = ticker.tick() => Err(Reason::ConnectTimedOut(limit.as_millis())),
    }
}

async fn open_tcp(address: SocketAddr) -> Result<Stream, Reason> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // A link that a firewall has forgotten is found out before somebody needs it.
    let probes = TcpKeepalive::new().with_time(QUIET).with_interval(QUIET / 3).with_retries(3);
    SockRef::from(&stream).set_tcp_keepalive(&probes)?;
    Ok(Stream::Tcp(stream))
}

/// The password goes before HELLO, not with it: a server that does not know HELLO repeats its arguments in the error.
async fn log_in(stream: &mut Stream, server: &Server, facts: &Facts) -> Result<(), Reason> {
    let login = &server.login;
    if let Some(password) = &login.password {
        let mut command: Vec<&[u8]> = vec![b"AUTH"];
        command.extend(login.username.as_deref().map(str::as_bytes));
        command.push(password.as_bytes());
        accepted("AUTH", exchange(stream, "AUTH", &command, &server.limits).await?)?;
    }
    if login.version == Version::Resp3 {
        let hello = exchange(stream, "HELLO", &[b"HELLO", b"3"], &server.limits).await?;
        facts.learn(&hello);
        if hello.first() != Some(&b'%') {
            // An error it is, in all likelihood: nothing but HELLO's own reply is a map here.
            return Err(accepted("HELLO", hello).err().map_or(unexpected("HELLO"), Reason::lacking));
        }
    }
    if login.database != 0 {
        let database = login.database.to_string();
        let reply = exchange(stream, "SELECT", &[b"SELECT", database.as_bytes()], &server.limits).await?;
        accepted("SELECT", reply).map_err(|reason| if login.chosen { reason.lacking() } else { reason })?;
    }
    Ok(())
}

/// Sends one command and waits for its reply.
async fn exchange(stream: &mut Stream, name: &'static str, args: &[&[u8]], limits: &Limits) -> Result<Vec<u8>, Reason> {
    let mut request = Vec::new();
    reply::write_command(&mut request, args);
    let scan = |received: &[u8]| response::scan(received, limits).map_err(|e| Reason::Protocol(e.to_string()));
    ask(stream, name, &request, scan).await
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
        _ => Err(unexpected(command)),
    }
}

fn unexpected(command: &'static str) -> Reason {
    Reason::Protocol(format!("unexpected reply to {command}"))
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
