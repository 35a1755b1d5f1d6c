//! Where sessions wait at servers for something to happen, so that another client may have them wait no longer (CLIENT UNBLOCK).
//!
//! To end a wait is the server's: told the number that it knows the connection by, it answers the request on that connection
//! as if its time were over. So what has come just before is not lost.
//!
//! Invariant: a connection whose number somebody has taken to the server is given to no other session: the order may still be
//! on its way, and would end that one's wait. See [`Posts::leave`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pool::ServerId;

/// A dedicated connection on which a session waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub server: ServerId,
    /// Where the connection leads: the server may be described otherwise by now.
    pub address: Arc<str>,
    /// What the server calls the connection (CLIENT ID); `None`: it does not say.
    pub number: Option<i64>,
}

/// Those of one session, which may wait at several servers at once (WAIT).
#[derive(Debug, Default)]
pub struct Posts(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    taken: Vec<Taken>,
    /// So many are yet to be taken up by the same request. It does not wait before, or a part of it would go on waiting.
    expected: usize,
}

#[derive(Debug)]
struct Taken {
    post: Post,
    /// Somebody was told of it.
    told: bool,
}

impl Posts {
    /// One more is to come.
    pub fn expect(&self) {
        self.lock().expected += 1;
    }

    /// It does not come.
    pub fn expect_no_more(&self) {
        self.lock().expected -= 1;
    }

    /// One that was expected.
    pub fn take_up(&self, post: Post) {
        let mut all = self.lock();
        all.expected -= 1;
        all.taken.push(Taken { post, told: false });
    }

    /// The request there is answered, or will not be. True: the connection must be closed.
    pub fn leave(&self, post: &Post) -> bool {
        let all = &mut self.lock().taken;
        let found = all.iter().position(|taken| taken.post == *post);
        found.is_some_and(|at| all.swap_remove(at).told)
    }

    /// All of them, for somebody who is about to ask the servers to end the waits.
    pub fn tell(&self) -> Vec<Post> {
        let mut all = self.lock();
        if all.expected > 0 {
            return Vec::new();
        }
        all.taken.iter_mut().for_each(|taken| taken.told = true);
        all.taken.iter().map(|taken| taken.post.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_somebody_was_told_of_must_be_closed() {
        let post = |number| Post { server: ServerId(7), address: "10.0.0.1:6379".into(), number: Some(number) };
        let posts = Posts::default();
        let take_up = |number| {
            posts.expect();
            posts.take_up(post(number));
        };
        assert_eq!(posts.tell(), []);
        take_up(1);
        assert!(!posts.leave(&post(1)), "nobody was told of it");
        take_up(2);
        posts.expect();
        assert_eq!(posts.tell(), [], "it is not everywhere yet");
        posts.take_up(post(3));
        assert_eq!(posts.tell(), [post(2), post(3)]);
        take_up(4);
        assert_eq!([2, 3, 4, 4].map(|number| posts.leave(&post(number))), [true, true, false, false]);
        posts.expect();
        posts.expect_no_more();
        assert_eq!(posts.tell(), []);
    }
}
