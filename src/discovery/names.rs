//! All host names of the process, each once, and the tasks that keep them up to date: one a name, on the control
//! runtime.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::lookup::{Answer, Lookup};
use super::name::{Name, OnChange, Seen};
use super::schedule::{Schedule, Wait};
use super::{Host, literal};

/// The host names of servers. Clones are the same names. Locked when servers come and go, never for a request.
#[derive(Clone)]
pub struct Names(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// Rung when a name has come.
    added: Notify,
    lookup: watch::Sender<Arc<Lookup>>,
    on_change: OnChange,
}

#[derive(Default)]
struct Table {
    /// Those that somebody holds, and those whose task has yet to see that nobody does.
    names: BTreeMap<String, Weak<Name>>,
    /// Those that have no task yet.
    fresh: Vec<Seen>,
}

impl Names {
    /// Asks `server` alone or, with `None`, as the system is configured. `on_change` is called, on the thread of
    /// [`Names::run`], after the addresses of a name have changed; not when it gets its first ones.
    pub fn new(on_change: OnChange, server: Option<SocketAddr>) -> Self {
        let lookup = watch::Sender::new(Arc::new(Lookup::new(server)));
        Self(Arc::new(Shared { table: Mutex::default(), added: Notify::new(), lookup, on_change }))
    }

    /// What `host` stands for: itself, or a name that is resolved for as long as anybody holds it. Servers with the same
    /// name share it.
    pub fn host(&self, host: &str, port: u16) -> Host {
        if let Some(address) = literal(host, port) {
            return Host::Address(address);
        }
        let mut table = self.table();
        if let Some(name) = table.names.get(host).and_then(Weak::upgrade) {
            return Host::Name(name, port);
        }
        let name = Arc::new(Name::new(host, self.0.on_change.clone()));
        table.names.insert(host.to_owned(), Arc::downgrade(&name));
        table.fresh.push(name.seen());
        self.0.added.notify_one();
        Host::Name(name, port)
    }

    /// Asks this name server from now on; `None`: those of the system. If it is another one, every name is asked for
    /// again at once, and keeps its addresses until there is an answer.
    pub fn ask(&self, server: Option<SocketAddr>) {
        self.0.lookup.send_if_modified(|lookup| {
            let other = lookup.server != server;
            if other {
                *lookup = Arc::new(Lookup::new(server));
            }
            other
        });
    }

    /// Resolves the names that are there and those that come, again and again; never ends by itself. Called once, on a
    /// runtime with timers.
    pub async fn run(&self) {
        let mut tasks = JoinSet::new();
        loop {
            let fresh = std::mem::take(&mut self.table().fresh);
            for seen in fresh {
                tasks.spawn(keep(seen, self.0.lookup.subscribe()));
            }
            tokio::select! {
                () = self.0.added.notified() => {}
                Some(ended) = tasks.join_next() => {
                    if let Ok(host) = ended {
                        self.table().forget(&host);
                    }
                }
            }
        }
    }

