//! Clients that have nothing to do with the trouble: how long they wait, and how long others wait past the proxy.

use super::*;

/// Clients that read what they ask for, with small values, one request at a time; each checks every reply and how long
/// it took.
pub struct Bystanders {
    stop: Arc<AtomicBool>,
    /// Pairs of requests so far, of all of them.
    rounds: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<Vec<Duration>>>,
}

/// So many say what the slowest of a hundred is like.
const ENOUGH: usize = 200;

impl Bystanders {
    pub fn start(count: usize, dialect: Dialect, address: &Address) -> Self {
        Self::named("bystander", count, dialect, address)
    }

    fn named(name: &'static str, count: usize, dialect: Dialect, address: &Address) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |number: usize| {
            let (stop, rounds, mut client) = (stop.clone(), rounds.clone(), address.connect().unwrap());
            thread::spawn(move || {
                let mut took = Vec::new();
                for round in 0.. {
                    let (key, value) = (format!("{name}{number}"), format!("{number}:{round}"));
                    let asked = Instant::now();
                    client.exchange(set(dialect, &key, &value), stored(dialect));
                    client.exchange(get(dialect, &key), found(dialect, &key, &value));
                    took.push(asked.elapsed() / 2);
                    rounds.fetch_add(1, SeqCst);
                    if stop.load(SeqCst) {
                        break;
                    }
                    thread::park_timeout(Duration::from_millis(1));
                }
                took
            })
        };
        Self { clients: (0..count).map(start).collect(), rounds, stop }
    }

    /// Ends them once they have asked enough; how long 99 of 100 requests took at the most.
    pub fn p99(self) -> Duration {
        eventually("enough requests", || (self.rounds.load(SeqCst) >= ENOUGH).then_some(()));
        let all = self.end();
        all[all.len() * 99 / 100]
    }

    /// Ends them; how long their requests took, the shortest time first.
    fn end(self) -> Vec<Duration> {
        self.stop.store(true, SeqCst);
        let mut all: Vec<Duration> = self.clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
        all.sort();
        all
    }

    /// Ends them: each had its own replies and no error. How long they waited is not judged, as the crowd takes what the machine
    /// has.
    pub fn served(self) {
        let all = self.end();
        println!("{} pairs of requests beside, the slowest in {:?}", all.len(), all.last().expect("one at least"));
    }

    /// The p99 of some time without a cause for more.
    pub fn usual(dialect: Dialect, address: &Address) -> Duration {
        let bystanders = Self::start(4, dialect, address);
        thread::sleep(Duration::from_millis(500));
        bystanders.p99()
    }
}

/// Clients of the proxy, and as many who ask the server past it: they tell what the machine and the server have to do with it.
pub struct Watched {
    usual: Duration,
    clients: Bystanders,
    control: Bystanders,
}

impl Watched {
    pub fn start(usual: Duration, dialect: Dialect, proxy: &Outrigger, server: &Server) -> Self {
        let clients = Bystanders::start(4, dialect, &proxy.address_of(0));
        let control = Bystanders::named("control", 4, dialect, &Address::Tcp(server.socket_address()));
        Self { usual, clients, control }
    }

    /// Whether the proxy made them wait.
    pub fn judge(self) -> Result<(), String> {
        let Self { usual, clients, control } = self;
        let (p99, control) = (clients.p99(), control.p99());
        if p99 <= usual.max(control) * 10 + Duration::from_millis(20) {
            return Ok(());
        }
        Err(format!("p99 {p99:?}, usually {usual:?}, past the proxy {control:?}"))
    }
}

/// What is judged by time must hold once in three times: others use the machine as well. The rest must hold each time.
pub fn once_in_three(what: impl Fn() -> Result<(), String>) {
    let failed: Vec<String> = (0..3).map_while(|_| what().err()).collect();
    assert!(failed.len() < 3, "{failed:#?}");
}
