//! What the operator asks a running proxy, and what it tells whoever started it.

mod service_manager;
mod stats;
mod stats_server;
mod status;

pub use service_manager::ServiceManager;
pub use stats::Stats;
pub use stats_server::StatsServer;
pub use status::{Config, ConfigStatus};
