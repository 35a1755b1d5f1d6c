//! The topology changes under full load, and no request notices.
//!
//! ```text
//!   a random configuration ──► the file ──► the proxy goes by it ──► every worker does ──► the next one
//!        persistent clients, pipelined, of both protocols ─────────────────────────────────►
//!        clients that come, ask and leave, at whichever address is right ──────────────────►
//! ```
//! What is checked of every reply: see [`ledger`]. Beyond that no session of a pool that stays is closed, no client is
//! refused, a broken file changes nothing, an upgrade of the program neither, and in the end the process holds what it held
//! at first.
//!
//! Changes come from a seed, which is printed; `OUTRIGGER_SEED` repeats it. `make chaos` runs the long forms
//! (`OUTRIGGER_CHAOS=long`), optimised, as some of them judge times.

mod support;

#[path = "reload/changes.rs"]
mod changes;
#[path = "reload/churn.rs"]
mod churn;
#[path = "reload/crew.rs"]
mod crew;
#[path = "reload/endings.rs"]
mod endings;
#[path = "reload/files.rs"]
mod files;
#[path = "reload/latency.rs"]
mod latency;
#[path = "reload/ledger.rs"]
mod ledger;
#[path = "reload/model.rs"]
mod model;
#[path = "reload/order.rs"]
mod order;
#[path = "reload/scene.rs"]
mod scene;
#[path = "reload/size.rs"]
mod size;
