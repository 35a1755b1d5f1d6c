//! The binary is replaced while clients are served: nobody may notice.
//!
//! ```text
//!   clients ask ──────────────────────────────────────────────────► all the time
//!   generation 1 ──┐ outrigger upgrade
//!                  └─► generation 2 ──┐          ends with code 0 when its sessions have gone over
//!                                     └─► ...
//! ```
//! Everything here goes against the real program, real servers, real signals and real clients. `make chaos` runs the long
//! forms and prints how long each upgrade took.

mod support;

#[path = "upgrade/changes.rs"]
mod changes;
#[path = "upgrade/failures.rs"]
mod failures;
#[path = "upgrade/health.rs"]
mod health;
#[path = "upgrade/load.rs"]
mod load;
#[path = "upgrade/sessions.rs"]
mod sessions;
#[path = "upgrade/stage.rs"]
mod stage;
#[path = "upgrade/ways.rs"]
mod ways;
