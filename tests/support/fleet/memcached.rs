//! The fleet's memcached.

use super::{Ask, Sailor, Want};

impl Sailor {
    pub(super) fn memcached_request(&mut self, bytes: &mut Vec<u8>) -> Want {
        match self.below(9) {
            0..=3 => self.get(bytes),
            4..=5 => {
                let key = self.key();
                let (value, number) = self.value(&key);
                let noreply = if self.below(3) == 0 { " noreply" } else { "" };
                bytes.extend(format!("set {key} 0 0 {}{noreply}\r\n{value}\r\n", value.len()).into_bytes());
                if !noreply.is_empty() {
                    self.unknown(&key, number);
                    // Something must be answered for each call.
                    return self.get(bytes);
                }
                Want::Stored(key, number)
            }
            6 => {
                let keys = self.several();
                bytes.extend(format!("gets {}\r\n", keys.join(" ")).into_bytes());
                Want::Values(keys)
            }
            7 => match self.counter() {
                Some(key) => {
                    bytes.extend(format!("incr {key} 1\r\n").into_bytes());
                    Want::Count(key)
                }
                None => self.get(bytes),
            },
            _ => {
                bytes.extend(format!("delete {}\r\n", self.key()).into_bytes());
                Want::Done
            }
        }
    }

    fn get(&mut self, bytes: &mut Vec<u8>) -> Want {
        let key = self.key();
        bytes.extend(format!("get {key}\r\n").into_bytes());
        Want::Value(key)
    }

    pub(super) fn hear_memcached(&mut self, reply: &str, ask: &Ask) -> Result<(), String> {
        // Outright, or as a proxy says no in place of a server that is away.
        if reply.starts_with("SERVER_ERROR ") || matches!((&ask.want, reply), (Want::Stored(..), "NOT_STORED")) {
            self.failed(ask, reply);
            return Ok(());
        }
        match &ask.want {
            Want::Done if ["DELETED", "NOT_FOUND"].contains(&reply) => {}
            Want::Stored(key, number) if reply == "STORED" => self.stored(key, *number),
            Want::Count(key) if reply.parse::<u64>().is_ok() => self.counted(key),
            Want::Count(_) if reply == "NOT_FOUND" => {}
            Want::Value(key) => self.values(reply, std::slice::from_ref(key))?,
            Want::Values(keys) => self.values(reply, keys)?,
            want => return Err(format!("swapped: {reply:.200}, wanted {want:?}")),
        }
        self.sample(ask, None);
        Ok(())
    }

    fn values(&mut self, reply: &str, keys: &[String]) -> Result<(), String> {
        let swapped = || format!("swapped: {reply:.200}, wanted {keys:?}");
        let mut rest = reply.strip_suffix("END").ok_or_else(swapped)?;
        for key in keys {
            let Some(after) = rest.strip_prefix(&format!("VALUE {key} ")) else { continue };
            let (_, block) = after.split_once('|').ok_or_else(swapped)?;
            let (value, after) = block.split_once('|').ok_or_else(swapped)?;
            self.belongs(value, key)?;
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("not asked for: {rest:.200}, wanted {keys:?}")) }
    }
}
