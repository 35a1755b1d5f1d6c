"""One pool, or some: who asks what, what they get, how long it takes and where the time goes."""

from grafana import (
    GREEN, ORANGE, RED, YELLOW, Heat, Lines, Stat, average, dashboard, quantile, ratio, row, thresholds,
)
from overview import ERRORS, FOUND, READS, REQUESTS, UNANSWERED, by

NOW = row(
    "Now",
    Stat("Requests", "Requests of clients per second.", "reqps", REQUESTS),
    Stat("Unanswered", "Share of the requests that no server answered: failed, or refused for want of memory.", "percentunit",
         ratio(UNANSWERED, REQUESTS), thresholds=ERRORS),
    Stat("Hit ratio", "Share of the reads that found something.", "percentunit", ratio(FOUND, READS), max=1),
    Stat("p50 latency", "Half of the requests take no longer.", "s", quantile(0.5, "outrigger_request_duration_seconds", "<pool>")),
    Stat("p99 latency", "99 of 100 requests take no longer.", "s", quantile(0.99, "outrigger_request_duration_seconds", "<pool>")),
    Stat("Slow requests", "Requests per minute that took longer than `slowlog_threshold`. /slowlog of each instance shows some of "
         "them.", "short", "60 * sum(rate(outrigger_slow_requests_total{<pool>}[$__rate_interval]))", decimals=1),
    Stat("Clients", "Client connections that are open.", "short", "sum(outrigger_sessions{<pool>})"),
    Stat("Servers away", "Servers that are ejected, added over the instances.", "short",
         'sum(outrigger_pool_servers{<pool>, state="ejected"})', thresholds=thresholds(GREEN, (1, ORANGE))),
)

TRAFFIC = row(
    "Traffic",
    Lines("Requests by command", "Requests per second by class of command: read, write, other (scripts, PUBLISH, flush_all), proxy "
          "(answered by Outrigger itself, such as PING).", "reqps",
          {"{{command}}": by("command", REQUESTS)}, stack=True),
    Lines("Requests by result", "Requests per second by result: ok, miss (a read or a conditional write that found nothing), error "
          "(an error reply of the server), failed (no reply), rejected (by Outrigger).", "reqps",
          {"{{result}}": by("result", REQUESTS) + " > 0"}, stack=True, legend=["max"],
          colors={"ok": GREEN, "miss": "super-light-green", "error": YELLOW, "failed": RED, "rejected": "purple"}),
    Lines("Hit ratio", "Share of each pool's reads that found something. It falls when a server is ejected or comes back empty.",
          "percentunit", {"{{pool}}": ratio(by("pool", FOUND), by("pool", READS))}, max=1, legend=["lastNotNull", "min"]),
    Lines("Bytes", "Bytes per second between clients and Outrigger.", "Bps",
          {"requests": "sum(rate(outrigger_request_bytes_total{<pool>}[$__rate_interval]))",
           "responses": "sum(rate(outrigger_response_bytes_total{<pool>}[$__rate_interval]))"}),
    Lines("Mean size", "Mean bytes of a request and of its reply.", "bytes",
          {"request": ratio("sum(rate(outrigger_request_bytes_total{<pool>}[$__rate_interval]))", REQUESTS),
           "response": ratio("sum(rate(outrigger_response_bytes_total{<pool>}[$__rate_interval]))", REQUESTS)}),
    Lines("Parts per split request", "Into how many parts a request with several keys (MGET, MSET, DEL, get) is split, on the "
          "average of those that are split; and the share of requests that are.", "short",
          {"parts": ratio("sum(rate(outrigger_fragments_total{<pool>}[$__rate_interval]))",
                          "sum(rate(outrigger_fragmented_requests_total{<pool>}[$__rate_interval]))"),
           "split, of 100 requests": "100 * " + ratio("sum(rate(outrigger_fragmented_requests_total{<pool>}[$__rate_interval]))",
                                                      REQUESTS)}),
)

