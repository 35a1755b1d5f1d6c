//! What is shown of given answers.

use schemars::schema_for;
use serde_json::Value;

use super::answers::{Event, Events, HotKey, HotKeys, SlowLog, Topology};
use super::board::Board;
use super::figures::{Period, Quantile, Requests, quantile};
use super::status::status;
use crate::admin::{EventsView, HotKeysView, SlowLogView, TopologyView};
use crate::cli::show::Line;

const ANSWER: &str = include_str!("tests/topology.json");

fn topology() -> Topology {
    serde_json::from_str(ANSWER).expect("an answer")
}

/// The answer of some seconds later, with whatever else has changed.
fn later(seconds: f64, change: impl FnOnce(&mut Topology)) -> Topology {
    let mut topology = topology();
    topology.uptime_seconds += seconds;
    change(&mut topology);
    topology
}

fn texts(lines: &[Line]) -> Vec<String> {
    lines.iter().map(Line::to_string).collect()
}

fn count(topology: &mut Topology, class: &str, result: &str, more: u64) {
    *topology.pools[0].requests.get_mut(class).unwrap().get_mut(result).unwrap() += more;
}

#[test]
fn a_status_is_one_screen_with_what_is_wrong_first() {
    let shown = texts(&status(topology(), None)).join("\n") + "\n";
    assert_eq!(shown, include_str!("tests/status.txt"), "{shown}");
}

#[test]
fn a_status_tells_of_connections_that_clients_have_to_themselves() {
    let topology = later(0.0, |t| {
        let links = &mut t.pools[0].servers[0].connections;
        (links.connected, links.connecting, links.waiting) = (9, 1, 0);
        (links.dedicated_in_use, links.dedicated_idle) = (4, 2);
    });
    let shown = texts(&status(topology, None));
    assert_eq!(shown.iter().filter(|line| line.contains("  9 +1 (6 dedicated, 4 in use)  ")).count(), 1, "{shown:#?}");
}

#[test]
fn a_status_fits_a_narrow_terminal() {
    let shown = |width| texts(&status(topology(), Some(width)));
    assert!(shown(44).contains(&"POOL      REQUESTS  ERRORS     p50     p99".into()), "{:#?}", shown(44));
    assert!(shown(40).contains(&"POOL      REQUESTS  ERRORS     p99".into()), "{:#?}", shown(40));
    assert!(shown(44).contains(&"SERVER      STATE             ERRORS     p99".into()), "{:#?}", shown(44));
    assert!(shown(30).contains(&"SERVER      STATE".into()), "{:#?}", shown(30));
    assert!(shown(20).contains(&"sessions-2  ejected…".into()), "{:#?}", shown(20));
}

#[test]
fn a_proxy_that_is_not_ready_says_so_first() {
    let topology = later(0.0, |t| {
        t.ready = false;
        t.not_ready_reason = "no pool has a live server".into();
    });
    let shown = texts(&status(topology, None));
    assert!(
        shown[0].starts_with("NOT READY: no pool has a live server  outrigger 0.1.0, process 4711"),
        "{}",
        shown[0]
    );
}

#[test]
fn an_answer_of_another_version_is_read_as_far_as_it_goes() {
    let mut answer: Value = serde_json::from_str(ANSWER).unwrap();
    answer["news"] = 1.into();
    answer["pools"][0]["servers"][0]["state"] = "sleeping".into();
    answer["pools"][0].as_object_mut().unwrap().remove("sessions");
    answer.as_object_mut().unwrap().remove("worker_threads");
    let topology: Topology = serde_json::from_value(answer).unwrap();
    assert!(!status(topology, None).is_empty());
    assert!(!status(serde_json::from_str("{}").unwrap(), None).is_empty());
}

/// Where a schema has a field that another one has not.
fn fields_missing(of: &Value, root: &Value, other: &Value, other_root: &Value, path: &str, missing: &mut Vec<String>) {
    fn resolve<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
        let choice = schema["anyOf"].as_array().and_then(|choices| choices.iter().find(|one| one["type"] != "null"));
        let schema = choice.unwrap_or(schema);
        match schema["$ref"].as_str() {
            Some(name) => root.pointer(name.trim_start_matches('#')).unwrap_or(schema),
            None => schema,
        }
    }
    let (of, other) = (resolve(of, root), resolve(other, other_root));
    for (name, field) in of["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        match other["properties"].get(name) {
            Some(same) => fields_missing(field, root, same, other_root, &path, missing),
            None => missing.push(path),
        }
    }
    if let Some(items) = of.get("items") {
        fields_missing(items, root, &other["items"], other_root, path, missing);
    }
}

#[test]
fn every_field_that_is_read_is_told() {
    let mut missing = Vec::new();
    for (read, told) in [
        (schema_for!(Topology), schema_for!(TopologyView)),
        (schema_for!(Events), schema_for!(EventsView)),
        (schema_for!(HotKeys), schema_for!(HotKeysView)),
        (schema_for!(SlowLog), schema_for!(SlowLogView)),
    ] {
        let (read, told) = (read.to_value(), told.to_value());
        fields_missing(&read, &read, &told, &told, "", &mut missing);
    }
    assert_eq!(missing, [""; 0]);
    // The test looks into lists.
    let (read, told) = (schema_for!(Topology).to_value(), schema_for!(TopologyView).to_value());
    fields_missing(&told, &told, &read, &read, "", &mut missing);
    assert!(missing.contains(&"/pools/servers/weight".to_owned()), "{missing:?}");
}

