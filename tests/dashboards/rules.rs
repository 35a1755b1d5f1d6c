//! The alert and recording rules: promtool's opinion, their unit tests, and that each alert is tested and explained.

use std::path::Path;
use std::process::Command;

use crate::files::{folder, read, rules, text};
use crate::need;
use crate::promql;
use crate::support::process::program;

fn promtool(promtool: &Path, arguments: &[&str]) {
    let output = Command::new(promtool).args(arguments).current_dir(folder()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("SUCCESS"), "promtool {arguments:?}: {said}");
}

#[test]
fn promtool_accepts_the_rules() {
    let program = need!(program("promtool"));
    promtool(&program, &["check", "rules", "recording.yml", "alerts.yml"]);
}

#[test]
fn the_unit_tests_of_the_alerts_pass() {
    let program = need!(program("promtool"));
    promtool(&program, &["test", "rules", "alerts.test.yml"]);
}

/// Once firing and once silent.
#[test]
fn every_alert_has_a_unit_test() {
    let tests = read("alerts.test.yml");
    for rule in rules("alerts.yml") {
        let name = rule.name();
        let of_it: Vec<_> =
            tests.split("alertname: ").filter(|case| case.split_whitespace().next() == Some(name)).collect();
        assert!(of_it.iter().any(|case| case.contains("exp_labels")), "{name}: no test in which it fires");
        assert!(of_it.iter().any(|case| case.contains("exp_alerts: []")), "{name}: no test in which it is silent");
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let runbook = std::fs::read_to_string(folder().join("../docs/runbook.md")).unwrap();
    let alerts = rules("alerts.yml");
    for rule in &alerts {
        let name = rule.name();
        assert!(runbook.contains(&format!("\n## {name}\n")), "docs/runbook.md has no section {name}");
        assert_eq!(rule.annotations["runbook"], format!("docs/runbook.md#{}", name.to_lowercase()), "{name}");
        assert!(!text(&rule.annotations["summary"]).is_empty() && !text(&rule.annotations["description"]).is_empty());
        assert!(["critical", "warning", "info"].contains(&text(&rule.labels["severity"])), "{name}: no severity");
    }
    let sections = runbook.lines().filter(|line| line.starts_with("## "));
    assert_eq!(sections.count(), alerts.len(), "docs/runbook.md has sections of alerts that are not there");
}

/// An alert over a recording that is not there would never fire.
#[test]
fn alerts_read_recordings_that_exist() {
    let recorded = rules("recording.yml");
    let mut found = 0;
    for alert in rules("alerts.yml") {
        for selector in promql::parse(&alert.expr).0.iter().filter(|selector| selector.metric.contains(':')) {
            found += 1;
            assert!(recorded.iter().any(|rule| rule.name() == selector.metric), "{} is not recorded", selector.metric);
        }
    }
    assert!(found > 5, "{found} recordings used");
}
