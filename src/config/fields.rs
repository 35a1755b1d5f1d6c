//! Reads the entries of one mapping: each key is asked for once, what nobody asked for is an unknown key.

use super::Dialect;
use super::report::{Report, Span, quoted};
use super::value::Value;
use super::yaml::{Kind, Node};

/// The entries of one mapping. `finish` must be called last.
pub(super) struct Fields<'a> {
    entries: Vec<(&'a Node, &'a str, &'a Node)>,
    /// Entries whose key was there before; reported already.
    duplicates: Vec<(&'a Node, &'a Node)>,
    /// Every key asked for: what the unknown ones are compared with.
    known: Vec<&'static str>,
    given: Places,
    /// "pool 'alpha'", "log": for messages.
    what: String,
    context: Context<'a>,
}

/// Where the values that were given stand.
#[derive(Default)]
pub(super) struct Places(Vec<(&'static str, Span)>);

impl Places {
    pub fn of(&self, key: &str) -> Option<Span> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, at)| *at)
    }
}

/// What every reader needs to know.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub report: &'a Report<'a>,
    pub dialect: Dialect,
}

impl<'a> Fields<'a> {
    /// The entries of `node`; reports it if it is no mapping, and its duplicate keys, of which the first counts.
    pub fn of(node: &'a Node, what: &str, context: Context<'a>) -> Option<Self> {
        let Kind::Mapping(pairs) = &node.kind else {
            let found = node.describe();
            context.report.error(node.at, format!("{what} is no mapping: {found}; allowed: lines of `key: value`"));
            return None;
        };
        let mut entries: Vec<(&Node, &str, &Node)> = Vec::with_capacity(pairs.len());
        let mut duplicates = Vec::new();
        for (key, value) in pairs {
            let Kind::Scalar { text, .. } = &key.kind else {
                context
                    .report
                    .error(key.at, format!("a key in {what} is no text: {}; allowed: a name", key.describe()));
                continue;
            };
            if let Some((first, ..)) = entries.iter().find(|(_, name, _)| name == text) {
                let message = format!(
                    "duplicate key in {what}: {}; first given in line {}, allowed: once",
                    key.describe(),
                    first.at.line
                );
                context.report.error(key.at, message);
                duplicates.push((key, value));
            } else {
                entries.push((key, text, value));
            }
        }
        Some(Self { entries, duplicates, known: Vec::new(), given: Places::default(), what: what.to_owned(), context })
    }

    /// The value of a key, if it is there.
    pub fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let i = self.entries.iter().position(|(_, name, _)| *name == key)?;
        let (_, _, node) = self.entries.remove(i);
        self.given.0.push((key, node.at));
        Some(Value { key, node, context: self.context })
    }

    /// There is a key, not read yet, that begins like this.
    pub fn has(&self, beginning: &str) -> bool {
        self.entries.iter().any(|(_, name, _)| name.starts_with(beginning))
    }

    /// What `read` makes of the value of a key. A missing one reads as `default`, and so does a bad one, which is
    /// reported: with an error in the report nothing that was read is ever used.
    pub fn read<T>(&mut self, key: &'static str, default: T, read: impl FnOnce(Value<'a>) -> Option<T>) -> T {
        self.value(key).and_then(read).unwrap_or(default)
    }

    /// The same for a key that only one dialect has.
    pub fn read_in<T>(
        &mut self,
        dialect: Dialect,
        key: &'static str,
        default: T,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> T {
        if self.context.dialect == dialect { self.read(key, default, read) } else { default }
    }

    /// Every entry, whatever its key, duplicates too.
    pub fn all(self) -> Vec<(&'a Node, &'a Node)> {
        let entries = self.entries.into_iter().map(|(key, _, value)| (key, value));
        entries.chain(self.duplicates).collect()
    }

    /// The keys of those entries that nobody asked for whose value is `like` this; they are taken out.
    pub fn take_like(&mut self, like: impl Fn(&Node) -> bool) -> Vec<&'a Node> {
        self.entries.extract_if(.., |(_, _, value)| like(value)).map(|(key, ..)| key).collect()
    }

    /// Reports every key that was not asked for. `hide`: keys may be misplaced secrets and are not shown.
    pub fn finish(self, hide: bool) -> Places {
        for (key, name, _) in &self.entries {
            let shown = if hide { String::new() } else { format!(": {}", key.describe()) };
            let hint = match closest(name, &self.known) {
                Some(known) => format!("did you mean {}? ", quoted(known)),
                None => String::new(),
            };
            let allowed = self.known.join(", ");
            self.context.report.error(key.at, format!("unknown key in {}{shown}; {hint}allowed: {allowed}", self.what));
        }
        self.given
    }
}

/// The known name that `name` is most likely a misspelling of.
pub(super) fn closest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // Long nonsense is nobody's misspelling, and the distance is quadratic.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase().replace(['-', ' '], "_");
    let scored = known.iter().map(|k| (distance(&name, k), *k));
    let (least, best) = scored.min_by_key(|(d, _)| *d)?;
    (least <= 1.max(best.len().min(name.len()) / 3)).then_some(best)
}

/// Letters to insert, drop, replace or swap with their neighbour to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_find_their_key() {
        let known = ["listen", "timeout", "server_connections", "hash", "hash_tag"];
        for (name, key) in [
            ("lsiten", "listen"),
            ("Timeout", "timeout"),
            ("time_out", "timeout"),
            ("server-connections", "server_connections"),
            ("hsah", "hash"),
            ("hashtag", "hash_tag"),
        ] {
            assert_eq!(closest(name, &known), Some(key), "{name}");
        }
        assert_eq!(closest("colour", &known), None);
        assert_eq!(closest(&"x".repeat(1000), &known), None);
        assert_eq!(closest("", &known), None);
    }
}
