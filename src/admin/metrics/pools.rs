//! Families of a pool: its clients and their requests.

use super::family::Kind::{Counter, Gauge, Histogram};
use super::family::{Family, Read, Section};
use crate::admin::State;
use crate::admin::totals::FORWARDED;
use crate::telemetry::{Class, Ending, Label, Outcome, Trouble};

/// Of the buckets of requests, in microseconds: half octaves up to 65 ms, then octaves.
const BUCKETS: [u32; 27] = [
    64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152,
    65536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152, 4_194_304,
];

pub(super) const TRAFFIC: Section = Section {
    question: "What do clients ask, how much, and how fast is it answered?",
    families: &[
        Family {
            name: "outrigger_pool_info",
            kind: Gauge,
            labels: &["protocol", "distribution", "hash", "listen"],
            help: "Always 1, with what the pool is.",
            read: Read::Pool(|pool, out| {
                let own = &pool.pool.settings;
                let (protocol, distribution, hash) = (own.protocol.name(), own.distribution.name(), own.hash.name());
                out.count(&[protocol, distribution, hash, &own.listen.to_string()], 1);
            }),
        },
        Family {
            name: "outrigger_sessions",
            kind: Gauge,
            labels: &[],
            help: "Client sessions that are open.",
            read: Read::Pool(|pool, out| out.count(&[], pool.totals.client_connections)),
        },
        Family {
            name: "outrigger_sessions_opened_total",
            kind: Counter,
            labels: &[],
            help: "Client sessions ever opened.",
            read: Read::Pool(|pool, out| out.count(&[], pool.totals.client_connections_total)),
        },
        Family {
            name: "outrigger_sessions_closed_total",
            kind: Counter,
            labels: &["reason"],
            help: "Client sessions that have ended, by reason.",
            read: Read::Pool(|pool, out| {
                let endings = Ending::ALL.iter().zip(pool.totals.endings.iter());
                endings.for_each(|(ending, count)| out.count(&[ending.name()], count));
            }),
        },
        Family {
            name: "outrigger_requests_total",
            kind: Counter,
            labels: &["command", "result"],
            help: "Requests that are done, by what kind of command they were and what became of them. Not those of clients that have gone before their replies came. Not with observe.metrics: false.",
            read: Read::Pool(|pool, out| {
                let requests = Class::ALL.iter().zip(&pool.totals.requests);
                for (class, outcomes) in requests.filter(|_| pool.measured) {
                    let outcomes = Outcome::ALL.iter().zip(outcomes.iter());
                    outcomes.for_each(|(outcome, count)| out.count(&[class.name(), outcome.name()], count));
                }
            }),
        },
        Family {
            name: "outrigger_request_duration_seconds",
            kind: Histogram,
            labels: &["command"],
            help: "From the arrival of a request until its reply is ready in its turn; of requests that servers are asked. Not with observe.metrics: false.",
            read: Read::Pool(|pool, out| {
                let times = FORWARDED.iter().zip(&pool.totals.latency);
                times.filter(|_| pool.measured).for_each(|(class, times)| out.times(&[class.name()], times, &BUCKETS));
            }),
        },
        Family {
            name: "outrigger_request_bytes_total",
            kind: Counter,
            labels: &[],
            help: "What clients have sent.",
            read: Read::Pool(|pool, out| out.count(&[], pool.totals.request_bytes)),
        },
        Family {
            name: "outrigger_response_bytes_total",
            kind: Counter,
            labels: &[],
            help: "What clients were sent.",
            read: Read::Pool(|pool, out| out.count(&[], pool.totals.response_bytes)),
        },
        Family {
            name: "outrigger_fragmented_requests_total",
            kind: Counter,
            labels: &[],
            help: "Requests with keys of several servers, which were cut into pieces.",
            read: Read::Pool(|pool, out| out.count(&[], pool.totals.fragmented)),
        },
        Family {
            name: "outrigger_fragments_total",
            kind: Counter,
            labels: &[],
            help: "The pieces of those requests. A request is answered when the last of its pieces is.",
            read: Read::Pool(|pool, out| out.count(&[], pool.totals.fragments)),
        },
        Family {
            name: "outrigger_scripts_remembered",
            kind: Gauge,
            labels: &[],
            help: "Scripts that are remembered, so that a server that has lost them is given them again.",
            read: Read::Pool(|pool, out| out.count(&[], pool.pool.scripts.size().0 as u64)),
        },
        Family {
            name: "outrigger_scripts_remembered_bytes",
            kind: Gauge,
            labels: &[],
            help: "What these scripts take, of the script_memory that they may take.",
            read: Read::Pool(|pool, out| out.count(&[], pool.pool.scripts.size().1 as u64)),
        },
        Family {
            name: "outrigger_scripts_sent_total",
            kind: Counter,
            labels: &[],
            help: "EVALSHA requests that were sent as EVAL, with the script, as the server might not have it: one or some for each new connection, and after SCRIPT FLUSH.",
            read: Read::Pool(|pool, out| out.count(&[], pool.totals.scripts_sent)),
        },
        Family {
            name: "outrigger_commands_learnt",
            kind: Gauge,
            labels: &[],
            help: "Commands that Outrigger does not know of itself and the servers, or the configuration, have described.",
            read: Read::Pool(|pool, out| out.count(&[], pool.pool.learnt.count() as u64)),
        },
    ],
};

