//! Scripted servers: each connection is handed to a function of the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A server that does what the test says. Connections are closed when their function returns.
pub struct Fake {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Fake {
    /// `serve` gets each connection with its number, from 0.
    pub fn start(serve: impl Fn(usize, &mut Talk) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (open, serve) = (Arc::new(Mutex::new(Vec::new())), Arc::new(serve));
        let acceptor = {
            let (stop, accepted, open) = (stop.clone(), accepted.clone(), open.clone());
            thread::spawn(move || {
                for socket in listener.incoming() {
                    if stop.load(SeqCst) {
                        return;
                    }
                    let Ok(socket) = socket else { continue };
                    let number = accepted.fetch_add(1, SeqCst);
                    open.lock().unwrap().push(socket.try_clone().unwrap());
                    let serve = serve.clone();
                    thread::spawn(move || {
                        let mut talk = Talk::new(socket);
                        serve(number, &mut talk);
                        let _ = talk.input.get_ref().shutdown(Shutdown::Both);
                    });
                }
            })
        };
        Self { address, stop, accepted, open, acceptor: Some(acceptor) }
    }

    /// As it stands in a list of servers.
    pub fn entry(&self) -> String {
        format!("{}:1", self.address)
    }

    /// The name that messages give it.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Closes every connection.
    pub fn hang_up(&self) {
        for socket in self.open.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        for socket in self.open.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// One connection, seen from the fake.
pub struct Talk {
    input: BufReader<TcpStream>,
}

impl Talk {
    fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        Self { input: BufReader::new(socket) }
    }

    /// The next line without its end; `None` once the proxy has closed.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.input.read_line(&mut line).ok()?;
        Some(line.strip_suffix("\r\n")?.to_owned())
    }

    /// The next Redis request, its arguments joined by spaces; `None` once the proxy has closed.
    pub fn request(&mut self) -> Option<String> {
        let count: usize = self.line()?.strip_prefix('*')?.parse().ok()?;
        let mut arguments = Vec::new();
        for _ in 0..count {
            let length: usize = self.line()?.strip_prefix('$')?.parse().ok()?;
            let mut argument = vec![0; length + 2];
            self.input.read_exact(&mut argument).ok()?;
            arguments.push(String::from_utf8_lossy(&argument[..length]).into_owned());
        }
        Some(arguments.join(" "))
    }

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.input.get_mut().write_all(bytes.as_ref());
    }

    /// Says nothing until the proxy closes.
    pub fn stall(&mut self) {
        let _ = std::io::copy(&mut self.input, &mut std::io::sink());
    }

    /// Serves like a Redis that holds nothing: every `GET key` answers the key.
    pub fn echo(&mut self) {
        while let Some(request) = self.request() {
            let key = request.split(' ').nth(1).unwrap_or_default().to_owned();
            self.say(format!("${}\r\n{key}\r\n", key.len()));
        }
    }
}
