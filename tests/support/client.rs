//! A client that keeps replies as bytes, or shows them as one reads them.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::PATIENCE;

/// Where something listens.
#[derive(Debug, Clone)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    pub fn connect(&self) -> io::Result<Client> {
        let socket = match self {
            Self::Tcp(address) => {
                let socket = TcpStream::connect(address)?;
                socket.set_nodelay(true)?;
                Socket::Tcp(socket)
            }
            Self::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        let mut client = Client { input: BufReader::new(socket) };
        client.patience(PATIENCE);
        Ok(client)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(s) => Self::Tcp(s.try_clone()?),
            Self::Unix(s) => Self::Unix(s.try_clone()?),
        })
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(buf),
            Self::Unix(s) => s.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.write(buf),
            Self::Unix(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection.
pub struct Client {
    input: BufReader<Socket>,
}

impl Client {
    /// How long a read may take before it fails.
    pub fn patience(&mut self, patience: Duration) {
        match self.input.get_ref() {
            Socket::Tcp(s) => s.set_read_timeout(Some(patience)).unwrap(),
            Socket::Unix(s) => s.set_read_timeout(Some(patience)).unwrap(),
        }
    }

    /// Writes. When the other side has closed, what can be read tells why.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.input.get_mut().write_all(bytes.as_ref()) {
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            result => result.unwrap(),
        }
    }

    /// Writes on another thread, so that a large pipeline cannot block both ends.
    pub fn send_aside(&self, bytes: Vec<u8>) {
        let mut socket = self.input.get_ref().try_clone().unwrap();
        thread::spawn(move || socket.write_all(&bytes));
    }

    /// Writes for another thread, each time at once.
    pub fn writer(&self) -> impl FnMut(&[u8]) + Send + use<> {
        let mut socket = self.input.get_ref().try_clone().unwrap();
        move |bytes| socket.write_all(bytes).unwrap()
    }

    /// No more requests will come.
    pub fn half_close(&self) {
        match self.input.get_ref() {
            Socket::Tcp(s) => s.shutdown(Shutdown::Write).unwrap(),
            Socket::Unix(s) => s.shutdown(Shutdown::Write).unwrap(),
        }
    }

    /// Exactly these bytes come next.
    #[track_caller]
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut got = vec![0; expected.len()];
        let mut filled = 0;
        while filled < got.len() {
            match self.input.read(&mut got[filled..]) {
                Ok(n) if n > 0 => filled += n,
                end => {
                    let (got, expected) = (shown(&got[..filled]), shown(expected));
                    panic!("{end:?} after {got}\n  expected {expected}")
                }
            }
            if got[..filled] != expected[..filled] {
                panic!("got      {}\n  expected {}", shown(&got[..filled]), shown(expected));
            }
        }
    }

    /// Sends, and gets exactly that.
    #[track_caller]
    pub fn exchange(&mut self, request: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) {
        self.send(request);
        self.expect(reply);
    }

    /// So many bytes, whatever they are.
    #[track_caller]
    pub fn skip(&mut self, len: usize) {
        self.try_bytes(len).unwrap();
    }

    /// The proxy closes; not a byte comes before.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let mut rest = [0; 256];
        match self.input.read(&mut rest) {
            Ok(0) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            Ok(n) => panic!("more bytes: {}", shown(&rest[..n])),
            Err(e) => panic!("not closed: {e}"),
        }
    }

    /// The other side has closed, and not a byte came before. Waits for one or the other.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        match self.input.fill_buf() {
            Ok(bytes) => Ok(bytes.is_empty()),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.input.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// One line, without its end.
    pub fn try_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(text.to_vec()),
            None => Err(io::Error::new(ErrorKind::UnexpectedEof, format!("closed after {}", shown(&line)))),
        }
    }

    #[track_caller]
    pub fn line(&mut self) -> String {
        String::from_utf8_lossy(&self.try_line().unwrap()).into_owned()
    }

    fn try_bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// One Redis reply.
    pub fn try_reply(&mut self) -> io::Result<Reply> {
        let line = self.try_line()?;
        let text = || String::from_utf8_lossy(&line[1..]).into_owned();
        let number = || text().parse::<i64>().map_err(|_| io::Error::other(format!("no reply: {}", shown(&line))));
        Ok(match line.first() {
            Some(b'+') => Reply::Simple(text()),
            Some(b'-') => Reply::Error(text()),
            Some(b':') => Reply::Integer(number()?),
            Some(b'$') => match usize::try_from(number()?) {
                Ok(len) => {
                    let mut bytes = self.try_bytes(len + 2)?;
                    bytes.truncate(len);
                    Reply::Bulk(bytes)
                }
                Err(_) => Reply::Nil,
            },
            Some(b'*') => match usize::try_from(number()?) {
                Ok(len) => Reply::Array((0..len).map(|_| self.try_reply()).collect::<io::Result<_>>()?),
                Err(_) => Reply::Nil,
            },
            // RESP3: what RESP2 has something like for is shown as that.
            Some(b'_') => Reply::Nil,
            Some(b'~' | b'>') => Reply::Array((0..number()?).map(|_| self.try_reply()).collect::<io::Result<_>>()?),
            Some(b'%') => Reply::Array((0..2 * number()?).map(|_| self.try_reply()).collect::<io::Result<_>>()?),
            Some(b'#' | b',' | b'(') => Reply::Simple(text()),
            Some(b'=') => {
                let bytes = self.try_bytes(number()? as usize + 2)?;
                Reply::Bulk(bytes[4..bytes.len() - 2].to_vec())
            }
            _ => return Err(io::Error::other(format!("no reply: {}", shown(&line)))),
        })
    }

    /// The bytes of one Redis reply of either version, its line ends as `|`.
    pub fn try_raw(&mut self) -> io::Result<String> {
        let line = String::from_utf8_lossy(&self.try_line()?).into_owned();
        let number = || line[1..].parse::<i64>().map_err(|_| io::Error::other(format!("no reply: {line}")));
        let mut reply = format!("{line}|");
        let elements = match line.as_bytes().first() {
            Some(b'$' | b'=' | b'!') if number()? >= 0 => {
                let bytes = self.try_bytes(number()? as usize + 2)?;
                reply += &String::from_utf8_lossy(&bytes).replace("\r\n", "|");
                0
            }
            Some(b'*' | b'~' | b'>') => number()?,
            Some(b'%') => 2 * number()?,
            Some(b'|') => 2 * number()? + 1,
            _ => 0,
        };
        for _ in 0..elements {
            reply += &self.try_raw()?;
        }
        Ok(reply)
    }

    #[track_caller]
    pub fn raw(&mut self) -> String {
        self.try_raw().unwrap()
    }

    /// As [`Client::ask`], with the bytes of the reply as they are, but line ends as `|`.
    #[track_caller]
    pub fn ask_raw(&mut self, command: &str) -> String {
        self.send(resp(&command.split(' ').collect::<Vec<_>>()));
        self.raw()
    }

    #[track_caller]
    pub fn reply(&mut self) -> String {
        self.try_reply().unwrap().to_string()
    }

    /// One Redis command, its arguments separated by spaces; the reply as text: `+OK`, `1`, `"bulk"`, `nil`, `[a b]`.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.send(resp(&command.split(' ').collect::<Vec<_>>()));
        self.reply()
    }

    /// Everything up to and with the line that ends a memcached reply, its line ends as `|`.
    #[track_caller]
    pub fn tell(&mut self, request: &str) -> String {
        self.send(request.replace('|', "\r\n") + "\r\n");
        self.memcached_reply()
    }

    #[track_caller]
    pub fn memcached_reply(&mut self) -> String {
        self.try_memcached_reply().unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn try_memcached_reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let line = String::from_utf8_lossy(&self.try_line()?).into_owned();
            if let Some(header) = line.strip_prefix("VALUE ") {
                let length = header.split(' ').nth(2).and_then(|n| n.parse::<usize>().ok());
                let length = length.ok_or_else(|| io::Error::other(format!("no reply: {line}")))?;
                let block = self.try_bytes(length + 2)?;
                let block = block.strip_suffix(b"\r\n").ok_or_else(|| io::Error::other("no CRLF"))?;
                let _ = write!(reply, "{line}|{}|", String::from_utf8_lossy(block));
            } else if line.starts_with("STAT ") {
                let _ = write!(reply, "{line}|");
            } else {
                return Ok(reply + &line);
            }
        }
    }
}

/// One Redis reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Integer(n) => write!(f, "{n}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Nil => f.write_str("nil"),
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(" "))
            }
        }
    }
}

/// One request as an array of bulk strings.
pub fn resp<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments.iter().map(AsRef::as_ref) {
        request.extend(format!("${}\r\n", argument.len()).into_bytes());
        request.extend_from_slice(argument);
        request.extend(b"\r\n");
    }
    request
}

fn shown(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(400);
    format!("\"{}\" ({} bytes)", bytes[start..].escape_ascii(), bytes.len())
}
