//! Paul Hsieh's SuperFastHash, with twemproxy's initial value: 0, not the length.

/// Only the third byte of a three-byte tail is sign-extended.
#[inline]
pub(super) fn hsieh(key: &[u8]) -> u32 {
    let mut hash = 0u32;
    let (words, tail) = key.as_chunks::<4>();
    for &[a, b, c, d] in words {
        hash = hash.wrapping_add(half(a, b));
        hash = (hash << 16) ^ ((half(c, d) << 11) ^ hash);
        hash = hash.wrapping_add(hash >> 11);
    }
    match *tail {
        [a, b, c] => {
            hash = hash.wrapping_add(half(a, b));
            hash ^= hash << 16;
            hash ^= super::sign_extended(c) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [a, b] => {
            hash = hash.wrapping_add(half(a, b));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [a] => {
            hash = hash.wrapping_add(u32::from(a));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    avalanche(hash)
}

#[inline]
fn half(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}

/// Spreads the last bytes over the whole word.
#[inline]
fn avalanche(mut hash: u32) -> u32 {
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}
