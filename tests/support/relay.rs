//! A relay in front of a server, which delays, withholds and cuts what passes, each way by itself.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is wrong with one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Everything comes so much later.
    Delay(Duration),
    /// The relay reads nothing.
    Deaf,
    /// After so many bytes nothing more comes on this connection, ever.
    Silence(usize),
    /// After so many bytes the connection is closed.
    Close(usize),
    /// After so many bytes the connection is reset.
    Reset(usize),
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    ForServer,
    ForProxy,
}

pub struct Relay {
    address: SocketAddr,
    troubles: [Arc<Mutex<Trouble>>; 2],
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Relay {
    pub fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let troubles = [(); 2].map(|()| Arc::new(Mutex::new(Trouble::None)));
        let (stop, open) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let acceptor = {
            let (troubles, stop, open) = (troubles.clone(), stop.clone(), open.clone());
            thread::spawn(move || {
                for proxy in listener.incoming() {
                    if stop.load(SeqCst) {
                        return;
                    }
                    let (Ok(proxy), Ok(server)) = (proxy, TcpStream::connect(server)) else { continue };
                    for socket in [&proxy, &server] {
                        let _ = socket.set_nodelay(true);
                        open.lock().unwrap().extend(socket.try_clone());
                    }
                    let [for_server, for_proxy] = &troubles;
                    pass_on(&proxy, &server, for_server);
                    pass_on(&server, &proxy, for_proxy);
                }
            })
        };
        Self { address, troubles, stop, open, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All connections, at once and on both ends; new ones may be made.
    pub fn reset(&self) {
        for socket in self.open.lock().unwrap().drain(..) {
            let _ = rustix::net::connect_unspec(&socket);
        }
    }

    /// From now on, on all connections.
    pub fn trouble(&self, bound: Bound, trouble: Trouble) {
        *self.troubles[bound as usize].lock().unwrap() = trouble;
    }
}

impl Drop for Relay {
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

/// What was read, and when it is due.
type Chunk = (Instant, Vec<u8>);

fn pass_on(from: &TcpStream, to: &TcpStream, trouble: &Arc<Mutex<Trouble>>) {
    let (Ok(from), Ok(to), Ok(source)) = (from.try_clone(), to.try_clone(), from.try_clone()) else { return };
    let (chunks, due) = channel::<Chunk>();
    let (reading, writing) = (trouble.clone(), trouble.clone());
    thread::spawn(move || read(from, &reading, &chunks));
    thread::spawn(move || {
        write(&to, &source, &writing, &due);
        let _ = (source.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

fn read(mut from: TcpStream, trouble: &Mutex<Trouble>, chunks: &Sender<Chunk>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if *trouble.lock().unwrap() == Trouble::Deaf {
            thread::park_timeout(Duration::from_millis(5));
            continue;
        }
        let Ok(count @ 1..) = from.read(&mut buffer) else { return };
        let delay = match *trouble.lock().unwrap() {
            Trouble::Delay(delay) => delay,
            _ => Duration::ZERO,
        };
        if chunks.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

/// Until the connection is closed, or its trouble ends it.
fn write(mut to: &TcpStream, source: &TcpStream, trouble: &Mutex<Trouble>, due: &Receiver<Chunk>) {
    // What this connection may still pass; counted down while it is in trouble.
    let mut left = None;
    for (at, bytes) in due {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let now = *trouble.lock().unwrap();
        left = match now {
            Trouble::Silence(after) | Trouble::Close(after) | Trouble::Reset(after) => left.or(Some(after)),
            // Once silent it stays silent.
            _ => left.filter(|left| *left == 0),
        };
        let passes = bytes.len().min(left.unwrap_or(usize::MAX));
        if to.write_all(&bytes[..passes]).is_err() {
            return;
        }
        left = left.map(|left| left - passes);
        if left != Some(0) {
            continue;
        }
        match now {
            Trouble::Close(_) => return,
            Trouble::Reset(_) => {
                // Resets at once, whoever else holds the socket.
                let _ = [to, source].map(rustix::net::connect_unspec);
                return;
            }
            _ => {}
        }
    }
}
