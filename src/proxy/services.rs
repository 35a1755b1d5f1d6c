//! The services beside the data plane, each as pingora wants it.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;

use crate::admin::StatsServer;
use crate::discovery::Names;
use crate::monitor::Monitor;

/// twemproxy's statistics port.
pub(super) struct StatsPort(pub Arc<StatsServer>);

#[async_trait]
impl Service for StatsPort {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        self.0.run().await;
    }

    fn name(&self) -> &str {
        "statistics"
    }
}

/// Keeps the addresses of servers up to date.
pub(super) struct NameService(pub Names);

#[async_trait]
impl Service for NameService {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        self.0.run().await;
    }

    fn name(&self) -> &str {
        "names"
    }
}

/// The monitor, on a thread of its own: nothing that clients do keeps it from probing.
pub(super) struct Watching(pub Option<Monitor>);

#[async_trait]
impl Service for Watching {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        if let Some(monitor) = self.0.take() {
            monitor.run().await;
        }
    }

    fn name(&self) -> &str {
        "monitor"
    }
}
