//! Families of the whole process.

use std::time::{SystemTime, UNIX_EPOCH};

use super::family::Kind::{Counter, Gauge};
use super::family::{Family, Read, Section};
use crate::telemetry::Label;

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

pub(super) const IDENTITY: Section = Section {
    question: "What runs here, since when, and what has changed?",
    families: &[
        Family {
            name: "outrigger_build_info",
            kind: Gauge,
            labels: &["version"],
            help: "Always 1, with the version that runs.",
            read: Read::Process(|_, out| out.count(&[env!("CARGO_PKG_VERSION")], 1)),
        },
        Family {
            name: "outrigger_ready",
            kind: Gauge,
            labels: &[],
            help: "1 if clients may be sent here, 0 while it drains or no pool has a server that takes traffic; as /readyz.",
            read: Read::Process(|scene, out| out.count(&[], scene.sources.not_ready().is_none().into())),
        },
        Family {
            name: "process_start_time_seconds",
            kind: Gauge,
            labels: &[],
            help: "When the process started, in seconds since 1970.",
            read: Read::Process(|scene, out| out.value(&[], seconds(scene.sources.start.wall))),
        },
        Family {
            name: "outrigger_config_generation",
            kind: Gauge,
            labels: &[],
            help: "Number of the configuration in force: 1 at the start, one more with every change.",
            read: Read::Process(|scene, out| out.count(&[], scene.config.generation)),
        },
        Family {
            name: "outrigger_config_hash_info",
            kind: Gauge,
            labels: &["hash"],
            help: "Always 1, with a hash of the configuration file, to compare the proxies of a fleet.",
            read: Read::Process(|scene, out| out.count(&[&scene.config.hash], 1)),
        },
        Family {
            name: "outrigger_config_last_change_timestamp_seconds",
            kind: Gauge,
            labels: &[],
            help: "When the configuration in force came into force, in seconds since 1970.",
            read: Read::Process(|scene, out| out.value(&[], seconds(scene.config.since))),
        },
        Family {
            name: "outrigger_config_last_reload_successful",
            kind: Gauge,
            labels: &[],
            help: "0 if the last attempt to read the configuration anew failed; 1 also if there was none.",
            read: Read::Process(|scene, out| out.count(&[], scene.config.last_reload_successful.into())),
        },
        Family {
            name: "outrigger_config_reloads_total",
            kind: Counter,
            labels: &["result"],
            help: "Attempts to read the configuration anew that changed something, and that failed.",
            read: Read::Process(|scene, out| {
                out.count(&["changed"], scene.config.reloads);
                out.count(&["failed"], scene.config.failed_reloads);
            }),
        },
        Family {
            name: "outrigger_config_needs_restart",
            kind: Gauge,
            labels: &[],
            help: "Settings that the file has and that wait for a restart.",
            read: Read::Process(|scene, out| out.count(&[], scene.config.needs_restart.len() as u64)),
        },
        Family {
            name: "outrigger_events_total",
            kind: Counter,
            labels: &["event"],
            help: "What has happened to servers and to the process; /events has the last thousand, each with its reason.",
            read: Read::Process(|scene, out| {
                scene.sources.events.counts().iter().for_each(|(what, count)| out.count(&[what.name()], *count));
            }),
        },
    ],
};

pub(super) const LIMITS: Section = Section {
    question: "How near is the process to its limits?",
    families: &[
        Family {
            name: "outrigger_workers",
            kind: Gauge,
            labels: &[],
            help: "Data threads.",
            read: Read::Process(|scene, out| out.count(&[], scene.worker_count)),
        },
        Family {
            name: "outrigger_worker_cpu_seconds_total",
            kind: Counter,
            labels: &["worker"],
            help: "CPU time of the worker's thread. Its rate is how busy the worker is: at 1 it can do no more.",
            read: Read::Process(|scene, out| {
                let times = scene.workers.iter().filter_map(|worker| Some((worker, worker.times?)));
                times.for_each(|(worker, times)| out.value(&[&worker.number], times.cpu));
            }),
        },
        Family {
            name: "outrigger_worker_wait_seconds_total",
            kind: Counter,
            labels: &["worker"],
            help: "Time in which the worker could have run and had no CPU: it was throttled, or the machine is crowded.",
            read: Read::Process(|scene, out| {
                let times = scene.workers.iter().filter_map(|worker| Some((worker, worker.times?)));
                times.for_each(|(worker, times)| out.value(&[&worker.number], times.wait));
            }),
        },
        Family {
            name: "outrigger_worker_sessions",
            kind: Gauge,
            labels: &["worker"],
            help: "Client sessions of the worker.",
            read: Read::Process(|scene, out| {
                scene.workers.iter().for_each(|worker| out.count(&[&worker.number], worker.sessions));
            }),
        },
        Family {
            name: "outrigger_buffered_bytes",
            kind: Gauge,
            labels: &[],
            help: "What the process holds for clients and servers: requests not sent and replies not taken.",
            read: Read::Process(|scene, out| out.count(&[], scene.sources.budget.total() as u64)),
        },
        Family {
            name: "outrigger_buffered_limit_bytes",
            kind: Gauge,
            labels: &[],
            help: "The most it may hold (limits.max_buffered_bytes). Above it requests are refused and clients are cut.",
            read: Read::Process(|scene, out| out.count(&[], scene.sources.budget.limit() as u64)),
        },
        Family {
            name: "process_cpu_seconds_total",
            kind: Counter,
            labels: &[],
            help: "CPU time of all threads, of the workers and the others.",
            read: Read::Process(|scene, out| out.value(&[], scene.process.cpu)),
        },
        Family {
            name: "process_resident_memory_bytes",
            kind: Gauge,
            labels: &[],
            help: "Memory that the process has.",
            read: Read::Process(|scene, out| out.count(&[], scene.process.resident)),
        },
        Family {
            name: "process_virtual_memory_bytes",
            kind: Gauge,
            labels: &[],
            help: "Addresses that the process has reserved; no measure of what it takes.",
            read: Read::Process(|scene, out| out.count(&[], scene.process.virtual_memory)),
        },
        Family {
            name: "process_open_fds",
            kind: Gauge,
            labels: &[],
            help: "Open files and sockets.",
            read: Read::Process(|scene, out| out.count(&[], scene.process.open_fds)),
        },
        Family {
            name: "process_max_fds",
            kind: Gauge,
            labels: &[],
            help: "The most files and sockets that may be open; without this series there is no limit.",
            read: Read::Process(|scene, out| scene.process.max_fds.into_iter().for_each(|max| out.count(&[], max))),
        },
        Family {
            name: "process_threads",
            kind: Gauge,
            labels: &[],
            help: "Threads of the process.",
            read: Read::Process(|scene, out| out.count(&[], scene.process.threads)),
        },
    ],
};
