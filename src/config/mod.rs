//! Configuration: a file becomes validated [`Settings`], or a list of errors with line and column.
//!
//! ```text
//! text ──yaml──► tree of nodes with places ──load──► dialect
//!                                            ├─globals─► workers, admin, log, resolver, limits
//!                                            ├─pool────► servers, address, auth, health; then traps (warnings)
//!                                            └─between_pools
//! ```
//! Whatever is wrong goes into one report; with any error in it nothing that was read is used.

mod address;
mod auth;
mod between_pools;
mod commands;
mod effective;
mod fields;
mod globals;
mod health;
mod inputs;
mod load;
mod origins;
mod pool;
mod redact;
mod report;
mod schema;
mod servers;
mod settings;
mod shown;
mod traps;
mod users;
mod value;
mod yaml;

pub use effective::effective;
pub use globals::{level_name, levels_allowed, log_level};
pub use load::{Loaded, load_file, parse};
pub use report::{ConfigErrors, Problem, Warning};
pub use schema::json_schema;
pub use settings::{
    AdminSettings, CommandSettings, Credentials, HealthSettings, ListenAddress, LogFormat, LogSettings, OnEjected,
    OnReadmit, PoolSettings, Protocol, Secret, ServerAddress, ServerSettings, SessionLimits, Settings,
};
pub use shown::Row;
pub use users::{DEFAULT_USER, PasswordHash, User};
pub use value::duration;

/// The format that a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `pools:` and global keys.
    Outrigger,
    /// A nutcracker.yml: pools at the top.
    Twemproxy,
}

/// The name of the embedded configuration in messages.
pub const DEFAULT_NAME: &str = "(embedded default)";

/// What runs without any file: one Redis and one memcached pool over in-process servers.
pub fn default_settings() -> Settings {
    load_default().settings
}

/// The same as if it had been loaded from a file.
pub fn load_default() -> Loaded {
    match parse(DEFAULT_NAME, include_str!("../../config/default.yml")) {
        Ok(loaded) => loaded,
        // It is part of the program, and a test loads it.
        Err(errors) => unreachable!("the embedded configuration is invalid: {errors}"),
    }
}
