//! Bob Jenkins' one-at-a-time hash.

/// Bytes are sign-extended, as x86's `char` is: keys with bytes above 0x7f differ from the textbook.
#[inline]
pub(super) fn one_at_a_time(key: &[u8]) -> u32 {
    let mut hash = 0u32;
    for &byte in key {
        hash = hash.wrapping_add(super::sign_extended(byte));
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}
