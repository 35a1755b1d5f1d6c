//! The dashboards and the alerts: their form, that every metric, label and variable in them exists, the unit tests of the
//! rules, and every query of theirs on a real Prometheus that scrapes Outriggers under load.

mod support;

#[path = "dashboards/files.rs"]
mod files;
#[path = "dashboards/lint.rs"]
mod lint;
#[path = "dashboards/live.rs"]
mod live;
#[path = "dashboards/prometheus.rs"]
mod prometheus;
#[path = "dashboards/promql.rs"]
mod promql;
#[path = "dashboards/rules.rs"]
mod rules;
#[path = "dashboards/scene.rs"]
mod scene;
