//! Scripts as one worker meets them: a body's SHA1 is worked out once, not with each EVAL.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use super::Pool;
use crate::backend::{LONGEST_BODY, Scripts};
use crate::protocol::redis::script::Sha;

/// Bodies that a worker has the SHA1 of at hand; 2 MiB of them at the most. A power of two.
const RECENT: usize = 32;
const _: () = assert!(LONGEST_BODY * RECENT <= 2 << 20);

/// The bodies that came last, each in the one place that it can be in.
#[derive(Default)]
pub(super) struct Recent(RefCell<[Option<(Bytes, Sha)>; RECENT]>);

impl Recent {
    fn sha(&self, body: &[u8]) -> Sha {
        let slot = &mut self.0.borrow_mut()[place(body)];
        match slot {
            Some((known, sha)) if known == body => *sha,
            _ => {
                let sha = Sha::of(body);
                *slot = Some((Bytes::copy_from_slice(body), sha));
                sha
            }
        }
    }
}

/// Depends on the length and some words of the body. Two bodies that share a place only cost time.
fn place(body: &[u8]) -> usize {
    const WORDS: usize = 8;
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let word =
        |at: usize| body.get(at..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |word| u64::from_le_bytes(*word));
    let step = body.len().div_ceil(WORDS);
    let words = (0..WORDS).map(|n| word(n * step)).chain([word(body.len().saturating_sub(8))]);
    let mix = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(ODD);
        mixed ^ mixed >> 32
    };
    (words.fold(body.len() as u64, mix).wrapping_mul(ODD) >> 40) as usize % RECENT
}

impl Pool {
    /// The bodies of scripts that this pool remembers.
    pub fn scripts(&self) -> &Arc<Scripts> {
        &self.shared().scripts
    }

    /// The SHA1 of a script that is to be remembered; `None`: it is not.
    pub fn sha_of(&self, body: &[u8]) -> Option<Sha> {
        self.scripts().takes(body).then(|| self.recent_scripts.sha(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_has_its_own_sha_also_those_that_share_a_place() {
        let recent = Recent::default();
        let bodies: Vec<Vec<u8>> = (0..200).map(|n| format!("return {n} {}", "-".repeat(n)).into_bytes()).collect();
        for _ in 0..3 {
            for body in &bodies {
                assert_eq!(recent.sha(body), Sha::of(body));
                assert_eq!(recent.sha(body), Sha::of(body));
            }
        }
        assert_eq!(recent.sha(b""), Sha::of(b""));
    }

    #[test]
    fn bodies_that_differ_little_are_spread() {
        let places = |bodies: &mut dyn Iterator<Item = Vec<u8>>| {
            bodies.map(|body| place(&body)).collect::<std::collections::HashSet<_>>().len()
        };
        let script = b"local value = redis.call('GET', KEYS[1]) if value then return value end return redis.call('INCR', KEYS[2])";
        let mut by_letter = (0..script.len()).step_by(2).map(|at| {
            let mut body = script.to_vec();
            body[at] ^= 1;
            body
        });
        assert!(places(&mut by_letter) > RECENT / 2);
        assert!(places(&mut (0..100).map(|n| format!("return {n:08}").into_bytes())) > RECENT / 2);
    }
}
