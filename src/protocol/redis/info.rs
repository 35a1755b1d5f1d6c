//! INFO of several servers as one text: the first server's, in which figures are those of all.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

/// How the values of one field become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The first server's: neither a sum nor a comparison would mean anything.
    First,
    Sum,
    Least,
    Greatest,
    /// The oldest version.
    Oldest,
    /// The sum of limits; 0, no limit, if that is one of them.
    Limit,
    /// `ok` or `up`, unless it is something else somewhere.
    Sound,
    /// The size in the field of the same name without `_human`, for people.
    Human,
    /// Left out.
    Gone,
    /// `calls=1,usec=2`: by name. Also those that the first server has not.
    Record,
}

/// The first that fits counts; `*` stands for any beginning or end. What fits none is the first server's.
#[rustfmt::skip]
const RULES: &[(&str, Rule)] = &[
    ("*_human", Rule::Human),
    // Server
    ("redis_version", Rule::Oldest), ("valkey_version", Rule::Oldest), ("uptime_in_*", Rule::Least),
    // Clients
    ("connected_clients", Rule::Sum), ("cluster_connections", Rule::Sum), ("maxclients", Rule::Sum),
    ("client_recent_max_*", Rule::Greatest), ("blocked_clients", Rule::Sum), ("tracking_clients", Rule::Sum),
    ("pubsub_clients", Rule::Sum), ("watching_clients", Rule::Sum), ("clients_in_timeout_table", Rule::Sum),
    // Memory
    ("used_memory_*_perc", Rule::Gone), ("used_memory*", Rule::Sum), ("maxmemory", Rule::Limit),
    ("mem_allocator", Rule::First), ("*_ratio", Rule::Greatest), ("allocator_*", Rule::Sum),
    ("rss_overhead_bytes", Rule::Sum), ("mem_*", Rule::Sum), ("lazyfree*", Rule::Sum),
    ("number_of_*", Rule::Greatest), ("active_defrag_running", Rule::Greatest),
    // Persistence
    ("loading", Rule::Greatest), ("async_loading", Rule::Greatest), ("*_in_progress", Rule::Greatest),
    ("aof_rewrite_scheduled", Rule::Greatest), ("aof_enabled", Rule::Least), ("*_status", Rule::Sound),
    ("rdb_last_save_time", Rule::Least), ("*_time_sec", Rule::Greatest), ("*_cow_size_age", Rule::Greatest),
    ("*_cow_size", Rule::Sum), ("current_cow_peak", Rule::Sum), ("current_fork_perc", Rule::Greatest),
    ("current_save_keys_*", Rule::Sum), ("rdb_*", Rule::Sum), ("aof_*", Rule::Sum),
    // Stats
    ("total_system_memory", Rule::First), ("total_*", Rule::Sum), ("instantaneous_*", Rule::Sum),
    ("rejected_*", Rule::Sum), ("sync_*", Rule::Sum), ("expired_stale_perc", Rule::Greatest), ("expire*", Rule::Sum),
    ("evicted_*", Rule::Sum), ("current_eviction_exceeded_time", Rule::Greatest), ("keyspace_*", Rule::Sum),
    ("pubsub_patterns", Rule::Greatest), ("pubsub*", Rule::Sum), ("latest_fork_usec", Rule::Greatest),
    ("migrate_cached_sockets", Rule::Sum), ("slave_expires_tracked_keys", Rule::Sum),
    ("active_defrag_*", Rule::Sum), ("current_active_defrag_time", Rule::Greatest), ("tracking_*", Rule::Sum),
    ("unexpected_error_replies", Rule::Sum), ("dump_payload_sanitizations", Rule::Sum), ("io_threaded_*", Rule::Sum),
    ("reply_buffer_*", Rule::Sum), ("eventloop_*", Rule::Sum), ("acl_access_denied_*", Rule::Sum),
    ("client_*_buffer_limit_disconnections", Rule::Sum),
    // Replication; the lines of replicas are put behind their number.
    ("connected_slaves", Rule::Sum),
    // CPU
    ("used_cpu_*", Rule::Sum),
    // Statistics by command and error; Keyspace
    ("cmdstat_*", Rule::Record), ("errorstat_*", Rule::Record), ("latency_percentiles_usec_*", Rule::Record),
    ("db*", Rule::Record),
];

