"""The process: its CPU, memory and files, and which configuration is in force where."""

from grafana import (
    BLUE, GREEN, RED, YELLOW, Column, Lines, Stat, Table, dashboard, ratio, row, thresholds,
)
from overview import EVENTS, FULLNESS

# `process_*` of whatever else the same job scrapes is left out.
OWN = "and on (job, instance) outrigger_build_info"
EACH = "{{instance}}"


def worst(query):
    """By instance, the 20 highest: a fleet may have hundreds."""
    return {EACH: f"topk(20, {query})"}


NOW = row(
    "Now",
    Stat("Proxies", "Instances that answer the scrape, and how many of them are ready.", "short",
         {"ready": "sum(outrigger_ready{<proxy>})", "all": "count(outrigger_build_info{<proxy>})"}),
    Stat("Configurations", "Different configurations in force. More than one per job for long: some instances have missed a change.",
         "short", "count(count by (hash) (outrigger_config_hash_info{<proxy>}))"),
    Stat("Failed last reload", "Instances that refused their configuration file when it last changed, and serve on with the one "
         "before.", "short", "sum(1 - outrigger_config_last_reload_successful{<proxy>})", thresholds=thresholds(GREEN, (1, RED))),
    Stat("Settings that wait", "Settings that changed in the file and wait for a restart or an upgrade, added over the instances.",
         "short", "sum(outrigger_config_needs_restart{<proxy>})", thresholds=thresholds(GREEN, (1, YELLOW))),
    Stat("CPU", "CPU use of all instances, in cores.", "short",
         f"sum(rate(process_cpu_seconds_total{{<proxy>}}[$__rate_interval]) {OWN})", decimals=2),
    Stat("CPU per request", "CPU time of the process for each request of a client.", "s",
         ratio(f"sum(rate(process_cpu_seconds_total{{<proxy>}}[$__rate_interval]) {OWN})",
               "sum(rate(outrigger_requests_total{<proxy>}[$__rate_interval]))")),
    Stat("Memory", "Resident memory of the largest instance.", "bytes", f"max(process_resident_memory_bytes{{<proxy>}} {OWN})"),
    Stat("Youngest", "Time since the last start of an instance.", "s",
         f"time() - max(process_start_time_seconds{{<proxy>}} {OWN})"),
)

PROXIES = row(
    "Proxies",
    Table("Proxies", "One line for each instance and configuration. `Generation` counts the configurations since its start; "
          "`Config` is a hash of the one in force: equal hashes, equal configurations.",
          {"job": "Job", "instance": "Instance", "version": "Version", "hash": "Config"},
          {"Ready": Column("""outrigger_ready{<proxy>} * on (job, instance) group_left (version) outrigger_build_info
                              * on (job, instance) group_left (hash) outrigger_config_hash_info""", "bool_yes_no",
                           thresholds=thresholds(RED, (1, GREEN))),
           "Generation": Column("sum by (job, instance) (outrigger_config_generation{<proxy>})", "short"),
           "Changed": Column("1000 * max by (job, instance) (outrigger_config_last_change_timestamp_seconds{<proxy>})", "dateTimeFromNow"),
           "Last reload good": Column("min by (job, instance) (outrigger_config_last_reload_successful{<proxy>})", "bool_yes_no",
                                      thresholds=thresholds(RED, (1, GREEN))),
           "Started": Column(f"1000 * max by (job, instance) (process_start_time_seconds{{<proxy>}} {OWN})", "dateTimeFromNow"),
           "Workers": Column("sum by (job, instance) (outrigger_workers{<proxy>})", "short"),
           "Memory": Column(f"sum by (job, instance) (process_resident_memory_bytes{{<proxy>}} {OWN})", "bytes"),
           "Requests": Column("sum by (job, instance) (rate(outrigger_requests_total{<proxy>}[$__rate_interval]))", "reqps")},
          sort="Requests", height=7),
)

