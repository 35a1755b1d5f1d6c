//! `docs/metrics.md` is written from the table of metrics: `make docs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outrigger::admin::{Family, Kind, SECTIONS, metrics};
use outrigger::telemetry::{Class, Ending, Label, Outcome, Trouble};

use crate::exposition::{Exposition, Labels, family_of};
use crate::need;
use crate::still::{Still, configuration};
use crate::support::process::program;

/// Pools, and servers of each, of the example.
const EXAMPLE: (usize, usize) = (3, 10);
const WORKERS: usize = 2;

const INTRODUCTION: &str = "\
# Metrics

`GET /metrics` of the admin port (`admin.listen`) tells the numbers of one Outrigger in the text format of Prometheus.
`deploy/prometheus.yml` shows how it is scraped, `dashboards/` has what to look at and when to be told.

Written from the program's own table of metrics: change it there, then `make docs`.

- Names, units and types follow the practice of Prometheus: seconds, bytes, ratios from 0 to 1; counters end in `_total` and
  only grow until a restart.
- Every series is there from the start, with 0, so that `rate()` sees the first increase. The series of a server or a pool
  that a reload removes go; those of one that stays go on.
- No label ever holds a key or the address of a client.
- `GET /topology` has the same numbers as JSON, `GET /slowlog` and `GET /hotkeys` have what metrics cannot: keys.
";

const QUERIES: [(&str, &str); 16] = [
    ("Requests per second of each pool", "sum by (pool) (rate(outrigger_requests_total[5m]))"),
    (
        "Part of the reads that find their key",
        "sum by (pool) (rate(outrigger_requests_total{command=\"read\",result=\"ok\"}[5m]))\n  / sum by (pool) (rate(outrigger_requests_total{command=\"read\",result=~\"ok|miss\"}[5m]))",
    ),
    (
        "Part of the requests that no server answered or that Outrigger refused",
        "sum by (pool) (rate(outrigger_requests_total{result=~\"failed|rejected\"}[5m]))\n  / sum by (pool) (rate(outrigger_requests_total[5m]))",
    ),
    ("Why they failed", "sum by (pool, reason) (rate(outrigger_request_errors_total[5m])) > 0"),
    (
        "99 of 100 requests are answered within",
        "histogram_quantile(0.99, sum by (pool, command, le) (rate(outrigger_request_duration_seconds_bucket[5m])))",
    ),
    (
        "The same of each server and the network: if this is high, it is not Outrigger",
        "histogram_quantile(0.99, sum by (pool, server, le) (rate(outrigger_server_request_duration_seconds_bucket[5m])))",
    ),
    (
        "The same of the wait for a connection: if this is high, the server takes too little or is not connected",
        "histogram_quantile(0.99, sum by (pool, server, le) (rate(outrigger_server_queue_duration_seconds_bucket[5m])))",
    ),
    ("How busy each worker is; at 1 it can do no more", "rate(outrigger_worker_cpu_seconds_total[1m])"),
    (
        "Part of the time in which a worker was kept from a CPU: throttled, or the machine is crowded",
        "rate(outrigger_worker_wait_seconds_total[1m])",
    ),
    ("How full the memory for requests and replies is", "outrigger_buffered_bytes / outrigger_buffered_limit_bytes"),
    ("How many of the client sessions that may be are", "outrigger_sessions / outrigger_sessions_limit"),
    ("Servers that get no traffic", "outrigger_server_up == 0"),
    ("Servers that were ejected within the last hour", "increase(outrigger_server_ejections_total[1h]) > 0"),
    (
        "Load of each server against its part of the keys; far from 1: a few keys are hot",
        "rate(outrigger_server_requests_total[5m])\n  / on (instance, pool) group_left sum by (instance, pool) (rate(outrigger_server_requests_total[5m]))\n  / outrigger_server_ring_share_ratio",
    ),
    (
        "Fragments of a multi-key request on average",
        "rate(outrigger_fragments_total[5m]) / rate(outrigger_fragmented_requests_total[5m])",
    ),
    ("Proxies of a fleet with another configuration than most", "count by (hash) (outrigger_config_hash_info)"),
];

