//! The wire between an old process and its successor: messages over a unix socket of the kind that keeps their bounds.
//!
//! ```text
//!   ┌ length of the JSON, 4 bytes ┬ JSON: a Message ┬ raw bytes ┐ + up to 200 descriptors
//! ```
//! Everything blocks, with a limit of time; this is for threads that serve no clients.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::session::carried::Carried;

/// Goes up when a process could not make out what another one says. What both must understand of every number:
/// [`Message::Hello`], [`Message::Failed`], and what is said at the door.
pub const PROTOCOL: u32 = 1;

/// Most descriptors in one message; the kernel takes 253.
pub const MOST_DESCRIPTORS: usize = 200;

/// Longest message in bytes, well below what the kernel takes at once by default (208 KiB).
const LONGEST: usize = 128 << 10;

/// Longest text about a failure, in bytes.
const LONGEST_TEXT: usize = 16 << 10;

/// For a message to be taken by a process that has others to read first.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// What two processes say to each other. Fields that are not known are passed over; those that are added need a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// At the door: have this process start its successor.
    Upgrade,
    /// At the door: the caller is the successor; what follows is the same as with one that was started.
    TakeOver,
    /// From the door: what is going on.
    Progress(String),
    /// From the door: it is done.
    Finished,

    /// The first thing that both say.
    Hello {
        protocol: u32,
        #[serde(default)]
        version: String,
        #[serde(default)]
        pid: u32,
    },
    /// Listening sockets, a descriptor each.
    Sockets { addresses: Vec<String> },
    /// Those were all of them.
    Begin {
        sockets: usize,
        #[serde(flatten)]
        estate: Estate,
    },
    /// The successor could serve; `room` is the number of sessions it can take.
    Ready { pid: u32, room: u64 },
    /// It shall.
    Go,
    /// It accepts clients.
    Serving,
    /// A session, with its socket and its input.
    Session(Carried),
    /// `sessions` were sent, `left` stay with the old process until they end.
    Done { sessions: u64, left: u64 },
    /// It will not work, and why.
    Failed { why: String },
}

/// What the old process knows that the next one would have to find out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Estate {
    /// Number of the last client that was let in.
    pub last_client: u64,
    /// Servers that get no traffic, [`MOST_EJECTED`] at the most.
    pub ejected: Vec<Ejected>,
    /// All pools that its sessions may be of; empty if they are too many for one message.
    pub pools: Vec<KnownPool>,
}

/// A pool, by which the next process tells its sessions and servers from those of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPool {
    pub protocol: String,
    pub name: String,
    pub listen: String,
}

/// More than that do not go into one message; the others are found out by their failures.
pub const MOST_EJECTED: usize = 200;

/// A server that gets no traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ejected {
    pub pool: String,
    /// Its ring name, and where it is.
    pub server: String,
    pub address: String,
    pub why: String,
    /// An operator wants it so for as many milliseconds more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand_for: Option<u64>,
}

impl Message {
    pub fn hello() -> Self {
        Self::Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
    }

    pub fn failed(why: &str) -> Self {
        let end = (0..=why.len().min(LONGEST_TEXT)).rev().find(|end| why.is_char_boundary(*end));
        Self::Failed { why: why[..end.unwrap_or(0)].to_owned() }
    }
}

/// A message as it came.
#[derive(Debug)]
pub struct Received {
    pub message: Message,
    pub raw: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

/// One end of the wire. Messages sent by several threads at once stay whole.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// Of [`LONGEST`] bytes once something was received.
    buffer: Vec<u8>,
}