pub(super) const FAILURES: Section = Section {
    question: "What goes wrong, and who is turned away?",
    families: &[
        Family {
            name: "outrigger_request_errors_total",
            kind: Counter,
            labels: &["reason"],
            help: "Requests that failed or were rejected, by reason: an error of Outrigger's own was their reply.",
            read: Read::Pool(|pool, out| {
                let troubles = Trouble::ALL.iter().zip(pool.totals.troubles.iter());
                troubles.for_each(|(trouble, count)| out.count(&[trouble.name()], count));
            }),
        },
        Family {
            name: "outrigger_sessions_limit",
            kind: Gauge,
            labels: &[],
            help: "Most client sessions at a time (client_connections); without this series there is no limit.",
            read: Read::Pool(|pool, out| {
                pool.pool.settings.client_connections.iter().for_each(|limit| out.count(&[], *limit as u64));
            }),
        },
        Family {
            name: "outrigger_sessions_refused_total",
            kind: Counter,
            labels: &[],
            help: "Clients turned away because the pool had as many sessions as it may.",
            read: Read::Pool(|pool, out| out.count(&[], pool.entrance.map_or(0, |entrance| entrance.refused))),
        },
        Family {
            name: "outrigger_listener_queue",
            kind: Gauge,
            labels: &[],
            help: "Clients that wait to be accepted; only of TCP listeners.",
            read: Read::Pool(|pool, out| {
                let queue = pool.entrance.and_then(|entrance| entrance.queue);
                queue.iter().for_each(|(waiting, _)| out.count(&[], (*waiting).into()));
            }),
        },
        Family {
            name: "outrigger_listener_queue_limit",
            kind: Gauge,
            labels: &[],
            help: "The most that may wait (backlog); the kernel turns others away. Only of TCP listeners.",
            read: Read::Pool(|pool, out| {
                let queue = pool.entrance.and_then(|entrance| entrance.queue);
                queue.iter().for_each(|(_, limit)| out.count(&[], (*limit).into()));
            }),
        },
        Family {
            name: "outrigger_pool_servers",
            kind: Gauge,
            labels: &["state"],
            help: "Servers of the pool in each state.",
            read: Read::Pool(|pool, out| {
                State::ALL.iter().for_each(|state| out.count(&[state.name()], pool.servers_in(*state)));
            }),
        },
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::BOUNDS;

    #[test]
    fn buckets_are_whole_bins() {
        assert!(BUCKETS.is_sorted());
        assert!(BUCKETS.iter().all(|bound| BOUNDS.contains(bound)));
    }
}
