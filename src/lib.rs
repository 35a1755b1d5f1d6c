//! Outrigger: a sidecar caching proxy in front of Redis and memcached.
//!
//! ```text
//!             listeners (TCP, unix)                pingora's Server: signals, drain, statistics
//!                     │ accept
//!                     ▼ to the worker with the fewest sessions
//!   ┌───────────── worker i: one thread, one tokio LocalRuntime ─────────────────────────┐
//!   │ session ──parse──► pool.route(key) ──append──► connection ══════════► server       │
//!   │    ▲                                             │ in-flight queue                 │
//!   │    └── slots, in the order of requests ◄─ reply ─┘                                 │
//!   └────────────────────────────────────────────────────────────────────────────────────┘
//!      × workers; on the request path they share nothing
//! ```
//! Sessions only append to connections' out buffers, connections only to sessions'. When everything that was ready has
//! run, the *pass* is over: each socket with something to say gets one write ([`io`]).
//!
//! # Layers, lowest first; imports go down only (`tests/layers.rs`)
//!
//! | layer | modules | |
//! |---|---|---|
//! | vocabulary | [`hash`], [`telemetry`], [`protocol`] | key hashes; numbers and logs; bytes in, messages out |
//! | mechanisms | [`ring`], [`io`] | hash → server; the pass, buffers, sockets |
//! | settings | [`config`] | a file becomes [`config::Settings`], or a list of errors |
//! | servers | [`backend`], [`local`] | pipelined connections; in-process servers |
//! | pools | [`pool`] | key → connection |
//! | clients | [`session`], [`worker`], [`listener`] | requests, replies, accepting |
//! | control | [`admin`], [`proxy`], [`cli`] | statistics; the process; the command line |
//!
//! # Words
//!
//! A *listener* accepts; a *session* is one client connection; a *request* and its *reply* are one command; a *fragment*
//! is one server's piece of a multi-key request. A *pool* is a named set of servers behind one *distribution*; a
//! *connection* is one link to a server; *in flight* are its unanswered requests, oldest first. The *ring* maps hashes to
//! servers; the *continuum* is the sorted points of ketama; the *hash tag* is the part of a key that is hashed. To
//! *drain* is to finish what is in flight, then close. A *worker* is one data thread.
//!
//! To read on, follow one request: [`listener`], [`session`], [`protocol`], [`pool`], [`backend`], and back.

pub mod admin;
pub mod backend;
pub mod cli;
pub mod config;
pub mod hash;
pub mod io;
pub mod listener;
pub mod local;
pub mod pool;
pub mod protocol;
pub mod proxy;
pub mod ring;
pub mod session;
pub mod telemetry;
pub mod worker;
