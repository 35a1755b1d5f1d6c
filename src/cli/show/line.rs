//! A line of text in colours.

use std::borrow::Cow;
use std::fmt;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a piece of text looks on a terminal that has colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Paint {
    #[default]
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

impl Paint {
    /// Parameters of `ESC [ ... m`. The eight old colours, which every terminal has and its user has chosen.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
        }
    }
}

/// A piece of a line. It holds no control character, whatever it was made of: keys are the clients', errors the
/// servers', and neither may command the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    text: String,
    paint: Paint,
}

impl Span {
    pub fn new(text: impl AsRef<str>, paint: Paint) -> Self {
        Self { text: harmless(text.as_ref()).into_owned(), paint }
    }

    pub fn width(&self) -> usize {
        self.text.width()
    }
}

/// Text with control characters, and those that turn the direction of writing, as escapes.
fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(harmful) {
        return text.into();
    }
    let escape = |c: char| if harmful(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect::<String>().into()
}

/// One line, without its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(Vec<Span>);

impl Line {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn plain(text: impl AsRef<str>) -> Self {
        Self::new().and(text, Paint::Plain)
    }

    pub fn painted(text: impl AsRef<str>, paint: Paint) -> Self {
        Self::new().and(text, paint)
    }

    /// The line with more behind it.
    pub fn and(mut self, text: impl AsRef<str>, paint: Paint) -> Self {
        self.push(Span::new(text, paint));
        self
    }

    pub fn push(&mut self, span: Span) {
        self.0.push(span);
    }

    pub fn pad(&mut self, columns: usize) {
        if columns > 0 {
            self.push(Span { text: " ".repeat(columns), paint: Paint::Plain });
        }
    }

    pub fn width(&self) -> usize {
        self.0.iter().map(Span::width).sum()
    }

    /// The line in so many columns: what is too much is cut off, and `…` says so.
    pub fn cut(mut self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        let mut left = columns.saturating_sub(1);
        for span in &mut self.0 {
            let fitting = span.text.char_indices().find(|(_, c)| {
                let width = c.width().unwrap_or(0);
                let full = width > left;
                left = if full { 0 } else { left - width };
                full
            });
            if let Some((end, _)) = fitting {
                span.text.truncate(end);
            }
        }
        if columns > 0 {
            self.push(Span { text: "…".into(), paint: Paint::Faint });
        }
        self
    }

    /// Appends it to a text, without blanks at its end.
    pub fn write(&self, text: &mut String, colour: bool) {
        let used = self.0.iter().rposition(|span| !span.text.trim_end().is_empty()).map_or(0, |last| last + 1);
        for (place, span) in self.0[..used].iter().enumerate() {
            let shown = if place + 1 == used { span.text.trim_end() } else { &span.text };
            match span.paint.code().filter(|_| colour && !shown.is_empty()) {
                Some(code) => text.extend(["\x1b[", code, "m", shown, "\x1b[0m"]),
                None => text.push_str(shown),
            }
        }
    }
}

/// Without colour.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text, false);
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_line_commands_the_terminal() {
        let line = Line::plain("k\x1b[2J\r\n\u{9b}1m\u{202e}é");
        assert_eq!(line.to_string(), "k\\u{1b}[2J\\r\\n\\u{9b}1m\\u{202e}é");
    }

    #[test]
    fn colour_is_written_only_where_it_is_wanted() {
        let line = Line::plain("a ").and("b", Paint::Bad).and("  ", Paint::Plain);
        let mut text = String::new();
        line.write(&mut text, true);
        assert_eq!(text, "a \x1b[1;31mb\x1b[0m");
        assert_eq!(line.to_string(), "a b");
    }

    #[test]
    fn a_line_is_cut_to_its_columns() {
        let line = || Line::plain("12 µs").and("日本語", Paint::Good).and("end", Paint::Plain);
        assert_eq!(line().width(), 14);
        assert_eq!(line().cut(14).to_string(), "12 µs日本語end");
        for (columns, text) in
            [(13, "12 µs日本語e…"), (9, "12 µs日…"), (8, "12 µs日…"), (7, "12 µs…"), (1, "…"), (0, "")]
        {
            let cut = line().cut(columns);
            assert_eq!(cut.to_string(), text, "{columns}");
            assert!(cut.width() <= columns, "{columns}");
        }
    }
}
