//! Bob Jenkins' lookup3 (`hashlittle`), with libmemcached's seed 13.

/// The last 1 to 12 bytes count as three words, padded with zeros.
#[inline]
pub(super) fn jenkins(key: &[u8]) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(13);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = key;
    while rest.len() > 12 {
        let (block, after) = rest.split_at(12);
        [a, b, c] = mix(add([a, b, c], block));
        rest = after;
    }
    if rest.is_empty() {
        return c;
    }
    finish(add([a, b, c], rest))
}

/// Adds up to twelve bytes as three little-endian words.
#[inline]
fn add([a, b, c]: [u32; 3], block: &[u8]) -> [u32; 3] {
    let (low, rest) = block.split_at(block.len().min(4));
    let (middle, high) = rest.split_at(rest.len().min(4));
    [
        a.wrapping_add(super::zero_padded(low)),
        b.wrapping_add(super::zero_padded(middle)),
        c.wrapping_add(super::zero_padded(high)),
    ]
}

#[inline]
fn mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    [a, b, c]
}

#[inline]
fn finish([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}
