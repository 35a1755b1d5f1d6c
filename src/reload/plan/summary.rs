//! The plan in one line, for the log.

use super::text::{counted, printable};
use super::{ChangedPool, Plan, PoolChange, ServerChange, ServerPlan};

/// Changes that are named, of the whole and of one pool; the others are counted.
const MOST_PARTS: usize = 12;
const MOST_OF_POOL: usize = 6;
const MOST_SERVERS: usize = 3;

impl Plan {
    /// `pool sessions: +1 server (10.0.0.4:6379), 24.8 % of keys move; pool old removed`. What needs a restart comes first.
    pub fn summary(&self) -> String {
        if self.is_empty() {
            return "nothing changes".to_owned();
        }
        let restart = self.needs_restart.iter().map(|c| format!("{} {} needs a restart", c.key, c.values()));
        let settings = self.settings.iter().map(|change| format!("{} {}", change.key, change.values()));
        let pools = self.pools.iter().map(|pool| match pool {
            PoolChange::Added(pool) => format!("pool {} added ({})", pool.name, pool.listen),
            PoolChange::Removed(pool) => format!("pool {} removed", pool.name),
            PoolChange::Changed(pool) => pool.summary(),
        });
        printable(&first_of(restart.chain(settings).chain(pools).collect(), MOST_PARTS, "; "))
    }
}

impl ChangedPool {
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.renamed_from.as_ref().map(|name| format!("was {name}")));
        if !self.servers.is_empty() {
            parts.extend(self.some_servers("+", ServerChange::Added, |server| server.address.clone()));
            parts.extend(self.some_servers("-", ServerChange::Removed, |server| server.address.clone()));
            let changed = |server: &ServerPlan| format!("{}: {}", server.name, server.what());
            parts.extend(self.some_servers("~", ServerChange::Changed, changed));
            parts.push(self.moved.to_string());
        }
        parts.extend(self.settings.iter().map(|change| format!("{} {}", change.key, change.values())));
        format!("pool {}: {}", self.name, first_of(parts, MOST_OF_POOL, ", "))
    }

    fn some_servers(&self, sign: &str, change: ServerChange, show: impl Fn(&ServerPlan) -> String) -> Option<String> {
        let servers: Vec<String> = self.servers.iter().filter(|s| s.change == change).map(show).collect();
        let number = counted(servers.len(), "server");
        (!servers.is_empty()).then(|| format!("{sign}{number} ({})", first_of(servers, MOST_SERVERS, ", ")))
    }
}

/// The first `most`, and how many there are beside them.
fn first_of(mut parts: Vec<String>, most: usize, between: &str) -> String {
    let left_out = parts.len().saturating_sub(most);
    parts.truncate(most);
    if left_out > 0 {
        parts.push(format!("{left_out} more"));
    }
    parts.join(between)
}
