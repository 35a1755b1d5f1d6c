//! One host name and what is known of it: its last good addresses, and why the last attempt failed.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use tokio::sync::{Notify, watch};

/// Called after the addresses of a name have changed.
pub type OnChange = Arc<dyn Fn(&Name) + Send + Sync>;

/// A host name of the configuration. Read when a connection is made or replaced, never for a request.
pub struct Name {
    host: String,
    known: watch::Sender<Known>,
    poked: Arc<Notify>,
    on_change: OnChange,
}

/// A name as those have it who look after it: seen, but not held.
pub(super) struct Seen {
    pub host: String,
    pub name: Weak<Name>,
    known: watch::Receiver<Known>,
    poked: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    /// Sorted and without repetition, so that another order in an answer is no change. Of several the first is used
    /// that can be connected to: then all connections lead to one server, and those of other proxies to the same.
    addresses: Vec<IpAddr>,
    /// Index of the address to begin with: the one that was connected to last.
    begin: usize,
    /// Grows with every change of `addresses`.
    generation: u64,
    /// Why the last attempt failed, if it did.
    error: Option<String>,
    /// Failed attempts in a row.
    failures: u64,
    /// An attempt has come to its end, good or not.
    asked: bool,
}

impl Name {
    pub fn new(host: &str, on_change: OnChange) -> Self {
        Self { host: host.to_owned(), known: watch::Sender::default(), poked: Arc::default(), on_change }
    }

    pub(super) fn seen(self: &Arc<Self>) -> Seen {
        let (known, poked) = (self.known.subscribe(), self.poked.clone());
        Seen { host: self.host.clone(), name: Arc::downgrade(self), known, poked }
    }

    /// As configured.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The last good addresses, the one to begin with first; empty when there has not been any.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.known.borrow().in_order()
    }

    /// Where connections should lead; `None` when no address is known.
    pub fn current(&self) -> Option<IpAddr> {
        let known = self.known.borrow();
        known.addresses.get(known.begin).copied()
    }

    /// Grows with every change of the addresses.
    pub fn generation(&self) -> u64 {
        self.known.borrow().generation
    }

    /// Why the name could not be resolved last time, if so.
    pub fn error(&self) -> Option<String> {
        self.known.borrow().error.clone()
    }

    /// As [`Name::addresses`], after the first attempt to resolve the name has come to its end.
    ///
    /// # Errors
    /// When no address is known, with the reason. The caller sees to the time limit.
    pub async fn resolved(&self) -> Result<Vec<IpAddr>, String> {
        let mut known = self.known.subscribe();
        // It cannot be closed: `self` has the sender.
        let known = known.wait_for(|known| known.asked).await.map_err(|e| e.to_string())?;
        match &known.error {
            Some(error) if known.addresses.is_empty() => Err(error.clone()),
            _ => Ok(known.in_order()),
        }
    }

    /// A connection was made to this address: the next ones begin with it, until the addresses change.
    pub fn reached(&self, address: IpAddr) {
        self.known.send_if_modified(|known| {
            if let Some(index) = known.addresses.iter().position(|a| *a == address) {
                known.begin = index;
            }
            // Nobody waits for this.
            false
        });
    }

    /// A connection failed: perhaps the addresses are out of date.
    pub fn poke(&self) {
        self.poked.notify_one();
    }

    /// The name was resolved; `addresses` is not empty. Returns whether they are others than before.
    pub(super) fn answered(&self, mut addresses: Vec<IpAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let (mut before, mut failures, mut changed, mut generation) = (Vec::new(), 0, false, 0);
        self.known.send_modify(|known| {
            known.asked = true;
            known.error = None;
            failures = std::mem::take(&mut known.failures);
            changed = known.addresses != addresses;
            if changed {
                before = std::mem::replace(&mut known.addresses, addresses.clone());
                known.begin = 0;
                known.generation += 1;
            }
            generation = known.generation;
        });
        let (host, now) = (&self.host, listed(&addresses));
        if failures > 0 {
            tracing::info!(host, failures, addresses = now, "the name of a server is resolved again");
        }
        if changed && before.is_empty() {
            tracing::info!(host, addresses = now, "the name of a server is resolved");
        } else if changed {
            tracing::info!(
                host,
                old = listed(&before),
                new = now,
                generation,
                "the name of a server has new addresses"
            );
            (self.on_change)(self);
        }
        changed
    }

    /// The name was not resolved. What was known of it stays; of failures in a row the first is worth a line in the log.
    pub(super) fn failed(&self, error: &str) {
        let (mut failures, mut kept) = (0, String::new());
        self.known.send_modify(|known| {
            known.asked = true;
            known.error = Some(error.to_owned());
            known.failures += 1;
            (failures, kept) = (known.failures, listed(&known.addresses));
        });
        let host = &self.host;
        match (failures, kept.is_empty()) {
            (1, true) => tracing::warn!(host, error, "the name of a server cannot be resolved"),
            (1, false) => {
                tracing::warn!(host, error, kept, "the name of a server cannot be resolved, its last addresses stay");
            }
            _ => {}
        }
    }
}

