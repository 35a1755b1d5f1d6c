//! The four FNV hashes: 1 multiplies first, 1a mixes the byte in first.
//!
//! The 64-bit ones keep only the low half of the state all the way (offset basis and prime are cut to 32 bits), so
//! that short similar keys cluster: this is how twemproxy has it, and why its default spreads worse than `murmur`.
//! All four sign-extend bytes, as x86's `char` does.

const PRIME_64_LOW: u32 = 0x0000_01b3;
const BASIS_64_LOW: u32 = 0x8422_2325;
const PRIME_32: u32 = 16_777_619;
const BASIS_32: u32 = 2_166_136_261;

#[inline]
pub(super) fn fnv1_64(key: &[u8]) -> u32 {
    fnv1::<PRIME_64_LOW>(BASIS_64_LOW, key)
}

#[inline]
pub(super) fn fnv1a_64(key: &[u8]) -> u32 {
    fnv1a::<PRIME_64_LOW>(BASIS_64_LOW, key)
}

#[inline]
pub(super) fn fnv1_32(key: &[u8]) -> u32 {
    fnv1::<PRIME_32>(BASIS_32, key)
}

#[inline]
pub(super) fn fnv1a_32(key: &[u8]) -> u32 {
    fnv1a::<PRIME_32>(BASIS_32, key)
}

#[inline]
fn fnv1<const PRIME: u32>(basis: u32, key: &[u8]) -> u32 {
    key.iter().fold(basis, |hash, &byte| hash.wrapping_mul(PRIME) ^ super::sign_extended(byte))
}

#[inline]
fn fnv1a<const PRIME: u32>(basis: u32, key: &[u8]) -> u32 {
    key.iter().fold(basis, |hash, &byte| (hash ^ super::sign_extended(byte)).wrapping_mul(PRIME))
}
