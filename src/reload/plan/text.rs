//! The plan for people: what `outrigger diff` prints.
//!
//! ```text
//! ~ pool sessions: 24.8 % of keys move
//!     timeout     400ms -> 500ms
//!   + sessions-4         0 % ->       25.1 %  10.0.0.4:6379
//!     3 others  33.0-33.9 % -> 24.7-25.1 %
//! ```

use std::fmt;

use super::{
    Change, ChangedPool, ListenerChange, MovedKeys, Plan, PoolChange, Precision, ServerChange, ServerPlan, WholePool,
};

impl Plan {
    /// All of it, line by line: `+` comes, `-` goes, `~` changes. What stays is counted.
    pub fn lines(&self) -> Vec<String> {
        if self.is_empty() {
            return vec![format!("nothing changes: {}", counted(self.unchanged_pools, "pool"))];
        }
        let mut lines = Vec::new();
        let restart = self.needs_restart.iter().map(|change| (change, ", needs a restart"));
        let settings: Vec<_> = restart.chain(self.settings.iter().map(|change| (change, ""))).collect();
        let width = settings.iter().map(|(change, _)| change.key.len()).max().unwrap_or(0);
        lines.extend(
            settings.iter().map(|(change, note)| format!("~ {:width$}  {}{note}", change.key, change.values())),
        );
        for pool in &self.pools {
            match pool {
                PoolChange::Added(pool) => lines.push(format!("+ pool {pool}")),
                PoolChange::Removed(pool) => lines.push(format!("- pool {pool}")),
                PoolChange::Changed(pool) => pool.write(&mut lines),
            }
        }
        lines.extend(self.listeners.iter().map(ListenerChange::to_string));
        match self.unchanged_pools {
            0 => {}
            1 => lines.push("  1 pool stays as it is".to_owned()),
            n => lines.push(format!("  {n} pools stay as they are")),
        }
        lines.iter().map(|line| printable(line)).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl ChangedPool {
    fn write(&self, lines: &mut Vec<String>) {
        let was = self.renamed_from.as_ref().map_or(String::new(), |name| format!(" (was {name})"));
        lines.push(format!("~ pool {}{was}: {}", self.name, self.moved));
        let width = self.settings.iter().map(|change| change.key.len()).max().unwrap_or(0);
        lines.extend(self.settings.iter().map(|change| format!("    {:width$}  {}", change.key, change.values())));
        let (kept, others): (Vec<_>, Vec<_>) = self.servers.iter().partition(|s| s.change == ServerChange::Kept);
        let mut rows: Vec<ServerRow> = others.into_iter().map(ServerRow::of).collect();
        rows.extend(ServerRow::of_all(&kept, rows.is_empty()));
        let width = |cell: fn(&ServerRow) -> &String| rows.iter().map(|r| cell(r).chars().count()).max().unwrap_or(0);
        let (name, before, after) = (width(|row| &row.name), width(|row| &row.before), width(|row| &row.after));
        for ServerRow { sign, name: own, before: share_before, after: share_after, what } in &rows {
            let line = format!("  {sign} {own:name$}  {share_before:>before$} -> {share_after:>after$}  {what}");
            lines.push(line.trim_end().to_owned());
        }
    }
}

/// The cells of a line about servers.
struct ServerRow {
    sign: char,
    name: String,
    before: String,
    after: String,
    what: String,
}

impl ServerRow {
    fn of(server: &ServerPlan) -> Self {
        let share = |share: Option<f64>| percent(share.unwrap_or(0.0));
        Self {
            sign: match server.change {
                ServerChange::Kept => ' ',
                ServerChange::Changed => '~',
                ServerChange::Added => '+',
                ServerChange::Removed => '-',
            },
            name: server.name.clone(),
            before: share(server.share_before),
            after: share(server.share_after),
            what: server.what(),
        }
    }

    /// Servers that stay, in one line. `alone`: there is no other.
    fn of_all(kept: &[&ServerPlan], alone: bool) -> Option<Self> {
        let range = |share: fn(&ServerPlan) -> Option<f64>| {
            let shares = || kept.iter().filter_map(|server| share(server));
            let (least, most) = (percent(shares().fold(1.0, f64::min)), percent(shares().fold(0.0, f64::max)));
            if least == most { most } else { format!("{}-{most}", least.trim_end_matches(" %")) }
        };
        let name = match kept.len() {
            0 => return None,
            n if alone => counted(n, "server"),
            n => counted(n, "other"),
        };
        let (before, after) = (range(|server| server.share_before), range(|server| server.share_after));
        Some(Self { sign: ' ', name, before, after, what: String::new() })
    }
}

impl ServerPlan {
    /// Where it is, or what has changed.
    pub(super) fn what(&self) -> String {
        if self.settings.is_empty() {
            let weight = if self.weight == 1 { String::new() } else { format!(", weight {}", self.weight) };
            return format!("{}{weight}", self.address);
        }
        let changes = self.settings.iter().map(|change| match change.key {
            "name" => format!("was {}", change.before),
            key => format!("{key} {}", change.values()),
        });
        changes.collect::<Vec<_>>().join(", ")
    }
}

impl Change {
    /// `400ms -> 500ms`.
    pub(super) fn values(&self) -> String {
        match &self.before {
            // Secrets look alike.
            before if *before == self.after => "changed".to_owned(),
            before => format!("{before} -> {}", self.after),
        }
    }
}

impl fmt::Display for WholePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, listen, protocol, servers } = self;
        write!(f, "{name}: {listen}, {protocol}, {}", counted(*servers, "server"))
    }
}

impl fmt::Display for ListenerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { address, pool } => write!(f, "+ listener {address} (pool {pool})"),
            Self::Closed { address, pool } => write!(f, "- listener {address} (pool {pool})"),
            Self::Passed { address, from, to } => write!(f, "~ listener {address}: pool {from} -> pool {to}"),
        }
    }
}

impl fmt::Display for MovedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = match self.precision {
            Precision::AnyServer => return f.write_str("any server will do for any key"),
            _ if self.share == 0.0 => return f.write_str("no key moves"),
            Precision::Exact => "",
            Precision::About => "about ",
            Precision::AtMost => "at most ",
        };
        write!(f, "{about}{} of keys move", percent(self.share))
    }
}

/// To one place, and never 0 or 100 unless it is.
fn percent(share: f64) -> String {
    match share {
        0.0 => "0 %".to_owned(),
        1.0 => "100 %".to_owned(),
        small if small < 0.0005 => "<0.1 %".to_owned(),
        large if large >= 0.9995 => ">99.9 %".to_owned(),
        _ => format!("{:.1} %", share * 100.0),
    }
}

/// `1 pool`, `2 pools`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Names may hold anything; a line stays a line.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nothing_is_0_and_only_all_is_100_percent() {
        let shares = [0.0, 1e-9, 0.0005, 0.24816, 0.9994, 0.99951, 1.0];
        let shown = ["0 %", "<0.1 %", "0.1 %", "24.8 %", "99.9 %", ">99.9 %", "100 %"];
        assert_eq!(shares.map(percent), shown);
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(printable("pool a\nb\u{1b}[1m: ü"), "pool a\\nb\\u{1b}[1m: ü");
    }
}
