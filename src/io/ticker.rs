//! The worker's clock for deadlines: a timer descriptor that ticks only while something has a deadline.
//!
//! Not the runtime's own timers: they give every `epoll_wait` a timeout, and programming the processor's timer for each
//! of two sleeps per request costs 5 % of a lone request. This one is set at most once a tick.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of one worker. Deadlines are noticed up to one period late.
#[derive(Debug)]
pub struct Ticker {
    timer: AsyncFd<OwnedFd>,
    /// In nanoseconds.
    period: AtomicU64,
    /// How long after it was set it ticks, in nanoseconds; 0: it rests. Atomic for those tickers that move with their task
    /// from thread to thread, as the period is; each has one user.
    set: AtomicU64,
}

impl Ticker {
    /// A ticker at rest. To be made inside the runtime.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn new(period: Duration) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: an `OwnedFd` always names the same descriptor, which stays open until it is dropped with the `AsyncFd`.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE)? };
        Ok(Self { timer, period: AtomicU64::new(nanoseconds(period)), set: AtomicU64::new(0) })
    }

    /// The period that suits the shortest of the time limits: a sixteenth of it, within reason.
    pub fn period(shortest: Duration) -> Duration {
        (shortest / 16).clamp(Duration::from_millis(1), Duration::from_millis(50))
    }

    /// Ticks with another period from now on: a tick that is to come does so within one new period.
    pub fn set_period(&self, period: Duration) {
        self.period.store(nanoseconds(period), Relaxed);
        if self.set.load(Relaxed) > 0 {
            self.set();
        }
    }

    /// Has [`Ticker::tick`] return one period from now, if it is not set already.
    pub fn set(&self) {
        self.set_within(Duration::from_nanos(self.period.load(Relaxed)));
    }

    /// As [`Ticker::set`], for something that has time: `delay` from now, if it is not set to tick as soon or sooner.
    pub fn set_within(&self, delay: Duration) {
        let nanos = nanoseconds(delay).max(1);
        if (1..=nanos).contains(&self.set.load(Relaxed)) {
            return;
        }
        self.set.store(nanos, Relaxed);
        let it_value = Timespec { tv_sec: delay.as_secs() as i64, tv_nsec: i64::from(delay.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        if let Err(error) = timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once) {
            // The arguments are constant and valid; the kernel has no other reason to refuse.
            tracing::error!(%error, "the deadline timer cannot be set");
        }
    }

    /// Waits for the next tick; rests until set again.
    pub async fn tick(&self) {
        let mut count = [0; 8];
        let read = |fd: &OwnedFd| Ok(rustix::io::read(fd, &mut count)?);
        if let Err(error) = self.timer.async_io(Interest::READABLE, read).await {
            tracing::error!(%error, "the deadline timer cannot be read");
        }
        self.set.store(0, Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn ticks_with_another_period_when_that_is_set_and_the_tick_to_come_does_too() -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let ticker = Ticker::new(Duration::from_secs(1000))?;
            let start = Instant::now();
            ticker.set();
            ticker.set_period(Duration::from_millis(20));
            ticker.tick().await;
            ticker.set();
            ticker.tick().await;
            assert!((Duration::from_millis(40)..Duration::from_secs(100)).contains(&start.elapsed()));
            ticker.set_period(Duration::from_millis(1));
            let rest = tokio::time::timeout(Duration::from_millis(100), ticker.tick()).await;
            assert!(rest.is_err(), "a new period set a ticker at rest");
            ticker.set_period(Duration::from_millis(200));
            let start = Instant::now();
            ticker.set();
            ticker.tick().await;
            assert!(start.elapsed() >= Duration::from_millis(200));
            Ok(())
        })
    }

    #[test]
    fn ticks_when_set_and_not_otherwise() -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let ticker = Ticker::new(Duration::from_millis(20))?;
            for _ in 0..3 {
                let start = Instant::now();
                ticker.set();
                ticker.set();
                ticker.tick().await;
                assert!(start.elapsed() >= Duration::from_millis(20));
            }
            let start = Instant::now();
            ticker.set_within(Duration::from_secs(1000));
            ticker.set();
            ticker.set_within(Duration::from_secs(1000));
            ticker.tick().await;
            assert!(start.elapsed() < Duration::from_secs(100), "what has time held up what has none");
            let rest = tokio::time::timeout(Duration::from_millis(100), ticker.tick()).await;
            assert!(rest.is_err(), "ticked without being set");
            Ok(())
        })
    }
}
