//! The key hashes of twemproxy and the hash tag.
//!
//! Bit for bit as twemproxy computes them on x86-64, quirks included: switching proxies moves no key. Where twemproxy
//! reads a key as `char`, bytes above 0x7f are negative there, hence [`sign_extended`]; its arm64 builds differ.

mod crc;
mod fnv;
mod hsieh;
mod jenkins;
mod md5;
mod murmur;
mod one_at_a_time;
mod tag;

pub use tag::{HashTag, tagged};

/// How a key becomes the 32-bit number that the ring is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyHash {
    OneAtATime,
    Md5,
    Crc16,
    Crc32,
    Crc32a,
    Fnv1_64,
    #[default]
    Fnv1a64,
    Fnv1_32,
    Fnv1a32,
    Hsieh,
    Murmur,
    Jenkins,
}

impl KeyHash {
    /// Every hash with its name in configuration files, in twemproxy's order.
    pub const ALL: [(&'static str, KeyHash); 12] = [
        ("one_at_a_time", KeyHash::OneAtATime),
        ("md5", KeyHash::Md5),
        ("crc16", KeyHash::Crc16),
        ("crc32", KeyHash::Crc32),
        ("crc32a", KeyHash::Crc32a),
        ("fnv1_64", KeyHash::Fnv1_64),
        ("fnv1a_64", KeyHash::Fnv1a64),
        ("fnv1_32", KeyHash::Fnv1_32),
        ("fnv1a_32", KeyHash::Fnv1a32),
        ("hsieh", KeyHash::Hsieh),
        ("murmur", KeyHash::Murmur),
        ("jenkins", KeyHash::Jenkins),
    ];

    /// The hash with this configuration name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, h)| *h)
    }

    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// The number of a key, or of its tagged part (see [`tagged`]). The empty key is 0 whatever the hash.
    #[inline]
    pub fn hash(self, key: &[u8]) -> u32 {
        if key.is_empty() {
            return 0;
        }
        match self {
            Self::OneAtATime => one_at_a_time::one_at_a_time(key),
            Self::Md5 => md5::md5(key),
            Self::Crc16 => crc::crc16(key),
            Self::Crc32 => crc::crc32(key),
            Self::Crc32a => crc::crc32a(key),
            Self::Fnv1_64 => fnv::fnv1_64(key),
            Self::Fnv1a64 => fnv::fnv1a_64(key),
            Self::Fnv1_32 => fnv::fnv1_32(key),
            Self::Fnv1a32 => fnv::fnv1a_32(key),
            Self::Hsieh => hsieh::hsieh(key),
            Self::Murmur => murmur::murmur(key),
            Self::Jenkins => jenkins::jenkins(key),
        }
    }
}

/// A byte as x86's signed `char` widened to 32 bits.
#[inline]
fn sign_extended(byte: u8) -> u32 {
    byte as i8 as u32
}

/// Up to four bytes as a little-endian word, the missing ones zero.
#[inline]
fn zero_padded(bytes: &[u8]) -> u32 {
    match *bytes {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        [a, b, c] => u32::from_le_bytes([a, b, c, 0]),
        [a, b] => u32::from_le_bytes([a, b, 0, 0]),
        [a] => u32::from(a),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn apple_as_twemproxy_hashes_it() {
        let expected = [
            2297466611, 3195025439, 3662830516, 10542, 2838417488, 473199127, 1488911807, 67176023, 280767167,
            3738850110, 4142305122, 1442444624,
        ];
        for ((name, hash), expected) in KeyHash::ALL.into_iter().zip(expected) {
            assert_eq!(hash.hash(b"apple"), expected, "{name}");
        }
    }

    #[test]
    fn names_lead_to_their_hash_and_back() {
        for (name, hash) in KeyHash::ALL {
            assert_eq!(KeyHash::from_name(name), Some(hash));
            assert_eq!(hash.name(), name);
        }
        assert_eq!(KeyHash::from_name("FNV1A_64"), None);
    }

    #[test]
    fn the_empty_key_is_zero() {
        for (name, hash) in KeyHash::ALL {
            assert_eq!(hash.hash(b""), 0, "{name}");
        }
    }

    proptest! {
        /// And only they count: not where in memory they start.
        #[test]
        fn every_hash_takes_any_bytes(key in proptest::collection::vec(any::<u8>(), 0..600), before in 1..8usize) {
            let mut shifted = vec![0xff; before];
            shifted.extend_from_slice(&key);
            for (name, hash) in KeyHash::ALL {
                prop_assert_eq!(hash.hash(&shifted[before..]), hash.hash(&key), "{}", name);
            }
            prop_assert!(KeyHash::Crc32.hash(&key) <= 0x7fff);
        }

        /// The sliced tables against the definition, one bit at a time.
        #[test]
        fn crc32a_is_the_plain_bitwise_crc(key in proptest::collection::vec(any::<u8>(), 1..64)) {
            let bitwise = !key.iter().fold(!0u32, |crc, &byte| {
                (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
            });
            prop_assert_eq!(KeyHash::Crc32a.hash(&key), bitwise);
        }
    }
}
