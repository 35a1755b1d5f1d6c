//! What `/metrics` says, taken apart.

use std::collections::BTreeMap;

/// A sample's labels with their values.
pub type Labels = BTreeMap<String, String>;

/// One answer.
pub struct Exposition {
    pub text: String,
    samples: BTreeMap<(String, Labels), f64>,
    /// Help and type, by family.
    pub families: BTreeMap<String, (String, String)>,
}

impl Exposition {
    /// Every series once, every family once with its help and type before its first series.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let (mut samples, mut families, mut helps) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(helps.insert(name, help).is_none(), "twice: {line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                let help = helps.get(name).unwrap_or_else(|| panic!("no help: {line}"));
                let before = families.insert(name.to_owned(), ((*help).to_owned(), kind.to_owned()));
                assert!(before.is_none(), "twice: {line}");
            } else {
                let (name, labels, value) = sample(line);
                let family = family_of(&families, name);
                assert!(family.is_some(), "no type: {line}");
                let before = samples.insert((name.to_owned(), labels), value);
                assert!(before.is_none(), "twice: {line}");
            }
        }
        Self { text: text.to_owned(), samples, families }
    }

    /// The samples of this name with these labels, and perhaps others.
    pub fn find<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a Labels, f64)> {
        let fits = move |of: &Labels| labels.iter().all(|(label, value)| of.get(*label).is_some_and(|v| v == value));
        let named = self.samples.iter().filter(move |((of, _), _)| of == name);
        named.map(|((_, labels), value)| (labels, *value)).filter(move |(of, _)| fits(of))
    }

    /// The sum of them; there must be one at least.
    #[track_caller]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found: Vec<f64> = self.find(name, labels).map(|(_, value)| value).collect();
        assert!(!found.is_empty(), "there is no {name}{labels:?}");
        found.iter().sum()
    }

    /// The families that have a sample.
    pub fn families_seen(&self) -> Vec<String> {
        let mut seen: Vec<String> =
            self.samples.keys().filter_map(|(name, _)| family_of(&self.families, name).map(str::to_owned)).collect();
        seen.dedup();
        seen.sort();
        seen.dedup();
        seen
    }

    /// All samples: name, labels, value.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Labels, f64)> {
        self.samples.iter().map(|((name, labels), value)| (name.as_str(), labels, *value))
    }
}

/// The family of a sample: its name, or that without the ending of a part of a histogram.
pub fn family_of<'a, T>(families: &BTreeMap<String, T>, name: &'a str) -> Option<&'a str> {
    let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
    std::iter::once(name).chain(parts).find(|family| families.contains_key(*family))
}

fn sample(line: &str) -> (&str, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let value = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
    let Some((name, labels)) = series.split_once('{') else { return (series, Labels::new(), value) };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}"));
    (name, read_labels(labels), value)
}

/// `a="b",c="d"`, in the values `\\`, `\"` and `\n`.
fn read_labels(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "a label twice: {text}");
        text = rest[end + 1..].trim_start_matches(',');
    }
    labels
}
