//! What the operator asks a running proxy.

mod stats;

pub use stats::{Stats, serve};
