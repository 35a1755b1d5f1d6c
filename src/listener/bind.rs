//! Sockets that listen: made, found in another's way, cleaned up after.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pingora_core::protocols::l4::ext::get_tcp_info;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, SockAddr, Socket as RawSocket, Type};

use super::Wanted;
use crate::config::ListenAddress;
use crate::worker::Socket;

/// A `listen` value whose name is resolved.
#[derive(Debug)]
pub enum Place {
    Tcp(SocketAddr),
    /// Path and permissions.
    Unix(PathBuf, Option<u32>),
}

/// A socket that listens. Dropping it closes it; before that its file goes, if it has one.
#[derive(Debug)]
pub struct Bound {
    file: Option<SocketFile>,
    socket: RawSocket,
    /// `None`: not known.
    backlog: Option<u32>,
    /// Where it is bound; `None`: a unix socket.
    address: Option<SocketAddr>,
}

impl Place {
    /// Every place that it may mean: a name can have several addresses. Blocks for a name.
    pub fn all(listen: &ListenAddress) -> io::Result<Vec<Self>> {
        match listen {
            ListenAddress::Unix { path, mode } => Ok(vec![Self::Unix(path.clone(), *mode)]),
            ListenAddress::Tcp { host, port } => Ok((host.as_str(), *port).to_socket_addrs()?.map(Self::Tcp).collect()),
        }
    }

    pub(super) fn resolve(wanted: &Wanted) -> io::Result<Self> {
        match (&wanted.listen, &wanted.resolved) {
            (ListenAddress::Unix { path, mode }, _) => Ok(Self::Unix(path.clone(), *mode)),
            (_, Some(resolved)) => resolved.clone().map(Self::Tcp).map_err(io::Error::other),
            (ListenAddress::Tcp { host, port }, None) => resolve(host, *port).map(Self::Tcp),
        }
    }
}

/// The first address of a name.
pub fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let none = || io::Error::new(ErrorKind::NotFound, "the name has no address");
    (host, port).to_socket_addrs()?.next().ok_or_else(none)
}

impl Bound {
    /// Binds and listens.
    pub fn new(place: &Place, backlog: u32) -> io::Result<Self> {
        let (file, socket, address) = match place {
            Place::Tcp(address) => {
                let socket = listen(tcp_socket(*address)?, &(*address).into(), backlog)?;
                let address = bound_to(&socket);
                (None, socket, address)
            }
            Place::Unix(path, mode) => {
                let (file, socket) = bind_unix(path, *mode, backlog)?;
                (Some(file), socket, None)
            }
        };
        Ok(Self { file, socket, backlog: Some(backlog), address })
    }

    /// Binds where `others` are in the way that will close. It does not listen yet, so that clients still come to them.
    pub fn over(address: SocketAddr, others: &[RawSocket]) -> io::Result<Self> {
        let socket = tcp_socket(address)?;
        share_port(&socket, others, || socket.bind(&address.into()))?;
        socket.set_nonblocking(true)?;
        Ok(Self { file: None, socket, backlog: None, address: Some(address) })
    }

    /// Clients that wait to be accepted, and how many may. `None`: a unix socket, of which the system does not say it.
    pub fn queue(&self) -> Option<(u32, u32)> {
        self.address?;
        // Of a socket that listens these two fields are its queue and the length of that.
        let info = get_tcp_info(self.socket.as_raw_fd()).ok()?;
        Some((info.tcpi_unacked, info.tcpi_sacked))
    }

    /// Has one that is bound over `others` listen: for clients it takes their place.
    pub fn listen_over(&mut self, backlog: u32, others: &[RawSocket]) -> io::Result<()> {
        self.backlog = Some(backlog);
        share_port(&self.socket, others, || self.socket.listen(capped(backlog)))
    }

    /// A socket that another process has bound, a unix socket to `path`. `None`: its file is gone, nobody can reach it.
    pub fn adopt(socket: RawSocket, path: Option<&Path>) -> Option<Self> {
        socket.set_nonblocking(true).ok()?;
        let file = path.map(|path| SocketFile::find(path, false)).transpose().ok()?;
        let address = bound_to(&socket);
        Some(Self { file, socket, backlog: None, address })
    }

    /// Where it is bound; `None`: a unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The next client that waits.
    pub fn accept(&self) -> io::Result<Socket> {
        let client = accept_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        Ok(if self.address.is_some() { Socket::Tcp(client.into()) } else { Socket::Unix(client.into()) })
    }

    /// Has the kernel go by what is wanted now. From here on the file of the socket is this process's to remove.
    pub fn refit(&mut self, listen: &ListenAddress, backlog: u32) -> io::Result<()> {
        if self.backlog != Some(backlog) {
            self.backlog = Some(backlog);
            self.socket.listen(capped(backlog))?;
        }
        match (&mut self.file, listen) {
            (Some(file), ListenAddress::Unix { path, mode }) => file.refit(path, *mode),
            _ => Ok(()),
        }
    }

