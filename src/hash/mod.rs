//! The key hashes of twemproxy and the hash tag.

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
}

/// The two bytes that enclose the part of a key that is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashTag(pub [u8; 2]);
