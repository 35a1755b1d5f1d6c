//! RESP2 (and inline) requests, replies and the command table.

pub mod commands;
pub mod errors;
mod inline;
mod number;
pub mod reply;
pub mod request;
pub mod response;
pub mod introspect {
    pub fn write_command(o: &mut Vec<u8>, _a: &[&[u8]]) {
        o.extend_from_slice(b"*0\r\n")
    }
}
