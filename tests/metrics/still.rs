//! A proxy that stands still: pools, servers and workers without sockets, every counter in use, for what is read of them.

use std::sync::Arc;

use outrigger::admin::{ConfigStatus, Sources, Start, machine};
use outrigger::config;
use outrigger::discovery::Names;
use outrigger::listener::Entrances;
use outrigger::local::LocalServers;
use outrigger::pool::{Ground, Topology};
use outrigger::session::Common;
use outrigger::telemetry::{Events, Latency};
use outrigger::worker::{Plan, Worker};
use tokio::sync::watch;

const WORKERS: usize = 2;

/// A running process, as far as it can be asked for numbers.
pub struct Still {
    pub sources: Arc<Sources>,
    /// They end with this.
    _workers: Vec<Worker>,
}

/// `pools` pools of `servers` servers each.
pub fn configuration(pools: usize, servers: usize) -> String {
    let server = |n: usize| format!("      - 10.0.{}.{}:6379 cache-{n:03}\n", n / 250, n % 250 + 1);
    let servers: String = (0..servers).map(server).collect();
    let pool = |n: usize| format!("  pool-{n:02}:\n    listen: 127.0.0.1:{}\n    servers:\n{servers}", 20000 + n);
    format!("pools:\n{}", (0..pools).map(pool).collect::<String>())
}

impl Still {
    pub fn with(yaml: &str) -> Self {
        let settings = Arc::new(config::parse("still", yaml).expect("a valid configuration").settings);
        let events = Arc::new(Events::new());
        let names = Names::new(Arc::new(|_| ()), None);
        let ground = Ground::new(names, LocalServers::new(), events.clone(), Arc::new(|| ()), WORKERS);
        let topology = Arc::new(Topology::first(settings.clone(), &ground).expect("a topology"));
        fill(&topology);
        let common = Common::new(&settings, None);
        let worker = |index| {
            let plan = Plan { topology: topology.clone(), common: common.clone() };
            Worker::start(index, plan).expect("a worker").0
        };
        let workers: Vec<Worker> = (0..WORKERS).map(worker).collect();
        let sources = Arc::new(Sources {
            topology: watch::Sender::new(topology).subscribe(),
            config: Arc::new(ConfigStatus::new("0123456789abcdef".to_owned())),
            ready: Arc::new(true.into()),
            events,
            observer: ground.observer.clone(),
            budget: common.budget.clone(),
            entrances: Entrances::default(),
            workers: Arc::new(workers.iter().map(Worker::vitals).collect::<Vec<_>>().into()),
            start: Start::now(),
            source: machine(),
        });
        Self { sources, _workers: workers }
    }
}

/// Large numbers are longer to write.
fn fill(topology: &Topology) {
    for cells in topology.pools.iter().flat_map(|pool| &pool.cells) {
        cells.client_connections_total.add(123_456);
        [&cells.request_bytes, &cells.response_bytes].into_iter().for_each(|count| count.add(123_456_789_012));
        for outcomes in &cells.requests {
            outcomes.all().for_each(|(outcome, _)| outcomes.of(outcome).add(1_234_567_890));
        }
        cells.latency.iter().for_each(record);
    }
    for cells in topology.pools.iter().flat_map(|pool| &pool.servers).flat_map(|server| &server.cells) {
        [&cells.requests, &cells.responses].into_iter().for_each(|count| count.add(1_234_567_890));
        [&cells.request_bytes, &cells.response_bytes].into_iter().for_each(|count| count.add(123_456_789_012));
        [&cells.latency, &cells.queue_latency].into_iter().for_each(record);
    }
}

fn record(latency: &Latency) {
    (0..32).for_each(|bit| (0..100).for_each(|_| latency.record(1 << bit)));
}
