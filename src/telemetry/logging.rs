//! Logs: `tracing` to standard error or a file that SIGHUP reopens, at twemproxy's levels 0 to 11. File, level and format
//! change while the process runs.
//!
//! A log that cannot be written (disk full, reader gone) loses lines and nothing else.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{self, Full, Json};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// Lines as text or as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// The running log: takes new settings, turns its level up and down, reopens its file.
#[derive(Clone)]
pub struct Log {
    writer: Writer,
    json: Arc<AtomicBool>,
    level: Arc<Mutex<Level>>,
    filter: reload::Handle<LevelFilter, Registry>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    /// In force; signals change it.
    now: u8,
    /// Of the settings.
    set: u8,
}

/// New settings of a log, which can be put in force without fail.
#[derive(Debug)]
#[must_use = "nothing changes until it is applied"]
pub struct Prepared {
    /// `None`: the file stays as it is.
    target: Option<Target>,
    level: u8,
    format: Format,
}

/// twemproxy's highest level.
const MOST: u8 = 11;

impl Log {
    /// Opens the log and makes it that of the process.
    ///
    /// # Errors
    /// When the file cannot be opened, with its name; or when the process has a log already.
    pub fn start(file: Option<PathBuf>, level: u8, format: Format) -> io::Result<Self> {
        let (subscriber, log) = Self::build(file, level, format)?;
        subscriber.try_init().map_err(io::Error::other)?;
        Ok(log)
    }

    fn build(file: Option<PathBuf>, level: u8, format: Format) -> io::Result<(impl Subscriber + Send + Sync, Self)> {
        let writer = Writer(Arc::new(Mutex::new(Target::open(file)?)));
        let json = Arc::new(AtomicBool::new(format == Format::Json));
        let (layer, handle) = reload::Layer::new(filter(level));
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .log_internal_errors(false)
            .event_format(Lines::new(json.clone()))
            .with_writer(writer.clone());
        let level = Arc::new(Mutex::new(Level { now: level, set: level }));
        Ok((Registry::default().with(layer).with(lines), Self { writer, json, level, filter: handle }))
    }

    /// Opens what new settings need; nothing changes before [`Log::apply`]. A file of the same name is kept open.
    ///
    /// # Errors
    /// When the file cannot be opened, with its name.
    pub fn prepare(&self, file: Option<PathBuf>, level: u8, format: Format) -> io::Result<Prepared> {
        let same = self.writer.path() == file;
        let target = if same { None } else { Some(Target::open(file)?) };
        Ok(Prepared { target, level, format })
    }

    /// Puts new settings in force. A level that is the same as in the settings before stays where signals have turned it.
    pub fn apply(&self, prepared: Prepared) {
        if let Some(target) = prepared.target {
            self.writer.replace(target, |_, _| true);
        }
        self.json.store(prepared.format == Format::Json, Relaxed);
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if level.set != prepared.level {
            *level = Level { now: prepared.level, set: prepared.level };
            self.filter_by(level.now);
        }
    }

    /// SIGHUP: opens the file of this name again, after log rotation has moved the old one.
    ///
    /// # Errors
    /// When it cannot be opened; the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        // New settings may name another file meanwhile.
        let reopened = Target::open(self.writer.path())?;
        self.writer.replace(reopened, |now, reopened| now.path == reopened.path);
        Ok(())
    }

    /// SIGTTIN, SIGTTOU: one level more or less. Returns the level now in force.
    pub fn turn(&self, up: bool) -> u8 {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.now = if up { (level.now + 1).min(MOST) } else { level.now.saturating_sub(1) };
        self.filter_by(level.now);
        level.now
    }

    /// This level, until the settings have another one.
    pub fn set_level(&self, wanted: u8) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.now = wanted.min(MOST);
        self.filter_by(level.now);
    }

    fn filter_by(&self, level: u8) {
        // It fails only when the subscriber is gone, and then there is no log to change.
        let _ = self.filter.modify(|f| *f = filter(level));
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

/// Formats a line in the format in force. Both formats share this one type, as `tracing` keeps the fields of open spans by
/// type; in JSON spans are left out, whose fields were formatted as text.
struct Lines {
    json: Arc<AtomicBool>,
    as_text: format::Format<Full>,
    as_json: format::Format<Json>,
}

impl Lines {
    fn new(json: Arc<AtomicBool>) -> Self {
        let as_text = format::format().with_target(false);
        let as_json = as_text.clone().json().flatten_event(true).with_current_span(false).with_span_list(false);
        Self { json, as_text, as_json }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.json.load(Relaxed) {
            self.as_json.format_event(context, writer, event)
        } else {
            self.as_text.format_event(context, writer, event)
        }
    }
}

/// Where lines go.
#[derive(Debug)]
struct Target {
    /// `None`: standard error.
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Target {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = path.as_deref().map(open).transpose()?;
        Ok(Self { path, file })
    }
}

fn open(path: &Path) -> io::Result<File> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("log file {}: {e}", path.display()));
    OpenOptions::new().create(true).append(true).open(path).map_err(named)
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Target>>);

