//! What was denied, for ACL LOG: the last of it, what comes again within a minute only once. Only denials write it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::redis::reply;

/// As many as Redis keeps (acllog-max-len).
const MOST: usize = 128;

/// So many of the newest may be the one that comes again, in so many milliseconds, as in Redis.
const LOOKED_THROUGH: usize = 10;
const SAME_WITHIN: u64 = 60_000;

/// Keys may be long; so much of one is kept, in bytes. The same of other texts of clients.
const LONGEST: usize = 256;

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Auth,
    Command,
    Key,
    Channel,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Command => "command",
            Self::Key => "key",
            Self::Channel => "channel",
        }
    }
}

/// One request that was not allowed.
#[derive(Debug, Clone, Copy)]
pub struct Denial<'a> {
    pub reason: Reason,
    /// It was to be a part of a transaction.
    pub in_multi: bool,
    /// The command, the key or the channel.
    pub object: &'a [u8],
    pub user: &'a [u8],
    /// The client as CLIENT LIST shows it.
    pub client: &'a str,
}

/// The denials of one pool.
#[derive(Debug, Default)]
pub struct Log(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// So many there were since the start; they are numbered from 0.
    made: u64,
    newest_first: VecDeque<Entry>,
}

/// Times are milliseconds since 1970.
#[derive(Debug)]
struct Entry {
    number: u64,
    count: u64,
    reason: Reason,
    in_multi: bool,
    object: Box<[u8]>,
    user: Box<[u8]>,
    client: Box<str>,
    created: u64,
    updated: u64,
}

impl Log {
    /// `now`: milliseconds since 1970.
    pub fn note(&self, denial: &Denial<'_>, now: u64) {
        let (object, user) = (cut(denial.object), cut(denial.user));
        let mut entries = self.lock();
        let same = |entry: &Entry| {
            (entry.reason, entry.in_multi) == (denial.reason, denial.in_multi)
                && now.abs_diff(entry.updated) <= SAME_WITHIN
                && (&*entry.object, &*entry.user) == (object, user)
        };
        let again = entries.newest_first.iter().take(LOOKED_THROUGH).position(same);
        let entry = match again.and_then(|at| entries.newest_first.remove(at)) {
            Some(entry) => Entry { count: entry.count + 1, client: denial.client.into(), updated: now, ..entry },
            None => {
                entries.made += 1;
                Entry {
                    number: entries.made - 1,
                    count: 1,
                    reason: denial.reason,
                    in_multi: denial.in_multi,
                    object: object.into(),
                    user: user.into(),
                    client: denial.client.into(),
                    created: now,
                    updated: now,
                }
            }
        };
        entries.newest_first.push_front(entry);
        entries.newest_first.truncate(MOST);
    }

    pub fn clear(&self) {
        self.lock().newest_first.clear();
    }

    /// The newest ones, at most so many, in RESP3.
    pub fn write(&self, most: usize, now: u64, out: &mut Vec<u8>) {
        let entries = self.lock();
        let shown = most.min(entries.newest_first.len());
        reply::write_array_header(out, shown);
        entries.newest_first.iter().take(shown).for_each(|entry| entry.write(now, out));
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn write(&self, now: u64, out: &mut Vec<u8>) {
        let texts = |out: &mut Vec<u8>, pairs: &[(&str, &[u8])]| {
            for (name, text) in pairs {
                reply::write_bulk(out, name.as_bytes());
                reply::write_bulk(out, text);
            }
        };
        let number = |out: &mut Vec<u8>, name: &str, number: u64| {
            reply::write_bulk(out, name.as_bytes());
            reply::write_integer(out, number.cast_signed());
        };
        let context = if self.in_multi { "multi" } else { "toplevel" };
        let (reason, client) = (self.reason.name().as_bytes(), self.client.as_bytes());
        reply::write_map_header(out, 10);
        number(out, "count", self.count);
        texts(out, &[("reason", reason), ("context", context.as_bytes())]);
        texts(out, &[("object", &self.object), ("username", &self.user)]);
        reply::write_bulk(out, b"age-seconds");
        reply::write_double(out, now.saturating_sub(self.updated) as f64 / 1000.0);
        texts(out, &[("client-info", client)]);
        number(out, "entry-id", self.number);
        number(out, "timestamp-created", self.created);
        number(out, "timestamp-last-updated", self.updated);
    }
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(LONGEST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(object: &str) -> Denial<'_> {
        Denial { reason: Reason::Key, in_multi: false, object: object.as_bytes(), user: b"app", client: "id=1" }
    }

    /// Of each: its number, how often, what.
    fn shown(log: &Log) -> Vec<(u64, u64, String)> {
        let text = |entry: &Entry| String::from_utf8_lossy(&entry.object).into_owned();
        log.lock().newest_first.iter().map(|entry| (entry.number, entry.count, text(entry))).collect()
    }

    #[test]
    fn what_comes_again_within_a_minute_is_one_entry() {
        let log = Log::default();
        let entry = |number, count, text: &str| (number, count, text.to_owned());
        log.note(&denial("a"), 1_000);
        log.note(&denial("b"), 2_000);
        log.note(&Denial { client: "id=2", ..denial("a") }, 61_000);
        assert_eq!(shown(&log), [entry(0, 2, "a"), entry(1, 1, "b")]);
        log.note(&denial("a"), 121_001);
        assert_eq!(shown(&log), [entry(2, 1, "a"), entry(0, 2, "a"), entry(1, 1, "b")]);
        for other in [
            Denial { reason: Reason::Channel, ..denial("a") },
            Denial { in_multi: true, ..denial("a") },
            Denial { user: b"other", ..denial("a") },
        ] {
            log.note(&other, 121_001);
        }
        assert_eq!(shown(&log).len(), 6);
        log.clear();
        assert_eq!(shown(&log), []);
        log.note(&denial("a"), 121_001);
        assert_eq!(shown(&log), [entry(6, 1, "a")], "numbers go on");
    }

    #[test]
    fn the_last_ones_are_kept_and_no_more_of_each_than_that() {
        let log = Log::default();
        for number in 0..1000 {
            log.note(&denial(&format!("{number} {}", "x".repeat(10_000))), 5);
        }
        let all = shown(&log);
        assert_eq!((all.len(), all[0].0, all[127].0), (MOST, 999, 872));
        assert!(all.iter().all(|(.., object)| object.len() == LONGEST));
    }

    #[test]
    fn an_entry_has_the_fields_of_redis() {
        let (log, mut out) = (Log::default(), Vec::new());
        log.note(&denial("b"), 1_000);
        log.note(&denial("a"), 2_000);
        log.write(1, 2_250, &mut out);
        let text = String::from_utf8(out).unwrap().replace("\r\n", " ");
        assert_eq!(
            text,
            "*1 %10 $5 count :1 $6 reason $3 key $7 context $8 toplevel $6 object $1 a $8 username $3 app $11 age-seconds \
             ,0.25 $11 client-info $4 id=1 $8 entry-id :1 $17 timestamp-created :2000 $22 timestamp-last-updated :2000 "
        );
    }
}
