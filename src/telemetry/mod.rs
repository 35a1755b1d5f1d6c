//! Numbers and logs: cells that the data path writes, and the log of the process.

mod cells;
mod logging;

pub use cells::{Counter, Gauge, PoolCells, ServerCells, WorkerCells};
pub use logging::{Format, Log};
