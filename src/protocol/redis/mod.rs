//! Requests (RESP, inline), replies (RESP2, RESP3) and the command table.

pub mod acl;
pub mod commands;
pub mod convert;
pub mod cursor;
pub mod errors;
pub mod gather;
mod glimpse;
pub mod glob;
pub mod info;
mod inline;
pub mod introspect;
mod number;
pub mod reply;
pub mod request;
pub mod response;
pub mod script;
mod version;

pub use version::{REDIS_VERSION, Version};

pub(super) use glimpse::glimpse;