#[test]
fn the_document_is_what_the_table_says() {
    let path = root().join("docs/metrics.md");
    let document = document();
    if std::env::var_os("OUTRIGGER_WRITE_DOCS").is_some() {
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let mut lines = written.lines().zip(document.lines()).enumerate();
    let differs = lines.find(|(_, (old, new))| old != new);
    assert!(written == document, "docs/metrics.md is not up to date, run `make docs`: {differs:?}");
}

#[test]
fn the_queries_are_about_metrics_that_exist_and_can_be_read() {
    for (_, query) in QUERIES {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: Vec<&str> = words.filter(|word| word.starts_with("outrigger_")).collect();
        assert!(!named.is_empty(), "{query}");
        let known: BTreeMap<String, ()> = families().map(|family| (family.name.to_owned(), ())).collect();
        named.iter().for_each(|name| assert!(family_of(&known, name).is_some(), "there is no {name}: {query}"));
    }
    let promtool = need!(program("promtool"));
    let rules =
        QUERIES.iter().enumerate().fold("groups:\n- name: all\n  rules:\n".to_owned(), |text, (n, (_, query))| {
            text + &format!("  - record: q{n}\n    expr: {}\n", serde_json::to_string(query).unwrap())
        });
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(file.path(), rules).unwrap();
    let checked = Command::new(promtool).args(["check", "rules"]).arg(file.path()).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn families() -> impl Iterator<Item = &'static Family> {
    SECTIONS.iter().flat_map(|section| section.families)
}

fn document() -> String {
    let still = Still::with(&configuration(EXAMPLE.0, EXAMPLE.1));
    let answer = Exposition::parse(&metrics(&still.sources));
    let sections: String = SECTIONS.iter().map(|section| section_text(section.question, section.families)).collect();
    [INTRODUCTION, &sections, &values(&answer), &buckets(&answer), &queries(), &cardinality(&answer)].join("\n")
}

fn section_text(question: &str, families: &[Family]) -> String {
    let mut text = format!("## {question}\n\n| metric | type | labels | unit | |\n|---|---|---|---|---|\n");
    for family in families {
        let labels: Vec<String> = family.all_labels().map(|label| format!("`{label}`")).collect();
        let (name, kind, unit) = (family.name, family.kind.name(), unit(family.name));
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {unit} | {} |", labels.join(", "), family.help);
    }
    text
}

/// What the end of a name says.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    let units = [("_timestamp_seconds", "seconds since 1970"), ("_start_time_seconds", "seconds since 1970")];
    let usual = [("_seconds", "seconds"), ("_bytes", "bytes"), ("_ratio", "0 to 1"), ("_info", "")];
    let found = units.iter().chain(&usual).find(|(end, _)| name.ends_with(end));
    found.map_or("number", |(_, unit)| unit)
}

/// The labels whose values are always the same.
fn values(answer: &Exposition) -> String {
    let mut text =
        "## Values of labels\n\n`pool` and `server` are the names of the configuration; `worker` counts from 0.\n\n\
                    | metric | label | values |\n|---|---|---|\n"
            .to_owned();
    for family in families().filter(|family| !family.name.ends_with("_info")) {
        for label in family.labels.iter().filter(|label| **label != "worker") {
            let values = in_order(answer, family, label);
            let _ = writeln!(text, "| `{}` | `{label}` | {} |", family.name, values.join(", "));
        }
    }
    text + &meanings()
}

fn meanings() -> String {
    fn rows<L: Label>(title: &str, meaning: fn(L) -> &'static str) -> String {
        let row = |value: &L| format!("| `{}` | {} |\n", value.name(), meaning(*value));
        format!("\n{title}:\n\n| | |\n|---|---|\n{}", L::ALL.iter().map(row).collect::<String>())
    }
    rows("`command` of requests", class)
        + &rows("`result` of requests", outcome)
        + &rows("`reason` of requests that failed or were rejected, and of connections", trouble)
        + &rows("`reason` of sessions that were closed", ending)
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Read => "Reads.",
        Class::Write => "Whatever changes something.",
        Class::Other => {
            "Goes to a server and is neither: scripts, PUBLISH, flush_all; commands that Outrigger does not know."
        }
        Class::Proxy => "Outrigger answers it itself: PING, version.",
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "Done.",
        Outcome::Miss => {
            "There was nothing: a null reply, `END` without a value, `NOT_FOUND`. An array of nulls is `ok`."
        }
        Outcome::Error => "The server answered with an error.",
        Outcome::Failed => "No server answered. Of a request in pieces: of one of them at the least.",
        Outcome::Rejected => "Outrigger refused it.",
    }
}

