//! The bench has a main of its own, so its unit tests are run from here.
#![allow(dead_code, reason = "the tests use a part of each module")]

mod args;
mod contender;
mod histogram;
mod load;
mod process;
mod stats;
mod sys;
mod workload;
