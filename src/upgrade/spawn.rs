//! Starting this program again, as it was started.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// Set for a successor: its standard input is the wire to its predecessor.
pub const VARIABLE: &str = "OUTRIGGER_UPGRADE_FD";

/// The only value of it.
pub const STANDARD_INPUT: &str = "0";

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Spawn {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

impl Spawn {
    /// What runs here. To be asked at the start: once the file is replaced the system no longer says where it was.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let first = arguments.next().unwrap_or_default();
        let path = env::var_os("PATH").unwrap_or_default();
        let program = as_called(&first, &env::current_dir()?, &path, env::current_exe()?);
        Ok(Self { program, arguments: arguments.collect() })
    }

    /// Starts it with this end of the wire.
    pub(super) fn start(&self, wire: OwnedFd) -> io::Result<Offspring> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env(VARIABLE, STANDARD_INPUT).stdin(Stdio::from(wire));
        // The command holds on to the wire's end, which must be the child's alone: it is gone when this returns.
        Ok(Offspring(Some(command.spawn()?)))
    }
}

/// The program's path as it was called by: where a link is what an update changes, the file that it leads to now would be
/// the old one forever. `first` is the first argument, `itself` the file that runs.
fn as_called(first: &OsStr, folder: &Path, path: &OsStr, itself: PathBuf) -> PathBuf {
    let named: Vec<PathBuf> = match first.as_encoded_bytes().contains(&b'/') {
        true => vec![folder.join(first)],
        false => env::split_paths(path).map(|place| folder.join(place).join(first)).collect(),
    };
    named.into_iter().find(|name| name.canonicalize().is_ok_and(|file| file == itself)).unwrap_or(itself)
}

/// A started process; reaped whenever it ends.
#[derive(Debug)]
pub struct Offspring(Option<Child>);

impl Offspring {
    pub fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// How it ended, when it does so within the time.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.0.as_mut()?.try_wait().ok()?;
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            sleep(Duration::from_millis(5));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It fails only when it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Offspring {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take()
            && matches!(child.try_wait(), Ok(None))
        {
            // Without a thread it is a zombie from its end to that of this process; no more.
            let _ = thread::Builder::new().name("successor".into()).spawn(move || child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_started_by_the_name_it_was_called_by() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (old, new, link) = (root.join("old/outrigger"), root.join("new/outrigger"), root.join("bin/outrigger"));
        for file in [&old, &new, &link] {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        }
        std::fs::write(&old, "").unwrap();
        std::fs::write(&new, "").unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let path = format!("/nowhere:{}:{}", root.join("new").display(), root.join("bin").display());
        let called = |first: &str| as_called(OsStr::new(first), &root, OsStr::new(&path), old.clone());
        // The link of that name, not the file of that name that comes first.
        assert_eq!(called("outrigger"), link);
        assert_eq!(called("bin/outrigger"), link);
        assert_eq!(called("./bin/outrigger"), root.join("./bin/outrigger"));
        assert_eq!(called(link.to_str().unwrap()), link);
        // Names that lead elsewhere, or nowhere.
        for other in ["new/outrigger", "sh", "", "none/outrigger"] {
            assert_eq!(called(other), old, "{other}");
        }
    }

    #[test]
    fn this_process_can_be_started_again() {
        let spawn = Spawn::of_this_process().unwrap();
        assert_eq!(spawn.program.canonicalize().unwrap(), env::current_exe().unwrap());
        assert_eq!(spawn.arguments, env::args_os().skip(1).collect::<Vec<_>>());
    }
}
