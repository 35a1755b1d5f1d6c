//! Families of a server: its health, its requests, its connections.

use super::family::Kind::{Counter, Gauge, Histogram};
use super::family::{Family, Read, Section};
use crate::admin::views::traffic;
use crate::telemetry::{Label, Trouble};

/// Of the buckets of requests, in microseconds: octaves.
const BUCKETS: [u32; 17] = [
    64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152,
    4_194_304,
];

/// Of the buckets of the time in the queue, in microseconds.
const QUEUE_BUCKETS: [u32; 8] = [64, 256, 1024, 4096, 16384, 65536, 262_144, 1_048_576];

/// What may end a connection, or an attempt to make one.
const TROUBLES: [Trouble; 8] = [
    Trouble::Timeout,
    Trouble::ConnectionLost,
    Trouble::ConnectFailed,
    Trouble::NotResolved,
    Trouble::Login,
    Trouble::ProtocolError,
    Trouble::NotReady,
    Trouble::Exhausted,
];

pub(super) const STATES: Section = Section {
    question: "Which servers take traffic, and which keys do they have?",
    families: &[
        Family {
            name: "outrigger_server_info",
            kind: Gauge,
            labels: &["address"],
            help: "Always 1, with the address of the server.",
            read: Read::Server(|server, out| out.count(&[&server.address], 1)),
        },
        Family {
            name: "outrigger_server_up",
            kind: Gauge,
            labels: &[],
            help: "1 if the server takes traffic (it is live or returning), 0 while it is ejected.",
            read: Read::Server(|server, out| out.count(&[], server.health.standing.is_live().into())),
        },
        Family {
            name: "outrigger_server_traffic_ratio",
            kind: Gauge,
            labels: &[],
            help: "How much of its traffic the server gets: 1 live, 0.1 to 0.9 returning, 0 ejected.",
            read: Read::Server(|server, out| out.value(&[], f64::from(traffic(server.health.standing)) / 100.0)),
        },
        Family {
            name: "outrigger_server_ring_share_ratio",
            kind: Gauge,
            labels: &[],
            help: "The server's part of all keys of the pool, as they are routed now.",
            read: Read::Server(|server, out| out.value(&[], server.ring_share)),
        },
        Family {
            name: "outrigger_server_consecutive_failures",
            kind: Gauge,
            labels: &[],
            help: "Failures in a row; at server_failure_limit the server is ejected.",
            read: Read::Server(|server, out| out.count(&[], server.health.failures.into())),
        },
        Family {
            name: "outrigger_server_ejections_total",
            kind: Counter,
            labels: &[],
            help: "Times that the server was ejected.",
            read: Read::Server(|server, out| out.count(&[], server.health.ejections)),
        },
        Family {
            name: "outrigger_server_probes_total",
            kind: Counter,
            labels: &["result"],
            help: "Probes of the server, by how they went. Servers of pools with auto_eject_hosts are probed.",
            read: Read::Server(|server, out| {
                let (ok, failed) = server.probes;
                out.count(&["ok"], ok);
                out.count(&["failed"], failed);
            }),
        },
    ],
};

pub(super) const TRAFFIC: Section = Section {
    question: "Which server is slow, or has too much to do?",
    families: &[
        Family {
            name: "outrigger_server_requests_total",
            kind: Counter,
            labels: &[],
            help: "Requests sent to the server; the pieces of a request count one by one.",
            read: Read::Server(|server, out| out.count(&[], server.totals.requests)),
        },
        Family {
            name: "outrigger_server_responses_total",
            kind: Counter,
            labels: &[],
            help: "Replies of the server.",
            read: Read::Server(|server, out| out.count(&[], server.totals.responses)),
        },
        Family {
            name: "outrigger_server_request_bytes_total",
            kind: Counter,
            labels: &[],
            help: "What the server was sent.",
            read: Read::Server(|server, out| out.count(&[], server.totals.request_bytes)),
        },
        Family {
            name: "outrigger_server_response_bytes_total",
            kind: Counter,
            labels: &[],
            help: "What the server has sent.",
            read: Read::Server(|server, out| out.count(&[], server.totals.response_bytes)),
        },
        Family {
            name: "outrigger_server_request_duration_seconds",
            kind: Histogram,
            labels: &[],
            help: "From the write of a request to its reply: the time of the server and the network. Not with observe.metrics: false.",
            read: Read::Server(|server, out| {
                server.measured.then(|| out.times(&[], &server.totals.latency, &BUCKETS));
            }),
        },
        Family {
            name: "outrigger_server_queue_duration_seconds",
            kind: Histogram,
            labels: &[],
            help: "From queueing a request to its write: Outrigger's own time, without a connection or with a full socket. Not with observe.metrics: false.",
            read: Read::Server(|server, out| {
                server.measured.then(|| out.times(&[], &server.totals.queue_latency, &QUEUE_BUCKETS));
            }),
        },
        Family {
            name: "outrigger_slow_requests_total",
            kind: Counter,
            labels: &[],
            help: "Requests, each piece of a cut one by itself, that took longer than slowlog_threshold, whether /slowlog has kept them or not.",
            read: Read::Server(|server, out| out.count(&[], server.totals.slow)),
        },
        Family {
            name: "outrigger_server_queued_requests",
            kind: Gauge,
            labels: &[],
            help: "Requests for the server that are not written yet.",
            read: Read::Server(|server, out| out.count(&[], server.totals.in_queue)),
        },
        Family {
            name: "outrigger_server_queued_bytes",
            kind: Gauge,
            labels: &[],
            help: "Bytes of the requests that are not written yet.",
            read: Read::Server(|server, out| out.count(&[], server.totals.in_queue_bytes)),
        },
        Family {
            name: "outrigger_server_in_flight_requests",
            kind: Gauge,
            labels: &[],
            help: "Requests that the server has not answered yet.",
            read: Read::Server(|server, out| out.count(&[], server.totals.out_queue)),
        },
        Family {
            name: "outrigger_server_in_flight_bytes",
            kind: Gauge,
            labels: &[],
            help: "Bytes of the requests that the server has not answered yet.",
            read: Read::Server(|server, out| out.count(&[], server.totals.out_queue_bytes)),
        },
        Family {
            name: "outrigger_server_timeouts_total",
            kind: Counter,
            labels: &[],
            help: "Requests that the server did not answer in time.",
            read: Read::Server(|server, out| out.count(&[], server.totals.server_timedout)),
        },
    ],
};

