//! Notices that a configuration may have changed: the kernel says so at once, and a look every 30 s finds what it does not say.
//!
//! ```text
//!   change ─► quiet for 200 ms? ─► Trigger::File        at most 2 s after the first change
//!   30 s without one ─────────────► Trigger::Periodic
//! ```
//! Whether it has changed is for the reader to decide, by content: a trigger may come too often, never too seldom.

mod notices;
mod places;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use notices::{News, Notices};
use places::Places;

/// Writers that change one thing in many steps pause for less than this between them.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// What changes without end is read in between.
const MOST_DEBOUNCE: Duration = Duration::from_secs(2);
/// For what the kernel does not say: network file systems, other names of a mount, limits that are reached.
const REREAD: Duration = Duration::from_secs(30);
/// Times that the way to a file may change while it is looked for. Whatever comes later is the next look's.
const MOST_LOOKS: usize = 4;

/// Why the configuration is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Something happened to its files.
    File,
    /// It is time to look.
    Periodic,
}

/// Says when the configuration may have changed.
pub struct Watch {
    sources: Vec<PathBuf>,
    /// `None`: the system gives none.
    notices: Option<Notices>,
    /// The first change that was not returned yet.
    changed: Option<Instant>,
    /// When something last happened to a file.
    stirred: Instant,
    reread: Instant,
    /// What was logged last, and is not said again.
    complaint: Option<String>,
}

impl Watch {
    /// Watches these files, and the folders and links on the way to them. What cannot be watched is logged once; the look
    /// every 30 s remains. The first trigger comes soon, for what has changed between their reading and now.
    pub fn new(sources: &[PathBuf]) -> Self {
        let now = Instant::now();
        let mut watch = Self {
            sources: Vec::new(),
            notices: None,
            changed: None,
            stirred: now,
            reread: now + REREAD,
            complaint: None,
        };
        watch.follow(sources);
        watch
    }

    /// Other files may matter after a reload. New ones trigger, for what has changed between their reading and now.
    pub fn follow(&mut self, sources: &[PathBuf]) {
        if self.sources != sources {
            let known: HashSet<_> = self.sources.iter().collect();
            let new = sources.iter().any(|source| !known.contains(source));
            self.sources = sources.to_vec();
            self.look();
            if new {
                self.change();
            }
        }
    }

    /// Returns when something may have changed and nothing more happens for 200 ms, or 2 s after the first change, and every
    /// 30 s. Cancel safe. On a runtime with input and timers.
    pub async fn changed(&mut self) -> Trigger {
        loop {
            // Before the time is looked at: if the timer is late, what came in meanwhile counts.
            self.take();
            let (now, due) = (Instant::now(), self.due());
            if now >= due {
                return self.trigger(now);
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = wait(self.notices.as_ref()) => {}
            }
        }
    }

    /// When to return, as things stand.
    fn due(&self) -> Instant {
        let quiet = self.stirred + DEBOUNCE;
        let change = self.changed.map(|first| quiet.min(first + MOST_DEBOUNCE));
        // Nor is a file read at that time that is being written.
        let periodic = self.reread.max(quiet.min(self.reread + MOST_DEBOUNCE));
        change.map_or(periodic, |change| change.min(periodic))
    }

    fn trigger(&mut self, now: Instant) -> Trigger {
        self.reread = now + REREAD;
        if self.changed.take().is_some() {
            return Trigger::File;
        }
        // What could not be watched before may be now.
        self.look();
        Trigger::Periodic
    }

    fn take(&mut self) {
        match self.notices.as_mut().map_or(News::None, Notices::take) {
            News::None => {}
            News::Writing => self.stirred = Instant::now(),
            News::Change => {
                self.look();
                self.change();
            }
        }
    }

    fn change(&mut self) {
        let now = Instant::now();
        self.stirred = now;
        self.changed.get_or_insert(now);
    }

    /// Watches what the sources are now. Looks again until nothing has changed under its eyes, so that a change after it is
    /// noticed, and one before it is there for the reader.
    fn look(&mut self) {
        let mut result = Ok(());
        for _ in 0..MOST_LOOKS {
            let places = Places::of(&self.sources);
            result = self.watch(&places);
            if Places::of(&self.sources) == places {
                break;
            }
        }
        let complaint = result.err().map(|error: std::io::Error| error.to_string());
        if let Some(error) = complaint.as_ref().filter(|_| complaint != self.complaint) {
            tracing::warn!(%error, "cannot watch the configuration, looking at it every 30 s");
        }
        self.complaint = complaint;
    }

    fn watch(&mut self, places: &Places) -> std::io::Result<()> {
        let notices = match &mut self.notices {
            Some(notices) => notices,
            none => none.insert(Notices::new()?),
        };
        notices.watch(places)
    }
}

/// Never returns without notices, or when they fail.
async fn wait(notices: Option<&Notices>) {
    if let Some(notices) = notices
        && notices.wait().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
