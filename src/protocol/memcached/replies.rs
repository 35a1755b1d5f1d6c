//! What the proxy itself answers in the text protocol: fixed lines, refusals, and writers for the rest.

use std::fmt::{self, Display, Write as _};

/// End of the values or the statistics.
pub const END: &[u8] = b"END\r\n";
/// `flush_all`, `verbosity`.
pub const OK: &[u8] = b"OK\r\n";
/// The item was stored.
pub const STORED: &[u8] = b"STORED\r\n";
/// The condition of `add`, `replace`, `append` or `prepend` did not hold.
pub const NOT_STORED: &[u8] = b"NOT_STORED\r\n";
/// `cas`: somebody else stored it meanwhile.
pub const EXISTS: &[u8] = b"EXISTS\r\n";
/// No such item.
pub const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
/// `delete`.
pub const DELETED: &[u8] = b"DELETED\r\n";
/// `touch`.
pub const TOUCHED: &[u8] = b"TOUCHED\r\n";
/// `stats reset`.
pub const RESET: &[u8] = b"RESET\r\n";
/// `incr`, `decr`: the delta is not a number of 64 bits.
pub const INVALID_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
/// `incr`, `decr`: the value is not a number.
pub const NON_NUMERIC: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

/// Longest text of an error line that is written, in bytes: clients read lines into small buffers.
const MAX_TEXT_BYTES: usize = 1024;

/// Why a request is refused without asking a server. Displays as the line that memcached would send, without CR LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Unknown command, or a wrong number of words.
    Error,
    /// A word is not what it must be, or a key is too long.
    BadFormat,
    /// The data block is not followed by CR LF.
    BadDataChunk,
    /// The data block does not fit the limit of a request.
    TooLarge,
    /// `gat`, `gats`, `flush_all`: not a time.
    InvalidExptime,
    /// `delete` with something that is neither `0` nor `noreply`.
    DeleteUsage,
    /// More keys than the limit of arguments.
    TooManyKeys,
    /// `mg ms md mn me ma`.
    Meta,
    /// The line does not end within its limit.
    LineTooLong,
    /// The binary protocol.
    Binary,
}

impl Rejection {
    /// The line, without CR LF.
    pub fn line(self) -> &'static str {
        match self {
            Rejection::Error => "ERROR",
            Rejection::BadFormat => "CLIENT_ERROR bad command line format",
            Rejection::BadDataChunk => "CLIENT_ERROR bad data chunk",
            Rejection::TooLarge => "SERVER_ERROR object too large for cache",
            Rejection::InvalidExptime => "CLIENT_ERROR invalid exptime argument",
            Rejection::DeleteUsage => "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
            Rejection::TooManyKeys => "CLIENT_ERROR too many keys",
            Rejection::Meta => "CLIENT_ERROR meta commands are not supported by this proxy",
            Rejection::LineTooLong => "CLIENT_ERROR line too long",
            Rejection::Binary => "CLIENT_ERROR the binary protocol is not supported by this proxy",
        }
    }

    /// Appends the line with its CR LF.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.line().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.line())
    }
}

/// Appends `SERVER_ERROR text`: this side failed.
pub fn write_server_error(out: &mut Vec<u8>, text: &str) {
    write_line(out, "SERVER_ERROR ", text);
}

/// Appends `CLIENT_ERROR text`: the client asked for what it cannot have.
pub fn write_client_error(out: &mut Vec<u8>, text: &str) {
    write_line(out, "CLIENT_ERROR ", text);
}

/// Appends `VERSION text`.
pub fn write_version(out: &mut Vec<u8>, version: &str) {
    write_line(out, "VERSION ", version);
}

/// Appends one line of `stats`; the name must be one word, and `END` follows the last.
pub fn write_stat(out: &mut Vec<u8>, name: &str, value: impl Display) {
    out.extend_from_slice(b"STAT ");
    escape_into(out, name);
    out.push(b' ');
    let mut text = Escaped(out);
    // Writing to a Vec cannot fail; a Display that does leaves its line short, but a line.
    let _ = write!(text, "{value}");
    out.extend_from_slice(b"\r\n");
}

/// Appends one item of the reply to a retrieval; `END` follows the last. `unique` is for `gets` and `gats` only.
pub fn write_value(out: &mut Vec<u8>, key: &[u8], flags: u32, data: &[u8], unique: Option<u64>) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    out.push(b' ');
    out.extend_from_slice(number.format(flags).as_bytes());
    out.push(b' ');
    out.extend_from_slice(number.format(data.len()).as_bytes());
    if let Some(unique) = unique {
        out.push(b' ');
        out.extend_from_slice(number.format(unique).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the new value of `incr` or `decr`.
pub fn write_number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_line(out: &mut Vec<u8>, word: &str, text: &str) {
    out.extend_from_slice(word.as_bytes());
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    escape_into(out, &text[..end]);
    out.extend_from_slice(b"\r\n");
}

/// Control characters become `\n`, `\u{0}` and so on: a text from elsewhere must not end the line.
fn escape_into(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            for escaped in character.escape_default() {
                out.push(escaped as u8);
            }
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

struct Escaped<'a>(&'a mut Vec<u8>);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape_into(self.0, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_error_is_one_line_whatever_its_text() {
        assert_eq!(
            written(|out| write_server_error(out, "10.0.0.1:11211: timed out")),
            "SERVER_ERROR 10.0.0.1:11211: timed out\r\n"
        );
        assert_eq!(
            written(|out| write_client_error(out, "a\r\nSTORED\r\n\0")),
            "CLIENT_ERROR a\\r\\nSTORED\\r\\n\\u{0}\r\n"
        );
        let long = "ü".repeat(MAX_TEXT_BYTES);
        assert_eq!(written(|out| write_server_error(out, &long)).len(), "SERVER_ERROR \r\n".len() + MAX_TEXT_BYTES);
    }

    #[test]
    fn statistics_versions_values_and_numbers() {
        assert_eq!(written(|out| write_stat(out, "curr_items", 5)), "STAT curr_items 5\r\n");
        assert_eq!(written(|out| write_stat(out, "a", "x\r\nEND\r\n")), "STAT a x\\r\\nEND\\r\\n\r\n");
        assert_eq!(written(|out| write_version(out, "0.1.0")), "VERSION 0.1.0\r\n");
        assert_eq!(written(|out| write_number(out, u64::MAX)), "18446744073709551615\r\n");
        assert_eq!(written(|out| write_value(out, b"k", 7, b"data", None)), "VALUE k 7 4\r\ndata\r\n");
        assert_eq!(written(|out| write_value(out, b"k", 0, b"", Some(9))), "VALUE k 0 0 9\r\n\r\n");
    }

    #[test]
    fn a_rejection_is_written_as_its_line() {
        assert_eq!(written(|out| Rejection::Error.write(out)), "ERROR\r\n");
        assert_eq!(Rejection::BadDataChunk.to_string(), "CLIENT_ERROR bad data chunk");
    }
}
