//! RESP2 (and inline) requests, replies and the command table.
