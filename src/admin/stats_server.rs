//! twemproxy's statistics port: connect, read one JSON object and a newline, done. Nothing is read from the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::l4::stream::Stream;
use tokio::io::AsyncWriteExt;

use super::Stats;
use super::port::{Port, PortSocket, Seat};
use crate::config::ListenAddress;

/// Statistics clients served at a time; more wait in the listen queue.
const CLIENTS: usize = 16;
/// A client that has not taken its answer by then is cut.
const PATIENCE: Duration = Duration::from_secs(5);
const NAME: &str = "statistics";

/// Serves the statistics on a socket that may be replaced.
pub struct StatsServer {
    stats: Arc<Stats>,
    pub port: Port,
}

impl StatsServer {
    /// A server without a socket.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self { stats, port: Port::new(NAME, CLIENTS) }
    }

    /// Opens a socket at `host:port`. It may take its port from `held`, the one it is to replace.
    ///
    /// # Errors
    /// With the address in the text.
    pub fn bind(address: &str, held: Option<&PortSocket>) -> io::Result<PortSocket> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{NAME}: {address} is no host:port"));
        Port::bind(NAME, &ListenAddress::parse(address).ok_or_else(bad)?, held)
    }

    /// Answers everyone who connects, until the port is closed for good.
    pub async fn run(&self) {
        self.port.run(|client, seat| self.answer(client, seat)).await;
    }

    fn answer(&self, mut client: Stream, seat: Seat) {
        let stats = self.stats.clone();
        tokio::spawn(async move {
            let text = format!("{}\n", stats.report());
            let answer = async {
                client.write_all(text.as_bytes()).await?;
                client.shutdown().await
            };
            let _ = tokio::time::timeout(PATIENCE, answer).await;
            drop(seat);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use serde_json::Value;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;
    use tokio::sync::watch;

    use super::*;
    use crate::admin::{ConfigStatus, Sources, Start, machine};
    use crate::config;
    use crate::discovery::Names;
    use crate::io::Budget;
    use crate::listener::Entrances;
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
        let sources = Arc::new(Sources {
            topology,
            config: Arc::new(ConfigStatus::new(String::new())),
            ready: Arc::default(),
            events,
            observer: Arc::default(),
            budget: Arc::new(Budget::new(1)),
            entrances: Entrances::default(),
            workers: Arc::default(),
            start: Start::now(),
            source: machine(),
        });
        Arc::new(Stats::new(sources))
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
        let (host, port) = address.rsplit_once(':').unwrap();
        let address = ListenAddress::Tcp { host: host.to_owned(), port: port.parse().unwrap() };
        let socket = Port::bind(NAME, &address, server.port.socket().as_deref()).unwrap();
        let address = socket.address().unwrap();
        server.port.replace(Some(socket));
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
            server.port.replace(None);
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
            server.port.replace(None);
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
            server.port.replace(None);
            for client in clients {
                client.set_nonblocking(true).unwrap();
                let text = rest(&mut TcpStream::from_std(client).unwrap()).await;
                assert!(text.ends_with("}\n"), "{text}");
            }
        });
    }

    #[test]
    fn what_cannot_be_bound_is_named() {
        let any = ListenAddress::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let (taken, other) = (Port::bind(NAME, &any, None).unwrap(), Port::bind(NAME, &any, None).unwrap());
        let address = taken.address().unwrap();
        for held in [None, Some(&other)] {
            let error = StatsServer::bind(&address.to_string(), held).err().unwrap();
            let text = format!("statistics: cannot listen on {address}: Address already in use (os error 98)");
            assert_eq!(error.to_string(), text);
            assert!(
                StatsServer::bind("nowhere", held)
                    .is_err_and(|e| e.to_string() == "statistics: nowhere is no host:port")
            );
        }
    }
}
