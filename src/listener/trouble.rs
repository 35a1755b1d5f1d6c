//! Accepting that fails.

use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Accepting that fails (no file descriptors left, mostly): logged once for all listeners, which run into it together;
/// retried after a pause, never spun on. Holds when it failed last.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Instant>>);

/// Accepting must go well for so long before it counts as repaired: at the limit of descriptors every client that leaves
/// lets one in, and the next one fails.
const QUIET: Duration = Duration::from_secs(10);

impl Trouble {
    pub async fn pause(&self, address: &str, error: &io::Error) {
        // Of these the client is to blame; the next one may be fine.
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) {
            return;
        }
        if self.failed(Instant::now()) {
            tracing::warn!(listen = address, %error, "cannot accept clients; trying again ten times a second");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Accepting failed; whether that is news.
    fn failed(&self, now: Instant) -> bool {
        self.0.lock().is_ok_and(|mut last| last.replace(now).is_none())
    }

    /// Accepting went well; whether that is the end of a trouble.
    pub fn over(&self, now: Instant) -> bool {
        let Ok(mut last) = self.0.lock() else { return false };
        let over = last.is_some_and(|failed| now.saturating_duration_since(failed) >= QUIET);
        if over {
            *last = None;
            tracing::info!("accepting clients again");
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_at_the_limit_of_descriptors_does_not_flood_the_log() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!trouble.over(at(0)));
        assert!(trouble.failed(at(1)));
        // Every client that leaves lets one in, between two failures; and so it goes for each listener.
        for second in 1..100 {
            assert!(!trouble.failed(at(second)));
            assert!(!trouble.over(at(second + 9)));
        }
        assert!(trouble.over(at(109)));
        assert!(!trouble.over(at(110)));
        assert!(trouble.failed(at(111)));
    }
}
