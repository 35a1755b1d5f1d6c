//! twemproxy's statistics port: connect, read one JSON object and a newline, done. Nothing is read from the client. The
//! port can open, move and close while the process runs.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Stats;

/// Statistics clients served at a time; more wait in the listen queue.
const CLIENTS: usize = 16;
/// A client that has not taken its answer by then is cut.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that may wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// Serves the statistics on a socket that may be replaced.
pub struct StatsServer {
    stats: Arc<Stats>,
    /// `None`: closed.
    socket: watch::Sender<Option<Arc<TcpListener>>>,
    /// Being answered.
    clients: Arc<AtomicUsize>,
}

impl StatsServer {
    /// A server without a socket.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self { stats, socket: watch::Sender::new(None), clients: Arc::default() }
    }

    /// Opens a socket for [`StatsServer::replace`]. It may take its port from `held`, the one it is to replace.
    ///
    /// # Errors
    /// With the address in the text.
    pub fn bind(address: &str, held: Option<&TcpListener>) -> io::Result<TcpListener> {
        let bound = TcpListener::bind(address).or_else(|error| match held {
            Some(held) if error.kind() == ErrorKind::AddrInUse => bind_beside(address, held, error),
            _ => Err(error),
        });
        let named = |e: io::Error| io::Error::new(e.kind(), format!("statistics: cannot listen on {address}: {e}"));
        let socket = bound.map_err(named)?;
        socket.set_nonblocking(true).map_err(named)?;
        Ok(socket)
    }

    /// Serves on this socket from now on, or on none. Whoever has connected to the one before is answered.
    pub fn replace(&self, socket: Option<TcpListener>) {
        self.socket.send_replace(socket.map(Arc::new));
    }

    /// The socket in use.
    pub fn socket(&self) -> Option<Arc<TcpListener>> {
        self.socket.borrow().clone()
    }

    /// Answers everyone who connects. Never returns.
    pub async fn run(&self) {
        let mut changes = self.socket.subscribe();
        loop {
            let socket = changes.borrow_and_update().clone();
            tokio::select! {
                () = self.serve(socket.as_deref()) => {}
                // It does not fail: the sender is ours.
                _ = changes.changed() => {}
            }
            if let Some(socket) = socket {
                self.answer_waiting(&socket);
            }
        }
    }

    /// Accepts for ever.
    async fn serve(&self, socket: Option<&TcpListener>) {
        let Some(socket) = socket else { return std::future::pending().await };
        let listener = match socket.try_clone().and_then(tokio::net::TcpListener::from_std) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the statistics port does not work");
                return std::future::pending().await;
            }
        };
        loop {
            // One client at a time is accepted while many are slow; accept errors (no descriptors left) wait likewise.
            let accepted = if self.has_room() { listener.accept().await.ok() } else { None };
            match accepted {
                Some((client, _)) => self.answer(client),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Answers those whom the kernel has let in on a socket that is about to close.
    fn answer_waiting(&self, socket: &TcpListener) {
        while self.has_room()
            && let Ok((client, _)) = socket.accept()
        {
            if let Ok(client) = client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client)) {
                self.answer(client);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.clients.load(Relaxed) < CLIENTS
    }

    fn answer(&self, mut client: TcpStream) {
        let (stats, clients) = (self.stats.clone(), self.clients.clone());
        clients.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            let text = format!("{}\n", stats.report());
            let answer = async {
                client.write_all(text.as_bytes()).await?;
                client.shutdown().await
            };
            let _ = tokio::time::timeout(PATIENCE, answer).await;
            clients.fetch_sub(1, Relaxed);
        });
    }
}

