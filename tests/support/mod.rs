//! What the integration tests are told with: real servers, the proxy, clients that keep bytes, fakes that misbehave.
//!
//! Everything that is started ends with the value that stands for it. Nothing sleeps: what takes time is polled for,
//! with a deadline. A program that is not installed skips the test, loudly; in CI it fails it.

#![allow(dead_code, unused_imports)] // Each test binary uses its own part of this.

pub mod client;
pub mod dns;
pub mod ensemble;
pub mod fake;
pub mod fleet;
pub mod http;
pub mod moody;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod servers;
pub mod watch;

pub use client::Client;
pub use dns::{Dns, Says};
pub use ensemble::Ensemble;
pub use fake::{Fake, Talk};
pub use http::Response;
pub use moody::{Mood, Moody};
pub use process::{PATIENCE, Port, eventually};
pub use proxy::{How, Outrigger, Pool};
pub use relay::{Bound, Relay, Trouble};
pub use servers::Server;

/// The value, or the end of the test: the program for it is not installed, which was said already.
#[macro_export]
macro_rules! need {
    ($started:expr) => {
        match $started {
            Some(value) => value,
            None => return,
        }
    };
}
