//! RESP2 (and inline) requests, replies and the command table.

pub mod commands;
pub mod errors;
mod glimpse;
mod inline;
pub mod introspect;
mod number;
pub mod reply;
pub mod request;
pub mod response;

pub(super) use glimpse::glimpse;
