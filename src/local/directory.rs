//! Where the sockets of in-process servers are.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Longest path of a unix socket, in bytes, its final NUL not counted.
const MAX_SOCKET_PATH: usize = 107;

/// A directory that only this user can look into; removed when dropped.
#[derive(Debug)]
pub(super) struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// In `$XDG_RUNTIME_DIR`, else in the temporary directory, else in `/tmp`: the first that can hold a socket.
    pub fn create() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let parents = runtime.into_iter().chain([std::env::temp_dir(), PathBuf::from("/tmp")]);
        let mut failure = None;
        for parent in parents {
            match Self::create_in(&parent) {
                Ok(directory) => return Ok(directory),
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
        let name = format!("outrigger-{:016x}", RandomState::new().hash_one(std::process::id()));
        let directory = parent.join(name);
        if directory.join("999999999.sock").as_os_str().len() > MAX_SOCKET_PATH {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "its name is too long for a unix socket"));
        }
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self(directory))
    }

    /// Where the socket of this number is to be.
    pub fn socket(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number}.sock"))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "cannot remove the sockets of in-process servers");
        }
    }
}