pub(super) const CONNECTIONS: Section = Section {
    question: "Do the connections to the servers hold?",
    families: &[
        Family {
            name: "outrigger_server_connections",
            kind: Gauge,
            labels: &["state"],
            help: "Connections to the server: connected, being made, or waiting for the next attempt.",
            read: Read::Server(|server, out| {
                out.count(&["connected"], server.totals.server_connections);
                out.count(&["connecting"], server.totals.connecting);
                out.count(&["waiting"], server.totals.waiting);
            }),
        },
        Family {
            name: "outrigger_server_connections_opened_total",
            kind: Counter,
            labels: &[],
            help: "Connections to the server ever made, dedicated ones among them. Of the others more than server_connections for each worker say that they were lost.",
            read: Read::Server(|server, out| out.count(&[], server.totals.server_connections_total)),
        },
        Family {
            name: "outrigger_server_dedicated_connections",
            kind: Gauge,
            labels: &["state"],
            help: "Connections to the server that one client at a time has to itself: in_use, or idle and kept for the next. Those that are connected count in outrigger_server_connections, too.",
            read: Read::Server(|server, out| {
                out.count(&["in_use"], server.totals.dedicated_in_use);
                out.count(&["idle"], server.totals.dedicated_idle);
            }),
        },
        Family {
            name: "outrigger_server_dedicated_connections_opened_total",
            kind: Counter,
            labels: &[],
            help: "Dedicated connections to the server ever opened; those that grow with the clients' transactions say that idle_dedicated_connections is too small.",
            read: Read::Server(|server, out| out.count(&[], server.totals.dedicated_opened)),
        },
        Family {
            name: "outrigger_server_dedicated_connections_refused_total",
            kind: Counter,
            labels: &[],
            help: "Requests for a dedicated connection that were refused, as dedicated_connections were in use.",
            read: Read::Server(|server, out| out.count(&[], server.totals.dedicated_refused)),
        },
        Family {
            name: "outrigger_server_connection_errors_total",
            kind: Counter,
            labels: &["reason"],
            help: "Attempts to connect that failed, and connections that were lost.",
            read: Read::Server(|server, out| {
                let errors = Trouble::ALL.iter().zip(server.totals.connection_errors.iter());
                let told = errors.filter(|(trouble, count)| *count > 0 || TROUBLES.contains(trouble));
                told.for_each(|(trouble, count)| out.count(&[trouble.name()], count));
            }),
        },
        Family {
            name: "outrigger_server_retries_total",
            kind: Counter,
            labels: &[],
            help: "Requests sent to the server a second time after a lost connection.",
            read: Read::Server(|server, out| out.count(&[], server.totals.server_retries)),
        },
        Family {
            name: "outrigger_server_retries_denied_total",
            kind: Counter,
            labels: &[],
            help: "Requests that were not sent again, as the retry budget (retry_budget_percent) was used up.",
            read: Read::Server(|server, out| out.count(&[], server.totals.server_retries_denied)),
        },
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::BOUNDS;

    #[test]
    fn buckets_are_whole_bins() {
        for buckets in [&BUCKETS[..], &QUEUE_BUCKETS] {
            assert!(buckets.is_sorted());
            assert!(buckets.iter().all(|bound| BOUNDS.contains(bound)));
        }
    }
}