WORKERS = row(
    "Workers",
    Lines("Busiest worker", "CPU use of the busiest worker thread of each instance (the 20 busiest instances). At 100 % the clients "
          "of this worker wait for it.", "percentunit",
          worst("max by (instance) (rate(outrigger_worker_cpu_seconds_total{<proxy>}[$__rate_interval]))"), thresholds=FULLNESS),
    Lines("Waiting for CPU", "Share of the time in which a worker could run and got no CPU, of the worst worker of each instance: a "
          "CPU limit throttles it, or the machine is crowded.", "percentunit",
          worst("max by (instance) (rate(outrigger_worker_wait_seconds_total{<proxy>}[$__rate_interval]))")),
    Lines("Balance of workers", "Clients of the worker that has the most against the mean of its instance: 1 is an even spread.", "short",
          worst(ratio("max by (instance) (outrigger_worker_sessions{<proxy>})", "avg by (instance) (outrigger_worker_sessions{<proxy>})"))),
)

RESOURCES = row(
    "Memory, files, threads",
    Lines("Resident memory", "Of each instance (the 20 largest).", "bytes",
          worst(f"sum by (instance) (process_resident_memory_bytes{{<proxy>}} {OWN})")),
    Lines("Buffered bytes", "What an instance holds for clients and servers, as a share of `max_buffered_bytes`. Near 100 % clients "
          "are read no further; at 100 % requests are refused.", "percentunit",
          worst("max by (instance) (outrigger_buffered_bytes{<proxy>} / outrigger_buffered_limit_bytes{<proxy>})"), thresholds=FULLNESS),
    Lines("Open files", "Open files of an instance as a share of what it may open.", "percentunit",
          worst(f"max by (instance) (process_open_fds{{<proxy>}} / process_max_fds{{<proxy>}} {OWN})"), thresholds=FULLNESS),
    Lines("CPU", "CPU use of each process, in cores.", "short",
          worst(f"sum by (instance) (rate(process_cpu_seconds_total{{<proxy>}}[$__rate_interval]) {OWN})")),
    Lines("Waiting to be accepted", "Clients in the queue of a listener, as a share of `backlog`: the fullest of each instance.",
          "percentunit",
          worst("max by (instance) (outrigger_listener_queue{<proxy>} / outrigger_listener_queue_limit{<proxy>})"), thresholds=FULLNESS),
    Lines("Threads", "Threads of the process.", "short", worst(f"sum by (instance) (process_threads{{<proxy>}} {OWN})")),
)

CHANGES = row(
    "What changed",
    Lines("Reloads", "Changes of the configuration: those in force, and those that were refused.", "short",
          {"{{result}}": "sum by (result) (increase(outrigger_config_reloads_total{<proxy>}[$__rate_interval]))"},
          colors={"changed": BLUE, "failed": RED}, bars=True, legend=[]),
    Lines("Instances by configuration", "How many instances have each configuration in force. During a rollout the lines cross.", "short",
          {"{{hash}}": "count by (hash) (outrigger_config_hash_info{<proxy>})"}, stack=True),
    Lines("Instances by version", "How many instances run each version.", "short",
          {"{{version}}": "count by (version) (outrigger_build_info{<proxy>})"}, stack=True),
    Lines("Events", "What changed: `outrigger events` and /events of each instance tell it with the reasons.", "short",
          {"{{event}}": EVENTS}, bars=True, legend=[], width=12),
    Lines("Scrape", "How long Prometheus waited for /metrics of each instance (the 20 longest).", "s",
          {"{{instance}}": f"topk(20, scrape_duration_seconds{{<proxy>}} {OWN})"}, width=12),
)

DASHBOARD = dashboard(
    "outrigger-runtime", "Outrigger / Runtime", "The processes: CPU, memory and files, versions, and which configuration is in force "
    "where.", ["job", "instance"], [NOW, PROXIES, WORKERS, RESOURCES, CHANGES],
)
