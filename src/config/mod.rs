//! Configuration: a file becomes validated [`Settings`], or a list of errors with line and column.

mod settings;

pub use settings::{
    Credentials, ListenAddress, LogFormat, LogSettings, PoolSettings, Protocol, Secret, ServerAddress, ServerSettings,
    SessionLimits, Settings,
};
