//! How much a session may have asked for: its window. Pure.
//!
//! What a client has asked for must be taken from the server whether the client reads or not, since others have requests
//! on the same connection. So a request is taken only while the replies that are due, at the size expected of them, fit
//! into what the session may hold.
//!
//! The expected size follows a large reply at once and small ones slowly. It starts so high that a new session sends no
//! more than [`UNKNOWN`] requests before it has seen a reply, and never falls so low that more than [`MOST`] are unanswered:
//! a client whose replies were small may ask for large ones next.

/// Requests that a session may send before anything is known about its replies.
const UNKNOWN: usize = 16;

/// Requests that a session may have unanswered however small its replies were. Enough to keep a server busy for a round
/// trip.
const MOST: usize = 64;

/// The expectation of one session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    /// Expected size of the next reply, in bytes.
    expected: usize,
    least: usize,
}

impl Window {
    /// For a session that may hold `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { expected: limit.div_ceil(UNKNOWN), least: limit.div_ceil(MOST) }
    }

    /// A reply of `bytes` bytes came.
    #[inline]
    pub fn observe(&mut self, bytes: usize) {
        self.expected = bytes.max(self.expected - self.expected / 8).max(self.least);
    }

    /// Whether a session that holds `held` bytes and is owed `due` replies may ask for one more under this limit. One
    /// reply is always let come, whatever its size.
    #[inline]
    pub fn admits(&self, held: usize, due: usize, limit: usize) -> bool {
        held < limit && (due == 0 || self.expected.saturating_mul(due) < limit - held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    /// Requests that a session sends at once when it holds nothing.
    fn depth(window: &Window) -> usize {
        (0..).find(|due| !window.admits(0, *due, LIMIT)).unwrap()
    }

    fn after(replies: usize, bytes: usize) -> Window {
        let mut window = Window::new(LIMIT);
        (0..replies).for_each(|_| window.observe(bytes));
        window
    }

    #[test]
    fn a_new_session_sends_sixteen_requests() {
        assert_eq!(depth(&Window::new(LIMIT)), UNKNOWN);
        assert_eq!(depth(&Window::new(LIMIT + 1)), UNKNOWN);
    }

    #[test]
    fn small_replies_open_the_window_within_one_round_trip() {
        assert_eq!(depth(&after(16, 100)), MOST);
        assert_eq!(depth(&after(1000, 100)), MOST);
    }

    #[test]
    fn one_large_reply_closes_it_and_a_few_dozen_small_ones_open_it_again() {
        let mut window = after(100, 100);
        window.observe(1_000_000);
        assert_eq!(depth(&window), 2);
        (0..32).for_each(|_| window.observe(100));
        assert_eq!(depth(&window), MOST);
    }

    #[test]
    fn what_is_held_takes_room() {
        let window = after(1, 100_000);
        assert!(window.admits(LIMIT - 100_001, 1, LIMIT) && !window.admits(LIMIT - 100_000, 1, LIMIT));
        assert!(window.admits(LIMIT - 1, 0, LIMIT), "nothing is due");
        assert!(!window.admits(LIMIT, 0, LIMIT) && !window.admits(2 * LIMIT, 0, LIMIT));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Ask(usize),
        Answer,
        Read(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            (1..200usize).prop_map(Act::Ask),
            Just(Act::Answer),
            Just(Act::Answer),
            (0..3_000_000usize).prop_map(Act::Read),
        ];
        proptest::collection::vec(act, 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Replies of one size, however large and however the client reads: what is due and held stays within the limit
        /// and one reply more, except for what was asked for at the very start; and whoever has taken everything may go on.
        #[test]
        fn what_is_due_and_held_is_bounded(bytes in 0..5_000_000usize, acts in acts()) {
            let (mut window, mut held, mut due) = (Window::new(LIMIT), 0usize, 0usize);
            let (mut known, mut answered) = (false, false);
            for act in acts {
                match act {
                    Act::Ask(count) => (0..count).for_each(|_| due += usize::from(window.admits(held, due, LIMIT))),
                    Act::Answer if due > 0 => {
                        due -= 1;
                        held += bytes;
                        answered = true;
                        window.observe(bytes);
                    }
                    Act::Answer => {}
                    Act::Read(count) => held = held.saturating_sub(count),
                }
                let bound = if known { LIMIT + bytes } else { (LIMIT + bytes).max(UNKNOWN * bytes) };
                prop_assert!(held + due * bytes <= bound, "{held} held, {due} due");
                let settled = held == 0 && due == 0;
                prop_assert!(!settled || window.admits(held, due, LIMIT));
                known |= settled && answered;
            }
        }
    }
}