#[test]
fn rates_are_differences_over_the_time_of_the_proxy() {
    let now = later(2.0, |t| {
        count(t, "read", "ok", 90);
        count(t, "read", "miss", 10);
        count(t, "write", "failed", 20);
        t.pools[0].servers[0].requests += 7;
    });
    let period = Period::between(&topology(), &now);
    let pool = &period.counted.pools[0];
    let requests = Requests::of(pool);
    assert_eq!(requests, Requests { all: 120, errors: 20, hits: 90, misses: 10 });
    assert_eq!(period.per_second(requests.all), 60.0);
    assert_eq!(requests.hit_share(), Some(0.9));
    assert_eq!(pool.servers[0].requests, 7);
    assert_eq!(pool.sessions.open, 34, "how many there are is not counted");
    assert_eq!(pool.latency["read"].iter().sum::<u64>(), 0);
}

#[test]
fn a_counter_that_has_started_again_counts_from_zero() {
    let replaced = later(1.0, |t| {
        let server = &mut t.pools[0].servers[0];
        server.requests = 5;
        server.latency = vec![0; 30];
        server.latency[3] = 5;
    });
    let period = Period::between(&topology(), &replaced);
    let server = &period.counted.pools[0].servers[0];
    assert_eq!((server.requests, server.latency.iter().sum()), (5, 5));
    assert!(!period.since_start);
}

#[test]
fn another_process_is_shown_from_its_start() {
    let successor = later(-7490.0, |t| t.pid += 1);
    let period = Period::between(&topology(), &successor);
    assert!(period.since_start);
    assert_eq!(period.seconds, 10.0);
    assert_eq!(period.counted.pools[0].servers[0].requests, 800_000);
}

#[test]
fn quantiles_are_within_bins_and_the_last_one_has_no_bound() {
    let bounds = [100, 200, 400];
    assert_eq!(quantile(&[0, 0, 0, 0], &bounds, 0.5), None);
    assert_eq!(quantile(&[10, 0, 0, 0], &bounds, 0.5), Some(Quantile::About(50.0)));
    assert_eq!(quantile(&[50, 0, 50, 0], &bounds, 0.5), Some(Quantile::About(100.0)));
    assert_eq!(quantile(&[50, 0, 50, 0], &bounds, 0.75), Some(Quantile::About(300.0)));
    assert_eq!(quantile(&[98, 0, 0, 2], &bounds, 0.99), Some(Quantile::MoreThan(400.0)));
    assert_eq!(quantile(&[1, 1], &bounds, 0.5), None, "bins of other bounds");
    assert_eq!(quantile(&[], &[], 0.5), None);
}

/// A second with traffic and trouble.
fn board() -> Board {
    let now = later(1.0, |t| {
        count(t, "read", "ok", 9000);
        count(t, "read", "failed", 1000);
        *t.pools[0].errors.get_mut("timeout").unwrap() += 1000;
        t.pools[0].request_bytes += 400_000;
        t.pools[0].latency.get_mut("read").unwrap()[6] += 9990;
        t.pools[0].latency.get_mut("read").unwrap()[29] += 10;
        t.pools[0].servers[0].requests += 6000;
        t.pools[0].servers[2].requests += 4000;
        t.worker_threads[1].cpu_seconds += 0.97;
        t.worker_threads[1].wait_seconds += 0.3;
    });
    let mut board = Board::default();
    board.counted(Some(&topology()), &now);
    let event = |number: u64| Event {
        number,
        at: format!("2026-08-01T02:04:{:02}.000Z", 20 + number),
        pool: "sessions".into(),
        server: "sessions-2".into(),
        what: "ejected".into(),
        why: "Connection refused".into(),
    };
    board.events.events = (0..12).map(event).collect();
    let key = |share: f64| HotKey { key: format!("user:{share}"), server: "sessions-1".into(), share };
    board.hot_keys.pools.push(Default::default());
    board.hot_keys.pools[0].pool = "sessions".into();
    board.hot_keys.pools[0].hot = [0.02, 0.12].map(key).into();
    board
}

#[test]
fn a_board_shows_the_last_second() {
    let shown = texts(&board().lines(None, None)).join("\n") + "\n";
    assert_eq!(shown, include_str!("tests/board.txt"), "{shown}");
}

#[test]
fn a_board_fits_every_terminal() {
    let board = board();
    for height in 1..60 {
        for width in [1, 20, 40, 80, 200] {
            let lines = board.lines(Some(width), Some(height));
            assert!(lines.len() <= height, "{} lines in {height}", lines.len());
            assert!(lines.iter().all(|line| line.width() <= width), "{width}: {:#?}", texts(&lines));
        }
    }
    let short = texts(&board.lines(Some(80), Some(22)));
    let starts = |text: &str| short.iter().any(|line| line.starts_with(text));
    assert!(starts("READY") && starts("✗ sessions: 10 % of the requests fail: timeout 1.0k/s"), "{short:#?}");
    assert!(starts("  … 3 more") && starts("POOL") && starts("SERVER") && !starts("hot keys"), "{short:#?}");
}

#[test]
fn a_board_without_an_answer_says_so_and_keeps_the_rest() {
    let mut board = board();
    board.trouble = Some("nothing listens on 127.0.0.1:1".into());
    let lines = texts(&board.lines(None, None));
    assert_eq!(lines[0], "NO ANSWER: nothing listens on 127.0.0.1:1");
    assert!(lines.iter().any(|line| line.starts_with("sessions/sessions-1")));
}
