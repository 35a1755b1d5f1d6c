//! Transactions that are sent in one piece, MULTI to EXEC. They are one request with one reply, so nothing can come between
//! their parts, and when the link is lost the rest of one is never sent without its beginning.

use super::Connection;
use crate::io::{Input, Payload};
use crate::protocol::redis::{errors, response};

impl Connection {
    /// Whether MULTI was accepted on this link. What follows a MULTI that was refused would be carried out one by one.
    pub fn takes_transactions(&self) -> bool {
        self.takes_transactions.get()
    }

    /// MULTI was accepted on this link just now.
    pub fn accepted_transaction(&self) {
        self.takes_transactions.set(self.is_up());
    }
}

/// Takes the replies of a transaction, of which that of EXEC is its outcome. If it failed because something was refused
/// before, EXEC does not say what, but this does.
pub(super) fn outcome<'a>(input: &'a mut Input<'_>, length: usize) -> Payload<'a> {
    let (start, error) = response::of_transaction(&input.bytes()[..length]);
    let outcome = &input.bytes()[start..length];
    let told = error.filter(|_| response::is_error(outcome)).map(|error| told(outcome, error));
    match told {
        Some(told) => {
            input.skip(length);
            Payload::Owned(told.into())
        }
        None => {
            input.skip(start);
            input.take(length - start)
        }
    }
}

/// The error that says most.
fn told(outcome: &[u8], error: &[u8]) -> Vec<u8> {
    if response::error_word(outcome) != Some(b"EXECABORT") {
        return error.to_vec();
    }
    let mut told = Vec::new();
    let text = error.strip_prefix(b"-").unwrap_or(error).trim_ascii_end();
    errors::exec_abort(&mut told, &String::from_utf8_lossy(text));
    told
}