    /// Clients can still reach it by its address.
    pub fn is_reachable(&self) -> bool {
        self.file.as_ref().is_none_or(SocketFile::is_ours)
    }

    /// Clients reach it at this place.
    pub fn is_at(&self, place: &Place) -> bool {
        match place {
            Place::Tcp(address) => self.address == Some(*address),
            Place::Unix(path, _) => {
                let file = fs::symlink_metadata(path);
                self.file.as_ref().is_some_and(|own| file.is_ok_and(|file| own.is(&file)))
            }
        }
    }

    pub fn duplicate(&self) -> io::Result<RawSocket> {
        self.socket.try_clone()
    }

    /// Its file is removed, or left to another process.
    pub fn give_up_file(&mut self, keep: bool) {
        if let Some(mut file) = self.file.take() {
            file.ours_to_remove &= !keep;
        }
    }

    /// No new client comes here any more: the next one is refused, or comes to another socket that fits. Those who are just
    /// being connected still come, which closing the socket would not let them. Fails where the kernel does not know it.
    pub fn step_aside(&mut self) -> io::Result<()> {
        self.give_up_file(false);
        match self.address {
            // As if it were for the clients of one network interface, which there is not.
            Some(_) => self.socket.bind_device_by_index_v4(NonZeroU32::new(i32::MAX.unsigned_abs())),
            None => Ok(()),
        }
    }

    pub fn backlog(&self) -> u32 {
        self.backlog.unwrap_or(0)
    }
}

impl AsRawFd for Bound {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Where a TCP socket is bound.
pub(super) fn bound_to(socket: &RawSocket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

/// There is no binding to both. `::` means IPv4, too.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers =
        |wide: SocketAddr, narrow: SocketAddr| wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
    one.port() == other.port() && (one == other || covers(one, other) || covers(other, one))
}

/// What `listen(2)` takes.
fn capped(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// For a moment all of these agree to share their port, which the kernel asks of each. Afterwards a second proxy that is
/// started there by mistake fails again, as it should.
fn share_port<T>(new: &RawSocket, others: &[RawSocket], work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let set_all = |on| others.iter().chain([new]).try_for_each(|socket| socket.set_reuse_port(on));
    let result = set_all(true).and_then(|()| work());
    set_all(false)?;
    result
}

fn tcp_socket(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `::` means every address, as users of twemproxy and Redis expect.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn bind_unix(path: &Path, mode: Option<u32>, backlog: u32) -> io::Result<(SocketFile, RawSocket)> {
    remove_stale(path)?;
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(mode) = mode {
        // The file is made with these, less the umask: at no time may more than wanted come in.
        rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
    }
    let socket = listen(socket, &SockAddr::unix(path)?, backlog)?;
    let mut file = SocketFile::find(path, true)?;
    file.refit(path, mode)?;
    Ok((file, socket))
}

fn listen(socket: RawSocket, address: &SockAddr, backlog: u32) -> io::Result<RawSocket> {
    socket.bind(address)?;
    socket.listen(capped(backlog))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Removes what a process that is gone has left; nothing that somebody uses.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "the file exists and is not a socket"));
        }
        found => found?,
    };
    let caller = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    caller.set_nonblocking(true)?;
    match caller.connect(&SockAddr::unix(path)?) {
        // That it would block says that its queue is full.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "another process accepts clients there")),
    }
}

/// The file of a unix socket; removed on drop if it is this process's to remove. As long as the socket is open, no other
/// file has its number.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    number: (u64, u64),
    /// The permissions that were asked for last.
    mode: Option<u32>,
    ours_to_remove: bool,
}

impl SocketFile {
    fn find(path: &Path, ours_to_remove: bool) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), number: (file.dev(), file.ino()), mode: None, ours_to_remove })
    }

    fn is(&self, file: &Metadata) -> bool {
        (file.dev(), file.ino()) == self.number
    }

    /// Nobody has removed or replaced it.
    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| self.is(&file))
    }

    /// Known by this path, with these permissions; `None`: those of any file that this process makes.
    fn refit(&mut self, path: &Path, mode: Option<u32>) -> io::Result<()> {
        self.path = path.to_owned();
        self.ours_to_remove = true;
        let changed = std::mem::replace(&mut self.mode, mode) != mode;
        match mode.or_else(default_mode) {
            Some(bits) if changed && self.is_ours() => fs::set_permissions(path, Permissions::from_mode(bits)),
            _ => Ok(()),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours_to_remove && self.is_ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What the umask leaves of 0777; the kernel tells it without changing it only here.
fn default_mode() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok().map(|mask| 0o777 & !mask)
}