impl Wire {
    /// Two ends.
    ///
    /// # Errors
    /// When no socket can be made.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(one)?, other))
    }

    /// # Errors
    /// When this is no socket that keeps the bounds of messages.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        if socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a SOCK_SEQPACKET socket"));
        }
        set_socket_timeout(&socket, Timeout::Send, Some(SEND_LIMIT))?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// Connects a socket that is not connected yet.
    ///
    /// # Errors
    /// Of the socket.
    pub fn connect(&self, address: &SocketAddrUnix) -> Result<(), Errno> {
        connect(&self.socket, address)
    }

    /// Another descriptor of this end.
    ///
    /// # Errors
    /// When there are none left.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// A message that is nothing but itself.
    ///
    /// # Errors
    /// When the other end has gone, or takes nothing for 10 s.
    pub fn say(&self, message: &Message) -> io::Result<()> {
        self.send(message, &[], &[])
    }

    /// # Errors
    /// When the other end has gone, or takes nothing for 10 s; when the message is too long.
    pub fn send(&self, message: &impl Serialize, raw: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        if 4 + json.len() + raw.len() > LONGEST || descriptors.len() > MOST_DESCRIPTORS {
            return Err(io::Error::new(ErrorKind::InvalidInput, "too much for one message"));
        }
        let length = (json.len() as u32).to_le_bytes();
        let parts = [IoSlice::new(&length), IoSlice::new(&json), IoSlice::new(raw)];
        let deadline = Instant::now() + SEND_LIMIT;
        loop {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            match sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                // As many descriptors are under way as a process may have open.
                Err(Errno::TOOMANYREFS) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
                Err(Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next message; `None`: the other end has gone. Without `until` it waits for as long as the other end is there.
    ///
    /// # Errors
    /// Late, of the socket, when it is no message (`InvalidData`), or when this process has no room for its descriptors
    /// (`QuotaExceeded`). After the last two the next message can be read.
    pub fn receive(&mut self, until: Option<Instant>) -> io::Result<Option<Received>> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        self.buffer.resize(LONGEST, 0);
        let received = loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ErrorKind::TimedOut.into());
            }
            set_socket_timeout(&self.socket, Timeout::Recv, left)?;
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            match recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                // CONNRESET: the other end was closed with messages unread. It is said once, before what it sent last can
                // be read.
                Err(Errno::INTR | Errno::AGAIN | Errno::CONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = message {
                descriptors.extend(sent);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::new(ErrorKind::QuotaExceeded, "this process may not open more files"));
        }
        match self.buffer.get(..received.bytes) {
            Some([]) => Ok(None),
            Some(bytes) if !received.flags.contains(ReturnFlags::TRUNC) => read(bytes, descriptors).map(Some),
            _ => Err(no_message("it is too long")),
        }
    }

    /// Who made the other end: of a connection, the process that listens or connects; of a pair, the one that made both.
    ///
    /// # Errors
    /// Of the socket.
    pub fn peer(&self) -> io::Result<Peer> {
        Peer::of(self.socket.as_fd())
    }
}

fn read(bytes: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<Received> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| no_message("it is too short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (json, raw) = rest.split_at_checked(length).ok_or_else(|| no_message("it is too short"))?;
    let message = serde_json::from_slice(json).map_err(|error| no_message(&error.to_string()))?;
    Ok(Received { message, raw: raw.to_vec(), descriptors })
}

fn no_message(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not a message of an upgrade: {why}"))
}

/// The process at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// 0: it cannot be seen from here, that is, it is in another container.
    pub pid: u32,
    pub uid: u32,
}