fn trouble(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Timeout => "No reply in time.",
        Trouble::ConnectionLost => "The connection to the server was closed or broke.",
        Trouble::ConnectFailed => "The server could not be connected to.",
        Trouble::NotResolved => "The name of the server has no address.",
        Trouble::Login => "The server refused AUTH, HELLO or SELECT.",
        Trouble::ProtocolError => "The server sent something that is no reply.",
        Trouble::NotReady => "The server says that it cannot serve, as with LOADING.",
        Trouble::Ejected => "The server is ejected, or all are.",
        Trouble::Exhausted => "This machine or process has run out of something, such as open files.",
        Trouble::Removed => "A reload has removed the server, or its address.",
        Trouble::Overload => "The process holds as many bytes as it may.",
        Trouble::Unsupported => "Outrigger does not know the command, or does not do it.",
        Trouble::Invalid => "Arguments are missing, too many or too long, or their keys are on several servers.",
        Trouble::Unauthenticated => "The client has not logged in.",
        Trouble::Forbidden => "The rules of the client's user do not allow it; see `users`.",
    }
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Client => "The client closed its connection.",
        Ending::Quit => "The client said QUIT.",
        Ending::Reset => "The connection broke.",
        Ending::Protocol => "What the client sent is no request.",
        Ending::Idle => "Nothing for `client_idle_timeout`.",
        Ending::Slow => "The client took nothing for `client_write_timeout`.",
        Ending::Overload => "The process held as many bytes as it may.",
        Ending::Drained => "The process ended, or the pool was removed.",
        Ending::Departed => "It goes on in another process, after an upgrade.",
        Ending::Killed => "Somebody said CLIENT KILL.",
        Ending::UserRemoved => "A reload has removed the client's user.",
    }
}

/// As they stand in the answer: that is how the program lists them.
fn in_order(answer: &Exposition, family: &Family, label: &str) -> Vec<String> {
    let start = format!("{label}=\"");
    let mut values: Vec<String> = Vec::new();
    for line in answer.text.lines().filter(|line| line.starts_with(family.name)) {
        let value = line.split_once(&start).and_then(|(_, rest)| rest.split('"').next());
        values.extend(value.filter(|value| !values.iter().any(|known| known == value)).map(str::to_owned));
    }
    values
}

fn series<'a>(answer: &'a Exposition, family: &'a Family) -> impl Iterator<Item = &'a Labels> {
    let known = BTreeMap::from([(family.name.to_owned(), ())]);
    answer.all().filter(move |(name, ..)| family_of(&known, name).is_some()).map(|(_, labels, _)| labels)
}

fn buckets(answer: &Exposition) -> String {
    let mut text = "## Buckets\n\nUpper bounds in seconds; `+Inf` follows. The clock is read once a pass of a worker's loop: times are as exact as \
                    a pass is short.\n\n| metric | `le` |\n|---|---|\n"
        .to_owned();
    for family in families().filter(|family| family.kind == Kind::Histogram) {
        let mut bounds: Vec<f64> = series(answer, family).filter_map(|labels| labels.get("le")?.parse().ok()).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let finite: Vec<String> = bounds.iter().filter(|bound| bound.is_finite()).map(f64::to_string).collect();
        let _ = writeln!(text, "| `{}` | {} |", family.name, finite.join(", "));
    }
    text
}

fn queries() -> String {
    let query = |(what, query): &(&str, &str)| format!("{what}:\n```promql\n{query}\n```\n");
    let queries: String = QUERIES.iter().map(query).collect();
    format!("## Queries\n\nIn order of what is usually asked first. `dashboards/` has these and more.\n\n{queries}")
}

fn cardinality(answer: &Exposition) -> String {
    let (pools, servers) = EXAMPLE;
    let scope = |labels: &Labels| match (labels.get("pool"), labels.get("server"), labels.get("worker")) {
        (_, Some(_), _) => "server",
        (Some(_), ..) => "pool",
        (.., Some(_)) => "worker",
        _ => "process",
    };
    let count = |what: &str| answer.all().filter(|(_, labels, _)| scope(labels) == what).count();
    let (process, worker) = (count("process"), count("worker") / WORKERS);
    let (pool, server) = (count("pool") / pools, count("server") / (pools * servers));
    let series = answer.all().count();
    assert_eq!(series, process + worker * WORKERS + pool * pools + server * pools * servers);
    let kilobytes = answer.text.len() / 10_000 * 10;
    format!(
        "## How many series\n\n\
         {process} + {worker} × workers + {pool} × pools + {server} × servers. TCP listeners add 2 a pool, \
         `client_connections` adds 1.\n\n\
         {pools} pools of {servers} servers with {WORKERS} workers have {series} series, in about {kilobytes} KB a scrape; \
         with `observe.metrics: false` {} of them.\n",
        without_measuring()
    )
}

fn without_measuring() -> usize {
    let still = Still::with(&format!("observe:\n  metrics: false\n{}", configuration(EXAMPLE.0, EXAMPLE.1)));
    Exposition::parse(&metrics(&still.sources)).all().count()
}
