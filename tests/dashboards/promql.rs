//! As much of PromQL as is needed to see which metrics and labels an expression names.

/// `name{matchers}`, without the range behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    /// What stands between the braces.
    pub matchers: String,
}

impl Selector {
    /// As it is asked for its series.
    pub fn text(&self) -> String {
        format!("{}{{{}}}", self.metric, self.matchers)
    }

    /// The labels that the matchers name.
    pub fn labels(&self) -> Vec<String> {
        let outside = without_strings(&self.matchers);
        let label = |matcher: &str| matcher.split(['=', '!']).next().unwrap_or_default().trim().to_owned();
        outside.split(',').map(label).filter(|label| !label.is_empty()).collect()
    }
}

/// Words before a parenthesis that are followed by labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const KEYWORDS: [&str; 5] = ["and", "or", "unless", "offset", "bool"];

/// With the strings emptied, so that what is in them is taken for nothing else.
fn without_strings(text: &str) -> String {
    text.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The index behind the parenthesis or brace that is opened first.
fn closing(text: &str, close: char) -> usize {
    let mut in_string = false;
    let end = text.char_indices().find(|(_, c)| {
        in_string ^= *c == '"';
        *c == close && !in_string
    });
    end.unwrap_or_else(|| panic!("no '{close}' in {text}")).0
}

/// The metrics that are selected, and the labels that are grouped or joined by.
pub fn parse(expression: &str) -> (Vec<Selector>, Vec<String>) {
    let (mut selectors, mut labels) = (Vec::new(), Vec::new());
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            rest = &rest[1 + closing(&rest[1..], '"') + 1..];
        } else if c == '[' {
            rest = &rest[closing(rest, ']') + 1..];
        } else if c.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| is_name(c) || c == '.');
        } else if is_name(c) {
            let word = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
            rest = rest[word.len()..].trim_start();
            if BEFORE_LABELS.contains(&word) && rest.starts_with('(') {
                let end = closing(rest, ')');
                labels.extend(rest[1..end].split(',').map(|label| label.trim().to_owned()));
                rest = &rest[end + 1..];
            } else if rest.starts_with('{') {
                let end = closing(rest, '}');
                selectors.push(Selector { metric: word.to_owned(), matchers: rest[1..end].to_owned() });
                rest = &rest[end + 1..];
            } else if !rest.starts_with('(') && !KEYWORDS.contains(&word) && !is_aggregation(word, rest) {
                selectors.push(Selector { metric: word.to_owned(), matchers: String::new() });
            }
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    (selectors, labels)
}

/// `sum by (pool) (x)`: its labels stand before its argument.
fn is_aggregation(word: &str, rest: &str) -> bool {
    ["sum", "min", "max", "avg", "count", "topk"].contains(&word)
        && ["by", "without"].iter().any(|b| rest.starts_with(b))
}

/// The `$variables` of a text.
pub fn variables(text: &str) -> Vec<String> {
    let names = text.split('$').skip(1).map(|rest| {
        let rest = rest.trim_start_matches('{');
        rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())].to_owned()
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn selectors_and_labels_are_seen() {
    let (selectors, labels) = parse(
        r#"histogram_quantile(0.99, sum by (le, pool) (rate(a_bucket{x="}",pool=~"$p"}[5m]))) > 1e3 and on (job) b offset 1h"#,
    );
    assert_eq!(selectors.iter().map(Selector::text).collect::<Vec<_>>(), [r#"a_bucket{x="}",pool=~"$p"}"#, "b{}"]);
    assert_eq!(selectors[0].labels(), ["x", "pool"]);
    assert_eq!(labels, ["le", "pool", "job"]);
    assert_eq!(variables("x{a=~\"$pool\"}[$__range] ${datasource:queryparam}"), ["pool", "__range", "datasource"]);
}
