"""The servers behind the pools: their state, what they are asked, how they answer, their connections."""

from grafana import (
    GREEN, ORANGE, RED, YELLOW, Lines, Stat, States, dashboard, mapping, quantile, row, thresholds,
)

EACH = "{{pool}} {{server}}"


def rate(counter):
    """Per second, for each server."""
    return f"sum by (pool, server) (rate({counter}{{<server>}}[$__rate_interval]))"


def total(gauge):
    return f"sum by (pool, server) ({gauge}{{<server>}})"


NOW = row(
    "Now",
    Stat("Servers", "Servers of the chosen pools.", "short", "count(count by (job, pool, server) (outrigger_server_info{<server>}))"),
    Stat("Away", "Servers that at least one instance has ejected.", "short",
         "count(count by (job, pool, server) (outrigger_server_up{<server>} == 0)) or vector(0)", thresholds=thresholds(GREEN, (1, ORANGE))),
    Stat("Requests", "Requests per second that the servers are sent.", "reqps",
         "sum(rate(outrigger_server_requests_total{<server>}[$__rate_interval]))"),
    Stat("p99 of servers", "99 of 100 requests are answered no later, from the write to the reply.", "s",
         quantile(0.99, "outrigger_server_request_duration_seconds", "<server>")),
    Stat("In flight", "Requests written to servers and not answered yet.", "short", "sum(outrigger_server_in_flight_requests{<server>})"),
    Stat("Queued", "Requests not written to servers yet.", "short", "sum(outrigger_server_queued_requests{<server>})"),
    Stat("Timeouts", "Requests per second that no server answered in time.", "reqps",
         "sum(rate(outrigger_server_timeouts_total{<server>}[$__rate_interval]))", thresholds=thresholds(GREEN, (0.01, RED))),
    Stat("Ejections", "Ejections in the chosen time, added over the instances.", "short",
         "sum(increase(outrigger_server_ejections_total{<server>}[$__range]))", decimals=0, thresholds=thresholds(GREEN, (1, ORANGE))),
)

HEALTH = row(
    "Health",
    States("State", "What share of its keys each server gets, the least that an instance gives it: live (all), returning (a part "
           "that grows), ejected (none).", "percentunit",
           {EACH: "min by (pool, server) (outrigger_server_traffic_ratio{<server>})"}, max=1,
           mappings=mapping(ejected=(0, 0, RED), returning=(0.001, 0.999, YELLOW), live=(1, 1, GREEN)),
           thresholds=thresholds(RED, (0.001, YELLOW), (1, GREEN)), height=7),
    Lines("Failures in a row", "Of the instance that has seen the most. At `server_failure_limit` a server is ejected, where the pool "
          "ejects.", "short", {EACH: "max by (pool, server) (outrigger_server_consecutive_failures{<server>})"}),
    Lines("Failed probes", "Probes per second that failed (Redis PING, memcached version).", "ops",
          {EACH: 'sum by (pool, server) (rate(outrigger_server_probes_total{<server>, result="failed"}[$__rate_interval]))'}),
    Lines("Share of the keys", "What share of its pool's keys each server has now, on the average of the instances.", "percentunit",
          {EACH: "avg by (pool, server) (outrigger_server_ring_share_ratio{<server>})"}, max=1),
)

TRAFFIC = row(
    "Traffic and latency",
    Lines("Requests", "Requests per second that each server is sent. One that gets many more than its share of the keys has a hot "
          "key: see /hotkeys.", "reqps", {EACH: rate("outrigger_server_requests_total")}),
    Lines("p50", "Half of the requests are answered no later, from the write to the reply: the server and the network.", "s",
          {EACH: quantile(0.5, "outrigger_server_request_duration_seconds", "<server>", "pool, server") + " > 0"}, log=True),
    Lines("p99", "99 of 100 requests are answered no later, from the write to the reply: the server and the network.", "s",
          {EACH: quantile(0.99, "outrigger_server_request_duration_seconds", "<server>", "pool, server") + " > 0"}, log=True),
    Lines("Bytes sent", "Bytes per second to each server.", "Bps", {EACH: rate("outrigger_server_request_bytes_total")}, width=12),
    Lines("Bytes received", "Bytes per second from each server.", "Bps", {EACH: rate("outrigger_server_response_bytes_total")}, width=12),
)

QUEUES = row(
    "Queues",
    Lines("Queue time, p99", "99 of 100 requests are written to the server no later after they were queued: the time that they wait "
          "for a connection, or for a server that takes no more.", "s",
          {EACH: quantile(0.99, "outrigger_server_queue_duration_seconds", "<server>", "pool, server") + " > 0"}, log=True),
    Lines("In flight", "Requests written and not answered yet.", "short", {EACH: total("outrigger_server_in_flight_requests")}),
    Lines("Queued", "Requests not written yet.", "short", {EACH: total("outrigger_server_queued_requests")}),
    Lines("Bytes in flight", "Bytes of the requests that are written and not answered yet; kept to send them again.", "bytes",
          {EACH: total("outrigger_server_in_flight_bytes")}),
    Lines("Bytes queued", "Bytes of the requests that are not written yet.", "bytes", {EACH: total("outrigger_server_queued_bytes")}),
    Lines("Timeouts", "Requests per second that were not answered in time.", "reqps", {EACH: rate("outrigger_server_timeouts_total")}),
)

CONNECTIONS = row(
    "Connections",
    Lines("Connections by state", "Connections of all instances to the chosen servers. waiting: for the time of the next attempt.",
          "short", {"{{state}}": "sum by (state) (outrigger_server_connections{<server>})"}, stack=True,
          colors={"connected": GREEN, "connecting": YELLOW, "waiting": RED}),
    Lines("Connects", "Connections opened per second. Many, for long: the server closes them.", "ops",
          {EACH: rate("outrigger_server_connections_opened_total")}),
    Lines("Connection errors by reason", "Attempts that failed and connections that were lost, per second.", "ops",
          {EACH + " {{reason}}": "sum by (pool, server, reason) (rate(outrigger_server_connection_errors_total{<server>}[$__rate_interval])) > 0"}, legend=["max"]),
    Lines("Sent again", "Requests per second that were sent a second time after a lost connection.", "reqps",
          {EACH: rate("outrigger_server_retries_total")}),
    Lines("Not sent again", "Requests per second that could have been sent a second time, but the retry budget was used up.", "reqps",
          {EACH: rate("outrigger_server_retries_denied_total")}),
    Lines("Seen as away", "How many instances have ejected the server. Some but not all: look at the network between them.", "short",
          {EACH: "sum by (pool, server) (1 - outrigger_server_up{<server>})"}),
)

DASHBOARD = dashboard(
    "outrigger-server", "Outrigger / Server", "The servers behind the pools, as the proxies see them: state, latency without "
    "Outrigger's own time, queues, connections.", ["job", "instance", "pool", "server"],
    [NOW, HEALTH, TRAFFIC, QUEUES, CONNECTIONS],
)
