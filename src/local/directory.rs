//! Where the sockets of in-process servers are.
//!
//! A process that is killed cannot remove its directory, so the next one does. The lock on a directory says whether its process
//! lives: it goes with the process however that ends, and is seen from containers that share the place but number their
//! processes otherwise.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, unlinkat};

/// Longest path of a unix socket, in bytes, its final NUL not counted.
const MAX_SOCKET_PATH: usize = 107;

/// Directories with this name are locked as long as their process lives.
const NAME: &str = "outrigger-local-";

/// The name while there is no lock on it yet.
const UNLOCKED_NAME: &str = "outrigger-new-";

/// What is looked at for what others have left, in names: temporary directories can be very full.
const MOST_LOOKED_AT: usize = 10_000;

/// Only the owner, who may do everything.
const MODE: u32 = 0o700;

/// A directory that only this user can look into, locked; removed when dropped.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
    _lock: File,
}

impl PrivateDirectory {
    /// In `$XDG_RUNTIME_DIR`, else in the temporary directory, else in `/tmp`: the first that can hold a socket. What processes
    /// that were killed have left there is removed.
    pub fn create() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let parents = runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]);
        let mut failure = None;
        for parent in parents {
            match Self::create_in(&parent) {
                Ok(directory) => {
                    remove_orphans(&parent);
                    return Ok(directory);
                }
                Err(e) => {
                    let text = format!("no directory for the sockets of in-process servers: {}: {e}", parent.display());
                    failure.get_or_insert_with(|| io::Error::new(e.kind(), text));
                }
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        // The hasher's keys come from the operating system's random numbers. Should the name be taken all the same,
        // creation fails: it never uses what someone else has made.
        let number = RandomState::new().hash_one(std::process::id());
        let [unlocked, path] = [UNLOCKED_NAME, NAME].map(|name| parent.join(format!("{name}{number:016x}")));
        if path.join("999999999.sock").as_os_str().len() > MAX_SOCKET_PATH {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "its name is too long for a unix socket"));
        }
        DirBuilder::new().mode(MODE).create(&unlocked)?;
        let lock = File::open(&unlocked).and_then(|directory| {
            // Where there are no locks nobody else gets one either, and so nobody removes it.
            let _ = directory.try_lock();
            fs::rename(&unlocked, &path)?;
            Ok(directory)
        });
        match lock {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_dir(&unlocked);
                Err(error)
            }
        }
    }

    /// Where the socket of this number is to be.
    pub fn socket(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number}.sock"))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(directory = %self.path.display(), %error, "cannot remove the sockets of in-process servers");
        }
    }
}

/// Removes the directories of processes that have ended without doing so.
fn remove_orphans(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.take(MOST_LOOKED_AT).flatten() {
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(NAME)) {
            continue;
        }
        let directory = entry.path();
        match remove_orphan(&directory) {
            Ok(false) => {}
            Ok(true) => tracing::debug!(directory = %directory.display(), "removed what a killed process has left"),
            Err(error) => {
                tracing::debug!(directory = %directory.display(), %error, "cannot remove what a killed process has left");
            }
        }
    }
}

/// Removes a directory if it is a private one of this user's and no living process has locked it: its sockets, and itself once it is
/// empty. Whatever else somebody has put into it stays.
fn remove_orphan(path: &Path) -> io::Result<bool> {
    // A directory itself, whoever may have put a link there.
    let flags = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits().cast_signed();
    let directory = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = directory.metadata()?;
    let own = found.uid() == rustix::process::geteuid().as_raw() && found.permissions().mode() & 0o777 == MODE;
    // The lock is held to the end.
    if !own || directory.try_lock().is_err() {
        return Ok(false);
    }
    for entry in Dir::read_from(&directory)?.flatten() {
        if entry.file_type() == FileType::Socket {
            unlinkat(&directory, entry.file_name(), AtFlags::empty())?;
        }
    }
    fs::remove_dir(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::mem::{forget, replace};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use super::*;

    /// The directory of a process that was killed, with a socket in it.
    fn orphan(parent: &Path) -> PathBuf {
        let mut directory = PrivateDirectory::create_in(parent).unwrap();
        drop(UnixListener::bind(directory.socket(0)).unwrap());
        let path = directory.path.clone();
        // Its lock goes with its process.
        drop(replace(&mut directory._lock, File::open("/dev/null").unwrap()));
        forget(directory);
        path
    }

    #[test]
    fn what_killed_processes_have_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let alive = PrivateDirectory::create_in(parent.path()).unwrap();
        let dead = orphan(parent.path());
        let [used, open, file, other, link] = ["used", "open", "file", "other", "link"].map(|name| match name {
            "other" => parent.path().join(name),
            _ => parent.path().join(format!("{NAME}{name}")),
        });
        for directory in [&used, &other] {
            fs::rename(orphan(parent.path()), directory).unwrap();
        }
        fs::write(used.join("notes"), "").unwrap();
        DirBuilder::new().mode(0o755).create(&open).unwrap();
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();

        let deadline = Instant::now() + Duration::from_secs(20);
        // Tests beside this one start processes: until these are what they shall be, they have the locks too.
        while dead.exists() || used.join("0.sock").exists() {
            assert!(Instant::now() < deadline, "they are still there");
            remove_orphans(parent.path());
        }
        assert!(alive.path.exists(), "its process lives");
        assert!(used.join("notes").exists(), "no more than the sockets is removed");
        assert!(open.exists() && file.exists(), "no private directory is like these");
        assert!(link.exists() && other.join("0.sock").exists(), "no link is followed");

        let path = alive.path.clone();
        drop(alive);
        assert!(!path.exists());
    }

    #[test]
    fn a_place_without_room_for_a_socket_is_refused_without_a_trace() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("x".repeat(MAX_SOCKET_PATH));
        fs::create_dir(&deep).unwrap();
        let refusal = PrivateDirectory::create_in(&deep).unwrap_err();
        assert!(refusal.to_string().contains("too long"), "{refusal}");
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
    }
}
