//! What is wrong with a file, all of it at once: `file:line:column: message`, the source line and a caret.
//! No secret is ever shown: source lines that may hold one are cut after the key.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use super::inputs::Inputs;
use super::origins::Origin;
use super::redact::without_secret;

/// Errors, and warnings, that are told one by one; the rest is counted. A file that is none of ours may hold any number of
/// them, and each takes a look at the lines above it.
const MOST: usize = 100;

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
    pub(super) excerpt: String,
}

/// Everything that is wrong with one file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, as it was named.
    pub name: String,
    pub problems: Vec<Problem>,
    /// Beside those; see [`MOST`].
    pub more: usize,
    /// The files that were read or should have been: the configuration itself, if it is one, then each `password_file`.
    pub sources: Vec<PathBuf>,
    /// Equal if all of them had the same contents, or could not be read for the same reasons.
    pub fingerprint: u64,
}

/// Something that is allowed but hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file, as it was named.
    pub name: String,
    pub problem: Problem,
}

/// Collects problems while a file is read, and what else is read for it.
pub(super) struct Report<'t> {
    text: &'t str,
    inputs: RefCell<Inputs>,
    errors: RefCell<Problems>,
    warnings: RefCell<Problems>,
    origins: RefCell<Vec<Origin>>,
}

/// Problems of one severity.
#[derive(Default)]
pub(super) struct Problems {
    /// In the order of the file once all are found.
    pub told: Vec<Problem>,
    pub more: usize,
}

impl<'t> Report<'t> {
    /// `inputs` has the text already.
    pub fn new(text: &'t str, inputs: Inputs) -> Self {
        let (errors, warnings, origins) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { text, inputs: inputs.into(), errors, warnings, origins }
    }

    /// One more file, and what came of reading it.
    pub fn input(&self, path: &Path, content: &Result<String, String>) {
        self.inputs.borrow_mut().file(path, content);
    }

    /// A secret stands here.
    pub fn secret(&self, at: Span) {
        self.inputs.borrow_mut().secret(at.start..at.end);
    }

    /// A value stands here of which only the system can say whether it will do.
    pub fn origin(&self, pool: Option<&str>, key: &'static str, at: Span) {
        self.origins.borrow_mut().push(Origin { pool: pool.map(str::to_owned), key, at });
    }

    /// All of those.
    pub fn origins(&self) -> Vec<Origin> {
        self.origins.take()
    }

    pub fn error(&self, at: Span, message: impl Into<String>) {
        self.errors.borrow_mut().add(|| self.problem(at, message.into()));
    }

    pub fn warn(&self, at: Span, message: impl Into<String>) {
        self.warnings.borrow_mut().add(|| self.problem(at, message.into()));
    }

    /// Errors and warnings, each in the order of the file, and what was read.
    pub fn finish(self) -> (Problems, Problems, Inputs) {
        (self.errors.into_inner().sorted(), self.warnings.into_inner().sorted(), self.inputs.into_inner())
    }

    fn problem(&self, at: Span, message: String) -> Problem {
        Problem { position: Some((at.line, at.column)), message, excerpt: excerpt(self.text, at) }
    }
}

impl Problems {
    fn add(&mut self, problem: impl FnOnce() -> Problem) {
        if self.told.len() < MOST {
            self.told.push(problem());
        } else {
            self.more += 1;
        }
    }

    fn sorted(mut self) -> Self {
        self.told.sort_by_key(|problem| problem.position);
        // What an alias stands for is read once for each alias.
        self.told.dedup();
        self
    }

    /// With the number of the rest as the last.
    pub fn all(mut self) -> Vec<Problem> {
        let more = Problem { position: None, message: format!("and {} more", self.more), excerpt: String::new() };
        self.told.extend((self.more > 0).then_some(more));
        self.told
    }
}

impl ConfigErrors {
    /// The file cannot be read at all. `position`: line and column.
    pub(super) fn unreadable(name: &str, position: Option<(usize, usize)>, reason: String, inputs: Inputs) -> Self {
        let problem = Problem { position, message: reason, excerpt: String::new() };
        let (sources, fingerprint) = inputs.finish();
        Self { name: name.to_owned(), problems: vec![problem], more: 0, sources, fingerprint }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.problems.len() + self.more
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
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more", self.name),
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.write(f, &self.name, "warning: ")
    }
}

impl Problem {
    /// As it stands among the errors of the file of this name.
    pub(super) fn text(self, name: &str) -> String {
        let (problems, sources) = (vec![self], Vec::new());
        ConfigErrors { name: name.to_owned(), problems, more: 0, sources, fingerprint: 0 }.to_string()
    }

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
pub(super) fn excerpt(text: &str, at: Span) -> String {
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
