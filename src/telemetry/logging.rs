//! Logs: `tracing` to standard error or a file that SIGHUP reopens, at twemproxy's levels 0 to 11.
//!
//! A log that cannot be written (disk full, reader gone) loses lines and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Lines as text or as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// The running log: turns its level up and down, reopens its file.
#[derive(Clone)]
pub struct Log {
    writer: Writer,
    level: Arc<Mutex<u8>>,
    filter: reload::Handle<LevelFilter, Registry>,
}

/// twemproxy's highest level.
const MOST: u8 = 11;

impl Log {
    /// Opens the log and makes it that of the process.
    ///
    /// # Errors
    /// When the file cannot be opened, with its name; or when the process has a log already.
    pub fn start(file: Option<PathBuf>, level: u8, format: Format) -> io::Result<Self> {
        let writer = Writer::open(file)?;
        let (filter, handle) = reload::Layer::new(filter(level));
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).log_internal_errors(false);
        let layer = match format {
            Format::Text => layer.with_writer(writer.clone()).boxed(),
            Format::Json => layer.json().flatten_event(true).with_writer(writer.clone()).boxed(),
        };
        Registry::default().with(filter).with(layer).try_init().map_err(io::Error::other)?;
        Ok(Self { writer, level: Arc::new(Mutex::new(level)), filter: handle })
    }

    /// SIGHUP: opens the file of this name again, after log rotation has moved the old one.
    ///
    /// # Errors
    /// When it cannot be opened; the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.writer.reopen()
    }

    /// SIGTTIN, SIGTTOU: one level more or less. Returns the level now in force.
    pub fn turn(&self, up: bool) -> u8 {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        *level = if up { (*level + 1).min(MOST) } else { level.saturating_sub(1) };
        // It fails only when the subscriber is gone, and then there is no log to change.
        let _ = self.filter.modify(|f| *f = filter(*level));
        *level
    }
}

/// twemproxy: 0 EMERG, 1 ALERT, 2 CRIT, 3 ERR, 4 WARN, 5 NOTICE, 6 INFO, 7 DEBUG, 8 and above VERB.
fn filter(level: u8) -> LevelFilter {
    match level {
        0..=3 => LevelFilter::ERROR,
        4 => LevelFilter::WARN,
        5..=6 => LevelFilter::INFO,
        7 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

#[derive(Clone)]
struct Writer {
    path: Option<PathBuf>,
    file: Arc<Mutex<Option<File>>>,
}

impl Writer {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let writer = Self { path, file: Arc::default() };
        writer.reopen()?;
        Ok(writer)
    }

    fn reopen(&self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("log file {}: {e}", path.display()));
            let file = OpenOptions::new().create(true).append(true).open(path).map_err(named)?;
            *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
        Ok(())
    }
}

/// Writes one line.
struct Line<'a>(&'a Writer);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write_all(line)?,
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopened_log_writes_to_the_new_file() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let writer = Writer::open(Some(path.clone()))?;
        writer.make_writer().write_all(b"one\n")?;
        std::fs::rename(&path, &moved)?;
        writer.make_writer().write_all(b"two\n")?;
        writer.reopen()?;
        writer.make_writer().write_all(b"three\n")?;
        assert_eq!(std::fs::read(moved)?, b"one\ntwo\n");
        assert_eq!(std::fs::read(path)?, b"three\n");
        Ok(())
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Writer::open(Some("/nowhere/at/all.log".into())).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("log file /nowhere/at/all.log: No such file or directory (os error 2)"));
    }
}
