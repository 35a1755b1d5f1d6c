//! The files of `dashboards/`, and every query in them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

pub const DASHBOARDS: [&str; 4] = ["overview", "pool", "server", "runtime"];

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

pub fn read(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One dashboard.
pub struct Board {
    pub name: &'static str,
    pub json: Value,
}

pub fn boards() -> Vec<Board> {
    let load = |name: &'static str| Board { name, json: serde_json::from_str(&read(&format!("{name}.json"))).unwrap() };
    DASHBOARDS.into_iter().map(load).collect()
}

impl Board {
    /// All but the headings of rows.
    pub fn panels(&self) -> Vec<&Value> {
        self.list("/panels").iter().filter(|panel| panel["type"] != "row").collect()
    }

    pub fn variables(&self) -> &[Value] {
        self.list("/templating/list")
    }

    pub fn annotations(&self) -> &[Value] {
        self.list("/annotations/list")
    }

    fn list(&self, pointer: &str) -> &[Value] {
        self.json.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{}: no {pointer}", self.name))
    }

    /// Every query of panels and annotations.
    pub fn queries(&self) -> Vec<Query> {
        let panels = self.panels().into_iter().flat_map(|panel| {
            let place = format!("{}: {}", self.name, text(&panel["title"]));
            let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{place}: no targets")).iter();
            targets.map(move |target| Query {
                place: place.clone(),
                expression: text(&target["expr"]).to_owned(),
                instant: target["instant"] == true,
            })
        });
        let annotations = self.annotations().iter().map(|annotation| Query {
            place: format!("{}: annotation {}", self.name, text(&annotation["name"])),
            expression: text(&annotation["expr"]).to_owned(),
            instant: false,
        });
        panels.chain(annotations).collect()
    }
}

/// An expression, and where it stands.
pub struct Query {
    pub place: String,
    pub expression: String,
    /// For a table: the values now, not their course.
    pub instant: bool,
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// A rule of `recording.yml` or `alerts.yml`.
#[derive(Deserialize)]
pub struct Rule {
    pub record: Option<String>,
    pub alert: Option<String>,
    pub expr: String,
    #[serde(default)]
    pub annotations: Value,
    #[serde(default)]
    pub labels: Value,
}

impl Rule {
    pub fn name(&self) -> &str {
        self.record.as_deref().or(self.alert.as_deref()).expect("the name of a rule")
    }
}

pub fn rules(file: &str) -> Vec<Rule> {
    let file: RuleFile = serde_saphyr::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    file.groups.into_iter().flat_map(|group| group.rules).collect()
}
