//! Numbers and logs: cells that the data path writes, and what reads them.

mod cells;

pub use cells::{Counter, Gauge, PoolCells, ServerCells, WorkerCells};
