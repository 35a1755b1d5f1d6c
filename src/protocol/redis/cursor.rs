//! The cursor of a SCAN over several servers, one after the other. It holds everything there is to know, so that the next
//! call may come over another connection, to another worker or another process with the same servers. Pure.
//!
//! ```text
//!   (cursor of the server × servers + index of the server) × 65536 + mark of the list of servers
//! ```
//! 0 begins and ends, as in Redis: of the first server only cursors other than 0 are given out. A server's cursor is less
//! than the number of its buckets, the next power of two above its keys. So with `n` servers the number is below 2^53, which
//! JavaScript can count to, up to 2^37 / n buckets on a server (with 16 servers: eight thousand million keys each), and below
//! 2^63 always: a cursor that does not fit is not given out.

/// Bits of the mark.
const MARK: u32 = 16;

/// The servers of a pool in their order, by their names and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Servers {
    count: u64,
    mark: u64,
}

/// Where a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Index of the server.
    pub server: usize,
    /// What that server is given.
    pub cursor: u64,
}

/// Why there is no going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorError {
    /// It was never given out.
    Invalid,
    /// It was given out for other servers.
    Changed,
}

impl Servers {
    /// Each by its name and its address.
    pub fn new<'a>(servers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        // FNV-1a, each text with an end of its own.
        let (mut hash, mut count) = (0xcbf2_9ce4_8422_2325_u64, 0);
        for (name, address) in servers {
            count += 1;
            for byte in name.bytes().chain([0]).chain(address.bytes()).chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let folded = hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48;
        Self { count, mark: folded & ((1 << MARK) - 1) }
    }

    /// What a client gave.
    pub fn decode(self, text: &[u8]) -> Result<Position, CursorError> {
        let number = digits(text).ok_or(CursorError::Invalid)?;
        if number == 0 {
            return Ok(Position { server: 0, cursor: 0 });
        }
        if number & ((1 << MARK) - 1) != self.mark {
            return Err(CursorError::Changed);
        }
        let place = number >> MARK;
        match (place, place.checked_rem(self.count)) {
            (1.., Some(server)) => Ok(Position { server: server as usize, cursor: place / self.count }),
            _ => Err(CursorError::Invalid),
        }
    }

    /// What the client is given after the server at `server` has said `next`; `None`: it does not fit.
    pub fn encode(self, server: usize, next: u64) -> Option<u64> {
        let place = match (next, server as u64 + 1) {
            (0, server) if server >= self.count => return Some(0),
            (0, server) => server,
            (cursor, _) => cursor.checked_mul(self.count)?.checked_add(server as u64)?,
        };
        let number = place.checked_mul(1 << MARK)? | self.mark;
        (number <= i64::MAX as u64).then_some(number)
    }
}

/// A cursor as Redis reads it: digits, and no more than 64 bits of them.
pub fn digits(text: &[u8]) -> Option<u64> {
    let sound = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| sound)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(count: usize) -> Servers {
        let names: Vec<String> = (0..count).map(|n| format!("10.0.0.{n}:6379")).collect();
        Servers::new(names.iter().map(|name| (name.as_str(), name.as_str())))
    }

    fn decode(servers: Servers, number: u64) -> Result<Position, CursorError> {
        servers.decode(number.to_string().as_bytes())
    }

    #[test]
    fn one_server_is_finished_after_the_other() {
        let three = servers(3);
        assert_eq!(decode(three, 0), Ok(Position { server: 0, cursor: 0 }));
        for server in 0..2 {
            let next = three.encode(server, 0).unwrap();
            assert_eq!(decode(three, next), Ok(Position { server: server + 1, cursor: 0 }));
        }
        assert_eq!(three.encode(2, 0), Some(0));
    }

    #[test]
    fn other_servers_are_noticed() {
        let cursor = servers(3).encode(1, 4711).unwrap();
        let names = ["10.0.0.0:6379", "10.0.0.1:6379", "10.0.0.2:6379"];
        assert_eq!(
            decode(Servers::new(names.map(|name| (name, name))), cursor),
            Ok(Position { server: 1, cursor: 4711 })
        );
        for others in [
            &["10.0.0.0:6379", "10.0.0.1:6379"][..],
            &["10.0.0.1:6379", "10.0.0.0:6379", "10.0.0.2:6379"],
            &["10.0.0.0:6379", "10.0.0.1:6379", "10.0.0.2:6380"],
            &["10.0.0.0:63791", "0.0.0.1:6379", "10.0.0.2:6379"],
        ] {
            assert_eq!(
                decode(Servers::new(others.iter().map(|name| (*name, *name))), cursor),
                Err(CursorError::Changed),
                "{others:?}"
            );
        }
    }

    #[test]
    fn garbage_is_invalid() {
        let three = servers(3);
        for text in ["", "x", "-1", "+1", " 1", "1 ", "0x10", "18446744073709551616", "1.5"] {
            assert_eq!(three.decode(text.as_bytes()), Err(CursorError::Invalid), "{text:?}");
        }
        // The first server's 0, which is told by 0.
        assert_eq!(decode(three, three.mark), Err(CursorError::Invalid));
        assert_eq!(decode(three, three.mark ^ 1), Err(CursorError::Changed));
    }

    #[test]
    fn usual_cursors_are_numbers_that_every_client_can_hold() {
        // 2^33 buckets on each of 16 servers.
        assert!(servers(16).encode(15, (1 << 33) - 1).unwrap() < 1 << 53);
        assert!(servers(100).encode(99, (1 << 40) - 1).unwrap() < 1 << 63);
        assert_eq!(servers(3).encode(0, u64::MAX), None);
        assert_eq!(servers(3).encode(0, 1 << 46), None);
    }

    proptest! {
        #[test]
        fn what_is_given_out_is_understood(count in 2usize..2000, server in any::<prop::sample::Index>(), cursor in 1u64..) {
            let (servers, server) = (servers(count), server.index(count));
            // Of all sizes.
            let cursor = cursor >> (cursor % 64);
            prop_assume!(cursor > 0);
            if let Some(given) = servers.encode(server, cursor) {
                prop_assert!((1..1 << 63).contains(&given));
                prop_assert_eq!(decode(servers, given), Ok(Position { server, cursor }));
            } else {
                prop_assert!(u128::from(cursor) * count as u128 * 65536 + (65536 * count as u128) > i64::MAX as u128);
            }
        }

        #[test]
        fn any_text_breaks_nothing(text in "[0-9]{0,21}|.{0,8}", count in 1usize..20) {
            if let Ok(position) = servers(count).decode(text.as_bytes()) {
                prop_assert!(position.server < count);
            }
        }
    }
}
