//! The process itself: limits, background, pid file.

use std::io;
use std::path::PathBuf;

/// Raises the soft limit of open files to the hard one: a proxy has two sockets where others have one.
pub(super) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Into the background, as twemproxy does it: the working directory stays, the standard streams go.
pub(super) fn daemonize() -> io::Result<()> {
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let folder = std::env::current_dir()?;
    daemonix::Daemonize::new().working_directory(folder).umask(umask.as_raw_mode()).start().map_err(io::Error::other)
}

/// The file with the process id; removed at the end, unless it is another process's by then.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn write(&self) -> io::Result<()> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("pid file {}: {e}", self.0.display()));
        std::fs::write(&self.0, std::process::id().to_string()).map_err(named)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        if std::fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == own) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