    /// Waits until the first attempt of every name known now has come to its end, at most `limit`. For a reload: so that
    /// the first requests need not wait.
    pub async fn settled(&self, limit: Duration) {
        let known: Vec<Seen> = self.table().names.values().filter_map(Weak::upgrade).map(|name| name.seen()).collect();
        let all = async {
            for seen in &known {
                seen.asked().await;
            }
        };
        // Names that are late are waited for by the connections to their servers.
        let _ = timeout(limit, all).await;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The task of a name has ended. Another name may have taken its place in the meantime, with a task of its own.
    fn forget(&mut self, host: &str) {
        if self.names.get(host).is_some_and(|name| name.strong_count() == 0) {
            self.names.remove(host);
        }
    }
}

/// Keeps one name up to date until nobody holds it; returns what it was.
async fn keep(seen: Seen, mut lookup: watch::Receiver<Arc<Lookup>>) -> String {
    loop {
        let current = lookup.borrow_and_update().clone();
        tokio::select! {
            biased;
            () = seen.dropped() => break,
            changed = lookup.changed() => if changed.is_err() { break },
            () = resolve(&seen, &current) => break,
        }
    }
    seen.host
}

/// Asks for one name, again and again; ends when nobody holds it. In between it does not hold it either.
async fn resolve(seen: &Seen, lookup: &Lookup) {
    let mut schedule = Schedule::new(RandomState::new().hash_one(&seen.host));
    let mut poked = false;
    loop {
        let answer = lookup.ask(&seen.host).await;
        let Some(wait) = seen.name.upgrade().map(|name| record(&name, answer, &mut schedule, poked)) else { return };
        poked = pause(seen, wait).await;
    }
}

fn record(name: &Name, answer: Result<Answer, String>, schedule: &mut Schedule, poked: bool) -> Wait {
    match answer {
        Ok(answer) => {
            let changed = name.answered(answer.addresses);
            schedule.answered(answer.ttl, changed, poked)
        }
        Err(error) => {
            name.failed(&error);
            schedule.failed(poked)
        }
    }
}

/// Returns whether it was cut short by a poke, which may also have come before it began.
async fn pause(seen: &Seen, wait: Wait) -> bool {
    let poked = async {
        // Together, so that a poke in the meantime is not one for the next pause as well.
        tokio::join!(seen.poked(), sleep(wait.poked));
    };
    tokio::select! {
        biased;
        () = poked => true,
        () = sleep(wait.usual) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Instant;

    use tokio::task::yield_now;

    use super::*;

    /// Names whose name server says nothing.
    fn names() -> (Names, UdpSocket) {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        (Names::new(Arc::new(|_| ()), silent.local_addr().ok()), silent)
    }

    fn name(host: Host) -> Arc<Name> {
        let Host::Name(name, _) = host else { panic!("{host:?} is no name") };
        name
    }

    fn counts(names: &Names) -> (usize, usize) {
        let table = names.table();
        (table.names.len(), table.fresh.len())
    }

    #[test]
    fn servers_with_the_same_name_share_it() {
        let (names, _silent) = names();
        let first = name(names.host("cache.test", 1));
        let second = names.clone().host("cache.test", 2);
        assert!(matches!(&second, Host::Name(same, 2) if Arc::ptr_eq(&first, same)), "{second:?}");
        assert_eq!(counts(&names), (1, 1));
    }

    #[tokio::test]
    async fn names_that_nobody_holds_leave_nothing_behind() {
        let (names, _silent) = names();
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        // `run`, a name, and the resolver's connection to the name server.
        let few = 3;
        let running = tokio::spawn({
            let names = names.clone();
            async move { names.run().await }
        });
        let stays = names.host("stays.test", 1);
        let mut most = 0;
        for round in 0..1000 {
            let goes = names.host(&format!("{round}.test"), 1);
            // Some go before their task has begun, some just then, some while they are asked for.
            for _ in 0..round % 8 {
                yield_now().await;
            }
            most = most.max(tasks());
            drop(goes);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while (tasks(), counts(&names)) != (few, (1, 0)) {
            assert!(Instant::now() < deadline, "{} tasks, {:?}", tasks(), counts(&names));
            sleep(Duration::from_millis(1)).await;
        }
        assert!(most > few, "none was ever asked for");
        drop(stays);
        while counts(&names) != (0, 0) {
            yield_now().await;
        }
        running.abort();
    }

    #[tokio::test]
    async fn a_name_that_comes_back_before_its_task_has_ended_is_a_new_one() {
        let (names, _silent) = names();
        let running = tokio::spawn({
            let names = names.clone();
            async move { names.run().await }
        });
        drop(names.host("localhost", 1));
        yield_now().await;
        let again = name(names.host("localhost", 1));
        again.resolved().await.unwrap();
        names.settled(Duration::from_secs(20)).await;
        assert_eq!(counts(&names), (1, 0), "the end of the first task takes nothing from the second");
        assert!(Arc::ptr_eq(&again, &name(names.host("localhost", 1))));
        running.abort();
    }

    #[tokio::test]
    async fn names_are_waited_for_within_a_limit_and_not_when_nobody_holds_them() {
        let (names, _silent) = names();
        let held = names.host("cache.test", 1);
        // Nobody resolves it.
        let start = Instant::now();
        names.settled(Duration::from_millis(100)).await;
        assert!(start.elapsed() >= Duration::from_millis(100));
        drop(held);
        let start = Instant::now();
        names.settled(Duration::from_secs(60)).await;
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
