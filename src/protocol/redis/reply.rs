//! Writers of the replies that the proxy gives itself, and of the requests that it sends of its own. They append to a buffer
//! and fail never. What RESP2 does not have says so; [`convert`](super::convert) makes RESP2 of a whole reply.

/// `+OK`.
pub const OK: &[u8] = b"+OK\r\n";
/// `+QUEUED`.
pub const QUEUED: &[u8] = b"+QUEUED\r\n";
/// `+PONG`.
pub const PONG: &[u8] = b"+PONG\r\n";
/// `+RESET`.
pub const RESET: &[u8] = b"+RESET\r\n";
/// The null of RESP3.
pub const NULL_3: &[u8] = b"_\r\n";
/// The null bulk string.
pub const NULL: &[u8] = b"$-1\r\n";
/// The null array.
pub const NULL_ARRAY: &[u8] = b"*-1\r\n";
/// The array without elements.
pub const EMPTY_ARRAY: &[u8] = b"*0\r\n";

/// `$5\r\nhello\r\n`.
pub fn write_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    write_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// `:42\r\n`.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `*3\r\n`; that many elements must follow.
/// In RESP3.
pub fn write_double(out: &mut Vec<u8>, value: f64) {
    out.push(b',');
    out.extend_from_slice(value.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub fn write_array_header(out: &mut Vec<u8>, elements: usize) {
    write_header(out, b'*', elements);
}

/// `%2\r\n`, of RESP3; that many keys must follow, each with its value.
pub fn write_map_header(out: &mut Vec<u8>, pairs: usize) {
    write_header(out, b'%', pairs);
}

/// `~2\r\n`, of RESP3; that many elements must follow.
pub fn write_set_header(out: &mut Vec<u8>, elements: usize) {
    write_header(out, b'~', elements);
}

/// `=9\r\ntxt:hello\r\n`, of RESP3: text for people.
pub fn write_verbatim(out: &mut Vec<u8>, text: &[u8]) {
    write_header(out, b'=', text.len() + 4);
    out.extend_from_slice(b"txt:");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// `+text\r\n`.
pub fn write_simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    write_line_text(out, text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `-text\r\n`; the text starts with its code word, such as `ERR `.
pub fn write_error(out: &mut Vec<u8>, text: &str) {
    out.push(b'-');
    write_line_text(out, text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A request as an array of bulk strings, its name first.
pub fn write_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    write_header(out, b'*', args.len());
    for arg in args {
        write_bulk(out, arg.as_ref());
    }
}

/// A request that gives `key` a time to live of at most `seconds`: it shortens one, and sets one where there is none.
/// Redis knows it from 7.0 on.
pub fn write_expire_at_most(out: &mut Vec<u8>, key: &[u8], seconds: u64) {
    let mut number = itoa::Buffer::new();
    write_command(out, &[b"EXPIRE", key, number.format(seconds).as_bytes(), b"LT"]);
}

/// Text inside a line: CR and LF become spaces, as in Redis, so that no text can end the line.
pub(super) fn write_line_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
}

fn write_header(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn writes_every_kind() {
        assert_eq!(written(|out| write_bulk(out, b"a\r\nb")), "$4\r\na\r\nb\r\n");
        assert_eq!(written(|out| write_integer(out, i64::MIN)), ":-9223372036854775808\r\n");
        assert_eq!(written(|out| write_array_header(out, 12)), "*12\r\n");
        assert_eq!(written(|out| write_map_header(out, 2)), "%2\r\n");
        assert_eq!(written(|out| write_set_header(out, 0)), "~0\r\n");
        assert_eq!(written(|out| write_verbatim(out, b"hello")), "=9\r\ntxt:hello\r\n");
        assert_eq!(written(|out| write_simple(out, "OK")), "+OK\r\n");
        assert_eq!(written(|out| write_command(out, &["GET", ""])), "*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
        assert_eq!(written(|out| write_command::<&str>(out, &[])), "*0\r\n");
        let expected = "*4\r\n$6\r\nEXPIRE\r\n$1\r\nk\r\n$2\r\n60\r\n$2\r\nLT\r\n";
        assert_eq!(written(|out| write_expire_at_most(out, b"k", 60)), expected);
    }

    #[test]
    fn no_text_ends_its_line() {
        assert_eq!(written(|out| write_error(out, "ERR a\r\n+OK\n")), "-ERR a  +OK \r\n");
        assert_eq!(written(|out| write_simple(out, "a\nb\r")), "+a b \r\n");
    }
}
