//! Listeners: the sockets where clients come in. Which there are, and whom they are for, changes while clients come.
//!
//! ```text
//!   prepare ── what is not there yet is bound;      drop it: what is new closes, nothing has happened
//!      │       may fail, and then says all reasons
//!      ▼
//!   apply ──┬─ kept sockets let in for their pool as it is now, without a gap
//!           ├─ new ones begin to accept
//!           └─ those not wanted any more are out of reach, take in who waits in their queue, and close a second later
//! ```
//! There is one descriptor for each address. Accepted clients go to the worker with the fewest sessions.

mod accept;
mod bind;
mod entrances;
mod inherited;
mod set;
mod trouble;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::config::{ListenAddress, PoolSettings, Protocol};
use crate::pool::PoolId;
use crate::worker::{Accepted, Socket, Worker};

pub use bind::{Bound, Place};
pub use entrances::{Entrance, Entrances};
pub use inherited::Inherited;
pub use set::{Listeners, Prepared, Unbound};

/// One listener as the configuration wants it.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub pool: PoolId,
    /// For messages.
    pub pool_name: String,
    pub protocol: Protocol,
    pub listen: ListenAddress,
    /// Clients that may wait to be accepted.
    pub backlog: u32,
    /// Of the pool, at a time.
    pub client_connections: Option<usize>,
    /// Where its name leads, if that was asked before; see [`Wanted::resolve`].
    pub resolved: Option<Result<SocketAddr, String>>,
}

impl Wanted {
    /// Asks where the name of the host leads, if it is one. Blocks, for as long as name servers are silent.
    pub fn resolve(&mut self) {
        if let ListenAddress::Tcp { host, port } = &self.listen
            && host.parse::<IpAddr>().is_err()
        {
            self.resolved = Some(bind::resolve(host, *port).map_err(|error| error.to_string()));
        }
    }

    /// The listener of a pool.
    pub fn of(pool: &PoolSettings, id: PoolId) -> Self {
        Self {
            pool: id,
            pool_name: pool.name.clone(),
            protocol: pool.protocol,
            listen: pool.listen.clone(),
            backlog: pool.backlog,
            client_connections: pool.client_connections,
            resolved: None,
        }
    }
}

/// Takes an accepted client; called once for each, by the thread that accepts.
pub type HandOver = Arc<dyn Fn(Accepted) + Send + Sync>;

/// Hands each client to the worker with the fewest sessions.
pub fn to_the_idlest(workers: Vec<Worker>) -> HandOver {
    Arc::new(move |accepted| {
        if let Some(worker) = workers.iter().min_by_key(|w| w.sessions()) {
            worker.hand(accepted);
        }
    })
}

/// The places for clients of one pool, shared by all who count for it.
#[derive(Debug, Clone, Default)]
struct Places {
    taken: Arc<AtomicUsize>,
    /// Clients that were turned away as there were none left.
    refused: Arc<AtomicU64>,
}

/// One client's place: in the pool's limit and in its worker's number of sessions. Given back on drop.
pub struct Permit {
    pool: Arc<AtomicUsize>,
    worker: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// Takes one of a pool's places, if there is one left. What is counted is shared by all who count for the pool.
    fn take(taken: &Arc<AtomicUsize>, limit: Option<usize>) -> Option<Self> {
        // Counted before it is judged, and given back by the drop, so that two listeners never share the last place.
        let permit = Self { pool: taken.clone(), worker: None };
        let before = taken.fetch_add(1, Relaxed);
        limit.is_none_or(|limit| before < limit).then_some(permit)
    }

    /// Also counts the client as a session of a worker.
    pub fn count_in(&mut self, sessions: &Arc<AtomicUsize>) {
        sessions.fetch_add(1, Relaxed);
        self.worker = Some(sessions.clone());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.fetch_sub(1, Relaxed);
        if let Some(worker) = &self.worker {
            worker.fetch_sub(1, Relaxed);
        }
    }
}

/// Tells a client that there is no place for it, in its own protocol, as its own server would.
fn refuse(socket: Socket, protocol: Protocol) {
    let text: &[u8] = match protocol {
        Protocol::Redis => b"-ERR max number of clients reached\r\n",
        Protocol::Memcached => b"ERROR Too many open connections\r\n",
    };
    // The socket does not block and its buffer is empty: this is one system call.
    let _ = match socket {
        Socket::Tcp(mut s) => s.write(text),
        Socket::Unix(mut s) => s.write(text),
    };
}
