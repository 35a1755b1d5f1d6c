//! Where the values stand of which only the system can say whether they will do: addresses to listen on, the file of the log.
//! That is found out when they are used, long after the file was read, and is said with line and column all the same.

use std::fmt;

use super::report::{Problem, Span, excerpt};

/// Places of such values in a file.
#[derive(Clone)]
pub(super) struct Origins {
    /// The file, as it was named.
    name: String,
    text: String,
    places: Vec<Origin>,
}

#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// `None`: of a key beside the pools.
    pub pool: Option<String>,
    /// As plans name it.
    pub key: &'static str,
    pub at: Span,
}

impl Origins {
    pub fn new(name: &str, text: &str, places: Vec<Origin>) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), places }
    }

    /// The value of this key comes from elsewhere.
    pub fn forget(&mut self, key: &str) {
        self.places.retain(|place| place.pool.is_some() || place.key != key);
    }

    /// What is wrong with the value of a key, as if the reader of the file had found it; as it is if the key is not in the file.
    pub fn tell(&self, pool: Option<&str>, key: &str, message: String) -> String {
        let is_it = |place: &&Origin| place.pool.as_deref() == pool && place.key == key;
        let Some(Origin { at, .. }) = self.places.iter().find(is_it) else { return message };
        let problem = Problem { position: Some((at.line, at.column)), message, excerpt: excerpt(&self.text, *at) };
        problem.text(&self.name)
    }
}

/// The text may hold passwords.
impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.places.fmt(f)
    }
}
