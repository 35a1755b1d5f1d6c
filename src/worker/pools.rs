//! The pools of one worker: those of the newest topology, and what is left of those before it.
//!
//! ```text
//!   a pool     changed: built anew with the connections to the servers that stay; its sessions go over one by one
//!              removed: its sessions end, then its connections
//!   a server   removed: its connections are answered out, then end; dedicated ones when their sessions have done with them
//! ```
//! Whatever has not ended by itself within `drain_timeout` is ended.
//!
//! Invariant: nothing is sent on a connection that was told to leave. Connections are told only when every session that could
//! send on them has the next pool, or is gone; those of a removed pool send on what stands in for it, too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::task::spawn_local;

use crate::backend::Connection;
use crate::config::Settings;
use crate::io::Pass;
use crate::pool::{Lot, Pool, PoolId, SharedPool, Tools, Topology};

pub(super) struct Pools {
    worker: usize,
    pass: Rc<Pass>,
    settings: RefCell<Arc<Settings>>,
    now: RefCell<Vec<Rc<Pool>>>,
    gone: RefCell<Vec<Gone>>,
    /// Every lot that a pool has, one that only a session still knows included.
    lots: RefCell<Vec<Weak<Lot>>>,
}

/// A pool, or some servers of one, that nothing new is sent to.
struct Gone {
    /// Keeps in-process servers running until they have answered.
    pool: Rc<Pool>,
    leaving: Vec<Rc<Connection>>,
    /// Dedicated connections; sessions may take some as long as they have the pool.
    lots: Vec<Rc<Lot>>,
    /// The whole pool was removed: it has sessions of its own.
    removed: bool,
    /// What has not ended by itself by then is ended.
    until: Instant,
    stage: Stage,
}

/// How far the connections are on their way out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Sessions may still send on them.
    Used,
    Leaving,
    Ended,
}

/// What is to end of a pool that was removed or built anew.
struct Left {
    leaving: Vec<Rc<Connection>>,
    lots: Vec<Rc<Lot>>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.lots.is_empty()
    }
}

impl Gone {
    fn new(pool: Rc<Pool>, left: Left, removed: bool, until: Instant) -> Self {
        let Left { leaving, lots } = left;
        lots.iter().for_each(|lot| lot.leave());
        Self { pool, leaving, lots, removed, until, stage: Stage::Used }
    }

    fn is_over(&self) -> bool {
        self.leaving.is_empty() && self.lots.iter().all(|lot| lot.is_unused())
    }

    fn id(&self) -> PoolId {
        self.pool.shared().id
    }

    /// Whether the sessions of this removed pool may send on the connections of the one with that number.
    fn sends_to(&self, other: PoolId) -> bool {
        let stand_in = self.pool.shared().stand_in.as_ref().map(|pool| pool.id);
        self.removed && (self.id() == other || stand_in == Some(other))
    }
}

impl Pools {
    /// None yet.
    pub fn new(worker: usize, pass: Rc<Pass>, settings: Arc<Settings>) -> Rc<Self> {
        let settings = RefCell::new(settings);
        Rc::new(Self {
            worker,
            pass,
            settings,
            now: RefCell::default(),
            gone: RefCell::default(),
            lots: RefCell::default(),
        })
    }

