//! What tests need of whatever runs on a worker.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::{Pass, Ticker};

/// Nothing takes longer in a test, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test as a worker runs its tasks.
pub fn on_worker<F: Future>(test: impl FnOnce(Rc<Pass>) -> F) {
    on_worker_with(Pass::new(), test);
}

pub fn on_worker_with<F: Future>(pass: Rc<Pass>, test: impl FnOnce(Rc<Pass>) -> F) {
    pass.install();
    let mut builder = Builder::new_current_thread();
    builder.enable_all().on_thread_park(Pass::before_park).on_thread_unpark(Pass::after_park);
    let runtime = builder.build_local(LocalOptions::default()).unwrap();
    let start = Instant::now();
    runtime.block_on(async { timeout(PATIENCE, test(pass)).await.expect("it hangs") });
    assert!(start.elapsed() < PATIENCE, "it went on only because the patience ended");
    drop(runtime);
    Pass::uninstall();
}

/// Waits for the end of the pass: nothing is written before.
pub async fn next_pass(pass: &Pass) {
    let mut asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        pass.go_on_later(cx.waker());
        Poll::Pending
    })
    .await;
}

pub async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let wait = async {
        while !there() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE / 2, wait).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// Looks at deadlines, as a worker does for all of its connections: `check` says whether there are any. A worker has one such ticker.
pub fn watch(pass: &Rc<Pass>, check: impl Fn(Instant) -> bool + 'static) {
    let pass = pass.clone();
    spawn_local(async move {
        let ticker = Rc::new(Ticker::new(Duration::from_millis(2)).unwrap());
        pass.use_ticker(ticker.clone());
        loop {
            ticker.tick().await;
            if check(pass.now()) {
                ticker.set();
            }
        }
    });
}
