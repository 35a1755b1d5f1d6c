//! Numbers, events and logs: cells that the data path writes, what happened to servers, and the log of the process.

mod cells;
mod events;
mod fold;
mod logging;

pub use cells::{Counter, Gauge, PoolCells, ServerCells};
pub use events::{Event, Events, What, date_and_time, wall_clock};
pub use fold::Fold;
pub use logging::{Format, Log, Prepared as PreparedLog};