    /// Goes by this topology; `changed` is called with each pool that was built anew, in the same pass. Between two pools
    /// the worker does what else there is to do. What leaves is told so by [`Pools::finish`], which must be called next:
    /// until here a pool may have used the connections of one that stands in for it.
    pub async fn adopt(&self, topology: Arc<Topology>, changed: impl Fn(&Rc<Pool>)) {
        let until = Instant::now() + topology.settings.drain_timeout;
        let mut gone = Vec::new();
        let mut built: HashMap<PoolId, Rc<Pool>> = HashMap::new();
        // Those that stand in for others have no stand-in themselves, and are needed first.
        let (with, without): (Vec<_>, Vec<_>) = topology.pools.iter().partition(|pool| pool.stand_in.is_some());
        for shared in without.into_iter().chain(with) {
            let before = self.get(shared.id);
            if let Some(same) = before.as_ref().filter(|pool| Arc::ptr_eq(pool.shared(), shared)) {
                built.insert(shared.id, same.clone());
                continue;
            }
            let (pool, left) = self.build(shared, &built, before.as_deref());
            changed(&pool);
            if let Some(before) = before.filter(|_| !left.is_empty()) {
                gone.push(Gone::new(before, left, false, until));
            }
            built.insert(shared.id, pool);
            self.next_pass().await;
        }
        let pools = topology.pools.iter().filter_map(|shared| built.remove(&shared.id)).collect();
        let before = self.now.replace(pools);
        *self.settings.borrow_mut() = topology.settings.clone();
        let (replaced, removed): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|pool| topology.pool(pool.shared().id).is_some());
        for pool in removed {
            pool.give_way();
            let left = Left { leaving: pool.connections().cloned().collect(), lots: pool.lots().to_vec() };
            gone.push(Gone::new(pool, left, true, until));
        }
        self.gone.borrow_mut().extend(gone);
        // Freeing their rings takes its time as well.
        for pool in replaced {
            drop(pool);
            self.next_pass().await;
        }
    }

    fn build(
        &self,
        shared: &Arc<SharedPool>,
        built: &HashMap<PoolId, Rc<Pool>>,
        before: Option<&Pool>,
    ) -> (Rc<Pool>, Left) {
        let stand_in = shared.stand_in.as_ref().and_then(|other| built.get(&other.id).cloned());
        let tools = Tools { worker: self.worker, pass: &self.pass };
        let (pool, moved) = Pool::build(shared, &tools, stand_in, before);
        let mut lots = self.lots.borrow_mut();
        let new: Vec<_> =
            pool.lots().iter().map(Rc::downgrade).filter(|lot| !lots.iter().any(|old| old.ptr_eq(lot))).collect();
        lots.extend(new);
        drop(lots);
        let eager = pool.settings.preconnect;
        for connection in moved.new {
            spawn_local(connection.clone().run());
            if eager {
                connection.preconnect();
            }
        }
        if eager && before.is_some_and(|before| !before.settings.preconnect) {
            let down = pool.usual_connections().filter(|connection| !connection.is_up());
            down.for_each(|connection| connection.preconnect());
        }
        (pool, Left { leaving: moved.leaving, lots: moved.lots })
    }

    /// Ends this task's part of the pass: what else is ready runs, and what was written goes out.
    async fn next_pass(&self) {
        let mut asked = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            self.pass.go_on_later(cx.waker());
            Poll::Pending
        })
        .await;
    }

    pub fn get(&self, id: PoolId) -> Option<Rc<Pool>> {
        self.now.borrow().iter().find(|pool| pool.shared().id == id).cloned()
    }

    pub fn all(&self) -> Vec<Rc<Pool>> {
        self.now.borrow().clone()
    }

    /// The pools that were removed and are not finished yet.
    pub fn removed(&self) -> Vec<PoolId> {
        self.gone.borrow().iter().filter(|gone| gone.removed).map(|gone| gone.pool.shared().id).collect()
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    /// Every connection, those that leave included.
    pub fn each_connection(&self, mut what: impl FnMut(&Rc<Connection>)) {
        self.gather_late();
        self.now.borrow().iter().flat_map(|pool| pool.connections()).for_each(&mut what);
        self.gone.borrow().iter().flat_map(|gone| &gone.leaving).for_each(what);
    }

    /// The dedicated connections to every server that some session may use.
    pub fn lots(&self) -> Vec<Rc<Lot>> {
        let mut all = Vec::new();
        self.lots.borrow_mut().retain(|lot| lot.upgrade().map(|lot| all.push(lot)).is_some());
        all
    }

    /// What sessions of removed pools have had made since then.
    fn gather_late(&self) {
        let mut gone = self.gone.borrow_mut();
        gone.iter_mut().filter(|gone| gone.removed).for_each(|gone| gone.leaving.extend(gone.pool.take_late()));
    }

    pub fn has_gone(&self) -> bool {
        !self.gone.borrow().is_empty()
    }

    /// Tells connections to leave that nobody uses any more, ends what is out of time, and forgets what is over.
    /// `sessions`: by pool, how many there are. `end`: ends those of a pool.
    pub fn finish(&self, now: Instant, sessions: &HashMap<PoolId, usize>, end: impl Fn(PoolId)) {
        self.gather_late();
        let mut steps = Vec::new();
        {
            let mut gone = self.gone.borrow_mut();
            gone.iter_mut().for_each(|gone| gone.leaving.retain(|connection| !connection.is_over()));
            gone.retain(|gone| !gone.is_over() || (gone.removed && sessions.contains_key(&gone.id())));
            for at in 0..gone.len() {
                let one = &gone[at];
                let users = gone.iter().filter(|user| user.sends_to(one.id()) && sessions.contains_key(&user.id()));
                let (own, others): (Vec<_>, Vec<_>) = users.partition(|user| user.id() == one.id());
                let stage = match (others.is_empty(), own.is_empty()) {
                    (true, _) if one.until <= now => Stage::Ended,
                    (true, true) => Stage::Leaving,
                    _ => Stage::Used,
                };
                if stage > one.stage {
                    let overdue = (stage == Stage::Ended && one.removed && !own.is_empty()).then(|| one.id());
                    let lots = if stage == Stage::Ended { one.lots.clone() } else { Vec::new() };
                    steps.push((stage, overdue, one.leaving.clone(), lots));
                    gone[at].stage = stage;
                }
            }
        }
        // Outside the borrow, and sessions first: they must not send on what ends.
        steps.iter().filter_map(|(_, overdue, ..)| *overdue).for_each(end);
        for (stage, _, connections, lots) in &steps {
            lots.iter().for_each(|lot| lot.end());
            connections.iter().for_each(|connection| match stage {
                Stage::Ended => connection.end(),
                _ => connection.leave(),
            });
        }
    }
}
