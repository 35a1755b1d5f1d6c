//! What a configuration was read from: which files, what tells their contents apart, and where secrets stand in them.

use std::collections::HashSet;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use md5::{Digest, Md5};

/// The key of every fingerprint of this process: a fingerprint that is seen somewhere says nothing about a password.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Collects what is read while a configuration is.
pub(super) struct Inputs {
    sources: Vec<PathBuf>,
    contents: DefaultHasher,
    /// Byte offsets into the text of the configuration.
    secrets: Vec<Range<usize>>,
}

impl Inputs {
    pub fn new() -> Self {
        Self { sources: Vec::new(), contents: KEY.build_hasher(), secrets: Vec::new() }
    }

    /// A file and what came of reading it, be it the reason why nothing did.
    pub fn file(&mut self, path: &Path, content: &impl Hash) {
        self.sources.push(path.to_owned());
        path.hash(&mut self.contents);
        content.hash(&mut self.contents);
    }

    /// Text that comes from no file.
    pub fn text(&mut self, text: &str) {
        text.hash(&mut self.contents);
    }

    /// These bytes of the configuration are a secret.
    pub fn secret(&mut self, place: Range<usize>) {
        self.secrets.push(place);
    }

    /// The first half of the MD5 of the configuration without its secrets, in hexadecimal.
    pub fn hash(&self, text: &str) -> String {
        let mut secrets = self.secrets.clone();
        secrets.sort_by_key(|secret| secret.start);
        let (mut digest, mut from) = (Md5::new(), 0);
        for secret in secrets {
            // An alias names the same bytes again.
            digest.update(text.as_bytes().get(from..secret.start).unwrap_or_default());
            from = from.max(secret.end);
        }
        digest.update(text.as_bytes().get(from..).unwrap_or_default());
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The files in the order in which they were read, each once, and the fingerprint of their contents.
    pub fn finish(mut self) -> (Vec<PathBuf>, u64) {
        let mut seen = HashSet::new();
        self.sources.retain(|path| seen.insert(path.clone()));
        (self.sources, self.contents.finish())
    }
}
