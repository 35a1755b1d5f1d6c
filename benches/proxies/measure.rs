//! The runs: rounds of rows, the count of system calls, and the idle connections.

use std::path::Path;
use std::time::Duration;

use crate::args::{Args, Pinning, Selection};
use crate::contender::{Contender, Servers};
use crate::load::{Load, Pace};
use crate::sys::Result;
use crate::syscalls::{COLUMNS, Tracepoints};
use crate::workload::{Protocol, Scenario};

/// Time for a proxy to fall asleep, so that its CPU clock is exact.
const SETTLE: Duration = Duration::from_millis(2);

/// Everything of one protocol that runs, in the order in which it must end: proxies before servers.
pub struct Field {
    pub protocol: Protocol,
    contenders: Vec<Contender>,
    servers: Servers,
}

/// One contender in one row in one round. Times in µs, memory in bytes.
#[derive(Debug, Clone)]
pub struct Measurement {
    pub scenario: Scenario,
    pub protocol: Protocol,
    pub contender: String,
    pub round: usize,
    pub ops: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// CPU of the proxy per request; `None` without a proxy, as is `rss`.
    pub cpu: Option<f64>,
    pub rss: Option<f64>,
}

/// System calls per request of one proxy in one row: per column, then all.
#[derive(Debug, Clone)]
pub struct SyscallRow {
    pub scenario: Scenario,
    pub protocol: Protocol,
    pub contender: String,
    pub columns: Vec<f64>,
    pub any: f64,
}

/// Memory in bytes: of a proxy that has just started, or per connection.
#[derive(Debug, Clone)]
pub struct Memory {
    pub protocol: Protocol,
    pub contender: String,
    pub bytes: f64,
}

impl Field {
    pub fn start(protocol: Protocol, selection: &Selection, pinning: &Pinning, directory: &Path) -> Result<Self> {
        let servers = Servers::start(protocol, pinning, directory)?;
        let starts = selection.entries.iter().map(|entry| entry.start(protocol, &servers, pinning, directory));
        let contenders = starts.collect::<Result<Vec<_>>>()?;
        Ok(Self { protocol, contenders, servers })
    }

    /// What each proxy holds before its first request.
    pub fn start_memory(&self) -> Result<Vec<Memory>> {
        let proxies = self.contenders.iter().filter_map(|contender| Some((contender, contender.proxy.as_ref()?)));
        let memory = proxies.map(|(contender, proxy)| {
            Ok(Memory { protocol: self.protocol, contender: contender.name.clone(), bytes: proxy.rss()? as f64 })
        });
        memory.collect()
    }

    /// Every contender in one row; the order rotates with the round, so that no one always follows the same other.
    pub fn measure_round(&self, scenario: Scenario, round: usize, args: &Args) -> Result<Vec<Measurement>> {
        let count = self.contenders.len();
        let order = (0..count).map(|place| &self.contenders[(place + round) % count]);
        order.map(|contender| self.measure(contender, scenario, round, args)).collect()
    }

    fn measure(&self, contender: &Contender, scenario: Scenario, round: usize, args: &Args) -> Result<Measurement> {
        let told = |error| self.tell(contender, scenario, error);
        let mut load = self.load(contender, scenario, round, args).map_err(told)?;
        let before = cpu_ns(contender)?;
        let sample = load.run(args.duration(), pace(scenario, args)).map_err(told)?;
        let after = cpu_ns(contender)?;
        let quantile_us = |share| sample.latencies.quantile(share) / 1e3;
        Ok(Measurement {
            scenario,
            protocol: self.protocol,
            contender: contender.name.clone(),
            round,
            ops: sample.requests() / sample.elapsed.as_secs_f64(),
            p50: quantile_us(0.5),
            p99: quantile_us(0.99),
            p999: quantile_us(0.999),
            cpu: before.zip(after).map(|(before, after)| (after - before) as f64 / 1e3 / sample.requests()),
            rss: contender.proxy.as_ref().map(|proxy| proxy.rss()).transpose()?.map(|bytes| bytes as f64),
        })
    }

    /// Connected and warm.
    fn load(&self, contender: &Contender, scenario: Scenario, seed: usize, args: &Args) -> Result<Load<'_>> {
        let mut load = Load::connect(&self.servers.script, &contender.targets, scenario.clients, seed as u64 + 1)?;
        load.run(args.warmup(), pace(scenario, args))?;
        Ok(load)
    }

    /// The system calls of every proxy in one row.
    pub fn count_syscalls(
        &self,
        scenario: Scenario,
        tracepoints: &Tracepoints,
        args: &Args,
    ) -> Result<Vec<SyscallRow>> {
        let mut rows = Vec::new();
        for contender in &self.contenders {
            let Some(proxy) = &contender.proxy else { continue };
            let told = |error| self.tell(contender, scenario, error);
            let mut load = self.load(contender, scenario, 0, args).map_err(told)?;
            let counters = tracepoints.count(proxy.pid())?;
            let sample = load.run(args.duration(), pace(scenario, args)).map_err(told)?;
            let counts = counters.read()?;
            rows.push(SyscallRow {
                scenario,
                protocol: self.protocol,
                contender: contender.name.clone(),
                columns: counts
                    .columns
                    .iter()
                    .take(COLUMNS.len())
                    .map(|&calls| calls as f64 / sample.requests())
                    .collect(),
                any: counts.any as f64 / sample.requests(),
            });
        }
        Ok(rows)
    }

    /// Opens `connections` clients, sends one request on each, and shares what the proxy grew by among them.
    pub fn measure_idle(&self, connections: usize) -> Result<Vec<Memory>> {
        let mut rows = Vec::new();
        let once = Pace::Closed { depth: 1, refill: crate::load::Refill::Batch };
        for contender in &self.contenders {
            let Some(proxy) = &contender.proxy else { continue };
            let told = |error: String| format!("{}: {error}\n{}", contender.name, proxy.log_end());
            // One client first: buffers that all share are not the cost of a connection.
            Load::connect(&self.servers.script, &contender.targets, 1, 1)?.run(Duration::ZERO, once).map_err(told)?;
            std::thread::sleep(50 * SETTLE);
            let before = proxy.rss()?;
            let mut load = Load::connect(&self.servers.script, &contender.targets, connections, 2).map_err(told)?;
            load.run(Duration::ZERO, once).map_err(told)?;
            std::thread::sleep(50 * SETTLE);
            let grown = proxy.rss()?.saturating_sub(before);
            let bytes = grown as f64 / connections as f64;
            rows.push(Memory { protocol: self.protocol, contender: contender.name.clone(), bytes });
        }
        Ok(rows)
    }

    fn tell(&self, contender: &Contender, scenario: Scenario, error: String) -> String {
        let log = contender.proxy.as_ref().map(|proxy| proxy.log_end()).unwrap_or_default();
        format!("{}, {}, {}: {error}\n{log}", self.protocol.name(), scenario.name, contender.name)
    }
}

fn pace(scenario: Scenario, args: &Args) -> Pace {
    match scenario.rate {
        Some(rate) => Pace::Open { rate },
        None => Pace::Closed { depth: scenario.depth, refill: args.refill },
    }
}

fn cpu_ns(contender: &Contender) -> Result<Option<u64>> {
    std::thread::sleep(SETTLE);
    contender.proxy.as_ref().map(|proxy| proxy.cpu_ns()).transpose()
}
