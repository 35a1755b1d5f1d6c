//! What clients see while servers fail: one fleet, both protocols, a fault at one server of three, its repair.
//!
//! ```text
//!   fleet sails      fault at s0           repair        all answered        lands
//!      │───── before ────│─────── during ──────│──── after ────│──── calm ─────│
//! ```
//! Each reply is checked against the key that it was asked for. What must hold in every scenario: no reply is another's, no
//! value older than an acknowledged one, no request without an answer, no increment that nobody sent; the keys of s1 and s2
//! get no error and are as quick as before; errors name the pool and the server; the proxy's memory, descriptors and
//! threads are what they were. What a scenario adds stands in its test.
//!
//! `make chaos` runs the same for longer (`OUTRIGGER_CHAOS=long`) and prints a line for each.

mod support;

#[path = "chaos/ejection.rs"]
mod ejection;
#[path = "chaos/machine.rs"]
mod machine;
#[path = "chaos/network.rs"]
mod network;
#[path = "chaos/policies.rs"]
mod policies;
#[path = "chaos/processes.rs"]
mod processes;
#[path = "chaos/replies.rs"]
mod replies;
#[path = "chaos/run.rs"]
mod run;
#[path = "chaos/scene.rs"]
mod scene;
#[path = "chaos/wire.rs"]
mod wire;
