//! A client that keeps replies as bytes, and real servers on unix sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection. Writes happen on another thread, so that a large pipeline cannot block both ends.
pub struct Client {
    input: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { input: BufReader::new(socket) }
    }

    pub fn send(&self, requests: Vec<u8>) {
        let mut socket = self.input.get_ref().try_clone().unwrap();
        thread::spawn(move || socket.write_all(&requests));
    }

    pub fn redis(&mut self, request: &[u8]) -> Vec<u8> {
        self.send(request.to_vec());
        self.redis_reply()
    }

    /// The bytes of one RESP2 reply.
    pub fn redis_reply(&mut self) -> Vec<u8> {
        let mut reply = self.line();
        let count = || std::str::from_utf8(&reply[1..reply.len() - 2]).ok().and_then(|n| n.parse::<usize>().ok());
        match (reply[0], count()) {
            (b'$', Some(len)) => reply.extend(self.bytes(len + 2)),
            (b'*', Some(elements)) => (0..elements).for_each(|_| reply.extend(self.redis_reply())),
            _ => {}
        }
        reply
    }

    /// One line, its end included.
    pub fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line).unwrap();
        assert!(line.ends_with(b"\r\n"), "connection closed after {:?}", line.escape_ascii().to_string());
        line
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.input.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// One request as an array of bulk strings.
pub fn resp<T: AsRef<[u8]>>(arguments: &[T]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments.iter().map(AsRef::as_ref) {
        request.extend(format!("${}\r\n", argument.len()).into_bytes());
        request.extend_from_slice(argument);
        request.extend(b"\r\n");
    }
    request
}

/// A real server; stopped and removed when dropped.
pub struct RealServer {
    process: Child,
    directory: TempDir,
}

impl RealServer {
    /// `None`, with a message, where the program is not installed.
    pub fn redis() -> Option<Self> {
        Self::start("redis-server", &["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
    }

    /// On one thread and without the ones in the background: while another thread has an item in hand, `decr` does not
    /// pad its value.
    pub fn memcached() -> Option<Self> {
        let background = "no_lru_maintainer,no_lru_crawler,no_hashexpand";
        Self::start("memcached", &["-u", "root", "-U", "0", "-t", "1", "-o", background, "-s"])
    }

    fn start(program: &str, arguments: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let socket = directory.path().join("s");
        let spawned = Command::new(program)
            .args(arguments)
            .arg(&socket)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = spawned else {
            eprintln!("SKIPPED: {program} is not installed, so nothing was compared with it");
            return None;
        };
        let server = Self { process, directory };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "{program} does not listen on {}", socket.display());
            thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }

    pub fn address(&self) -> PathBuf {
        self.directory.path().join("s")
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
