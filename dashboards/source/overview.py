"""How are they? The four golden signals, the pools and servers, and what changed."""

from grafana import (
    GREEN, ORANGE, RED, YELLOW, Column, Lines, Stat, Table, dashboard, quantile, ratio, row, thresholds,
)

REQUESTS = "sum(rate(outrigger_requests_total{<pool>}[$__rate_interval]))"
# What a client should not have sent is its own mistake.
UNANSWERED = """sum(rate(outrigger_request_errors_total{
    <pool>, reason!~"unsupported|invalid|unauthenticated|forbidden"}[$__rate_interval]))"""
FOUND = 'sum(rate(outrigger_requests_total{<pool>, command="read", result="ok"}[$__rate_interval]))'
READS = 'sum(rate(outrigger_requests_total{<pool>, command="read", result=~"ok|miss"}[$__rate_interval]))'
EVENTS = "sum by (event) (increase(outrigger_events_total{<proxy>}[$__rate_interval])) > 0"
ERRORS = thresholds(GREEN, (0.001, YELLOW), (0.01, RED))
FULLNESS = thresholds(GREEN, (0.7, YELLOW), (0.9, RED))


def by(labels, query):
    """The same sum for each of these labels."""
    return query.replace("sum(", f"sum by ({labels}) (", 1)


NOW = row(
    "Now",
    Stat("Proxies", "Instances that answer the scrape, and how many of them say that they are ready: not draining, and some pool "
         "has a live server.", "short",
         {"ready": "sum(outrigger_ready{<proxy>})", "all": "count(outrigger_build_info{<proxy>})"}),
    Stat("Requests", "Requests of clients per second.", "reqps", REQUESTS),
    Stat("Unanswered", "Share of the requests that no server answered: failed (timeout, connection lost, server ejected) or "
         "refused for want of memory. Error replies of servers, and what clients should not have sent, are not among them.",
         "percentunit",
         ratio(UNANSWERED, REQUESTS), thresholds=ERRORS),
    Stat("p99 latency", "99 of 100 requests take no longer, from their arrival until the reply is ready; reads, writes and others "
         "together.", "s", quantile(0.99, "outrigger_request_duration_seconds", "<pool>")),
    Stat("Hit ratio", "Share of the reads that found something.", "percentunit", ratio(FOUND, READS), max=1),
    Stat("Servers away", "Servers that are ejected, as each instance sees it: one server that 3 instances have ejected counts 3.",
         "short", 'sum(outrigger_pool_servers{<pool>, state="ejected"})', thresholds=thresholds(GREEN, (1, ORANGE))),
    Stat("Clients", "Client connections that are open.", "short", "sum(outrigger_sessions{<pool>})"),
    Stat("Busiest worker", "CPU use of the busiest worker thread of all instances. At 100 % its clients wait for it.", "percentunit",
         "max(rate(outrigger_worker_cpu_seconds_total{<proxy>}[$__rate_interval]))", max=1, thresholds=FULLNESS),
)

SIGNALS = row(
    "Golden signals",
    Lines("Traffic", "Requests per second of each pool, over the chosen instances.", "reqps", {"{{pool}}": by("pool", REQUESTS)},
          width=12),
    Lines("Errors", "Share of each pool's requests that no server answered: failed, or refused for want of memory. The dashed lines "
          "are at 0.1 % and at 1 %.", "percentunit", {"{{pool}}": ratio(by("pool", UNANSWERED), by("pool", REQUESTS))}, width=12, thresholds=ERRORS),
    Lines("Latency", "From the arrival of a request until its reply is ready, for each pool: half of the requests (p50) and 99 of "
          "100 (p99) take no longer.", "s",
          {"{{pool}} p50": quantile(0.5, "outrigger_request_duration_seconds", "<pool>", "pool"),
           "{{pool}} p99": quantile(0.99, "outrigger_request_duration_seconds", "<pool>", "pool")}, width=12, log=True),
    Lines("Saturation", "How full the fullest is, of all instances: the CPU of a worker thread, the memory for requests and "
          "replies, the queue of clients that wait to be accepted, the files that may be open.", "percentunit",
          {"worker CPU": "max(rate(outrigger_worker_cpu_seconds_total{<proxy>}[$__rate_interval]))",
           "buffered bytes": "max(outrigger_buffered_bytes{<proxy>} / outrigger_buffered_limit_bytes{<proxy>})",
           "listener queue": "max(outrigger_listener_queue{<pool>} / outrigger_listener_queue_limit{<pool>})",
           "open files": "max(process_open_fds{<proxy>} / process_max_fds{<proxy>} and on (job, instance) outrigger_build_info)"},
          width=12, thresholds=FULLNESS),
)

