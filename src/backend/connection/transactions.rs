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

impl Connection {
    /// Takes the replies of a transaction, of which that of EXEC is its outcome. If it failed because something was refused
    /// before, EXEC does not say what, but this does.
    ///
    /// True: for all that is known the transaction is still open at the server, and what comes next would become a part of it.
    pub(super) fn take_outcome<'a>(&self, input: &'a mut Input<'_>, length: usize) -> (Payload<'a>, bool) {
        let replies = &input.bytes()[..length];
        let (start, error) = response::of_transaction(replies);
        let outcome = &replies[start..];
        if !response::is_error(outcome) {
            input.skip(start);
            return (input.take(length - start), false);
        }
        let begun = !response::is_error(replies);
        if !begun {
            // It may be asked anew.
            self.takes_transactions.set(false);
        }
        let may_be_open = begun && response::error_word(outcome) != Some(EXECABORT);
        let told = error.map(|error| told(outcome, error));
        match told {
            Some(told) => {
                input.skip(length);
                (Payload::Owned(told.into()), may_be_open)
            }
            None => {
                input.skip(start);
                (input.take(length - start), may_be_open)
            }
        }
    }
}

/// EXEC says that it has ended the transaction and done nothing.
const EXECABORT: &[u8] = b"EXECABORT";

/// The error that says most.
fn told(outcome: &[u8], error: &[u8]) -> Vec<u8> {
    if response::error_word(outcome) != Some(EXECABORT) {
        return error.to_vec();
    }
    let mut told = Vec::new();
    let text = error.strip_prefix(b"-").unwrap_or(error).trim_ascii_end();
    errors::exec_abort(&mut told, &String::from_utf8_lossy(text));
    told
}
