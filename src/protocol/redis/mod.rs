//! RESP2 (and inline) requests, replies and the command table.

mod number;
pub mod response;
