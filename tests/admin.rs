//! The admin port from outside: every path with its statuses, who is let in, what strangers send, and what becomes of it at
//! a reload, an upgrade and the end.

mod support;

mod admin {
    pub mod health;
    pub mod hostile;
    pub mod life;
    pub mod routes;
}
