//! What commands print for people: figures with units, aligned tables, colour where there is a terminal.
//!
//! A view is a list of [`Line`]s, made without a thought of where it goes. Only [`print`] and the live screen know that.

mod line;
mod table;
mod units;

use std::io::{IsTerminal, Write};

use rustix::termios::tcgetwinsize;

pub use line::{Line, Paint, Span};
pub use table::{Cell, Column, Table};
pub use units::{bytes, count, microseconds, percent, rate, seconds};

/// Where the text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    pub terminal: bool,
    pub colour: bool,
}

impl Output {
    /// Standard output, as it is. `NO_COLOR` (no-color.org) and a terminal that knows nothing are respected.
    pub fn standard() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|name| name == "dumb");
        Self { terminal, colour: terminal && !dumb && set("NO_COLOR").is_none() }
    }

    /// Columns of the terminal; `None`: no terminal, and no limit.
    pub fn width(self) -> Option<usize> {
        self.terminal.then(|| size().0)
    }
}

/// Columns and lines of the terminal on standard output.
pub fn size() -> (usize, usize) {
    /// What is assumed of one that does not say.
    const USUAL: (usize, usize) = (80, 24);
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}

/// Lines to standard output, at once. Fails when the reader has gone.
pub fn print(lines: &[Line], output: Output) -> std::io::Result<()> {
    let mut text = String::new();
    for line in lines {
        line.write(&mut text, output.colour);
        text.push('\n');
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