impl Seen {
    /// Waits until nobody holds the name any more.
    pub async fn dropped(&self) {
        // What it waits for never comes: it ends with the sender, which the name has.
        let _ = self.known.clone().wait_for(|_| false).await;
    }

    /// Waits until the first attempt to resolve the name has come to its end, or nobody holds it any more.
    pub async fn asked(&self) {
        let _ = self.known.clone().wait_for(|known| known.asked).await;
    }

    /// Waits for a poke, which may have come before.
    pub async fn poked(&self) {
        self.poked.notified().await;
    }
}

impl Known {
    fn in_order(&self) -> Vec<IpAddr> {
        let (later, first) = self.addresses.split_at(self.begin);
        [first, later].concat()
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Name").field("host", &self.host).field("known", &*self.known.borrow()).finish_non_exhaustive()
    }
}

/// Names are equal when their connections are interchangeable.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.host == other.host
    }
}

impl Eq for Name {}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn name() -> (Name, Arc<AtomicU64>) {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = calls.clone();
        let on_change = move |name: &Name| {
            assert!(counted.fetch_add(1, SeqCst) < name.generation());
        };
        (Name::new("cache.test", Arc::new(on_change)), calls)
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn another_order_is_no_change() {
        let (name, calls) = name();
        assert!(name.answered(ips(&["10.0.0.2", "10.0.0.1", "::1", "10.0.0.2"])));
        assert_eq!(name.addresses(), ips(&["10.0.0.1", "10.0.0.2", "::1"]));
        assert!(!name.answered(ips(&["::1", "10.0.0.1", "10.0.0.2"])));
        assert_eq!((name.generation(), calls.load(SeqCst)), (1, 0), "the first addresses replace none");
        assert!(name.answered(ips(&["10.0.0.1"])));
        assert!(name.answered(ips(&["10.0.0.3"])));
        assert_eq!((name.generation(), calls.load(SeqCst)), (3, 2));
    }

    #[test]
    fn failures_keep_the_last_addresses() {
        let (name, calls) = name();
        name.answered(ips(&["10.0.0.1"]));
        name.failed("no such name");
        assert_eq!(name.error().as_deref(), Some("no such name"));
        assert_eq!(poll(name.resolved()), Poll::Ready(Ok(ips(&["10.0.0.1"]))));
        assert!(!name.answered(ips(&["10.0.0.1"])));
        assert_eq!(name.error(), None);
        assert_eq!(calls.load(SeqCst), 0);
    }

    #[test]
    fn the_first_attempt_is_waited_for_and_later_ones_are_not() {
        let (name, _) = name();
        assert_eq!(poll(name.resolved()), Poll::Pending);
        name.failed("silence");
        assert_eq!(poll(name.resolved()), Poll::Ready(Err("silence".to_owned())));
        name.answered(ips(&["10.0.0.1"]));
        assert_eq!(poll(name.resolved()), Poll::Ready(Ok(ips(&["10.0.0.1"]))));
    }

    #[test]
    fn the_address_that_was_reached_is_the_next_to_begin_with() {
        let (name, _) = name();
        name.answered(ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
        name.reached("10.0.0.2".parse().unwrap());
        name.reached("10.0.0.9".parse().unwrap());
        assert_eq!(name.addresses(), ips(&["10.0.0.2", "10.0.0.3", "10.0.0.1"]));
        name.answered(ips(&["10.0.0.3", "10.0.0.2", "10.0.0.1"]));
        assert_eq!(name.current(), Some("10.0.0.2".parse().unwrap()));
        name.answered(ips(&["10.0.0.2", "10.0.0.1"]));
        assert_eq!(name.current(), Some("10.0.0.1".parse().unwrap()), "after a change all proxies agree again");
    }
}
