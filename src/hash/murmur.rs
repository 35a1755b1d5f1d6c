//! Austin Appleby's MurmurHash2 for 32 bits, little-endian.

const MULTIPLIER: u32 = 0x5bd1_e995;

/// The seed depends on the length, as in libmemcached.
#[inline]
pub(super) fn murmur(key: &[u8]) -> u32 {
    let length = key.len() as u32;
    let mut hash = 0xdead_beef_u32.wrapping_mul(length) ^ length;
    let (words, tail) = key.as_chunks::<4>();
    for &word in words {
        let mut mixed = u32::from_le_bytes(word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        hash = (hash ^ super::zero_padded(tail)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}
