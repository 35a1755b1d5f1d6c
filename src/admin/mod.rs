//! What the operator asks a running proxy, and what it tells whoever started it.

mod http;
mod metrics;
mod page;
mod port;
mod process;
mod service_manager;
mod sources;
mod stats;
mod stats_server;
mod status;
mod totals;
mod views;

pub use http::{AdminServer, App, ReloadOrder, Reloaded};
pub use metrics::{Family, Kind, METRICS_TYPE, SECTIONS, Scope, Section, metrics};
pub use page::{PAGE, PAGE_POLICY};
pub use port::{Port, PortSocket};
pub use service_manager::ServiceManager;
pub use sources::{Sources, Start, machine};
pub use stats::Stats;
pub use stats_server::StatsServer;
pub use status::{Config, ConfigStatus};
pub use views::*;
