//! A small cache, Redis or memcached, that misbehaves on cue.
//!
//! It knows what the fleet asks and what probes ask. All its connections are in the same mood.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Fake;
use super::fake::Talk;
use super::fleet::Dialect;

/// What a server makes of the next replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Accepts, reads and says nothing.
    Mute,
    /// This in place of every reply.
    Says(&'static str),
    /// This behind every reply.
    Adds(&'static str),
    /// Every value under another key; memcached only.
    Mislabels,
}

/// What one request gets.
type Serve = fn(&mut Talk, &Mutex<HashMap<String, String>>) -> Option<String>;

pub struct Moody {
    fake: Fake,
    mood: Arc<Mutex<Mood>>,
}

impl Moody {
    pub fn start(dialect: Dialect) -> Self {
        let mood = Arc::new(Mutex::new(Mood::Well));
        let store = Mutex::<HashMap<String, String>>::default();
        let serve: Serve = match dialect {
            Dialect::Redis => redis,
            Dialect::Memcached => memcached,
        };
        let fake = {
            let mood = mood.clone();
            Fake::start(move |_, talk| {
                while let Some(reply) = serve(talk, &store) {
                    let now = *mood.lock().unwrap();
                    if !utter(talk, &reply, now) {
                        return talk.stall();
                    }
                }
            })
        };
        Self { fake, mood }
    }

    /// From the next reply on.
    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// As it stands in a list of servers.
    pub fn entry(&self) -> String {
        self.fake.entry()
    }
}

/// `false`: this connection hears no more.
fn utter(talk: &mut Talk, reply: &str, mood: Mood) -> bool {
    // What gets no reply can be neither wrong nor late; a memcached that is full still says its version.
    if reply.is_empty() {
        return true;
    }
    match mood {
        Mood::Says(_) if reply.starts_with("VERSION") => talk.say(reply),
        Mood::Well => talk.say(reply),
        Mood::Mute => return false,
        Mood::Says(text) => talk.say(text),
        Mood::Adds(text) => talk.say(format!("{reply}{text}")),
        Mood::Mislabels => talk.say(reply.replace("VALUE ", "VALUE x")),
    }
    true
}

fn bulk(value: Option<&String>) -> String {
    value.map_or("$-1\r\n".to_owned(), |value| format!("${}\r\n{value}\r\n", value.len()))
}

fn redis(talk: &mut Talk, store: &Mutex<HashMap<String, String>>) -> Option<String> {
    let request = talk.request()?;
    let words: Vec<&str> = request.split(' ').collect();
    let mut store = store.lock().unwrap();
    Some(match words[..] {
        ["GET", key] => bulk(store.get(key)),
        ["SET", key, value, "GET"] => bulk(store.insert(key.to_owned(), value.to_owned()).as_ref()),
        ["EVAL", .., key] => bulk(Some(&key.to_owned())),
        ["INCR", key] => format!(":{}\r\n", increment(store.entry(key.to_owned()).or_insert("0".to_owned()))),
        ["MGET", ref keys @ ..] => {
            let values: String = keys.iter().map(|key| bulk(store.get(*key))).collect();
            format!("*{}\r\n{values}", keys.len())
        }
        ["DEL", ref keys @ ..] => {
            format!(":{}\r\n", keys.iter().filter(|key| store.remove(**key).is_some()).count())
        }
        ["FLUSHDB", ..] => {
            store.clear();
            "+OK\r\n".to_owned()
        }
        ["PING"] => "+PONG\r\n".to_owned(),
        _ => format!("-ERR unknown command {request:?}\r\n"),
    })
}

fn memcached(talk: &mut Talk, store: &Mutex<HashMap<String, String>>) -> Option<String> {
    let line = talk.line()?;
    let words: Vec<&str> = line.split(' ').collect();
    let block = if matches!(words[0], "set" | "add") { talk.line()? } else { String::new() };
    let mut store = store.lock().unwrap();
    Some(match words[..] {
        [name @ ("get" | "gets"), ref keys @ ..] => {
            let cas = if name == "gets" { " 7" } else { "" };
            let found = keys.iter().filter_map(|key| Some((key, store.get(*key)?)));
            let values = found.map(|(key, value)| format!("VALUE {key} 0 {}{cas}\r\n{value}\r\n", value.len()));
            values.collect::<String>() + "END\r\n"
        }
        ["set" | "add", key, _, _, _, ref rest @ ..] => {
            store.insert(key.to_owned(), block);
            if rest.is_empty() { "STORED\r\n".to_owned() } else { String::new() }
        }
        ["incr", key, _] => match store.get_mut(key) {
            Some(value) => format!("{}\r\n", increment(value)),
            None => "NOT_FOUND\r\n".to_owned(),
        },
        ["delete", key] => if store.remove(key).is_some() { "DELETED\r\n" } else { "NOT_FOUND\r\n" }.to_owned(),
        ["flush_all", ..] => {
            store.clear();
            "OK\r\n".to_owned()
        }
        ["version"] => "VERSION 1.6.0-moody\r\n".to_owned(),
        _ => "ERROR\r\n".to_owned(),
    })
}

fn increment(value: &mut String) -> u64 {
    let next = value.parse().unwrap_or(0) + 1;
    *value = next.to_string();
    next
}
