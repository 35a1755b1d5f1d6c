//! The form of the dashboards: what Grafana needs, and what makes them readable.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::files::{Board, boards, folder, text};
use crate::need;
use crate::promql::variables;
use crate::support::process::program;

/// The panel types that current Grafana draws without a plugin, of those used here.
const PANELS: [&str; 5] = ["stat", "timeseries", "table", "heatmap", "state-timeline"];
const UNITS: [&str; 9] =
    ["short", "reqps", "ops", "s", "bytes", "Bps", "percentunit", "bool_yes_no", "dateTimeFromNow"];
/// Variables that Grafana itself knows.
const BUILT_IN: [&str; 5] = ["__rate_interval", "__range", "__url_time_range", "__data", "__all"];

#[test]
fn the_json_is_what_the_sources_say() {
    let python = need!(program("python3"));
    let check = Command::new(python).arg(folder().join("build.py")).arg("--check").output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn each_dashboard_has_an_identity() {
    let mut identities = BTreeSet::new();
    for board in boards() {
        let json = &board.json;
        assert_eq!(json["uid"], format!("outrigger-{}", board.name));
        assert!(identities.insert(text(&json["title"]).to_owned()), "{}: its title is used twice", board.name);
        assert_eq!(json["id"], Value::Null, "{}: an id of one Grafana", board.name);
        assert_eq!(json["schemaVersion"], 39, "{}", board.name);
        assert!(!text(&json["description"]).is_empty(), "{}: no description", board.name);
        // The links between the dashboards go by this tag.
        assert!(json["tags"].as_array().unwrap().contains(&json!("outrigger")), "{}", board.name);
        let link = &json["links"][0];
        assert_eq!((&link["type"], &link["tags"]), (&json!("dashboards"), &json!(["outrigger"])), "{}", board.name);
        assert!(link["includeVars"] == true && link["keepTime"] == true, "{}: links forget", board.name);
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    for board in boards() {
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in board.json["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}: id {} twice", board.name, panel["id"]);
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(x + w <= 24 && w > 0 && h > 0, "{}: {} is out of the grid", board.name, panel["title"]);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{}: {} overlaps another panel", board.name, panel["title"]);
            }
        }
    }
}

#[test]
fn panels_say_what_they_show() {
    for board in boards() {
        let mut titles = BTreeSet::new();
        for panel in board.panels() {
            let place = format!("{}: {}", board.name, text(&panel["title"]));
            assert!(PANELS.contains(&text(&panel["type"])), "{place}: panel type {}", panel["type"]);
            assert!(text(&panel["description"]).len() > 20, "{place}: no description");
            assert!(panel["type"] == "stat" || titles.insert(text(&panel["title"]).to_owned()), "{place}: twice");
            let unit = panel.pointer("/fieldConfig/defaults/unit").or(panel.pointer("/options/yAxis/unit"));
            assert!(unit.is_some_and(|unit| UNITS.contains(&text(unit))), "{place}: unit {unit:?}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{place}: no query");
            for target in targets {
                // One line can do without a legend, several cannot.
                let legend = text(&target["legendFormat"]);
                let alone = panel["type"] == "stat" && targets.len() == 1 || panel["type"] == "table";
                assert!(alone || !["", "__auto"].contains(&legend), "{place}: no legend");
            }
        }
    }
}

/// In a table each column has its own unit.
#[test]
fn columns_have_units() {
    for board in boards() {
        for table in board.panels().into_iter().filter(|panel| panel["type"] == "table") {
            let renamed = table.pointer("/transformations/1/options/renameByName").unwrap().as_object().unwrap();
            for (_, column) in renamed.iter().filter(|(name, _)| name.starts_with("Value")) {
                let overrides = table.pointer("/fieldConfig/overrides").unwrap().as_array().unwrap();
                let unit = overrides
                    .iter()
                    .filter(|set| set.pointer("/matcher/options") == Some(column))
                    .flat_map(|set| set["properties"].as_array().unwrap())
                    .find(|property| property["id"] == "unit");
                assert!(unit.is_some_and(|u| UNITS.contains(&text(&u["value"]))), "{}: unit of {column}", board.name);
            }
        }
    }
}

#[test]
fn everything_goes_to_the_chosen_data_source() {
    let chosen = json!({"type": "prometheus", "uid": "${datasource}"});
    for board in boards() {
        let first = &board.variables()[0];
        assert_eq!((&first["type"], &first["name"]), (&json!("datasource"), &json!("datasource")), "{}", board.name);
        let panels = board.panels();
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
        let others = board.variables()[1..].iter().chain(board.annotations());
        for asked in panels.iter().copied().chain(targets).chain(others) {
            assert_eq!(asked["datasource"], chosen, "{}: {asked}", board.name);
        }
    }
}

#[test]
fn rates_follow_the_scrape_interval() {
    for board in boards() {
        for query in board.queries() {
            for range in query.expression.split('[').skip(1) {
                let range = range.split(']').next().unwrap();
                assert!(["$__rate_interval", "$__range"].contains(&range), "{}: [{range}]", query.place);
            }
        }
    }
}

/// What stands behind `$` anywhere in the dashboard.
fn used(board: &Board) -> BTreeSet<String> {
    variables(&board.json.to_string()).into_iter().filter(|name| !BUILT_IN.contains(&name.as_str())).collect()
}

#[test]
fn every_variable_is_defined_and_used() {
    for board in boards() {
        let defined: BTreeSet<_> = board.variables().iter().map(|v| text(&v["name"]).to_owned()).collect();
        assert_eq!(used(&board), defined, "{}", board.name);
        for variable in &board.variables()[1..] {
            assert!(
                variable["multi"] == true && variable["includeAll"] == true,
                "{}: {}",
                board.name,
                variable["name"]
            );
        }
    }
}

/// A dashboard that links to another one links to one that is here.
#[test]
fn links_lead_somewhere() {
    let mut found = 0;
    for board in boards() {
        let json = board.json.to_string();
        for link in json.split("\"/d/").skip(1) {
            let uid = link.split('/').next().unwrap();
            assert!(boards().iter().any(|board| board.json["uid"] == uid), "{}: no dashboard {uid}", board.name);
            found += 1;
        }
    }
    assert!(found >= 2, "{found} links found");
}
