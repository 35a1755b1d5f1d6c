//! Numbers, events and logs: cells that the data path writes, slow requests and hot keys that it notices, what happened to
//! servers, and the log of the process.

mod cells;
mod events;
mod fold;
mod hot_keys;
mod keys;
mod labels;
mod latency;
mod logging;
mod observer;
mod slow_log;

pub use cells::{Counter, Counts, Endings, Gauge, Outcomes, PoolCells, ServerCells, Troubles};
pub use events::{Event, Events, What, date_and_time, wall_clock};
pub use fold::Fold;
pub use hot_keys::{Big, Found, Hot, HotKeys, SAMPLE_EVERY};
pub use keys::{Key, KeyForm};
pub use labels::{Class, Ending, Label, Outcome, Trouble};
pub use latency::{BINS, BOUNDS, Latency, Stamp, Times};
pub use logging::{Format, Log, Prepared as PreparedLog};
pub use observer::{ObserveSettings, Observer};
pub use slow_log::{Slow, SlowLog, SlowRequest};
