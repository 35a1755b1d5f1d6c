//! The fleet's Redis.

use super::{Ask, Sailor, Want};
use crate::support::client::{Reply, resp};

impl Sailor {
    pub(super) fn redis_request(&mut self, bytes: &mut Vec<u8>) -> Want {
        match self.below(9) {
            0..=2 => {
                let key = self.key();
                bytes.extend(resp(&["GET", &key]));
                Want::Value(key)
            }
            3..=4 => {
                let key = self.key();
                let (value, number) = self.value(&key);
                bytes.extend(resp(&["SET", &key, &value, "GET"]));
                Want::Old(key, number)
            }
            5 => {
                let key = self.key();
                bytes.extend(resp(&["EVAL", "return KEYS[1]", "1", &key]));
                Want::Key(key)
            }
            6 => {
                let keys = self.several();
                let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
                bytes.extend(resp(&words));
                Want::Values(keys)
            }
            7 => match self.counter() {
                Some(key) => {
                    bytes.extend(resp(&["INCR", &key]));
                    Want::Count(key)
                }
                None => {
                    let key = self.key();
                    bytes.extend(resp(&["GET", &key]));
                    Want::Value(key)
                }
            },
            _ => {
                bytes.extend(resp(&["DEL", &self.key(), &self.key()]));
                Want::Done
            }
        }
    }

    pub(super) fn hear_redis(&mut self, reply: &Reply, ask: &Ask) -> Result<(), String> {
        match (reply, &ask.want) {
            (Reply::Error(text), _) => {
                self.failed(ask, text);
                return Ok(());
            }
            (Reply::Array(items), Want::Values(keys)) if items.len() == keys.len() => {
                for (item, key) in items.iter().zip(keys) {
                    let one = Ask { want: Want::Value(key.clone()), homes: 1 << (self.homes)(key), ..*ask };
                    self.hear_redis(item, &one)?;
                }
                return Ok(());
            }
            (Reply::Nil, Want::Value(_)) | (Reply::Integer(0..=2), Want::Done) => {}
            (Reply::Nil, Want::Old(key, number)) => self.stored(key, *number),
            (Reply::Integer(1..), Want::Count(key)) => self.counted(key),
            (Reply::Bulk(bytes), Want::Value(key)) => self.belongs(&String::from_utf8_lossy(bytes), key)?,
            (Reply::Bulk(bytes), Want::Old(key, number)) => {
                self.belongs(&String::from_utf8_lossy(bytes), key)?;
                self.stored(key, *number);
            }
            (Reply::Bulk(bytes), Want::Key(key)) if bytes == key.as_bytes() => self.seen.matched += 1,
            _ => return Err(format!("swapped: {:.200}, wanted {:?}", reply.to_string(), ask.want)),
        }
        self.sample(ask, None);
        Ok(())
    }
}
