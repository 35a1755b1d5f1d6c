//! The ring: from the hash of a key to the index of a server.

/// How the ring spreads hashes over servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Distribution {
    #[default]
    Ketama,
    Modula,
    Random,
}

impl Distribution {
    /// Every distribution with its name in configuration files.
    pub const ALL: [(&'static str, Distribution); 3] =
        [("ketama", Distribution::Ketama), ("modula", Distribution::Modula), ("random", Distribution::Random)];

    /// The distribution with this configuration name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, d)| *d)
    }

    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}
