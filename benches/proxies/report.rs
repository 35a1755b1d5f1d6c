//! The tables, in Markdown: medians of the rounds, then each contender divided by the baseline, with the targets.

use serde_json::{Value, json};

use crate::measure::{Measurement, Memory, SyscallRow};
use crate::stats::{Spread, median};
use crate::syscalls::COLUMNS;
use crate::workload::{Protocol, Scenario};

/// At most so much memory per idle connection, in bytes.
const IDLE_TARGET: f64 = 3.0 * 1024.0;
/// At most so much memory at start, in bytes.
const START_TARGET: f64 = 12.0 * 1024.0 * 1024.0;
/// At most so many recv, send and epoll_wait per request, in the row of this name.
const SYSCALL_TARGET: (&str, [f64; 3]) = ("50x1", [1.2, 1.3, 0.3]);
/// Both contenders of a row at an offered rate deliver that rate; what differs is when the last reply came.
const SAME_RATE: f64 = 0.999;

/// Everything that one run found out.
#[derive(Default)]
pub struct Findings {
    pub baseline: String,
    pub measurements: Vec<Measurement>,
    pub syscalls: Vec<SyscallRow>,
    pub start: Vec<Memory>,
    pub idle: Vec<Memory>,
}

/// What is divided, and how it is to come out.
struct Quantity {
    name: &'static str,
    of: fn(&Measurement) -> Option<f64>,
    target: fn(&Scenario, Protocol) -> Option<Target>,
}

enum Target {
    AtMost(f64),
    AtLeast(f64),
}

#[rustfmt::skip]
const QUANTITIES: [Quantity; 4] = [
    Quantity { name: "CPU", of: |m| m.cpu, target: |s, protocol| s.cpu_target(protocol).map(Target::AtMost) },
    Quantity { name: "ops/s", of: |m| Some(m.ops), target: |s, _| match (s.is_latency_row(), s.rate) {
        (true, _) => None,
        (false, Some(_)) => Some(Target::AtLeast(SAME_RATE)),
        (false, None) => Some(Target::AtLeast(1.0)),
    } },
    Quantity { name: "p50", of: |m| Some(m.p50), target: |s, _| s.is_latency_row().then_some(Target::AtMost(1.0)) },
    Quantity { name: "p99", of: |m| Some(m.p99), target: |s, _| (!s.is_latency_row()).then_some(Target::AtMost(1.0)) },
];