impl Peer {
    /// Not by rustix, which has no word for a process that cannot be seen.
    fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, the size of what `found` points to, and any bytes are a `ucred`.
        let result = unsafe {
            let found = (&raw mut found).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, found, &raw mut length)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { pid: found.pid.cast_unsigned(), uid: found.uid })
    }

    /// Whether it may have this process do something: it is seen, and belongs to the same user, or to root.
    pub fn is_trusted(&self) -> bool {
        self.pid != 0 && (self.uid == 0 || self.uid == rustix::process::geteuid().as_raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Wire, Wire) {
        let (one, other) = Wire::pair().unwrap();
        (one, Wire::new(other).unwrap())
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(10))
    }

    fn kind(result: io::Result<Option<Received>>) -> ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn messages_stay_apart_and_bring_their_descriptors() {
        let (one, mut other) = pair();
        let files: Vec<OwnedFd> =
            (0..MOST_DESCRIPTORS).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        let all: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let sockets = Message::Sockets { addresses: vec!["a".into()] };
        one.send(&sockets, b"raw \0 bytes", &all).unwrap();
        one.say(&Message::Go).unwrap();
        let first = other.receive(soon()).unwrap().unwrap();
        assert_eq!((first.message, &first.raw[..], first.descriptors.len()), (sockets, &b"raw \0 bytes"[..], 200));
        for descriptor in &first.descriptors {
            assert_eq!(rustix::io::fcntl_getfd(descriptor).unwrap(), rustix::io::FdFlags::CLOEXEC);
        }
        let second = other.receive(soon()).unwrap().unwrap();
        assert_eq!((second.message, second.raw, second.descriptors.len()), (Message::Go, Vec::new(), 0));
        drop(one);
        assert!(other.receive(soon()).unwrap().is_none());
    }

    #[test]
    fn what_is_too_much_for_a_message_is_not_sent() {
        let (one, mut other) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(one.send(&Message::Go, &[0; LONGEST], &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
        let many = [null.as_fd(); MOST_DESCRIPTORS + 1];
        assert_eq!(one.send(&Message::Go, &[], &many).unwrap_err().kind(), ErrorKind::InvalidInput);
        let longest = LONGEST - 4 - r#""Go""#.len();
        one.send(&Message::Go, &vec![7; longest], &[]).unwrap();
        assert_eq!(other.receive(soon()).unwrap().unwrap().raw, vec![7; longest]);
        // Of a failure as much is said as fits, in whole characters.
        let why = "ä".repeat(LONGEST);
        one.say(&Message::failed(&format!("x{why}"))).unwrap();
        let Message::Failed { why } = other.receive(soon()).unwrap().unwrap().message else { panic!() };
        assert_eq!(why.len(), LONGEST_TEXT - 1);
    }

    #[test]
    fn what_is_no_message_is_told_apart_and_the_next_one_is_read() {
        let (one, other) = Wire::pair().unwrap();
        let (mut one, null) = (one, std::fs::File::open("/dev/null").unwrap());
        let send = |bytes: &[u8]| rustix::net::send(&other, bytes, SendFlags::empty()).unwrap();
        for bytes in [&b"x"[..], b"\xff\xff\xff\xff{}", b"\x02\0\0\0{}", b"\x06\0\0\0\"What\"", &[b' '; LONGEST + 1]] {
            send(bytes);
            assert_eq!(kind(one.receive(soon())), ErrorKind::InvalidData);
        }
        // More descriptors than are ever sent.
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(250))];
        let (many, mut control) = ([null.as_fd(); 250], SendAncillaryBuffer::new(&mut space));
        control.push(SendAncillaryMessage::ScmRights(&many));
        sendmsg(&other, &[IoSlice::new(b"\x04\0\0\0\"Go\"")], &mut control, SendFlags::empty()).unwrap();
        assert_eq!(kind(one.receive(soon())), ErrorKind::QuotaExceeded);
        send(b"\x04\0\0\0\"Go\"");
        assert_eq!(one.receive(soon()).unwrap().unwrap().message, Message::Go);
    }

    #[test]
    fn what_was_said_last_is_heard_from_one_that_left_without_reading() {
        let (one, mut other) = pair();
        other.say(&Message::Go).unwrap();
        one.say(&Message::Serving).unwrap();
        drop(one);
        assert_eq!(other.receive(soon()).unwrap().unwrap().message, Message::Serving);
        assert!(other.receive(soon()).unwrap().is_none());
        assert_eq!(other.say(&Message::Go).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_silent_end_is_waited_for_no_longer_than_said() {
        let (_one, mut other) = pair();
        let start = Instant::now();
        assert_eq!(kind(other.receive(Some(start + Duration::from_millis(50)))), ErrorKind::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(50) && start.elapsed() < Duration::from_secs(5));
        assert_eq!(kind(other.receive(Some(start))), ErrorKind::TimedOut);
    }

    #[test]
    fn only_a_socket_that_keeps_bounds_is_a_wire() {
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(Wire::new(stream.into()).unwrap_err().kind(), ErrorKind::InvalidInput);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Wire::new(file.into()).is_err());
    }

    #[test]
    fn trust_is_for_those_who_are_seen_and_of_the_same_user() {
        let own = pair().0.peer().unwrap();
        assert_eq!(own, Peer { pid: std::process::id(), uid: rustix::process::geteuid().as_raw() });
        assert!(own.is_trusted() && Peer { uid: 0, ..own }.is_trusted());
        assert!(!Peer { pid: 0, ..own }.is_trusted() && !Peer { uid: own.uid + 1, ..own }.is_trusted());
    }
}
