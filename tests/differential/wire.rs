//! Replies: their bytes, and what they say.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::generator::Request;
use super::support::PATIENCE;
use super::support::client::resp;

/// What a reply says, whose bytes follow from it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// One line, with its type in front: `+OK`, `:3`, `_`, `$-1`.
    Line(Vec<u8>),
    /// Bytes of a length that is given: `$`, `!`, `=`.
    Bytes(u8, Vec<u8>),
    /// Elements; of a map (`%`) keys and values in turn.
    Many(u8, Vec<Value>),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Bytes(b'$', text.into())
    }

    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Line(line) if line[0] == b':' => std::str::from_utf8(&line[1..]).ok()?.parse().ok(),
            _ => None,
        }
    }

    pub fn elements(&self) -> &[Value] {
        match self {
            Self::Many(_, elements) => elements,
            _ => &[],
        }
    }

    /// Whether these bytes are in it.
    pub fn mentions(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Line(line) => line == bytes,
            Self::Bytes(_, own) => own == bytes,
            Self::Many(_, elements) => elements.iter().any(|element| element.mentions(bytes)),
        }
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |bytes: &[u8]| {
            let text = bytes.escape_ascii().to_string();
            if text.len() > 300 { format!("{}... ({} bytes)", &text[..300], bytes.len()) } else { text }
        };
        match self {
            Self::Line(line) => write!(f, "{}", shown(line)),
            Self::Bytes(kind, bytes) => write!(f, "{}\"{}\"", char::from(*kind), shown(bytes)),
            Self::Many(kind, elements) => {
                write!(f, "{}", char::from(*kind))?;
                f.debug_list().entries(elements).finish()
            }
        }
    }
}

/// One connection.
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// What of it was read already.
    read: usize,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, buffer: Vec::new(), read: 0 }
    }

    /// At once, or in two pieces with a pause that lets the first arrive alone.
    pub fn send(&self, requests: &[Request], cut: Option<usize>) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| resp(request)).collect();
        let mut socket = self.socket.try_clone().unwrap();
        let (first, second) = bytes.split_at(cut.map_or(0, |cut| bytes.len() * cut / 1000));
        // Who closes early says so in what is read.
        let _ = socket.write_all(first);
        if !first.is_empty() {
            thread::sleep(Duration::from_micros(300));
        }
        if second.len() < 50_000 {
            let _ = socket.write_all(second);
        } else {
            // Both ends would wait for each other if this one did not read meanwhile.
            let second = second.to_vec();
            thread::spawn(move || socket.write_all(&second));
        }
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(length) = self.buffer[self.read..].windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer[self.read..self.read + length].to_vec();
                self.read += length + 2;
                return if line.is_empty() { Err(Error::other("an empty line")) } else { Ok(line) };
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Result<()> {
        self.buffer.drain(..self.read);
        self.read = 0;
        let mut chunk = [0; 16_384];
        match self.socket.read(&mut chunk)? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "closed")),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }

    pub fn reply(&mut self) -> Result<Value> {
        let line = self.line()?;
        let length = || std::str::from_utf8(&line[1..]).ok().and_then(|text| text.parse::<i64>().ok());
        let count = |length: Option<i64>| length.ok_or_else(|| Error::other(format!("{}", line.escape_ascii())));
        match line[0] {
            b'$' | b'!' | b'=' if line[1] != b'-' => {
                let length = count(length())? as usize;
                while self.buffer.len() - self.read < length + 2 {
                    self.more()?;
                }
                let bytes = self.buffer[self.read..self.read + length].to_vec();
                let end = &self.buffer[self.read + length..self.read + length + 2];
                if end != b"\r\n" {
                    return Err(Error::other("no CRLF after a string"));
                }
                self.read += length + 2;
                Ok(Value::Bytes(line[0], bytes))
            }
            kind @ (b'*' | b'~' | b'>' | b'%' | b'|') if line[1] != b'-' => {
                let length = count(length())? as usize * if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                Ok(Value::Many(kind, (0..length).map(|_| self.reply()).collect::<Result<_>>()?))
            }
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' | b'$' | b'*' => Ok(Value::Line(line)),
            _ => Err(Error::other(format!("no reply: {}", line.escape_ascii()))),
        }
    }
}
