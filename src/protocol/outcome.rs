//! What a reply says about its request, by its first bytes. The protocols share no first byte of which both would mean
//! something, so it need not be known which one it is.

use crate::telemetry::Outcome;

/// What became of the request that got this reply: a value, nothing, or an error.
///
/// Nothing is a null (`$-1`, `*-1`, `_`), memcached's `END` without a value, or `NOT_FOUND`. An array of nulls is a value:
/// looking through it would take too long.
#[inline]
pub fn outcome_of(reply: &[u8]) -> Outcome {
    match reply {
        [b'-' | b'!', ..] => Outcome::Error,
        [b'$' | b'*', b'-', ..] | [b'_', ..] => Outcome::Miss,
        // END, ERROR
        [b'E', b'N', ..] | [b'N', b'O', b'T', b'_', b'F', ..] => Outcome::Miss,
        // CLIENT_ERROR, SERVER_ERROR
        [b'E', b'R', ..] | [b'C', ..] | [b'S', b'E', ..] => Outcome::Error,
        _ => Outcome::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_both_protocols_are_told_apart() {
        let ok = ["+OK\r\n", ":0\r\n", "$0\r\n\r\n", "*0\r\n", "*1\r\n$-1\r\n", "%0\r\n", "#t\r\n", ",1.5\r\n", ""];
        let text = [
            "VALUE a 0 1\r\nx\r\nEND\r\n",
            "STORED\r\n",
            "NOT_STORED\r\n",
            "EXISTS\r\n",
            "DELETED\r\n",
            "17\r\n",
            "OK\r\n",
        ];
        for (replies, outcome) in [
            (&ok[..], Outcome::Ok),
            (&text, Outcome::Ok),
            (&["$-1\r\n", "*-1\r\n", "_\r\n", "END\r\n", "NOT_FOUND\r\n"], Outcome::Miss),
            (&["-ERR x\r\n", "!3\r\nabc\r\n", "ERROR\r\n", "CLIENT_ERROR x\r\n", "SERVER_ERROR x\r\n"], Outcome::Error),
        ] {
            for reply in replies {
                assert_eq!(outcome_of(reply.as_bytes()), outcome, "{reply}");
            }
        }
    }
}
