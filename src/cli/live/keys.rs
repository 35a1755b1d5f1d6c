//! `outrigger hotkeys` and `outrigger slowlog`.

use super::answers::{HotKeys, SlowLog};
use crate::cli::show::{Cell, Column, Line, Paint, Table, bytes, microseconds, percent};

/// The keys that are asked for most, and the largest, by pool.
pub fn hot_keys(keys: &HotKeys, width: Option<usize>) -> Vec<Line> {
    let mut hot = Table::new([
        Column::left("POOL", 1),
        Column::right("SHARE", 0),
        Column::left("SERVER", 2),
        Column::left("KEY", 0),
    ]);
    let mut big = Table::new([
        Column::left("POOL", 1),
        Column::right("SIZE", 0),
        Column::left("COMMAND", 2),
        Column::left("WHEN", 3),
        Column::left("KEY", 0),
    ]);
    for pool in &keys.pools {
        for key in &pool.hot {
            hot.row([(&pool.pool).into(), percent(key.share).into(), (&key.server).into(), (&key.key).into()]);
        }
        for key in &pool.big {
            let size = bytes(key.bytes as f64);
            big.row([(&pool.pool).into(), size.into(), (&key.command).into(), (&key.at).into(), (&key.key).into()]);
        }
    }
    let mut lines = Vec::new();
    for (title, nothing, empty, table) in [
        ("hot keys", "no hot keys", hot.is_empty(), hot.lines(width)),
        ("big keys", "no big keys", big.is_empty(), big.lines(width)),
    ] {
        if !lines.is_empty() {
            lines.push(Line::new());
        }
        match empty {
            true => lines.push(Line::painted(nothing, Paint::Faint)),
            false => {
                lines.push(Line::painted(title, Paint::Strong));
                lines.extend(table);
            }
        }
    }
    lines
}

/// The latest slow requests, oldest first, so that the newest is above the prompt.
pub fn slow_log(log: &SlowLog, width: Option<usize>) -> Vec<Line> {
    let mut table = Table::new([
        Column::left("WHEN", 2),
        Column::left("POOL", 1),
        Column::left("SERVER", 1),
        Column::right("QUEUE", 0),
        Column::right("SERVER TIME", 0),
        Column::left("RESULT", 1),
        Column::right("REQUEST", 3),
        Column::right("RESPONSE", 3),
        Column::left("COMMAND", 0),
        Column::left("KEY", 0),
    ]);
    for slow in log.entries.iter().rev() {
        table.row([
            (&slow.at).into(),
            (&slow.pool).into(),
            (&slow.server).into(),
            microseconds(slow.queue_us as f64).into(),
            microseconds(slow.server_us as f64).into(),
            if slow.reason.is_empty() { (&slow.result).into() } else { Cell::new(&slow.reason, Paint::Bad) },
            bytes(slow.request_bytes as f64).into(),
            bytes(slow.response_bytes as f64).into(),
            (&slow.command).into(),
            (&slow.key).into(),
        ]);
    }
    let mut lines = if table.is_empty() { Vec::new() } else { table.lines(width) };
    let shown = log.entries.len();
    let text = format!(
        "{shown} shown, {} kept since the start, {} not kept as they were too many at a time",
        log.recorded, log.dropped
    );
    lines.push(Line::painted(text, Paint::Faint));
    lines
}
