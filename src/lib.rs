//! Outrigger: a sidecar caching proxy in front of Redis and memcached.
//!
//! # The data path
//!
//! ```text
//!         listener                                          control thread (`proxy`)
//!            │ accept, hand to the worker with               signals · admin port, statistics (`admin`)
//!            ▼ the fewest sessions                               ▲ sums of what each worker counts (`telemetry`)
//!  ┌──────── worker i: one thread, one event loop ───────────────────────────────────────────────┐
//!  │                                                                                             │
//!  │    1 read, parse         2 route            3 append                    4 write             │
//! client ══► session ───────► pool ────────────► connection ─┬─► out buffer ═════════════════════╪══► server
//!  │                          hash tag,                      └─► in-flight                       │
//!  │                          hash, ring                            │ oldest first               │
//!  │    6 write               5 in the order of the requests        ▼                            │
//! client ◄══ out buffer ◄──── slots ◄───────────────────────────── match ◄───────────────────────╪═══ reply
//!  │                                                                                             │
//!  └─────────────────────────────────────────────────────────────────────────────────────────────┘
//!     × N workers, which share nothing on the request path
//! ```
//!
//! 1. [`session`] reads once and takes every whole request ([`protocol`]); some it answers itself, multi-key ones it cuts
//!    into fragments.
//! 2. [`pool`] finds the server of a key: hash tag and [`hash`], then [`ring`].
//! 3. [`backend`] appends the request to the out buffer of a connection and to its in-flight queue, in one step.
//! 4. The end of the pass ([`io`]) writes every out buffer that has something, once. Nothing is written before.
//! 5. A reply belongs to the oldest request in flight. It goes to its slot in the session; what is at the head of the
//!    slots goes to the session's out buffer.
//! 6. The same end of the same pass, towards the client.
//!
//! One reload: [`reload::Watch`] says when to look, [`reload::Reloader`] has the file read and validated, [`reload::Plan`] says what
//! changes. [`pool::Topology::next`] makes the next topology, in which what stays the same is the very same
//! [`pool::SharedPool`]; [`listener::Listeners::prepare`] binds what is new. Up to here anything may fail, and nothing has
//! changed. Then the topology is published: each [`worker::Worker`] takes it up pool by pool, one a pass, the monitor's probes
//! follow it, and [`listener::Listeners::apply`] opens and closes. Sessions go over one by one, when nothing of theirs is
//! unanswered.
//!
//! What cannot share a connection has one to itself for a while: WATCH, a request that blocks, subscriptions. [`pool`]
//! leases a [`backend::Dedicated`] to the session and takes it back; a session never waits for replies on a shared and on a
//! dedicated connection at the same time, so that none of its requests overtakes another.
//!
//! What is seen: each worker counts in cells of its own ([`telemetry::PoolCells`], [`telemetry::ServerCells`]), one set a pool
//! and one a server; nobody else writes them. Whoever asks ([`admin`]) walks the topology and sums. Times are differences of
//! the clock's readings at the begin of passes. Slow requests and hot keys are noticed where a reply meets its request, in
//! [`backend`].
//!
//! # Layers
//!
//! A module imports from lower layers only, within a row from its left; `tests/layers.rs` sees to it.
//!
//! | layer | modules | |
//! |---|---|---|
//! | 0 | [`hash`] [`telemetry`] [`protocol`] | vocabulary: the standard library and bytes |
//! | 1 | [`ring`] [`health`] [`io`] | mechanisms: no configuration; `io` alone knows sockets |
//! | 2 | [`config`] | a file becomes settings |
//! | 3 | [`discovery`] [`backend`] [`local`] | towards servers: their addresses, connections; servers of our own |
//! | 4 | [`pool`] | key to connection |
//! | 5 | [`session`] [`worker`] [`listener`] | towards clients |
//! | 6 | [`admin`] [`monitor`] [`reload`] [`upgrade`] [`proxy`] [`cli`] | control |
//!
//! # Words
//!
//! One word a thing, in code, configuration, logs and documents.
//!
//! - A *listener* accepts. A *session* is one client connection. A *worker* is one data thread.
//! - *Request* and *response* are one command and its reply; a *fragment* is one server's piece of a multi-key request; a
//!   *slot* is the place of one reply in its session.
//! - A *dedicated* connection is leased to one session; the *lot* of a server keeps those that are idle. What a connection was set up
//!   as, its protocol version and database, is its *variant*.
//! - A *pool* is a named set of servers behind one distribution. A *server* is a configured entry; a *connection* is one
//!   link to it; *in-flight* is its queue of unanswered requests, oldest first.
//! - The *ring* maps keys to servers. *Distribution* is its kind: ketama, modula or random. The *continuum* is the sorted
//!   points of ketama. The *hash tag* is the part of a key that is hashed.
//! - A *pass* is one trip around a worker's loop. *Dirty* is what has bytes to write at its end.
//! - *Drain*: finish what is in flight, then close.
//! - The *topology* is all pools with their servers at one time, immutable. A *reload* puts another one in its place; the
//!   *generation* is its number, from 1 at the start. The *successor* of a pool or a server, or of what is known of its health, is
//!   what goes on in its place after a reload; the successor of a process is the one that takes its place at an *upgrade*, and
//!   the *predecessor* the one before. A session *departs* to a successor, between two requests.
//! - A request's *class* is read, write, other or proxy (answered here); its *outcome* is ok, miss, error (the server's), failed
//!   (no server's answer) or rejected. *Trouble* is why.
//! - *Ejection* takes a failing server off the ring; *failure limit* and *retry timeout* say when, and for how long. A *probe*
//!   asks a server how it is. A *returning* server gets a growing share of its keys. A *stand-in* is the pool that takes the
//!   keys of ejected servers.
//!
//! # What to read first
//!
//! [`io`] (the pass, in one page), then [`backend`] with its in-flight queue, then [`session`]: that is the data path.
//! `protocol::redis::commands` is the table that decides what becomes of a Redis command. `main.rs` and [`proxy`] show how
//! the parts are put together. `tests/faults.rs` shows what must hold when servers fail.

pub mod admin;
pub mod backend;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod hash;
pub mod health;
pub mod io;
pub mod listener;
pub mod local;
pub mod monitor;
pub mod pool;
pub mod protocol;
pub mod proxy;
pub mod reload;
pub mod ring;
pub mod session;
pub mod telemetry;
pub mod upgrade;
pub mod worker;