/// One text of those of all servers that have answered; empty for none.
pub fn merge(texts: &[&str]) -> String {
    let servers: Vec<Vec<Section<'_>>> = texts.iter().map(|text| sections(text)).collect();
    let mut values: HashMap<&str, Vec<&str>> = HashMap::new();
    for (field, value) in servers.iter().flatten().flat_map(|section| &section.fields) {
        values.entry(field).or_default().push(value);
    }
    let Some(first) = servers.first() else { return String::new() };
    let mut out = String::new();
    for section in first {
        let gap = if out.is_empty() { "" } else { "\r\n" };
        let _ = write!(out, "{gap}# {}\r\n", section.name);
        let same = || servers.iter().flatten().filter(|other| other.name == section.name);
        let mut written = HashSet::new();
        let records = same().flat_map(|other| &other.fields).filter(|(field, _)| rule(field) == Rule::Record);
        for &(field, _) in section.fields.iter().chain(records).filter(|(field, _)| !is_replica(field)) {
            if written.insert(field)
                && let Some(value) = value(field, &values)
            {
                let _ = write!(out, "{field}:{value}\r\n");
            }
            if field == "connected_slaves" {
                let replicas = same().flat_map(|other| &other.fields).filter(|(field, _)| is_replica(field));
                replicas.enumerate().for_each(|(number, (_, value))| {
                    let _ = write!(out, "slave{number}:{value}\r\n");
                });
            }
        }
    }
    out
}

struct Section<'a> {
    name: &'a str,
    /// In their order.
    fields: Vec<(&'a str, &'a str)>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            sections.push(Section { name, fields: Vec::new() });
        } else if let (Some(section), Some(field)) = (sections.last_mut(), line.split_once(':')) {
            section.fields.push(field);
        }
    }
    sections
}

/// `slave0`, as a server calls its first replica.
fn is_replica(field: &str) -> bool {
    field.strip_prefix("slave").is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn rule(field: &str) -> Rule {
    let fits = |pattern: &str| match pattern.split_once('*') {
        Some((start, end)) => {
            field.len() >= start.len() + end.len() && field.starts_with(start) && field.ends_with(end)
        }
        None => field == pattern,
    };
    RULES.iter().find(|(pattern, _)| fits(pattern)).map_or(Rule::First, |(_, rule)| *rule)
}

/// The one value of a field; `None`: it is left out.
fn value(field: &str, values: &HashMap<&str, Vec<&str>>) -> Option<String> {
    let all = values.get(field)?;
    let first = *all.first()?;
    let chosen = match rule(field) {
        Rule::First => first,
        Rule::Gone => return None,
        Rule::Human => return Some(human(value(field.strip_suffix("_human")?, values)?.parse().ok()?)),
        Rule::Sum => return Some(sum(all).unwrap_or_else(|| first.to_owned())),
        Rule::Limit if all.contains(&"0") => "0",
        Rule::Limit => return Some(sum(all).unwrap_or_else(|| first.to_owned())),
        Rule::Least => all.iter().copied().min_by(|a, b| number(a).total_cmp(&number(b)))?,
        Rule::Greatest => all.iter().copied().max_by(|a, b| number(a).total_cmp(&number(b)))?,
        Rule::Oldest => all.iter().copied().min_by_key(|version| numbers_of_version(version))?,
        Rule::Sound => all.iter().copied().find(|state| !matches!(*state, "ok" | "up")).unwrap_or(first),
        Rule::Record => return Some(record(all)),
    };
    Some(chosen.to_owned())
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

fn numbers_of_version(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// Of whole numbers, or of fractions with as many digits as the first has.
fn sum(all: &[&str]) -> Option<String> {
    if let Some(whole) = all.iter().try_fold(0, |sum: i64, text| sum.checked_add(text.parse().ok()?)) {
        return Some(whole.to_string());
    }
    let sum = all.iter().map(|text| text.parse::<f64>().ok()).sum::<Option<f64>>()?;
    let digits = all.first()?.split_once('.').map_or(0, |(_, digits)| digits.len());
    Some(format!("{sum:.digits$}"))
}

/// As Redis writes sizes.
fn human(bytes: u64) -> String {
    let units = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.2}{}", units[unit])
}

/// `keys=3,expires=1`: sums by name; but an average is the average of all, and of percentiles the greatest is taken.
fn record(all: &[&str]) -> String {
    let records: Vec<HashMap<&str, &str>> =
        all.iter().map(|record| record.split(',').filter_map(|part| part.split_once('=')).collect()).collect();
    let total = |name: &str| -> f64 { records.iter().filter_map(|record| record.get(name)).map(|v| number(v)).sum() };
    let mut names: Vec<&str> = Vec::new();
    for name in all.iter().flat_map(|record| record.split(',')).filter_map(|part| Some(part.split_once('=')?.0)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let parts = names.iter().map(|&name| {
        let own: Vec<&str> = records.iter().filter_map(|record| record.get(name).copied()).collect();
        let value = match name {
            "usec_per_call" => format!("{:.2}", total("usec") / total("calls").max(1.0)),
            "avg_ttl" => {
                let field = |record: &HashMap<&str, &str>, name| record.get(name).map_or(0.0, |text| number(text));
                let weighted: f64 = records.iter().map(|r| field(r, "avg_ttl") * field(r, "expires")).sum();
                format!("{:.0}", weighted / total("expires").max(1.0))
            }
            _ if name.starts_with('p') => {
                own.iter().copied().max_by(|a, b| number(a).total_cmp(&number(b))).unwrap_or_default().to_owned()
            }
            _ => sum(&own).unwrap_or_else(|| own.first().copied().unwrap_or_default().to_owned()),
        };
        format!("{name}={value}")
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