impl Writer {
    fn path(&self) -> Option<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).path.clone()
    }

    /// Writes to another target from now on, if that is wanted in place of the present one. Files are opened and closed
    /// outside the lock, as workers may wait for it.
    fn replace(&self, mut target: Target, wanted: fn(&Target, &Target) -> bool) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted(&now, &target) {
            std::mem::swap(&mut *now, &mut target);
        }
        drop(now);
    }
}

/// Writes one line.
struct Line<'a>(&'a Writer);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner).file {
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
    use std::cell::Cell;
    use std::fs;

    use super::*;

    /// The lines of a log file, without their timestamps.
    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let line = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(json) => format!("json {} {} x={}", json["level"], json["message"], json["x"]),
            Err(_) => line.split_once(' ').map_or("", |(_, rest)| rest.trim_start()).to_owned(),
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn file_level_and_format_change_in_a_running_log() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let (subscriber, log) = Log::build(Some(old.clone()), 5, Format::Text)?;
        tracing::subscriber::with_default(subscriber, || {
            // One place in the code, so that what `tracing` has cached of it must be found out of date.
            let write = |message: &str| tracing::debug!(x = 1, "{message}");
            write("not at this level");
            tracing::info!("one");
            let prepared = log.prepare(Some(new.clone()), 7, Format::Json)?;
            tracing::info!("two");
            log.apply(prepared);
            write("three");
            log.apply(log.prepare(Some(new.clone()), 7, Format::Text)?);
            write("four");
            log.apply(log.prepare(Some(old.clone()), 6, Format::Text)?);
            write("not any more");
            tracing::info!("five");
            io::Result::Ok(())
        })?;
        assert_eq!(lines(&old), ["INFO one", "INFO two", "INFO five"]);
        assert_eq!(lines(&new), ["json \"DEBUG\" \"three\" x=1", "DEBUG four x=1"]);
        Ok(())
    }

    #[test]
    fn settings_that_cannot_be_had_change_nothing() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("log");
        let (subscriber, log) = Log::build(Some(path.clone()), 5, Format::Text)?;
        tracing::subscriber::with_default(subscriber, || {
            let error = log.prepare(Some("/nowhere/at/all.log".into()), 7, Format::Json).unwrap_err();
            assert_eq!(error.to_string(), "log file /nowhere/at/all.log: No such file or directory (os error 2)");
            tracing::info!("shown");
            tracing::debug!("hidden");
        });
        assert_eq!(lines(&path), ["INFO shown"]);
        Ok(())
    }

    #[test]
    fn only_a_new_level_undoes_what_signals_did() -> io::Result<()> {
        let (_subscriber, log) = Log::build(None, 5, Format::Text)?;
        let settings = |level| log.prepare(None, level, Format::Json).map(|prepared| log.apply(prepared));
        assert_eq!([log.turn(true), log.turn(true)], [6, 7]);
        settings(5)?;
        assert_eq!(log.turn(true), 8);
        settings(4)?;
        assert_eq!(log.turn(false), 3);
        settings(4)?;
        assert_eq!(log.turn(false), 2);
        Ok(())
    }

    #[test]
    fn what_the_level_hides_is_not_even_computed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (subscriber, log) = Log::build(Some(folder.path().join("log")), 5, Format::Text)?;
        let computed = Cell::new(0);
        let compute = || computed.replace(computed.get() + 1);
        let write = || tracing::debug!(x = compute(), "costly");
        tracing::subscriber::with_default(subscriber, || {
            write();
            log.turn(true);
            log.turn(true);
            write();
            log.turn(false);
            write();
        });
        assert_eq!(computed.get(), 1);
        Ok(())
    }

    #[test]
    fn a_line_is_written_in_the_new_format_while_a_span_from_before_is_open() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("log");
        let (subscriber, log) = Log::build(Some(path.clone()), 5, Format::Text)?;
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("of a library", y = 2).entered();
            log.apply(log.prepare(Some(path.clone()), 5, Format::Json)?);
            tracing::info!(x = 1, "inside");
            io::Result::Ok(())
        })?;
        assert_eq!(lines(&path), ["json \"INFO\" \"inside\" x=1"]);
        Ok(())
    }

    #[test]
    fn a_reopened_log_writes_to_the_new_file() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let (_subscriber, log) = Log::build(Some(path.clone()), 5, Format::Text)?;
        log.writer.make_writer().write_all(b"one\n")?;
        fs::rename(&path, &moved)?;
        log.writer.make_writer().write_all(b"two\n")?;
        log.reopen()?;
        log.writer.make_writer().write_all(b"three\n")?;
        assert_eq!(fs::read(moved)?, b"one\ntwo\n");
        assert_eq!(fs::read(path)?, b"three\n");
        Ok(())
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Log::build(Some("/nowhere/at/all.log".into()), 5, Format::Text).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("log file /nowhere/at/all.log: No such file or directory (os error 2)"));
    }
}
