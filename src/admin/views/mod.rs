//! What the proxy tells about itself, as structures that become JSON.

mod events;
mod hot_keys;
mod slow_log;
mod topology;

pub use events::{EventView, EventsView, events};
pub use hot_keys::{BigKeyView, HotKeyView, HotKeysView, PoolKeysView, hot_keys};
pub use slow_log::{SlowLogView, SlowRequestView, slow_log};
pub(super) use topology::traffic;
pub use topology::{
    ConfigView, ConnectionsView, Counted, PoolView, ProbesView, ServerView, SessionsView, State, TimesByClass,
    TopologyView, WorkerView, topology,
};

/// The name of a command as people write it: `XINFO STREAM`.
fn shown_command(name: &str) -> String {
    name.to_ascii_uppercase().replace('|', " ")
}
