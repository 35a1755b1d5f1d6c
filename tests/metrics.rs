//! `/metrics`: the format, the table of metrics, and whether the numbers are those of what happened.

mod support;

#[path = "metrics/clients.rs"]
mod clients;
#[path = "metrics/exposition.rs"]
mod exposition;
#[path = "metrics/reference.rs"]
mod reference;
#[path = "metrics/still.rs"]
mod still;
#[path = "metrics/trouble.rs"]
mod trouble;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use outrigger::admin::{METRICS_TYPE, SECTIONS, metrics};
use support::process::program;
use support::{Outrigger, Pool};

use exposition::Exposition;
use still::{Still, configuration};

/// What a running proxy says.
#[track_caller]
fn scrape(proxy: &Outrigger) -> Exposition {
    let response = proxy.http("GET", "/metrics");
    assert_eq!((response.status, response.header("content-type")), (200, METRICS_TYPE));
    Exposition::parse(&response.body)
}

/// A pool of each kind, one of which has every limit that has a metric.
fn varied() -> Outrigger {
    let server = |name: &str| vec![format!("local {name}")];
    Outrigger::start([
        Pool::new("cache", "redis", &server("one")).set("client_connections: 100"),
        Pool::new("memory", "memcached", &server("two")),
    ])
}

#[test]
fn promtool_has_nothing_to_say() {
    let promtool = need!(program("promtool"));
    let proxy = varied();
    proxy.client_of(0).ask("SET a 1");
    let text = scrape(&proxy).text;
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    let mut input = check.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let checked = check.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr) + String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_proxy_tells_every_metric_of_the_table_and_no_other() {
    let answer = scrape(&varied());
    let mut table: Vec<&str> = SECTIONS.iter().flat_map(|section| section.families).map(|family| family.name).collect();
    table.sort_unstable();
    assert!(table.windows(2).all(|pair| pair[0] != pair[1]), "twice in the table: {table:?}");
    assert_eq!(answer.families_seen(), table);
    for family in SECTIONS.iter().flat_map(|section| section.families) {
        let (help, kind) = &answer.families[family.name];
        assert_eq!((help.as_str(), kind.as_str()), (family.help, family.kind.name()), "{}", family.name);
        assert!(help.ends_with('.') && !help.contains('|'), "{help}");
    }
    let labels = |name: &str| answer.find(name, &[]).next().unwrap().0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(labels("outrigger_server_connections"), ["pool", "server", "state"]);
    assert_eq!(labels("outrigger_request_duration_seconds_bucket"), ["command", "le", "pool"]);
}

#[test]
fn the_numbers_of_the_process_are_plausible() {
    let proxy = varied();
    let mut client = proxy.client_of(0);
    (0..1000).for_each(|_| assert_eq!(client.ask("SET a 1"), "+OK"));
    let answer = scrape(&proxy);
    let one = |name: &str| answer.sum(name, &[]);
    let workers = one("outrigger_worker_cpu_seconds_total");
    assert!(workers > 0.0 && workers <= one("process_cpu_seconds_total"), "{workers}");
    assert_eq!(one("outrigger_workers"), 2.0);
    assert_eq!(one("outrigger_worker_sessions"), 1.0);
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
        - one("process_start_time_seconds");
    assert!((0.0..60.0).contains(&age), "{age}");
    let resident = one("process_resident_memory_bytes");
    assert!((1e6..1e9).contains(&resident) && resident < one("process_virtual_memory_bytes"), "{resident}");
    assert!(one("process_threads") >= 4.0 && one("process_open_fds") >= 8.0);
    assert!(one("process_open_fds") < one("process_max_fds"));
    assert!(one("outrigger_buffered_bytes") < one("outrigger_buffered_limit_bytes"));
}

#[test]
fn a_histogram_never_falls_and_ends_with_its_count() {
    let answer = Exposition::parse(&metrics(&Still::with(&configuration(1, 2)).sources));
    let families = ["outrigger_request_duration_seconds", "outrigger_server_request_duration_seconds"];
    for family in families.into_iter().chain(["outrigger_server_queue_duration_seconds"]) {
        let (bucket, count) = (format!("{family}_bucket"), format!("{family}_count"));
        for (labels, count) in answer.find(&count, &[]) {
            let of: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let bound = |labels: &exposition::Labels| labels["le"].replace("+Inf", "inf").parse::<f64>().unwrap();
            let mut buckets: Vec<(f64, f64)> =
                answer.find(&bucket, &of).map(|(labels, below)| (bound(labels), below)).collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)));
            // What was recorded: each power of two, in microseconds, 200 times.
            let (le, below) = buckets[1];
            let shorter = (0..32).filter(|bit| f64::from(1u32 << bit) < le * 1e6).count();
            assert_eq!(below, 200.0 * shorter as f64, "{family} {le}");
        }
    }
}

#[test]
fn names_with_quotes_backslashes_and_line_ends_are_read_back() {
    let name = "a \"pool\" of\\nothing\nat all";
    let pool = "    listen: 127.0.0.1:1\n    servers: ['127.0.0.1:2 \"x\\y\"']\n";
    let yaml = format!("pools:\n  {}:\n{pool}", serde_json::to_string(name).unwrap());
    let answer = Exposition::parse(&metrics(&Still::with(&yaml).sources));
    let labels = [("pool", name), ("server", "\"x\\y\"")];
    assert_eq!(answer.sum("outrigger_server_up", &labels), 1.0);
}

#[test]
fn without_measuring_just_what_says_so_is_missing() {
    let yaml = format!("observe:\n  metrics: false\n{}", configuration(1, 1));
    let with = Exposition::parse(&metrics(&Still::with(&configuration(1, 1)).sources)).families_seen();
    let answer = Exposition::parse(&metrics(&Still::with(&yaml).sources));
    let without = answer.families_seen();
    let missing: Vec<&String> = with.iter().filter(|name| !without.contains(name)).collect();
    let families = SECTIONS.iter().flat_map(|section| section.families);
    let mut told: Vec<&str> =
        families.filter(|family| family.help.contains("observe.metrics: false")).map(|family| family.name).collect();
    told.sort_unstable();
    assert_eq!(missing, told);
    assert_eq!(missing.len(), 4);
}

/// A hundred servers. The promise is 10 ms, of an optimised program on a machine that has time; `benches/scrape.rs` judges that.
#[test]
fn a_scrape_of_a_hundred_servers_does_not_take_long() {
    let still = Still::with(&configuration(1, 100));
    let once = || {
        let start = Instant::now();
        let text = metrics(&still.sources);
        assert!(text.len() > 100_000);
        start.elapsed()
    };
    let shortest = (0..10).map(|_| once()).min().unwrap();
    assert!(shortest < Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 10 }), "{shortest:?}");
}