LATENCY = row(
    "Latency",
    Lines("Latency by command", "From the arrival of a request until its reply is ready: half of the requests (p50) and 99 of 100 "
          "(p99) take no longer.", "s",
          {"{{command}} p50": quantile(0.5, "outrigger_request_duration_seconds", "<pool>", "command") + " > 0",
           "{{command}} p99": quantile(0.99, "outrigger_request_duration_seconds", "<pool>", "command") + " > 0"}, log=True),
    Heat("Latency, all commands", "How many requests took how long: the darker, the more.", "s",
         "sum by (le) (increase(outrigger_request_duration_seconds_bucket{<pool>}[$__rate_interval]))"),
    Lines("Where the time goes", "Means. `queue`: from queueing to the write to the server (no connection yet, or the server takes "
          "no more). `server`: from the write to the reply, the server and the network. `request`: all of it, as a client sees it. "
          "If `request` is more than the other two together, replies wait for others of the same client before them, or the worker "
          "is busy.", "s",
          {"queue": average("outrigger_server_queue_duration_seconds", "<pool>"),
           "server": average("outrigger_server_request_duration_seconds", "<pool>"),
           "request": average("outrigger_request_duration_seconds", "<pool>")}),
)

ERROR_ROW = row(
    "Errors",
    Lines("Errors by reason", "Requests per second that failed or were rejected, by reason. docs/metrics.md says what "
          "each of them means.", "reqps",
          {"{{reason}}": "sum by (reason) (rate(outrigger_request_errors_total{<pool>}[$__rate_interval])) > 0"}, stack=True,
          legend=["max"]),
    Lines("Errors by command", "Requests per second that failed, were rejected, or got an error reply of the server, by class of "
          "command.", "reqps",
          {"{{command}} {{result}}": "sum by (command, result) (rate(outrigger_requests_total{<pool>, result=~\"error|failed|rejected\"}"
                                     "[$__rate_interval])) > 0"}, legend=["max"]),
    Lines("Sent again", "Requests per second that were sent a second time after a lost connection, and those that were not, since "
          "the retry budget was used up.", "reqps",
          {"sent again": "sum(rate(outrigger_server_retries_total{<pool>}[$__rate_interval]))",
           "denied": "sum(rate(outrigger_server_retries_denied_total{<pool>}[$__rate_interval]))"}),
)

CLIENTS = row(
    "Clients",
    Lines("Clients", "Client connections that are open, and the limit where there is one (`client_connections`).", "short",
          {"{{pool}}": "sum by (pool) (outrigger_sessions{<pool>})",
           "{{pool}} limit": "sum by (pool) (outrigger_sessions_limit{<pool>})"}, width=6),
    Lines("Connects", "Clients that connected, and clients that were turned away at the limit, per second.", "ops",
          {"opened": "sum(rate(outrigger_sessions_opened_total{<pool>}[$__rate_interval]))",
           "refused": "sum(rate(outrigger_sessions_refused_total{<pool>}[$__rate_interval]))"}, width=6),
    Lines("Disconnects by reason", "Client connections closed per second. client and quit are the clients' own doing; reset: the "
          "connection broke; protocol: not understood; idle, slow, overload: closed by a limit; drained, departed: at the end of "
          "the process or of the pool; killed: CLIENT KILL; user_removed: their user is gone.", "ops",
          {"{{reason}}": "sum by (reason) (rate(outrigger_sessions_closed_total{<pool>}[$__rate_interval])) > 0"}, width=6, legend=["max"]),
    Lines("Waiting to be accepted", "Clients in the queue of the pool's listener: the fullest of the instances, as a share of "
          "`backlog`.", "percentunit",
          {"{{pool}}": "max by (pool) (outrigger_listener_queue{<pool>} / outrigger_listener_queue_limit{<pool>})"}, width=6),
)

SERVERS = row(
    "Servers",
    Lines("Requests by server", "Requests per second that each server is sent.", "reqps",
          {"{{pool}} {{server}}": "sum by (pool, server) (rate(outrigger_server_requests_total{<pool>}[$__rate_interval]))"}),
    Lines("p99 by server", "99 of 100 requests are answered no later, from the write to the reply: the server and the network.", "s",
          {"{{pool}} {{server}}": quantile(0.99, "outrigger_server_request_duration_seconds", "<pool>", "pool, server") + " > 0"}, log=True),
    Lines("Share of the keys", "What share of the keys each server has now, on the average of the instances. It changes at an "
          "ejection and at a reload.", "percentunit",
          {"{{pool}} {{server}}": "avg by (pool, server) (outrigger_server_ring_share_ratio{<pool>})"}, max=1),
)

DASHBOARD = dashboard(
    "outrigger-pool", "Outrigger / Pool", "One pool, or some: who asks what, what they get, how long it takes and where the time "
    "goes. Pools of one name in several jobs are added up: choose a job.", ["job", "instance", "pool"],
    [NOW, TRAFFIC, LATENCY, ERROR_ROW, CLIENTS, SERVERS],
)
