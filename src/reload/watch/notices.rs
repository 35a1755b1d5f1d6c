//! inotify: the kernel's notices about [`Places`]. Reading, opening and what happens to other names is never asked for, except
//! for names that come and go in the same folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::places::Places;

/// The folder itself goes: what was watched in it is not what its path means any more.
const ITSELF: WatchFlags = WatchFlags::MOVE_SELF.union(WatchFlags::DELETE_SELF).union(WatchFlags::ONLYDIR);
/// Names come and go. Not that a file is written: a log beside the configuration would wake us with each line.
/// ATTRIB: what could not be read may be readable.
const NAMES: WatchFlags =
    ITSELF.union(WatchFlags::CREATE).union(WatchFlags::MOVE).union(WatchFlags::DELETE).union(WatchFlags::ATTRIB);
/// The file, wherever its names are: of one that is mounted by itself (`-v ./x.yml:/etc/x.yml`) the folder says nothing.
const CONTENT: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);
/// Notices that are read in one go, so that a folder in which files come and go all the time stops nothing else.
const MOST_AT_ONCE: usize = 1024;

/// What has come in. The greater one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Nothing that matters.
    None,
    /// Somebody is writing a file, and will close it.
    Writing,
    /// A file may be another one now.
    Change,
}

/// One inotify instance.
pub(super) struct Notices {
    fd: OwnedFd,
    /// By the kernel's number: the names that matter in a folder; none for a file.
    watched: BTreeMap<i32, BTreeSet<OsString>>,
}

impl Notices {
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| hint(error, "fs.inotify.max_user_instances, or that of open files"))?;
        Ok(Self { fd, watched: BTreeMap::new() })
    }

    /// Watches these places and no others, as many of them as can be watched; the error is the first that counts.
    pub fn watch(&mut self, places: &Places) -> io::Result<()> {
        let mut watched: BTreeMap<i32, BTreeSet<OsString>> = BTreeMap::new();
        let mut result = Ok(());
        let folders = places.folders.iter().map(|(path, names)| (path, Some(names)));
        for (path, names) in folders.chain(places.files.iter().map(|path| (path, None))) {
            let mask = match names {
                Some(names) if names.is_empty() => ITSELF,
                Some(_) => NAMES,
                None => CONTENT,
            };
            // One folder may have two paths, and then one number.
            match inotify::add_watch(&self.fd, path, mask | WatchFlags::MASK_ADD) {
                Ok(number) => watched.entry(number).or_default().extend(names.into_iter().flatten().cloned()),
                // It has just gone, which its folder says, or may be passed through, but not looked at. That a file may not be
                // read is for its reader to say; its folder tells when it may.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::ACCESS) if mask == ITSELF || mask == CONTENT => {}
                Err(error) => result = result.and(Err(named(path, error))),
            }
        }
        for old in self.watched.keys().filter(|old| !watched.contains_key(old)) {
            // The kernel has ended the watch itself if what was watched is gone.
            let _ = inotify::remove_watch(&self.fd, *old);
        }
        self.watched = watched;
        result
    }

    /// Waits until there is something to take. Cancel safe.
    pub async fn wait(&self) -> io::Result<()> {
        // SAFETY: a `BorrowedFd` always names the same descriptor, which stays open for as long as it is borrowed from `self`.
        let fd = unsafe { AsyncFd::register_with_interest(self.fd.as_fd(), Interest::READABLE)? };
        fd.readable().await.map(drop)
    }

    /// Takes what has come in so far.
    pub fn take(&mut self) -> News {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        let (mut news, mut taken) = (News::None, 0);
        while taken < MOST_AT_ONCE || !reader.is_buffer_empty() {
            match reader.next() {
                Ok(event) => news = news.max(judge(&self.watched, &event)),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
            taken += 1;
        }
        news
    }
}

fn judge(watched: &BTreeMap<i32, BTreeSet<OsString>>, event: &Event<'_>) -> News {
    if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
        return News::Change;
    }
    let Some(names) = watched.get(&event.wd()) else { return News::None };
    match event.file_name() {
        Some(name) if !names.contains(OsStr::from_bytes(name.to_bytes())) => News::None,
        _ if event.events() == ReadFlags::MODIFY => News::Writing,
        _ => News::Change,
    }
}

fn named(path: &Path, error: Errno) -> io::Error {
    let error = if error == Errno::NOSPC { hint(error, "fs.inotify.max_user_watches") } else { error.into() };
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// These errors of inotify are a setting of the system.
fn hint(error: Errno, setting: &str) -> io::Error {
    let limit = error == Errno::MFILE || error == Errno::NOSPC;
    let error = io::Error::from(error);
    if limit { io::Error::new(error.kind(), format!("{error}; the limit is {setting}")) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_kernel_watches_no_more_than_what_matters() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("x.yml");
        let mut notices = Notices::new().unwrap();
        let mut counts = BTreeSet::new();
        for i in 0..20 {
            // An editor that keeps the old file as a backup.
            fs::write(&file, "new").unwrap();
            notices.watch(&Places::of(std::slice::from_ref(&file))).unwrap();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", notices.fd.as_raw_fd())).unwrap();
            counts.insert(info.matches("inotify wd:").count());
            fs::rename(&file, folder.path().join(format!("x.yml.{i}"))).unwrap();
        }
        assert_eq!(counts, [file.ancestors().count()].into());
        notices.watch(&Places::default()).unwrap();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", notices.fd.as_raw_fd())).unwrap();
        assert!(!info.contains("inotify wd:"));
    }

    #[test]
    fn what_cannot_be_watched_is_named_and_the_rest_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.yml");
        fs::write(&file, "").unwrap();
        let mut places = Places::of(std::slice::from_ref(&file));
        // Comes first; the kernel refuses it.
        let long = Path::new("/").join("x".repeat(300));
        places.folders.insert(long.clone(), [OsString::from("x")].into());
        let mut notices = Notices::new().unwrap();
        let error = notices.watch(&places).unwrap_err().to_string();
        assert_eq!(error, format!("{}: File name too long (os error 36)", long.display()));
        fs::write(&file, "new").unwrap();
        assert_eq!(notices.take(), News::Change);
    }

    #[test]
    fn errors_of_limits_name_the_limit() {
        let error = named(Path::new("/etc"), Errno::NOSPC).to_string();
        assert_eq!(error, "/etc: No space left on device (os error 28); the limit is fs.inotify.max_user_watches");
    }
}
