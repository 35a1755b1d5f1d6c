//! `GET /metrics`: the numbers of the proxy for Prometheus, in its text format.
//!
//! ```text
//!   Sources ──look──► Scene ──┐
//!                             ├──each family──► samples ──► text
//!   SECTIONS: the families ───┘
//! ```
//! The table of families is the only list of them: the text is written from it, `docs/metrics.md` too, and what a family
//! says is read by the function that stands beside its name.

mod family;
mod pools;
mod process;
mod scene;
mod servers;

use prometheus::TextEncoder;

use crate::admin::Sources;
use family::Samples;
use scene::Scene;

pub use family::{Family, Kind, Scope, Section};

/// The media type of [`metrics`].
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All families, by the question that they are for.
pub const SECTIONS: [&Section; 7] = [
    &process::IDENTITY,
    &pools::TRAFFIC,
    &pools::FAILURES,
    &servers::STATES,
    &servers::TRAFFIC,
    &servers::CONNECTIONS,
    &process::LIMITS,
];

/// Everything there is to tell now.
pub fn metrics(sources: &Sources) -> String {
    let scene = Scene::look(sources);
    let (encoder, mut text, mut samples) = (TextEncoder::new(), String::new(), Samples::default());
    for family in SECTIONS.iter().flat_map(|section| section.families) {
        // One at a time: of many servers all of them together would be hundreds of megabytes.
        if let Some(family) = samples.of(family, &scene)
            && let Err(error) = encoder.encode_utf8(std::slice::from_ref(family), &mut text)
        {
            // It fails for families without samples or a name only.
            tracing::error!(%error, "cannot write a metric");
        }
    }
    text
}