impl Findings {
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for protocol in Protocol::ALL {
            text += &self.medians(protocol);
            text += &self.ratios(protocol);
        }
        text + &self.syscall_table() + &self.memory_tables()
    }

    fn medians(&self, protocol: Protocol) -> String {
        let rows: String = self
            .groups(protocol)
            .iter()
            .map(|(scenario, contender, group)| {
                let of = |value: fn(&Measurement) -> Option<f64>, digits: usize| {
                    let value = median(&group.iter().filter_map(|m| value(m)).collect::<Vec<_>>());
                    value.map_or("–".into(), |value| format!("{value:.digits$}"))
                };
                format!(
                    "| {} | {contender} | {} | {} | {} | {} | {} | {} |\n",
                    scenario.label,
                    of(|m| Some(m.ops), 0),
                    of(|m| Some(m.p50), 0),
                    of(|m| Some(m.p99), 0),
                    of(|m| Some(m.p999), 0),
                    of(|m| m.cpu, 2),
                    of(|m| m.rss.map(|rss| rss / 1048576.0), 1),
                )
            })
            .collect();
        let title = format!("{}: medians", protocol.name());
        table(&title, "row | contender | ops/s | p50 µs | p99 µs | p99.9 µs | CPU µs/request | RSS MiB", 2, &rows)
    }

    fn ratios(&self, protocol: Protocol) -> String {
        let groups = self.groups(protocol);
        let mut rows = String::new();
        for (scenario, contender, ours) in groups.iter().filter(|group| group.1 != "direct" && group.1 != self.baseline)
        {
            let theirs = groups.iter().find(|group| group.0.name == scenario.name && group.1 == self.baseline);
            let Some((_, _, theirs)) = theirs else { continue };
            let cells = QUANTITIES.iter().map(|quantity| {
                let values = |group: &[&Measurement]| group.iter().filter_map(|m| (quantity.of)(m)).collect::<Vec<_>>();
                let spread = Spread::of_ratios(&values(ours), &values(theirs));
                spread.map_or("–".into(), |spread| verdict(spread, (quantity.target)(scenario, protocol)))
            });
            let cells: Vec<String> = cells.collect();
            rows += &format!("| {} | {contender} | {} |\n", scenario.label, cells.join(" | "));
        }
        let title =
            format!("{}: ratio to {}, median of the rounds [quartiles], target", protocol.name(), self.baseline);
        table(&title, &format!("row | contender | {}", QUANTITIES.map(|quantity| quantity.name).join(" | ")), 2, &rows)
    }

    fn syscall_table(&self) -> String {
        let rows: String = self
            .syscalls
            .iter()
            .map(|row| {
                let limit = |column: usize| {
                    let (name, limits) = SYSCALL_TARGET;
                    limits.get(column).filter(|_| row.scenario.name == name).map(|&limit| Target::AtMost(limit))
                };
                let cells = row.columns.iter().enumerate().map(|(column, &calls)| {
                    limit(column).map_or(format!("{calls:.2}"), |limit| format!("{calls:.2} {}", judged(calls, &limit)))
                });
                let cells = cells.collect::<Vec<_>>().join(" | ");
                let protocol = row.protocol.name();
                format!("| {protocol} | {} | {} | {cells} | {:.2} |\n", row.scenario.label, row.contender, row.any)
            })
            .collect();
        let columns = COLUMNS.map(|(name, _)| name).join(" | ");
        table(
            "System calls of the proxy per request",
            &format!("protocol | row | contender | {columns} | all"),
            3,
            &rows,
        )
    }

    fn memory_tables(&self) -> String {
        let line = |memory: &Memory, unit: f64, target: f64| {
            let verdict = judged(memory.bytes / unit, &Target::AtMost(target / unit));
            format!("| {} | {} | {:.2} | {verdict} |\n", memory.protocol.name(), memory.contender, memory.bytes / unit)
        };
        let start: String = self.start.iter().map(|memory| line(memory, 1048576.0, START_TARGET)).collect();
        let idle: String = self.idle.iter().map(|memory| line(memory, 1024.0, IDLE_TARGET)).collect();
        table("RSS at start", "protocol | contender | MiB | target", 2, &start)
            + &table(
                "Memory per idle connection after its first request",
                "protocol | contender | KiB | target",
                2,
                &idle,
            )
    }

    /// The rounds of each row and contender, in the order in which they were first measured.
    fn groups(&self, protocol: Protocol) -> Vec<(Scenario, &str, Vec<&Measurement>)> {
        let mut groups: Vec<(Scenario, &str, Vec<&Measurement>)> = Vec::new();
        for measurement in self.measurements.iter().filter(|measurement| measurement.protocol == protocol) {
            let (scenario, contender) = (measurement.scenario, measurement.contender.as_str());
            match groups.iter_mut().find(|group| group.0.name == scenario.name && group.1 == contender) {
                Some(group) => group.2.push(measurement),
                None => groups.push((scenario, contender, vec![measurement])),
            }
        }
        // Rows were measured side by side; contenders rotate, and the first round has them in their order.
        groups
    }

    pub fn json(&self) -> Value {
        let measurements = self.measurements.iter().map(|m| {
            json!({
                "row": m.scenario.name, "protocol": m.protocol.name(), "contender": m.contender, "round": m.round,
                "ops_per_second": m.ops, "p50_us": m.p50, "p99_us": m.p99, "p999_us": m.p999,
                "cpu_us_per_request": m.cpu, "rss_bytes": m.rss,
            })
        });
        let syscalls = self.syscalls.iter().map(|row| {
            let calls = COLUMNS.iter().zip(&row.columns).map(|((name, _), &calls)| (name.to_string(), json!(calls)));
            let calls: serde_json::Map<String, Value> = calls.chain([("all".to_string(), json!(row.any))]).collect();
            json!({ "row": row.scenario.name, "protocol": row.protocol.name(), "contender": row.contender, "per_request": calls })
        });
        let memory = |rows: &[Memory]| {
            rows.iter()
                .map(|row| json!({ "protocol": row.protocol.name(), "contender": row.contender, "bytes": row.bytes }))
                .collect::<Vec<_>>()
        };
        json!({
            "baseline": self.baseline, "measurements": measurements.collect::<Vec<_>>(),
            "syscalls": syscalls.collect::<Vec<_>>(), "rss_at_start": memory(&self.start),
            "idle_connection": memory(&self.idle),
        })
    }
}

fn verdict(spread: Spread, target: Option<Target>) -> String {
    let Spread { median, low, high } = spread;
    let ratio = format!("{median:.3} [{low:.2}–{high:.2}]");
    target.map_or(ratio.clone(), |target| format!("{ratio} {}", judged(median, &target)))
}

/// The target and whether `value` meets it; judged as printed nowhere else, so no rounding helps.
fn judged(value: f64, target: &Target) -> String {
    let (sign, limit, met) = match *target {
        Target::AtMost(limit) => ('≤', limit, value <= limit),
        Target::AtLeast(limit) => ('≥', limit, value >= limit),
    };
    let word = if met { "ok" } else { "**MISS**" };
    format!("{sign} {limit} {word}")
}

/// Empty without rows. The first `left` columns are words, the others numbers.
fn table(title: &str, header: &str, left: usize, rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let columns = header.split(" | ").count();
    let rule: Vec<&str> = (0..columns).map(|column| if column < left { "---" } else { "---:" }).collect();
    format!("\n**{title}**\n\n| {header} |\n| {} |\n{rows}", rule.join(" | "))
}