/// Binds `127.0.0.1:1` while `0.0.0.0:1` is ours, or the other way round. The kernel refuses that, unless both sockets
/// say that they share their port; they do for this moment only, so that no other process gets a part of it by mistake.
fn bind_beside(address: &str, held: &TcpListener, error: io::Error) -> io::Result<TcpListener> {
    let port = held.local_addr()?.port();
    let Some(address) = address.to_socket_addrs()?.find(|a| a.port() == port) else { return Err(error) };
    let held = SockRef::from(held);
    held.set_reuse_port(true)?;
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_reuse_port(false)?;
        Ok(socket.into())
    };
    let bound = bind();
    held.set_reuse_port(false)?;
    bound
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use serde_json::Value;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::admin::ConfigStatus;
    use crate::config;
    use crate::discovery::Names;
    use crate::io::Budget;
    use crate::local::LocalServers;
    use crate::pool::{Ground, Topology};
    use crate::telemetry::{Event, Events, What};

    /// Statistics with so many bytes of events in them.
    fn stats(bytes: usize) -> Arc<Stats> {
        let yaml = "pools:\n  a:\n    listen: 127.0.0.1:1\n    protocol: redis\n    servers: [127.0.0.1:2]\n";
        let settings = Arc::new(config::parse("test", yaml).unwrap().settings);
        let events = Arc::new(Events::new());
        let names = Names::new(Arc::new(|_| ()), None);
        let ground = Ground::new(names, LocalServers::new(), events.clone(), Arc::new(|| ()), 1);
        let topology = watch::Sender::new(Arc::new(Topology::first(settings, &ground).unwrap())).subscribe();
        let (pool, server, why) = ("a".to_owned(), "b".to_owned(), "c".repeat(bytes));
        let (at, what) = (SystemTime::now(), What::Ejected);
        events.record(Event { at, pool, server, what, why, since: None, until: None });
        let status = Arc::new(ConfigStatus::new(String::new()));
        Arc::new(Stats::new(topology, status, Arc::default(), events, Arc::new(Budget::new(1))))
    }

    /// Runs a test beside a server.
    fn beside<F: Future<Output = ()>>(bytes: usize, test: impl FnOnce(Arc<StatsServer>) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Arc::new(StatsServer::new(stats(bytes)));
            let running = server.clone();
            tokio::spawn(async move { running.run().await });
            let limit = tokio::time::timeout(Duration::from_secs(20), test(server)).await;
            limit.expect("the test took too long");
        });
    }

    /// Moves the server to a free port of this address.
    fn move_to(server: &StatsServer, address: &str) -> SocketAddr {
        let socket = StatsServer::bind(address, server.socket().as_deref()).unwrap();
        let address = socket.local_addr().unwrap();
        server.replace(Some(socket));
        address
    }

    async fn rest(client: &mut TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn assert_answers(address: SocketAddr) {
        let text = rest(&mut TcpStream::connect(address).await.unwrap()).await;
        assert!(text.ends_with("}\n"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["service"], "outrigger");
    }

    /// The old socket closes in a moment.
    async fn assert_closes(address: SocketAddr) {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn opens_moves_and_closes() {
        beside(0, |server| async move {
            let first = move_to(&server, "127.0.0.1:0");
            assert_answers(first).await;
            let second = move_to(&server, "127.0.0.1:0");
            assert_closes(first).await;
            assert_answers(second).await;
            server.replace(None);
            assert_closes(second).await;
            assert_answers(move_to(&server, "127.0.0.1:0")).await;
        });
    }

    #[test]
    fn moves_from_all_addresses_to_one_and_back_on_the_same_port() {
        beside(0, |server| async move {
            let port = move_to(&server, "0.0.0.0:0").port();
            let here = SocketAddr::from(([127, 0, 0, 1], port));
            let elsewhere = SocketAddr::from(([127, 0, 0, 2], port));
            assert_answers(elsewhere).await;
            move_to(&server, &here.to_string());
            assert_closes(elsewhere).await;
            assert_answers(here).await;
            move_to(&server, &format!("0.0.0.0:{port}"));
            assert_answers(elsewhere).await;
        });
    }

    #[test]
    fn a_client_being_answered_gets_all_of_its_answer_from_a_closed_port() {
        const MUCH: usize = 16 << 20;
        beside(MUCH, |server| async move {
            let address = move_to(&server, "127.0.0.1:0");
            let mut client = TcpStream::connect(address).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'{');
            server.replace(None);
            assert_closes(address).await;
            let text = rest(&mut client).await;
            assert!(text.len() > MUCH && text.ends_with("}\n"));
        });
    }

    #[test]
    fn a_client_that_has_connected_is_answered_although_the_port_closes() {
        beside(0, |server| async move {
            let address = move_to(&server, "127.0.0.1:0");
            // From here to the first wait for an answer the server does not run: it accepts nobody before the port closes.
            tokio::task::yield_now().await;
            let clients: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            server.replace(None);
            for client in clients {
                client.set_nonblocking(true).unwrap();
                let text = rest(&mut TcpStream::from_std(client).unwrap()).await;
                assert!(text.ends_with("}\n"), "{text}");
            }
        });
    }

    #[test]
    fn what_cannot_be_bound_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        for held in [None, Some(&other)] {
            let error = StatsServer::bind(&address.to_string(), held).unwrap_err();
            let text = format!("statistics: cannot listen on {address}: Address already in use (os error 98)");
            assert_eq!(error.to_string(), text);
        }
    }
}