CAUSES = row(
    "Why",
    Lines("Errors by reason", "Requests per second that failed or were rejected, by reason. docs/metrics.md says what "
          "each of them means.", "reqps",
          {"{{reason}}": "sum by (reason) (rate(outrigger_request_errors_total{<pool>}[$__rate_interval])) > 0"}, stack=True,
          legend=["max"]),
    Lines("Answers", "Requests per second by result: ok, miss (a read or a conditional write that found nothing), error (an error "
          "reply of the server), failed (no reply), rejected (by Outrigger).", "reqps",
          {"{{result}}": "sum by (result) (rate(outrigger_requests_total{<pool>}[$__rate_interval])) > 0"}, stack=True, legend=["max"],
          colors={"ok": GREEN, "miss": "super-light-green", "error": YELLOW, "failed": RED, "rejected": "purple"}),
    Lines("Events", "What changed: servers ejected and readmitted, reloads, upgrades. `outrigger events` and /events of each instance "
          "tell them with their reasons.", "short", {"{{event}}": EVENTS}, bars=True, legend=[]),
)

SCOPE = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
POOL_LINK = f"/d/outrigger-pool/?{SCOPE}&var-pool=${{__data.fields.Pool}}"
SERVER_LINK = f"/d/outrigger-server/?{SCOPE}&var-pool=${{__data.fields.Pool}}&var-server=${{__data.fields.Server}}"

POOLS = row(
    "Pools and servers",
    Table("Pools", "The pools of each job, the busiest first. A click on a pool leads to its dashboard.",
          {"job": "Job", "pool": "Pool"},
          {"Requests": Column(by("job, pool", REQUESTS), "reqps"),
           "Unanswered": Column(ratio(by("job, pool", UNANSWERED), by("job, pool", REQUESTS)), "percentunit", thresholds=ERRORS),
           "Hit ratio": Column(ratio(by("job, pool", FOUND), by("job, pool", READS)), "percentunit"),
           "p50": Column(quantile(0.5, "outrigger_request_duration_seconds", "<pool>", "job, pool"), "s"),
           "p99": Column(quantile(0.99, "outrigger_request_duration_seconds", "<pool>", "job, pool"), "s"),
           "Clients": Column("sum by (job, pool) (outrigger_sessions{<pool>})", "short"),
           "Servers away": Column('sum by (job, pool) (outrigger_pool_servers{<pool>, state="ejected"})', "short",
                                  thresholds=thresholds(GREEN, (1, ORANGE)))},
          sort="Requests", links={"Pool": ("Pool dashboard", POOL_LINK)}, height=6),
    Table("Servers", "The servers behind the pools, the busiest first. `Traffic` is the lowest share of its keys that an instance "
          "sends to it: 100 % when live, less when it returns, 0 when ejected. A click on a server leads to its dashboard.",
          {"job": "Job", "pool": "Pool", "server": "Server"},
          {"Traffic": Column("min by (job, pool, server) (outrigger_server_traffic_ratio{<pool>})", "percentunit",
                             thresholds=thresholds(RED, (0.01, YELLOW), (1, GREEN))),
           "Requests": Column("sum by (job, pool, server) (rate(outrigger_server_requests_total{<pool>}[$__rate_interval]))", "reqps"),
           "p99": Column(quantile(0.99, "outrigger_server_request_duration_seconds", "<pool>", "job, pool, server"), "s"),
           "In flight": Column("sum by (job, pool, server) (outrigger_server_in_flight_requests{<pool>})", "short"),
           "Timeouts": Column("sum by (job, pool, server) (rate(outrigger_server_timeouts_total{<pool>}[$__rate_interval]))", "reqps"),
           "Connection errors": Column(
               "sum by (job, pool, server) (rate(outrigger_server_connection_errors_total{<pool>}[$__rate_interval]))", "ops"),
           "Ejections": Column("sum by (job, pool, server) (increase(outrigger_server_ejections_total{<pool>}[$__range]))", "short",
                               decimals=0, thresholds=thresholds(GREEN, (1, ORANGE)))},
          sort="Requests", links={"Server": ("Server dashboard", SERVER_LINK)}, height=8),
)

DASHBOARD = dashboard(
    "outrigger-overview", "Outrigger / Overview", "The four golden signals of one Outrigger or a fleet, its pools and servers, and "
    "what changed.", ["job", "instance", "pool"], [NOW, SIGNALS, CAUSES, POOLS],
)
