//! What the dashboards and rules ask for is there: each name in `/metrics` and in docs/metrics.md, an answer to each query.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{Query, boards, folder, rules, text};
use crate::need;
use crate::prometheus::Prometheus;
use crate::promql;
use crate::scene::{Scene, proxy};

/// Labels that Prometheus itself adds.
const ADDED: [&str; 2] = ["job", "instance"];
/// Series that Prometheus itself writes for each target.
const OF_THE_SCRAPE: [&str; 2] = ["up", "scrape_duration_seconds"];

/// Every query of the dashboards and rules, with the query of each variable.
fn every_expression() -> Vec<Query> {
    let of_rules = ["recording.yml", "alerts.yml"].into_iter().flat_map(|file| {
        rules(file).into_iter().map(move |rule| Query {
            place: format!("{file}: {}", rule.name()),
            expression: rule.expr,
            instant: true,
        })
    });
    boards().iter().flat_map(|board| board.queries()).chain(of_rules).collect()
}

/// The selector and the label of `label_values(selector, label)`.
fn label_values(query: &str) -> (&str, &str) {
    let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    inside.and_then(|inside| inside.rsplit_once(", ")).unwrap_or_else(|| panic!("{query}"))
}

/// From a page of metrics the names with their labels.
fn names_and_labels(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (selectors, _) = promql::parse(series);
        found.entry(selectors[0].metric.clone()).or_default().extend(selectors[0].labels());
    }
    found
}

#[test]
fn every_metric_and_label_exists() {
    let proxy = proxy(["local"; 3]);
    let there = names_and_labels(&proxy.http("GET", "/metrics").body);
    let documented = std::fs::read_to_string(folder().join("../docs/metrics.md")).unwrap();
    let recorded = rules("recording.yml");
    let mut seen = BTreeSet::new();
    for Query { place, expression, .. } in every_expression() {
        let (selectors, grouped) = promql::parse(&expression);
        let selectors = selectors.iter().filter(|s| {
            !OF_THE_SCRAPE.contains(&s.metric.as_str()) && !recorded.iter().any(|rule| rule.name() == s.metric)
        });
        let mut labels: BTreeSet<String> = ADDED.map(str::to_owned).into();
        for selector in selectors {
            let metric = &selector.metric;
            let own = there.get(metric).unwrap_or_else(|| panic!("{place}: there is no metric {metric}"));
            for label in selector.labels().iter().filter(|label| !ADDED.contains(&label.as_str())) {
                assert!(own.contains(label), "{place}: {metric} has no label {label}");
            }
            labels.extend(own.iter().cloned());
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric);
            assert!(documented.contains(&format!("`{family}`")), "{place}: {family} is not in docs/metrics.md");
            seen.insert(metric.clone());
        }
        // Of recordings the labels are in the name.
        let of_recordings = ["pool", "server"].map(str::to_owned);
        let unknown = grouped.iter().find(|label| !labels.contains(*label) && !of_recordings.contains(label));
        assert_eq!(unknown, None, "{place}: grouped by a label that is not there");
    }
    assert!(seen.len() > 50, "{} metrics found", seen.len());
}

/// What Grafana puts in the place of the variables.
struct Choice {
    name: &'static str,
    values: [(&'static str, String); 4],
}

impl Choice {
    fn fill(&self, text: &str) -> String {
        let text = text.replace("$__rate_interval", "2s").replace("$__range", "60s");
        self.values.iter().fold(text, |text, (name, value)| text.replace(&format!("${name}"), value))
    }
}

/// Everything; and one server of one pool of one instance, the one that was away.
fn choices(instance: String) -> [Choice; 2] {
    let all = || ".*".to_owned();
    let everything = [("job", "(outrigger)".to_owned()), ("instance", all()), ("pool", all()), ("server", all())];
    let one = [
        ("job", "outrigger".to_owned()),
        ("instance", instance),
        ("pool", "cache".to_owned()),
        ("server", "cache-1".to_owned()),
    ];
    [Choice { name: "everything", values: everything }, Choice { name: "one server", values: one }]
}

/// The queries of panels, annotations and variables that fail or find nothing.
fn unanswered(prometheus: &Prometheus, choice: &Choice) -> Vec<String> {
    let mut failed = Vec::new();
    for board in boards() {
        for query in board.queries() {
            let expression = choice.fill(&query.expression);
            let found = if query.instant { prometheus.values(&expression) } else { prometheus.course(&expression) };
            if !found.as_ref().is_ok_and(|values| !values.is_empty()) {
                failed.push(format!("{}, {}: {found:?}\n    {expression}", choice.name, query.place));
            }
        }
        for variable in board.variables().iter().filter(|variable| variable["type"] == "query") {
            let filled = choice.fill(text(&variable["definition"]));
            let (selector, label) = label_values(&filled);
            let found = prometheus.label_values(selector, label);
            if !found.as_ref().is_ok_and(|values| !values.is_empty()) {
                failed.push(format!("{}, {}: variable {label}: {found:?}\n    {filled}", choice.name, board.name));
            }
        }
    }
    failed
}

/// Of a recording the whole expression must find something; an alert that is silent finds nothing, so each of its series
/// must be there.
fn rules_without_data(prometheus: &Prometheus) -> Vec<String> {
    let mut failed = Vec::new();
    for rule in rules("recording.yml").into_iter().chain(rules("alerts.yml")) {
        if let Err(error) = prometheus.values(&rule.expr) {
            failed.push(format!("{}: {error}", rule.name()));
        }
        let parts = match rule.record {
            Some(_) => vec![rule.expr.clone()],
            None => promql::parse(&rule.expr).0.iter().map(promql::Selector::text).collect(),
        };
        for part in parts {
            if !prometheus.values(&part).is_ok_and(|values| !values.is_empty()) {
                failed.push(format!("{}: nothing for {part}", rule.name()));
            }
        }
    }
    failed
}

#[test]
fn every_query_finds_something() {
    let mut scene = need!(Scene::start());
    scene.play();
    let prometheus = &scene.prometheus;
    let [everything, one] = choices(scene.proxies[0].admin_address().to_string());
    let mut failed = unanswered(prometheus, &everything);
    failed.extend(unanswered(prometheus, &one));
    failed.extend(rules_without_data(prometheus));
    let evaluated = prometheus.rules();
    assert_eq!(evaluated.len(), rules("recording.yml").len() + rules("alerts.yml").len());
    failed.extend(evaluated.into_iter().filter(|(_, error)| !error.is_empty()).map(|(name, e)| format!("{name}: {e}")));
    assert!(failed.is_empty(), "{} queries failed:\n{}", failed.len(), failed.join("\n"));
}
