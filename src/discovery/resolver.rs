//! Keeps names up to date: one task a name, on the control runtime.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::lookup::Lookup;
use super::name::Name;
use super::schedule::{Schedule, Wait};

/// Resolves names for as long as it runs.
pub struct Resolver {
    names: Vec<Arc<Name>>,
    lookup: Arc<Lookup>,
}

impl Resolver {
    pub(super) fn new(names: Vec<Arc<Name>>, server: Option<SocketAddr>) -> Self {
        Self { names, lookup: Arc::new(Lookup::new(server)) }
    }

    /// Resolves every name at once, and again and again; never ends by itself. On a runtime with timers.
    pub async fn run(&self) {
        let mut tasks = JoinSet::new();
        for name in &self.names {
            tasks.spawn(keep(name.clone(), self.lookup.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

async fn keep(name: Arc<Name>, lookup: Arc<Lookup>) {
    let mut schedule = Schedule::new(RandomState::new().hash_one(name.host()));
    let mut poked = false;
    loop {
        let wait = match lookup.ask(name.host()).await {
            Ok(answer) => {
                let changed = name.answered(answer.addresses);
                schedule.answered(answer.ttl, changed, poked)
            }
            Err(error) => {
                name.failed(&error);
                schedule.failed(poked)
            }
        };
        poked = pause(&name, wait).await;
    }
}

/// Returns whether it was cut short by a poke, which may also have come before it began.
async fn pause(name: &Name, wait: Wait) -> bool {
    let poked = async {
        // Together, so that a poke in the meantime is not one for the next pause as well.
        tokio::join!(name.poked(), sleep(wait.poked));
    };
    tokio::select! {
        biased;
        () = poked => true,
        () = sleep(wait.usual) => false,
    }
}
