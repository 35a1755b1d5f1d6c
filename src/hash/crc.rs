//! The three cyclic redundancy checks: `crc16`, `crc32` and `crc32a`.

/// CRC-16/XMODEM's polynomial, most significant bit first.
static TABLE_16: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = (byte as u32) << 8;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 0x8000 != 0 { (rest << 1) ^ 0x1021 } else { rest << 1 };
            bit += 1;
        }
        table[byte] = rest & 0xffff;
        byte += 1;
    }
    table
};

/// zlib's polynomial, least significant bit first. Row `n` is the effect of a byte that `n` more bytes follow, so that
/// four bytes are taken in one step.
static TABLES_32: [[u32; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 != 0 { (rest >> 1) ^ 0xedb8_8320 } else { rest >> 1 };
            bit += 1;
        }
        tables[0][byte] = rest;
        byte += 1;
    }
    let mut row = 1;
    while row < 4 {
        let mut byte = 0;
        while byte < 256 {
            let rest = tables[row - 1][byte];
            tables[row][byte] = (rest >> 8) ^ tables[0][(rest & 0xff) as usize];
            byte += 1;
        }
        row += 1;
    }
    tables
};

/// CRC-16/XMODEM in 32 bits that twemproxy never masks to 16: what is shifted out stays in the upper half.
#[inline]
pub(super) fn crc16(key: &[u8]) -> u32 {
    key.iter().fold(0, |crc: u32, &byte| (crc << 8) ^ TABLE_16[(((crc >> 8) ^ u32::from(byte)) & 0xff) as usize])
}

/// libmemcached's reading of CRC-32: 15 bits of it. With ketama nearly every key is below the first point.
#[inline]
pub(super) fn crc32(key: &[u8]) -> u32 {
    (crc32a(key) >> 16) & 0x7fff
}

/// CRC-32 as zlib computes it.
#[inline]
pub(super) fn crc32a(key: &[u8]) -> u32 {
    let (words, tail) = key.as_chunks::<4>();
    let mut crc = !0u32;
    for &word in words {
        let [first, second, third, fourth] = (crc ^ u32::from_le_bytes(word)).to_le_bytes();
        crc = TABLES_32[3][usize::from(first)]
            ^ TABLES_32[2][usize::from(second)]
            ^ TABLES_32[1][usize::from(third)]
            ^ TABLES_32[0][usize::from(fourth)];
    }
    for &byte in tail {
        crc = (crc >> 8) ^ TABLES_32[0][((crc ^ u32::from(byte)) & 0xff) as usize];
    }
    !crc
}
