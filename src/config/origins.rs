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

#[cfg(test)]
mod tests {
    use crate::config;

    #[test]
    fn a_value_that_is_in_the_file_is_told_with_its_place_and_one_of_a_flag_without() {
        let text = "log:\n  file: x\npools:\n  a: {listen: 'h:1', servers: ['s:1']}\n";
        let mut loaded = config::parse("some.yml", text).unwrap();
        let told = "some.yml:4:15: no\n   4 |   a: {listen: 'h:1', servers: ['s:1']}\n     |               ^^^^^";
        assert_eq!(loaded.tell(Some("a"), "listen", &"no"), told);
        assert_eq!(loaded.tell(Some("b"), "listen", &"no"), "no");
        assert_eq!(loaded.tell(None, "admin.stats", &"no"), "no");
        assert_eq!(loaded.tell(None, "log.file", &"no"), "some.yml:2:9: no\n   2 |   file: x\n     |         ^");
        loaded.overridden("log.file");
        assert_eq!(loaded.tell(None, "log.file", &"no"), "no");
    }

    #[test]
    fn no_secret_is_shown() {
        let text = "pools:\n  a: {protocol: redis, redis_auth: hunter2, listen: 'h:1', servers: ['s:1']}\n";
        let loaded = config::parse("some.yml", text).unwrap();
        let told = loaded.tell(Some("a"), "listen", &"no");
        assert!(told.starts_with("some.yml:2:") && !told.contains("hunter2"), "{told}");
        assert!(!format!("{loaded:?}").contains("hunter2"));
    }
}
