//! What is wrong with a file, all of it at once: `file:line:column: message`, the source line and a caret.
//! No secret is ever shown: source lines that may hold one are cut after the key.

use std::cell::RefCell;
use std::fmt;

use super::redact::without_secret;

/// A place in the source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Byte offsets into the text; `start <= end`.
    pub start: usize,
    pub end: usize,
}

/// One thing that is wrong, or, as a warning, one trap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, both from 1; `None`: the file as a whole.
    pub position: Option<(usize, usize)>,
    /// What is wrong, with the offending text and what is allowed.
    pub message: String,
    /// The source line and the caret below it; empty without a position.
    excerpt: String,
}

/// Everything that is wrong with one file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, as it was named.
    pub name: String,
    pub problems: Vec<Problem>,
}

/// Something that is allowed but hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file, as it was named.
    pub name: String,
    pub problem: Problem,
}

/// Collects problems while a file is read.
pub(super) struct Report<'t> {
    text: &'t str,
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl<'t> Report<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, errors: RefCell::default(), warnings: RefCell::default() }
    }

    pub fn error(&self, at: Span, message: impl Into<String>) {
        self.errors.borrow_mut().push(self.problem(at, message.into()));
    }

    pub fn warn(&self, at: Span, message: impl Into<String>) {
        self.warnings.borrow_mut().push(self.problem(at, message.into()));
    }

    /// Errors and warnings, each in the order of the file.
    pub fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |cell: RefCell<Vec<Problem>>| {
            let mut problems = cell.into_inner();
            problems.sort_by_key(|problem| problem.position);
            // What an alias stands for is read once for each alias.
            problems.dedup();
            problems
        };
        (sorted(self.errors), sorted(self.warnings))
    }

    fn problem(&self, at: Span, message: String) -> Problem {
        Problem { position: Some((at.line, at.column)), message, excerpt: excerpt(self.text, at) }
    }
}

impl ConfigErrors {
    /// The file cannot be read at all.
    pub(super) fn unreadable(name: &str, reason: impl fmt::Display) -> Self {
        let problem = Problem { position: None, message: reason.to_string(), excerpt: String::new() };
        Self { name: name.to_owned(), problems: vec![problem] }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.write(f, &self.name, "")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.write(f, &self.name, "warning: ")
    }
}

impl Problem {
    fn write(&self, f: &mut fmt::Formatter<'_>, name: &str, severity: &str) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{name}:{line}:{column}: {severity}{}", self.message)?,
            None => write!(f, "{name}: {severity}{}", self.message)?,
        }
        if self.excerpt.is_empty() { Ok(()) } else { write!(f, "\n{}", self.excerpt) }
    }
}

/// Quoted and clipped, fit for a message: `'text'`.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    // escape_debug also escapes quotes, which read better as they were written.
    format!("'{}'", shown.replace("\\\"", "\"").replace("\\'", "'"))
}

/// `   12 |   hash: fnv` and the caret line; lines longer than `WIDTH` show the part around the caret.
fn excerpt(text: &str, at: Span) -> String {
    const WIDTH: usize = 100;
    let (line, line_start) = line_around(text, at.start);
    let caret = line.get(..at.start.saturating_sub(line_start)).unwrap_or(line).chars().count();
    let covered = text.get(at.start..at.end).unwrap_or("");
    let marks = covered.lines().next().unwrap_or("").trim_end().chars().count().max(1);

    let visible = without_secret(text, line, line_start);
    let hidden = visible.len() != line.len();
    let shown: Vec<char> = if hidden { format!("{visible} ***").chars().collect() } else { line.chars().collect() };
    let caret = if hidden { caret.min(visible.chars().count() + 1) } else { caret };
    let first = caret.saturating_sub(WIDTH - 20);
    let clipped: String = shown.iter().skip(first).take(WIDTH).map(|c| if c.is_control() { ' ' } else { *c }).collect();
    let marks = marks.min(clipped.chars().count().saturating_sub(caret - first)).max(1);
    let gutter = at.line.to_string().len().max(4);
    format!(
        "{:>gutter$} | {}\n{:>gutter$} | {}{}",
        at.line,
        clipped.trim_end(),
        "",
        " ".repeat(caret - first),
        "^".repeat(marks)
    )
}

/// The line that holds this offset, without its end, and where it starts.
fn line_around(text: &str, offset: usize) -> (&str, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let is_break = |c| c == '\n' || c == '\r';
    let start = text[..offset].rfind(is_break).map_or(0, |i| i + 1);
    let end = text[offset..].find(is_break).map_or(text.len(), |i| offset + i);
    (&text[start..end], start)
}
